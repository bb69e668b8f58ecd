//! The laws of ownership, tried on drawn objects.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::element::Element;
use super::set::Set;
use super::*;
use crate::object;
use crate::schema;

const TIME: &str = "2026-11-20T08:00:00Z";

fn service() -> OneVersion<'static> {
    OneVersion { api_version: "v1", model: schema::lookup("io.k8s.api.core.v1.Service").unwrap() }
}

fn base() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}})
}

/// A Service with maps that are granular and atomic, and lists by key and atomic.
fn drawn() -> impl Strategy<Value = Value> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let texts = || btree_map(key(), key(), 0..3);
    let ports = btree_map(1..5_u8, (any::<bool>(), key()), 0..4);
    (texts(), texts(), ports, vec(key(), 0..3)).prop_map(|(labels, selector, ports, ips)| {
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|(port, (udp, name))| {
                let mut item = json!({"port": port, "name": name});
                if udp {
                    item["protocol"] = json!("UDP");
                }
                item
            })
            .collect();
        let mut out = base();
        let mut spec = Map::new();
        if !labels.is_empty() {
            out["metadata"]["labels"] = json!(labels);
        }
        if !selector.is_empty() {
            spec.insert("selector".to_owned(), json!(selector));
        }
        if !ports.is_empty() {
            spec.insert("ports".to_owned(), json!(ports));
        }
        if !ips.is_empty() {
            spec.insert("externalIPs".to_owned(), json!(ips));
        }
        if !spec.is_empty() {
            out["spec"] = Value::Object(spec);
        }
        out
    })
}

fn by(manager: &str, live: &Value, applied: &Value, force: bool) -> Result<Value, ApplyError> {
    let scope = Scope::default();
    let writer = Writer {
        manager,
        api_version: "v1",
        kind: "Service",
        subresource: "",
        scope: &scope,
        time: TIME,
    };
    let mut new = apply(live, applied, force, &writer, &service())?;
    object::prune_nulls(&mut new);
    Ok(new)
}

fn forced(manager: &str, live: &Value, applied: &Value) -> Value {
    by(manager, live, applied, true).unwrap()
}

fn owned(object: &Value, manager: &str) -> Set {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let own = entries.filter(|it| it["manager"] == manager);
    own.fold(Set::default(), |all, it| all.union(&Set::parse(&it["fieldsV1"]).unwrap()))
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    take_entries(&mut object);
    object
}

fn set() -> impl Strategy<Value = Set> {
    let step = prop::sample::select(vec![
        Element::field("a"),
        Element::field("b"),
        Element::value(&json!("x")),
        Element::value(&json!(1)),
        Element::key(&[("name", &json!("x"))].into_iter().collect()),
    ]);
    vec(vec(step, 1..4), 0..8).prop_map(|paths| {
        let mut out = Set::default();
        paths.into_iter().for_each(|it| out.insert(it));
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_survive_being_written(it in set()) {
        prop_assert_eq!(Set::parse(&it.to_value()).unwrap(), it);
    }

    #[test]
    fn sets_obey_the_algebra(a in set(), b in set()) {
        let (both, either) = (a.intersection(&b), a.clone().union(&b));
        prop_assert_eq!(&both, &b.intersection(&a));
        prop_assert_eq!(&either, &b.clone().union(&a));
        prop_assert_eq!(a.difference(&b).union(&both), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert!(a.recursive_difference(&a).is_empty());
        prop_assert_eq!(a.recursive_difference(&b).difference(&a), Set::default());
    }

    #[test]
    fn applying_twice_is_applying_once(start in drawn(), x in drawn(), y in drawn()) {
        let once = forced("y", &forced("x", &start, &x), &y);
        let twice = by("y", &once, &y, false);
        prop_assert_eq!(twice, Ok(once));
    }

    #[test]
    fn whoever_forces_last_gets_and_owns_all_it_wants(x in drawn(), y in drawn()) {
        let made = forced("y", &forced("x", &base(), &x), &y);
        let comparison = walk::compare(&y, &bare(&made), service().model).unwrap();
        prop_assert!(comparison.removed.is_empty(), "{:?}", comparison.removed);
        prop_assert!(comparison.modified.is_empty(), "{:?}", comparison.modified);
        let wanted = track::stripped(&walk::fields(&y, service().model));
        prop_assert_eq!(owned(&made, "y"), wanted);
    }

    #[test]
    fn nobody_loses_a_field_to_one_who_does_not_name_it(x in drawn(), y in drawn(), y2 in drawn()) {
        let made = forced("y", &forced("x", &base(), &x), &y);
        let again = forced("y", &made, &y2);
        let kept = owned(&made, "x").difference(&walk::fields(&y2, service().model));
        let there = walk::fields(&bare(&again), service().model).with_named_fields(service().model);
        for path in kept.paths() {
            // An item that y2 names stays as an item; a field above one that is there is there.
            prop_assert!(owned(&again, "x").has(&path.0), "{path} is not owned any more");
            prop_assert!(there.has(&path.0), "{path} is gone");
        }
    }

    #[test]
    fn what_is_applied_and_then_not_leaves_no_trace(x in drawn(), y in drawn()) {
        let before = forced("x", &base(), &x);
        let Ok(during) = by("y", &before, &y, false) else { return Ok(()) };
        let after = forced("y", &during, &base());
        prop_assert!(owned(&after, "y").is_empty());
        let comparison = walk::compare(&bare(&before), &bare(&after), service().model).unwrap();
        prop_assert!(comparison.is_empty(), "{comparison:?}");
    }

    #[test]
    fn an_update_owns_exactly_what_it_changed(x in drawn(), y in drawn()) {
        let mut before = forced("x", &base(), &x);
        before["metadata"]["uid"] = json!("u");
        let mut new = y.clone();
        new["metadata"]["uid"] = json!("u");
        let scope = Scope::default();
        let writer = Writer { manager: "u", api_version: "v1", kind: "Service", subresource: "", scope: &scope, time: TIME };
        if before["metadata"].get("managedFields").is_none() {
            return Ok(());
        }
        track(&before, &mut new, &writer, &service());
        let comparison = walk::compare(&bare(&before), &bare(&new), service().model).unwrap();
        prop_assert_eq!(owned(&new, "u"), track::stripped(&comparison.changed()));
        let left = owned(&before, "x").difference(&comparison.changed()).difference(&comparison.removed);
        prop_assert_eq!(owned(&new, "x"), left);
    }
}
