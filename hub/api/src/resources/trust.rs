//! Resources of `certificates.k8s.io` that say what is trusted.

use super::{CORE, Row, field, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "clustertrustbundles",
        singular: "clustertrustbundle",
        kind: "ClusterTrustBundle",
        namespaced: false,
        field_labels: &[field("spec.signerName")],
        schema: "io.k8s.api.certificates.v1.ClusterTrustBundle",
        strategy: &strategy::trust::TRUST_BUNDLE,
        ..GROUP
    },
    Row {
        plural: "podcertificaterequests",
        singular: "podcertificaterequest",
        kind: "PodCertificateRequest",
        subresources: &[status("certificates.k8s.io", "v1", "PodCertificateRequest")],
        field_labels: &[field("spec.nodeName"), field("spec.signerName")],
        schema: "io.k8s.api.certificates.v1.PodCertificateRequest",
        strategy: &strategy::trust::POD_REQUEST,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "certificates.k8s.io", ..CORE };
