//! Validation, with Kubernetes' messages. Every function returns all that is wrong.

use serde_json::Value;

use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

pub mod addresses;
pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod config;
pub mod coordination;
pub mod device;
pub mod discovery;
pub mod endpoints;
pub mod event;
mod fields;
pub mod flowcontrol;
pub mod ingress;
pub mod limits;
pub mod meta;
pub mod network_policy;
pub mod node;
pub mod nodes;
pub mod pod;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod selector;
pub mod service;
pub mod storage;
pub mod storagemigration;
pub mod trust;
mod volume_source;
pub mod volumes;

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const IMMUTABLE: &str = "field is immutable";

/// Checks keys and values of a map of labels.
fn labels(labels: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(path, key.as_str(), wrong));
        }
        for wrong in names::label_value(value) {
            errors.push(FieldError::invalid(path, value, wrong));
        }
    }
    errors
}

/// Checks labels and annotations of a template.
fn meta_of_template(template: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = labels(object::labels(template), &path.field("labels"));
    for (key, _) in object::entries(template, "metadata.annotations") {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path.field("annotations"), key.as_str(), wrong));
        }
    }
    errors
}

/// Checks that a field did not change.
fn immutable(new: Option<&Value>, old: Option<&Value>, path: &Path<'_>) -> Option<FieldError> {
    if same(new.unwrap_or(&Value::Null), old.unwrap_or(&Value::Null)) {
        return None;
    }
    let shown = new.cloned().unwrap_or(Value::Null);
    Some(FieldError::invalid(path, shown, IMMUTABLE))
}

/// Checks that an integer is not negative, if it is there.
fn not_negative(object: &Value, field: &str, path: &Path<'_>) -> Option<FieldError> {
    let value = object::int(object, field).filter(|it| *it < 0)?;
    Some(FieldError::invalid(path.field(field), value, NOT_NEGATIVE))
}

/// Checks that a text is one of those known.
fn one_of(object: &Value, field: &str, path: &Path<'_>, known: &[&str]) -> Option<FieldError> {
    match object::text(object, field) {
        "" => Some(FieldError::required(path.field(field), "")),
        text if known.contains(&text) => None,
        text => Some(FieldError::not_supported(path.field(field), text, known)),
    }
}

/// Checks that an optional text is one of those known.
fn optional_one_of(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    known: &[&str],
) -> Option<FieldError> {
    match object::text(object, field) {
        "" => None,
        _ => one_of(object, field, path, known),
    }
}

/// Checks that a text is there.
fn required(object: &Value, field: &str, path: &Path<'_>) -> Option<FieldError> {
    object::text(object, field).is_empty().then(|| FieldError::required(path.field(field), ""))
}

/// Checks an IP address.
fn ip(text: &str, path: impl Into<String>) -> Option<FieldError> {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => None,
        Err(_) => Some(FieldError::invalid(
            path,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        )),
    }
}

/// The quantity that a value is, if it is one.
fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Checks that a value is a number or a percentage, and not negative.
fn count_or_percent(value: &Value, path: &Path<'_>) -> Option<FieldError> {
    if let Some(text) = value.as_str() {
        let digits = text.strip_suffix('%').unwrap_or_default();
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return (!valid).then(|| FieldError::invalid(path, text, PERCENT));
    }
    let count = value.as_i64().filter(|it| *it < 0)?;
    Some(FieldError::invalid(path, count, NOT_NEGATIVE))
}

/// The number of a count or of a percentage.
fn amount(value: &Value) -> Option<i64> {
    match value.as_str() {
        Some(text) => text.strip_suffix('%')?.parse().ok(),
        None => value.as_i64(),
    }
}

/// Checks that a percentage is none of more than everything.
fn at_most_all(value: &Value, path: &Path<'_>) -> Option<FieldError> {
    let too_much = value.is_string() && amount(value).is_some_and(|it| it > 100);
    too_much.then(|| FieldError::invalid(path, value.clone(), "must not be greater than 100%"))
}

/// Checks a name such as `example.com/something`.
fn domain_prefixed_path(name: &str, path: &Path<'_>) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let Some((domain, rest)) =
        name.split_once('/').filter(|it| !it.0.is_empty() && !it.1.is_empty())
    else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid(path, name, why)];
    };
    let mut errors: Vec<FieldError> = names::dns1123_subdomain(domain)
        .into_iter()
        .map(|wrong| FieldError::invalid(path, domain, wrong))
        .collect();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&b);
    if !rest.bytes().all(fits) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(path, rest, why));
    }
    errors
}

/// Whether two values mean the same in Go's types: absent, empty and zero are one.
pub fn same(a: &Value, b: &Value) -> bool {
    if a == b || (is_zero(a) && is_zero(b)) {
        return true;
    }
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&Value::Null)))
                && b.iter().all(|(k, v)| a.contains_key(k) || is_zero(v))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => false,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_i64() == Some(0),
        Value::String(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::Object(it) => it.values().all(is_zero),
    }
}

#[cfg(test)]
pub(crate) mod tests;
