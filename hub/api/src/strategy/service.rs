//! Services. Their addresses are allocated by the server, not here.

use serde_json::json;

use super::Rules;
use crate::defaults::service as defaults;
use crate::names;
use crate::validation::service;

/// Services.
pub static SERVICE: Rules = Rules {
    default: defaults::service,
    check_name: names::dns1035_label,
    prepare_create: |object, _| object["status"] = json!({"loadBalancer": {}}),
    prepare_update: defaults::keep_allocations,
    validate: service::service,
    validate_update: service::update,
    creates_on_update: true,
    ..Rules::PLAIN
};
