//! Answers to what cannot be done, word for word.

use serde_json::{Value, json};

use crate::harness::World;

/// Method, path, headers, body, and the `Status` that comes back.
type Case = (&'static str, String, &'static [(&'static str, &'static str)], &'static str, Value);

const CMS: &str = "/api/v1/namespaces/default/configmaps";

fn failure(code: u16, reason: &str, message: &str, details: Value) -> Value {
    let mut out = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if !details.is_null() {
        out["details"] = details;
    }
    out
}

#[tokio::test]
async fn refusals_are_kubernetes_own() {
    let mut world = World::new().await;
    let made = world.post(CMS, &json!({"metadata":{"name":"there"},"data":{"a":"b"}})).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    let revision = world.registry.revision();
    let json_type: &'static [(&'static str, &'static str)] =
        &[("content-type", "application/json")];
    let about = |name: &str| json!({"name":name,"kind":"configmaps"});
    let cases: Vec<Case> = vec![
        (
            "GET",
            format!("{CMS}/nope"),
            &[],
            "",
            failure(404, "NotFound", "configmaps \"nope\" not found", about("nope")),
        ),
        (
            "GET",
            "/api/v1/nopes".into(),
            &[],
            "",
            failure(404, "NotFound", "the server could not find the requested resource", json!({})),
        ),
        (
            "PUT",
            CMS.into(),
            json_type,
            "{}",
            failure(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
                json!({}),
            ),
        ),
        (
            "POST",
            format!("{CMS}/there"),
            json_type,
            "{}",
            failure(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
                json!({}),
            ),
        ),
        (
            "GET",
            CMS.into(),
            &[("accept", "text/html")],
            "",
            failure(406, "NotAcceptable", "406: Not Acceptable", json!({})),
        ),
        (
            "POST",
            CMS.into(),
            &[("content-type", "text/plain")],
            "x",
            failure(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
                Value::Null,
            ),
        ),
        (
            "PATCH",
            format!("{CMS}/there"),
            &[("content-type", "text/plain")],
            "{}",
            failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({})),
        ),
        (
            "POST",
            CMS.into(),
            json_type,
            r#"{"metadata":{"name":"there"}}"#,
            failure(409, "AlreadyExists", "configmaps \"there\" already exists", about("there")),
        ),
        (
            "PUT",
            format!("{CMS}/there"),
            json_type,
            r#"{"metadata":{"name":"there","resourceVersion":"1"}}"#,
            failure(
                409,
                "Conflict",
                "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; please apply your changes to the latest version and try again",
                about("there"),
            ),
        ),
        (
            "PATCH",
            format!("{CMS}/there"),
            &[("content-type", "application/merge-patch+json")],
            r#"{"metadata":{"resourceVersion":"1"},"data":{"a":"c"}}"#,
            failure(
                409,
                "Conflict",
                "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; please apply your changes to the latest version and try again",
                about("there"),
            ),
        ),
        (
            "GET",
            format!("{CMS}?resourceVersion=99999999"),
            &[],
            "",
            failure(
                504,
                "Timeout",
                &format!("Timeout: Too large resource version: 99999999, current: {revision}"),
                json!({"causes":[{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],"retryAfterSeconds":1}),
            ),
        ),
        (
            "GET",
            format!("{CMS}?fieldSelector=spec.foo%3Dx"),
            &[],
            "",
            failure(400, "BadRequest", "field label not supported: spec.foo", Value::Null),
        ),
        (
            "GET",
            format!("{CMS}?resourceVersionMatch=Exact"),
            &[],
            "",
            failure(
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                json!({"group":"meta.k8s.io","kind":"ListOptions","causes":[{"reason":"FieldValueForbidden","message":"Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided","field":"resourceVersionMatch"}]}),
            ),
        ),
        (
            "GET",
            format!("{CMS}?watch=1&sendInitialEvents=true"),
            &[],
            "",
            failure(
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                json!({"group":"meta.k8s.io","kind":"ListOptions","causes":[{"reason":"FieldValueForbidden","message":"Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan","field":"resourceVersionMatch"}]}),
            ),
        ),
        (
            "GET",
            format!("{CMS}?continue=xx"),
            &[],
            "",
            failure(400, "BadRequest", "continue key is not valid: not base64", Value::Null),
        ),
        (
            "POST",
            "/api/v1/namespaces/nowhere/configmaps".into(),
            json_type,
            r#"{"metadata":{"name":"a"}}"#,
            failure(
                404,
                "NotFound",
                "namespaces \"nowhere\" not found",
                json!({"name":"nowhere","kind":"namespaces"}),
            ),
        ),
        (
            "POST",
            CMS.into(),
            json_type,
            r#"{"metadata":{"name":"a","namespace":"other"}}"#,
            failure(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
                Value::Null,
            ),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default".into(),
            &[],
            "",
            failure(
                403,
                "Forbidden",
                "namespaces \"default\" is forbidden: this namespace may not be deleted",
                json!({"name":"default","kind":"namespaces"}),
            ),
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/a%2Fb".into(),
            &[],
            "",
            failure(
                400,
                "BadRequest",
                "invalid resource name \"a/b\": [may not contain '/']",
                Value::Null,
            ),
        ),
    ];
    for (method, path, headers, body, expected) in cases {
        let reply = world.send(method, &path, headers, body).await;
        assert_eq!(reply.json(), expected, "{method} {path}");
        assert_eq!(Value::from(reply.code), expected["code"], "{method} {path}");
        assert_eq!(reply.headers["cache-control"], "no-cache, private");
        assert!(reply.headers.contains_key("audit-id"));
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_as_kubernetes_does() {
    let mut world = World::new().await;
    let group = world.get("/apis/nope.io/v1/things").await;
    assert_eq!((group.code, &*group.body), (404, &b"404 page not found\n"[..]));
    assert_eq!(group.headers["content-type"], "text/plain; charset=utf-8");
    let path = world.get("/nope").await;
    assert_eq!(path.code, 404);
    assert!(path.json()["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
    let verbose = world.get("/readyz?verbose").await;
    assert_eq!(&*verbose.body, b"[+]ping ok\n[+]storage ok\n[+]shutdown ok\nreadyz check passed\n");
    assert_eq!(world.get("/version/").await.json()["gitVersion"], "v1.37.0+test");
    world.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let mut world = World::new().await;
    let body = json!({"metadata":{"name":"big"},"data":{"a":"x".repeat(4 << 20)}});
    let reply = world.post(CMS, &body).await;
    assert_eq!((reply.code, reply.json()["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    world.stop().await;
}
