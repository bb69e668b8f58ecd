//! Definitions of versions that Kubernetes itself no longer publishes, made of the stable ones
//! that took their place.

use std::collections::BTreeMap;

use super::{Schema, Type};

/// Definitions that are the same in an older version: the newer name, and group, older version and
/// kind.
const SAME: [(&str, &str, &str, &str); 3] = [
    ("io.k8s.api.batch.v1.CronJob", "batch", "v1beta1", "CronJob"),
    ("io.k8s.api.discovery.v1.EndpointSlice", "discovery.k8s.io", "v1beta1", "EndpointSlice"),
    ("io.k8s.api.policy.v1.PodDisruptionBudget", "policy", "v1beta1", "PodDisruptionBudget"),
];
const ENDPOINT: &str = "io.k8s.api.discovery.v1beta1.Endpoint";

pub(super) fn add(definitions: &mut BTreeMap<String, Schema>) {
    for (newer, group, version, kind) in SAME {
        for suffix in ["", "List"] {
            let Some(mut schema) = definitions.get(&format!("{newer}{suffix}")).cloned() else {
                continue;
            };
            schema.kinds = vec![(group.into(), version.into(), format!("{kind}{suffix}"))];
            let older = newer.replace(".v1.", &format!(".{version}."));
            for property in schema.properties.values_mut() {
                refer_to_older(property, newer, &older);
            }
            definitions.insert(format!("{older}{suffix}"), schema);
        }
    }
    if let Some(mut endpoint) = definitions.get("io.k8s.api.discovery.v1.Endpoint").cloned() {
        endpoint.properties.remove("deprecatedTopology");
        endpoint.properties.remove("zone");
        let text = Schema { ty: Some(Type::String), ..Schema::default() };
        let topology = Schema {
            ty: Some(Type::Object),
            additional_properties: Some(Box::new(text)),
            omits_zero: true,
            ..Schema::default()
        };
        endpoint.properties.insert("topology", topology);
        definitions.insert(ENDPOINT.to_owned(), endpoint);
    }
}

/// Lists are of objects of their own version, and slices of endpoints of theirs.
fn refer_to_older(property: &mut Schema, newer: &str, older: &str) {
    let Some(items) = &mut property.items else { return };
    match items.reference.as_deref() {
        Some(it) if it == newer => items.reference = Some(older.into()),
        Some("io.k8s.api.discovery.v1.Endpoint") => items.reference = Some(ENDPOINT.into()),
        Some(_) | None => {}
    }
}
