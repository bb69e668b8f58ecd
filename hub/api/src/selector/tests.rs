//! Selectors with what they match, what they refuse, and their laws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::resources;

fn labels(text: &str) -> Value {
    let pairs = text.split(',').filter_map(|it| it.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), json!(v))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn label_selectors_match() {
    for (selector, object, expected) in [
        ("", "a=b", true),
        ("a=b", "a=b", true),
        ("a==b", "a=c", false),
        ("a=", "a=", true),
        ("a=", "b=c", false),
        ("a!=b", "c=d", true),
        ("a != b , c", "a=x,c=d", true),
        ("a in (b,c)", "a=c", true),
        ("a in (b,)", "a=", true),
        ("a in (b)", "x=b", false),
        ("a notin (b,c)", "x=b", true),
        ("a notin (b,c)", "a=b", false),
        ("a", "a=", true),
        ("!a", "a=", false),
        ("!a", "b=", true),
        ("in in (in,notin)", "in=notin", true),
        ("a>1", "a=2", true),
        ("a<1", "a=2", false),
        ("a>1", "a=x", false),
        ("x.y/z=1,!q", "x.y/z=1", true),
    ] {
        let parsed = LabelSelector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&labels(object)), expected, "{selector} on {object}");
        let again = LabelSelector::parse(&parsed.to_string()).unwrap();
        assert_eq!(again, parsed, "{selector} prints and parses back");
    }
}

#[test]
fn label_selector_errors_are_those_of_kubernetes() {
    for (selector, expected) in [
        ("==", "found '==', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        (
            "a in ()",
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
        (
            "a=-b",
            "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    ] {
        let status = LabelSelector::parse(selector).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (400, expected), "{selector}");
    }
}

#[test]
fn object_selectors_match() {
    let both = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    });
    for (selector, object, expected) in [
        (json!(null), "app=web", false),
        (json!({}), "app=web", true),
        (both.clone(), "app=web,tier=back", true),
        (both.clone(), "app=web", false),
        (both.clone(), "app=web,tier=back,old=1", false),
    ] {
        let parsed = LabelSelector::from_value(&selector).unwrap();
        assert_eq!(parsed.matches(&labels(object)), expected, "{selector} on {object}");
    }
    let printed = LabelSelector::from_value(&both).unwrap().to_string();
    assert_eq!(printed, "app=web,!old,tier in (back,front)");
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
    let status = LabelSelector::from_value(&wrong).unwrap_err();
    assert_eq!(status.message, "\"Is\" is not a valid label selector operator");
}

#[test]
fn field_selectors_match() {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"nodeName": "a,b", "hostNetwork": true},
    });
    let node = json!({"metadata": {"name": "n"}, "spec": {}});
    for (plural, selector, object, expected) in [
        ("pods", "", &pod, true),
        ("pods", "metadata.name=p,metadata.namespace==n", &pod, true),
        ("pods", "metadata.name!=p", &pod, false),
        ("pods", "status.phase!=Failed", &pod, true),
        ("pods", "status.phase=", &pod, true),
        ("pods", "spec.nodeName=a\\,b", &pod, true),
        ("pods", "spec.hostNetwork=true", &pod, true),
        ("nodes", "spec.unschedulable=false", &node, true),
        ("nodes", "spec.unschedulable=true", &node, false),
    ] {
        let resource = resources::find("", "v1", plural).unwrap();
        let parsed = FieldSelector::parse(selector, resource).unwrap();
        assert_eq!(parsed.matches(object), expected, "{selector}");
        assert_eq!(FieldSelector::parse(&parsed.to_string(), resource).unwrap(), parsed);
    }
    let resource = resources::find("", "v1", "pods").unwrap();
    let selector = FieldSelector::parse("status.phase!=x,metadata.name=p", resource).unwrap();
    assert_eq!(selector.required_value("metadata.name"), Some("p"));
    assert_eq!(selector.required_value("status.phase"), None);
}

#[test]
fn field_selector_errors_are_those_of_kubernetes() {
    let resource = resources::find("", "v1", "pods").unwrap();
    for (selector, expected) in [
        ("spec.foo=1", "field label not supported: spec.foo"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ] {
        let status = FieldSelector::parse(selector, resource).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (400, expected));
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_printing_is_stable(text in "[ab=!,() <>innot/.-]{0,24}") {
        if let Ok(parsed) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn negations_are_complements(value in "[a-c]?", present: bool) {
        let labels = if present { json!({"k": value}) } else { json!({}) };
        for (yes, no) in [("k in (a,b)", "k notin (a,b)"), ("k", "!k"), ("k=a", "k!=a")] {
            let yes = LabelSelector::parse(yes).unwrap().matches(&labels);
            let no = LabelSelector::parse(no).unwrap().matches(&labels);
            prop_assert_ne!(yes, no);
        }
    }
}
