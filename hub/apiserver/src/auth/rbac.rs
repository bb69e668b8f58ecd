//! Role-based access control: roles say what, bindings say who.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

mod escalation;
mod index;
pub mod policy;
mod rule;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hub_storage::{Prefix, Storage};

pub use escalation::EscalationGuard;
pub use rule::PolicyRule;

use super::feed::Feed;
use super::{
    Attributes, Authorizer, Decision, MASTERS, NonResourceRule, ResourceRule, Rules, User,
};
use index::{Index, KINDS};

/// The group of the kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Decides by the stored roles and bindings.
pub struct Rbac {
    state: RwLock<(Feed, Index)>,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rbac").finish_non_exhaustive()
    }
}

impl Rbac {
    /// Reads roles and bindings of this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        let prefixes = KINDS.map(|plural| Prefix::all(GROUP, plural));
        Self { state: RwLock::new((Feed::new(storage, prefixes), Index::default())) }
    }

    /// Roles and bindings as they are.
    fn current(&self) -> RwLockReadGuard<'_, (Feed, Index)> {
        // Every method leaves the state consistent: a panic elsewhere does not spoil it.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !state.0.is_behind() {
            return state;
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (feed, index) = &mut *state;
        feed.drain(|kind, change| index.apply(kind, change));
        drop(state);
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rules that a user has in a namespace, and what was in the way of finding them.
    pub(super) fn rules_of(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let state = self.current();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        state.1.visit(user, namespace, |_, found| {
            match found {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(err) => errors.push(err),
            }
            true
        });
        (rules, errors)
    }

    /// The rules of a role, if it exists. `kind` is `Role` or `ClusterRole`.
    pub(super) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        self.current().1.role(kind, namespace, name).map(<[_]>::to_vec)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let state = self.current();
        let mut errors: Vec<String> = Vec::new();
        let mut allowed = None;
        state.1.visit(attributes.user, attributes.namespace, |grant, found| {
            match found {
                Ok(rules) if rules.iter().any(|it| it.allows(attributes)) => {
                    allowed = Some(format!("RBAC: allowed by {grant}"));
                }
                Ok(_) => {}
                Err(err) if errors.contains(&err) => {}
                Err(err) => errors.push(err),
            }
            allowed.is_none()
        });
        if let Some(reason) = allowed {
            return Decision::Allow { reason };
        }
        let reason = match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::NoOpinion { reason }
    }

    fn rules(&self, user: &User, namespace: &str) -> Rules {
        let (found, errors) = self.rules_of(user, namespace);
        let mut rules = Rules { errors, ..Rules::default() };
        for rule in found {
            if !rule.resources.is_empty() {
                rules.resources.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    groups: rule.groups,
                    resources: rule.resources,
                    names: rule.names,
                });
            }
            if !rule.urls.is_empty() {
                rules.urls.push(NonResourceRule { verbs: rule.verbs, urls: rule.urls });
            }
        }
        rules
    }
}

/// Members of `system:masters` may do everything, whatever becomes of roles and bindings.
#[derive(Clone, Copy, Debug)]
pub struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow { reason: String::new() };
        }
        Decision::SILENT
    }

    fn rules(&self, user: &User, _namespace: &str) -> Rules {
        if !user.is_in(MASTERS) {
            return Rules::default();
        }
        let all = || vec!["*".to_owned()];
        Rules {
            resources: vec![ResourceRule {
                verbs: all(),
                groups: all(),
                resources: all(),
                names: Vec::new(),
            }],
            urls: vec![NonResourceRule { verbs: all(), urls: all() }],
            ..Rules::default()
        }
    }
}
