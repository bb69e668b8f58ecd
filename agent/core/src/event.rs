//! Events: what happened, in Kubernetes' reasons, repeated ones counted instead of repeated.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    desired::Role,
    ids::{ContainerName, PodRef, PodUid},
    pod::StopReason,
};

/// Series that are remembered; the oldest is forgotten first.
const MAX_SERIES: usize = 1024;
/// Events of one pod that may come at once; more are only counted.
const BURST: u32 = 25;
/// One more event of a pod is allowed each time this passes.
const REFILL: SignedDuration = SignedDuration::from_secs(60);
/// A repetition within this time is counted and not sent.
const QUIET: SignedDuration = SignedDuration::from_secs(10);
/// The API's limit.
const MAX_MESSAGE: usize = 1024;
/// Who speaks. Clients look for this word.
const COMPONENT: &str = "kubelet";

/// Whether an event is as it should be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    Pod { uid: PodUid, pod: PodRef, container: Option<(ContainerName, Role)> },
    Node { name: String },
}

impl Subject {
    /// A container of a pod; its role says which list it stands in.
    pub fn container(uid: PodUid, pod: &PodRef, name: &ContainerName, role: Role) -> Self {
        Self::Pod { uid, pod: pod.clone(), container: Some((name.clone(), role)) }
    }

    fn to_reference(&self) -> Value {
        match self {
            Self::Pod { uid, pod, container } => {
                let mut reference = json!({
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": pod.namespace,
                    "name": pod.name,
                    "uid": uid.to_string(),
                });
                if let Some((name, role)) = container {
                    let list = role.list();
                    reference["fieldPath"] = json!(format!("spec.{list}{{{name}}}"));
                }
                reference
            }
            Self::Node { name } => {
                json!({"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"})
            }
        }
    }

    fn namespace(&self) -> &str {
        match self {
            Self::Pod { pod, .. } => &pod.namespace,
            Self::Node { .. } => "default",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Pod { pod, .. } => &pod.name,
            Self::Node { name } => name,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Happening {
    pub subject: Subject,
    pub severity: Severity,
    pub reason: Cow<'static, str>,
    pub message: String,
}

struct Series {
    name: String,
    first: Timestamp,
    sent: Timestamp,
    count: u32,
}

struct Allowance {
    left: u32,
    since: Timestamp,
}

/// Turns happenings into Event objects.
pub struct Recorder {
    node: String,
    series: BTreeMap<Happening, Series>,
    allowances: BTreeMap<String, Allowance>,
    last_name: i128,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("n_series", &self.series.len()).finish_non_exhaustive()
    }
}

impl Recorder {
    pub fn new(node: String) -> Self {
        Self { node, series: BTreeMap::new(), allowances: BTreeMap::new(), last_name: 0 }
    }

    /// The Event to send, if there is one: a new one, or a known one with a higher count and the
    /// same name.
    pub fn record(&mut self, happening: Happening, now: Timestamp) -> Option<Value> {
        let known = self.series.get_mut(&happening);
        let (name, first, count) = match known {
            Some(series) => {
                series.count = series.count.saturating_add(1);
                if !passed(series.sent, QUIET, now) {
                    return None;
                }
                series.sent = now;
                (series.name.clone(), series.first, series.count)
            }
            None => {
                if !self.allow(&happening.subject, now) {
                    return None;
                }
                let name = self.fresh_name(&happening.subject, now);
                self.forget_oldest();
                let series = Series { name: name.clone(), first: now, sent: now, count: 1 };
                self.series.insert(happening.clone(), series);
                (name, now, 1)
            }
        };
        Some(self.to_object(&happening, &name, first, now, count))
    }

    fn allow(&mut self, subject: &Subject, now: Timestamp) -> bool {
        let key = format!("{}/{}", subject.namespace(), subject.name());
        if self.allowances.len() >= MAX_SERIES {
            self.allowances.clear();
        }
        let allowance = self.allowances.entry(key).or_insert(Allowance { left: BURST, since: now });
        while allowance.left < BURST && passed(allowance.since, REFILL, now) {
            allowance.left += 1;
            allowance.since = allowance.since.checked_add(REFILL).unwrap_or(now).min(now);
        }
        if allowance.left == BURST {
            allowance.since = now;
        }
        allowance.left = match allowance.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }

    /// `NAME.HEX`, unique among the events of this node.
    fn fresh_name(&mut self, subject: &Subject, now: Timestamp) -> String {
        self.last_name = now.as_nanosecond().max(self.last_name + 1);
        format!("{}.{:x}", subject.name(), self.last_name)
    }

    fn forget_oldest(&mut self) {
        if self.series.len() < MAX_SERIES {
            return;
        }
        let oldest = self.series.iter().min_by_key(|(_, it)| it.sent).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.series.remove(&key);
        }
    }

    fn to_object(
        &self,
        happening: &Happening,
        name: &str,
        first: Timestamp,
        last: Timestamp,
        count: u32,
    ) -> Value {
        let Happening { subject, severity, reason, message } = happening;
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": subject.namespace()},
            "involvedObject": subject.to_reference(),
            "reason": reason,
            "message": message,
            "type": severity.as_str(),
            "source": {"component": COMPONENT, "host": self.node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self.node,
            "firstTimestamp": seconds(first),
            "lastTimestamp": seconds(last),
            "count": count,
        })
    }
}

/// Whether this much time passed; also if the clock was set back, for then nobody knows.
fn passed(since: Timestamp, time: SignedDuration, now: Timestamp) -> bool {
    let elapsed = now.duration_since(since);
    elapsed.is_negative() || elapsed >= time
}

/// Kubernetes' text form of a time.
pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The message of a `Killing` event.
pub fn killing_message(container: &ContainerName, reason: &StopReason) -> String {
    match reason {
        StopReason::Teardown | StopReason::SandboxChanged => {
            format!("Stopping container {container}")
        }
        StopReason::ImageChanged => {
            format!("Container {container} definition changed, will be restarted")
        }
        StopReason::Unhealthy { probe } => {
            format!("Container {container} failed {probe} probe, will be restarted")
        }
        StopReason::PostStartHook { .. } => "FailedPostStartHook".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(message: &str) -> Happening {
        let subject = Subject::container(
            "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e".parse().unwrap(),
            &PodRef { namespace: "ns".to_owned(), name: "p".to_owned() },
            &"web".parse().unwrap(),
            Role::Main,
        );
        let message = message.to_owned();
        Happening { subject, severity: Severity::Normal, reason: "Started".into(), message }
    }

    #[test]
    fn repetitions_are_counted_under_one_name() {
        let mut recorder = Recorder::new("n1".to_owned());
        let at = |secs: i64| Timestamp::from_second(1_000 + secs).unwrap();
        let first = recorder.record(happening("a"), at(0)).unwrap();
        assert_eq!(first["involvedObject"]["fieldPath"], "spec.containers{web}");
        assert_eq!(first["firstTimestamp"], "1970-01-01T00:16:40Z");
        assert_eq!(recorder.record(happening("a"), at(1)), None);
        let third = recorder.record(happening("a"), at(20)).unwrap();
        assert_eq!(third["count"], 3);
        assert_eq!(third["metadata"]["name"], first["metadata"]["name"]);
        let other = recorder.record(happening("b"), at(20)).unwrap();
        assert_ne!(other["metadata"]["name"], first["metadata"]["name"]);
    }

    #[test]
    fn a_clock_set_back_silences_nobody() {
        let mut recorder = Recorder::new("n1".to_owned());
        let at = |secs: i64| Timestamp::from_second(secs).unwrap();
        for n in 0..BURST {
            assert!(recorder.record(happening(&n.to_string()), at(1_000_000)).is_some());
        }
        assert_eq!(recorder.record(happening("more"), at(1_000_000)), None);
        // Known ones are counted and sent again, and new ones are allowed as time goes on from here.
        assert_eq!(recorder.record(happening("0"), at(1_000)).unwrap()["count"], 2);
        assert_eq!(recorder.record(happening("0"), at(1_001)), None);
        assert!(recorder.record(happening("more"), at(1_000)).is_some());
        assert_eq!(recorder.record(happening("still more"), at(1_001)), None);
        assert!(recorder.record(happening("still more"), at(1_060)).is_some());
    }

    #[test]
    fn a_noisy_pod_is_held_back() {
        let mut recorder = Recorder::new("n1".to_owned());
        let now = Timestamp::from_second(1_000).unwrap();
        let sent = (0..100).filter(|n| recorder.record(happening(&n.to_string()), now).is_some());
        assert_eq!(u32::try_from(sent.count()), Ok(BURST));
    }
}
