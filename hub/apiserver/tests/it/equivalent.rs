//! `matchPolicy`: rules that name one version of a resource, and requests for another one.

use serde_json::{Value, json};

use crate::admission::{Webhook, configure, message};
use crate::conversion::{Converter, DEFINITIONS, V1, V2, thing};
use crate::harness::{Reply, World};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

fn rule(group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": ["*"], "apiGroups": [group], "apiVersions": [version],
        "resources": [resource]})
}

/// What a webhook says that it saw, in the words of the path `tell`.
fn seen(reply: &Reply) -> Value {
    let said = message(reply);
    let (_, seen) = said.split_once("denied the request: ").unwrap_or_else(|| panic!("{said}"));
    serde_json::from_str(seen).unwrap()
}

async fn ask(world: &mut World, hook: &Webhook, kind: &str, path: &str, more: Value) {
    let made = configure(world, kind, hook.settings(path, more)).await;
    assert_eq!(made.code, 201, "{}", message(&made));
}

#[tokio::test]
async fn a_webhook_sees_custom_objects_in_the_version_of_its_rule() {
    let mut world = World::new().await;
    let (converter, hook) = (Converter::new().await, Webhook::new().await);
    let made = world.post(DEFINITIONS, &converter.definition("v1", &["v1"])).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    let rules = json!([rule("example.com", "v1", "things")]);
    let a = thing("v2", "a", json!({"host": "a", "port": "1"}));
    ask(&mut world, &hook, "validating", "tell", json!({"rules": rules})).await;
    let refused = world.post(V2, &a).await;
    let expected = json!(["v1", "v2", "example.com/v1", {"hostPort": "a:1"}, null]);
    assert_eq!(seen(&refused), expected);
    let exact = json!({"rules": rules, "matchPolicy": "Exact"});
    ask(&mut world, &hook, "validating", "tell", exact).await;
    let made = world.post(V2, &a).await;
    assert_eq!(made.code, 201, "{}", message(&made));

    ask(&mut world, &hook, "validating", "tell", json!({"rules": rules})).await;
    let path = format!("{V2}/a");
    let change = json!({"spec": {"port": "2"}}).to_string();
    let refused = world.send("PATCH", &path, &MERGE, &change).await;
    let (new, old) = (json!({"hostPort": "a:2"}), json!({"hostPort": "a:1"}));
    assert_eq!(seen(&refused), json!(["v1", "v2", "example.com/v1", new, old]));
    let refused = world.send("DELETE", &path, &[], "").await;
    assert_eq!(seen(&refused), json!(["v1", "v2", null, null, old]));
    // The version of the request is seen where a rule names it.
    let both = json!({"rules": [rule("example.com", "*", "things")]});
    ask(&mut world, &hook, "validating", "tell", both).await;
    let refused = world.send("DELETE", &path, &[], "").await;
    assert_eq!(seen(&refused)[0], "v2");

    ask(&mut world, &hook, "validating", "ok", json!({"rules": rules})).await;
    ask(&mut world, &hook, "mutating", "move", json!({"rules": rules})).await;
    let made = world.post(V2, &thing("v2", "c", json!({"host": "c", "port": "3"}))).await;
    assert_eq!(made.json()["spec"], json!({"host": "b", "port": "2"}), "{}", message(&made));
    assert_eq!(world.get(&format!("{V1}/c")).await.json()["spec"]["hostPort"], "b:2");
    let condition = json!([{"name": "c", "expression": "object.spec.hostPort != 'd:4'"}]);
    let unless = json!({"rules": rules, "matchConditions": condition});
    ask(&mut world, &hook, "mutating", "move", unless).await;
    let made = world.post(V2, &thing("v2", "d", json!({"host": "d", "port": "4"}))).await;
    assert_eq!(made.json()["spec"]["host"], "d", "{}", message(&made));
    // Who cannot be shown the object is not passed by.
    drop(converter);
    ask(&mut world, &hook, "mutating", "move", json!({"rules": rules, "failurePolicy": "Ignore"}))
        .await;
    let refused = world.post(V2, &thing("v2", "e", json!({"host": "e", "port": "5"}))).await;
    let start = "Internal error occurred: conversion webhook for example.com/v2, Kind=Thing failed";
    assert!(message(&refused).starts_with(start), "{}", message(&refused));
    world.stop().await;
}

#[tokio::test]
async fn a_policy_sees_and_changes_custom_objects_in_the_version_of_its_rule() {
    let mut world = World::new().await;
    let converter = Converter::new().await;
    let made = world.post(DEFINITIONS, &converter.definition("v1", &["v1"])).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    let policy = |name: &str, exact: bool, spec: Value| {
        let matched = if exact { "Exact" } else { "Equivalent" };
        let mut out = json!({"metadata": {"name": name}, "spec": {"matchConstraints": {
            "matchPolicy": matched, "resourceRules": [rule("example.com", "v1", "things")]}}});
        out["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        out
    };
    let never = |message: &str| {
        json!({"validations": [{"expression": "object.spec.hostPort != 'x:9'",
        "messageExpression": message}]})
    };
    let change = json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch",
        "jsonPatch": {"expression": "[JSONPatch{op: 'replace', path: '/spec/hostPort', value: object.spec.hostPort + '0'}]"}}]});
    let words = "object.apiVersion + ' for ' + request.requestResource.version";
    for (plural, policy, actions) in [
        ("validatingadmissionpolicies", policy("seen", false, never(words)), json!(["Deny"])),
        ("validatingadmissionpolicies", policy("blind", true, never("'never'")), json!(["Deny"])),
        ("mutatingadmissionpolicies", policy("changed", false, change), Value::Null),
    ] {
        let reply = world.post(&format!("{POLICIES}/{plural}"), &policy).await;
        assert_eq!(reply.code, 201, "{}", message(&reply));
        let name = &policy["metadata"]["name"];
        let mut binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        if !actions.is_null() {
            binding["spec"]["validationActions"] = actions;
        }
        let bindings = plural.replace("policies", "policybindings");
        let reply = world.post(&format!("{POLICIES}/{bindings}"), &binding).await;
        assert_eq!(reply.code, 201, "{}", message(&reply));
    }
    let made = world.post(V2, &thing("v2", "a", json!({"host": "a", "port": "1"}))).await;
    assert_eq!(made.json()["spec"], json!({"host": "a", "port": "10"}), "{}", message(&made));
    let change = json!({"spec": {"host": "x", "port": ""}}).to_string();
    let changed = world.send("PATCH", &format!("{V2}/a"), &MERGE, &change).await;
    assert_eq!(changed.json()["spec"], json!({"host": "x", "port": "0"}), "{}", message(&changed));

    let path = format!("{POLICIES}/mutatingadmissionpolicybindings/changed");
    assert_eq!(world.send("DELETE", &path, &[], "").await.code, 200);
    let refused = world.post(V2, &thing("v2", "b", json!({"host": "x", "port": "9"}))).await;
    assert_eq!(refused.code, 422);
    let said = message(&refused);
    assert!(said.contains("ValidatingAdmissionPolicy 'seen'"), "{said}");
    assert!(said.ends_with("denied request: example.com/v1 for v2"), "{said}");
    world.stop().await;
}

#[tokio::test]
async fn versions_of_a_built_in_kind_and_of_one_without_a_webhook_are_matched_alike() {
    let mut world = World::new().await;
    let (converter, hook) = (Converter::new().await, Webhook::new().await);
    let mut definition = converter.definition("v1", &["v1"]);
    definition["spec"]["conversion"] = json!({"strategy": "None"});
    let made = world.post(DEFINITIONS, &definition).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    let rules = json!([rule("example.com", "v1", "things")]);
    ask(&mut world, &hook, "validating", "tell", json!({"rules": rules})).await;
    let refused = world.post(V2, &thing("v2", "a", json!({"host": "a"}))).await;
    assert_eq!(seen(&refused), json!(["v1", "v2", "example.com/v1", {"host": "a"}, null]));

    let place = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers")
    };
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let old = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target,
        "targetCPUUtilizationPercentage": 50}});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50}}});
    let new = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target,
        "metrics": [metric]}});
    for (named, policy, requested, sees) in [
        ("v2", "Equivalent", "v1", Some("v2")),
        ("v1", "Equivalent", "v1", Some("v1")),
        ("v1", "Exact", "v1", Some("v1")),
        ("*", "Equivalent", "v1", Some("v1")),
        ("v1", "Equivalent", "v2", Some("v1")),
        ("v2", "Exact", "v1", None),
        ("v1", "Exact", "v2", None),
    ] {
        let rules = json!([rule("autoscaling", named, "horizontalpodautoscalers")]);
        let more = json!({"rules": rules, "matchPolicy": policy});
        ask(&mut world, &hook, "validating", "tell", more).await;
        let sent = if requested == "v1" { &old } else { &new };
        let reply = world.post(&format!("{}?dryRun=All", place(requested)), sent).await;
        let case = format!("{named} {policy} {requested}");
        let Some(sees) = sees else {
            assert_eq!(reply.code, 201, "{case}: {}", message(&reply));
            continue;
        };
        let seen = seen(&reply);
        assert_eq!((&seen[0], &seen[1]), (&json!(sees), &json!(requested)), "{case}");
        assert_eq!(seen[2], format!("autoscaling/{sees}"), "{case}");
        let percent = seen[3].get("targetCPUUtilizationPercentage");
        assert_eq!(percent, (sees == "v1").then_some(&json!(50)), "{case}: {seen}");
    }
    world.stop().await;
}
