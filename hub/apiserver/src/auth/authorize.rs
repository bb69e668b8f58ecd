//! The question "may they?", behind an interface.

use std::sync::Arc;

use hub_api::Status;

use super::{MASTERS, User};

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, a word of
    /// a subsystem (`impersonate`, `bind`, ...), or the lower-case method for paths that are no
    /// resource.
    pub verb: &'a str,
    /// API group of the resource.
    pub group: &'a str,
    /// Version of the API group.
    pub version: &'a str,
    /// Plural name; empty for paths that are no resource.
    pub resource: &'a str,
    /// Empty if none.
    pub subresource: &'a str,
    /// Empty if none.
    pub namespace: &'a str,
    /// Empty if none. Lists and watches have the name that their field selector asks for.
    pub name: &'a str,
    /// The path, for those that are no resource; empty for those that are.
    pub path: &'a str,
    /// The field selector of a list, watch or deletion of many as it stands in the query; empty if none.
    pub field_selector: &'a str,
    /// Their label selector; empty if none. It can only narrow: who understands none leaves it out.
    pub label_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// A verb of a user about no resource yet.
    pub fn of_user(user: &'a User, verb: &'a str) -> Self {
        Self {
            user,
            verb,
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
            label_selector: "",
        }
    }

    /// A request for a path that is no resource.
    pub fn of_path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self { path, ..Self::of_user(user, verb) }
    }

    /// Whether this is about a resource, not about a path.
    pub fn is_resource(&self) -> bool {
        self.path.is_empty()
    }

    /// The answer 403 about this request, with the authorizer's reason if there is one.
    pub fn forbidden(&self, reason: &str) -> Status {
        let user = &self.user.name;
        if !self.is_resource() {
            let mut why = format!("User \"{user}\" cannot {} path \"{}\"", self.verb, self.path);
            if !reason.is_empty() {
                why = format!("{why}: {reason}");
            }
            return Status::forbidden("", "", "", &why);
        }
        let what = if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let mut why = format!(
            "User \"{user}\" cannot {} resource \"{what}\" in API group \"{}\" {scope}",
            self.verb, self.group
        );
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Status::forbidden(self.group, self.resource, self.name, &why)
    }
}

/// The answer. Reasons are shown to clients, and may be empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Yes, whatever others say.
    Allow { reason: String },
    /// No, whatever others say.
    Deny { reason: String },
    /// Somebody else may say yes.
    NoOpinion { reason: String },
}

impl Decision {
    /// Nothing to say.
    pub const SILENT: Self = Self::NoOpinion { reason: String::new() };

    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// What a user may do with resources.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResourceRule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    pub groups: Vec<String>,
    /// Plural names, with their subresource behind a slash, or `*`.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
}

/// What a user may do with paths.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NonResourceRule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Paths, possibly with `*` at their end.
    pub urls: Vec<String>,
}

/// All that a user may do in a namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// About resources.
    pub resources: Vec<ResourceRule>,
    /// About paths.
    pub urls: Vec<NonResourceRule>,
    /// Whether there may be more.
    pub is_incomplete: bool,
    /// What was in the way of finding out.
    pub errors: Vec<String>,
}

/// Decides what users may do.
pub trait Authorizer: Send + Sync {
    /// Decides one request.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// Lists what a user may do in a namespace, as far as that is a list of rules.
    fn rules(&self, user: &User, namespace: &str) -> Rules;
}

/// Asks one after the other: the first with an opinion decides.
pub struct Chain(Vec<Arc<dyn Authorizer>>);

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chain").field(&self.0.len()).finish()
    }
}

impl Chain {
    /// A chain in this order.
    pub fn new(links: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(links)
    }
}

impl Authorizer for Chain {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for link in &self.0 {
            match link.authorize(attributes) {
                Decision::NoOpinion { reason } if reason.is_empty() => {}
                Decision::NoOpinion { reason } => reasons.push(reason),
                decided @ (Decision::Allow { .. } | Decision::Deny { .. }) => return decided,
            }
        }
        Decision::NoOpinion { reason: reasons.join("\n") }
    }

    fn rules(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        for link in &self.0 {
            let rules = link.rules(user, namespace);
            all.resources.extend(rules.resources);
            all.urls.extend(rules.urls);
            all.is_incomplete |= rules.is_incomplete;
            all.errors.extend(rules.errors);
        }
        all
    }
}

/// Members of `system:masters` may do everything, others may look at health, version and
/// discovery.
#[derive(Clone, Copy, Debug)]
pub struct MastersOnly;

/// Paths open to everybody, known or not.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// Paths open to all who are known.
const DISCOVERY: [&str; 3] = ["/api", "/apis", "/openapi"];

impl Authorizer for MastersOnly {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow { reason: String::new() };
        }
        let below = |root: &&str| {
            attributes
                .path
                .strip_prefix(*root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let looks = !attributes.is_resource() && attributes.verb == "get";
        let open = PUBLIC.iter().any(below)
            || (!attributes.user.is_anonymous() && DISCOVERY.iter().any(below));
        if looks && open { Decision::Allow { reason: String::new() } } else { Decision::SILENT }
    }

    fn rules(&self, user: &User, _namespace: &str) -> Rules {
        let words = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let mut rules = Rules::default();
        if user.is_in(MASTERS) {
            let every = || words(&["*"]);
            rules.resources.push(ResourceRule {
                verbs: every(),
                groups: every(),
                resources: every(),
                names: Vec::new(),
            });
            rules.urls.push(NonResourceRule { verbs: every(), urls: every() });
        }
        rules.urls.push(NonResourceRule { verbs: words(&["get"]), urls: words(&PUBLIC) });
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(groups: &[&str]) -> User {
        let groups = groups.iter().map(|it| (*it).to_owned()).collect();
        User { groups, ..User::named("u") }
    }

    #[test]
    fn only_masters_touch_resources() {
        let known = user(&["system:authenticated"]);
        let master = user(&["system:masters"]);
        for (user, resource, path, verb, allowed) in [
            (&master, "pods", "", "delete", true),
            (&master, "", "/metrics", "get", true),
            (&known, "pods", "", "list", false),
            (&known, "", "/apis/apps/v1", "get", true),
            (&known, "", "/metrics", "get", false),
            (&known, "", "/apisx", "get", false),
            (&known, "", "/version", "post", false),
            (&User::anonymous(), "", "/version", "get", true),
            (&User::anonymous(), "", "/healthz/ping", "get", true),
            (&User::anonymous(), "", "/api", "get", false),
        ] {
            let attributes = Attributes { resource, path, ..Attributes::of_user(user, verb) };
            let decision = MastersOnly.authorize(&attributes);
            assert_eq!(decision.is_allowed(), allowed, "{} {verb} {resource}{path}", user.name);
        }
    }

    #[derive(Clone)]
    struct Fixed(Decision);

    impl Authorizer for Fixed {
        fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
            self.0.clone()
        }

        fn rules(&self, _user: &User, _namespace: &str) -> Rules {
            Rules::default()
        }
    }

    #[test]
    fn the_first_opinion_counts_and_reasons_are_gathered() {
        let allow = Decision::Allow { reason: "yes".to_owned() };
        let deny = Decision::Deny { reason: "no".to_owned() };
        let because = |reason: &str| Decision::NoOpinion { reason: reason.to_owned() };
        for (links, expected) in [
            (vec![Decision::SILENT, allow.clone(), deny.clone()], allow.clone()),
            (vec![because("a"), deny.clone(), allow], deny),
            (vec![because("a"), Decision::SILENT, because("b")], because("a\nb")),
            (vec![], Decision::SILENT),
        ] {
            let links = links.into_iter().map(|it| Arc::new(Fixed(it)) as Arc<dyn Authorizer>);
            let user = user(&[]);
            let attributes = Attributes::of_user(&user, "get");
            assert_eq!(Chain::new(links.collect()).authorize(&attributes), expected);
        }
    }
}
