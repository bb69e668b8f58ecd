//! `AdmissionReview`: the question, and what an answer says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_api::{Resource, Status, object};
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};

const GROUP: &str = "admission.k8s.io";

/// The `request` of a review, without the objects: also what expressions see as `request`.
pub(super) fn request(
    attributes: &Attributes<'_>,
    row: &Resource,
    object: Option<&Value>,
    uid: &str,
) -> Value {
    let kind_of = |row: &Resource| match kind_below(attributes, row, object) {
        Some(kind) => kind,
        None => json!({"group": row.group, "version": row.version, "kind": row.kind}),
    };
    let resource_of = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
    let user = attributes.user();
    let mut info = Map::new();
    info.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    let mut out = json!({
        "uid": uid,
        "kind": kind_of(row),
        "resource": resource_of(row),
        "requestKind": kind_of(attributes.requested),
        "requestResource": resource_of(attributes.requested),
        "operation": attributes.operation.as_str(),
        "userInfo": info,
        "dryRun": attributes.dry_run,
        "options": attributes.options_value(),
    });
    for (field, value) in [
        ("name", attributes.name),
        ("namespace", namespace(attributes)),
        ("subResource", attributes.subresource.unwrap_or_default()),
        ("requestSubResource", attributes.subresource.unwrap_or_default()),
    ] {
        if !value.is_empty() {
            out[field] = json!(value);
        }
    }
    out
}

/// A namespace is in itself.
fn namespace<'a>(attributes: &Attributes<'a>) -> &'a str {
    let resource = attributes.resource;
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return attributes.name;
    }
    attributes.namespace.unwrap_or_default()
}

/// What is exchanged below an object is often of another kind.
fn kind_below(
    attributes: &Attributes<'_>,
    row: &Resource,
    object: Option<&Value>,
) -> Option<Value> {
    let subresource = attributes.subresource?;
    if let Some(object) = object.filter(|_| attributes.operation == Operation::Connect) {
        return Some(json!({"group": "", "version": "v1", "kind": object::text(object, "kind")}));
    }
    let below = row.subresource(subresource)?;
    let (group, version, kind) = row.exchanged(below);
    Some(json!({"group": group, "version": version, "kind": kind}))
}

/// The whole review that is sent.
pub(super) fn review(
    mut request: Value,
    object: Option<&Value>,
    old: Option<&Value>,
    version: &str,
) -> Value {
    request["object"] = object.cloned().unwrap_or_default();
    request["oldObject"] = old.cloned().unwrap_or_default();
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("{GROUP}/{version}"),
        "request": request,
    })
}

/// What a webhook answered.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) allowed: bool,
    pub(super) status: Value,
    /// A JSON patch.
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it, in Kubernetes' words.
pub(super) fn read(bytes: &[u8], uid: &str, version: &str) -> Result<Response, String> {
    let review: Value = serde_json::from_slice(bytes)
        .map_err(|err| format!("couldn't get version/kind; json parse error: {err}"))?;
    let (api, kind) = (object::text(&review, "apiVersion"), object::text(&review, "kind"));
    let wanted = format!("{GROUP}/{version}");
    if api != wanted || kind != "AdmissionReview" {
        // The old version did not ask webhooks to name it.
        if version == "v1" || !(api.is_empty() && kind.is_empty()) {
            return Err(format!(
                "expected webhook response of {wanted}, Kind=AdmissionReview, got {}, Kind={kind}",
                if api.is_empty() { "/" } else { api }
            ));
        }
    }
    let Some(response) = object::get(&review, "response").filter(|it| it.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let got = object::text(response, "uid");
    if version == "v1" && got != uid {
        return Err(format!("expected response.uid=\"{uid}\", got \"{got}\""));
    }
    let Some(allowed) = response.get("allowed").and_then(Value::as_bool) else {
        return Err("webhook response has no allowed".to_owned());
    };
    let texts = object::list(response, "warnings").iter();
    Ok(Response {
        allowed,
        status: response.get("status").cloned().unwrap_or_default(),
        patch: patch(response, version)?,
        warnings: texts.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
        annotations: object::entries(response, "auditAnnotations")
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn patch(response: &Value, version: &str) -> Result<Option<Value>, String> {
    let (encoded, kind) = (object::text(response, "patch"), object::text(response, "patchType"));
    match (encoded.is_empty(), kind) {
        (true, "") => return Ok(None),
        (true, _) if version == "v1" => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (true, _) => return Ok(None),
        (false, "") if version == "v1" => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (false, "" | "JSONPatch") => {}
        (false, kind) => {
            return Err(format!("webhook returned invalid response.patchType of \"{kind}\""));
        }
    }
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|err| format!("webhook returned a patch that is not base64: {err}"))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|err| format!("webhook returned a patch that is not JSON: {err}"))
}

/// The refusal that a webhook spoke.
pub(super) fn denied(webhook: &str, status: &Value) -> Status {
    let by = format!("admission webhook \"{webhook}\" denied the request");
    let (message, reason) = (object::text(status, "message"), object::text(status, "reason"));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = object::int(status, "code").and_then(|it| u16::try_from(it).ok()).unwrap_or(0);
    let code = if (400..600).contains(&code) { code } else { 400 };
    Status { code, reason: reason.to_owned().into(), message, details: None, continue_token: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_strictly() {
        let answer = |response: Value| {
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": response})
        };
        for (sent, want) in [
            (answer(json!({"uid": "u", "allowed": true})), ""),
            (
                answer(json!({"uid": "x", "allowed": true})),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (answer(Value::Null), "webhook response was absent"),
            (
                json!({}),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
            ),
            (
                answer(json!({"uid": "u", "allowed": true, "patch": "W10="})),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                answer(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "X"})),
                "webhook returned invalid response.patchType of \"X\"",
            ),
        ] {
            let got = read(sent.to_string().as_bytes(), "u", "v1").map(drop).err();
            assert_eq!(got.unwrap_or_default(), want, "{sent}");
        }
    }

    #[test]
    fn refusals_say_who_refused() {
        for (status, code, message) in [
            (json!({}), 400, "admission webhook \"w\" denied the request without explanation"),
            (
                json!({"reason": "Forbidden"}),
                400,
                "admission webhook \"w\" denied the request: Forbidden",
            ),
            (
                json!({"message": "no", "code": 403}),
                403,
                "admission webhook \"w\" denied the request: no",
            ),
            (
                json!({"message": "no", "code": 200}),
                400,
                "admission webhook \"w\" denied the request: no",
            ),
        ] {
            let got = denied("w", &status);
            assert_eq!((got.code, got.message.as_str()), (code, message));
        }
    }
}
