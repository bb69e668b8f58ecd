//! Taints of nodes and tolerations of pods.

use serde_json::Value;

use crate::value::{list_at, str_at};

/// A taint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    pub(crate) fn all_of(node_spec: &Value) -> Vec<Self> {
        let taint = |it: &Value| Self {
            key: str_at(it, &["key"]).to_owned(),
            value: str_at(it, &["value"]).to_owned(),
            effect: str_at(it, &["effect"]).to_owned(),
        };
        list_at(node_spec, &["taints"]).iter().map(taint).collect()
    }

    /// Whether it keeps pods away, instead of only making the node unattractive.
    pub(crate) fn is_hard(&self) -> bool {
        self.effect == "NoSchedule" || self.effect == "NoExecute"
    }
}

/// A toleration; empty key and effect mean any.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Toleration {
    key: String,
    /// None tolerates any value.
    value: Option<String>,
    effect: String,
}

impl Toleration {
    pub(crate) fn all_of(pod_spec: &Value) -> Vec<Self> {
        let toleration = |it: &Value| {
            let value = match str_at(it, &["operator"]) {
                "Exists" => None,
                "" | "Equal" => Some(str_at(it, &["value"]).to_owned()),
                _ => return None,
            };
            Some(Self {
                key: str_at(it, &["key"]).to_owned(),
                value,
                effect: str_at(it, &["effect"]).to_owned(),
            })
        };
        let mut tolerations: Vec<Self> =
            list_at(pod_spec, &["tolerations"]).iter().filter_map(toleration).collect();
        tolerations.sort();
        tolerations
    }

    pub(crate) fn covers(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// The first taint that keeps a pod with these tolerations away.
pub(crate) fn untolerated<'a>(
    tolerations: &[Toleration],
    taints: &'a [Taint],
) -> Option<&'a Taint> {
    taints.iter().find(|taint| taint.is_hard() && !tolerations.iter().any(|it| it.covers(taint)))
}

/// How many taints make the node unattractive for a pod with these tolerations.
pub(crate) fn n_unwelcome(tolerations: &[Toleration], taints: &[Taint]) -> usize {
    let soft = taints.iter().filter(|taint| !taint.is_hard());
    soft.filter(|taint| !tolerations.iter().any(|it| it.covers(taint))).count()
}
