//! Taints and tolerations, as far as they make pods leave a node.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::object::Object;
use crate::value::{list_at, maybe_int_at, str_at, time_at};

/// When a pod has to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leave {
    Never,
    At(Timestamp),
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let effect = str_at(toleration, &["effect"]);
    let key = str_at(toleration, &["key"]);
    let is_covered = (effect.is_empty() || effect == str_at(taint, &["effect"]))
        && (key.is_empty() || key == str_at(taint, &["key"]));
    is_covered
        && match str_at(toleration, &["operator"]) {
            "Exists" => true,
            "" | "Equal" => str_at(toleration, &["value"]) == str_at(taint, &["value"]),
            _ => false,
        }
}

/// When `pod` has to leave a node with these taints. Taints without a time have just come.
pub fn leave(pod: &Object, taints: &[Value], now: Timestamp) -> Leave {
    let tolerations = list_at(pod.spec(), &["tolerations"]);
    let mut leave = Leave::Never;
    for taint in taints.iter().filter(|taint| str_at(taint, &["effect"]) == "NoExecute") {
        let mut covering = tolerations.iter().filter(|it| tolerates(it, taint)).peekable();
        if covering.peek().is_none() {
            return Leave::At(now);
        }
        let since = time_at(taint, &["timeAdded"]).unwrap_or(now);
        let seconds = covering.filter_map(|it| maybe_int_at(it, &["tolerationSeconds"])).min();
        let Some(seconds) = seconds else { continue };
        let patience = SignedDuration::from_secs(seconds.max(0));
        let at = since.checked_add(patience).unwrap_or(Timestamp::MAX);
        leave = match leave {
            Leave::Never => Leave::At(at),
            Leave::At(earlier) => Leave::At(earlier.min(at)),
        };
    }
    leave
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Kind;

    #[test]
    fn pods_leave_when_their_patience_ends() {
        let now: Timestamp = "2026-11-20T08:01:00Z".parse().unwrap();
        let taints = [
            json!({"key": "a", "effect": "NoExecute", "timeAdded": "2026-11-20T08:00:00Z"}),
            json!({"key": "b", "effect": "NoSchedule"}),
        ];
        let check = |tolerations: Value, expect: Leave| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"tolerations": tolerations}});
            let pod = Object::from_value(Kind::POD, pod);
            assert_eq!(leave(&pod, &taints, now), expect, "{:?}", pod.value());
        };
        let at = |text: &str| Leave::At(text.parse().unwrap());
        check(json!([]), Leave::At(now));
        check(json!([{"key": "a", "operator": "Exists"}]), Leave::Never);
        check(json!([{"operator": "Exists"}]), Leave::Never);
        check(json!([{"key": "a", "value": "x"}]), Leave::At(now));
        check(json!([{"key": "a", "effect": "NoSchedule", "operator": "Exists"}]), Leave::At(now));
        check(
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]),
            at("2026-11-20T08:05:00Z"),
        );
    }
}
