//! Disruption: how many pods of a PodDisruptionBudget may be evicted now.
//!
//! Evictions take from `status.disruptionsAllowed` themselves, between two looks of this controller:
//! every status it writes holds for the very revision that it has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::condition;
use crate::object::{Kind, Name, Object, ObjectRef, OwnerRef};
use crate::pods;
use crate::value::{at, int_at, list_at, maybe_int_at, merge_diff, str_at, time_text};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan, selector};

/// How long an evicted pod may take to begin its end.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";
/// Where a version of a definition says where its objects say how many pods they want.
const SPEC_REPLICAS: [&str; 3] = ["subresources", "scale", "specReplicasPath"];

#[derive(Debug)]
pub struct DisruptionController;

impl Controller for DisruptionController {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::BUDGET => change.latest().map(Object::key).into_iter().collect(),
            Kind::POD => {
                let guards = |budget: &&Arc<Object>| change.sides().any(|pod| selects(budget, pod));
                let namespace = change.latest().map_or("", |it| it.name.namespace.as_str());
                world.list_in(Kind::BUDGET, namespace).filter(guards).map(|it| it.key()).collect()
            }
            Kind::DEPLOYMENT
            | Kind::REPLICA_SET
            | Kind::REPLICATION_CONTROLLER
            | Kind::STATEFUL_SET => rescaled(change, &["spec", "replicas"], world),
            Kind::CUSTOM_RESOURCE_DEFINITION => redefined(change, world),
            kind => {
                let namespace = change.latest().map_or("", |it| it.name.namespace.as_str());
                if world.list_in(Kind::BUDGET, namespace).next().is_none() {
                    return Vec::new();
                }
                let path = replicas_path(kind, world);
                path.map(|path| rescaled(change, &path, world)).unwrap_or_default()
            }
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(budget) = world.find(key) else { return Plan::default() };
        let namespace = budget.name.namespace.as_str();
        let guarded: Vec<&Arc<Object>> =
            world.list_in(Kind::POD, namespace).filter(|pod| selects(budget, pod)).collect();
        let mut plan = Plan::default();
        let expected = match expected(budget, &guarded, world) {
            Ok(expected) => expected,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                let reason = "CalculateExpectedPodCountFailed";
                plan.writes.push(Write::Note(Note::warning(budget, world, reason, message)));
                plan.writes.extend(refuse(budget, why, now));
                return plan;
            }
        };
        if guarded.is_empty() {
            let message = "No matching pods found".to_owned();
            plan.writes.push(Write::Note(Note::normal(budget, world, "NoPods", message)));
        }
        let (disrupted, recheck) = disrupted(budget, &guarded, now);
        if let Some(at) = recheck {
            plan.recheck_by(at);
        }
        let is_healthy = |pod: &&&Arc<Object>| {
            !pod.is_deleting() && !disrupted.contains_key(&pod.name.name) && pods::is_ready(pod)
        };
        let healthy = count(guarded.iter().filter(is_healthy).count());
        let status = status(budget, &expected, healthy, disrupted, now);
        if let Some(patch) = merge_diff(budget.status(), &status) {
            plan.writes.push(Write::patch_exactly(
                budget,
                Some("status"),
                json!({"status": patch}),
            ));
        } else {
            // Nothing new, nothing to tell.
            plan.writes.clear();
        }
        plan
    }
}

/// The budgets to wake when somebody may want another number of pods, which is said at `path`.
fn rescaled(change: &Change<'_>, path: &[&str], world: &World) -> Vec<ObjectRef> {
    let replicas = |it: Option<&Object>| it.map(|it| at(it.value(), path).clone());
    if replicas(change.old) == replicas(change.new) {
        return Vec::new();
    }
    let namespace = change.latest().map_or("", |it| it.name.namespace.as_str());
    world.list_in(Kind::BUDGET, namespace).map(|it| it.key()).collect()
}

/// The budgets to wake when a definition says otherwise where the number of pods is found.
fn redefined(change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
    if world.is_empty_of(Kind::BUDGET) {
        return Vec::new();
    }
    let paths = |it: Option<&Object>| -> Vec<String> {
        let versions = it.map(|it| list_at(it.spec(), &["versions"])).unwrap_or_default();
        versions.iter().map(|it| str_at(it, &SPEC_REPLICAS).to_owned()).collect()
    };
    if paths(change.old) == paths(change.new) {
        return Vec::new();
    }
    world.list(Kind::BUDGET).map(|it| it.key()).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn selects(budget: &Object, pod: &Object) -> bool {
    selector::matches(at(budget.spec(), &["selector"]), pod.labels())
}

/// How many pods there should be, and how many of them well.
#[derive(Debug, Default)]
struct Expected {
    pods: i64,
    healthy: i64,
}

fn expected(budget: &Object, guarded: &[&Arc<Object>], world: &World) -> Result<Expected, String> {
    let most = at(budget.spec(), &["maxUnavailable"]);
    let least = at(budget.spec(), &["minAvailable"]);
    if !most.is_null() {
        let pods = scale(guarded, world)?;
        let away = scaled(most, pods);
        return Ok(Expected { pods, healthy: (pods - away).max(0) });
    }
    if let Some(healthy) = least.as_i64() {
        return Ok(Expected { pods: count(guarded.len()), healthy });
    }
    if least.is_null() {
        return Ok(Expected::default());
    }
    let pods = scale(guarded, world)?;
    Ok(Expected { pods, healthy: scaled(least, pods) })
}

/// A count, or a percentage of `total`, rounded up.
fn scaled(value: &Value, total: i64) -> i64 {
    let percent = |text: &str| text.strip_suffix('%')?.parse::<i64>().ok();
    match value.as_str().and_then(percent) {
        Some(percent) => total.saturating_mul(percent).saturating_add(99) / 100,
        None => value.as_i64().unwrap_or_default(),
    }
}

/// How many pods the controllers of these pods want together.
fn scale(guarded: &[&Arc<Object>], world: &World) -> Result<i64, String> {
    let mut scales: BTreeMap<String, i64> = BTreeMap::new();
    for pod in guarded {
        // Pods that nobody manages have no scale: only a number says how many there should be.
        let Some(owner) = pod.controller() else { continue };
        let known = scale_of(owner, &pod.name.namespace, world)?;
        let (uid, replicas) =
            known.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name.name))?;
        scales.insert(uid, replicas);
    }
    Ok(scales.values().sum())
}

/// Who decides how many pods there are, and how many; none if the owner is not there.
fn scale_of(
    owner: OwnerRef<'_>,
    namespace: &str,
    world: &World,
) -> Result<Option<(String, i64)>, String> {
    let Some(row) = world.kind_of_owner(owner) else { return Ok(None) };
    let namespace = if row.namespaced { namespace } else { "" };
    let found = world.get(row.kind, &Name::new(namespace, owner.name()));
    let found = found.filter(|it| it.uid.0 == owner.uid());
    match row.kind {
        Kind::DEPLOYMENT
        | Kind::REPLICA_SET
        | Kind::REPLICATION_CONTROLLER
        | Kind::STATEFUL_SET => Ok(found.map(|it| replicas_of(it, world))),
        kind => {
            let path = replicas_path(kind, world)
                .ok_or_else(|| format!("{kind} does not implement the scale subresource"))?;
            let Some(found) = found else { return Ok(None) };
            let replicas = maybe_int_at(found.value(), &path);
            let why = || format!("the spec replicas field \".{}\" does not exist", path.join("."));
            Ok(Some((found.uid.0.clone(), replicas.ok_or_else(why)?)))
        }
    }
}

/// How many pods a set wants, or the Deployment above it.
fn replicas_of(set: &Object, world: &World) -> (String, i64) {
    let above = set.controller().and_then(|owner| {
        let row = world.kind_of_owner(owner).filter(|row| row.kind == Kind::DEPLOYMENT)?;
        let name = Name::new(&set.name.namespace, owner.name());
        let deployment: &Object = world.get(row.kind, &name)?;
        (deployment.uid.0 == owner.uid()).then_some(deployment)
    });
    let decides = above.unwrap_or(set);
    (decides.uid.0.clone(), maybe_int_at(decides.spec(), &["replicas"]).unwrap_or(1))
}

/// Where objects of a custom kind say how many pods they want, if its definition has the scale subresource: in the
/// version that is known here, which is the stored one.
fn replicas_path(kind: Kind, world: &World) -> Option<Vec<&str>> {
    let row = world.row(kind)?;
    let (_, version) = row.api_version.rsplit_once('/')?;
    let name = Name::cluster(&format!("{}.{}", kind.plural, kind.group));
    let definition = world.get(Kind::CUSTOM_RESOURCE_DEFINITION, &name)?;
    let mut versions = list_at(definition.spec(), &["versions"]).iter();
    let version = versions.find(|it| str_at(it, &["name"]) == version)?;
    let path = str_at(version, &SPEC_REPLICAS).strip_prefix('.')?;
    Some(path.split('.').collect())
}

/// Evicted pods that have not begun to end, and when to look for them again.
fn disrupted(
    budget: &Object,
    guarded: &[&Arc<Object>],
    now: Timestamp,
) -> (Map<String, Value>, Option<Timestamp>) {
    let mut kept = Map::new();
    let mut recheck: Option<Timestamp> = None;
    let listed = at(budget.status(), &["disruptedPods"]);
    for pod in guarded.iter().filter(|pod| !pod.is_deleting()) {
        let Some(since) = listed.get(&pod.name.name) else { continue };
        let evicted: Option<Timestamp> = since.as_str().and_then(|it| it.parse().ok());
        let Some(until) = evicted.and_then(|it| it.checked_add(DELETION_TIMEOUT).ok()) else {
            continue;
        };
        if until >= now {
            recheck = Some(recheck.map_or(until, |it| it.min(until)));
            kept.insert(pod.name.name.clone(), since.clone());
        }
    }
    (kept, recheck)
}

fn status(
    budget: &Object,
    expected: &Expected,
    healthy: i64,
    disrupted: Map<String, Value>,
    now: Timestamp,
) -> Value {
    let allowed = if expected.pods <= 0 { 0 } else { (healthy - expected.healthy).max(0) };
    let mut status = json!({
        "currentHealthy": healthy,
        "desiredHealthy": expected.healthy,
        "disruptionsAllowed": allowed,
        "expectedPods": expected.pods,
        "observedGeneration": budget.generation(),
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = Value::Object(disrupted);
    }
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    status["conditions"] = conditions(budget, state, reason, "", now);
    status
}

/// Allows nothing: nobody knows what would be left.
fn refuse(budget: &Object, why: String, now: Timestamp) -> Option<Write> {
    let mut status = budget.status().clone();
    let fields = crate::value::object_mut(&mut status);
    fields.insert("disruptionsAllowed".to_owned(), json!(0));
    fields.insert("observedGeneration".to_owned(), json!(budget.generation()));
    let conditions = conditions(budget, "False", "SyncFailed", &why, now);
    fields.insert("conditions".to_owned(), conditions);
    let patch = merge_diff(budget.status(), &status)?;
    Some(Write::patch_exactly(budget, Some("status"), json!({"status": patch})))
}

fn conditions(budget: &Object, state: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut conditions = condition::list(budget.status());
    let old = condition::find(budget.status(), ALLOWED);
    let since = old
        .filter(|it| it["status"] == state)
        .map_or_else(|| json!(time_text(now)), |it| it["lastTransitionTime"].clone());
    condition::remove(&mut conditions, ALLOWED);
    conditions.push(json!({
        "type": ALLOWED,
        "status": state,
        "reason": reason,
        "message": message,
        "observedGeneration": int_at(budget.meta(), &["generation"]),
        "lastTransitionTime": since,
    }));
    Value::Array(conditions)
}

#[cfg(test)]
mod tests;
