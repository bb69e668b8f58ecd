//! One pod of a StatefulSet, with its claims.

use serde_json::{Value, json};

use super::claims;
use crate::history::HASH;
use crate::object::{Kind, Name, Object};
use crate::owned::controller_ref;
use crate::value::{at, list_at, object_mut, str_at};
use crate::world::World;
use crate::write::{Note, Write};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in the name of a pod, if it is one of the set's names.
pub(super) fn ordinal(set: &Object, pod: &Object) -> Option<i64> {
    let number = pod.name.name.strip_prefix(&set.name.name)?.strip_prefix('-')?;
    let is_plain =
        number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    number.parse().ok().filter(|_| is_plain)
}

/// A count of at least one, or a percentage of `total`, rounded down; one where nothing is said.
pub(super) fn scaled(value: &Value, total: i64) -> i64 {
    let percent = |text: &str| text.strip_suffix('%')?.parse::<i64>().ok();
    let number = match value.as_str().and_then(percent) {
        Some(percent) => total.saturating_mul(percent) / 100,
        None => value.as_i64().unwrap_or(1),
    };
    number.max(1)
}

/// A new pod of this revision.
pub(super) fn pod(
    set: &Object,
    ordinal: i64,
    revision: &str,
    template: &Value,
    world: &World,
) -> Write {
    let name = format!("{}-{ordinal}", set.name.name);
    let mut labels = at(template, &["metadata", "labels"]).clone();
    let fields = object_mut(&mut labels);
    for (key, value) in
        [(POD_NAME, name.clone()), (POD_INDEX, ordinal.to_string()), (HASH, revision.to_owned())]
    {
        fields.insert(key.to_owned(), json!(value));
    }
    let mut metadata = json!({
        "name": name,
        "generateName": format!("{}-", set.name.name),
        "namespace": set.name.namespace,
        "labels": labels,
        "ownerReferences": [controller_ref(set, world)],
    });
    for field in ["annotations", "finalizers"] {
        let value = at(template, &["metadata", field]);
        if !value.is_null() {
            metadata[field] = value.clone();
        }
    }
    let mut spec = at(template, &["spec"]).clone();
    spec["hostname"] = json!(name);
    let service = str_at(set.spec(), &["serviceName"]);
    if !service.is_empty() {
        spec["subdomain"] = json!(service);
    }
    mount_claims(set, ordinal, &mut spec);
    let told = |word: &str| format!("create Pod {name} in StatefulSet {} {word}", set.name.name);
    Write::Create {
        kind: Kind::POD,
        namespace: set.name.namespace.clone(),
        object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
        then: None,
        or_else: None,
    }
    .telling(
        Note::normal(set, world, "SuccessfulCreate", told("successful")),
        Note::warning(set, world, "FailedCreate", told("failed error: {error}")),
    )
}

/// A volume of a claim takes the place of one of the same name in the template.
fn mount_claims(set: &Object, ordinal: i64, spec: &mut Value) {
    let mut volumes: Vec<Value> = Vec::new();
    for (template, claim) in claims(set, ordinal) {
        let name = str_at(template, &["metadata", "name"]);
        let source = json!({"claimName": claim, "readOnly": false});
        volumes.push(json!({"name": name, "persistentVolumeClaim": source}));
    }
    if volumes.is_empty() {
        return;
    }
    let names: Vec<Value> = volumes.iter().map(|it| it["name"].clone()).collect();
    let others = list_at(spec, &["volumes"]).iter().filter(|it| !names.contains(&it["name"]));
    volumes.extend(others.cloned());
    spec["volumes"] = json!(volumes);
}

/// Claims of a pod that are not there.
pub(super) fn missing_claims(set: &Object, ordinal: i64, world: &World) -> Vec<Write> {
    let namespace = set.name.namespace.as_str();
    claims(set, ordinal)
        .filter(|(_, name)| world.get(Kind::VOLUME_CLAIM, &Name::new(namespace, name)).is_none())
        .map(|(template, name)| claim(set, ordinal, template, &name, world))
        .collect()
}

fn claim(set: &Object, ordinal: i64, template: &Value, name: &str, world: &World) -> Write {
    let mut labels = at(template, &["metadata", "labels"]).clone();
    let fields = object_mut(&mut labels);
    let wanted = at(set.spec(), &["selector", "matchLabels"]).as_object();
    for (key, value) in wanted.into_iter().flatten() {
        fields.insert(key.clone(), value.clone());
    }
    let mut metadata = json!({"name": name, "namespace": set.name.namespace, "labels": labels});
    let annotations = at(template, &["metadata", "annotations"]);
    if !annotations.is_null() {
        metadata["annotations"] = annotations.clone();
    }
    if retention(set, "whenDeleted") == "Delete" {
        metadata["ownerReferences"] = json!([controller_ref(set, world)]);
    }
    let told = |word: &str| {
        format!("create Claim {name} Pod {0}-{ordinal} in StatefulSet {0} {word}", set.name.name)
    };
    Write::Create {
        kind: Kind::VOLUME_CLAIM,
        namespace: set.name.namespace.clone(),
        object: json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
            "spec": at(template, &["spec"]),
        }),
        then: None,
        or_else: None,
    }
    .telling(
        Note::normal(set, world, "SuccessfulCreate", told("success")),
        Note::warning(set, world, "FailedCreate", told("failed error: {error}")),
    )
}

fn retention<'a>(set: &'a Object, when: &str) -> &'a str {
    str_at(set.spec(), &["persistentVolumeClaimRetentionPolicy", when])
}

/// Lets the claims of a pod that is scaled away go with it, where that is wanted.
pub(super) fn let_claims_go(set: &Object, ordinal: i64, pod: &Object, world: &World) -> Vec<Write> {
    if retention(set, "whenScaled") != "Delete" {
        return Vec::new();
    }
    let owner = json!({
        "apiVersion": "v1", "kind": "Pod", "name": pod.name.name, "uid": pod.uid.0,
    });
    let mut writes = Vec::new();
    for (_, name) in claims(set, ordinal) {
        let key = Name::new(&set.name.namespace, &name);
        let Some(claim) = world.get(Kind::VOLUME_CLAIM, &key) else { continue };
        if claim.owners().any(|it| it.uid() == pod.uid.0) {
            continue;
        }
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        writes.push(Write::patch_exactly(claim, None, patch));
    }
    writes
}
