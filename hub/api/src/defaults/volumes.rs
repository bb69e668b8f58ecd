//! Defaults of PersistentVolumes and PersistentVolumeClaims.

use serde_json::{Map, Value, json};

use super::pod;
use crate::object;

/// Fills in a PersistentVolume.
pub fn volume(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    object::default_text(spec, "volumeMode", "Filesystem");
    if let Some(capacity) = spec.get_mut("capacity") {
        pod::resource_list(capacity);
    }
    pod::volume_source(spec);
}

/// Fills in a PersistentVolumeClaim, also one that is the template of a StatefulSet's.
pub fn claim(object: &mut Value) {
    claim_spec(object::ensure(object, "spec"));
}

/// Fills in the spec of a claim.
pub fn claim_spec(spec: &mut Map<String, Value>) {
    object::default_text(spec, "volumeMode", "Filesystem");
    // Kubernetes shows the resources of every claim.
    object::default(spec, "resources", json!({}));
    for key in ["limits", "requests"] {
        if let Some(list) = spec.get_mut("resources").and_then(|it| it.get_mut(key)) {
            pod::resource_list(list);
        }
    }
    same_source(spec);
}

/// Keeps `dataSource` and its successor `dataSourceRef` in step, where the former can say it.
fn same_source(spec: &mut Map<String, Value>) {
    let get = |key: &str| spec.get(key).filter(|it| !it.is_null()).cloned();
    match (get("dataSource"), get("dataSourceRef")) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(source)) if object::text(&source, "namespace").is_empty() => {
            let group = object::text(&source, "apiGroup");
            let kind = object::text(&source, "kind");
            let known = matches!(
                (group, kind),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            );
            if known {
                spec.insert("dataSource".to_owned(), source);
            }
        }
        (None | Some(_), None | Some(_)) => {}
    }
}
