//! Defaults of the kinds of `rbac.authorization.k8s.io`.

use serde_json::Value;

use crate::object;

/// The group of roles, and of users and groups as subjects.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Fills in a RoleBinding or ClusterRoleBinding: the groups of its role and subjects.
pub fn binding(object: &mut Value) {
    if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut) {
        object::default_text(role, "apiGroup", GROUP);
    }
    for subject in object::items_mut(object, "subjects") {
        if matches!(object::text(subject, "kind"), "User" | "Group") {
            object::default_text(object::as_map(subject), "apiGroup", GROUP);
        }
    }
}
