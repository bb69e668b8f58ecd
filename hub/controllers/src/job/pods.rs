//! The pods that a Job makes, and how long it waits after failures.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::indexes::{INDEX, index_of};
use super::tally::{FINALIZER, index_marks};
use crate::object::{Kind, Object};
use crate::owned::controller_ref;
use crate::value::{at, list_at, object_mut, str_at, time_at};
use crate::world::World;
use crate::write::{Note, Write};

const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(10);
const LAST_DELAY: SignedDuration = SignedDuration::from_secs(600);
/// Doublings after which the wait is the longest for certain.
const MAX_DOUBLINGS: i64 = 10;
/// Longest base of a generated name.
const MAX_BASE: usize = 58;

/// A new pod, for an index if there is one.
pub(super) fn create(job: &Object, index: Option<(i64, Option<i64>)>, world: &World) -> Write {
    let template = at(job.spec(), &["template"]);
    let mut labels = at(template, &["metadata", "labels"]).clone();
    let mut annotations = at(template, &["metadata", "annotations"]).clone();
    let mut spec = at(template, &["spec"]).clone();
    let mut finalizers: Vec<Value> = list_at(template, &["metadata", "finalizers"]).to_vec();
    finalizers.push(json!(FINALIZER));
    let mut base = format!("{}-", job.name.name);
    if let Some((index, failures)) = index {
        let tail = format!("-{index}-");
        let room = MAX_BASE.saturating_sub(tail.len()).min(job.name.name.len());
        base = format!("{}{tail}", job.name.name.get(..room).unwrap_or_default());
        let (more_labels, more_annotations) = index_marks(index, failures);
        add(&mut labels, &more_labels);
        add(&mut annotations, &more_annotations);
        tell_index(&mut spec);
        if str_at(&spec, &["hostname"]).is_empty() {
            spec["hostname"] = json!(format!("{}-{index}", job.name.name));
        }
    }
    let mut metadata = json!({
        "generateName": base,
        "namespace": job.name.namespace,
        "finalizers": finalizers,
        "ownerReferences": [controller_ref(job, world)],
    });
    for (field, value) in [("labels", labels), ("annotations", annotations)] {
        if !value.is_null() {
            metadata[field] = value;
        }
    }
    Write::Create {
        kind: Kind::POD,
        namespace: job.name.namespace.clone(),
        object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
        then: None,
        or_else: None,
    }
    .telling(
        Note::normal(job, world, "SuccessfulCreate", "Created pod: {name}".to_owned()),
        Note::warning(job, world, "FailedCreate", "Error creating: {error}".to_owned()),
    )
}

fn add(map: &mut Value, more: &Value) {
    let fields = object_mut(map);
    for (key, value) in more.as_object().into_iter().flatten() {
        fields.insert(key.clone(), value.clone());
    }
}

/// Tells every container its index.
fn tell_index(spec: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    for field in ["initContainers", "containers"] {
        for container in spec[field].as_array_mut().into_iter().flatten() {
            if list_at(container, &["env"]).iter().any(|it| it["name"] == NAME) {
                continue;
            }
            let path = format!("metadata.labels['{INDEX}']");
            let variable = json!({"name": NAME, "valueFrom": {"fieldRef": {"fieldPath": path}}});
            match container["env"].as_array_mut() {
                Some(list) => list.push(variable),
                None => container["env"] = json!([variable]),
            }
        }
    }
}

/// Deletes a pod, which then counts as failed.
pub(super) fn end(job: &Object, pod: &Object, world: &World) -> Write {
    let name = &pod.name.name;
    Write::delete(pod).telling(
        Note::normal(job, world, "SuccessfulDelete", format!("Deleted pod: {name}")),
        Note::warning(job, world, "FailedDelete", "Error deleting: {error}".to_owned()),
    )
}

/// Lets go of a pod.
pub(super) fn release(pod: &Object) -> Option<Write> {
    if !pod.has_finalizer(FINALIZER) {
        return None;
    }
    let rest: Vec<&str> = pod.finalizers().filter(|it| *it != FINALIZER).collect();
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    Some(Write::patch_exactly(pod, None, json!({"metadata": {"finalizers": rest}})))
}

/// When the next pod may be made: each failure in a row doubles the wait.
pub(super) fn next_start(pods: &[Arc<Object>]) -> Option<Timestamp> {
    let ended = |phase: &'static str| {
        pods.iter()
            .filter(move |pod| str_at(pod.status(), &["phase"]) == phase)
            .filter_map(|pod| finished_at(pod))
    };
    let last_success = ended("Succeeded").max();
    let failures: Vec<Timestamp> =
        ended("Failed").filter(|at| last_success.is_none_or(|it| *at > it)).collect();
    let last = failures.iter().max()?;
    last.checked_add(delay(i64::try_from(failures.len()).unwrap_or(i64::MAX))).ok()
}

/// The same for each index on its own, by how often it has failed.
pub(super) fn next_starts(
    pods: &[Arc<Object>],
    failures: &BTreeMap<i64, i64>,
) -> BTreeMap<i64, Timestamp> {
    let mut last: BTreeMap<i64, Timestamp> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| str_at(pod.status(), &["phase"]) == "Failed") {
        if let (Some(index), Some(at)) = (index_of(pod), finished_at(pod)) {
            let known = last.entry(index).or_insert(at);
            *known = at.max(*known);
        }
    }
    let start = |(index, at): (i64, Timestamp)| {
        let failures = failures.get(&index).copied().unwrap_or(0);
        Some((index, at.checked_add(delay(failures)).ok()?))
    };
    last.into_iter().filter_map(start).collect()
}

fn delay(failures: i64) -> SignedDuration {
    let doublings = failures.saturating_sub(1).clamp(0, MAX_DOUBLINGS);
    (FIRST_DELAY * (1 << doublings)).min(LAST_DELAY)
}

/// When the last container of a pod ended.
pub(super) fn finished_at(pod: &Object) -> Option<Timestamp> {
    let containers = list_at(pod.status(), &["containerStatuses"]).iter();
    let ended = containers.filter_map(|it| time_at(it, &["state", "terminated", "finishedAt"]));
    let ready = crate::condition::find(pod.status(), "Ready");
    ended.max().or_else(|| time_at(ready?, &["lastTransitionTime"]))
}
