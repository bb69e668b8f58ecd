//! Strategies of `resource.k8s.io`.

use serde_json::{Value, json};

use super::{Rules, drop_status};
use crate::defaults;
use crate::object;
use crate::time;
use crate::validation::{device, resource};
use crate::write::WriteContext;

/// DeviceClasses.
pub static DEVICE_CLASS: Rules =
    Rules { validate: resource::class, generation_fields: &["spec"], ..Rules::PLAIN };

/// DeviceTaintRules.
pub static DEVICE_TAINT_RULE: Rules = Rules {
    prepare_create: |object, context| {
        drop_status(object);
        if let Some(taint) = object.pointer_mut("/spec/taint") {
            stamp(taint, context);
        }
    },
    prepare_update: keep_stamp,
    validate: resource::taint_rule,
    validate_status: |new, _| resource::taint_rule_status(new),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// ResourceClaims.
pub static RESOURCE_CLAIM: Rules = Rules {
    default: defaults::resource::claim,
    prepare_create: |object, _| object["status"] = json!({}),
    validate: resource::claim,
    validate_update: resource::spec_update,
    validate_status: resource::claim_status,
    ..Rules::PLAIN
};

/// ResourceClaimTemplates.
pub static RESOURCE_CLAIM_TEMPLATE: Rules = Rules {
    default: defaults::resource::claim_template,
    validate: resource::claim_template,
    validate_update: resource::spec_update,
    ..Rules::PLAIN
};

/// ResourceSlices.
pub static RESOURCE_SLICE: Rules = Rules {
    prepare_create: |object, context| {
        let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
        for device in devices.into_iter().flatten() {
            for taint in object::items_mut(device, "taints") {
                stamp(taint, context);
            }
        }
    },
    validate: device::slice,
    validate_update: device::slice_update,
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// A taint says since when it holds.
fn stamp(taint: &mut Value, context: &WriteContext<'_>) {
    object::default(object::as_map(taint), "timeAdded", time::format(context.now));
}

/// A taint that stays holds since it was added.
fn keep_stamp(new: &mut Value, old: &Value) {
    let Some(since) = object::get(old, "spec.taint.timeAdded").cloned() else { return };
    if let Some(taint) = new.pointer_mut("/spec/taint").and_then(Value::as_object_mut) {
        object::default(taint, "timeAdded", since);
    }
}
