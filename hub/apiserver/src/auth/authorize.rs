//! The question "may they?", behind an interface.

use super::{MASTERS, User};

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`,
    /// or the lower-case method for paths that are no resource.
    pub verb: &'a str,
    /// API group of the resource.
    pub group: &'a str,
    /// Plural name; empty for paths that are no resource.
    pub resource: &'a str,
    /// Empty if none.
    pub subresource: &'a str,
    /// Empty if none.
    pub namespace: &'a str,
    /// Empty if none.
    pub name: &'a str,
    /// The path, for those that are no resource.
    pub path: &'a str,
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No; the reason is shown to the client, and may be empty.
    Deny { reason: String },
}

/// Decides what users may do.
pub trait Authorizer: Send + Sync {
    /// Decides one request.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
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
            return Decision::Allow;
        }
        let below = |root: &&str| {
            attributes
                .path
                .strip_prefix(*root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let looks = attributes.resource.is_empty() && attributes.verb == "get";
        let open = PUBLIC.iter().any(below)
            || (!attributes.user.is_anonymous() && DISCOVERY.iter().any(below));
        if looks && open { Decision::Allow } else { Decision::Deny { reason: String::new() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_touch_resources() {
        let user = |groups: &[&str]| User {
            name: "u".to_owned(),
            uid: String::new(),
            groups: groups.iter().map(|it| (*it).to_owned()).collect(),
        };
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
            let attributes = Attributes {
                user,
                verb,
                group: "",
                resource,
                subresource: "",
                namespace: "",
                name: "",
                path,
            };
            let decision = MastersOnly.authorize(&attributes);
            assert_eq!(
                decision == Decision::Allow,
                allowed,
                "{} {verb} {resource}{path}",
                user.name
            );
        }
    }
}
