//! Resources of `admissionregistration.k8s.io`.

use super::{CORE, Row, status};
use crate::strategy::admissionregistration as strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "mutatingadmissionpolicies",
        singular: "mutatingadmissionpolicy",
        kind: "MutatingAdmissionPolicy",
        schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        strategy: &strategy::MUTATING_POLICY,
        ..GROUP
    },
    Row {
        plural: "mutatingadmissionpolicybindings",
        singular: "mutatingadmissionpolicybinding",
        kind: "MutatingAdmissionPolicyBinding",
        schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        strategy: &strategy::MUTATING_BINDING,
        ..GROUP
    },
    Row {
        plural: "mutatingwebhookconfigurations",
        singular: "mutatingwebhookconfiguration",
        kind: "MutatingWebhookConfiguration",
        schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        strategy: &strategy::MUTATING_WEBHOOKS,
        ..GROUP
    },
    Row {
        plural: "validatingadmissionpolicies",
        singular: "validatingadmissionpolicy",
        kind: "ValidatingAdmissionPolicy",
        subresources: &[status("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy")],
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        strategy: &strategy::VALIDATING_POLICY,
        ..GROUP
    },
    Row {
        plural: "validatingadmissionpolicybindings",
        singular: "validatingadmissionpolicybinding",
        kind: "ValidatingAdmissionPolicyBinding",
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        strategy: &strategy::VALIDATING_BINDING,
        ..GROUP
    },
    Row {
        plural: "validatingwebhookconfigurations",
        singular: "validatingwebhookconfiguration",
        kind: "ValidatingWebhookConfiguration",
        schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        strategy: &strategy::VALIDATING_WEBHOOKS,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    namespaced: false,
    ..CORE
};
