//! Defaults of the kinds of `flowcontrol.apiserver.k8s.io`.

use serde_json::Value;

use crate::object;

/// Fills in a FlowSchema.
pub fn flow_schema(object: &mut Value) {
    object::default(object::ensure(object, "spec"), "matchingPrecedence", 1000);
}

/// Fills in a PriorityLevelConfiguration.
pub fn priority_level(object: &mut Value) {
    object::ensure(object, "spec");
    level(&mut object["spec"]);
}

/// Fills in the specification of either kind, whichever it is.
pub(crate) fn spec(spec: &mut Value) {
    if spec.get("type").is_some() {
        level(spec);
    }
}

fn level(spec: &mut Value) {
    let is_exempt = spec["type"] == "Exempt";
    let map = object::as_map(spec);
    if is_exempt {
        let exempt = object::as_map(map.entry("exempt").or_insert(Value::Null));
        object::default(exempt, "nominalConcurrencyShares", 0);
        object::default(exempt, "lendablePercent", 0);
    }
    let Some(limited) = map.get_mut("limited").and_then(Value::as_object_mut) else { return };
    object::default(limited, "nominalConcurrencyShares", 30);
    object::default(limited, "lendablePercent", 0);
    if let Some(queuing) = limited
        .get_mut("limitResponse")
        .and_then(|it| it.get_mut("queuing"))
        .and_then(Value::as_object_mut)
    {
        for (field, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
            let slot = queuing.entry(field).or_insert(Value::Null);
            if slot.is_null() || slot.as_i64() == Some(0) {
                *slot = value.into();
            }
        }
    }
}
