//! What a webhook is asked, and which of its answers are taken.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Definition, Node};

fn definition(reviews: &Value) -> Definition {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"hosts": {"type": "array", "items": {"type": "string"}}}}}});
    Definition {
        name: "things.example.com".to_owned(),
        revision: 1,
        storage_version: "v1".to_owned(),
        served: vec!["v1".to_owned(), "v2".to_owned()],
        nodes: vec![("v2".to_owned(), Arc::new(Node::read(&schema)))],
        conversion: json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "https://localhost/convert"},
            "conversionReviewVersions": reviews}}),
        is_terminating: false,
    }
}

fn original() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": "a", "namespace": "d", "uid": "u", "generation": 3,
            "labels": {"app": "x"}, "finalizers": ["f"]},
        "spec": {"host": "h"}})
}

fn good() -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Thing",
        "metadata": {"name": "a", "namespace": "d", "uid": "u"}, "spec": {"hosts": ["h"]}})
}

/// The converted objects, or the message, of an answer with these objects.
fn answered(objects: &[Value], originals: usize) -> Result<Vec<Value>, String> {
    let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": "1", "result": {"status": "Success"}, "convertedObjects": objects}});
    let sent = vec![original(); originals];
    let text = answer.to_string();
    definition(&json!(["v1"])).converted(text.as_bytes(), "1", "v1", "example.com/v2", &sent)
}

/// `good` with one change.
fn with(pointer: &str, value: Value) -> Value {
    let mut object = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    object
}

#[test]
fn only_labels_and_annotations_of_the_metadata_change() {
    let meta = json!({"name": "a", "namespace": "d", "uid": "u", "generation": 9,
        "annotations": {"was": "v1"}, "finalizers": []});
    let mut given = with("/metadata", meta);
    given["spec"]["unknown"] = json!(1);
    let made = answered(&[given], 1).unwrap();
    assert_eq!(
        made,
        [json!({"apiVersion": "example.com/v2", "kind": "Thing",
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "generation": 3,
                "annotations": {"was": "v1"}, "finalizers": ["f"]},
            "spec": {"hosts": ["h"]}})]
    );
}

#[test]
fn what_is_wrong_with_an_object_is_told_in_the_real_servers_words() {
    const HEAD: &str = "conversion webhook for example.com/v1, Kind=Thing returned ";
    for (given, expect) in [
        (
            with("/apiVersion", json!("example.com/v3")),
            "invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
        (
            with("/kind", json!("Other")),
            "invalid object at index 0: invalid kind (expected Thing, received Other)",
        ),
        (with("/metadata/name", json!("b")), "invalid object: must have the same name: a != b"),
        (with("/metadata/uid", json!("v")), "invalid object: must have the same UID: u != v"),
        (
            with("/metadata/labels", json!({"app": 1})),
            "invalid metadata: metadata.labels[app] must be a string, but is int64 in converted object",
        ),
        (
            with("/metadata/labels", json!([])),
            "invalid metadata: invalid metadata.labels of type []interface {} in converted object",
        ),
    ] {
        assert_eq!(answered(&[given], 1).unwrap_err(), format!("{HEAD}{expect}"));
    }
    let bad = with("/metadata/labels", json!({"app": "-"}));
    let why = answered(&[bad], 1).unwrap_err();
    assert!(
        why.starts_with(&format!("{HEAD}invalid metadata: metadata.labels: Invalid value")),
        "{why}"
    );
    assert_eq!(answered(&[good()], 2).unwrap_err(), format!("{HEAD}1 objects, expected 2"));
    let second = with("/metadata/name", json!("b"));
    assert_eq!(
        answered(&[good(), second], 2).unwrap_err(),
        format!("{HEAD}invalid converted object at index 1: must have the same name: a != b")
    );
}

#[test]
fn an_answer_must_be_to_the_question() {
    const HEAD: &str = "conversion webhook for example.com/v1, Kind=Thing failed: ";
    let response = |uid: &str, result: Value| {
        json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": uid, "result": result}})
    };
    let failed = json!({"status": "Failure"});
    let told = json!({"status": "Failure", "message": "no"});
    for (answer, expect) in [
        (response("2", json!({"status": "Success"})), "expected response.uid=\"1\", got \"2\""),
        (response("1", failed), "response.result.status was 'Failure', not 'Success'"),
        (response("1", told), "no"),
        (
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1beta1"}),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v1beta1, Kind=ConversionReview",
        ),
        (
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1"}),
            "no response provided",
        ),
    ] {
        let text = answer.to_string();
        let result = definition(&json!(["v1"])).converted(
            text.as_bytes(),
            "1",
            "v1",
            "example.com/v2",
            &[original()],
        );
        assert_eq!(result.unwrap_err(), format!("{HEAD}{expect}"));
    }
    // Who speaks v1beta1 was never held to either.
    let answer =
        json!({"response": {"result": {"status": "Success"}, "convertedObjects": [good()]}});
    let old = definition(&json!(["v1beta1"]));
    let text = answer.to_string();
    let made = old.converted(text.as_bytes(), "1", "v1beta1", "example.com/v2", &[original()]);
    assert_eq!(made.unwrap().len(), 1);
}

#[test]
fn the_first_version_of_reviews_that_is_known_is_asked() {
    for (listed, expect) in [
        (json!(["v9", "v1beta1", "v1"]), Ok("v1beta1")),
        (json!(["v1"]), Ok("v1")),
        (json!(["v9"]), Err("no recognized conversion review versions".to_owned())),
    ] {
        let made = definition(&listed).review("1", "example.com/v2", &[original()]);
        assert_eq!(made.map(|(_, version)| version), expect);
    }
}
