//! Strategies of `storagemigration.k8s.io`.

use super::Rules;
use crate::validation::storagemigration;

/// StorageVersionMigrations: what is migrated never changes, how far it is says the controller.
pub static STORAGE_VERSION_MIGRATION: Rules = Rules {
    validate: storagemigration::migration,
    validate_update: storagemigration::migration_update,
    validate_status: storagemigration::migration_status,
    ..Rules::PLAIN
};
