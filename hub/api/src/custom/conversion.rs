//! Conversion of custom objects by a webhook: what it is asked, and what of its answer is taken.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-conversion>
//!
//! Nothing here calls anybody. Messages are the real server's.

use serde_json::{Map, Value, json};

use super::{Definition, prune};
use crate::object;
use crate::validation::meta;

/// Versions of `ConversionReview` that are spoken.
pub const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const GROUP: &str = "apiextensions.k8s.io";

impl Definition {
    /// Where the webhook is that converts objects (`clientConfig`); none if versions differ in
    /// their name alone.
    pub fn webhook(&self) -> Option<&Value> {
        if object::text(&self.conversion, "strategy") != "Webhook" {
            return None;
        }
        object::get(&self.conversion, "webhook.clientConfig")
    }

    /// What the webhook is asked, and the version of the review.
    ///
    /// # Errors
    /// The definition names no version of reviews that is known.
    pub fn review(
        &self,
        uid: &str,
        api_version: &str,
        objects: &[Value],
    ) -> Result<(Value, &'static str), String> {
        let wanted = object::list(&self.conversion, "webhook.conversionReviewVersions");
        let version = wanted
            .iter()
            .find_map(|it| REVIEW_VERSIONS.into_iter().find(|known| it == known))
            .ok_or("no recognized conversion review versions")?;
        let request = json!({"uid": uid, "desiredAPIVersion": api_version, "objects": objects});
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{version}"),
            "request": request,
        });
        Ok((review, version))
    }

    /// The objects of an answer, each checked against what was sent. What may not change is as it
    /// was, and what the schema of the version does not know is gone.
    ///
    /// # Errors
    /// The whole message for the client.
    pub fn converted(
        &self,
        answer: &[u8],
        uid: &str,
        review_version: &str,
        api_version: &str,
        originals: &[Value],
    ) -> Result<Vec<Value>, String> {
        let what = originals.first().map(described).unwrap_or_default();
        let given = objects_of(answer, uid, review_version)
            .map_err(|why| format!("conversion webhook for {what} failed: {why}"))?;
        if given.len() != originals.len() {
            return Err(format!(
                "conversion webhook for {what} returned {} objects, expected {}",
                given.len(),
                originals.len()
            ));
        }
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let node = self.node(version);
        let checked = originals.iter().zip(given).enumerate().map(|(index, (original, given))| {
            let mut object = check(original, given, api_version).map_err(|why| {
                format!("conversion webhook for {what} returned {}", why.at(index, originals.len()))
            })?;
            if let Some(node) = node {
                prune(&mut object, node, 0);
            }
            Ok(object)
        });
        checked.collect()
    }
}

/// `example.com/v1, Kind=Foo`.
pub fn described(object: &Value) -> String {
    format!("{}, Kind={}", object::text(object, "apiVersion"), object::text(object, "kind"))
}

fn objects_of(answer: &[u8], uid: &str, version: &str) -> Result<Vec<Value>, String> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(|err| err.to_string())?;
    // Those who speak v1beta1 were never held to this.
    let strict = version == "v1";
    let expected = format!("{GROUP}/{version}, Kind=ConversionReview");
    if strict && described(&answer) != expected {
        let got = described(&answer);
        return Err(format!("expected webhook response of {expected}, got {got}"));
    }
    let Some(response) = answer.get_mut("response").filter(|it| it.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let got = object::text(response, "uid");
    if strict && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    match (object::text(response, "result.status"), object::text(response, "result.message")) {
        ("Success", _) => {}
        (status, "") => {
            return Err(format!("response.result.status was '{status}', not 'Success'"));
        }
        (_, message) => return Err(message.to_owned()),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        Value::Null => Ok(Vec::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err("response.convertedObjects is no list".to_owned())
        }
    }
}

/// What is wrong with one object of an answer.
enum Wrong {
    /// It is of another type.
    Type(String),
    /// Of the object.
    Object(String),
    /// Of the metadata that may change.
    Metadata(String),
}

impl Wrong {
    fn at(&self, index: usize, n_objects: usize) -> String {
        match (self, n_objects) {
            (Self::Type(why), 1) => format!("invalid object at index 0: {why}"),
            (Self::Object(why), 1) => format!("invalid object: {why}"),
            (Self::Type(why) | Self::Object(why), _) => {
                format!("invalid converted object at index {index}: {why}")
            }
            (Self::Metadata(why), 1) => format!("invalid metadata: {why}"),
            (Self::Metadata(why), _) => {
                format!("invalid metadata in object at index {index}: {why}")
            }
        }
    }
}

fn check(original: &Value, mut given: Value, api_version: &str) -> Result<Value, Wrong> {
    let wrong = |why: String| Err(Wrong::Object(why));
    if !given.is_object() {
        return wrong("it is no object".to_owned());
    }
    let got = object::text(&given, "apiVersion");
    if got != api_version {
        return Err(Wrong::Type(format!(
            "invalid groupVersion (expected {api_version}, received {got})"
        )));
    }
    let (kind, got) = (object::text(original, "kind"), object::text(&given, "kind"));
    if kind != got {
        return Err(Wrong::Type(format!("invalid kind (expected {kind}, received {got})")));
    }
    for (path, word) in
        [("metadata.name", "name"), ("metadata.namespace", "namespace"), ("metadata.uid", "UID")]
    {
        let (before, after) = (object::text(original, path), object::text(&given, path));
        if before != after {
            return wrong(format!("must have the same {word}: {before} != {after}"));
        }
    }
    let meta = restored(original, given.get("metadata")).map_err(Wrong::Metadata)?;
    given["metadata"] = Value::Object(meta);
    Ok(given)
}

/// The metadata as it was, with the labels and annotations that the webhook gave.
fn restored(original: &Value, given: Option<&Value>) -> Result<Map<String, Value>, String> {
    let given = given.ok_or("missing metadata in converted object")?;
    let given = given.as_object().ok_or_else(|| {
        format!("invalid metadata of type {} in converted object", go_type(given))
    })?;
    let mut meta = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match given.get(field) {
            None | Some(Value::Null) => {
                meta.remove(field);
            }
            Some(Value::Object(map)) => {
                check_map(field, map, meta.get(field))?;
                meta.insert(field.to_owned(), Value::Object(map.clone()));
            }
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(other)
                ));
            }
        }
    }
    Ok(meta)
}

fn check_map(field: &str, map: &Map<String, Value>, before: Option<&Value>) -> Result<(), String> {
    for (key, value) in map {
        if !value.is_string() {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {} in converted object",
                go_type(value)
            ));
        }
    }
    let before = before.and_then(Value::as_object);
    if before.map_or_else(|| map.is_empty(), |it| it == map) {
        return Ok(());
    }
    let changed = json!({ "metadata": { field: map } });
    let errors: Vec<String> =
        meta::labels_and_annotations(&changed).iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// What Go calls the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(it) if it.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests;
