//! Where the pods of a template may be: names, labels and taints of nodes.

use serde_json::Value;

use crate::object::Object;
use crate::taint::tolerates;
use crate::value::{at, list_at, str_at};

/// Whether node selector and required affinity of a pod's specification allow the node.
pub fn is_chosen(spec: &Value, node: &Object) -> bool {
    let wanted = at(spec, &["nodeSelector"]);
    if !crate::selector::map_matches(wanted, node.labels()) {
        return false;
    }
    let required = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let required = at(spec, &required);
    required.is_null()
        || list_at(required, &["nodeSelectorTerms"]).iter().any(|term| term_fits(term, node))
}

/// Whether every taint of the node with one of these effects is tolerated.
pub fn is_welcome(tolerations: &[Value], node: &Object, effects: &[&str]) -> bool {
    let taints = list_at(node.spec(), &["taints"]).iter();
    let mut hard = taints.filter(|taint| effects.contains(&str_at(taint, &["effect"])));
    hard.all(|taint| tolerations.iter().any(|it| tolerates(it, taint)))
}

fn term_fits(term: &Value, node: &Object) -> bool {
    let labels = list_at(term, &["matchExpressions"]);
    let names = list_at(term, &["matchFields"]);
    // A term that says nothing selects nothing.
    !(labels.is_empty() && names.is_empty())
        && labels.iter().all(|it| fits(it, at(node.labels(), &[str_at(it, &["key"])]).as_str()))
        && names
            .iter()
            .all(|it| str_at(it, &["key"]) == "metadata.name" && fits(it, Some(&node.name.name)))
}

fn fits(requirement: &Value, value: Option<&str>) -> bool {
    let values = list_at(requirement, &["values"]);
    let is_among = |value: &str| values.iter().any(|it| it.as_str() == Some(value));
    let number = |text: Option<&str>| text.and_then(|it| it.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    let compared = number(value).zip(bound);
    match str_at(requirement, &["operator"]) {
        "In" => value.is_some_and(is_among),
        "NotIn" => !value.is_some_and(is_among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared.is_some_and(|(value, bound)| value > bound),
        "Lt" => compared.is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
