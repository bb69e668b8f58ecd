//! The documents as kubectl reads them.

use std::collections::BTreeMap;

use super::*;
use crate::protobuf::wire::{Fields, Wire};
use crate::resources;

#[test]
fn version_3_names_the_kind_and_the_parameters_of_patches() {
    let document = v3_document("apps", "v1", resources::builtin());
    let operation =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(operation["x-kubernetes-group-version-kind"], gvk("apps", "v1", "Deployment"));
    let parameters = operation["parameters"].as_array().unwrap();
    for wanted in ["dryRun", "fieldValidation"] {
        assert!(parameters.iter().any(|it| it["in"] == "query" && it["name"] == wanted));
    }
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.core.v1.ServiceAccount"],
        Value::Null,
        "what apps/v1 does not need"
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"],
        json!({
            "type": "string",
            "default": "TCP",
            "description": "Protocol for port. Must be UDP, TCP, or SCTP. Defaults to \"TCP\".",
        }),
    );
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["description"], "PodSpec is a description of a pod.");
    let mut containers = spec["properties"]["containers"].clone();
    containers["description"].take();
    assert_eq!(
        containers,
        json!({
            "description": null,
            "type": "array",
            "items": { "$ref": "#/components/schemas/io.k8s.api.core.v1.Container" },
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": "name",
            "x-kubernetes-patch-strategy": "merge",
        }),
    );
}

#[test]
fn version_3_has_no_dangling_reference() {
    let rows = resources::builtin();
    for path in v3_index(rows)["paths"].as_object().unwrap().keys() {
        let (rest, version) = path.rsplit_once('/').unwrap();
        let group = rest.strip_prefix("apis/").unwrap_or_default();
        let document = v3_document(group, version, rows);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for row in rows.iter().filter(|it| it.group == group && it.version == version) {
            assert!(schemas.contains_key(&*row.schema));
        }
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}

#[test]
fn the_index_changes_its_addresses_with_the_documents() {
    let rows = resources::builtin();
    let all = v3_index(rows);
    let url = all["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let deployments: Vec<Resource> =
        rows.iter().filter(|it| it.kind == "Deployment").cloned().collect();
    let fewer = v3_index(&deployments);
    assert_eq!(fewer["paths"]["api/v1"], Value::Null);
    assert_ne!(fewer["paths"]["apis/apps/v1"], all["paths"]["apis/apps/v1"]);
}

#[test]
fn version_2_is_a_gnostic_document() {
    let document = v2_protobuf(resources::builtin());
    assert_eq!(text(first(&document, 1)), "2.0");
    let paths = names(first(&document, 8), 2);
    let item = paths["/api/v1/nodes/{name}"];
    let operation = first(first(item, 2), 8);
    let kind = names(operation, 13)["x-kubernetes-group-version-kind"];
    assert_eq!(text(first(first(kind, 2), 2)), r#"{"group":"","kind":"Node","version":"v1"}"#);
    let parameters: Vec<String> =
        all(operation, 8).map(|it| text(first(first(first(first(it, 1), 2), 3), 4))).collect();
    assert!(["dryRun", "fieldValidation"].iter().all(|it| parameters.contains(&(*it).to_owned())));

    let definitions = names(first(&document, 9), 1);
    let container = first(definitions["io.k8s.api.core.v1.Container"], 2);
    assert_eq!(
        text(first(container, 4)),
        "A single application container that you want to run within a pod."
    );
    assert_eq!(text(first(container, 19)), "name");
    let properties = names(first(container, 25), 1);
    let ports = first(properties["ports"], 2);
    assert_eq!(text(first(first(ports, 22), 1)), "array");
    let items = first(first(ports, 23), 1);
    assert_eq!(text(first(items, 1)), "#/definitions/io.k8s.api.core.v1.ContainerPort");
    let key = names(ports, 31)["x-kubernetes-patch-merge-key"];
    assert_eq!(text(first(first(key, 2), 2)), r#""containerPort""#);
}

fn all(message: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter_map(move |field| match field.unwrap() {
        (number, Wire::Bytes(bytes)) if number == wanted => Some(bytes),
        _ => None,
    })
}

fn first(message: &[u8], wanted: u32) -> &[u8] {
    all(message, wanted).next().unwrap()
}

/// Repeated messages that begin with a name, by that name.
fn names(message: &[u8], wanted: u32) -> BTreeMap<String, &[u8]> {
    all(message, wanted).map(|it| (text(first(it, 1)), it)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
