//! Strategies of `flowcontrol.apiserver.k8s.io`.

use serde_json::json;

use super::Rules;
use crate::defaults;
use crate::validation::flowcontrol;

/// FlowSchemas.
pub static FLOW_SCHEMA: Rules = Rules {
    default: defaults::flowcontrol::flow_schema,
    prepare_create: |object, _| object["status"] = json!({}),
    validate: flowcontrol::flow_schema,
    validate_status: |new, _| flowcontrol::status(new),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// PriorityLevelConfigurations.
pub static PRIORITY_LEVEL: Rules = Rules {
    default: defaults::flowcontrol::priority_level,
    prepare_create: |object, _| object["status"] = json!({}),
    validate: flowcontrol::priority_level,
    validate_status: |new, _| flowcontrol::status(new),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};
