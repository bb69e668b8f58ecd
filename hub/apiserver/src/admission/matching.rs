//! Which requests a webhook or a policy is asked about.

use std::sync::Arc;

use hub_api::selector::LabelSelector;
use hub_api::{Resource, Status, object};
use serde_json::Value;

use super::builtin::Lookup;
use super::{Attributes, Operation};
use crate::registry::Registry;

/// The configuration of admission itself is never asked about: a mistake there must stay mendable.
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group == "admissionregistration.k8s.io"
}

/// The row of the version in which a webhook or policy wants to see the object: `None` if its
/// rules do not name the request. `rules` are `RuleWithOperations`, some with names of objects.
/// The version of the request counts before all others.
pub(super) fn matching_row(
    registry: &Registry,
    attributes: &Attributes<'_>,
    rules: &[Value],
    policy: &str,
) -> Option<Arc<Resource>> {
    let own = attributes.requested;
    if rules.is_empty() {
        return None;
    }
    if rules.iter().any(|it| rule_matches(it, attributes, own)) {
        return Some(Arc::new(own.clone()));
    }
    if policy == "Exact" {
        return None;
    }
    // Other versions of the same objects are the same objects, where they have the same below them.
    let catalog = registry.catalog();
    let stored = own.stored();
    let same = |row: &&Arc<Resource>| {
        let other = row.stored();
        other.group == stored.group
            && other.plural == stored.plural
            && attributes.subresource.is_none_or(|it| row.subresource(it).is_some())
    };
    let mut others = catalog.shared().iter().filter(same);
    others.find(|row| rules.iter().any(|it| rule_matches(it, attributes, row))).cloned()
}

fn rule_matches(rule: &Value, attributes: &Attributes<'_>, row: &Resource) -> bool {
    let names = |field: &str, wanted: &str| {
        object::list(rule, field).iter().any(|it| it == "*" || it == wanted)
    };
    let named = object::list(rule, "resourceNames");
    names("operations", attributes.operation.as_str())
        && names("apiGroups", &row.group)
        && names("apiVersions", &row.version)
        && in_scope(object::text(rule, "scope"), attributes)
        && object::list(rule, "resources")
            .iter()
            .filter_map(Value::as_str)
            .any(|it| resource_matches(it, &row.plural, attributes.subresource))
        && (named.is_empty() || named.iter().any(|it| it == attributes.name))
}

fn in_scope(scope: &str, attributes: &Attributes<'_>) -> bool {
    match scope {
        "Namespaced" => attributes.resource.namespaced,
        "Cluster" => !attributes.resource.namespaced,
        _ => true,
    }
}

/// `*`, `pods`, `pods/*`, `*/status`, `pods/status`, `*/*`.
fn resource_matches(pattern: &str, plural: &str, subresource: Option<&str>) -> bool {
    let (resource, wanted) = match pattern.split_once('/') {
        Some((resource, wanted)) => (resource, Some(wanted)),
        None => (pattern, None),
    };
    let below = match (wanted, subresource) {
        (None, None) | (Some("*"), _) => true,
        (Some(wanted), Some(subresource)) => wanted == subresource,
        (None, Some(_)) | (Some(_), None) => false,
    };
    (resource == "*" || resource == plural) && below
}

/// Whether the labels of the object and of its namespace are selected.
///
/// # Errors
/// The namespace is not there.
pub(super) fn selected(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    selectors: &Value,
) -> Result<bool, Status> {
    let read = |field: &str| match selectors.get(field) {
        Some(selector) if !selector.is_null() => LabelSelector::from_value(selector),
        Some(_) | None => Ok(LabelSelector::everything()),
    };
    let objects = read("objectSelector")?;
    if !objects.is_everything() {
        let mut shown = [object, attributes.old].into_iter().flatten();
        if !shown.any(|it| objects.matches_object(it)) {
            return Ok(false);
        }
    }
    let namespaces = read("namespaceSelector")?;
    if namespaces.is_everything() {
        return Ok(true);
    }
    match namespace_object(registry, attributes, object)? {
        Some(namespace) => Ok(namespaces.matches_object(&namespace)),
        // Selectors of namespaces say nothing of what is in none.
        None => Ok(true),
    }
}

/// The namespace of the request: the object itself where that is one.
pub(super) fn namespace_object(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<Option<Value>, Status> {
    let resource = attributes.resource;
    if resource.group.is_empty() && resource.plural == "namespaces" {
        let shown = if attributes.operation == Operation::Delete { None } else { object };
        return Ok(shown.or(attributes.old).cloned());
    }
    let Some(name) = attributes.namespace.filter(|_| resource.namespaced) else {
        return Ok(None);
    };
    registry
        .find("", "namespaces", None, name)
        .map(Some)
        .ok_or_else(|| Status::not_found("", "namespaces", name))
}

#[cfg(test)]
mod tests {
    use super::resource_matches;

    #[test]
    fn patterns_name_resources_and_what_is_below() {
        for (pattern, subresource, matches) in [
            ("*", None, true),
            ("*", Some("status"), false),
            ("pods", None, true),
            ("pods", Some("status"), false),
            ("pods/*", None, true),
            ("pods/*", Some("exec"), true),
            ("*/status", Some("status"), true),
            ("*/status", Some("exec"), false),
            ("*/*", None, true),
            ("jobs/*", None, false),
            ("pods/exec", Some("exec"), true),
        ] {
            assert_eq!(resource_matches(pattern, "pods", subresource), matches, "{pattern}");
        }
    }
}
