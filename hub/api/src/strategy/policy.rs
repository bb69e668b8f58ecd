//! Strategies of `policy`.

use serde_json::json;

use super::Rules;
use crate::validation::policy;

/// PodDisruptionBudgets.
pub static BUDGET: Rules = Rules {
    prepare_create: |object, _| {
        object["status"] = json!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        });
    },
    validate: policy::budget,
    validate_status: |new, _| policy::budget_status(new),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};
