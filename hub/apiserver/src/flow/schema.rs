//! Which requests a FlowSchema is about.

use hub_api::object;
use serde_json::Value;

use crate::auth::User;

/// What flow control sees of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) what: What<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    Resource { group: &'a str, resource: &'a str, subresource: &'a str, namespace: &'a str },
    Path(&'a str),
}

/// A FlowSchema, as far as it decides.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) precedence: i64,
    pub(super) level: String,
    distinguisher: String,
    rules: Vec<Value>,
}

impl Schema {
    pub(super) fn parse(object: &Value) -> Self {
        let text = |path: &str| object::text(object, path).to_owned();
        Self {
            name: object::name(object).to_owned(),
            uid: object::uid(object).to_owned(),
            precedence: object["spec"]["matchingPrecedence"].as_i64().unwrap_or(1000),
            level: text("spec.priorityLevelConfiguration.name"),
            distinguisher: text("spec.distinguisherMethod.type"),
            rules: object["spec"]["rules"].as_array().cloned().unwrap_or_default(),
        }
    }

    pub(super) fn matches(&self, request: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| {
            items(&rule["subjects"]).any(|it| is_subject(it, request.user))
                && match request.what {
                    What::Path(path) => items(&rule["nonResourceRules"])
                        .any(|it| has(&it["verbs"], request.verb) && is_path(it, path)),
                    What::Resource { .. } => {
                        items(&rule["resourceRules"]).any(|it| is_resource(it, request))
                    }
                }
        })
    }

    /// Requests with one answer wait in the same queues.
    pub(super) fn flow<'a>(&self, request: &Digest<'a>) -> &'a str {
        match (self.distinguisher.as_str(), request.what) {
            ("ByUser", _) => &request.user.name,
            ("ByNamespace", What::Resource { namespace, .. }) => namespace,
            _ => "",
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether a list of words has this one, or the star.
fn has(list: &Value, word: &str) -> bool {
    items(list).filter_map(Value::as_str).any(|it| it == "*" || it == word)
}

fn is_subject(subject: &Value, user: &User) -> bool {
    let (name, namespace) = match subject["kind"].as_str() {
        Some("User") => {
            let name = object::text(subject, "user.name");
            return name == "*" || name == user.name;
        }
        Some("Group") => {
            let name = object::text(subject, "group.name");
            return name == "*" || user.is_in(name);
        }
        Some("ServiceAccount") => (
            object::text(subject, "serviceAccount.name"),
            object::text(subject, "serviceAccount.namespace"),
        ),
        _ => return false,
    };
    let account = user.name.strip_prefix("system:serviceaccount:");
    account.and_then(|it| it.split_once(':')).is_some_and(|(in_namespace, account)| {
        in_namespace == namespace && (name == "*" || name == account)
    })
}

fn is_path(rule: &Value, path: &str) -> bool {
    items(&rule["nonResourceURLs"]).filter_map(Value::as_str).any(|it| {
        it == "*" || it == path || it.strip_suffix('*').is_some_and(|start| path.starts_with(start))
    })
}

fn is_resource(rule: &Value, request: &Digest<'_>) -> bool {
    let What::Resource { group, resource, subresource, namespace } = request.what else {
        return false;
    };
    let whole = match subresource {
        "" => resource.to_owned(),
        _ => format!("{resource}/{subresource}"),
    };
    let in_scope = if namespace.is_empty() {
        rule["clusterScope"] == true
    } else {
        has(&rule["namespaces"], namespace)
    };
    has(&rule["verbs"], request.verb)
        && has(&rule["apiGroups"], group)
        && has(&rule["resources"], &whole)
        && in_scope
}
