//! Deciding about certificate signing requests.

use serde_json::{Value, json};

use super::WriteContext;
use super::create::{invalid_unless_empty, set_type};
use super::update::keep_metadata;
use crate::object;
use crate::status::Status;
use crate::time;
use crate::validation::certificates;

/// Takes `status.conditions` of the new request, all else stays.
pub fn update_approval(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    let mut conditions = object::list(&new, "status.conditions").to_vec();
    let mut out = old.clone();
    stamp(&mut conditions, old, context);
    let status = object::ensure(&mut out, "status");
    if conditions.is_empty() {
        status.remove("conditions");
    } else {
        status.insert("conditions".to_owned(), conditions.into());
    }
    invalid_unless_empty(context, &out, certificates::status_update(&out, old))?;
    set_type(&mut out, context);
    Ok(out)
}

/// Sets the times of conditions that have none.
fn stamp(conditions: &mut [Value], old: &Value, context: &WriteContext<'_>) {
    let now = time::format(context.now);
    for condition in conditions {
        let before = object::list(old, "status.conditions")
            .iter()
            .find(|it| it["type"] == condition["type"] && it["status"] == condition["status"]);
        let since = before.map_or_else(|| json!(now), |it| it["lastTransitionTime"].clone());
        let condition = object::as_map(condition);
        object::default_text(condition, "lastUpdateTime", &now);
        object::default(condition, "lastTransitionTime", since);
    }
}
