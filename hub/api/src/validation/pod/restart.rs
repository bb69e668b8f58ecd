//! When a single container is restarted, apart from what the pod says.

use serde_json::Value;

use super::super::one_of;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// Checks the policy of a container that runs as long as its pod.
pub(super) fn policy(container: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let known = &["Always", "Never", "OnFailure"];
    errors.extend(super::optional_one_of(container, "restartPolicy", at, known));
    rules(container, at, errors);
}

/// Checks the rules that go before the policy.
pub(super) fn rules(container: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = at.field("restartPolicyRules");
    let rules = object::list(container, "restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if object::text(container, "restartPolicy").is_empty() {
        errors.push(FieldError::required(
            at.field("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        ));
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(path, rules.len(), MAX_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        errors.extend(one_of(rule, "action", &at, &["Restart", "RestartAllContainers"]));
        let codes_path = at.field("exitCodes");
        let Some(codes) = object::get(rule, "exitCodes") else {
            errors.push(FieldError::required(codes_path, "must be specified"));
            continue;
        };
        errors.extend(one_of(codes, "operator", &codes_path, &["In", "NotIn"]));
        let values = object::list(codes, "values");
        if values.is_empty() {
            let why = "at least one value is required";
            errors.push(FieldError::invalid(codes_path.field("values"), values.to_vec(), why));
        } else if values.len() > MAX_CODES {
            let at = codes_path.field("values");
            errors.push(FieldError::too_many(at, values.len(), MAX_CODES));
        }
    }
}
