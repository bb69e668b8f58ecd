//! The numbers of a rollout: fence posts, surge and shares.

use serde_json::Value;

use crate::value::{at, maybe_int_at, str_at};

/// How far a rollout may stray from the desired number of pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub replicas: i64,
    pub max_surge: i64,
    pub max_unavailable: i64,
}

impl Limits {
    /// Reads a Deployment's spec.
    pub fn of(spec: &Value) -> Self {
        let replicas = maybe_int_at(spec, &["replicas"]).unwrap_or(1);
        if str_at(spec, &["strategy", "type"]) == "Recreate" {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = at(spec, &["strategy", "rollingUpdate"]);
        let max_surge = scaled(at(rolling, &["maxSurge"]), replicas, Rounding::Up);
        let max_unavailable = scaled(at(rolling, &["maxUnavailable"]), replicas, Rounding::Down);
        // With both at zero a rollout could not move at all.
        let max_unavailable = match (max_surge, max_unavailable) {
            (0, 0) => 1,
            (_, max_unavailable) => max_unavailable,
        };
        Self { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
    }

    pub fn min_available(self) -> i64 {
        self.replicas - self.max_unavailable
    }

    pub fn max_total(self) -> i64 {
        self.replicas + self.max_surge
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rounding {
    Down,
    Up,
}

/// A number, or a share such as "25%"; 25% where nothing is said.
fn scaled(value: &Value, total: i64, rounding: Rounding) -> i64 {
    if let Some(number) = value.as_i64() {
        return number;
    }
    let text = value.as_str().unwrap_or("25%");
    let percent: i64 = text.strip_suffix('%').and_then(|it| it.parse().ok()).unwrap_or_default();
    let hundredths = total * percent;
    match rounding {
        Rounding::Down => hundredths / 100,
        Rounding::Up => (hundredths + 99) / 100,
    }
}

/// How many replicas the new set of a rolling update may have now.
pub fn new_set_replicas(limits: Limits, all_sets: i64, new_set: i64) -> i64 {
    let room = limits.max_total() - all_sets;
    if room <= 0 {
        return new_set;
    }
    new_set + room.min(limits.replicas - new_set)
}

/// The part of a scaling by `to_add` that falls to a set of `size`, when the deployment had at most
/// `max_before` pods so far. `added` has been given out to others.
pub fn share(limits: Limits, size: i64, max_before: i64, to_add: i64, added: i64) -> i64 {
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if limits.replicas == 0 {
        -size
    } else {
        rounded_ratio(size * limits.max_total(), max_before.max(1)) - size
    };
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

/// `a / b` rounded half away from zero; both are not negative.
fn rounded_ratio(a: i64, b: i64) -> i64 {
    (2 * a + b) / (2 * b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fence_posts_round_in_favour_of_progress_and_safety() {
        let check = |replicas: i64, surge: Value, unavailable: Value, expect: (i64, i64)| {
            let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            let spec = json!({"replicas": replicas, "strategy": {"rollingUpdate": rolling}});
            let limits = Limits::of(&spec);
            assert_eq!((limits.max_surge, limits.max_unavailable), expect, "{spec}");
        };
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(1, json!("25%"), json!("25%"), (1, 0));
        check(2, json!("25%"), json!("25%"), (1, 0));
        check(4, json!("25%"), json!("25%"), (1, 1));
        check(10, json!(0), json!(0), (0, 1));
        check(10, json!("0%"), json!("5%"), (0, 1));
        check(3, json!("100%"), json!("100%"), (3, 3));
        check(3, json!(1), json!(5), (1, 3));
        check(0, json!("25%"), json!("25%"), (0, 0));
        check(3, Value::Null, Value::Null, (1, 0));
    }

    #[test]
    fn new_set_grows_into_the_room_there_is() {
        let check = |replicas, max_surge, all, new, expect| {
            let limits = Limits { replicas, max_surge, max_unavailable: 0 };
            assert_eq!(new_set_replicas(limits, all, new), expect);
        };
        check(10, 3, 10, 0, 3);
        check(10, 3, 13, 3, 3);
        check(10, 3, 0, 0, 10);
        check(10, 0, 10, 0, 0);
        check(10, 0, 8, 0, 2);
        check(10, 5, 12, 9, 10);
    }

    #[test]
    fn shares_are_proportional() {
        let check = |replicas, size, max_before, to_add, added, expect| {
            let limits = Limits { replicas, max_surge: 0, max_unavailable: 0 };
            assert_eq!(share(limits, size, max_before, to_add, added), expect);
        };
        // 10 -> 20 with two sets of 5.
        check(20, 5, 10, 10, 0, 5);
        check(20, 5, 10, 10, 5, 5);
        // 10 -> 5 with sets of 8 and 2.
        check(5, 8, 10, -5, 0, -4);
        check(5, 2, 10, -5, -4, -1);
        check(0, 7, 10, -10, 0, -7);
        check(20, 0, 10, 10, 0, 0);
    }
}
