//! Nobody gives what they do not have: whoever writes a role must hold all that it allows (or
//! `escalate` it), whoever writes a binding must hold all that its role allows (or `bind` it).

use std::sync::Arc;

use hub_api::{Resource, Status, object};
use serde_json::Value;

use super::index::not_found;
use super::rule::{MAX_RIGHTS, PolicyRule, Right, describe, go_list};
use super::{GROUP, Rbac};
use crate::auth::{Attributes, Authorizer, MASTERS, User};

/// Asks before roles and bindings are stored.
pub struct EscalationGuard {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl std::fmt::Debug for EscalationGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EscalationGuard").finish_non_exhaustive()
    }
}

impl EscalationGuard {
    /// `authorizer` says who may `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    /// Checks a role or binding that is about to be stored. Everything else passes.
    ///
    /// # Errors
    /// `Forbidden`, with what the user lacks; `NotFound` for a binding to a role that does not
    /// exist.
    pub fn check(
        &self,
        resource: &Resource,
        user: &User,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if resource.group != GROUP || user.is_in(MASTERS) || old.is_some_and(|it| only_gc(new, it))
        {
            return Ok(());
        }
        match &*resource.plural {
            "roles" | "clusterroles" => self.check_role(resource, user, new, old),
            "rolebindings" | "clusterrolebindings" => self.check_binding(resource, user, new),
            _ => Ok(()),
        }
    }

    fn check_role(
        &self,
        resource: &Resource,
        user: &User,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let (namespace, name) = (object::namespace(new), object::name(new));
        let escalate = Attributes {
            group: GROUP,
            version: &resource.version,
            resource: &resource.plural,
            namespace,
            name,
            ..Attributes::of_user(user, "escalate")
        };
        if self.authorizer.authorize(&escalate).is_allowed() {
            return Ok(());
        }
        let forbidden = |why: &str| Status::forbidden(GROUP, &resource.plural, name, why);
        self.confirm(user, namespace, &PolicyRule::all_of(new)).map_err(|why| forbidden(&why))?;
        let aggregates = |it: &Value| it.get("aggregationRule").is_some_and(|it| !it.is_null());
        if aggregates(new) || old.is_some_and(aggregates) {
            // It gathers whatever somebody labels: who sets it gives everything.
            self.confirm(user, namespace, &everything()).map_err(|_| {
                forbidden("must have cluster-admin privileges to use the aggregationRule")
            })?;
        }
        Ok(())
    }

    fn check_binding(&self, resource: &Resource, user: &User, new: &Value) -> Result<(), Status> {
        let (namespace, name) = (object::namespace(new), object::name(new));
        let role = |field: &str| object::text(&new["roleRef"], field);
        let (kind, role_name) = (role("kind"), role("name"));
        let plural = if kind == "Role" { "roles" } else { "clusterroles" };
        let bind = Attributes {
            group: GROUP,
            resource: plural,
            namespace,
            name: role_name,
            ..Attributes::of_user(user, "bind")
        };
        if self.authorizer.authorize(&bind).is_allowed() {
            return Ok(());
        }
        let Some(rules) = self.rbac.role(kind, namespace, role_name) else {
            let mut status = Status::not_found(GROUP, plural, role_name);
            status.message = not_found(kind, role_name);
            return Err(status);
        };
        self.confirm(user, namespace, &rules)
            .map_err(|why| Status::forbidden(GROUP, &resource.plural, name, &why))
    }

    /// Whether the user has all that the rules allow; else, what is missing.
    fn confirm(&self, user: &User, namespace: &str, rules: &[PolicyRule]) -> Result<(), String> {
        let n_rights: usize = rules.iter().map(PolicyRule::n_rights).fold(0, usize::saturating_add);
        if n_rights > MAX_RIGHTS {
            return Err(format!("the rules are {n_rights} permissions, more than {MAX_RIGHTS}"));
        }
        let (own, errors) = self.rbac.rules_of(user, namespace);
        let missing: Vec<Right<'_>> = rules
            .iter()
            .flat_map(PolicyRule::rights)
            .filter(|right| !own.iter().any(|it| it.covers(right)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            go_list(&user.groups),
            describe(&missing).join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(" ")));
        }
        Err(why)
    }
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), urls: all(), ..PolicyRule::default() },
    ]
}

/// Whether nothing changes but what the garbage collector changes: owners and finalizers.
fn only_gc(new: &Value, old: &Value) -> bool {
    let bare = |it: &Value| {
        let mut it = it.clone();
        if let Some(metadata) = it.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        it
    };
    bare(new) == bare(old)
}
