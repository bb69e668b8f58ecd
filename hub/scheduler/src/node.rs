//! A node as the scheduler sees it: what it offers, and what is taken.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::needs::{HostPort, Needs};
use crate::resources::Resources;
use crate::toleration::Taint;
use crate::value::{at, map_at, str_at};

/// A node with the sum of the pods on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub is_unschedulable: bool,
    pub allocatable: Resources,
    pub max_pods: i64,
    pub used: Used,
}

/// What the pods of a node take.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Used {
    pub amounts: Resources,
    pub n_pods: i64,
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    pub host_ports: Vec<HostPort>,
}

impl Used {
    pub(crate) fn add(&mut self, needs: &Needs) {
        self.amounts.add(&needs.request.amounts);
        self.n_pods += 1;
        self.scored_milli_cpu += needs.request.scored_milli_cpu;
        self.scored_memory += needs.request.scored_memory;
        self.host_ports.extend(needs.host_ports.iter().cloned());
    }

    pub(crate) fn remove(&mut self, needs: &Needs) {
        self.amounts.subtract(&needs.request.amounts);
        self.n_pods -= 1;
        self.scored_milli_cpu -= needs.request.scored_milli_cpu;
        self.scored_memory -= needs.request.scored_memory;
        for port in &needs.host_ports {
            if let Some(place) = self.host_ports.iter().position(|it| it == port) {
                self.host_ports.swap_remove(place);
            }
        }
    }
}

impl Node {
    /// Reads a node; nothing is on it yet.
    pub(crate) fn of(node: &Value) -> Self {
        let allocatable = at(node, &["status", "allocatable"]);
        let capacity = at(node, &["status", "capacity"]);
        let allocatable = if allocatable.is_null() { capacity } else { allocatable };
        Self {
            name: str_at(node, &["metadata", "name"]).to_owned(),
            labels: map_at(node, &["metadata", "labels"]).collect(),
            taints: Taint::all_of(at(node, &["spec"])),
            is_unschedulable: at(node, &["spec", "unschedulable"]).as_bool().unwrap_or_default(),
            allocatable: Resources::of(allocatable),
            max_pods: n_pods(at(allocatable, &["pods"])),
            used: Used::default(),
        }
    }
}

fn n_pods(value: &Value) -> i64 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    hub_api::quantity::Quantity::parse(&text).map_or(0, |it| it.value())
}
