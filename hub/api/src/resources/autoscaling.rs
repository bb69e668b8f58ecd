//! Resources of `autoscaling`.

use super::{ALL, CORE, Row, Version, status};
use crate::strategy;
use crate::versions;

pub(super) static ROWS: &[Row] = &[
    Row {
        version: "v2",
        subresources: &[status("autoscaling", "v2", "HorizontalPodAutoscaler")],
        schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        strategy: &strategy::autoscaling::HorizontalPodAutoscaler,
        ..GROUP
    },
    Row {
        version: "v1",
        subresources: &[status("autoscaling", "v1", "HorizontalPodAutoscaler")],
        schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        version_of: Some(Version {
            group: "autoscaling",
            version: "v2",
            plural: "horizontalpodautoscalers",
            conversion: versions::autoscaling::V1,
        }),
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row {
    group: "autoscaling",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    kind: "HorizontalPodAutoscaler",
    short_names: &["hpa"],
    categories: ALL,
    ..CORE
};
