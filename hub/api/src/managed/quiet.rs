//! The usual case: a writer changes what it manages already, such as the status of a pod over and
//! over. No entry but its own is concerned, and of that only the time. Nothing is read then but what
//! has changed.

use serde_json::Value;

use super::Writer;
use super::entries;
use super::track::stripped;
use super::walk::Comparison;
use crate::object;

/// The stored entries with a new time for the writer's; none if more than that changes.
pub(super) fn entries_after(
    stored: Option<&Value>,
    comparison: &Comparison,
    writer: &Writer<'_>,
) -> Option<Value> {
    let stored = stored?;
    let changed = comparison.changed();
    let gained = stripped(&changed);
    let mut own = None;
    for (index, entry) in stored.as_array()?.iter().enumerate() {
        // Another version has other fields: those must be looked at.
        if object::text(entry, "apiVersion") != writer.api_version {
            return None;
        }
        let fields = entry.get("fieldsV1")?;
        let is_own = object::text(entry, "operation") == "Update"
            && object::text(entry, "manager") == writer.manager
            && object::text(entry, "subresource") == writer.subresource;
        if is_own {
            own = Some(index);
        }
        let is_touched =
            if is_own { !gained.is_covered_by(fields) } else { changed.touches(fields) };
        if is_touched || comparison.removed.touches(fields) {
            return None;
        }
    }
    let mut next = stored.clone();
    if !gained.is_empty() {
        let entry = next.as_array_mut()?.get_mut(own?)?.as_object_mut()?;
        entry.insert("time".to_owned(), Value::from(writer.time));
        entries::sort(next.as_array_mut()?);
    }
    Some(next)
}
