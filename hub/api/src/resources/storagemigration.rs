//! Resources of `storagemigration.k8s.io`.

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    group: "storagemigration.k8s.io",
    plural: "storageversionmigrations",
    singular: "storageversionmigration",
    kind: "StorageVersionMigration",
    namespaced: false,
    subresources: &[status("storagemigration.k8s.io", "v1", "StorageVersionMigration")],
    schema: "io.k8s.api.storagemigration.v1.StorageVersionMigration",
    strategy: &strategy::storagemigration::STORAGE_VERSION_MIGRATION,
    ..CORE
}];
