//! Cases of bodies, good and bad, and what becomes of them.

use serde_json::{Value, json};

use super::*;
use crate::resources;

fn resource(plural: &str) -> &'static Resource {
    resources::builtin().iter().find(|it| it.plural == plural).unwrap()
}

fn json_body(plural: &str, body: &str) -> Result<Value, String> {
    decode(resource(plural), body.as_bytes(), Media::Json, FieldValidation::Strict)
        .map(|it| it.object)
        .map_err(|it| it.message)
}

#[test]
fn broken_bodies_are_told_as_kubernetes_tells_them() {
    for (plural, body, expected) in [
        (
            "configmaps",
            r#"{"kind":"#,
            r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"kind":)"#,
        ),
        (
            "configmaps",
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            "configmaps",
            "nope",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: invalid character 'o' looking for beginning of value (6e6f7065)",
        ),
        (
            "configmaps",
            r#"{"kind":"Secret"}"#,
            r#"Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"#,
        ),
        (
            "configmaps",
            r#"{"apiVersion":"v2"}"#,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            "deployments",
            r#"{"spec":{"replicas":"3"}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            "deployments",
            r#"{"spec":{"replicas":99999999999}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            "deployments",
            r#"{"spec":{"replicas":1.5}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            "deployments",
            r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":1}]}]}}}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"#,
        ),
        (
            "configmaps",
            r#"{"data":{"a":true}}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"#,
        ),
        (
            "pods",
            r#"{"spec":{"containers":{}}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"#,
        ),
        (
            "pods",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
        ),
        (
            "secrets",
            r#"{"data":{"a":"!"}}"#,
            r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#,
        ),
        (
            "configmaps",
            r#"[]"#,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct",
        ),
    ] {
        let message = json_body(plural, body).unwrap_err();
        assert!(message.starts_with(expected), "{body}\n{message}\n{expected}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_all_told_in_their_order() {
    let body = br#"{
        "metadata": {"name": "a", "nope": 1, "labels": {"x": "1", "x": "2"}},
        "spec": {"x": 1, "x": 2, "paused": false, "paused": true,
            "template": {"spec": {"containers": [{"name": "a"}, {"extra": {"deep": 1}}]}}}
    }"#;
    let expected = [
        r#"unknown field "metadata.nope""#,
        r#"duplicate field "metadata.labels.x""#,
        r#"unknown field "spec.x""#,
        r#"duplicate field "spec.paused""#,
        r#"unknown field "spec.template.spec.containers[1].extra""#,
    ];
    let with = |it| decode(resource("deployments"), body, Media::Json, it);
    let strict = with(FieldValidation::Strict).unwrap_err();
    assert_eq!(
        strict.message,
        format!(
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: {}",
            expected.join(", ")
        )
    );
    assert_eq!((strict.code, &*strict.reason), (400, "BadRequest"));
    let warned = with(FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings, expected);
    assert_eq!(warned.object["metadata"], json!({"name": "a", "labels": {"x": "2"}}));
    assert_eq!(warned.object["spec"]["paused"], json!(true));
    assert_eq!(with(FieldValidation::Ignore).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn values_get_the_form_that_go_would_give_them() {
    for (plural, body, expected) in [
        (
            "configmaps",
            json!({"metadata": {"name": "a", "labels": {}, "annotations": null}, "data": {"k": null}}),
            json!({"metadata": {"name": "a"}, "data": {"k": ""}}),
        ),
        (
            "pods",
            json!({
                "metadata": {"creationTimestamp": "2026-11-20T09:00:00.5+01:00"},
                "spec": {
                    "containers": [],
                    "overhead": {"cpu": 1},
                    "tolerations": [],
                    "volumes": [{"name": "a", "emptyDir": {}}],
                },
            }),
            json!({
                "metadata": {"creationTimestamp": "2026-11-20T08:00:00Z"},
                "spec": {
                    "containers": [],
                    "overhead": {"cpu": "1"},
                    "volumes": [{"name": "a", "emptyDir": {}}],
                },
            }),
        ),
        (
            "pods",
            json!({"spec": {
                "hostNetwork": false,
                "shareProcessNamespace": false,
                "nodeName": "",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "", "command": [], "ports": [{"hostPort": 0}], "stdin": false}],
                "volumes": [{"name": "v", "hostPath": {"path": "", "type": ""}}],
            }}),
            json!({"spec": {
                "shareProcessNamespace": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "", "ports": [{}]}],
                "volumes": [{"name": "v", "hostPath": {"path": "", "type": ""}}],
            }}),
        ),
        (
            "leases",
            json!({"spec": {"renewTime": "2026-11-20T08:00:00.5Z"}}),
            json!({"spec": {"renewTime": "2026-11-20T08:00:00.500000Z"}}),
        ),
        (
            "services",
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"targetPort": 8080}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"targetPort": 8080}]}}),
        ),
    ] {
        let mut object = json_body(plural, &body.to_string()).unwrap();
        assert_eq!(object["kind"], *resource(plural).kind);
        for key in ["kind", "apiVersion"] {
            object.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(object, expected);
        let mut again = conform(resource(plural), &object, FieldValidation::Strict).unwrap().object;
        for key in ["kind", "apiVersion"] {
            again.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(again, expected);
    }
}

#[test]
fn yaml_is_decoded_like_json() {
    let body = b"kind: ConfigMap\nmetadata:\n  name: a\n  nope: 1\ndata:\n  a: x\n  a: 'y'\n";
    let out = decode(resource("configmaps"), body, Media::Yaml, FieldValidation::Warn).unwrap();
    assert_eq!(
        out.object,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "y"}})
    );
    assert_eq!(out.warnings, [r#"unknown field "metadata.nope""#, r#"duplicate field "data.a""#]);
    let number =
        decode(resource("configmaps"), b"data: {a: 1}", Media::Yaml, FieldValidation::Warn);
    assert!(number.unwrap_err().message.ends_with("ConfigMap.data of type string"));
}

#[test]
fn a_kind_that_stands_twice_is_a_duplicate() {
    let body = br#"{"kind": "ConfigMap", "kind": "ConfigMap"}"#;
    let out = decode(resource("configmaps"), body, Media::Json, FieldValidation::Warn).unwrap();
    assert_eq!(out.warnings, [r#"duplicate field "kind""#]);
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let body = format!(r#"{{"metadata":{{"managedFields":[{{"fieldsV1":{deep}}}]}}}}"#);
    assert!(json_body("configmaps", &body).unwrap_err().contains("exceeded max depth"));
}
