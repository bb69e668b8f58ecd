//! Resources of `storage.k8s.io`.

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "csidrivers",
        singular: "csidriver",
        kind: "CSIDriver",
        namespaced: false,
        schema: "io.k8s.api.storage.v1.CSIDriver",
        strategy: &strategy::storage::CSI_DRIVER,
        ..GROUP
    },
    Row {
        plural: "csinodes",
        singular: "csinode",
        kind: "CSINode",
        namespaced: false,
        schema: "io.k8s.api.storage.v1.CSINode",
        strategy: &strategy::storage::CSI_NODE,
        ..GROUP
    },
    Row {
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        kind: "CSIStorageCapacity",
        schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
        strategy: &strategy::storage::CSI_STORAGE_CAPACITY,
        ..GROUP
    },
    Row {
        plural: "storageclasses",
        singular: "storageclass",
        kind: "StorageClass",
        short_names: &["sc"],
        namespaced: false,
        schema: "io.k8s.api.storage.v1.StorageClass",
        strategy: &strategy::storage::STORAGE_CLASS,
        ..GROUP
    },
    Row {
        plural: "volumeattachments",
        singular: "volumeattachment",
        kind: "VolumeAttachment",
        namespaced: false,
        subresources: &[status("storage.k8s.io", "v1", "VolumeAttachment")],
        schema: "io.k8s.api.storage.v1.VolumeAttachment",
        strategy: &strategy::storage::VOLUME_ATTACHMENT,
        ..GROUP
    },
    Row {
        plural: "volumeattributesclasses",
        singular: "volumeattributesclass",
        kind: "VolumeAttributesClass",
        short_names: &["vac"],
        namespaced: false,
        schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
        strategy: &strategy::storage::VOLUME_ATTRIBUTES_CLASS,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "storage.k8s.io", ..CORE };
