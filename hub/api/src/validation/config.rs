//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{immutable, same};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Bytes of content that an object may have.
const MAX_SIZE: usize = 1024 * 1024;
const SEALED: &str = "field is immutable when `immutable` is set";

/// Checks a ConfigMap.
pub fn config_map(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    let data = Path::Root.field("data");
    let binary = Path::Root.field("binaryData");
    for (key, value) in object::entries(object, "data") {
        errors.extend(names::errors(&data.key(key).to_string(), key, names::config_key(key)));
        if object["binaryData"].get(key).is_some() {
            errors.push(FieldError::invalid(
                data.key(key),
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        size += value.as_str().unwrap_or_default().len();
    }
    for (key, value) in object::entries(object, "binaryData") {
        errors.extend(names::errors(&binary.key(key).to_string(), key, names::config_key(key)));
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("", MAX_SIZE));
    }
    errors
}

/// Checks a changed ConfigMap: an immutable one keeps its content.
pub fn config_map_update(new: &Value, old: &Value) -> Vec<FieldError> {
    sealed(new, old, &["data", "binaryData"])
}

/// Checks a Secret.
pub fn secret(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    let data = Path::Root.field("data");
    for (key, value) in object::entries(object, "data") {
        errors.extend(names::errors(&data.key(key).to_string(), key, names::config_key(key)));
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(data, MAX_SIZE));
    }
    let required = |key: &'static str| {
        object["data"].get(key).is_none().then(|| FieldError::required(data.key(key), ""))
    };
    match object::text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if object::annotation(object, key).unwrap_or_default().is_empty() {
                let meta = Path::Root.field("metadata");
                let annotations = meta.field("annotations");
                errors.push(FieldError::required(annotations.key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => errors.extend(json_content(object, ".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            errors.extend(json_content(object, ".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" => {
            let both = [required("username"), required("password")];
            if both.iter().all(Option::is_some) {
                errors.extend(both.into_iter().flatten());
            }
        }
        "kubernetes.io/ssh-auth" => errors.extend(required("ssh-privatekey")),
        "kubernetes.io/tls" => {
            errors.extend(required("tls.crt"));
            errors.extend(required("tls.key"));
        }
        _ => {}
    }
    errors
}

/// Checks a changed Secret: the type stays, an immutable one keeps its content.
pub fn secret_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(immutable(new.get("type"), old.get("type"), &Path::Root.field("type")));
    errors.extend(sealed(new, old, &["data"]));
    errors
}

fn sealed(new: &Value, old: &Value, fields: &[&'static str]) -> Vec<FieldError> {
    if !object::flag(old, "immutable") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !object::flag(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", SEALED));
    }
    for field in fields {
        let part = |it: &Value| it.get(*field).cloned().unwrap_or(Value::Null);
        let (new, old) = (part(new), part(old));
        // Keys count even if their values are empty.
        let keys = |it: &Value| it.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>());
        if !same(&new, &old) || keys(&new).unwrap_or_default() != keys(&old).unwrap_or_default() {
            errors.push(FieldError::forbidden(*field, SEALED));
        }
    }
    errors
}

fn json_content(object: &Value, key: &str) -> Option<FieldError> {
    let data = Path::Root.field("data");
    let Some(text) = object["data"].get(key).and_then(Value::as_str) else {
        return Some(FieldError::required(data.key(key), ""));
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_)) => None,
        Ok(_) => Some(FieldError::invalid(
            data.key(key),
            json!("<secret contents redacted>"),
            "json: cannot unmarshal into Go value of type map[string]interface {}",
        )),
        Err(err) => Some(FieldError::invalid(
            data.key(key),
            json!("<secret contents redacted>"),
            if err.is_eof() { "unexpected end of JSON input".to_owned() } else { err.to_string() },
        )),
    }
}

fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}
