//! Resources of `events.k8s.io`: the events of the core group, in newer words.

use serde_json::{Map, Value};

use super::{CORE, Row, Version, field};
use crate::object;
use crate::resource::{Conversion, FieldLabel};

pub(super) static ROWS: &[Row] = &[Row {
    group: "events.k8s.io",
    plural: "events",
    singular: "event",
    kind: "Event",
    short_names: &["ev"],
    schema: "io.k8s.api.events.v1.Event",
    field_labels: &[
        field("reason"),
        regarding("regarding.apiVersion", "involvedObject.apiVersion"),
        regarding("regarding.fieldPath", "involvedObject.fieldPath"),
        regarding("regarding.kind", "involvedObject.kind"),
        regarding("regarding.name", "involvedObject.name"),
        regarding("regarding.namespace", "involvedObject.namespace"),
        regarding("regarding.resourceVersion", "involvedObject.resourceVersion"),
        regarding("regarding.uid", "involvedObject.uid"),
        regarding("reportingController", "reportingComponent"),
        field("type"),
    ],
    version_of: Some(Version {
        group: "",
        version: "v1",
        plural: "events",
        conversion: Conversion { show, store },
    }),
    ..CORE
}];

/// What the core group and this one call the same things.
const WORDS: [(&str, &str); 7] = [
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

const fn regarding(label: &'static str, path: &'static str) -> FieldLabel {
    FieldLabel { label, path, absent: "" }
}

fn show(event: &mut Value) {
    let map = object::as_map(event);
    for (core, events) in WORDS {
        rename(map, core, events);
    }
}

fn store(event: &mut Value) {
    let map = object::as_map(event);
    for (core, events) in WORDS {
        rename(map, events, core);
    }
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}
