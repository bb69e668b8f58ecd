//! Strategies of `storage.k8s.io`.

use serde_json::{Value, json};

use super::Rules;
use crate::defaults::storage as defaults;
use crate::object;
use crate::validation::storage;

/// CSIDrivers.
pub static CSI_DRIVER: Rules = Rules {
    default: defaults::csi_driver,
    prepare_update: count_changes,
    validate: storage::csi_driver,
    validate_update: storage::csi_driver_update,
    ..Rules::PLAIN
};

/// CSINodes.
pub static CSI_NODE: Rules = Rules {
    default: defaults::csi_node,
    validate: storage::csi_node,
    validate_update: storage::csi_node_update,
    ..Rules::PLAIN
};

/// CSIStorageCapacities.
pub static CSI_STORAGE_CAPACITY: Rules = Rules {
    default: defaults::capacity,
    validate: storage::capacity,
    validate_update: storage::capacity_update,
    ..Rules::PLAIN
};

/// StorageClasses.
pub static STORAGE_CLASS: Rules = Rules {
    default: defaults::storage_class,
    validate: storage::storage_class,
    validate_update: storage::storage_class_update,
    ..Rules::PLAIN
};

/// VolumeAttachments.
pub static VOLUME_ATTACHMENT: Rules = Rules {
    prepare_create: |object, _| object["status"] = json!({"attached": false}),
    validate: storage::attachment,
    validate_update: storage::attachment_update,
    validate_status: |new, _| storage::attachment_status(new),
    ..Rules::PLAIN
};

/// VolumeAttributesClasses.
pub static VOLUME_ATTRIBUTES_CLASS: Rules = Rules {
    validate: storage::attributes_class,
    validate_update: storage::attributes_class_update,
    ..Rules::PLAIN
};

/// A driver has no generation until something about it changes.
fn count_changes(new: &mut Value, old: &Value) {
    let before = object::int(old, "metadata.generation").unwrap_or(0);
    let changed = i64::from(new.get("spec") != old.get("spec"));
    let generation = before.saturating_add(changed);
    if generation > 0 {
        object::ensure(new, "metadata").insert("generation".to_owned(), json!(generation));
    }
}
