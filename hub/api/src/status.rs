//! `metav1.Status`: how every refusal and every bodiless success is told to a client.
//! Messages are compared by clients and tests, therefore they stay word for word Kubernetes'.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

mod field;

pub use field::{FieldError, FieldErrorKind};

/// Causes that an answer tells at most: a large object can break a rule in each of its lines.
const MAX_CAUSES: usize = 500;

/// A failed (or bodiless successful) operation, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP code. Below 400 the status is a `Success`.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty for a success.
    pub reason: Cow<'static, str>,
    /// The human-readable message.
    pub message: String,
    /// What the operation was about, where there is more to say.
    pub details: Option<Box<Details>>,
    /// A fresh continue token, for an expired list.
    pub continue_token: Option<Box<str>>,
}

/// The `details` of a [`Status`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group, empty for core.
    pub group: String,
    /// Plural resource name or kind, as Kubernetes does for each reason.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// One entry for each thing that is wrong.
    pub causes: Vec<Cause>,
    /// When to try again.
    pub retry_after_seconds: Option<u32>,
}

/// One of the things that are wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    pub reason: Cow<'static, str>,
    /// Human-readable.
    pub message: String,
    /// Path of the field, empty if none.
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    /// Adds details, replacing any.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds a fresh continue token, for clients whose list expired.
    #[must_use]
    pub fn with_continue(mut self, token: &str) -> Self {
        self.continue_token = Some(token.into());
        self
    }

    /// The object does not exist.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let what = qualified(plural, group);
        Self::new(404, "NotFound", format!("{what} {} not found", quote(name)))
            .with_details(about(group, plural, name))
    }

    /// There is no such resource.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// An object of that name exists.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let what = qualified(plural, group);
        Self::new(409, "AlreadyExists", format!("{what} {} already exists", quote(name)))
            .with_details(about(group, plural, name))
    }

    /// The write met another one, or a precondition failed.
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(plural, group);
        let name_quoted = quote(name);
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {what} {name_quoted}: {why}"),
        )
        .with_details(about(group, plural, name))
    }

    /// The resourceVersion of the write is not the stored one.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    /// The object breaks rules; `kind` is the kind, not the plural.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut errors = errors;
        errors.truncate(MAX_CAUSES);
        let mut seen = BTreeSet::new();
        let mut messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        messages.retain(|it| seen.insert(it.clone()));
        let why = match messages.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let what = qualified(kind, group);
        let message = if why.is_empty() {
            format!("{what} {} is invalid", quote(name))
        } else {
            format!("{what} {} is invalid: {why}", quote(name))
        };
        let mut details = about(group, kind, name);
        details.causes = errors.iter().map(FieldError::to_cause).collect();
        Self::new(422, "Invalid", message).with_details(details)
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Nobody is known to have sent the request.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The sender may not do that. `why` says what is forbidden:
    /// `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(plural, group);
        let message = match (plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {} is forbidden: {why}", quote(name)),
        };
        Self::new(403, "Forbidden", message).with_details(about(group, plural, name))
    }

    /// The path exists, the method does not.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(Details::default())
    }

    /// The resource lacks the verb.
    pub fn method_not_supported(group: &str, plural: &str, verb: &str) -> Self {
        let what = qualified(plural, group);
        let message = format!("{verb} is not supported on resources of kind {}", quote(&what));
        Self::new(405, "MethodNotAllowed", message).with_details(about(group, plural, ""))
    }

    /// None of the media types that the client accepts can be made.
    pub fn not_acceptable() -> Self {
        Self::new(406, "NotAcceptable", "406: Not Acceptable").with_details(Details::default())
    }

    /// The body's media type is none of those listed.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {list}"
            ),
        )
    }

    /// The route takes no such media type at all.
    pub fn unsupported_media_type_for_route() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
            .with_details(Details::default())
    }

    /// History does not reach back that far.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The wanted resourceVersion lies in the future.
    pub fn timeout_rv_too_large(wanted: u64, current: u64) -> Self {
        Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {wanted}, current: {current}"),
        )
        .with_details(Details {
            causes: vec![Cause {
                reason: Cow::Borrowed("ResourceVersionTooLarge"),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }],
            retry_after_seconds: Some(1),
            ..Details::default()
        })
    }

    /// The request took too long.
    pub fn timeout(message: &str) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).with_details(Details::default())
    }

    /// The body is larger than a request may be.
    pub fn request_entity_too_large(message: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity is too large: {message}"))
    }

    /// Come again later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_details(Details {
            retry_after_seconds: Some(retry_after_seconds),
            ..Details::default()
        })
    }

    /// Something of ours broke.
    pub fn internal(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self::new(500, "InternalError", format!("Internal error occurred: {message}")).with_details(
            Details {
                causes: vec![Cause { reason: Cow::Borrowed(""), message, field: String::new() }],
                ..Details::default()
            },
        )
    }

    /// An error that the real server has no reason for: it tells the bare message.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// Something that is needed is away.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The object is gone.
    pub fn success_deleted(group: &str, plural: &str, name: &str, uid: &str) -> Self {
        let mut details = about(group, plural, name);
        uid.clone_into(&mut details.uid);
        Self::new(200, "", "").with_details(details)
    }

    /// Done, and nothing more to say (bindings, evictions).
    pub fn success(code: u16) -> Self {
        Self::new(code, "", "")
    }

    /// Whether this tells of a success.
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// Whether the server cannot do it now, for reasons of its own: the same request may succeed later. It may also have
    /// been done.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, 429 | 503 | 504)
    }

    /// The JSON form, `kind: Status`.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        let mut out = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": if self.is_success() { "Success" } else { "Failure" },
        });
        if !self.message.is_empty() {
            out["message"] = json!(self.message);
        }
        if !self.reason.is_empty() {
            out["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            out["details"] = details.to_value();
        }
        // A success tells its code only where there is nothing else to tell.
        if !self.is_success() || self.details.is_none() {
            out["code"] = json!(self.code);
        }
        out
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                out.insert(key.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            out.insert("causes".to_owned(), Value::Array(causes));
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in
            [("reason", &*self.reason), ("message", &self.message), ("field", &self.field)]
        {
            if !text.is_empty() {
                out.insert(key.to_owned(), json!(text));
            }
        }
        Value::Object(out)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `deployments.apps`, or the bare word for core.
fn qualified(word: &str, group: &str) -> String {
    if group.is_empty() { word.to_owned() } else { format!("{word}.{group}") }
}

fn about(group: &str, kind: &str, name: &str) -> Details {
    Details {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        ..Details::default()
    }
}

/// Quotes as Go's `%q` does.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() && u32::from(c) < 0x80 => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
