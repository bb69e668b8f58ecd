//! Resources of `policy`.

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    kind: "PodDisruptionBudget",
    short_names: &["pdb"],
    subresources: &[status("policy", "v1", "PodDisruptionBudget")],
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    strategy: &strategy::policy::BUDGET,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "policy", ..CORE };
