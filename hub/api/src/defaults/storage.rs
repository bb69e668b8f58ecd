//! Defaults of the kinds of `storage.k8s.io`.

use serde_json::{Value, json};

use super::pod;
use crate::object;

/// Fills in a StorageClass.
pub fn storage_class(object: &mut Value) {
    let map = object::as_map(object);
    object::default(map, "reclaimPolicy", "Delete");
    object::default(map, "volumeBindingMode", "Immediate");
}

/// Fills in a CSIDriver.
pub fn csi_driver(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "attachRequired", true);
    object::default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        object::default(spec, field, false);
    }
    let modes = spec.entry("volumeLifecycleModes").or_insert(Value::Null);
    if modes.as_array().is_none_or(Vec::is_empty) {
        *modes = json!(["Persistent"]);
    }
}

/// Fills in a CSINode.
pub fn csi_node(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "drivers", json!([]));
}

/// Writes the sizes of a CSIStorageCapacity as everybody writes them.
pub fn capacity(object: &mut Value) {
    let map = object::as_map(object);
    for field in ["capacity", "maximumVolumeSize"] {
        if let Some(size) = map.get_mut(field) {
            pod::quantity(size);
        }
    }
}
