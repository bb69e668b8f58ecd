//! The audit log: who did what, when, and how it ended. A policy says of which requests how much
//! is told. <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
//!
//! What is known of a request is gathered while it is served, in a record that belongs to its
//! task. Bodies of Secrets, tokens and token reviews are never told, whatever the policy says.

mod file;
#[cfg(test)]
mod fuzz;
mod policy;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hub_api::{Status, time};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use file::{AuditFile, AuditFileError, AuditWriter, Rotation};
pub use policy::{Level, Policy, PolicyError};

use crate::auth::{Attributes, User};
use policy::Stage;

/// Largest body that is told; of larger ones only their size.
const MAX_BODY: usize = 1 << 20;
/// Longest user agent and path that are told.
const MAX_TEXT: usize = 4 << 10;

tokio::task_local! {
    static RECORD: Arc<Mutex<Record>>;
}

/// Where events go, and which.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    file: AuditFile,
}

/// What is known of a request so far.
#[derive(Debug, Default)]
struct Record {
    id: String,
    received: Timestamp,
    uri: String,
    source: String,
    agent: String,
    verb: String,
    user: Option<Value>,
    /// As whom the user acts.
    impersonated: Option<Value>,
    /// Absent for paths that are no resource.
    object: Option<Map<String, Value>>,
    level: Level,
    omitted: Vec<Stage>,
    is_long: bool,
    /// What is refused may be told with the words of the request.
    is_secret: bool,
    request_body: Option<Bytes>,
    annotations: Map<String, Value>,
}

/// A request as it comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) id: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) source: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) method: &'a str,
    pub(crate) now: Timestamp,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) code: u16,
    /// What was refused.
    pub(crate) status: Option<&'a Status>,
    pub(crate) panicked: bool,
    pub(crate) now: Timestamp,
}

impl Audit {
    /// Tells the file what the policy says.
    pub fn new(policy: Policy, file: AuditFile) -> Self {
        Self { policy, file }
    }

    /// Runs the service of a request with a record of its own.
    pub(crate) async fn scope<F: Future>(&self, it: Seen<'_>, service: F) -> (F::Output, Noted) {
        let record = Record {
            id: it.id.to_owned(),
            received: it.now,
            uri: cut(it.uri),
            source: it.source.to_owned(),
            agent: cut(it.agent),
            verb: it.method.to_ascii_lowercase(),
            ..Record::default()
        };
        // Who is refused before anything is known of them is told as well.
        let nobody = User::default();
        let attributes = Attributes::of_path(&nobody, &record.verb, it.uri);
        let (level, omitted) = self.policy.level(&attributes);
        let record = Record { level, omitted, ..record };
        let record = Arc::new(Mutex::new(record));
        let output = RECORD.scope(record.clone(), service).await;
        (output, Noted(record))
    }

    /// Takes in who sends the request and what it wants.
    pub(crate) fn attributes(&self, attributes: &Attributes<'_>, sender: &User, is_long: bool) {
        let (level, omitted) = self.policy.level(attributes);
        note(|record| {
            record.verb = attributes.verb.to_owned();
            record.user = Some(Value::Object(sender.to_info()));
            record.impersonated =
                (sender != attributes.user).then(|| Value::Object(attributes.user.to_info()));
            record.object = attributes.is_resource().then(|| object_of(attributes));
            record.is_secret = is_secret(attributes);
            record.level = if record.is_secret { level.min(Level::Metadata) } else { level };
            record.omitted = omitted;
            record.is_long = is_long;
        });
    }

    /// Writes what the policy wants of a request that is answered.
    pub(crate) async fn finish(&self, noted: &Noted, outcome: Outcome<'_>, body: Option<&Bytes>) {
        let line = {
            let record = noted.0.lock().unwrap_or_else(PoisonError::into_inner);
            let stage = match (outcome.panicked, record.is_long && outcome.code < 400) {
                (true, _) => Stage::Panic,
                (false, true) => Stage::ResponseStarted,
                (false, false) => Stage::ResponseComplete,
            };
            if record.level == Level::None || record.omitted.contains(&stage) {
                return;
            }
            record.event(stage, outcome, body).to_string()
        };
        self.file.write(line).await;
    }
}

/// The record of a request that was served.
#[derive(Debug)]
pub(crate) struct Noted(Arc<Mutex<Record>>);

impl Noted {
    /// Whether the body of the answer is wanted.
    pub(crate) fn wants_answer(&self) -> bool {
        let record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.level == Level::RequestResponse && !record.is_long
    }
}

/// Does something with the record of the request that this task serves, if there is one.
fn note(change: impl FnOnce(&mut Record)) {
    // Without an audit log there is none.
    let _ = RECORD.try_with(|record| {
        change(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// Takes in the body of the request.
pub(crate) fn body(bytes: &Bytes) {
    note(|record| {
        if record.level >= Level::Request {
            record.request_body = Some(bytes.clone());
        }
    });
}

/// Takes in an annotation.
pub(crate) fn annotate(key: &str, value: &str) {
    note(|record| {
        record.annotations.insert(key.to_owned(), json!(value));
    });
}

impl Record {
    fn event(&self, stage: Stage, outcome: Outcome<'_>, answer: Option<&Bytes>) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("kind", json!("Event"));
        put("apiVersion", json!("audit.k8s.io/v1"));
        put("level", json!(self.level.as_str()));
        put("auditID", json!(self.id));
        put("stage", json!(stage.as_str()));
        put("requestURI", json!(self.uri));
        put("verb", json!(self.verb));
        put("user", self.user.clone().unwrap_or_else(|| json!({})));
        if let Some(user) = &self.impersonated {
            put("impersonatedUser", user.clone());
        }
        put("sourceIPs", json!([self.source]));
        if !self.agent.is_empty() {
            put("userAgent", json!(self.agent));
        }
        if let Some(object) = &self.object {
            put("objectRef", Value::Object(object.clone()));
        }
        let mut status = json!({ "metadata": {}, "code": outcome.code });
        if let Some(told) = outcome.status {
            status["status"] = json!("Failure");
            // A body that is malformed or invalid is told of in its own words.
            let tells_body = self.is_secret && matches!(outcome.code, 400 | 413 | 422);
            if !tells_body {
                status["message"] = json!(told.message);
            }
            status["reason"] = json!(told.reason);
        }
        put("responseStatus", status);
        if let Some(body) = self.request_body.as_ref().filter(|_| self.level >= Level::Request) {
            put("requestObject", body_value(body));
        }
        if let Some(body) = answer.filter(|_| self.level == Level::RequestResponse) {
            put("responseObject", body_value(body));
        }
        put("requestReceivedTimestamp", json!(time::format_micro(self.received)));
        put("stageTimestamp", json!(time::format_micro(outcome.now)));
        if !self.annotations.is_empty() {
            put("annotations", Value::Object(self.annotations.clone()));
        }
        out.into()
    }
}

/// Bodies that are secrets, or full of them.
fn is_secret(attributes: &Attributes<'_>) -> bool {
    matches!(
        (attributes.group, attributes.resource, attributes.subresource),
        ("", "secrets", _) | ("", "serviceaccounts", "token") | ("authentication.k8s.io", _, _)
    )
}

fn object_of(it: &Attributes<'_>) -> Map<String, Value> {
    [
        ("resource", it.resource),
        ("namespace", it.namespace),
        ("name", it.name),
        ("apiGroup", it.group),
        ("apiVersion", it.version),
        ("subresource", it.subresource),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(key, text)| (key.to_owned(), json!(text)))
    .collect()
}

fn body_value(body: &Bytes) -> Value {
    if body.len() > MAX_BODY {
        return json!({ "size": body.len() });
    }
    let json = serde_json::from_slice(body).ok();
    let protobuf = || hub_api::protobuf::decode(body, None).ok();
    json.or_else(protobuf).unwrap_or(Value::Null)
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_without_their_bodies() {
        let user = User::default();
        let of = |group, resource, subresource| Attributes {
            group,
            resource,
            subresource,
            ..Attributes::of_user(&user, "create")
        };
        for (attributes, secret) in [
            (of("", "secrets", ""), true),
            (of("", "serviceaccounts", "token"), true),
            (of("authentication.k8s.io", "tokenreviews", ""), true),
            (of("", "serviceaccounts", ""), false),
            (of("apps", "secrets", ""), false),
        ] {
            assert_eq!(is_secret(&attributes), secret, "{attributes:?}");
        }
    }
}
