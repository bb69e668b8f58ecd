//! PodSecurity: the Pod Security Standards, as a namespace's labels ask for them.
//!
//! See <https://kubernetes.io/docs/concepts/security/pod-security-standards/>. Nobody is exempt.

mod baseline;
mod restricted;

use std::fmt;

use serde_json::Value;

use crate::object;
use crate::status::FieldError;

/// How strict a standard is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Everything is allowed.
    Privileged,
    /// Known ways to become root on the node are closed.
    Baseline,
    /// Pods are hardened.
    Restricted,
}

/// A standard: its level, as of a minor version of Kubernetes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// How strict it is.
    pub level: Level,
    /// The minor version; `None` is the latest.
    pub minor: Option<u32>,
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policies {
    /// What breaks this is refused.
    pub enforce: Policy,
    /// What breaks this is noted in the audit log.
    pub audit: Policy,
    /// What breaks this is told to the client.
    pub warn: Policy,
}

const PREFIX: &str = "pod-security.kubernetes.io/";
const PRIVILEGED: Policy = Policy { level: Level::Privileged, minor: None };

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policies {
    /// Reads the labels of a namespace. A level that cannot be read is restricted, a version that
    /// cannot be read the latest; the errors say which.
    pub fn of(namespace: &Value) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut read = |mode: &str| {
            let label = |suffix: &str| {
                let key = format!("{PREFIX}{mode}{suffix}");
                object::label(namespace, &key).map(|value| (key, value))
            };
            let mut policy = PRIVILEGED;
            if let Some((key, text)) = label("") {
                policy.level = Level::parse(text).unwrap_or_else(|| {
                    let why = "must be one of privileged, baseline, restricted";
                    errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), text, why));
                    Level::Restricted
                });
            }
            if let Some((key, text)) = label("-version") {
                policy.minor = minor(text).unwrap_or_else(|()| {
                    let why = "must be \"latest\" or \"v1.x\"";
                    errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), text, why));
                    None
                });
            }
            policy
        };
        let (enforce, audit, mut warn) = (read("enforce"), read("audit"), read("warn"));
        // Who enforces and says nothing of warnings is warned of what is enforced.
        if object::label(namespace, "pod-security.kubernetes.io/warn").is_none()
            && enforce.level > warn.level
        {
            warn = enforce;
        }
        (Self { enforce, audit, warn }, errors)
    }

    /// Whether nothing is asked for.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|it| it.level == Level::Privileged)
    }
}

fn minor(text: &str) -> Result<Option<u32>, ()> {
    if text == "latest" {
        return Ok(None);
    }
    let digits = text.strip_prefix("v1.").ok_or(())?;
    let plain = digits == "0" || !digits.starts_with('0');
    if !plain || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return Err(());
    }
    digits.parse().map(Some).map_err(|_| ())
}

/// One thing that a standard forbids, and how a pod does it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Such as `privileged`.
    pub reason: String,
    /// Which parts of the pod do it; empty if there is no more to say.
    pub detail: String,
}

/// What of a pod breaks a policy, as `reason (detail), reason (detail)`; `None` if nothing does.
pub fn evaluate(policy: Policy, metadata: &Value, spec: &Value) -> Option<String> {
    let pod = Pod::new(metadata, spec, policy.minor.unwrap_or(u32::MAX));
    let violations = match policy.level {
        Level::Privileged => return None,
        Level::Baseline => baseline::check(&pod, false),
        Level::Restricted => {
            let mut all = baseline::check(&pod, true);
            all.extend(restricted::check(&pod));
            all
        }
    };
    if violations.is_empty() {
        return None;
    }
    let told: Vec<String> = violations
        .into_iter()
        .map(|it| match it.detail.as_str() {
            "" => it.reason,
            detail => format!("{} ({detail})", it.reason),
        })
        .collect();
    Some(told.join(", "))
}

/// Whether an update of a pod may break what was allowed before: another image, or more
/// containers.
pub fn is_significant(old: &Value, new: &Value) -> bool {
    let spec = |pod: &Value| -> Vec<(String, Value)> {
        super::containers(&pod["spec"], &["initContainers", "containers", "ephemeralContainers"])
            .map(|it| (object::text(it, "image").to_owned(), it["securityContext"].clone()))
            .collect()
    };
    spec(old) != spec(new)
        || object::get(old, "metadata.annotations") != object::get(new, "metadata.annotations")
}

/// A pod as the checks look at it.
struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
    minor: u32,
    containers: Vec<&'a Value>,
}

impl<'a> Pod<'a> {
    fn new(metadata: &'a Value, spec: &'a Value, minor: u32) -> Self {
        let lists = &["initContainers", "containers", "ephemeralContainers"];
        let containers = super::containers(spec, lists).collect();
        Self { metadata, spec, minor, containers }
    }

    /// Whether checks that mean nothing on Windows are left out.
    fn is_windows(&self) -> bool {
        self.minor >= 25 && object::text(self.spec, "os.name") == "windows"
    }

    /// The names of the containers of which something holds.
    fn where_(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        let found = self.containers.iter().filter(|it| holds(it));
        found.map(|it| object::text(it, "name")).collect()
    }
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn plural<'a>(one: &'a str, many: &'a str, n: usize) -> &'a str {
    if n == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|it| format!("\"{}\"", it.as_ref())).collect();
    quoted.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Those who set something: the pod, containers, or both.
fn setters(pod: bool, names: &[&str]) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", containers(names)),
        (false, _) => containers(names),
    }
}
