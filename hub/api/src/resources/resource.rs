//! Resources of `resource.k8s.io`.

use super::{CORE, Row, field, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "deviceclasses",
        singular: "deviceclass",
        kind: "DeviceClass",
        namespaced: false,
        schema: "io.k8s.api.resource.v1.DeviceClass",
        strategy: &strategy::resource::DEVICE_CLASS,
        ..GROUP
    },
    Row {
        plural: "devicetaintrules",
        singular: "devicetaintrule",
        kind: "DeviceTaintRule",
        namespaced: false,
        subresources: &[status("resource.k8s.io", "v1", "DeviceTaintRule")],
        schema: "io.k8s.api.resource.v1.DeviceTaintRule",
        strategy: &strategy::resource::DEVICE_TAINT_RULE,
        ..GROUP
    },
    Row {
        plural: "resourceclaims",
        singular: "resourceclaim",
        kind: "ResourceClaim",
        subresources: &[status("resource.k8s.io", "v1", "ResourceClaim")],
        schema: "io.k8s.api.resource.v1.ResourceClaim",
        strategy: &strategy::resource::RESOURCE_CLAIM,
        ..GROUP
    },
    Row {
        plural: "resourceclaimtemplates",
        singular: "resourceclaimtemplate",
        kind: "ResourceClaimTemplate",
        schema: "io.k8s.api.resource.v1.ResourceClaimTemplate",
        strategy: &strategy::resource::RESOURCE_CLAIM_TEMPLATE,
        ..GROUP
    },
    Row {
        plural: "resourceslices",
        singular: "resourceslice",
        kind: "ResourceSlice",
        namespaced: false,
        field_labels: &[field("spec.driver"), field("spec.nodeName")],
        schema: "io.k8s.api.resource.v1.ResourceSlice",
        strategy: &strategy::resource::RESOURCE_SLICE,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "resource.k8s.io", ..CORE };
