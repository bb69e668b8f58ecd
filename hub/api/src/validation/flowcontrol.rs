//! Checks of the kinds of `flowcontrol.apiserver.k8s.io`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{fields, one_of, same};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::resources::flowcontrol;
use crate::status::FieldError;

const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash that hands are dealt by.
const MAX_ENTROPY: i64 = 60;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const SUBJECTS: [(&str, &str); 3] =
    [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
const NOT_A_NAMESPACE: &str = "each member of this list must be '*' or a DNS-1123 label; ";

/// Checks a FlowSchema.
pub fn flow_schema(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let name = object::name(object);
    let precedence = object::int(spec, "matchingPrecedence").unwrap_or(0);
    let at = path.field("matchingPrecedence");
    let mut errors = Vec::new();
    if precedence <= 0 {
        errors.push(FieldError::invalid(at, precedence, "must be a positive value"));
    }
    if precedence > MAX_PRECEDENCE {
        let detail = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.push(FieldError::invalid(at, precedence, detail));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(at, precedence, detail));
    }
    if let Some(method) = object::get(spec, "distinguisherMethod")
        && !matches!(object::text(method, "type"), "ByNamespace" | "ByUser")
    {
        let at = path.field("distinguisherMethod");
        let known = ["ByNamespace", "ByUser"];
        errors.push(FieldError::not_supported(at.field("type"), method.clone(), &known));
    }
    let level = path.field("priorityLevelConfiguration");
    match object::text(spec, "priorityLevelConfiguration.name") {
        "" => {
            let detail = "must reference a priority level";
            errors.push(FieldError::required(level.field("name"), detail));
        }
        it => {
            let wrong = names::dns1123_subdomain(it);
            errors.extend(fields::all_wrong(&level.field("name"), it, wrong));
        }
    }
    let list = path.field("rules");
    for (i, it) in object::list(spec, "rules").iter().enumerate() {
        errors.extend(rule(it, &list.index(i)));
    }
    errors.extend(fixed(object, &flowcontrol::mandatory_schemas(), name));
    errors.extend(status(object));
    errors
}

/// Checks a PriorityLevelConfiguration.
pub fn priority_level(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let name = object::name(object);
    let ty = object::text(spec, "type");
    let mut errors = Vec::new();
    if (name == "exempt") != (ty == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(FieldError::invalid(path.field("type"), ty, detail));
    }
    let (exempt, limited) = (object::get(spec, "exempt"), object::get(spec, "limited"));
    let (at_exempt, at_limited) = (path.field("exempt"), path.field("limited"));
    match ty {
        "Exempt" => {
            if let Some(exempt) = exempt {
                errors.extend(shares(exempt, &at_exempt));
            }
            if limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden(at_limited, detail));
            }
        }
        "Limited" => {
            if exempt.is_some() {
                let detail = "must be nil if the type is Limited";
                errors.push(FieldError::forbidden(at_exempt, detail));
            }
            match limited {
                None => {
                    let detail = "must not be empty when type is Limited";
                    errors.push(FieldError::required(at_limited, detail));
                }
                Some(it) => errors.extend(limits(it, &at_limited)),
            }
        }
        other => errors.push(FieldError::not_supported(
            path.field("type"),
            other,
            &["Exempt", "Limited"],
        )),
    }
    if name == "exempt" {
        // Its shares may be changed, nothing else.
        if ty == "Exempt" && limited.is_some() {
            let detail = "spec of 'exempt' except the exempt field must equal the fixed value";
            errors.push(FieldError::invalid(path, spec.clone(), detail));
        }
    } else {
        errors.extend(fixed(object, &flowcontrol::mandatory_levels(), name));
    }
    errors.extend(status(object));
    errors
}

/// Checks the conditions of either kind.
pub fn status(object: &Value) -> Vec<FieldError> {
    let status = Path::Root.field("status");
    let list = status.field("conditions");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, condition) in object::list(object, "status.conditions").iter().enumerate() {
        let at = list.index(i);
        let ty = object::text(condition, "type");
        if !seen.insert(ty) {
            errors.push(FieldError::duplicate(at.field("type"), ty));
        }
        if ty.is_empty() {
            errors.push(FieldError::required(at.field("type"), "must not be empty"));
        }
    }
    errors
}

/// The objects that always exist are always the same.
fn fixed(object: &Value, mandatory: &[Value], name: &str) -> Option<FieldError> {
    let known = mandatory.iter().find(|it| object::name(it) == name)?;
    let mut spec = known["spec"].clone();
    crate::defaults::flowcontrol::spec(&mut spec);
    if same(&object["spec"], &spec) {
        return None;
    }
    let detail = format!("spec of '{name}' must equal the fixed value");
    Some(FieldError::invalid("spec", object["spec"].clone(), detail))
}

fn rule(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let subjects = object::list(rule, "subjects");
    let list = at.field("subjects");
    if subjects.is_empty() {
        errors.push(FieldError::required(list, "subjects must contain at least one value"));
    }
    for (i, it) in subjects.iter().enumerate() {
        errors.extend(subject(it, &list.index(i)));
    }
    let resources = object::list(rule, "resourceRules");
    let urls = object::list(rule, "nonResourceRules");
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(at, detail));
    }
    let list = at.field("resourceRules");
    for (i, it) in resources.iter().enumerate() {
        errors.extend(resource_rule(it, &list.index(i)));
    }
    let list = at.field("nonResourceRules");
    for (i, it) in urls.iter().enumerate() {
        errors.extend(url_rule(it, &list.index(i)));
    }
    errors
}

fn subject(subject: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let kind = object::text(subject, "kind");
    if !SUBJECTS.iter().any(|(known, _)| *known == kind) {
        let known = ["Group", "ServiceAccount", "User"];
        return vec![FieldError::not_supported(at.field("kind"), kind, &known)];
    }
    let mut errors = Vec::new();
    for (known, field) in SUBJECTS {
        let path = at.field(field);
        match (known == kind, object::get(subject, field)) {
            (true, None) => errors.push(FieldError::required(
                path,
                format!("{field} is required when subject kind is '{known}'"),
            )),
            (true, Some(it)) => errors.extend(subject_name(it, known, &path)),
            (false, Some(_)) => errors.push(FieldError::forbidden(
                path,
                format!("{field} is forbidden when subject kind is not '{known}'"),
            )),
            (false, None) => {}
        }
    }
    errors
}

fn subject_name(subject: &Value, kind: &str, at: &Path<'_>) -> Vec<FieldError> {
    let name = object::text(subject, "name");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(at.field("name"), ""));
    } else if kind == "ServiceAccount" && name != "*" {
        errors.extend(fields::all_wrong(&at.field("name"), name, names::dns1123_subdomain(name)));
    }
    if kind == "ServiceAccount" {
        let path = at.field("namespace");
        match object::text(subject, "namespace") {
            "" => {
                let detail = "must specify namespace for service account";
                errors.push(FieldError::required(path, detail));
            }
            it => errors.extend(fields::all_wrong(&path, it, names::dns1123_label(it))),
        }
    }
    errors
}

fn has_any(list: &[Value]) -> bool {
    list.iter().any(|it| it == "*")
}

/// Checks a list that must have items, `*` only alone.
fn items(
    rule: &Value,
    field: &str,
    at: &Path<'_>,
    missing: &str,
    other: &str,
) -> Option<FieldError> {
    let list = object::list(rule, field);
    if list.is_empty() {
        return Some(FieldError::required(at.field(field), missing));
    }
    let detail = format!("if '*' is present, must not specify other {other}");
    (list.len() > 1 && has_any(list))
        .then(|| FieldError::invalid(at.field(field), list.to_vec(), detail))
}

fn verbs(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let list = object::list(rule, "verbs");
    let missing = "verbs must contain at least one value";
    let wrong = items(rule, "verbs", at, missing, "verbs");
    let known = |it: &Value| it.as_str().is_some_and(|it| VERBS.contains(&it));
    if wrong.is_none() && !has_any(list) && !list.iter().all(known) {
        return vec![FieldError::not_supported(at.field("verbs"), list.to_vec(), &VERBS)];
    }
    wrong.into_iter().collect()
}

fn resource_rule(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = verbs(rule, at);
    let missing = "resource rules must supply at least one api group";
    errors.extend(items(rule, "apiGroups", at, missing, "api groups"));
    let missing = "resource rules must supply at least one resource";
    errors.extend(items(rule, "resources", at, missing, "resources"));
    let namespaces = object::list(rule, "namespaces");
    let list = at.field("namespaces");
    if namespaces.is_empty() {
        if !object::flag(rule, "clusterScope") {
            let detail =
                "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(FieldError::required(list, detail));
        }
    } else if has_any(namespaces) {
        errors.extend(items(rule, "namespaces", at, "", "namespaces"));
    } else {
        for (i, it) in namespaces.iter().filter_map(Value::as_str).enumerate() {
            let wrong = names::dns1123_label(it).into_iter();
            let wrong = wrong.map(|it| format!("{NOT_A_NAMESPACE}{it}")).collect();
            errors.extend(fields::all_wrong(&list.index(i), it, wrong));
        }
    }
    errors
}

fn url_rule(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = verbs(rule, at);
    let missing = "nonResourceURLs must contain at least one value";
    errors.extend(items(rule, "nonResourceURLs", at, missing, "non-resource URLs"));
    let urls = object::list(rule, "nonResourceURLs");
    let list = at.field("nonResourceURLs");
    if !has_any(urls) {
        for (i, it) in urls.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(url(it).map(|why| FieldError::invalid(list.index(i), it, why)));
        }
    }
    errors
}

/// What is wrong with the path of a rule.
fn url(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        it if !it.starts_with('/') => Some("must start with slash"),
        it if it.contains(' ') => Some("must not contain white-space"),
        it if it.contains("//") => Some("must not contain double slash"),
        it if stars > 1 || stars == 1 && !it.ends_with("/*") => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn shares(level: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(it) = object::int(level, "nominalConcurrencyShares").filter(|it| *it < 0) {
        let detail = "must be a non-negative integer";
        errors.push(FieldError::invalid(at.field("nominalConcurrencyShares"), it, detail));
    }
    if let Some(it) = object::int(level, "lendablePercent").filter(|it| !(0..=100).contains(it)) {
        let detail = "must be between 0 and 100, inclusive";
        errors.push(FieldError::invalid(at.field("lendablePercent"), it, detail));
    }
    errors
}

fn limits(limited: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = shares(limited, at);
    let response = &limited["limitResponse"];
    let path = at.field("limitResponse");
    let queuing = object::get(response, "queuing");
    let at_queuing = path.field("queuing");
    match (object::text(response, "type"), queuing) {
        ("Reject", Some(_)) => errors.push(FieldError::forbidden(
            at_queuing,
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Queue", None) => errors.push(FieldError::required(
            at_queuing,
            "must not be empty if limited.limitResponse.type is Limited",
        )),
        ("Queue", Some(it)) => errors.extend(queues(it, &at_queuing)),
        ("Reject", None) => {}
        (_, _) => errors.extend(one_of(response, "type", &path, &["Queue", "Reject"])),
    }
    if let Some(it) = object::int(limited, "borrowingLimitPercent").filter(|it| *it < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(at.field("borrowingLimitPercent"), it, detail));
    }
    errors
}

fn queues(queuing: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let number = |field: &str| object::int(queuing, field).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    let positive = |field: &str, value: i64| {
        (value <= 0).then(|| FieldError::invalid(at.field(field), value, "must be positive"))
    };
    let mut errors = Vec::new();
    errors.extend(positive("queueLengthLimit", number("queueLengthLimit")));
    errors.extend(positive("queues", queues));
    if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.push(FieldError::invalid(at.field("queues"), queues, detail));
    }
    let path = at.field("handSize");
    if hand <= 0 {
        errors.extend(positive("handSize", hand));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::invalid(path, hand, detail));
    } else if needs_entropy(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_ENTROPY}"
        );
        errors.push(FieldError::invalid(path, hand, detail));
    }
    errors
}

/// Whether dealing a hand of queues takes more ways than the hash can tell apart.
fn needs_entropy(queues: i64, hand: i64) -> bool {
    let mut ways: i64 = 1;
    (0..hand).any(|dealt| match ways.checked_mul(queues - dealt) {
        Some(it) if it <= 1 << MAX_ENTROPY => {
            ways = it;
            false
        }
        _ => true,
    })
}
