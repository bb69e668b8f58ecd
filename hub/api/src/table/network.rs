//! Services, what is behind them, and what is in front.

use serde_json::Value;

use super::cells::{NONE, at_most_three, join, list, number, or_none, plain, selector, text};

pub(super) fn cluster_ip(service: &Value) -> Value {
    let first = list(service, "/spec/clusterIPs").first().and_then(Value::as_str);
    let found = first.unwrap_or_else(|| text(service, "/spec/clusterIP"));
    or_none(found.to_owned()).into()
}

pub(super) fn external_ip(service: &Value) -> Value {
    let mut addresses: Vec<String> = Vec::new();
    match text(service, "/spec/type") {
        "ExternalName" => return text(service, "/spec/externalName").into(),
        "LoadBalancer" => addresses.extend(ingress_addresses(service)),
        _ => {}
    }
    addresses.extend(list(service, "/spec/externalIPs").iter().map(plain));
    if !addresses.is_empty() {
        return addresses.join(",").into();
    }
    if text(service, "/spec/type") == "LoadBalancer" { "<pending>" } else { NONE }.into()
}

pub(super) fn service_ports(service: &Value) -> Value {
    let ports = list(service, "/spec/ports").iter().map(|port| {
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            other => other,
        };
        match number(port, "/nodePort") {
            0 => format!("{}/{protocol}", number(port, "/port")),
            node_port => format!("{}:{node_port}/{protocol}", number(port, "/port")),
        }
    });
    or_none(ports.collect::<Vec<_>>().join(",")).into()
}

/// `10.0.0.1:80,10.0.0.2:80`, for every port of every subset.
pub(super) fn endpoints(endpoints: &Value) -> Value {
    let mut found = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let addresses = || list(subset, "/addresses").iter().map(|it| text(it, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            found.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = number(port, "/port");
            found.extend(addresses().map(|it| match it.contains(':') {
                true => format!("[{it}]:{port}"),
                false => format!("{it}:{port}"),
            }));
        }
    }
    at_most_three(&found, NONE).into()
}

pub(super) fn slice_ports(slice: &Value) -> Value {
    let ports = list(slice, "/ports").iter().map(|it| match (it.get("port"), it.get("name")) {
        (Some(port), _) => plain(port),
        (None, Some(name)) => plain(name),
        (None, None) => "*".to_owned(),
    });
    at_most_three(&ports.collect::<Vec<_>>(), "<unset>").into()
}

pub(super) fn slice_endpoints(slice: &Value) -> Value {
    let endpoints = list(slice, "/endpoints").iter();
    let addresses = endpoints.flat_map(|it| list(it, "/addresses")).map(plain);
    at_most_three(&addresses.collect::<Vec<_>>(), "<unset>").into()
}

pub(super) fn ingress_hosts(ingress: &Value) -> Value {
    let hosts: Vec<String> = list(ingress, "/spec/rules")
        .iter()
        .map(|it| text(it, "/host").to_owned())
        .filter(|it| !it.is_empty())
        .collect();
    at_most_three(&hosts, "*").into()
}

pub(super) fn ingress_address(ingress: &Value) -> Value {
    ingress_addresses(ingress).collect::<Vec<_>>().join(",").into()
}

pub(super) fn ingress_ports(ingress: &Value) -> Value {
    if list(ingress, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into()
}

pub(super) fn ingress_class_parameters(class: &Value) -> Value {
    let Some(parameters) = class.pointer("/spec/parameters").filter(|it| !it.is_null()) else {
        return NONE.into();
    };
    let kind = text(parameters, "/kind");
    let kind = match text(parameters, "/apiGroup") {
        "" => kind.to_owned(),
        group => format!("{kind}.{group}"),
    };
    format!("{kind}/{}", text(parameters, "/name")).into()
}

/// `services/default/kubernetes`.
pub(super) fn address_parent(address: &Value) -> Value {
    let Some(parent) = address.pointer("/spec/parentRef").filter(|it| !it.is_null()) else {
        return NONE.into();
    };
    let resource = match text(parent, "/group") {
        "" => text(parent, "/resource").to_owned(),
        group => format!("{}.{group}", text(parent, "/resource")),
    };
    let parts = [resource.as_str(), text(parent, "/namespace"), text(parent, "/name")];
    parts.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("/").into()
}

pub(super) fn service_cidrs(range: &Value) -> Value {
    list(range, "/spec/cidrs").iter().map(plain).collect::<Vec<_>>().join(",").into()
}

pub(super) fn pod_selector(policy: &Value) -> Value {
    selector(policy.pointer("/spec/podSelector")).into()
}

fn ingress_addresses(object: &Value) -> impl Iterator<Item = String> {
    list(object, "/status/loadBalancer/ingress").iter().map(|it| match text(it, "/ip") {
        "" => text(it, "/hostname").to_owned(),
        ip => ip.to_owned(),
    })
}

/// Names of the users, groups or service accounts that a role is bound to.
fn subjects(binding: &Value, kind: &str) -> Value {
    let subjects: Vec<Value> =
        list(binding, "/subjects").iter().filter(|it| it["kind"] == kind).cloned().collect();
    join(&subjects, "/name").into()
}

pub(super) fn users(binding: &Value) -> Value {
    subjects(binding, "User")
}

pub(super) fn groups(binding: &Value) -> Value {
    subjects(binding, "Group")
}

pub(super) fn service_accounts(binding: &Value) -> Value {
    let subjects = list(binding, "/subjects").iter().filter(|it| it["kind"] == "ServiceAccount");
    let names = subjects.map(|it| format!("{}/{}", text(it, "/namespace"), text(it, "/name")));
    names.collect::<Vec<_>>().join(",").into()
}

pub(super) fn role(binding: &Value) -> Value {
    format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")).into()
}
