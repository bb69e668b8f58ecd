//! Webhook configurations.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CONDITION_VARIABLES, conditions, one_of, rule, selectors};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// The versions of reviews that the server speaks.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Checks a webhook configuration.
pub fn webhooks(object: &Value, mutating: bool) -> Vec<FieldError> {
    let path = Path::Root.field("webhooks");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, webhook) in object::list(object, "webhooks").iter().enumerate() {
        let path = path.index(index);
        errors.extend(one(webhook, &path, mutating));
        let name = object::text(webhook, "name");
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(path.field("name"), name));
        }
    }
    errors
}

fn one(webhook: &Value, path: &Path<'_>, mutating: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::text(webhook, "name");
    let name_path = path.field("name");
    if name.is_empty() {
        errors.push(FieldError::required(name_path, ""));
    } else {
        let wrong = names::dns1123_subdomain(name).into_iter();
        errors.extend(wrong.map(|it| FieldError::invalid(name_path, name, it)));
        if name.split('.').count() < 3 {
            let detail = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(name_path, name, detail));
        }
    }
    errors.extend(versions(webhook, path));
    for (index, it) in object::list(webhook, "rules").iter().enumerate() {
        errors.extend(rule(it, &path.field("rules").index(index)));
    }
    errors.extend(one_of(webhook, "failurePolicy", path, &["Fail", "Ignore"]));
    errors.extend(one_of(webhook, "matchPolicy", path, &["Equivalent", "Exact"]));
    if mutating {
        errors.extend(one_of(webhook, "reinvocationPolicy", path, &["IfNeeded", "Never"]));
    }
    match object::text(webhook, "sideEffects") {
        "" => {
            let detail = "must specify one of None, NoneOnDryRun";
            errors.push(FieldError::required(path.field("sideEffects"), detail));
        }
        _ => errors.extend(one_of(webhook, "sideEffects", path, &["None", "NoneOnDryRun"])),
    }
    if let Some(seconds) =
        object::int(webhook, "timeoutSeconds").filter(|it| !(1..=30).contains(it))
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(path.field("timeoutSeconds"), seconds, detail));
    }
    errors.extend(selectors(webhook, path));
    errors.extend(client(&webhook["clientConfig"], &path.field("clientConfig")));
    errors.extend(conditions(webhook, path, CONDITION_VARIABLES));
    errors
}

fn versions(webhook: &Value, path: &Path<'_>) -> Option<FieldError> {
    let path = path.field("admissionReviewVersions");
    let listed = object::list(webhook, "admissionReviewVersions");
    if listed.is_empty() {
        return Some(FieldError::required(path, "must specify one of v1, v1beta1"));
    }
    let known = |it: &Value| it.as_str().is_some_and(|it| VERSIONS.contains(&it));
    if listed.iter().any(known) {
        return None;
    }
    let detail = "must include at least one of v1, v1beta1";
    Some(FieldError::invalid(path, json!(listed), detail))
}

/// Checks how a webhook is called.
pub(crate) fn client(config: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let (url, service) = (object::get(config, "url"), object::get(config, "service"));
    match (url.and_then(Value::as_str), service) {
        (Some(url), None) => checked_url(url, &path.field("url")).into_iter().collect(),
        (None, Some(service)) => checked_service(service, &path.field("service")),
        (Some(_) | None, _) => {
            vec![FieldError::required(path, "exactly one of url or service is required")]
        }
    }
}

fn checked_url(url: &str, path: &Path<'_>) -> Option<FieldError> {
    const FORM: &str = "; desired format: https://host[:port]/path";
    let wrong = |detail: String| Some(FieldError::invalid(path, url, detail));
    let Some(rest) = url.strip_prefix("https://") else {
        return wrong(format!("'https' is the only allowed URL scheme{FORM}"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return wrong(format!("host must be specified{FORM}"));
    }
    if host.contains('@') {
        return wrong("user information is not permitted in the URL".to_owned());
    }
    if url.contains('#') {
        return wrong("fragments are not permitted in the URL".to_owned());
    }
    if url.contains('?') {
        return wrong("query parameters are not permitted in the URL".to_owned());
    }
    None
}

fn checked_service(service: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace"] {
        if object::text(service, field).is_empty() {
            let detail = format!("service {field} is required");
            errors.push(FieldError::required(path.field(field), detail));
        }
    }
    let port = object::int(service, "port").unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(path.field("port"), port, detail));
    }
    let target = object::text(service, "path");
    if !target.is_empty() && !target.starts_with('/') {
        let detail = "must start with a '/'";
        errors.push(FieldError::invalid(path.field("path"), target, detail));
    }
    errors
}
