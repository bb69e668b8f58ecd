//! Strategies of `admissionregistration.k8s.io`.

use super::Rules;
use crate::defaults::admissionregistration as defaults;
use crate::validation::admissionregistration as validation;

/// MutatingWebhookConfigurations.
pub static MUTATING_WEBHOOKS: Rules = Rules {
    default: |object| defaults::webhooks(object, true),
    validate: |object| validation::webhooks(object, true),
    generation_fields: &["webhooks"],
    ..Rules::PLAIN
};

/// ValidatingWebhookConfigurations.
pub static VALIDATING_WEBHOOKS: Rules = Rules {
    default: |object| defaults::webhooks(object, false),
    validate: |object| validation::webhooks(object, false),
    generation_fields: &["webhooks"],
    ..Rules::PLAIN
};

/// ValidatingAdmissionPolicies.
pub static VALIDATING_POLICY: Rules = Rules {
    default: defaults::policy,
    validate: validation::validating_policy,
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// ValidatingAdmissionPolicyBindings.
pub static VALIDATING_BINDING: Rules = Rules {
    default: defaults::binding,
    validate: |object| validation::binding(object, true),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// MutatingAdmissionPolicies.
pub static MUTATING_POLICY: Rules = Rules {
    default: defaults::policy,
    validate: validation::mutating_policy,
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// MutatingAdmissionPolicyBindings.
pub static MUTATING_BINDING: Rules = Rules {
    default: defaults::binding,
    validate: |object| validation::binding(object, false),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};
