//! The documents as kubectl reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    let document = v2_protobuf(resources::builtin(), &[]);
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

#[test]
fn version_2_has_what_other_servers_say_of_theirs() {
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let query = json!({"name": "force", "in": "query", "type": "boolean", "uniqueItems": true});
    let path = json!({"name": "name", "in": "path", "type": "string", "required": true});
    let body = json!({"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Thing"}});
    let put = json!({
        "operationId": "putThing", "consumes": ["a/b"], "parameters": [query, path, body],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Thing"}}},
        "x-kubernetes-action": "put",
    });
    let other = json!({
        "swagger": "2.0",
        "paths": {"/apis/a.test/v1/things/{name}": {"put": put}},
        "definitions": {
            "Thing": {"type": "object", "properties": {"metadata": {"$ref": format!("#/definitions/{meta}")}}},
            meta: {"description": "of another time"},
        },
    });
    let part = V2Part::of(other.to_string().as_bytes(), "a.test", "v1").unwrap();
    let document = v2_protobuf(resources::builtin(), &[Arc::new(part)]);
    let paths = names(first(&document, 8), 2);
    assert!(paths.contains_key("/api/v1/nodes/{name}"));
    let put = first(first(paths["/apis/a.test/v1/things/{name}"], 2), 3);
    assert_eq!(text(first(put, 5)), "putThing");
    assert_eq!(text(first(put, 7)), "a/b");
    let parameters: Vec<&[u8]> = all(put, 8).map(|it| first(it, 1)).collect();
    let [query, path, body] = parameters[..] else { panic!("{parameters:?}") };
    let query = first(first(query, 2), 3);
    assert_eq!((text(first(query, 4)), text(first(query, 6))), ("force".into(), "boolean".into()));
    let path = first(first(path, 2), 4);
    assert_eq!((text(first(path, 4)), text(first(path, 5))), ("name".into(), "string".into()));
    let body = first(first(body, 1), 5);
    assert_eq!(text(first(body, 1)), "#/definitions/Thing");
    let ok = first(names(first(put, 9), 1)["200"], 2);
    assert_eq!(text(first(first(ok, 1), 1)), "OK");
    assert_eq!(text(first(first(first(first(ok, 1), 2), 1), 1)), "#/definitions/Thing");
    assert!(names(put, 13).contains_key("x-kubernetes-action"));
    let found: Vec<String> = all(first(&document, 9), 1).map(|it| text(first(it, 1))).collect();
    let count = |name: &str| found.iter().filter(|it| *it == name).count();
    assert_eq!((count("Thing"), count(meta)), (1, 1), "ours come first");
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
