//! Pods that wait to be counted by a Job that is gone. Each is looked after on its own.

use jiff::{SignedDuration, Timestamp};

use super::jobs_of;
use super::pods::release;
use super::tally::FINALIZER;
use crate::Plan;
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::world::World;

/// Before it is asked again whether the Job of a pod is known: news is on its way.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_millis(100);

/// Whether a pod waits to be counted and nobody counts it: it has no owner, as when its Job was deleted without it, or
/// its Job is gone, though there may be another of that name.
pub(super) fn is_stray(pod: &Object, world: &World) -> bool {
    let is_owned = pod.controller().filter(|it| it.kind() == "Job").is_some_and(|owner| {
        let job = world.get(Kind::JOB, &Name::new(&pod.name.namespace, owner.name()));
        job.is_some_and(|job| job.uid.0 == owner.uid())
    });
    !is_owned && pod.has_finalizer(FINALIZER)
}

/// Lets a pod go that nobody counts, unless a Job is about to adopt it.
pub(super) fn let_go(key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
    let Some(pod) = world.find(key).filter(|pod| is_stray(pod, world)) else {
        return Plan::default();
    };
    // Its Job may be on its way.
    if world.seen(Kind::JOB).is_none_or(|seen| seen < pod.revision) {
        return Plan::recheck(now + LOOK_AGAIN);
    }
    let adopts = |job: &ObjectRef| world.find(job).is_some_and(|job| !job.is_deleting());
    let is_free = pod.controller().is_none() && !pod.is_deleting();
    if is_free && jobs_of(pod, world).iter().any(adopts) {
        return Plan::default();
    }
    Plan::from(release(pod).into_iter().collect::<Vec<_>>())
}
