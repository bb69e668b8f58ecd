//! Definitions and their objects, as tables.

use serde_json::{Value, json};

use super::*;
use crate::decode::{self, FieldValidation, Media};
use crate::status::FieldError;
use crate::write::{self, WriteContext};

fn now() -> jiff::Timestamp {
    "2026-11-20T08:00:00Z".parse().unwrap()
}

fn definition(schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Ready", "type": "string", "priority": 1,
                     "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [],
            }],
        },
    })
}

fn context(resource: &Resource) -> WriteContext<'_> {
    let namespace = resource.namespaced.then_some("default");
    WriteContext { resource, namespace, name: None, now: now(), uid: "u", suffix: "abcde" }
}

/// Writes a definition as the server does, and makes its row.
fn accept(definition: Value) -> Result<Resource, String> {
    let row = resources::find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    let text = definition.to_string();
    let decoded = decode::decode(row, text.as_bytes(), Media::Json, FieldValidation::Strict)
        .map_err(|it| it.message)?;
    let mut made = write::create(decoded.object, &context(row)).map_err(|it| it.message)?;
    names::settle(&mut made, &[], resources::builtin(), now());
    Ok(rows(&made, 1).remove(0))
}

/// A resource whose `spec` has this schema.
fn resource(spec: Value) -> Resource {
    let schema = json!({
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    });
    accept(definition(schema)).unwrap()
}

fn create(resource: &Resource, spec: Value) -> Result<Value, String> {
    let object = json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
        "spec": spec,
    });
    let decoded = decode::decode(
        resource,
        object.to_string().as_bytes(),
        Media::Json,
        FieldValidation::Ignore,
    )
    .map_err(|it| it.message)?;
    write::create(decoded.object, &context(resource)).map_err(|it| it.message)
}

fn refused(resource: &Resource, spec: Value) -> String {
    match create(resource, spec) {
        Ok(made) => format!("made {made}"),
        Err(message) => {
            let message = message.strip_prefix("CronTab.stable.example.com \"a\" is invalid: ");
            message.unwrap_or_default().to_owned()
        }
    }
}

#[test]
fn values_are_checked_in_the_words_of_kubernetes() {
    let spec = json!({
        "type": "object",
        "required": ["cronSpec"],
        "properties": {
            "cronSpec": {"type": "string", "pattern": "^\\d+$", "maxLength": 3},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
            "small": {"type": "integer", "format": "int32"},
            "ratio": {"type": "number", "exclusiveMinimum": true, "minimum": 0, "multipleOf": 0.5},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "port": {"x-kubernetes-int-or-string": true},
            "at": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "maxItems": 2, "minItems": 1, "items": {"type": "string"},
                     "x-kubernetes-list-type": "set"},
            "items": {"type": "array", "x-kubernetes-list-type": "map",
                      "x-kubernetes-list-map-keys": ["name"],
                      "items": {"type": "object", "required": ["name"],
                                "properties": {"name": {"type": "string"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "either": {"type": "object",
                       "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                       "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
        },
    });
    let resource = resource(spec);
    let good = |field: &str, value: Value| json!({"cronSpec": "1", field: value});
    for (spec, wanted) in [
        (
            json!({"cronSpec": 5}),
            "spec.cronSpec: Invalid value: \"integer\": spec.cronSpec in body must be of type string: \"integer\"",
        ),
        (json!({}), "spec.cronSpec: Required value"),
        (
            json!({"cronSpec": "x"}),
            "spec.cronSpec: Invalid value: \"x\": spec.cronSpec in body should match '^\\d+$'",
        ),
        (json!({"cronSpec": "1234"}), "spec.cronSpec: Too long: may not be more than 3 bytes"),
        (
            good("replicas", json!("string")),
            "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
        ),
        (
            good("replicas", json!(0)),
            "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
        ),
        (
            good("replicas", json!(11)),
            "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
        ),
        (
            good("replicas", json!(1.5)),
            "spec.replicas: Invalid value: \"number\": spec.replicas in body must be of type integer: \"number\"",
        ),
        (
            good("ratio", json!(0)),
            "spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0",
        ),
        (
            good("ratio", json!(0.7)),
            "spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5",
        ),
        (
            good("mode", json!("c")),
            "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            good("port", json!(true)),
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (
            good("at", json!("now")),
            "spec.at: Invalid value: \"now\": spec.at in body must be of type date-time: \"now\"",
        ),
        (
            good("tags", json!([])),
            "spec.tags: Invalid value: 0: spec.tags in body should have at least 1 items",
        ),
        (good("tags", json!(["a", "b", "c"])), "spec.tags: Too many: 3: must have at most 2 items"),
        (good("tags", json!(["a", "a"])), "spec.tags[1]: Duplicate value: \"a\""),
        (
            good("items", json!([{"name": "x"}, {"name": "x"}])),
            "spec.items[1]: Duplicate value: {\"name\":\"x\"}",
        ),
        (good("items", json!([{}])), "spec.items[0].name: Required value"),
        (
            good("labels", json!({"k": 1})),
            "spec.labels.k: Invalid value: \"integer\": spec.labels.k in body must be of type string: \"integer\"",
        ),
        (
            good("either", json!({"x": "1", "y": "2"})),
            "<nil>: Invalid value: \"\": \"spec.either\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
    ] {
        assert_eq!(refused(&resource, spec.clone()), wanted, "{spec}");
    }
    let both = refused(&resource, good("either", json!({})));
    assert!(
        both.contains("must validate one and only one schema (oneOf). Found none valid"),
        "{both}"
    );
    for spec in [
        good("port", json!("http")),
        good("port", json!(80)),
        good("ratio", json!(1)),
        good("replicas", json!(3.0)),
    ] {
        create(&resource, spec).unwrap();
    }
}

#[test]
fn fields_are_pruned_and_filled() {
    let resource = resource(json!({
        "type": "object",
        "properties": {
            "replicas": {"type": "integer", "default": 1},
            "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
            "maybe": {"type": "string", "nullable": true},
            "firm": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                     "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "whole": {"type": "object", "x-kubernetes-embedded-resource": true,
                      "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer", "default": 7}}}},
        },
    }));
    let made = create(&resource, json!({
        "unknown": 1, "maybe": null, "firm": null, "replicas": null,
        "open": {"anything": {"b": 1}, "known": {"a": "1", "b": 2}},
        "whole": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}, "spec": {"free": 1}},
        "list": [{"b": 1}],
    }))
    .unwrap();
    assert_eq!(
        made["spec"],
        json!({
            "replicas": 1, "deep": {"x": "y"}, "maybe": null,
            "open": {"anything": {"b": 1}, "known": {"a": "1"}},
            "whole": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}, "spec": {"free": 1}},
            "list": [{"a": 7}],
        }),
    );
    let body = |spec: &str| {
        format!(
            r#"{{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{{"name":"a","nope":1}},"spec":{spec}}}"#
        )
    };
    let text = body(r#"{"firm":"a","firm":"b","x":1,"list":[{"y":1}]}"#);
    let wanted = "duplicate field \"spec.firm\", unknown field \"metadata.nope\", unknown field \"spec.list[0].y\", unknown field \"spec.x\"";
    let strict = decode::decode(&resource, text.as_bytes(), Media::Json, FieldValidation::Strict);
    assert_eq!(
        strict.unwrap_err().message,
        format!(
            "CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: {wanted}"
        ),
    );
    let warned = decode::decode(&resource, text.as_bytes(), Media::Json, FieldValidation::Warn);
    assert_eq!(warned.unwrap().warnings.join(", "), wanted);
}

#[test]
fn rules_hold_over_objects_and_changes() {
    let resource = resource(json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not exceed max", "fieldPath": ".min"},
            {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max)"},
            {"rule": "!has(oldSelf.kind) || has(self.kind)", "message": "kind stays"},
        ],
        "properties": {
            "min": {"type": "integer"},
            "max": {"type": "integer"},
            "kind": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "Value is immutable", "reason": "FieldValueForbidden"},
            ]},
            "pairs": {"type": "array", "maxItems": 5, "items": {"type": "object",
                "x-kubernetes-validations": [{"rule": "self.a != self.b"}],
                "properties": {"a": {"type": "string", "maxLength": 9}, "b": {"type": "string", "maxLength": 9}}}},
            "when": {"type": "string", "format": "date-time", "x-kubernetes-validations": [
                {"rule": "self > timestamp('2020-01-01T00:00:00Z')", "message": "too old"}]},
        },
    }));
    for (spec, wanted) in [
        (
            json!({"min": 5, "max": 1}),
            "spec.min: Invalid value: \"object\": min must not exceed max",
        ),
        (json!({"min": 5, "max": 100}), "spec: Invalid value: \"object\": max is 100"),
        (
            json!({"max": 1}),
            "spec.min: Invalid value: \"object\": no such key: min evaluating rule: min must not exceed max",
        ),
        (
            json!({"min": 1, "max": 2, "pairs": [{"a": "x", "b": "x"}]}),
            "spec.pairs[0]: Invalid value: \"object\": failed rule: self.a != self.b",
        ),
        (
            json!({"min": 1, "max": 2, "when": "2019-01-01T00:00:00Z"}),
            "spec.when: Invalid value: \"2019-01-01T00:00:00Z\": too old",
        ),
    ] {
        assert_eq!(refused(&resource, spec.clone()), wanted, "{spec}");
    }
    let old = create(&resource, json!({"min": 1, "max": 2, "kind": "a"})).unwrap();
    let change = |spec: Value| {
        let mut new = old.clone();
        new["spec"] = spec;
        write::update(new, &old, &context(&resource))
            .map_err(|it| it.message)
            .err()
            .unwrap_or_default()
    };
    assert_eq!(change(json!({"min": 0, "max": 2, "kind": "a"})), "");
    assert!(
        change(json!({"min": 1, "max": 2, "kind": "b"}))
            .ends_with("spec.kind: Forbidden: Value is immutable")
    );
    assert!(
        change(json!({"min": 1, "max": 2}))
            .ends_with("spec: Invalid value: \"object\": kind stays")
    );
}

#[test]
fn what_was_wrong_may_stay_wrong() {
    let strict = resource(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 2}, "b": {"type": "string"},
    }}));
    let old = json!({
        "metadata": {"name": "a", "namespace": "default", "uid": "u", "creationTimestamp": "2026-11-20T08:00:00Z"},
        "spec": {"a": "long"},
    });
    let change = |spec: Value| {
        let mut new = old.clone();
        new["spec"] = spec;
        write::update(new, &old, &context(&strict)).map(|it| it["metadata"]["generation"].clone())
    };
    assert!(change(json!({"a": "long", "b": "x"})).is_ok());
    assert!(change(json!({"a": "longer"})).is_err());
}

#[test]
fn schemas_must_be_structural() {
    let spec = |spec: Value| json!({"type": "object", "properties": {"spec": spec}});
    let deep = (0..200).fold(
        json!({"type": "string"}),
        |it, _| json!({"type": "object", "properties": {"a": it}}),
    );
    let wide: serde_json::Map<String, Value> =
        (0..25_000).map(|it| (format!("f{it}"), json!({"type": "string"}))).collect();
    let dear = json!({"type": "array", "items": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.contains('x')"}]}}});
    for (schema, wanted) in [
        (json!({}), "openAPIV3Schema.type: Required value: must not be empty at the root"),
        (
            json!({"type": "string"}),
            "openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
        ),
        (
            spec(json!({})),
            "properties[spec].type: Required value: must not be empty for specified object fields",
        ),
        (
            spec(json!({"type": "array"})),
            "properties[spec].items: Required value: must be specified",
        ),
        (
            spec(json!({"type": "thing"})),
            "properties[spec].type: Unsupported value: \"thing\": supported values: ",
        ),
        (
            spec(json!({"type": "string", "pattern": "("})),
            "properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't",
        ),
        (
            spec(json!({"type": "object", "additionalProperties": false})),
            "additionalProperties: Forbidden: additionalProperties cannot be set to false",
        ),
        (
            spec(json!({"type": "string", "uniqueItems": true})),
            "uniqueItems: Forbidden: uniqueItems cannot be set to true",
        ),
        (
            spec(json!({"type": "object", "anyOf": [{"type": "object"}]})),
            "anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            spec(json!({"type": "integer", "default": "x"})),
            "properties[spec].default: Invalid value: \"string\": ",
        ),
        (
            spec(
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"}),
            ),
            "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            spec(
                json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.nope > 1"}]}),
            ),
            "x-kubernetes-validations[0].rule: Invalid value: \"self.nope > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'nope'",
        ),
        (
            spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self."}]})),
            "x-kubernetes-validations[0].rule: Invalid value: \"self.\": compilation failed",
        ),
        (spec(dear), "estimated rule cost exceeds budget by factor of more than 100x"),
        (spec(deep), "exceeded max depth"),
        (json!({"type": "object", "properties": wide}), "the schema is too large or too deep"),
    ] {
        let got = accept(definition(schema)).err().unwrap_or_default();
        assert!(got.contains(wanted), "{wanted}\n{got}");
    }
}

#[test]
fn definitions_are_checked() {
    let good = || definition(json!({"type": "object"}));
    let with = |path: &str, value: Value| {
        let mut it = good();
        *it.pointer_mut(path).unwrap() = value;
        it
    };
    for (definition, wanted) in [
        (
            with("/metadata/name", json!("x")),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            with("/spec/scope", json!("Global")),
            "spec.scope: Unsupported value: \"Global\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            with("/spec/group", json!("example")),
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
        ),
        (
            with("/spec/group", json!("outbye.dev")),
            "spec.group: Invalid value: \"outbye.dev\": is kept for the server itself",
        ),
        (
            with("/spec/group", json!("x.k8s.io")),
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups",
        ),
        (
            with("/spec/versions/0/storage", json!(false)),
            "must have exactly one version marked as storage version",
        ),
        (
            with("/spec/versions/0/schema", json!({})),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            with("/spec/versions/0/subresources/scale/specReplicasPath", json!(".status.x")),
            "specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
        ),
        (
            with("/spec/versions/0/selectableFields", json!([{"jsonPath": ".spec.x"}])),
            "selectableFields[0].jsonPath: Invalid value: \".spec.x\": is an invalid path",
        ),
        (
            with("/spec/names/kind", json!("Cron Tab")),
            "spec.names.kind: Invalid value: \"Cron Tab\": may have mixed case, but should otherwise match",
        ),
    ] {
        let got = accept(definition).err().unwrap_or_default();
        assert!(got.contains(wanted), "{wanted}\n{got}");
    }
}

#[test]
fn names_belong_to_the_first() {
    let made = |name: &str, kind: &str, others: &[&Value]| {
        let mut it = definition(json!({"type": "object"}));
        it["metadata"]["name"] = json!(format!("{name}.stable.example.com"));
        it["spec"]["names"] = json!({"plural": name, "singular": name, "kind": kind, "listKind": format!("{kind}List")});
        names::settle(&mut it, others, resources::builtin(), now());
        it
    };
    let first = made("ones", "One", &[]);
    assert!(names::is_true(&first, "Established") && names::is_true(&first, "NamesAccepted"));
    let second = made("twos", "One", &[&first]);
    assert!(!names::is_true(&second, "Established"));
    assert_eq!(second["status"]["conditions"][0]["reason"], "ListKindConflict");
    assert_eq!(second["status"]["conditions"][0]["message"], "\"OneList\" is already in use");
    assert!(rows(&second, 1).is_empty());
    let mut later = second.clone();
    names::settle(&mut later, &[], resources::builtin(), now());
    assert_eq!(rows(&later, 1).len(), 1);
}

#[test]
fn a_status_that_lies_leads_to_nobody_elses_objects() {
    let good = || {
        let mut it = definition(json!({"type": "object"}));
        names::settle(&mut it, &[], resources::builtin(), now());
        it
    };
    assert_eq!(rows(&good(), 1).len(), 1);
    let mut other = good();
    other["status"]["acceptedNames"]["plural"] = json!("ones");
    assert!(rows(&other, 1).is_empty(), "another definition's");
    let mut builtin = good();
    builtin["metadata"]["name"] = json!("clusterroles.rbac.authorization.k8s.io");
    builtin["spec"]["group"] = json!("rbac.authorization.k8s.io");
    builtin["spec"]["names"]["plural"] = json!("clusterroles");
    builtin["status"]["acceptedNames"]["plural"] = json!("clusterroles");
    assert!(rows(&builtin, 1).is_empty(), "the server's own");
    let mut secrets = good();
    secrets["metadata"]["name"] = json!("hubsecrets.outbye.dev");
    secrets["spec"]["group"] = json!("outbye.dev");
    secrets["spec"]["names"]["plural"] = json!("hubsecrets");
    secrets["status"]["acceptedNames"]["plural"] = json!("hubsecrets");
    assert!(rows(&secrets, 1).is_empty(), "keys of the hubs");
}

#[test]
fn columns_follow_paths() {
    let object = json!({
        "metadata": {"name": "a", "creationTimestamp": "2026-11-20T07:00:00Z"},
        "spec": {"cronSpec": "* *", "replicas": 3, "list": ["x", "y"], "a.b": 1},
        "status": {"conditions": [{"type": "Other", "status": "?"}, {"type": "Ready", "status": "True"}]},
    });
    let cells = |columns: &[(&str, &str)]| -> Vec<Value> {
        let columns: Vec<Value> = columns
            .iter()
            .map(|(ty, path)| json!({"name": "x", "type": ty, "jsonPath": path}))
            .collect();
        columns::read(&columns).iter().skip(1).map(|it| it.cell(&object, now())).collect()
    };
    assert_eq!(
        cells(&[
            ("string", ".spec.cronSpec"),
            ("integer", ".spec.replicas"),
            ("string", ".status.conditions[?(@.type==\"Ready\")].status"),
            ("string", ".status.conditions[?(@.type=='No')].status"),
            ("date", ".metadata.creationTimestamp"),
            ("string", ".spec.list"),
            ("string", ".spec.list[-1]"),
            ("string", ".spec.list[0:1]"),
            ("string", ".spec['cronSpec']"),
            ("string", ".spec.a\\.b"),
            ("integer", ".spec.cronSpec"),
            ("boolean", ".spec.none"),
        ]),
        [
            json!("* *"),
            json!(3),
            json!("True"),
            Value::Null,
            json!("60m"),
            json!("[\"x\",\"y\"]"),
            json!("y"),
            json!("x"),
            json!("* *"),
            json!("1"),
            Value::Null,
            Value::Null,
        ],
    );
    let plain = columns::read(&[]);
    let names: Vec<Value> = plain.iter().map(|it| it.definition()["name"].clone()).collect();
    assert_eq!(names, ["Name", "Age"]);
}

#[test]
fn scale_is_where_the_definition_says() {
    let resource =
        resource(json!({"type": "object", "properties": {"replicas": {"type": "integer"}}}));
    let mut object = create(&resource, json!({"replicas": 2})).unwrap();
    object["status"] = json!({"replicas": 1, "selector": "app=x"});
    let mut scale = write::get_scale_of(&resource, &object).unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=x"}));
    scale["spec"]["replicas"] = json!(5);
    let scaled = write::put_scale(&scale, &object, &context(&resource)).unwrap();
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_eq!(scaled["metadata"]["generation"], 2);
    assert_eq!(scaled["status"]["replicas"], 1);
}

#[test]
fn schemas_are_published_in_both_forms() {
    let resource = resource(json!({"type": "object", "description": "Wanted.", "properties": {
        "n": {"type": "integer", "nullable": true, "default": 1},
        "p": {"x-kubernetes-int-or-string": true},
    }}));
    let custom = resource.custom.clone().unwrap();
    let v3 = publish::schemas(&resource, &custom, publish::Form::V3);
    let (name, schema) = &v3[1];
    assert_eq!(name, "com.example.stable.v1.CronTab");
    assert_eq!(schema["properties"]["spec"]["properties"]["n"]["nullable"], true);
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    assert_eq!(v3[0].0, "com.example.stable.v1.CronTabList");
    let v2 = publish::schemas(&resource, &custom, publish::Form::V2);
    let spec = &v2[1].1["properties"]["spec"];
    assert_eq!(spec["description"], "Wanted.");
    assert_eq!(spec["properties"]["n"], json!({}));
    assert_eq!(spec["properties"]["p"], json!({"x-kubernetes-int-or-string": true}));
    let rows = [resource];
    let document = crate::openapi::v3_document("stable.example.com", "v1", &rows);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in document.to_string().split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(!crate::openapi::v2_protobuf(&rows, &[]).is_empty());
}

#[test]
fn selectors_name_selectable_fields() {
    let mut definition = definition(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}}}}}),
    );
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    let resource = accept(definition).unwrap();
    let selector = crate::selector::FieldSelector::parse("spec.color=red", &resource).unwrap();
    assert!(selector.matches(&json!({"spec": {"color": "red"}})));
    assert!(!selector.matches(&json!({"spec": {}})));
    assert!(crate::selector::FieldSelector::parse("spec.size=1", &resource).is_err());
}

#[test]
fn errors_are_bounded() {
    let resource = resource(json!({"type": "object", "additionalProperties": {"type": "string"}}));
    let many: serde_json::Map<String, Value> =
        (0..5_000).map(|it| (format!("k{it}"), json!(1))).collect();
    let errors: Vec<FieldError> = resource.strategy.validate_create(&json!({"spec": many}));
    assert_eq!(errors.len(), 100);
}
