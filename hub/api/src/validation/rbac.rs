//! Checks of the kinds of `rbac.authorization.k8s.io`.

use serde_json::Value;

use super::selector::label_selector;
use crate::defaults::rbac::GROUP;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a Role.
pub fn role(object: &Value) -> Vec<FieldError> {
    rules(object, true)
}

/// Checks a ClusterRole.
pub fn cluster_role(object: &Value) -> Vec<FieldError> {
    let mut errors = rules(object, false);
    let Some(aggregation) = object.get("aggregationRule") else { return errors };
    let root = Path::Root.field("aggregationRule");
    let path = root.field("clusterRoleSelectors");
    let selectors = object::list(aggregation, "clusterRoleSelectors");
    if selectors.is_empty() {
        errors.push(FieldError::required(
            path,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    for (i, selector) in selectors.iter().enumerate() {
        errors.extend(label_selector(selector, &path.index(i)));
    }
    errors
}

fn rules(object: &Value, is_namespaced: bool) -> Vec<FieldError> {
    let path = Path::Root.field("rules");
    let rules = object::list(object, "rules").iter().enumerate();
    rules.flat_map(|(i, it)| rule(it, is_namespaced, &path.index(i))).collect()
}

fn rule(rule: &Value, is_namespaced: bool, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let is_empty = |field: &str| object::list(rule, field).is_empty();
    if is_empty("verbs") {
        let detail = "verbs must contain at least one value";
        errors.push(FieldError::required(path.field("verbs"), detail));
    }
    if !is_empty("nonResourceURLs") {
        let urls = || rule["nonResourceURLs"].clone();
        let at = path.field("nonResourceURLs");
        if is_namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(at, urls(), detail));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|it| !is_empty(it)) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(at, urls(), detail));
        }
        return errors;
    }
    for (field, detail) in [
        ("apiGroups", "resource rules must supply at least one api group"),
        ("resources", "resource rules must supply at least one resource"),
    ] {
        if is_empty(field) {
            errors.push(FieldError::required(path.field(field), detail));
        }
    }
    errors
}

/// Checks a RoleBinding.
pub fn role_binding(object: &Value) -> Vec<FieldError> {
    binding(object, true, &["ClusterRole", "Role"])
}

/// Checks a ClusterRoleBinding.
pub fn cluster_role_binding(object: &Value) -> Vec<FieldError> {
    binding(object, false, &["ClusterRole"])
}

fn binding(object: &Value, is_namespaced: bool, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let role = &object["roleRef"];
    let path = Path::Root.field("roleRef");
    let (group, kind, name) =
        (object::text(role, "apiGroup"), object::text(role, "kind"), object::text(role, "name"));
    if group != GROUP {
        errors.push(FieldError::not_supported(path.field("apiGroup"), group, &[GROUP]));
    }
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(path.field("kind"), kind, kinds));
    }
    if name.is_empty() {
        errors.push(FieldError::required(path.field("name"), ""));
    } else {
        let wrong = names::path_segment(name);
        errors
            .extend(wrong.into_iter().map(|it| FieldError::invalid(path.field("name"), name, it)));
    }
    let path = Path::Root.field("subjects");
    for (i, it) in object::list(object, "subjects").iter().enumerate() {
        errors.extend(subject(it, is_namespaced, &path.index(i)));
    }
    errors
}

fn subject(subject: &Value, is_namespaced: bool, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |field: &str| object::text(subject, field);
    let (group, name) = (text("apiGroup"), text("name"));
    if name.is_empty() {
        errors.push(FieldError::required(path.field("name"), ""));
    }
    match text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                for wrong in names::dns1123_subdomain(name) {
                    errors.push(FieldError::invalid(path.field("name"), name, wrong));
                }
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(path.field("apiGroup"), group, &[""]));
            }
            if !is_namespaced && text("namespace").is_empty() {
                errors.push(FieldError::required(path.field("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(path.field("apiGroup"), group, &[GROUP]));
            }
        }
        kind => errors.push(FieldError::not_supported(
            path.field("kind"),
            kind,
            &["Group", "ServiceAccount", "User"],
        )),
    }
    errors
}

/// Checks a changed binding: its role is the same for ever.
pub fn binding_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if new["roleRef"] == old["roleRef"] {
        return Vec::new();
    }
    vec![FieldError::invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(errors: Vec<FieldError>, expected: &[&str]) {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn rules_name_verbs_and_either_resources_or_urls() {
        let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let urls = json!({"verbs": ["get"], "nonResourceURLs": ["/a"]});
        let both = json!({"verbs": ["get"], "nonResourceURLs": ["/a"], "resources": ["pods"]});
        check(role(&json!({"rules": [pods]})), &[]);
        check(cluster_role(&json!({"rules": [pods, urls]})), &[]);
        check(
            role(&json!({"rules": [pods, {}]})),
            &[
                "rules[1].verbs: Required value: verbs must contain at least one value",
                "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[1].resources: Required value: resource rules must supply at least one resource",
            ],
        );
        let text = |it: Vec<FieldError>| it.iter().map(|e| e.detail.clone()).collect::<Vec<_>>();
        assert_eq!(
            text(role(&json!({"rules": [urls]}))),
            ["namespaced rules cannot apply to non-resource URLs"]
        );
        assert_eq!(
            text(cluster_role(&json!({"rules": [both]}))),
            ["rules cannot apply to both regular resources and non-resource URLs"]
        );
        check(
            cluster_role(&json!({"aggregationRule": {}})),
            &[
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
            ],
        );
    }

    #[test]
    fn bindings_name_a_role_and_subjects() {
        let view = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"});
        let mut good = json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "a"}],
        });
        crate::defaults::rbac::binding(&mut good);
        assert_eq!(good["roleRef"], view);
        assert_eq!(good["subjects"][0]["apiGroup"], GROUP);
        check(role_binding(&good), &[]);
        check(cluster_role_binding(&good), &["subjects[1].namespace: Required value"]);
        check(
            cluster_role_binding(&json!({"roleRef": {"apiGroup": "x", "kind": "Role"}})),
            &[
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "roleRef.name: Required value",
            ],
        );
        let mut other = good.clone();
        other["roleRef"]["name"] = json!("edit");
        assert_eq!(binding_update(&good, &good), []);
        assert_eq!(binding_update(&other, &good)[0].detail, "cannot change roleRef");
    }
}
