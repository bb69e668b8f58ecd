//! Cases of the documented behaviour: what is owned after each write, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::schema;

const EARLY: &str = "2026-11-20T08:00:00Z";
const LATE: &str = "2026-11-20T09:00:00Z";

fn kind(name: &str) -> OneVersion<'static> {
    let (model, api_version) = match name {
        "ConfigMap" => ("io.k8s.api.core.v1.ConfigMap", "v1"),
        "Deployment" => ("io.k8s.api.apps.v1.Deployment", "apps/v1"),
        "Event" => ("io.k8s.api.core.v1.Event", "v1"),
        "Pod" => ("io.k8s.api.core.v1.Pod", "v1"),
        "Service" => ("io.k8s.api.core.v1.Service", "v1"),
        _ => return OneVersion { api_version: "example.com/v1", model: &model::Deduced },
    };
    OneVersion { api_version, model: schema::lookup(model).unwrap() }
}

/// An object that writers write one after the other.
struct Subject {
    kind: OneVersion<'static>,
    scope: Scope,
    object: Value,
}

impl Subject {
    fn new(name: &str) -> Self {
        let kind = kind(name);
        let object = json!({"apiVersion": kind.api_version, "kind": name});
        Self { kind, scope: Scope::without(&["status"]), object }
    }

    fn writer<'a>(&'a self, manager: &'a str, time: &'a str) -> Writer<'a> {
        let api_version = self.kind.api_version;
        Writer {
            manager,
            api_version,
            kind: object::text(&self.object, "kind"),
            subresource: "",
            scope: &self.scope,
            time,
        }
    }

    /// Completes what tests leave out.
    fn whole(&self, mut object: Value) -> Value {
        for key in ["apiVersion", "kind"] {
            object[key] = self.object[key].clone();
        }
        object["metadata"]["name"] = json!("a");
        object
    }

    fn update_at(&mut self, manager: &str, object: Value, time: &str) {
        let mut new = self.whole(object);
        if !object::uid(&self.object).is_empty() {
            new["metadata"]["uid"] = json!("u");
        }
        track(&self.object, &mut new, &self.writer(manager, time), &self.kind);
        new["metadata"]["uid"] = json!("u");
        self.object = new;
    }

    fn update(&mut self, manager: &str, object: Value) {
        self.update_at(manager, object, EARLY);
    }

    fn try_apply(&mut self, manager: &str, object: Value, force: bool) -> Result<(), ApplyError> {
        let applied = self.whole(object);
        let writer = self.writer(manager, LATE);
        let mut new = apply(&self.object, &applied, force, &writer, &self.kind)?;
        keep_times(&mut new, &self.object);
        object::prune_nulls(&mut new);
        new["metadata"]["uid"] = json!("u");
        self.object = new;
        Ok(())
    }

    fn apply(&mut self, manager: &str, object: Value) {
        self.try_apply(manager, object, false).unwrap();
    }

    fn refused(&mut self, manager: &str, object: Value) -> Status {
        self.try_apply(manager, object, false).unwrap_err().to_status()
    }

    fn entries(&self) -> &Value {
        &self.object["metadata"]["managedFields"]
    }

    /// The fields of each entry, by manager.
    fn owned(&self) -> Value {
        let entries = self.entries().as_array().into_iter().flatten();
        let entries =
            entries.map(|it| (object::text(it, "manager").to_owned(), it["fieldsV1"].clone()));
        Value::Object(entries.collect())
    }
}

use crate::object;
use crate::status::Status;

#[test]
fn a_creator_owns_what_it_set_and_what_was_defaulted() {
    let mut subject = Subject::new("Deployment");
    subject.update(
        "kubectl-create",
        json!({
            "metadata": {"labels": {"app": "web"}, "creationTimestamp": EARLY, "generation": 1},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx"}], "dnsPolicy": "ClusterFirst", "securityContext": {}},
                },
            },
            "status": {},
        }),
    );
    // As a real server writes it.
    assert_eq!(
        subject.entries(),
        &json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1",
            "time": EARLY, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {
                        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                        "f:type": {},
                    },
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {
                            "f:containers": {
                                "k:{\"name\":\"nginx\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}},
                            },
                            "f:dnsPolicy": {},
                            "f:securityContext": {},
                        },
                    },
                },
            },
        }])
    );
}

#[test]
fn structs_that_are_always_there_have_no_owner() {
    let mut subject = Subject::new("Event");
    subject.scope = Scope::default();
    subject.update(
        "kubelet",
        json!({"involvedObject": {"kind": "Pod"}, "source": {"component": "kubelet"}, "count": 1}),
    );
    let expected = json!({"f:count": {}, "f:involvedObject": {}, "f:source": {"f:component": {}}});
    assert_eq!(subject.owned()["kubelet"], expected);
}

#[test]
fn what_is_applied_is_owned_and_conflicts_are_told() {
    let mut subject = Subject::new("ConfigMap");
    subject.apply("a", json!({"data": {"k": "a"}}));
    assert_eq!(
        subject.entries(),
        &json!([{
            "manager": "a", "operation": "Apply", "apiVersion": "v1", "time": LATE,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:k": {}}},
        }])
    );
    let refused = subject.refused("b", json!({"data": {"k": "b"}}));
    assert_eq!(
        refused.to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Apply failed with 1 conflict: conflict with \"a\": .data.k",
            "reason": "Conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.k",
            }]},
            "code": 409,
        })
    );
    // The same value is shared.
    subject.apply("b", json!({"data": {"k": "a"}}));
    assert_eq!(
        subject.owned(),
        json!({"a": {"f:data": {"f:k": {}}}, "b": {"f:data": {"f:k": {}}}})
    );
    // With force, it is taken.
    subject.try_apply("b", json!({"data": {"k": "b"}}), true).unwrap();
    assert_eq!(subject.owned(), json!({"b": {"f:data": {"f:k": {}}}}));
}

#[test]
fn several_conflicts_are_told_by_manager() {
    let mut subject = Subject::new("ConfigMap");
    subject.apply("a", json!({"data": {"x": "a", "y": "a"}}));
    subject.update(
        "c",
        json!({
            "metadata": {"managedFields": subject.entries()},
            "data": {"x": "a", "y": "a", "z": "c"},
        }),
    );
    let refused = subject.refused("b", json!({"data": {"x": "b", "y": "b", "z": "b"}}));
    assert_eq!(
        refused.message,
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.x\n- .data.y\nconflicts with \"c\" using v1:\n- .data.z"
    );
}

#[test]
fn what_is_not_applied_any_more_goes_unless_others_own_it() {
    let mut subject = Subject::new("ConfigMap");
    subject.apply("a", json!({"data": {"mine": "1", "shared": "1", "updated": "1"}}));
    subject.apply("b", json!({"data": {"shared": "1"}}));
    let mut next = subject.object.clone();
    next["data"]["updated"] = json!("2");
    subject.update("u", next);
    subject.apply("a", json!({"data": {}}));
    assert_eq!(subject.object["data"], json!({"shared": "1", "updated": "2"}));
    assert_eq!(
        subject.owned(),
        json!({
            "a": {"f:data": {}},
            "b": {"f:data": {"f:shared": {}}},
            "u": {"f:data": {"f:updated": {}}},
        })
    );
}

#[test]
fn items_are_known_by_their_keys_and_defaulted_keys() {
    let mut subject = Subject::new("Service");
    subject.apply("a", json!({"spec": {"ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}]}}));
    let ports = &subject.owned()["a"]["f:spec"]["f:ports"];
    assert_eq!(
        ports,
        &json!({
            "k:{\"port\":53,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}},
            "k:{\"port\":53,\"protocol\":\"UDP\"}": {".": {}, "f:port": {}, "f:protocol": {}},
        })
    );
    subject.apply("b", json!({"spec": {"ports": [{"port": 80, "name": "web"}]}}));
    subject.apply("a", json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}]}}));
    assert_eq!(
        subject.object["spec"]["ports"],
        json!([{"port": 53, "protocol": "UDP"}, {"port": 80, "name": "web"}])
    );
}

#[test]
fn applied_items_come_in_their_order() {
    let mut subject = Subject::new("Pod");
    let named =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|it| json!({"name": it})).collect() };
    subject.apply("a", json!({"spec": {"containers": named(&["x", "y", "z"])}}));
    subject.apply("b", json!({"spec": {"containers": named(&["w"])}}));
    subject.apply("a", json!({"spec": {"containers": named(&["z", "n", "x", "y"])}}));
    assert_eq!(subject.object["spec"]["containers"], json!(named(&["z", "w", "n", "x", "y"])));
}

#[test]
fn lists_and_maps_that_are_atomic_are_owned_as_a_whole() {
    let mut subject = Subject::new("Service");
    subject.apply("a", json!({"spec": {"selector": {"a": "1"}, "externalIPs": ["1.1.1.1"]}}));
    assert_eq!(subject.owned()["a"], json!({"f:spec": {"f:externalIPs": {}, "f:selector": {}}}));
    let refused = subject.refused("b", json!({"spec": {"selector": {"b": "1"}}}));
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.selector"
    );
}

#[test]
fn what_does_not_fit_is_refused_as_the_real_server_does() {
    for (kind, object, message) in [
        (
            "ConfigMap",
            json!({"foo": 1}),
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
        (
            "ConfigMap",
            json!({"data": {"k": 1}}),
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            "Deployment",
            json!({"metadata": {"namespace": "ns"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "x": 1}]}}}}),
            "failed to create typed patch object (ns/a; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"c\"].x: field not declared in schema",
        ),
        (
            "Service",
            json!({"spec": {"ports": [{"port": 1}, {"port": 1}]}}),
            "failed to create typed patch object (/a; /v1, Kind=Service): .spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (
            "Pod",
            json!({"spec": {"containers": [{"image": "i"}]}}),
            "failed to create typed patch object (/a; /v1, Kind=Pod): .spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
        ),
        (
            "ConfigMap",
            json!({"metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
    ] {
        assert_eq!(Subject::new(kind).refused("a", object).message, message);
    }
}

#[test]
fn client_side_apply_hands_over_to_kubectl() {
    let last = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {}}, "data": {"k": "1", "l": "1"},
    });
    let mut subject = Subject::new("ConfigMap");
    subject.update("kubectl-client-side-apply", json!({
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": last.to_string()}},
        "data": {"k": "1", "l": "1"},
    }));
    // Somebody else: a conflict as any.
    assert_eq!(subject.refused("other", json!({"data": {"k": "2"}})).code, 409);
    subject.apply("kubectl", json!({"data": {"k": "2"}}));
    assert_eq!(subject.object["data"], json!({"k": "2", "l": "1"}));
    let annotation =
        object::annotation(&subject.object, "kubectl.kubernetes.io/last-applied-configuration");
    assert_eq!(
        annotation,
        Some(
            "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"2\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n"
        )
    );
}

#[test]
fn what_changed_since_client_side_apply_still_conflicts() {
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"}});
    let mut subject = Subject::new("ConfigMap");
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    let object = json!({"metadata": {"annotations": annotations}, "data": {"k": "1"}});
    subject.update("kubectl-client-side-apply", object.clone());
    let mut next = object;
    next["data"]["k"] = json!("edited");
    subject.update("kubectl-edit", next);
    let refused = subject.refused("kubectl", json!({"data": {"k": "2"}}));
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .data.k"
    );
}

#[test]
fn an_object_that_nobody_tracked_belongs_to_before_the_first_apply() {
    let mut subject = Subject::new("ConfigMap");
    subject.object = subject.whole(json!({"metadata": {"uid": "u"}, "data": {"k": "1"}}));
    subject.update("u", json!({"data": {"k": "2"}}));
    assert!(subject.entries().is_null(), "tracking begins with the first apply");
    assert_eq!(
        subject.refused("a", json!({"data": {"k": "3"}})).message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
}

#[test]
fn updates_take_over_what_they_change_and_times_move_with_changes_alone() {
    let mut subject = Subject::new("ConfigMap");
    subject.update("a", json!({"data": {"k": "1", "l": "1"}}));
    subject.update_at("a", json!({"data": {"k": "1", "l": "1"}}), LATE);
    assert_eq!(subject.entries()[0]["time"], EARLY);
    subject.update_at("b", json!({"data": {"k": "2"}}), LATE);
    assert_eq!(subject.owned(), json!({"a": {"f:data": {}}, "b": {"f:data": {"f:k": {}}}}));
    assert_eq!(subject.entries()[0]["time"], EARLY);
}

#[test]
fn entries_are_reset_replaced_and_ignored_when_malformed() {
    let before = |sent: Value| {
        let mut subject = Subject::new("ConfigMap");
        subject.update("a", json!({"data": {"k": "1"}}));
        subject.update("b", json!({"metadata": {"managedFields": sent}, "data": {"k": "1"}}));
        subject.owned()
    };
    let kept = json!({"a": {"f:data": {".": {}, "f:k": {}}}});
    assert_eq!(before(json!([])), json!({}));
    assert_eq!(before(json!([{}])), json!({}));
    assert_eq!(before(json!([{"operation": "Nope"}])), kept);
    assert_eq!(before(Value::Null), kept);
    let other = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}}},
    }]);
    assert_eq!(before(other), json!({"x": {"f:data": {"f:k": {}}}}));
}

#[test]
fn the_oldest_updates_become_ancient() {
    let mut subject = Subject::new("ConfigMap");
    let mut data = json!({});
    for i in 0..12 {
        data[format!("k{i:02}")] = json!("v");
        subject.update_at(
            &format!("m{i:02}"),
            json!({"data": data}),
            &format!("2026-11-20T08:00:{i:02}Z"),
        );
    }
    let managers: Vec<&str> = subject
        .entries()
        .as_array()
        .unwrap()
        .iter()
        .map(|it| object::text(it, "manager"))
        .collect();
    assert_eq!(
        managers,
        ["ancient-changes", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10", "m11"]
    );
    assert_eq!(
        subject.owned()["ancient-changes"],
        json!({"f:data": {".": {}, "f:k00": {}, "f:k01": {}, "f:k02": {}}})
    );
}

#[test]
fn fields_of_unknown_type_are_owned_key_by_key() {
    let mut subject = Subject::new("Widget");
    subject.apply("a", json!({"spec": {"size": 1, "list": [1], "deep": {"x": null, "e": {}}}}));
    assert_eq!(
        subject.owned()["a"],
        json!({"f:spec": {".": {}, "f:deep": {".": {}, "f:e": {}, "f:x": {}}, "f:list": {}, "f:size": {}}})
    );
    subject.apply("b", json!({"spec": {"size": 1.0}}));
    assert_eq!(subject.refused("b", json!({"spec": "text"})).code, 409);
}

#[test]
fn scales_show_the_owner_of_the_replicas() {
    let mut subject = Subject::new("Deployment");
    subject.update("a", json!({"spec": {"replicas": 1, "paused": true}}));
    let stored = Some(subject.entries().clone());
    let seen = to_scale(stored.as_ref(), "spec.replicas").unwrap();
    assert_eq!(seen[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(seen[0]["apiVersion"], "autoscaling/v1");
    // Nobody touched it: nothing changes.
    assert_eq!(from_scale(stored.as_ref(), Some(&seen), "spec.replicas", "apps/v1"), stored);
    let taken = json!([{
        "manager": "s", "operation": "Update", "apiVersion": "autoscaling/v1", "subresource": "scale",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }]);
    let after = from_scale(stored.as_ref(), Some(&taken), "spec.replicas", "apps/v1").unwrap();
    let of = |name: &str| -> Value {
        let entries = after.as_array().unwrap();
        entries.iter().find(|it| it["manager"] == name).unwrap().clone()
    };
    assert_eq!(of("a")["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(of("s")["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(of("s")["apiVersion"], "apps/v1");
}

#[test]
fn a_manager_without_name_is_named_by_its_agent() {
    for (agent, expected) in [
        ("kubectl/v1.37.0 (linux/amd64) kubernetes/abc", "kubectl"),
        ("Mozilla\u{7}\n Firefox", "Mozilla Firefox"),
        ("", ""),
    ] {
        assert_eq!(manager_from_user_agent(agent), expected);
    }
    assert_eq!(manager_from_user_agent(&"ä".repeat(100)).len(), 128);
}

#[test]
fn a_type_that_became_atomic_carries_owners_along() {
    let mut subject = Subject::new("Service");
    subject.apply("a", json!({"spec": {"selector": {"x": "1"}, "ports": [{"port": 1}]}}));
    // As an older type would have written it: the selector granular, the ports atomic.
    subject.object["metadata"]["managedFields"][0]["fieldsV1"] =
        json!({"f:spec": {"f:ports": {}, "f:selector": {"f:x": {}}}});
    subject.apply("b", json!({"metadata": {"labels": {"b": "1"}}}));
    assert_eq!(subject.owned()["a"], json!({"f:spec": {"f:ports": {}, "f:selector": {}}}));
}

#[test]
fn the_short_way_ends_where_the_long_one_does() {
    let data = |k: &str| json!({"metadata": {"labels": {"x": k}}, "data": {"k": k, "l": "1"}});
    let mut subject = Subject::new("ConfigMap");
    subject.update("a", data("1"));
    subject.update("b", json!({"metadata": {"labels": {"x": "1"}}, "data": {"k": "1", "l": "2"}}));
    let live = subject.object.clone();
    for (manager, next) in [
        // Its own alone: short. The others take, lose or give up fields.
        ("a", json!({"metadata": {"labels": {"x": "2"}}, "data": {"k": "2", "l": "2"}})),
        ("b", json!({"metadata": {"labels": {"x": "2"}}, "data": {"k": "2", "l": "2"}})),
        ("b", json!({"metadata": {"labels": {"x": "1"}}, "data": {"k": "1", "l": "3"}})),
        ("a", json!({"metadata": {"labels": {"x": "1"}}, "data": {"k": "1"}})),
        ("c", json!({"data": {"l": "2"}})),
    ] {
        subject.object = live.clone();
        let new = subject.whole(next);
        let writer = subject.writer(manager, LATE);
        let comparison = walk::compare(&live, &new, subject.kind.model).unwrap();
        let stored = live.pointer("/metadata/managedFields");
        let read = entries::read(stored).unwrap();
        let long = track::after_update(&live, &new, read, &comparison, &writer, &subject.kind);
        let long = entries::write(&long.unwrap());
        if let Some(short) = quiet::entries_after(stored, &comparison, &writer) {
            assert_eq!(Some(short), long);
        }
        let mut tracked = new.clone();
        track(&live, &mut tracked, &writer, &subject.kind);
        assert_eq!(take_entries(&mut tracked), long);
    }
}
