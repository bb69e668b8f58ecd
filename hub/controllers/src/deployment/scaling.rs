//! Scaling a Deployment whose pods are spread over several replica sets.

use std::cmp::Reverse;

use super::arithmetic::share;
use super::rollout::{DESIRED_REPLICAS, MAX_REPLICAS, Rollout, Set};
use crate::value::{int_at, str_at};

/// Whether the Deployment was resized since its active sets were given their sizes.
pub(super) fn is_due(rollout: &Rollout<'_>) -> bool {
    rollout.all().filter(|set| set.replicas > 0).any(|set| {
        set.number(DESIRED_REPLICAS).is_some_and(|desired| desired != rollout.limits.replicas)
    })
}

/// Brings the sizes of all sets to the size of the Deployment, in proportion.
pub(super) fn scale(rollout: &mut Rollout<'_>) {
    if let Some(place) = only_set(rollout) {
        scale_at(rollout, place, rollout.limits.replicas);
    } else if is_saturated(rollout) {
        for place in rollout.active_old() {
            rollout.scale_old(place, 0);
        }
    } else if str_at(rollout.deployment.spec(), &["strategy", "type"]) != "Recreate" {
        scale_in_proportion(rollout);
    }
}

/// A set by its place among the old ones, or the new one.
#[derive(Clone, Copy, Debug)]
enum Place {
    New,
    Old(usize),
}

fn scale_at(rollout: &mut Rollout<'_>, place: Place, replicas: i64) {
    match place {
        Place::New => rollout.scale_new(replicas),
        Place::Old(place) => rollout.scale_old(place, replicas),
    };
}

fn set_at<'a>(rollout: &'a Rollout<'_>, place: Place) -> Option<&'a Set> {
    match place {
        Place::New => rollout.new.as_ref(),
        Place::Old(place) => rollout.old.get(place),
    }
}

fn active(rollout: &Rollout<'_>) -> Vec<Place> {
    let new = rollout.new.iter().filter(|set| set.replicas > 0).map(|_| Place::New);
    new.chain(rollout.active_old().into_iter().map(Place::Old)).collect()
}

/// The one active set; with none active the new one, or else the latest.
fn only_set(rollout: &Rollout<'_>) -> Option<Place> {
    match active(rollout)[..] {
        [] if rollout.new.is_some() => Some(Place::New),
        [] => rollout.old.len().checked_sub(1).map(Place::Old),
        [only] => Some(only),
        _ => None,
    }
}

fn is_saturated(rollout: &Rollout<'_>) -> bool {
    let replicas = rollout.limits.replicas;
    rollout.new.as_ref().is_some_and(|new| {
        new.replicas == replicas
            && new.number(DESIRED_REPLICAS) == Some(replicas)
            && new.status("availableReplicas") == replicas
    })
}

fn scale_in_proportion(rollout: &mut Rollout<'_>) {
    let limits = rollout.limits;
    let mut places = active(rollout);
    let total: i64 = rollout.sum(|set| set.replicas);
    let allowed = if limits.replicas > 0 { limits.max_total() } else { 0 };
    let to_add = allowed - total;
    let order = |place: &Place| {
        let set = set_at(rollout, *place);
        let size = Reverse(set.map_or(0, |set| set.replicas));
        let age = set.and_then(|set| set.created);
        // Growth goes to the newer of equal sets, shrinking to the older.
        (size, if to_add > 0 { (None, Some(Reverse(age))) } else { (Some(age), None) })
    };
    places.sort_by_key(order);
    let mut added = 0;
    let mut sizes = Vec::new();
    for place in &places {
        let Some(set) = set_at(rollout, *place) else { continue };
        let known = set.number(MAX_REPLICAS).filter(|max| *max > 0);
        let before = known.unwrap_or_else(|| int_at(rollout.deployment.status(), &["replicas"]));
        let change = share(limits, set.replicas, before, to_add, added);
        added += change;
        sizes.push(set.replicas + change);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (place, size) in places.into_iter().zip(sizes) {
        scale_at(rollout, place, size);
    }
}
