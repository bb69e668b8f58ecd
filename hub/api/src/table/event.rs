//! Events of both API groups, whose fields have different names.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, number, text};

pub(super) fn last_seen(event: &Value, now: Timestamp) -> Value {
    let places = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/firstTimestamp",
        "/deprecatedFirstTimestamp",
        "/eventTime",
    ];
    age(first(event, &places), now).into()
}

pub(super) fn first_seen(event: &Value, now: Timestamp) -> Value {
    let places = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"];
    age(first(event, &places), now).into()
}

pub(super) fn object(event: &Value) -> Value {
    let kind = involved(event, "kind").to_lowercase();
    match involved(event, "name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub(super) fn subobject(event: &Value) -> Value {
    involved(event, "fieldPath").into()
}

pub(super) fn source(event: &Value) -> Value {
    let component = first_text(
        event,
        &[
            "/source/component",
            "/deprecatedSource/component",
            "/reportingComponent",
            "/reportingController",
        ],
    );
    let places = ["/source/host", "/deprecatedSource/host", "/reportingInstance"];
    match first_text(event, &places) {
        "" => component.into(),
        instance => format!("{component}, {instance}").into(),
    }
}

pub(super) fn message(event: &Value) -> Value {
    first_text(event, &["/message", "/note"]).trim().into()
}

pub(super) fn count(event: &Value) -> Value {
    let counts = ["/series/count", "/count", "/deprecatedCount"].map(|it| number(event, it));
    // An event without a count happened once.
    counts.into_iter().find(|it| *it != 0).unwrap_or(1).into()
}

fn involved<'a>(event: &'a Value, field: &str) -> &'a str {
    let object = ["involvedObject", "regarding"].into_iter().find_map(|it| event.get(it));
    object.and_then(|it| it.get(field)).and_then(Value::as_str).unwrap_or_default()
}

fn first<'a>(event: &'a Value, places: &[&str]) -> Option<&'a Value> {
    places.iter().find_map(|it| event.pointer(it).filter(|it| !it.is_null()))
}

fn first_text<'a>(event: &'a Value, places: &[&str]) -> &'a str {
    places.iter().map(|it| text(event, it)).find(|it| !it.is_empty()).unwrap_or_default()
}
