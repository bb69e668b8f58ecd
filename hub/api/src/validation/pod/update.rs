//! What may change in a pod that exists: little, since it runs already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::same;
use crate::defaults::pod::qos_class;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Places that a refusal names at most.
const MAX_DIFFERENCES: usize = 20;

/// Checks a changed Pod.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let mut errors: Vec<FieldError> = super::mirror_update(new, old).into_iter().collect();
    let (new, old) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        if object::list(new, list).len() != object::list(old, list).len() {
            errors.push(FieldError::forbidden(
                path.field(list),
                format!(
                    "pod updates may not add or remove {}",
                    if list == "containers" { "containers" } else { "init containers" }
                ),
            ));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(deadline(new, old, &path));
    errors.extend(tolerations(new, old, &path));
    errors.extend(gates(new, old, &path));

    let mut munged = new.clone();
    keep(&mut munged, old, &["activeDeadlineSeconds", "tolerations", "schedulingGates"]);
    for list in ["containers", "initContainers"] {
        let before = object::list(old, list);
        for (container, before) in object::items_mut(&mut munged, list).iter_mut().zip(before) {
            keep(container, before, &["image"]);
        }
    }
    if !object::list(old, "schedulingGates").is_empty() {
        // What is not scheduled yet may still be directed, but only to fewer nodes.
        errors.extend(selected(new, old, &path));
        errors.extend(required(new, old, &path));
        keep(&mut munged, old, &["nodeSelector"]);
        keep_node_affinity(&mut munged, old);
    }
    let grace = |it: &Value| object::int(it, "terminationGracePeriodSeconds");
    if grace(old).is_some_and(|it| it < 0) && grace(new) == Some(1) {
        keep(&mut munged, old, &["terminationGracePeriodSeconds"]);
    }
    if !same(&munged, old) {
        let changed = changes(&munged, old, &path);
        errors.push(FieldError::forbidden(
            path,
            format!("pod updates may not change fields other than {UPDATABLE}\n{changed}"),
        ));
    }
    errors
}

/// Checks changed ephemeral containers: they may be added, not changed and not removed.
pub fn ephemeral_containers_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if object::annotation(old, super::MIRROR).is_some() {
        // The node would never hear of it: it runs what its file says.
        return vec![FieldError::forbidden(
            "[]",
            "static pods do not support ephemeral containers",
        )];
    }
    let path = Path::Root.field("spec");
    let at = path.field("ephemeralContainers");
    let mut errors = super::pod(new);
    let list = |it| object::list(it, "spec.ephemeralContainers");
    let after: BTreeMap<&str, &Value> =
        list(new).iter().map(|it| (object::text(it, "name"), it)).collect();
    for before in list(old) {
        let name = object::text(before, "name");
        match after.get(name) {
            None => errors.push(FieldError::forbidden(
                at,
                format!("existing ephemeral containers \"{name}\" may not be removed\n"),
            )),
            Some(after) if !same(after, before) => errors.push(FieldError::forbidden(
                at,
                format!("existing ephemeral containers \"{name}\" may not be changed\n"),
            )),
            Some(_) => {}
        }
    }
    errors
}

/// Checks changed resources of containers: processor and memory may change, the class may not.
pub fn resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let mut errors = super::pod(new);
    if qos_class(new) != qos_class(old) {
        errors.push(FieldError::invalid(
            path,
            qos_class(new),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if object::text(old, "spec.os.name") == "windows" {
        errors.push(FieldError::forbidden(path, "windows pods cannot be resized"));
    }
    if object::annotation(old, "kubernetes.io/config.mirror").is_some() {
        errors.push(FieldError::forbidden("", "static pods cannot be resized"));
    }
    let (mut munged, before) = (new["spec"].clone(), &old["spec"]);
    for list in ["containers", "initContainers"] {
        let at = path.field(list);
        let items = object::items_mut(&mut munged, list).iter_mut();
        for (i, (container, before)) in items.zip(object::list(before, list)).enumerate() {
            let at = at.index(i);
            errors.extend(removed_amounts(container, before, &at.field("resources")));
            let sidecar = object::text(before, "restartPolicy") == "Always";
            if list == "containers" || sidecar {
                keep_amounts(container, before);
            }
        }
    }
    if !same(&munged, before) {
        let changed = changes(&munged, before, &path);
        let why = format!("only cpu and memory resources are mutable\n{changed}");
        errors.push(FieldError::forbidden(path, why));
    }
    errors
}

/// What has a limit keeps one, and so with requests: nobody knows what "none" would be.
fn removed_amounts(new: &Value, old: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (kind, why) in [
        ("limits", "resource limits cannot be removed"),
        ("requests", "resource requests cannot be removed"),
    ] {
        let amounts = |it: &Value| it["resources"].get(kind).cloned().unwrap_or_default();
        let after = amounts(new);
        let removed = |name: &&str| amounts(old).get(*name).is_some() && after.get(*name).is_none();
        if ["cpu", "memory"].iter().any(removed) {
            errors.push(FieldError::forbidden(path.field(kind), why));
        }
    }
    errors
}

fn keep_amounts(new: &mut Value, old: &Value) {
    for kind in ["limits", "requests"] {
        for name in ["cpu", "memory"] {
            let before = old["resources"].get(kind).and_then(|it| it.get(name)).cloned();
            let resources = object::ensure(new, "resources");
            let amounts = object::as_map(resources.entry(kind).or_insert(Value::Null));
            match before {
                Some(before) => amounts.insert(name.to_owned(), before),
                None => amounts.remove(name),
            };
        }
    }
}

fn deadline(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let field = "activeDeadlineSeconds";
    let before = object::int(old, field)?;
    match object::int(new, field) {
        Some(after) if after <= before => None,
        Some(after) => Some(FieldError::invalid(
            path.field(field),
            after,
            "must be less than or equal to previous value",
        )),
        None => Some(FieldError::invalid(
            path.field(field),
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    // Decoded tolerations carry no zero values: equal ones are equal as text.
    let without_seconds = |it: &Value| {
        let mut it = it.clone();
        object::as_map(&mut it).remove("tolerationSeconds");
        it.to_string()
    };
    let after: BTreeSet<String> =
        object::list(new, "tolerations").iter().map(without_seconds).collect();
    let mut before = object::list(old, "tolerations").iter();
    let kept = before.all(|it| after.contains(&without_seconds(it)));
    (!kept).then(|| {
        FieldError::forbidden(
            path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        )
    })
}

fn gates(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let names = |it| object::list(it, "schedulingGates").iter().map(|it| object::text(it, "name"));
    let before: BTreeSet<&str> = names(old).collect();
    let added: Vec<&str> = names(new).filter(|it| !before.contains(it)).collect();
    (!added.is_empty()).then(|| {
        FieldError::forbidden(
            path.field("schedulingGates"),
            format!(
                "only deletion is allowed, but found new scheduling gates '{}'",
                added.join(" ")
            ),
        )
    })
}

/// Checks a changed node selector: it may only become longer (KEP-3838).
fn selected(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let after = &new["nodeSelector"];
    let is_lost = |(key, value): (&String, &Value)| after.get(key) != Some(value);
    object::entries(old, "nodeSelector").any(is_lost).then(|| {
        FieldError::invalid(
            path.field("nodeSelector"),
            after.clone(),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        )
    })
}

/// Checks a changed node affinity: where there were terms, none may come or go, and each may only ask for more (KEP-3838).
/// What is merely preferred may change.
fn required(new: &Value, old: &Value, path: &Path<'_>) -> Vec<FieldError> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = path.field("affinity");
    let affinity = affinity.field("nodeAffinity");
    let selector = affinity.field(REQUIRED);
    let path = selector.field("nodeSelectorTerms");
    let terms = format!("affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    let (before, after) = (object::list(old, &terms), object::list(new, &terms));
    if before.is_empty() {
        return Vec::new();
    }
    if before.len() != after.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return vec![FieldError::invalid(path, after.to_vec(), why)];
    }
    let pairs = after.iter().zip(before).enumerate();
    let changed = pairs.filter(|(_, (after, before))| !asks_for_more(after, before));
    let why = "only additions are allowed (no mutations or deletions)";
    changed.map(|(i, (after, _))| FieldError::invalid(path.index(i), after.clone(), why)).collect()
}

/// Whether a term is another with more behind it. An empty one fits no node: whatever it asks for would fit more.
fn asks_for_more(term: &Value, other: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let is_empty = |term: &Value| lists.iter().all(|it| object::list(term, it).is_empty());
    match is_empty(other) {
        true => is_empty(term),
        false => lists.iter().all(|it| object::list(term, it).starts_with(object::list(other, it))),
    }
}

/// Makes the node affinity the old one, and the whole affinity absent where nothing else is left of it.
fn keep_node_affinity(new: &mut Value, old: &Value) {
    let mut affinity = new["affinity"].clone();
    keep(&mut affinity, &old["affinity"], &["nodeAffinity"]);
    let is_left = !same(&affinity, &Value::Null) || !old["affinity"].is_null();
    let map = object::as_map(new);
    match is_left {
        true => map.insert("affinity".to_owned(), affinity),
        false => map.remove("affinity"),
    };
}

/// Says what changed, a line a place.
pub(in crate::validation) fn changes(new: &Value, old: &Value, path: &Path<'_>) -> String {
    let mut changed = Vec::new();
    differences(new, old, path, &mut changed);
    changed.join("\n")
}

/// Makes the fields of the new value those of the old one.
pub(in crate::validation) fn keep(new: &mut Value, old: &Value, fields: &[&str]) {
    let map = object::as_map(new);
    for field in fields {
        match old.get(*field) {
            Some(value) => map.insert((*field).to_owned(), value.clone()),
            None => map.remove(*field),
        };
    }
}

/// The places that differ.
fn differences(new: &Value, old: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    if out.len() >= MAX_DIFFERENCES || same(new, old) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|it| !a.contains_key(*it))) {
                let (a, b) = (a.get(key), b.get(key));
                let (a, b) = (a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null));
                differences(a, b, &path.field(key), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &path.index(i), out);
            }
        }
        _ => out.push(format!("  {path}: {old} -> {new}")),
    }
}
