//! Strategies of `rbac.authorization.k8s.io`. Whether a writer may give what a role or binding
//! gives is no property of the object: the API server asks that.

use super::Rules;
use crate::defaults;
use crate::names;
use crate::validation::rbac;

/// Roles.
pub static ROLE: Rules = Rules { validate: rbac::role, ..NAMED };

/// ClusterRoles.
pub static CLUSTER_ROLE: Rules = Rules { validate: rbac::cluster_role, ..NAMED };

/// RoleBindings.
pub static ROLE_BINDING: Rules = Rules { validate: rbac::role_binding, ..BINDING };

/// ClusterRoleBindings.
pub static CLUSTER_ROLE_BINDING: Rules = Rules { validate: rbac::cluster_role_binding, ..BINDING };

/// Names may hold what a path may, such as colons.
const NAMED: Rules = Rules { check_name: names::path_segment, ..Rules::PLAIN };

const BINDING: Rules =
    Rules { default: defaults::rbac::binding, validate_update: rbac::binding_update, ..NAMED };
