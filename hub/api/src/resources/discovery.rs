//! Resources of `discovery.k8s.io`.

use super::{CORE, Row, Version};
use crate::strategy;
use crate::versions;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "endpointslices",
        singular: "endpointslice",
        kind: "EndpointSlice",
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        strategy: &strategy::discovery::EndpointSlice,
        ..GROUP
    },
    // What kubectl up to 1.20 describes.
    Row {
        version: "v1beta1",
        plural: "endpointslices",
        singular: "endpointslice",
        kind: "EndpointSlice",
        schema: "io.k8s.api.discovery.v1beta1.EndpointSlice",
        version_of: Some(Version {
            group: "discovery.k8s.io",
            version: "v1",
            plural: "endpointslices",
            conversion: versions::discovery::V1BETA1,
        }),
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "discovery.k8s.io", ..CORE };
