//! Defaults of pods, wherever a pod's spec stands.

use serde_json::{Map, Value, json};

use crate::object;
use crate::quantity::Quantity;

mod container;
mod volume;

/// Fills in a Pod.
pub fn pod(object: &mut Value) {
    spec(object::ensure(object, "spec"));
    let spec = &mut object["spec"];
    for key in ["containers", "initContainers"] {
        for container in object::items_mut(spec, key) {
            container::requests_from_limits(container);
        }
    }
    if object::flag(spec, "hostNetwork") {
        for key in ["containers", "initContainers"] {
            for container in object::items_mut(spec, key) {
                container::host_ports(container);
            }
        }
    }
    object::default(object::as_map(spec), "enableServiceLinks", true);
    status(object);
}

/// Fills in the status of a Pod: the old single addresses and the newer lists of them.
pub fn status(object: &mut Value) {
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        mirror_address(status, "podIP", "podIPs");
        mirror_address(status, "hostIP", "hostIPs");
    }
}

/// Fills in a pod template.
pub fn template(template: &mut Value) {
    object::ensure(template, "metadata");
    spec(object::ensure(template, "spec"));
}

/// The quality of service class that the pod's resources give it.
pub fn qos_class(object: &Value) -> &'static str {
    // What is said of the pod as a whole goes before what is said of its containers.
    let whole = object::get(object, "spec.resources").is_some().then(|| &object["spec"]);
    let containers = object::list(object, "spec.containers")
        .iter()
        .chain(object::list(object, "spec.initContainers"));
    let all = whole.into_iter().chain(containers.filter(|_| whole.is_none()));
    let mut any = false;
    let mut guaranteed = true;
    for container in all {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| {
                let text = container.get("resources")?.get(kind)?.get(resource)?.as_str()?;
                Quantity::parse(text).ok().filter(|it| !it.is_zero())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|it| Some(it) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Rounds and rewrites the quantities of a resource list, as Kubernetes shows them.
pub fn resource_list(list: &mut Value) {
    for (_, amount) in list.as_object_mut().into_iter().flatten() {
        if let Some(parsed) = parse(amount) {
            *amount = Value::String(parsed.round_up_milli().to_string());
        }
    }
}

/// Writes a quantity as everybody writes it.
pub fn quantity(amount: &mut Value) {
    if let Some(parsed) = parse(amount) {
        *amount = Value::String(parsed.to_string());
    }
}

fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Fills in the source of a volume, in a pod or in a PersistentVolume.
pub(crate) fn volume_source(volume: &mut Map<String, Value>) {
    volume::source(volume);
}

fn spec(spec: &mut Map<String, Value>) {
    object::default_text(spec, "dnsPolicy", "ClusterFirst");
    object::default_text(spec, "restartPolicy", "Always");
    object::default_text(spec, "schedulerName", "default-scheduler");
    object::default(spec, "securityContext", json!({}));
    object::default(spec, "terminationGracePeriodSeconds", 30);
    mirror_account(spec);
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec, key) {
            container::default(container);
        }
    }
    for volume in items(spec, "volumes") {
        volume::default(volume);
    }
    if let Some(overhead) = spec.get_mut("overhead") {
        resource_list(overhead);
    }
    if let Some(resources) = spec.get_mut("resources") {
        container::resources(resources);
    }
}

fn items<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut [Value] {
    map.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn mirror_account(spec: &mut Map<String, Value>) {
    let text = |key: &str| {
        spec.get(key).and_then(Value::as_str).filter(|it| !it.is_empty()).map(str::to_owned)
    };
    if let Some(name) = text("serviceAccountName").or_else(|| text("serviceAccount")) {
        spec.insert("serviceAccountName".to_owned(), json!(name));
        spec.insert("serviceAccount".to_owned(), json!(name));
    }
}

/// Keeps `podIP` and `podIPs[0].ip` in step.
fn mirror_address(status: &mut Map<String, Value>, single: &str, plural: &str) {
    let one = status.get(single).and_then(Value::as_str).filter(|it| !it.is_empty());
    let first = status.get(plural).and_then(|it| it.get(0)?.get("ip")).cloned();
    match (one.map(str::to_owned), first) {
        (Some(one), None) => {
            status.insert(plural.to_owned(), json!([{"ip": one}]));
        }
        (None, Some(first)) => {
            status.insert(single.to_owned(), first);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}
