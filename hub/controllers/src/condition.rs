//! `status.conditions`: the list every status has.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::value::{list_at, str_at, time_text};

/// The condition of this type in `status`.
pub fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(status, &["conditions"]).iter().find(|it| str_at(it, &["type"]) == kind)
}

/// The `status` text of a condition, "" without one.
pub fn state<'a>(status: &'a Value, kind: &str) -> &'a str {
    find(status, kind).map_or("", |condition| str_at(condition, &["status"]))
}

/// What a condition is to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition<'a> {
    pub kind: &'a str,
    pub status: &'a str,
    pub reason: &'a str,
    pub message: String,
}

/// Sets a condition unless it says the same; its transition time moves only with its status.
/// `update_time` is the field that moves with every change, if the kind has one.
pub fn set(
    conditions: &mut Vec<Value>,
    new: &Condition<'_>,
    update_time: Option<&str>,
    now: Timestamp,
) -> bool {
    let mut object = json!({
        "type": new.kind, "status": new.status, "reason": new.reason, "message": new.message,
        "lastTransitionTime": time_text(now),
    });
    if let Some(field) = update_time {
        object[field] = json!(time_text(now));
    }
    let place = conditions.iter_mut().find(|it| str_at(it, &["type"]) == new.kind);
    let Some(old) = place else {
        conditions.push(object);
        return true;
    };
    let same_status = str_at(old, &["status"]) == new.status;
    if same_status
        && str_at(old, &["reason"]) == new.reason
        && str_at(old, &["message"]) == new.message
    {
        return false;
    }
    if same_status {
        object["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    *old = object;
    true
}

/// Removes the condition of this type.
pub fn remove(conditions: &mut Vec<Value>, kind: &str) {
    conditions.retain(|it| str_at(it, &["type"]) != kind);
}

/// A copy of the conditions, to be changed.
pub fn list(status: &Value) -> Vec<Value> {
    list_at(status, &["conditions"]).to_vec()
}
