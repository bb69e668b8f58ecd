//! Amounts of resources, and what a pod asks for.

use std::collections::BTreeMap;

use hub_api::quantity::Quantity;
use serde_json::Value;

use crate::value::{at, list_at, str_at};

/// What a container without a request counts for in scoring, so that such pods spread too.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts: CPU in thousandths, the rest in units.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    pub extended: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list. The number of pods is not part of it.
    pub(crate) fn of(list: &Value) -> Self {
        let mut amounts = Self::default();
        for (name, value) in list.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let Ok(quantity) = Quantity::parse(&text) else { continue };
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral = quantity.value(),
                "pods" => {}
                name => {
                    amounts.extended.insert(name.to_owned(), quantity.value());
                }
            }
        }
        amounts
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.apply(other, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.apply(other, i64::saturating_sub);
        self.extended.retain(|_, amount| *amount != 0);
    }

    fn apply(&mut self, other: &Self, change: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = change(self.milli_cpu, other.milli_cpu);
        self.memory = change(self.memory, other.memory);
        self.ephemeral = change(self.ephemeral, other.ephemeral);
        for (name, amount) in &other.extended {
            let place = self.extended.entry(name.clone()).or_default();
            *place = change(*place, *amount);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.apply(other, i64::max);
    }
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Request {
    /// Has to be free on the node.
    pub amounts: Resources,
    /// CPU and memory as they count in scoring.
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
}

impl Request {
    /// Init containers run one by one before the others, but sidecars run on beside them all: the pod
    /// needs the largest sum that is ever reached.
    pub(crate) fn of(spec: &Value) -> Self {
        let amounts = total(spec, |container| Resources::of(requests(container)));
        let scored = total(spec, |container| {
            let mut amounts = Resources::of(requests(container));
            if at(requests(container), &["cpu"]).is_null() {
                amounts.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if at(requests(container), &["memory"]).is_null() {
                amounts.memory = DEFAULT_MEMORY;
            }
            amounts
        });
        Self { amounts, scored_milli_cpu: scored.milli_cpu, scored_memory: scored.memory }
    }
}

fn requests(container: &Value) -> &Value {
    at(container, &["resources", "requests"])
}

fn total(spec: &Value, request: impl Fn(&Value) -> Resources) -> Resources {
    let mut running = Resources::default();
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in list_at(spec, &["initContainers"]) {
        let own = request(container);
        if str_at(container, &["restartPolicy"]) == "Always" {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&own);
            peak.raise_to(&now);
        }
    }
    running.add(&sidecars);
    for container in list_at(spec, &["containers"]) {
        running.add(&request(container));
    }
    running.raise_to(&peak);
    let whole_pod = Resources::of(at(spec, &["resources", "requests"]));
    if whole_pod.milli_cpu != 0 {
        running.milli_cpu = whole_pod.milli_cpu;
    }
    if whole_pod.memory != 0 {
        running.memory = whole_pod.memory;
    }
    running.add(&Resources::of(at(spec, &["overhead"])));
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_needs_its_peak() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        let check = |init: Vec<Value>, main: Vec<Value>, expect: i64| {
            let spec = json!({"initContainers": init, "containers": main});
            assert_eq!(Request::of(&spec).amounts.milli_cpu, expect, "{spec}");
        };
        check(vec![], vec![container("100m"), container("0.2")], 300);
        check(vec![container("1"), container("2")], vec![container("500m")], 2000);
        check(vec![container("100m")], vec![container("500m")], 500);
        check(vec![sidecar("100m"), container("1")], vec![container("500m")], 1100);
        check(vec![container("1"), sidecar("700m")], vec![container("500m")], 1200);
    }

    #[test]
    fn nothing_asked_counts_a_little_in_scoring() {
        let request = Request::of(&json!({"containers": [{}, {}]}));
        assert_eq!(request.amounts, Resources::default());
        assert_eq!(request.scored_milli_cpu, 2 * DEFAULT_MILLI_CPU);
        assert_eq!(request.scored_memory, 2 * DEFAULT_MEMORY);
    }
}
