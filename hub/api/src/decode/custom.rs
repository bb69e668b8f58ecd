//! Decoding custom resources: any JSON, then what their definition says.

use serde_json::Value;

use super::{Decoded, FieldValidation, Target, TypeMeta, cannot_be_handled, conform_kind};
use crate::custom::{Custom, fill, prune};
use crate::status::Status;

/// Unknown fields that are told.
const MAX_STRICT: usize = 100;

const METADATA: Target<'static> = Target {
    group: "",
    version: "v1",
    kind: "ObjectMeta",
    schema: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
};

/// What is read becomes an object of its kind: metadata as everywhere, all else by the schema.
pub(super) fn shape(
    target: Target<'_>,
    custom: &Custom,
    value: Value,
    twice: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    if !value.is_object() {
        let why = "json: cannot unmarshal into Go value: the object is missing";
        return Err(cannot_be_handled(target, why));
    }
    let mut object = value;
    TypeMeta::of(&object).check(target)?;
    let mut strict = twice;
    let metadata = object.get("metadata").filter(|it| !it.is_null()).cloned();
    if let Some(metadata) = metadata {
        let wrong = |status: Status| {
            let why = status.message.split(" as a ObjectMeta: ").last().unwrap_or_default();
            cannot_be_handled(target, why)
        };
        // Nothing of ours: labels may be called `kind`.
        let decoded = conform_kind(METADATA, &metadata, FieldValidation::Warn).map_err(wrong)?;
        let mut metadata = decoded.object;
        if let Some(map) = metadata.as_object_mut() {
            map.remove("apiVersion");
            map.remove("kind");
        }
        let told = |it: String| it.replacen("field \"", "field \"metadata.", 1);
        strict.extend(decoded.warnings.into_iter().map(told));
        object["metadata"] = metadata;
    }
    let unknown = prune(&mut object, &custom.node, MAX_STRICT);
    strict.extend(unknown.into_iter().map(|it| format!("unknown field \"{it}\"")));
    if validation == FieldValidation::Strict && !strict.is_empty() {
        let all = strict.join(", ");
        return Err(cannot_be_handled(target, &format!("strict decoding error: {all}")));
    }
    fill(&mut object, &custom.node);
    object["apiVersion"] = Value::from(target.api_version());
    object["kind"] = Value::from(target.kind);
    let warnings = match validation {
        FieldValidation::Warn => strict,
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
    };
    Ok(Decoded { object, warnings })
}
