//! What admission is told of a request, beside the object.

use hub_api::{DeleteOptions, Propagation, Resource};
use serde_json::{Map, Value, json};

use super::Requester;
use crate::auth::User;
use crate::registry::WriteOptions;

/// What is done to an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    /// It is created, or something below it is (`binding`, `eviction`, `token`).
    Create,
    /// It or a part of it is replaced.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody connects to it.
    Connect,
}

impl Operation {
    /// The word of the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The options that a request came with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestOptions<'a> {
    /// Of a creation or an update.
    Write(&'a WriteOptions),
    /// Of a deletion.
    Delete(&'a DeleteOptions),
    /// Connections have none beside their object.
    None,
}

/// What admission is told of a request, beside the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    /// The row whose version the objects are in.
    pub(crate) resource: &'a Resource,
    /// The row that the request names: the same, or another version of it.
    pub(crate) requested: &'a Resource,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    /// Empty where the server is to make it from `generateName`.
    pub(crate) name: &'a str,
    /// The stored object, at updates and deletions.
    pub(crate) old: Option<&'a Value>,
    pub(crate) options: RequestOptions<'a>,
    /// Nothing may be changed anywhere because of this request.
    pub(crate) dry_run: bool,
    pub(crate) requester: &'a Requester,
}

/// Stands for whoever did not say who they are: the hub itself.
static HUB: std::sync::LazyLock<User> = std::sync::LazyLock::new(|| User {
    groups: vec![crate::auth::MASTERS.to_owned()],
    ..User::named("system:apiserver")
});

impl Attributes<'_> {
    /// Who asks: the client, or the part of the hub that writes.
    pub(crate) fn user(&self) -> &User {
        let named = |user: &&User| !user.name.is_empty();
        let writer = match self.options {
            RequestOptions::Write(options) => Some(&*options.user),
            RequestOptions::Delete(_) | RequestOptions::None => None,
        };
        writer.filter(named).or_else(|| Some(&*self.requester.user).filter(named)).unwrap_or(&HUB)
    }

    /// Whether this is about objects of that group and plural themselves.
    pub(crate) fn is_of(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_none() && self.resource.group == group && self.resource.plural == plural
    }

    /// The options as an object, `null` if there are none.
    pub(crate) fn options_value(&self) -> Value {
        let mut out = Map::new();
        let kind = match (self.options, self.operation) {
            (RequestOptions::None, _) => return Value::Null,
            (RequestOptions::Delete(options), _) => {
                delete_options(&mut out, options);
                "DeleteOptions"
            }
            (RequestOptions::Write(options), operation) => {
                if !options.field_manager.is_empty() {
                    out.insert("fieldManager".to_owned(), json!(options.field_manager));
                }
                if operation == Operation::Create { "CreateOptions" } else { "UpdateOptions" }
            }
        };
        out.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
        out.insert("kind".to_owned(), json!(kind));
        if self.dry_run {
            out.insert("dryRun".to_owned(), json!(["All"]));
        }
        Value::Object(out)
    }
}

fn delete_options(out: &mut Map<String, Value>, options: &DeleteOptions) {
    if let Some(seconds) = options.grace_period_seconds {
        out.insert("gracePeriodSeconds".to_owned(), json!(seconds));
    }
    if let Some(policy) = options.propagation_policy {
        let word = match policy {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        };
        out.insert("propagationPolicy".to_owned(), json!(word));
    }
    let mut preconditions = Map::new();
    if let Some(uid) = &options.preconditions.uid {
        preconditions.insert("uid".to_owned(), json!(uid));
    }
    if let Some(version) = &options.preconditions.resource_version {
        preconditions.insert("resourceVersion".to_owned(), json!(version));
    }
    if !preconditions.is_empty() {
        out.insert("preconditions".to_owned(), Value::Object(preconditions));
    }
}
