//! Defaults of volumes.

use serde_json::{Map, Value, json};

use super::super::volumes;
use super::container::{field_ref, pull_policy};
use crate::object;

/// `0644`, as JSON writes it.
const MODE: i64 = 0o644;

pub(super) fn default(volume: &mut Value) {
    let map = object::as_map(volume);
    if map.iter().all(|(key, value)| key == "name" || value.is_null()) {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = map.get_mut(key) {
            object::default(object::as_map(source), "defaultMode", MODE);
        }
    }
    if let Some(source) = map.get_mut("downwardAPI") {
        object::items_mut(source, "items").iter_mut().for_each(field_ref);
    }
    source(map);
    if let Some(source) = map.get_mut("image") {
        let reference = object::text(source, "reference").to_owned();
        let policy = pull_policy(&reference);
        object::default_text(object::as_map(source), "pullPolicy", policy);
    }
    if let Some(claim) = map.get_mut("ephemeral").and_then(|it| it.get_mut("volumeClaimTemplate")) {
        let spec = object::ensure(claim, "spec");
        volumes::claim_spec(spec);
    }
    if let Some(projected) = map.get_mut("projected") {
        for source in object::items_mut(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                object::default(object::as_map(token), "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                object::items_mut(downward, "items").iter_mut().for_each(field_ref);
            }
        }
    }
}

/// Sources that pods and PersistentVolumes share.
pub(super) fn source(map: &mut Map<String, Value>) {
    const TEXTS: [(&str, &[(&str, &str)]); 4] = [
        ("iscsi", &[("iscsiInterface", "default")]),
        ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
        ("azureDisk", &[("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")]),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (kind, texts) in TEXTS {
        if let Some(source) = map.get_mut(kind).filter(|it| !it.is_null()) {
            for (field, text) in texts {
                object::default_text(object::as_map(source), field, text);
            }
        }
    }
    if let Some(source) = map.get_mut("azureDisk").filter(|it| !it.is_null()) {
        object::default(object::as_map(source), "readOnly", false);
    }
    if let Some(source) = map.get_mut("hostPath").filter(|it| !it.is_null()) {
        object::default(object::as_map(source), "type", "");
    }
}
