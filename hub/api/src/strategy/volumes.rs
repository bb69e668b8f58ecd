//! PersistentVolumes and PersistentVolumeClaims.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Rules, Strategy};
use crate::defaults;
use crate::status::FieldError;
use crate::time;
use crate::validation;
use crate::write::WriteContext;

/// PersistentVolumes.
#[derive(Debug)]
pub struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn default(&self, object: &mut Value) {
        defaults::volumes::volume(object);
    }

    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        let now = time::format(context.now);
        object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
    }

    /// Says when the phase changed, unless the client does.
    fn prepare_status_at(&self, new: &mut Value, old: &Value, now: Timestamp) {
        let same = |field: &str| new["status"].get(field) == old["status"].get(field);
        if !same("phase") && same("lastPhaseTransitionTime") {
            new["status"]["lastPhaseTransitionTime"] = json!(time::format(now));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::volumes::volume(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::volumes::volume_update(new, old)
    }
}

/// PersistentVolumeClaims.
pub static PERSISTENT_VOLUME_CLAIM: Rules = Rules {
    default: defaults::volumes::claim,
    prepare_create: |object, _| object["status"] = json!({"phase": "Pending"}),
    prepare_status: |new, _| {
        for key in ["capacity", "allocatedResources"] {
            if let Some(list) = new.get_mut("status").and_then(|it| it.get_mut(key)) {
                defaults::pod::resource_list(list);
            }
        }
    },
    validate: validation::volumes::claim,
    validate_update: validation::volumes::claim_update,
    validate_status: |new, _| validation::volumes::claim_status(new),
    ..Rules::PLAIN
};
