//! `policy/v1beta1`, where an empty selector chose no pods at all; in `v1` it chooses all of them.

use serde_json::{Value, json};

use crate::resource::Conversion;

/// `v1beta1` over `v1`.
pub const V1BETA1: Conversion = Conversion { show, store };

/// A label that no pod has: selectors over it say "all" and "none" where the empty one cannot.
const NO_POD: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

fn show(budget: &mut Value) {
    exchange(budget, "DoesNotExist", "Exists");
}

fn store(budget: &mut Value) {
    exchange(budget, "Exists", "DoesNotExist");
}

/// The empty selector is written out, and what the other version wrote out is the empty one.
fn exchange(budget: &mut Value, empty_becomes: &str, becomes_empty: &str) {
    let Some(selector) = budget.get_mut("spec").and_then(|it| it.get_mut("selector")) else {
        return;
    };
    let over_no_pod =
        |operator: &str| json!({"matchExpressions": [{"key": NO_POD, "operator": operator}]});
    if *selector == json!({}) {
        *selector = over_no_pod(empty_becomes);
    } else if *selector == over_no_pod(becomes_empty) {
        *selector = json!({});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_selector_keeps_its_meaning() {
        for (selector, operator) in
            [(json!({}), Some("DoesNotExist")), (json!({"matchLabels": {"a": "b"}}), None)]
        {
            let stored = json!({"spec": {"selector": selector}});
            let mut object = stored.clone();
            show(&mut object);
            let found = object.pointer("/spec/selector/matchExpressions/0/operator");
            assert_eq!(found.and_then(Value::as_str), operator);
            store(&mut object);
            assert_eq!(object, stored);
        }
        let mut none = json!({"spec": {"selector": {}}});
        store(&mut none);
        assert_eq!(none["spec"]["selector"]["matchExpressions"][0]["operator"], "Exists");
    }
}
