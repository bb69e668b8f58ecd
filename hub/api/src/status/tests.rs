//! Statuses and field errors, compared with what Kubernetes answers.

use serde_json::json;

use super::*;

#[test]
fn statuses_are_word_for_word_those_of_kubernetes() {
    let name = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    for (status, expected) in [
        (
            Status::not_found("", "pods", "nope"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods \"nope\" not found", "reason": "NotFound",
                "details": {"name": "nope", "kind": "pods"}, "code": 404
            }),
        ),
        (
            Status::not_found("apps", "deployments", "web"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "deployments.apps \"web\" not found", "reason": "NotFound",
                "details": {"name": "web", "group": "apps", "kind": "deployments"}, "code": 404
            }),
        ),
        (
            Status::no_such_resource(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "the server could not find the requested resource",
                "reason": "NotFound", "details": {}, "code": 404
            }),
        ),
        (
            Status::method_not_allowed(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "the server does not allow this method on the requested resource",
                "reason": "MethodNotAllowed", "details": {}, "code": 405
            }),
        ),
        (
            Status::not_acceptable(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "406: Not Acceptable", "reason": "NotAcceptable", "details": {},
                "code": 406
            }),
        ),
        (
            Status::unsupported_media_type(&["application/json", "application/yaml"]),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
                "reason": "UnsupportedMediaType", "code": 415
            }),
        ),
        (
            Status::already_exists("", "configmaps", "nokind"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "configmaps \"nokind\" already exists", "reason": "AlreadyExists",
                "details": {"name": "nokind", "kind": "configmaps"}, "code": 409
            }),
        ),
        (
            Status::modified("", "configmaps", "nokind"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Operation cannot be fulfilled on configmaps \"nokind\": the object has been modified; please apply your changes to the latest version and try again",
                "reason": "Conflict", "details": {"name": "nokind", "kind": "configmaps"},
                "code": 409
            }),
        ),
        (
            Status::invalid(
                "",
                "ConfigMap",
                "Bad_Name",
                vec![FieldError::invalid("metadata.name", "Bad_Name", name)],
            ),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": format!("ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": {name}"),
                "reason": "Invalid",
                "details": {
                    "name": "Bad_Name", "kind": "ConfigMap",
                    "causes": [{
                        "reason": "FieldValueInvalid",
                        "message": format!("Invalid value: \"Bad_Name\": {name}"),
                        "field": "metadata.name"
                    }]
                },
                "code": 422
            }),
        ),
        (
            Status::invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                vec![FieldError::forbidden("a", "first"), FieldError::required("b", "")],
            ),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "ListOptions.meta.k8s.io \"\" is invalid: [a: Forbidden: first, b: Required value]",
                "reason": "Invalid",
                "details": {
                    "group": "meta.k8s.io", "kind": "ListOptions",
                    "causes": [
                        {"reason": "FieldValueForbidden", "message": "Forbidden: first", "field": "a"},
                        {"reason": "FieldValueRequired", "message": "Required value", "field": "b"}
                    ]
                },
                "code": 422
            }),
        ),
        (
            Status::expired("too old resource version: 1 (196)"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 1 (196)", "reason": "Expired", "code": 410
            }),
        ),
        (
            Status::timeout_rv_too_large(99_999_999, 283),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Timeout: Too large resource version: 99999999, current: 283",
                "reason": "Timeout",
                "details": {
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                    "retryAfterSeconds": 1
                },
                "code": 504
            }),
        ),
        (
            Status::success_deleted("", "configmaps", "nokind", "d316bc00"),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": "nokind", "kind": "configmaps", "uid": "d316bc00"}
            }),
        ),
        (
            Status::success(201),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201
            }),
        ),
        (
            Status::forbidden(
                "",
                "pods",
                "",
                "User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"y\"",
            ),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"y\"",
                "reason": "Forbidden", "details": {"kind": "pods"}, "code": 403
            }),
        ),
    ] {
        assert_eq!(status.to_value(), expected);
    }
}

#[test]
fn field_errors_are_worded_as_kubernetes_words_them() {
    for (error, expected) in [
        (FieldError::required("a.b", ""), "a.b: Required value"),
        (FieldError::required("a", "why"), "a: Required value: why"),
        (FieldError::invalid("a", -1, "must be"), "a: Invalid value: -1: must be"),
        (FieldError::invalid("a", "x\"y", "must"), "a: Invalid value: \"x\\\"y\": must"),
        (FieldError::invalid("a", json!({"k": 1}), "no"), "a: Invalid value: {\"k\":1}: no"),
        (FieldError::forbidden("a", "no"), "a: Forbidden: no"),
        (FieldError::duplicate("a", "x"), "a: Duplicate value: \"x\""),
        (FieldError::not_found("a", "x"), "a: Not found: \"x\""),
        (
            FieldError::not_supported("a", "x", &["Y", "Z"]),
            "a: Unsupported value: \"x\": supported values: \"Y\", \"Z\"",
        ),
        (FieldError::too_long("a", 5), "a: Too long: may not be more than 5 bytes"),
        (FieldError::too_many("a", 5, 3), "a: Too many: 5: must have at most 3 items"),
    ] {
        assert_eq!(error.to_string(), expected);
    }
}
