//! Strategies of `apiregistration.k8s.io`.

use serde_json::{Value, json};

use super::Rules;
use crate::defaults;
use crate::names;
use crate::object;
use crate::time;
use crate::validation::apiregistration;
use crate::write::WriteContext;

/// APIServices.
pub static API_SERVICE: Rules = Rules {
    default: defaults::apiregistration::api_service,
    check_name: names::path_segment,
    prepare_create: set_availability,
    validate: apiregistration::api_service,
    validate_status: |new, _| apiregistration::api_service_status(new),
    ..Rules::PLAIN
};

/// What this server serves itself is there.
fn set_availability(object: &mut Value, context: &WriteContext<'_>) {
    object["status"] = json!({});
    if object::get(object, "spec.service").is_none() {
        object["status"]["conditions"] = json!([{
            "type": "Available",
            "status": "True",
            "lastTransitionTime": time::format(context.now),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }]);
    }
}
