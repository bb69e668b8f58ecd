//! Entries after a write that is no apply.

use serde_json::Value;

use super::entries::{self, Entries, Manager, Operation, Owned};
use super::quiet;
use super::set::Set;
use super::versions::Versions;
use super::walk::{self, Comparison};
use super::{Writer, set_entries, take_entries};
use crate::object;

/// Sets `metadata.managedFields` of the object that a create, update or patch wants stored. `live`
/// is the stored one, or an empty object of the kind. Entries that `new` brings along replace the
/// stored ones, unless they are malformed, or the write is one of a subresource; an empty list, or one
/// empty entry, is the wish to forget them all.
pub fn track(live: &Value, new: &mut Value, writer: &Writer<'_>, versions: &dyn Versions) {
    let sent = take_entries(new);
    let stored = object::get(live, "metadata.managedFields");
    // An error means entries that cannot be brought up to date: the stored ones are kept.
    let next = next_entries(live, new, sent.as_ref(), writer, versions);
    set_entries(new, next.unwrap_or_else(|_| stored.cloned()));
}

fn next_entries(
    live: &Value,
    new: &Value,
    sent: Option<&Value>,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Option<Value>, String> {
    let stored = object::get(live, "metadata.managedFields");
    let is_main = writer.subresource.is_empty();
    let mut entries = None;
    if is_main && sent != stored {
        entries = match sent {
            Some(sent) if is_reset(sent) => Some(Entries::new()),
            sent => entries::read(sent).ok().filter(|it| !it.is_empty()),
        };
    }
    let model = versions
        .model(writer.api_version)
        .ok_or_else(|| format!("no type for {}", writer.api_version))?;
    let comparison = walk::compare(live, new, model)?.map(|it| writer.scope.filter(it));
    if entries.is_none() && comparison.is_empty() {
        return Ok(stored.cloned());
    }
    if entries.is_none()
        && let Some(same) = quiet::entries_after(stored, &comparison, writer)
    {
        return Ok(Some(same));
    }
    let entries = match entries {
        Some(entries) => entries,
        None => entries::read(stored).unwrap_or_default(),
    };
    // Who was never tracked is not tracked from the middle of its life on.
    if entries.is_empty() && !object::uid(live).is_empty() {
        return Ok(None);
    }
    Ok(entries::write(&after_update(live, new, entries, &comparison, writer, versions)?))
}

/// Whether the list says that all entries are to be forgotten.
fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(serde_json::Map::is_empty),
        Some(_) | None => false,
    }
}

/// The entries after an update: who wrote owns what it changed, and nobody what is gone.
pub(super) fn after_update(
    live: &Value,
    new: &Value,
    entries: Entries,
    comparison: &Comparison,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Entries, String> {
    let entries = reconciled(entries, versions);
    let mut left = Entries::new();
    for (manager, mut owned) in entries {
        let lost = changes_for(&owned, live, new, comparison, writer, versions)?;
        owned.fields = owned.fields.difference(&lost.changed()).difference(&lost.removed);
        if !owned.fields.is_empty() {
            left.insert(manager, owned);
        }
    }
    let gained = stripped(&writer.scope.filter(&comparison.changed()));
    if !gained.is_empty() {
        let manager = Manager::updater(writer.manager, writer.api_version, writer.subresource);
        let before = left.remove(&manager).map(|it| it.fields).unwrap_or_default();
        left.insert(
            manager,
            Owned {
                api_version: writer.api_version.to_owned(),
                fields: before.union(&gained),
                time: Some(writer.time.to_owned()),
            },
        );
    }
    entries::cap(&mut left);
    Ok(left)
}

/// The difference in the words of the version that an entry is in.
pub(super) fn changes_for(
    owned: &Owned,
    live: &Value,
    new: &Value,
    comparison: &Comparison,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Comparison, String> {
    if owned.api_version == writer.api_version {
        return Ok(comparison.clone());
    }
    let Some(model) = versions.model(&owned.api_version) else { return Ok(Comparison::default()) };
    let live = versions.convert(live, &owned.api_version)?;
    let new = versions.convert(new, &owned.api_version)?;
    Ok(walk::compare(&live, &new, model)?.map(|it| writer.scope.filter(it)))
}

/// Entries in line with the types of today; those of versions that are gone are dropped.
pub(super) fn reconciled(entries: Entries, versions: &dyn Versions) -> Entries {
    let mut out = Entries::new();
    for (manager, mut owned) in entries {
        let Some(model) = versions.model(&owned.api_version) else { continue };
        if let Some(fields) = walk::reconcile(&owned.fields, model) {
            owned.fields = fields;
        }
        out.insert(manager, owned);
    }
    out
}

/// Without the fields that the server alone decides.
pub(super) fn stripped(fields: &Set) -> Set {
    static STRIPPED: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| {
        Set::of_fields(&[
            "apiVersion",
            "kind",
            "metadata",
            "metadata.name",
            "metadata.namespace",
            "metadata.creationTimestamp",
            "metadata.selfLink",
            "metadata.uid",
            "metadata.clusterName",
            "metadata.generation",
            "metadata.managedFields",
            "metadata.resourceVersion",
        ])
    });
    fields.difference(&STRIPPED)
}

/// If nothing but times of entries differs from the stored object, takes the stored times: the write
/// changes nothing.
pub fn keep_times(new: &mut Value, stored: &Value) {
    let entries = |it: &Value| -> Option<Vec<Value>> {
        let mut entries = object::get(it, "metadata.managedFields")?.as_array()?.clone();
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        Some(entries)
    };
    let before = object::get(stored, "metadata.managedFields");
    if before.is_none() || object::get(new, "metadata.managedFields") == before {
        return;
    }
    if entries(new) != entries(stored) {
        return;
    }
    let after = take_entries(new);
    set_entries(new, before.cloned());
    if new != stored {
        set_entries(new, after);
    }
}

/// Who is meant by an entry, in messages.
pub(super) fn shown(manager: &Manager) -> String {
    let mut out = crate::status::quote(&manager.name);
    if !manager.subresource.is_empty() {
        let subresource = crate::status::quote(&manager.subresource);
        out.push_str(&format!(" with subresource {subresource}"));
    }
    if manager.operation == Operation::Update {
        out.push_str(&format!(" using {}", manager.api_version));
    }
    out
}
