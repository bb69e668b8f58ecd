//! Which names of a definition are accepted, and the conditions that tell of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::structural::texts;
use crate::object;
use crate::resource::Resource;
use crate::time;

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    object::list(definition, "status.conditions")
        .iter()
        .any(|it| object::text(it, "type") == condition && object::text(it, "status") == "True")
}

/// Decides about the names of a definition, given all other definitions and the built-in
/// resources, and writes that into its status. Does nothing if everything is as it should be.
pub fn settle(definition: &mut Value, others: &[&Value], builtin: &[Resource], now: Timestamp) {
    let group = object::text(definition, "spec.group").to_owned();
    let taken = Taken::of(&group, object::name(definition), others, builtin);
    let wanted = object::get(definition, "spec.names").cloned().unwrap_or_else(|| json!({}));
    let before = object::get(definition, "status.acceptedNames").cloned();
    let mut accepted = before.unwrap_or_else(|| json!({"plural": "", "kind": ""}));
    let mut conflicts = Vec::new();
    taken.choose(&wanted, &mut accepted, &mut conflicts);
    let status = object::ensure(definition, "status");
    status.insert("acceptedNames".to_owned(), accepted);

    let (condition, is_good) = match conflicts.last() {
        None => (Condition::good("NamesAccepted", "NoConflicts", "no conflicts found"), true),
        Some((reason, message)) => (
            Condition { kind: "NamesAccepted", status: "False", reason, message: message.clone() },
            false,
        ),
    };
    set(definition, &condition, now);
    // Once established it stays so: what is stored must stay within reach.
    if is_true(definition, "Established") {
        return;
    }
    let established = if is_good {
        let message = "the initial names have been accepted";
        Condition::good("Established", "InitialNamesAccepted", message)
    } else {
        Condition {
            kind: "Established",
            status: "False",
            reason: "NotAccepted",
            message: "not all names are accepted".to_owned(),
        }
    };
    set(definition, &established, now);
}

/// A condition of a definition.
#[derive(Clone, Debug)]
pub struct Condition<'a> {
    /// Its type.
    pub kind: &'a str,
    /// `True` or `False`.
    pub status: &'a str,
    /// One word.
    pub reason: &'a str,
    /// A sentence.
    pub message: String,
}

impl<'a> Condition<'a> {
    fn good(kind: &'a str, reason: &'a str, message: &str) -> Self {
        Self { kind, status: "True", reason, message: message.to_owned() }
    }
}

/// Sets a condition; its time moves only with its status.
pub fn set(definition: &mut Value, condition: &Condition<'_>, now: Timestamp) {
    let status = object::ensure(definition, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let found = conditions.iter_mut().find(|it| object::text(it, "type") == condition.kind);
    let mut next = json!({
        "type": condition.kind,
        "status": condition.status,
        "lastTransitionTime": time::format(now),
        "reason": condition.reason,
        "message": condition.message,
    });
    match found {
        Some(old) => {
            if object::text(old, "status") == condition.status {
                next["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = next;
        }
        None => conditions.push(next),
    }
}

/// Names that others have in a group.
#[derive(Debug, Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn of(group: &str, name: &str, others: &[&Value], builtin: &[Resource]) -> Self {
        let mut taken = Self::default();
        let others = others
            .iter()
            .filter(|it| object::text(it, "spec.group") == group && object::name(it) != name);
        for other in others {
            let Some(names) = object::get(other, "status.acceptedNames") else { continue };
            for key in ["plural", "singular"] {
                taken.resources.insert(object::text(names, key).to_owned());
            }
            taken.resources.extend(texts(names.get("shortNames")));
            for key in ["kind", "listKind"] {
                taken.kinds.insert(object::text(names, key).to_owned());
            }
        }
        for row in builtin.iter().filter(|it| it.group == group) {
            taken.resources.extend([row.plural.to_string(), row.singular.to_string()]);
            taken.resources.extend(row.short_names.iter().map(|it| (*it).to_owned()));
            taken.kinds.extend([row.kind.to_string(), row.list_kind()]);
        }
        taken.resources.remove("");
        taken.kinds.remove("");
        taken
    }

    /// Takes each wanted name that is free; tells of those that are not.
    fn choose(
        &self,
        wanted: &Value,
        accepted: &mut Value,
        conflicts: &mut Vec<(&'static str, String)>,
    ) {
        let mut take = |key: &str, free: bool, reason: &'static str, shown: &str| {
            if free {
                match wanted.get(key).filter(|it| !it.is_null()) {
                    Some(value) => accepted[key] = value.clone(),
                    None => {
                        object::as_map(accepted).remove(key);
                    }
                }
            } else {
                conflicts
                    .push((reason, format!("{} is already in use", crate::status::quote(shown))));
            }
        };
        let text = |key: &str| object::text(wanted, key);
        let free = |it: &str| !self.resources.contains(it);
        take("plural", free(text("plural")), "PluralConflict", text("plural"));
        take("singular", free(text("singular")), "SingularConflict", text("singular"));
        let short = texts(wanted.get("shortNames"));
        let clash = short.iter().find(|it| !free(it)).map_or("", String::as_str);
        take("shortNames", clash.is_empty(), "ShortNamesConflict", clash);
        let free = |it: &str| !self.kinds.contains(it);
        take("kind", free(text("kind")), "KindConflict", text("kind"));
        take("listKind", free(text("listKind")), "ListKindConflict", text("listKind"));
        take("categories", true, "", "");
    }
}
