//! Endpoints, the older form of EndpointSlices, for clients that still read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Port, hostname, inherited_labels, is_selecting, pods_of, ports_of, publishes_not_ready,
    services_of, target_ref,
};
use crate::object::{Kind, Object, ObjectRef};
use crate::value::{at, merge_diff, object_mut, str_at};
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan, pods};

/// Label that names who keeps the object.
pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const MAX_ADDRESSES: usize = 1000;

#[derive(Debug)]
pub struct EndpointsController;

impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::SERVICE => change.latest().map(Object::key).into_iter().collect(),
            Kind::ENDPOINTS => {
                change.latest().map(|it| Kind::SERVICE.key(&it.name)).into_iter().collect()
            }
            Kind::POD => services_of(change, world),
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        let existing = world.get(Kind::ENDPOINTS, &key.name).filter(|it| !it.is_deleting());
        let Some(service) = world.find(key) else {
            let ours = existing.filter(|it| str_at(it.labels(), &[MANAGED_BY]) == MANAGER);
            return Plan::from(ours.map(|it| Write::delete(it)).into_iter().collect::<Vec<_>>());
        };
        if !is_selecting(service) || service.is_deleting() {
            return Plan::default();
        }
        let subsets = subsets(service, world);
        let mut labels = inherited_labels(service);
        object_mut(&mut labels).insert(MANAGED_BY.to_owned(), json!(MANAGER));
        let write = match existing {
            Some(existing) => update(existing, subsets, &labels),
            None => Some(create(service, subsets, &labels)),
        };
        Plan::from(write.into_iter().collect::<Vec<_>>())
    }
}

fn subsets(service: &Object, world: &World) -> Value {
    let mut groups: BTreeMap<Vec<Port>, [BTreeMap<String, Value>; 2]> = BTreeMap::new();
    for pod in pods_of(service, world).filter(|pod| !pod.is_deleting()).take(MAX_ADDRESSES) {
        let is_ready = publishes_not_ready(service) || pods::is_ready(pod);
        let ip = str_at(pod.status(), &["podIP"]).to_owned();
        let mut address = json!({"ip": ip, "targetRef": target_ref(pod)});
        let node = str_at(pod.spec(), &["nodeName"]);
        if !node.is_empty() {
            address["nodeName"] = json!(node);
        }
        if let Some(hostname) = hostname(service, pod) {
            address["hostname"] = json!(hostname);
        }
        let ports = ports_of(service, pod);
        let is_portless = ports.is_empty() && !super::is_headless(service);
        if !is_portless {
            groups.entry(ports).or_default()[usize::from(!is_ready)].insert(ip, address);
        }
    }
    let subsets = groups.into_iter().map(|(ports, [ready, not_ready])| {
        let mut subset = json!({});
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            if !addresses.is_empty() {
                subset[field] = addresses.into_values().collect();
            }
        }
        if !ports.is_empty() {
            subset["ports"] = ports.iter().map(port).collect();
        }
        subset
    });
    match subsets.collect::<Vec<_>>() {
        subsets if subsets.is_empty() => Value::Null,
        subsets => Value::Array(subsets),
    }
}

fn port(port: &Port) -> Value {
    let mut value = port.to_value();
    if port.name.is_empty() {
        object_mut(&mut value).remove("name");
    }
    value
}

fn update(existing: &Object, subsets: Value, labels: &Value) -> Option<Write> {
    let mut patch = json!({});
    if at(existing.value(), &["subsets"]) != &subsets {
        patch["subsets"] = subsets;
    }
    if let Some(labels) = merge_diff(existing.labels(), labels) {
        patch["metadata"] = json!({"labels": labels});
    }
    (patch != json!({})).then(|| Write::patch(existing, None, patch))
}

fn create(service: &Object, subsets: Value, labels: &Value) -> Write {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": service.name.name, "namespace": service.name.namespace, "labels": labels,
        },
    });
    if !subsets.is_null() {
        object["subsets"] = subsets;
    }
    Write::Create {
        kind: Kind::ENDPOINTS,
        namespace: service.name.namespace.clone(),
        object,
        then: None,
        or_else: None,
    }
}
