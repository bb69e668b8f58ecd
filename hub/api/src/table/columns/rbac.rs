//! Columns of `rbac.authorization.k8s.io`.

use super::{AGE, Column, NAME, computed};
use crate::table::network;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "clusterrolebindings" | "rolebindings" => Some(ROLE_BINDINGS),
        _ => None,
    }
}

const ROLE_BINDINGS: &[Column] = &[
    NAME,
    computed("Role", network::role, "Which role is given."),
    AGE,
    computed("Users", network::users, "Which users have it.").wide(),
    computed("Groups", network::groups, "Which groups have it.").wide(),
    computed("ServiceAccounts", network::service_accounts, "Which service accounts have it.")
        .wide(),
];
