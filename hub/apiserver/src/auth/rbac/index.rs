//! Roles by name, bindings by whom they are for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hub_api::object;
use hub_storage::{Entry, Key};
use serde_json::Value;

use super::PolicyRule;
use crate::auth::User;
use crate::auth::feed::Change;

/// The kinds that are read, in the order of [`Index::apply`]'s first argument.
pub(super) const KINDS: [&str; 4] =
    ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];
const ROLE_KINDS: usize = 2;

/// Somebody, as a binding names them. Service accounts are users.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Who {
    User(String),
    Group(String),
}

/// What a binding gives to one of its subjects.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    binding: String,
    role_kind: String,
    role: String,
    /// As refusals and reviews name it: `Group "x"`.
    subject: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, binding, role_kind, role, subject } = self;
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {binding:?} of {role_kind} {role:?} to {subject}")
        } else {
            let binding = format!("{binding}/{namespace}");
            write!(f, "RoleBinding {binding:?} of {role_kind} {role:?} to {subject}")
        }
    }
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By namespace (empty for ClusterRoles) and name.
    roles: BTreeMap<(String, String), Arc<[PolicyRule]>>,
    /// By namespace (empty for ClusterRoleBindings), subject and binding.
    grants: BTreeMap<(String, Who), BTreeMap<String, Grant>>,
    /// Whom a binding is for, by namespace and name.
    bindings: BTreeMap<(String, String), Vec<Who>>,
}

impl Index {
    /// Takes in a change of the kind at this place of [`KINDS`].
    pub(super) fn apply(&mut self, kind: usize, change: Change) {
        let is_cluster = kind.is_multiple_of(2);
        match (kind < ROLE_KINDS, change) {
            (true, Change::Reset) => {
                self.roles.retain(|(namespace, _), _| namespace.is_empty() != is_cluster);
            }
            (true, Change::Put(entry)) => {
                let rules = PolicyRule::all_of(&entry.value());
                self.roles.insert(place(&entry.key), rules.into());
            }
            (true, Change::Delete(key)) => {
                self.roles.remove(&place(&key));
            }
            (false, Change::Reset) => {
                self.grants.retain(|(namespace, _), _| namespace.is_empty() != is_cluster);
                self.bindings.retain(|(namespace, _), _| namespace.is_empty() != is_cluster);
            }
            (false, Change::Put(entry)) => {
                self.unbind(&entry.key);
                self.bind(&entry);
            }
            (false, Change::Delete(key)) => self.unbind(&key),
        }
    }

    fn bind(&mut self, entry: &Entry) {
        let (namespace, name) = place(&entry.key);
        let binding = &*entry.value();
        let mut all = Vec::new();
        for subject in object::list(binding, "subjects") {
            let Some((who, described)) = subject_of(subject, &namespace) else { continue };
            let grant = Grant {
                namespace: namespace.clone(),
                binding: name.clone(),
                role_kind: object::text(binding, "roleRef.kind").to_owned(),
                role: object::text(binding, "roleRef.name").to_owned(),
                subject: described,
            };
            let grants = self.grants.entry((namespace.clone(), who.clone())).or_default();
            grants.insert(name.clone(), grant);
            all.push(who);
        }
        self.bindings.insert((namespace, name), all);
    }

    fn unbind(&mut self, key: &Key) {
        let (namespace, name) = place(key);
        let Some(all) = self.bindings.remove(&(namespace.clone(), name.clone())) else { return };
        for who in all {
            let at = (namespace.clone(), who);
            if let Some(grants) = self.grants.get_mut(&at) {
                grants.remove(&name);
                if grants.is_empty() {
                    self.grants.remove(&at);
                }
            }
        }
    }

    /// The rules of a role.
    pub(super) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        let namespace = if kind == "Role" { namespace } else { "" };
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(|it| &**it)
    }

    /// Shows everything that is given to a user in a namespace (and everywhere), until `see`
    /// returns false. Rules of roles that do not exist are an error text.
    pub(super) fn visit(
        &self,
        user: &User,
        namespace: &str,
        mut see: impl FnMut(&Grant, Result<&[PolicyRule], String>) -> bool,
    ) {
        let user_itself = std::iter::once(Who::User(user.name.clone()));
        let groups = user.groups.iter().map(|it| Who::Group(it.clone()));
        let whos: Vec<Who> = user_itself.chain(groups).collect();
        let places: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for place in places {
            for who in &whos {
                let Some(grants) = self.grants.get(&((*place).to_owned(), who.clone())) else {
                    continue;
                };
                for grant in grants.values() {
                    let role = self.role(&grant.role_kind, place, &grant.role);
                    let rules = role.ok_or_else(|| not_found(&grant.role_kind, &grant.role));
                    if !see(grant, rules) {
                        return;
                    }
                }
            }
        }
    }
}

/// What is said of a role that does not exist.
pub(super) fn not_found(kind: &str, name: &str) -> String {
    format!("{}.{} {name:?} not found", kind.to_lowercase(), super::GROUP)
}

fn place(key: &Key) -> (String, String) {
    (key.namespace().unwrap_or_default().to_owned(), key.name().to_owned())
}

fn subject_of(subject: &Value, binding_namespace: &str) -> Option<(Who, String)> {
    let text = |field: &str| object::text(subject, field);
    let (kind, name) = (text("kind"), text("name"));
    Some(match kind {
        "User" => (Who::User(name.to_owned()), format!("User {name:?}")),
        "Group" => (Who::Group(name.to_owned()), format!("Group {name:?}")),
        "ServiceAccount" => {
            let namespace = match text("namespace") {
                "" => binding_namespace,
                namespace => namespace,
            };
            let described = format!("{name}/{namespace}");
            let user = format!("system:serviceaccount:{namespace}:{name}");
            (Who::User(user), format!("ServiceAccount {described:?}"))
        }
        _ => return None,
    })
}
