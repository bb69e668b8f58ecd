//! Resources of `rbac.authorization.k8s.io`.

use super::{CORE, Row};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        kind: "ClusterRoleBinding",
        namespaced: false,
        schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        strategy: &strategy::rbac::CLUSTER_ROLE_BINDING,
        ..GROUP
    },
    Row {
        plural: "clusterroles",
        singular: "clusterrole",
        kind: "ClusterRole",
        namespaced: false,
        schema: "io.k8s.api.rbac.v1.ClusterRole",
        strategy: &strategy::rbac::CLUSTER_ROLE,
        ..GROUP
    },
    Row {
        plural: "rolebindings",
        singular: "rolebinding",
        kind: "RoleBinding",
        schema: "io.k8s.api.rbac.v1.RoleBinding",
        strategy: &strategy::rbac::ROLE_BINDING,
        ..GROUP
    },
    Row {
        plural: "roles",
        singular: "role",
        kind: "Role",
        schema: "io.k8s.api.rbac.v1.Role",
        strategy: &strategy::rbac::ROLE,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "rbac.authorization.k8s.io", ..CORE };
