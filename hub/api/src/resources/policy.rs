//! Resources of `policy`.

use super::{CORE, Row, Version, status};
use crate::strategy;
use crate::versions;

pub(super) static ROWS: &[Row] = &[
    Row {
        subresources: &[status("policy", "v1", "PodDisruptionBudget")],
        schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
        strategy: &strategy::policy::BUDGET,
        ..GROUP
    },
    // What kubectl up to 1.20 creates and describes.
    Row {
        version: "v1beta1",
        subresources: &[status("policy", "v1beta1", "PodDisruptionBudget")],
        schema: "io.k8s.api.policy.v1beta1.PodDisruptionBudget",
        version_of: Some(Version {
            group: "policy",
            version: "v1",
            plural: "poddisruptionbudgets",
            conversion: versions::policy::V1BETA1,
        }),
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row {
    group: "policy",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    kind: "PodDisruptionBudget",
    short_names: &["pdb"],
    ..CORE
};
