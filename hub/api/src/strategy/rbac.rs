//! Strategies of `rbac.authorization.k8s.io`. Whether a writer may give what a role or binding
//! gives is no property of the object: the API server asks that.

use serde_json::Value;

use super::Strategy;
use crate::defaults;
use crate::names;
use crate::status::FieldError;
use crate::validation;

/// Roles.
#[derive(Debug)]
pub struct Role;

impl Strategy for Role {
    fn check_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::rbac::role(object)
    }
}

/// ClusterRoles.
#[derive(Debug)]
pub struct ClusterRole;

impl Strategy for ClusterRole {
    fn check_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::rbac::cluster_role(object)
    }
}

/// RoleBindings.
#[derive(Debug)]
pub struct RoleBinding;

impl Strategy for RoleBinding {
    fn default(&self, object: &mut Value) {
        defaults::rbac::binding(object);
    }

    fn check_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::rbac::role_binding(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::rbac::binding_update(new, old)
    }
}

/// ClusterRoleBindings.
#[derive(Debug)]
pub struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {
    fn default(&self, object: &mut Value) {
        defaults::rbac::binding(object);
    }

    fn check_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::rbac::cluster_role_binding(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::rbac::binding_update(new, old)
    }
}
