//! Resources of `certificates.k8s.io`.

use super::{CORE, Row, field, status};
use crate::resource::Subresource;
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    group: "certificates.k8s.io",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    kind: "CertificateSigningRequest",
    short_names: &["csr"],
    namespaced: false,
    subresources: &[
        Subresource {
            name: "approval",
            group: "certificates.k8s.io",
            version: "v1",
            kind: "CertificateSigningRequest",
            verbs: &["get", "patch", "update"],
        },
        status("certificates.k8s.io", "v1", "CertificateSigningRequest"),
    ],
    field_labels: &[field("spec.signerName")],
    schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    strategy: &strategy::certificates::CertificateSigningRequest,
    ..CORE
}];
