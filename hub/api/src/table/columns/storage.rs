//! Columns of `storage.k8s.io`.

use super::{AGE, Column, NAME, boolean, computed, count, text};
use crate::table::storage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "csidrivers" => Some(CSI_DRIVERS),
        "csinodes" => Some(CSI_NODES),
        "csistoragecapacities" => Some(CSI_STORAGE_CAPACITIES),
        "storageclasses" => Some(STORAGE_CLASSES),
        "volumeattachments" => Some(VOLUME_ATTACHMENTS),
        "volumeattributesclasses" => Some(VOLUME_ATTRIBUTES_CLASSES),
        _ => None,
    }
}

const CSI_DRIVERS: &[Column] = &[
    NAME,
    boolean("AttachRequired", "/spec/attachRequired", "Whether volumes are attached first."),
    boolean("PodInfoOnMount", "/spec/podInfoOnMount", "Whether it is told of the pod."),
    computed("Modes", storage::driver_modes, "Which life cycles of volumes it knows."),
    AGE,
];

const CSI_NODES: &[Column] = &[
    NAME,
    count("Drivers", &["/spec/drivers"], "How many drivers are on the node.").of_type("integer"),
    AGE,
];

const STORAGE_CLASSES: &[Column] = &[
    computed("Name", storage::class_name, "Name of the class.").as_name(),
    text("Provisioner", "/provisioner", "Who makes volumes."),
    text("ReclaimPolicy", "/reclaimPolicy", "What follows the release of volumes.").or("Delete"),
    text("VolumeBindingMode", "/volumeBindingMode", "When volumes are bound.").or("<unset>"),
    boolean("AllowVolumeExpansion", "/allowVolumeExpansion", "Whether volumes can grow.")
        .of_type("string"),
    AGE,
];

const VOLUME_ATTACHMENTS: &[Column] = &[
    NAME,
    text("Attacher", "/spec/attacher", "Who attaches the volume.").as_name(),
    text("PV", "/spec/source/persistentVolumeName", "The volume."),
    text("Node", "/spec/nodeName", "The node."),
    boolean("Attached", "/status/attached", "Whether it is attached."),
    AGE,
];

const CSI_STORAGE_CAPACITIES: &[Column] = &[
    NAME,
    text("StorageClassName", "/storageClassName", "Class of the volumes."),
    text("Capacity", "/capacity", "How much room there is."),
];

const VOLUME_ATTRIBUTES_CLASSES: &[Column] =
    &[NAME, text("DriverName", "/driverName", "Driver of the volumes."), AGE];
