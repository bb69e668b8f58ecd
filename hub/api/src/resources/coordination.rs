//! Resources of `coordination.k8s.io`.

use super::{CORE, Row};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "leases",
    singular: "lease",
    kind: "Lease",
    schema: "io.k8s.api.coordination.v1.Lease",
    strategy: &strategy::coordination::LEASE,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "coordination.k8s.io", ..CORE };
