//! Strategies of `scheduling.k8s.io`.

use serde_json::json;

use super::Rules;
use crate::defaults;
use crate::object;
use crate::validation::scheduling;

/// PriorityClasses. What may change of them is no new generation.
pub static PRIORITY_CLASS: Rules = Rules {
    default: defaults::scheduling::priority_class,
    prepare_create: |object, _| {
        object::ensure(object, "metadata").insert("generation".to_owned(), json!(1));
    },
    validate: scheduling::priority_class,
    validate_update: scheduling::priority_class_update,
    ..Rules::PLAIN
};
