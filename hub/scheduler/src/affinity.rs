//! Which nodes a pod asks for by their labels.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::node::Node;
use crate::value::{at, list_at, map_at, str_at, strings_at};

/// One requirement on a label, or on a field of the node.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
    is_field: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Operator {
    DoesNotExist,
    Exists,
    Gt,
    In,
    Lt,
    NotIn,
    Unknown,
}

/// Requirements that have to hold together.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Term(Vec<Requirement>);

/// The node selector and node affinity of a pod.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct NodeAffinity {
    selector: BTreeMap<String, String>,
    /// One of these has to hold, if there are any.
    required: Option<Vec<Term>>,
    preferred: Vec<(i64, Term)>,
}

impl NodeAffinity {
    pub(crate) fn of(pod_spec: &Value) -> Self {
        let affinity = at(pod_spec, &["affinity", "nodeAffinity"]);
        let required = at(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]);
        let terms = || list_at(required, &["nodeSelectorTerms"]).iter().map(Term::of).collect();
        let preferred = list_at(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]);
        let weighted = |it: &Value| {
            (at(it, &["weight"]).as_i64().unwrap_or_default(), Term::of(at(it, &["preference"])))
        };
        Self {
            selector: map_at(pod_spec, &["nodeSelector"]).collect(),
            required: (!required.is_null()).then(terms),
            preferred: preferred.iter().map(weighted).collect(),
        }
    }

    /// Whether the pod may go to this node.
    pub(crate) fn admits(&self, node: &Node) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|it| it.holds(node)))
    }

    /// How much of what the pod prefers this node has, from 0 to `scale`.
    pub(crate) fn preference(&self, node: &Node, scale: i64) -> i64 {
        let total: i64 = self.preferred.iter().map(|(weight, _)| weight).sum();
        if total <= 0 {
            return 0;
        }
        let held = self.preferred.iter().filter(|(_, term)| term.holds(node));
        held.map(|(weight, _)| weight).sum::<i64>() * scale / total
    }
}

impl Term {
    fn of(term: &Value) -> Self {
        let labels = list_at(term, &["matchExpressions"]).iter().map(|it| (it, false));
        let fields = list_at(term, &["matchFields"]).iter().map(|it| (it, true));
        let requirement = |(it, is_field): (&Value, bool)| Requirement {
            key: str_at(it, &["key"]).to_owned(),
            operator: Operator::of(str_at(it, &["operator"])),
            values: strings_at(it, &["values"]),
            is_field,
        };
        Self(labels.chain(fields).map(requirement).collect())
    }

    /// A term that asks for nothing matches nothing.
    fn holds(&self, node: &Node) -> bool {
        !self.0.is_empty() && self.0.iter().all(|it| it.holds(node))
    }
}

impl Requirement {
    fn holds(&self, node: &Node) -> bool {
        let value = match self.is_field {
            true => (self.key == "metadata.name").then_some(&node.name),
            false => node.labels.get(&self.key),
        };
        let number = || value.and_then(|it| it.parse::<i64>().ok());
        let bound = || self.values.first().and_then(|it| it.parse::<i64>().ok());
        match self.operator {
            Operator::DoesNotExist => value.is_none(),
            Operator::Exists => value.is_some(),
            Operator::Gt => number().zip(bound()).is_some_and(|(it, bound)| it > bound),
            Operator::In => value.is_some_and(|it| self.values.contains(it)),
            Operator::Lt => number().zip(bound()).is_some_and(|(it, bound)| it < bound),
            Operator::NotIn => !value.is_some_and(|it| self.values.contains(it)),
            Operator::Unknown => false,
        }
    }
}

impl Operator {
    fn of(text: &str) -> Self {
        match text {
            "DoesNotExist" => Self::DoesNotExist,
            "Exists" => Self::Exists,
            "Gt" => Self::Gt,
            "In" => Self::In,
            "Lt" => Self::Lt,
            "NotIn" => Self::NotIn,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_admitted_by_selector_and_affinity() {
        let labels = json!({"zone": "a", "cores": "8"});
        let node = Node::of(&json!({"metadata": {"name": "n1", "labels": labels}}));
        let check = |spec: Value, expect: bool| {
            assert_eq!(NodeAffinity::of(&spec).admits(&node), expect, "{spec}");
        };
        let required = |terms: Value| {
            let required = json!({"nodeSelectorTerms": terms});
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": required,
            }}})
        };
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), true);
        check(json!({"nodeSelector": {"zone": "a"}}), true);
        check(json!({"nodeSelector": {"zone": "b"}}), false);
        check(required(json!([])), false);
        check(required(json!([{}])), false);
        check(required(json!([expression("zone", "In", json!(["a", "b"]))])), true);
        check(required(json!([expression("zone", "NotIn", json!(["a"])), {}])), false);
        check(required(json!([expression("cores", "Gt", json!(["4"]))])), true);
        check(required(json!([expression("cores", "Lt", json!(["4"]))])), false);
        check(required(json!([expression("gpu", "DoesNotExist", json!([]))])), true);
        let field = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        check(required(json!([{"matchFields": [field]}])), true);
    }
}
