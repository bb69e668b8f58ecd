//! Strategies of `node.k8s.io`.

use super::Rules;
use crate::defaults;
use crate::validation::node;

/// RuntimeClasses.
pub static RUNTIME_CLASS: Rules = Rules {
    default: defaults::node::runtime_class,
    validate: node::runtime_class,
    validate_update: node::runtime_class_update,
    ..Rules::PLAIN
};
