//! Resources of `discovery.k8s.io`.

use super::{CORE, Row};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "endpointslices",
    singular: "endpointslice",
    kind: "EndpointSlice",
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    strategy: &strategy::discovery::EndpointSlice,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "discovery.k8s.io", ..CORE };
