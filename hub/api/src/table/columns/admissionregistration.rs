//! Columns of `admissionregistration.k8s.io`.

use super::{AGE, Column, NAME, count, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => Some(WEBHOOKS),
        "validatingadmissionpolicies" => Some(VALIDATING_POLICIES),
        "mutatingadmissionpolicies" => Some(MUTATING_POLICIES),
        "mutatingadmissionpolicybindings" | "validatingadmissionpolicybindings" => Some(BINDINGS),
        _ => None,
    }
}

const WEBHOOKS: &[Column] =
    &[NAME, count("Webhooks", &["/webhooks"], "How many webhooks it has.").of_type("integer"), AGE];

const VALIDATING_POLICIES: &[Column] = &[
    NAME,
    count("Validations", &["/spec/validations"], "How many validations it has.").of_type("integer"),
    text("ParamKind", "/spec/paramKind/kind", "What its parameters are.").or("<unset>"),
    AGE,
];

const MUTATING_POLICIES: &[Column] = &[
    NAME,
    count("Mutations", &["/spec/mutations"], "How many mutations it has.").of_type("integer"),
    text("ParamKind", "/spec/paramKind/kind", "What its parameters are.").or("<unset>"),
    AGE,
];

const BINDINGS: &[Column] = &[
    NAME,
    text("PolicyName", "/spec/policyName", "The policy that is bound."),
    text("ParamRef", "/spec/paramRef/name", "Its parameters.").or("<unset>"),
    AGE,
];
