//! Who stands behind a Service: the pods it selects, and the ports they serve it on.

pub mod classic;
pub mod slice;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::object::{Kind, Object, ObjectRef};
use crate::value::{at, bool_at, int_at, is_empty, list_at, str_at};
use crate::world::{Change, World};
use crate::{pods, selector};

/// A port of a Service as one pod serves it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Port {
    pub name: String,
    pub protocol: String,
    pub number: i64,
    pub app_protocol: Option<String>,
}

impl Port {
    pub(crate) fn to_value(&self) -> Value {
        let mut port = json!({"name": self.name, "protocol": self.protocol, "port": self.number});
        if let Some(protocol) = &self.app_protocol {
            port["appProtocol"] = json!(protocol);
        }
        port
    }
}

/// Whether the endpoints of this Service are ours to keep.
pub(crate) fn is_selecting(service: &Object) -> bool {
    let spec = service.spec();
    !is_empty(at(spec, &["selector"])) && str_at(spec, &["type"]) != "ExternalName"
}

/// Pods that a Service selects, have an address and have not ended.
pub(crate) fn pods_of<'a>(
    service: &'a Object,
    world: &'a World,
) -> impl Iterator<Item = &'a Arc<Object>> {
    let wanted = at(service.spec(), &["selector"]);
    world.list_in(Kind::POD, &service.name.namespace).filter(move |pod| {
        selector::map_matches(wanted, pod.labels())
            && !pods::is_finished(pod)
            && !str_at(pod.status(), &["podIP"]).is_empty()
    })
}

/// The Services to wake when this pod changes, if it changes anything for them.
pub(crate) fn services_of(change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
    if let (Some(old), Some(new)) = (change.old, change.new)
        && facts(old) == facts(new)
    {
        return Vec::new();
    }
    let Some(pod) = change.latest() else { return Vec::new() };
    let selects = |service: &Object| {
        let wanted = at(service.spec(), &["selector"]);
        is_selecting(service)
            && change.sides().any(|pod| selector::map_matches(wanted, pod.labels()))
    };
    let services = world.list_in(Kind::SERVICE, &pod.name.namespace);
    services.filter(|service| selects(service)).map(|service| service.key()).collect()
}

/// What endpoints are made of.
fn facts(pod: &Object) -> (bool, bool, bool, [&Value; 7]) {
    let (spec, status) = (pod.spec(), pod.status());
    let values = [
        pod.labels(),
        at(status, &["podIPs"]),
        at(status, &["podIP"]),
        at(spec, &["nodeName"]),
        at(spec, &["containers"]),
        at(spec, &["hostname"]),
        at(pod.meta(), &["uid"]),
    ];
    (pods::is_ready(pod), pods::is_finished(pod), pod.is_deleting(), values)
}

/// The ports of a Service as this pod serves them; those it does not have are left out.
pub(crate) fn ports_of(service: &Object, pod: &Object) -> Vec<Port> {
    let ports = list_at(service.spec(), &["ports"]);
    let resolved = ports.iter().filter_map(|port| {
        let protocol = match str_at(port, &["protocol"]) {
            "" => "TCP",
            protocol => protocol,
        };
        Some(Port {
            name: str_at(port, &["name"]).to_owned(),
            protocol: protocol.to_owned(),
            number: target_port(port, protocol, pod)?,
            app_protocol: at(port, &["appProtocol"]).as_str().map(str::to_owned),
        })
    });
    let mut ports: Vec<Port> = resolved.collect();
    ports.sort();
    ports
}

fn target_port(port: &Value, protocol: &str, pod: &Object) -> Option<i64> {
    let name = match at(port, &["targetPort"]) {
        Value::String(name) => name,
        Value::Number(number) if number.as_i64() != Some(0) => return number.as_i64(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Some(int_at(port, &["port"]));
        }
    };
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let is_sidecar = |it: &&Value| str_at(it, &["restartPolicy"]) == "Always";
    let sidecars = list_at(pod.spec(), &["initContainers"]).iter().filter(is_sidecar);
    let containers = list_at(pod.spec(), &["containers"]).iter().chain(sidecars);
    containers
        .flat_map(|container| list_at(container, &["ports"]))
        .find(|it| {
            let served = match str_at(it, &["protocol"]) {
                "" => "TCP",
                protocol => protocol,
            };
            str_at(it, &["name"]) == name && served == protocol
        })
        .map(|it| int_at(it, &["containerPort"]))
}

/// The host name under which DNS knows this pod below the Service.
pub(crate) fn hostname<'a>(service: &Object, pod: &'a Object) -> Option<&'a str> {
    let is_below = str_at(pod.spec(), &["subdomain"]) == service.name.name;
    let hostname = str_at(pod.spec(), &["hostname"]);
    (is_below && !hostname.is_empty()).then_some(hostname)
}

pub(crate) fn target_ref(pod: &Object) -> Value {
    json!({
        "kind": "Pod", "name": pod.name.name, "namespace": pod.name.namespace, "uid": pod.uid.0,
    })
}

pub(crate) fn is_headless(service: &Object) -> bool {
    str_at(service.spec(), &["clusterIP"]) == "None"
}

pub(crate) fn publishes_not_ready(service: &Object) -> bool {
    bool_at(service.spec(), &["publishNotReadyAddresses"])
}

/// The labels of a Service that its endpoints get too.
pub(crate) fn inherited_labels(service: &Object) -> Value {
    let mut labels = service.labels().clone();
    let fields = crate::value::object_mut(&mut labels);
    for reserved in [crate::world::SERVICE_NAME_LABEL, slice::MANAGED_BY, classic::MANAGED_BY] {
        fields.remove(reserved);
    }
    match is_headless(service) {
        true => fields.insert(HEADLESS.to_owned(), json!("")),
        false => fields.remove(HEADLESS),
    };
    labels
}

const HEADLESS: &str = "service.kubernetes.io/headless";
