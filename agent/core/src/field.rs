//! The downward API: fields of a Pod and resources of a container as text.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// What the node adds to a Pod's own fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFacts {
    pub node_name: String,
    pub host_ip: Option<IpAddr>,
    /// Stands in for a missing limit.
    pub allocatable_milli_cpu: i64,
    pub allocatable_memory: i64,
}

/// The text cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {path}")]
    Path { path: String },
    #[error("unsupported container resource: {resource}")]
    Resource { resource: String },
    #[error("container {name} not found")]
    Container { name: String },
}

/// The value of a `fieldRef`.
///
/// # Errors
/// The path is none that Kubernetes knows.
pub fn pod_field(
    pod: &Pod,
    path: &str,
    facts: &NodeFacts,
    pod_ip: Option<IpAddr>,
) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|it| it.split_once("['")) {
        let values = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(FieldError::Path { path: path.to_owned() }),
        };
        return Ok(text(values.and_then(|it| it.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => format_map(meta.labels.iter().flatten()),
        "metadata.annotations" => format_map(meta.annotations.iter().flatten()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => text(spec.and_then(|it| it.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => ip(facts.host_ip),
        "status.podIP" | "status.podIPs" => ip(pod_ip),
        _ => return Err(FieldError::Path { path: path.to_owned() }),
    })
}

/// `key="escaped value"` lines, as in downward API files.
fn format_map<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let lines: Vec<_> = entries.map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; a missing limit is what the node can allocate.
///
/// # Errors
/// The resource or the container is unknown.
pub fn resource_field(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &NodeFacts,
) -> Result<String, FieldError> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) if name != container.name => find_container(pod, name)?,
        _ => container,
    };
    let unsupported = || FieldError::Resource { resource: selector.resource.clone() };
    let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|it| it.limits.as_ref());
    let requests = resources.and_then(|it| it.requests.as_ref());
    let found: Option<&Quantity> = match list {
        "limits" => limits.and_then(|it| it.get(resource)),
        "requests" => requests.or(limits).and_then(|it| it.get(resource)),
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref();
    let (amount, unit) = if resource == "cpu" {
        let default = if list == "limits" { facts.allocatable_milli_cpu } else { 0 };
        (
            found.and_then(quantity::milli_value).unwrap_or(default),
            divisor.and_then(quantity::milli_value),
        )
    } else if resource == "memory" {
        let default = if list == "limits" { facts.allocatable_memory } else { 0 };
        (found.and_then(quantity::value).unwrap_or(default), divisor.and_then(quantity::value))
    } else if resource == "ephemeral-storage" || resource.starts_with("hugepages-") {
        (found.and_then(quantity::value).unwrap_or(0), divisor.and_then(quantity::value))
    } else {
        return Err(unsupported());
    };
    // A divisor of zero is the API's way to say none.
    let none = if resource == "cpu" { 1000 } else { 1 };
    let unit = unit.filter(|unit| *unit > 0).unwrap_or(none);
    Ok((amount.div_euclid(unit) + i64::from(amount.rem_euclid(unit) != 0)).to_string())
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, FieldError> {
    let spec = pod.spec.as_ref();
    let inits = spec.iter().flat_map(|it| it.init_containers.iter().flatten());
    spec.iter()
        .flat_map(|it| &it.containers)
        .chain(inits)
        .find(|it| it.name == name)
        .ok_or_else(|| FieldError::Container { name: name.to_owned() })
}
