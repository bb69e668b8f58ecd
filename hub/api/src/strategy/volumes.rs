//! PersistentVolumes and PersistentVolumeClaims.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Strategy;
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
#[derive(Debug)]
pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        defaults::volumes::claim(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"phase": "Pending"});
    }

    fn prepare_status(&self, new: &mut Value, _old: &Value) {
        for key in ["capacity", "allocatedResources"] {
            let list = new.get_mut("status").and_then(|it| it.get_mut(key));
            if let Some(list) = list {
                defaults::pod::resource_list(list);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::volumes::claim(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::volumes::claim_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::volumes::claim_status(new)
    }
}
