//! The two ways from an old template to a new one.

use super::arithmetic::new_set_replicas;
use super::rollout::{Rollout, Set};
use crate::object::Kind;
use crate::pods;

/// Never fewer than `replicas - maxUnavailable` available, never more than `replicas + maxSurge`.
///
/// That holds only if every step counts with what the step before has done: there is no next step
/// before each replica set has taken up its last size.
pub(super) fn rolling(rollout: &mut Rollout<'_>) {
    if !rollout.is_settled() {
        rollout.find_revision();
        return;
    }
    let is_created = rollout.new.is_none();
    rollout.ensure_new();
    if !is_created && scale_up(rollout) {
        return;
    }
    scale_down(rollout);
}

/// Everything old goes before anything new comes.
pub(super) fn recreate(rollout: &mut Rollout<'_>) {
    rollout.find_revision();
    let mut is_scaled = false;
    for place in rollout.active_old() {
        is_scaled |= rollout.scale_old(place, 0);
    }
    if is_scaled || has_old_pods(rollout) {
        return;
    }
    rollout.ensure_new();
    rollout.scale_new(rollout.limits.replicas);
}

fn scale_up(rollout: &mut Rollout<'_>) -> bool {
    let Some(new) = &rollout.new else { return false };
    let size = new.replicas;
    let replicas = match size >= rollout.limits.replicas {
        true => rollout.limits.replicas,
        false => new_set_replicas(rollout.limits, rollout.sum(Set::pods), size),
    };
    size != replicas && rollout.scale_new(replicas)
}

fn scale_down(rollout: &mut Rollout<'_>) {
    if rollout.active_old().is_empty() {
        return;
    }
    let min_available = rollout.limits.min_available();
    let new_unavailable = rollout.new.as_ref().map_or(0, |new| new.replicas - new.available());
    let limit = rollout.sum(|set| set.replicas) - min_available - new_unavailable;
    if limit <= 0 {
        return;
    }
    // Pods that do not work anyway go first: they cost no availability.
    let mut left = limit;
    for place in rollout.active_old() {
        let set = &rollout.old[place];
        let removed = (set.replicas - set.available()).min(left);
        if removed > 0 {
            left -= removed;
            rollout.scale_old(place, set_size(rollout, place) - removed);
        }
    }
    let mut left = rollout.sum(|set| set.available()) - min_available;
    for place in rollout.active_old() {
        let removed = set_size(rollout, place).min(left);
        if removed > 0 {
            left -= removed;
            rollout.scale_old(place, set_size(rollout, place) - removed);
        }
    }
}

fn set_size(rollout: &Rollout<'_>, place: usize) -> i64 {
    rollout.old[place].replicas
}

fn has_old_pods(rollout: &Rollout<'_>) -> bool {
    rollout.old.iter().any(|set| {
        let Some(object) = &set.object else { return false };
        let mut pods = rollout.world.managed_by(&object.uid, Kind::POD);
        set.status("replicas") > 0 || pods.any(|pod| !pods::is_finished(pod))
    })
}
