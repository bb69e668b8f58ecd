//! EndpointSlices: the endpoints of a Service in portions of a hundred.
//!
//! A slice changes only if what it says changes, and an endpoint stays in the slice it is in: proxies
//! on thousands of nodes read every change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Port, hostname, inherited_labels, is_selecting, pods_of, ports_of, publishes_not_ready,
    services_of, target_ref,
};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::controller_ref;
use crate::value::{at, list_at, merge_diff, object_mut, str_at};
use crate::world::{Change, SERVICE_NAME_LABEL, World, service_of};
use crate::write::Write;
use crate::{Controller, Plan, pods};

/// Label that names who keeps a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const MAX_ENDPOINTS: usize = 100;
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Debug)]
pub struct EndpointSliceController;

impl Controller for EndpointSliceController {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::SERVICE => change.latest().map(Object::key).into_iter().collect(),
            Kind::POD => services_of(change, world),
            Kind::ENDPOINT_SLICE => {
                let services = change.sides().filter(|slice| is_ours(slice)).filter_map(service_of);
                services.map(|name| Kind::SERVICE.key(&name)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        let Some(service) = world.find(key) else { return Plan::default() };
        if !is_selecting(service) || service.is_deleting() {
            return Plan::default();
        }
        let mut wanted = wanted(service, world);
        let slices: Vec<&Object> = world
            .slices_of(&service.name)
            .map(AsRef::as_ref)
            .filter(|slice| is_ours(slice) && !slice.is_deleting())
            .collect();
        let mut writes = Vec::new();
        for family in families(service) {
            // A Service without endpoints shows that somebody looks after it.
            let is_missing = !wanted.keys().any(|group| group.family == family);
            if is_missing {
                wanted.insert(Group { family, ports: Vec::new() }, BTreeMap::new());
            }
        }
        let labels = labels(service);
        let mut spare = Vec::new();
        for slice in &slices {
            if !wanted.contains_key(&Group::of(slice)) {
                spare.push(*slice);
            }
        }
        for (group, endpoints) in wanted {
            let own = slices.iter().copied().filter(|slice| Group::of(slice) == group).collect();
            let fill = Fill { service, world, group: &group, labels: &labels };
            writes.extend(fill.plan(own, endpoints, &mut spare));
        }
        // Creates go first, so that no endpoint is missing in between.
        writes.sort_by_key(|write| !matches!(write, Write::Create { .. }));
        writes.extend(spare.into_iter().map(Write::delete));
        Plan::from(writes)
    }
}

/// Endpoints by the uid of their pod.
type Endpoints = BTreeMap<String, Value>;

/// Slices hold endpoints of one address family that serve the same ports.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Group {
    family: &'static str,
    ports: Vec<Port>,
}

impl Group {
    fn of(slice: &Object) -> Self {
        let port = |port: &Value| Port {
            name: str_at(port, &["name"]).to_owned(),
            protocol: str_at(port, &["protocol"]).to_owned(),
            number: crate::value::int_at(port, &["port"]),
            app_protocol: at(port, &["appProtocol"]).as_str().map(str::to_owned),
        };
        let mut ports: Vec<Port> = list_at(slice.value(), &["ports"]).iter().map(port).collect();
        ports.sort();
        let family = match str_at(slice.value(), &["addressType"]) {
            "IPv6" => "IPv6",
            _ => "IPv4",
        };
        Self { family, ports }
    }
}

fn is_ours(slice: &Object) -> bool {
    str_at(slice.labels(), &[MANAGED_BY]) == MANAGER
}

fn families(service: &Object) -> Vec<&'static str> {
    let listed = list_at(service.spec(), &["ipFamilies"]).iter().filter_map(Value::as_str);
    let families: Vec<_> = listed.map(|it| if it == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    match families.is_empty() {
        true if str_at(service.spec(), &["clusterIP"]).contains(':') => vec!["IPv6"],
        true => vec!["IPv4"],
        false => families,
    }
}

fn wanted(service: &Object, world: &World) -> BTreeMap<Group, Endpoints> {
    let mut groups: BTreeMap<Group, Endpoints> = BTreeMap::new();
    for family in families(service) {
        for pod in pods_of(service, world) {
            let addresses = addresses(pod, family);
            if addresses.is_empty() {
                continue;
            }
            let group = Group { family, ports: ports_of(service, pod) };
            let endpoint = endpoint(service, pod, &addresses, world);
            groups.entry(group).or_default().insert(pod.uid.0.clone(), endpoint);
        }
    }
    groups
}

fn addresses<'a>(pod: &'a Object, family: &str) -> Vec<&'a str> {
    let listed = list_at(pod.status(), &["podIPs"]).iter().map(|it| str_at(it, &["ip"]));
    let mut addresses: Vec<&str> = listed.collect();
    if addresses.is_empty() {
        addresses.push(str_at(pod.status(), &["podIP"]));
    }
    let is_wanted = |text: &&str| match text.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    addresses.into_iter().filter(is_wanted).collect()
}

fn endpoint(service: &Object, pod: &Object, addresses: &[&str], world: &World) -> Value {
    let (is_serving, is_terminating) = (pods::is_ready(pod), pod.is_deleting());
    let is_ready = publishes_not_ready(service) || (is_serving && !is_terminating);
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": {"ready": is_ready, "serving": is_serving, "terminating": is_terminating},
        "targetRef": target_ref(pod),
    });
    let node = str_at(pod.spec(), &["nodeName"]);
    if !node.is_empty() {
        endpoint["nodeName"] = json!(node);
        let node = world.get(Kind::NODE, &Name::cluster(node));
        if let Some(zone) = node.and_then(|node| at(node.labels(), &[ZONE]).as_str()) {
            endpoint["zone"] = json!(zone);
        }
    }
    if let Some(hostname) = hostname(service, pod) {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

fn labels(service: &Object) -> Value {
    let mut labels = inherited_labels(service);
    let fields = object_mut(&mut labels);
    fields.insert(SERVICE_NAME_LABEL.to_owned(), json!(service.name.name));
    fields.insert(MANAGED_BY.to_owned(), json!(MANAGER));
    labels
}

/// Spreads the endpoints of one group over slices.
struct Fill<'a> {
    service: &'a Object,
    world: &'a World,
    group: &'a Group,
    labels: &'a Value,
}

impl Fill<'_> {
    /// Keeps endpoints where they are, fills the slices that have room, and makes new ones last.
    /// Slices left without endpoints go to `spare`, but one stays.
    fn plan<'a>(
        &self,
        own: Vec<&'a Object>,
        mut left: Endpoints,
        spare: &mut Vec<&'a Object>,
    ) -> Vec<Write> {
        let is_empty_group = left.is_empty();
        let mut filled: Vec<(&Object, Vec<Value>)> = Vec::new();
        for slice in own {
            let known = list_at(slice.value(), &["endpoints"]).iter();
            let kept = known.filter_map(|it| left.remove(str_at(it, &["targetRef", "uid"])));
            filled.push((slice, kept.collect()));
        }
        // The fullest first: few slices, and few of them touched.
        filled.sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
        let mut left = left.into_values();
        for (_, endpoints) in &mut filled {
            let room = MAX_ENDPOINTS.saturating_sub(endpoints.len());
            endpoints.extend(left.by_ref().take(room));
        }
        let mut writes = Vec::new();
        let mut n_kept = 0;
        for (slice, endpoints) in filled {
            if endpoints.is_empty() && (!is_empty_group || n_kept > 0) {
                spare.push(slice);
                continue;
            }
            n_kept += 1;
            writes.extend(self.update(slice, endpoints));
        }
        let rest: Vec<Value> = left.collect();
        for endpoints in rest.chunks(MAX_ENDPOINTS) {
            writes.push(self.create(endpoints));
        }
        if n_kept == 0 && rest.is_empty() {
            writes.push(self.create(&[]));
        }
        writes
    }

    fn update(&self, slice: &Object, endpoints: Vec<Value>) -> Option<Write> {
        let mut patch = json!({});
        if endpoints != list_at(slice.value(), &["endpoints"]) {
            patch["endpoints"] = Value::Array(endpoints);
        }
        if let Some(labels) = merge_diff(slice.labels(), self.labels) {
            patch["metadata"] = json!({"labels": labels});
        }
        (patch != json!({})).then(|| Write::patch(slice, None, patch))
    }

    fn create(&self, endpoints: &[Value]) -> Write {
        let ports: Vec<Value> = self.group.ports.iter().map(Port::to_value).collect();
        Write::Create {
            kind: Kind::ENDPOINT_SLICE,
            namespace: self.service.name.namespace.clone(),
            object: json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{}-", self.service.name.name),
                    "namespace": self.service.name.namespace,
                    "labels": self.labels,
                    "ownerReferences": [controller_ref(self.service, self.world)],
                },
                "addressType": self.group.family,
                "endpoints": endpoints,
                "ports": ports,
            }),
            then: None,
            or_else: None,
        }
    }
}

#[cfg(test)]
mod tests;
