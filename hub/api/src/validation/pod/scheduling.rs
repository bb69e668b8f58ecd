//! Where a pod may run: tolerations, affinity, topology spread, gates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{optional_one_of, selector};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

pub(super) fn tolerations(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, toleration) in object::list(spec, "tolerations").iter().enumerate() {
        let at = path.index(i);
        let key = object::text(toleration, "key");
        let operator = object::text(toleration, "operator");
        let value = object::text(toleration, "value");
        let effect = object::text(toleration, "effect");
        if !key.is_empty() {
            for wrong in names::qualified_name(key) {
                errors.push(FieldError::invalid(at.field("key"), key, wrong));
            }
        } else if operator != "Exists" {
            errors.push(FieldError::invalid(
                at.field("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if object::get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            errors.push(FieldError::invalid(
                at.field("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "Equal" | "" => {
                if let Some(wrong) = names::label_value(value).into_iter().next() {
                    errors.push(FieldError::invalid(at.field("operator"), value, wrong));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    errors.push(FieldError::invalid(
                        at.field("operator"),
                        toleration.clone(),
                        "value must be empty when `operator` is 'Exists'",
                    ));
                }
            }
            other => errors.push(FieldError::not_supported(
                at.field("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        errors.extend(optional_one_of(
            toleration,
            "effect",
            &at,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        ));
    }
    errors
}

pub(super) fn gates(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let gates = path.field("schedulingGates");
    for (i, gate) in object::list(spec, "schedulingGates").iter().enumerate() {
        let name = object::text(gate, "name");
        let at = gates.index(i);
        for wrong in names::qualified_name(name) {
            errors.push(FieldError::invalid(at, name, wrong));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at, name));
        }
    }
    let readiness = path.field("readinessGates");
    for (i, gate) in object::list(spec, "readinessGates").iter().enumerate() {
        let name = object::text(gate, "conditionType");
        let at = readiness.index(i);
        for wrong in names::qualified_name(name) {
            errors.push(FieldError::invalid(at.field("conditionType"), name, wrong));
        }
    }
    errors
}

pub(super) fn topology_spread(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, constraint) in object::list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = path.index(i);
        let skew = object::int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(
                at.field("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        let key = object::text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(at.field("topologyKey"), "can not be empty"));
        }
        let when = object::text(constraint, "whenUnsatisfiable");
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(FieldError::not_supported(
                at.field("whenUnsatisfiable"),
                when,
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
        if !seen.insert((key, when)) {
            errors.push(FieldError::duplicate(
                at.field("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {when}}}"),
            ));
        }
        if let Some(minimum) = object::int(constraint, "minDomains") {
            if minimum <= 0 {
                errors.push(FieldError::invalid(
                    at.field("minDomains"),
                    minimum,
                    "must be greater than zero",
                ));
            }
            if when != "DoNotSchedule" {
                errors.push(FieldError::invalid(
                    at.field("minDomains"),
                    minimum,
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                ));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.extend(optional_one_of(constraint, field, &at, &["Honor", "Ignore"]));
        }
        if let Some(it) = object::get(constraint, "labelSelector") {
            errors.extend(selector::label_selector(it, &at.field("labelSelector")));
        }
        errors.extend(label_keys(constraint, "matchLabelKeys", &at));
    }
    errors
}

pub(super) fn affinity(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(affinity) = object::get(spec, "affinity") else {
        return errors;
    };
    if let Some(node) = object::get(affinity, "nodeAffinity") {
        errors.extend(node_affinity(node, &path.field("nodeAffinity")));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(it) = object::get(affinity, kind) else {
            continue;
        };
        let at = path.field(kind);
        let required = at.field(REQUIRED);
        for (i, term) in object::list(it, REQUIRED).iter().enumerate() {
            errors.extend(pod_term(term, &required.index(i)));
        }
        let preferred = at.field(PREFERRED);
        for (i, weighted) in object::list(it, PREFERRED).iter().enumerate() {
            let item = preferred.index(i);
            errors.extend(weight(weighted, &item));
            errors.extend(pod_term(&weighted["podAffinityTerm"], &item.field("podAffinityTerm")));
        }
    }
    errors
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn weight(weighted: &Value, path: &Path<'_>) -> Option<FieldError> {
    let weight = object::int(weighted, "weight").unwrap_or(0);
    (!(1..=100).contains(&weight))
        .then(|| FieldError::invalid(path.field("weight"), weight, "must be in the range 1-100"))
}

fn node_affinity(affinity: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(required) = object::get(affinity, REQUIRED) {
        errors.extend(node_selector(required, &path.field(REQUIRED)));
    }
    let preferred = path.field(PREFERRED);
    for (i, weighted) in object::list(affinity, PREFERRED).iter().enumerate() {
        let at = preferred.index(i);
        errors.extend(weight(weighted, &at));
        errors.extend(node_term(&weighted["preference"], &at.field("preference")));
    }
    errors
}

/// Checks a selector of nodes.
pub(super) fn node_selector(selector: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("nodeSelectorTerms");
    let terms = object::list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(at, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        errors.extend(node_term(term, &at.index(i)));
    }
    errors
}

fn node_term(term: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["matchExpressions", "matchFields"] {
        let list_path = path.field(list);
        for (i, requirement) in object::list(term, list).iter().enumerate() {
            let at = list_path.index(i);
            let n_values = object::list(requirement, "values").len();
            match object::text(requirement, "operator") {
                "In" | "NotIn" if n_values == 0 => errors.push(FieldError::required(
                    at.field("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                )),
                "Exists" | "DoesNotExist" if n_values > 0 => errors.push(FieldError::forbidden(
                    at.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                "Gt" | "Lt" if n_values != 1 => errors.push(FieldError::required(
                    at.field("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                )),
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => errors.push(FieldError::invalid(
                    at.field("operator"),
                    other,
                    "not a valid selector operator",
                )),
            }
            let key = object::text(requirement, "key");
            if list == "matchExpressions" {
                for wrong in names::qualified_name(key) {
                    errors.push(FieldError::invalid(at.field("key"), key, wrong));
                }
            } else if key != "metadata.name" {
                errors.push(FieldError::invalid(
                    at.field("key"),
                    key,
                    "not a valid field selector key",
                ));
            }
        }
    }
    errors
}

/// Checks keys of labels whose values are those of the pod itself.
fn label_keys(holder: &Value, field: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field(field);
    let keys = object::list(holder, field);
    if !keys.is_empty() && object::get(holder, "labelSelector").is_none() {
        let why = "must not be specified when labelSelector is not set";
        errors.push(FieldError::forbidden(at, why));
    }
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(at.index(i), key, wrong));
        }
    }
    errors
}

fn pod_term(term: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(it) = object::get(term, field) {
            errors.extend(selector::label_selector(it, &path.field(field)));
        }
    }
    errors.extend(label_keys(term, "matchLabelKeys", path));
    errors.extend(label_keys(term, "mismatchLabelKeys", path));
    let mismatched = object::list(term, "mismatchLabelKeys");
    for (i, key) in object::list(term, "matchLabelKeys").iter().enumerate() {
        if mismatched.contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            let at = path.field("matchLabelKeys");
            errors.push(FieldError::invalid(at.index(i), key.clone(), why));
        }
    }
    let namespaces = path.field("namespaces");
    for (i, name) in object::list(term, "namespaces").iter().filter_map(Value::as_str).enumerate() {
        for wrong in names::dns1123_label(name) {
            errors.push(FieldError::invalid(namespaces.index(i), name, wrong));
        }
    }
    let key = object::text(term, "topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(path.field("topologyKey"), "can not be empty"));
    } else {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(path.field("topologyKey"), key, wrong));
        }
    }
    errors
}
