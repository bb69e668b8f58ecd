//! Defaults of containers of all three sorts.

use serde_json::{Value, json};

use super::resource_list;
use crate::object;

pub(super) fn default(container: &mut Value) {
    let map = object::as_map(container);
    let image = map.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    object::default_text(map, "imagePullPolicy", policy);
    object::default_text(map, "terminationMessagePath", "/dev/termination-log");
    object::default_text(map, "terminationMessagePolicy", "File");
    object::default(map, "resources", json!({}));
    if let Some(it) = map.get_mut("resources") {
        resources(it);
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(it) = map.get_mut(key) {
            probe(it);
        }
    }
    if let Some(lifecycle) = map.get_mut("lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = lifecycle.get_mut(key) {
                http_get(handler);
            }
        }
    }
    for port in object::items_mut(container, "ports") {
        object::default_text(object::as_map(port), "protocol", "TCP");
    }
    for env in object::items_mut(container, "env") {
        if let Some(source) = env.get_mut("valueFrom") {
            field_ref(source);
        }
    }
}

/// What a container may use at most it also asks for, unless it says otherwise.
pub(super) fn requests_from_limits(container: &mut Value) {
    let Some(limits) = object::get(container, "resources.limits").and_then(Value::as_object) else {
        return;
    };
    let limits = limits.clone();
    let requests = container["resources"].get_mut("requests");
    let mut merged = requests.and_then(|it| it.as_object().cloned()).unwrap_or_default();
    for (key, limit) in limits {
        merged.entry(key).or_insert(limit);
    }
    if !merged.is_empty() {
        container["resources"]["requests"] = Value::Object(merged);
    }
}

/// On the host's network a container's port is the host's port.
pub(super) fn host_ports(container: &mut Value) {
    for port in object::items_mut(container, "ports") {
        if object::int(port, "hostPort").unwrap_or(0) == 0
            && let Some(own) = port.get("containerPort").cloned()
        {
            port["hostPort"] = own;
        }
    }
}

pub(super) fn resources(resources: &mut Value) {
    for key in ["limits", "requests"] {
        if let Some(list) = resources.get_mut(key) {
            resource_list(list);
        }
    }
}

/// `Always` for the tag `latest` and for no tag at all, else `IfNotPresent`.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, it)| (name, it));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        Some(_) | None => "IfNotPresent",
    }
}

pub(super) fn field_ref(source: &mut Value) {
    if let Some(field) = source.get_mut("fieldRef") {
        object::default_text(object::as_map(field), "apiVersion", "v1");
    }
}

fn probe(probe: &mut Value) {
    let map = object::as_map(probe);
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        // Zero means unset here.
        if map.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
            map.insert(key.to_owned(), json!(value));
        }
    }
    http_get(probe);
    if let Some(grpc) = probe.get_mut("grpc") {
        object::default(object::as_map(grpc), "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(http) = handler.get_mut("httpGet") {
        let http = object::as_map(http);
        object::default_text(http, "path", "/");
        object::default_text(http, "scheme", "HTTP");
    }
}
