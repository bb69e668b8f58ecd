//! Strategic merges were computed by Kubernetes' own implementation.

use proptest::prelude::*;
use serde_json::json as value;

use super::*;

#[test]
fn strategic_patches() {
    for (kind, document, patch, expected) in STRATEGIC {
        let patched = strategic(&parsed(document), &parsed(patch), &definition(kind));
        assert_eq!(patched.unwrap(), parsed(expected), "{document} {patch}");
    }
}

#[test]
fn strategic_patches_that_are_refused() {
    for (kind, document, patch, code, message) in REFUSED {
        let refused = strategic(&parsed(document), &parsed(patch), &definition(kind)).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message), "{patch}");
    }
}

#[test]
fn json_patches() {
    let document = value!({ "a": { "b": [1, 2] }, "c/d": "x" });
    for (patch, expected) in [
        (value!([]), document.clone()),
        (
            value!([{ "op": "replace", "path": "/a/b/1", "value": 3 }, { "op": "remove", "path": "/c~1d" }]),
            value!({ "a": { "b": [1, 3] } }),
        ),
        (
            value!([
                { "op": "test", "path": "/c~1d", "value": "x" },
                { "op": "add", "path": "/a/b/-", "value": null },
                { "op": "move", "from": "/c~1d", "path": "/e" },
            ]),
            value!({ "a": { "b": [1, 2, null] }, "e": "x" }),
        ),
        (
            value!([
                { "op": "test", "path": "/a/finalizers", "value": null },
                { "op": "add", "path": "/a/finalizers", "value": ["x"] },
            ]),
            value!({ "a": { "b": [1, 2], "finalizers": ["x"] }, "c/d": "x" }),
        ),
    ] {
        assert_eq!(json(&document, &patch).unwrap(), expected);
    }
}

#[test]
fn json_patches_that_are_refused() {
    let operation = value!({ "op": "test", "path": "/a", "value": 1 });
    for (patch, code, message) in [
        (value!([{ "op": "test", "path": "/a", "value": 2 }]), 422, UNPROCESSABLE),
        (value!([{ "op": "remove", "path": "/b" }]), 422, UNPROCESSABLE),
        (value!([{ "op": "test", "path": "/a", "value": null }]), 422, UNPROCESSABLE),
        (value!([{ "op": "test", "path": "/b/c", "value": null }]), 422, UNPROCESSABLE),
        (
            value!({ "op": "remove" }),
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            value!([{ "op": "add", "path": 1 }]),
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.path of type string",
        ),
        (value!([{ "op": "what", "path": "/a" }]), 422, UNPROCESSABLE),
        (value!([{ "op": "replace", "path": "/b", "value": 1 }]), 422, UNPROCESSABLE),
        // Each of them would double the object.
        (
            (0..64)
                .map(|i| value!({ "op": "copy", "from": "", "path": format!("/c{i}") }))
                .collect(),
            422,
            UNPROCESSABLE,
        ),
        // Each pair of them would make it one deeper.
        (
            std::iter::once(value!({ "op": "add", "path": "/w", "value": {} }))
                .chain((0..500).flat_map(|_| {
                    [
                        value!({ "op": "move", "from": "/a", "path": "/w/a" }),
                        value!({ "op": "move", "from": "/w", "path": "/a" }),
                        value!({ "op": "add", "path": "/w", "value": {} }),
                    ]
                }))
                .collect(),
            422,
            UNPROCESSABLE,
        ),
        // Each of them makes it a hundred deeper, in few bytes.
        (
            (0..200)
                .map(|i| {
                    let path = format!("/a{}", "/0".repeat(99 * i));
                    value!({ "op": "replace", "path": path, "value": nested(99) })
                })
                .collect(),
            422,
            UNPROCESSABLE,
        ),
        (
            value!([{ "op": "add", "path": format!("/a{}", "/0".repeat(40)), "value": nested(99) }]),
            422,
            UNPROCESSABLE,
        ),
        (
            Value::Array(vec![operation; 10_001]),
            413,
            "Request entity is too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
    ] {
        let refused = json(&value!({ "a": 1 }), &patch).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message));
    }
}

/// A list in a list in a list.
fn nested(depth: usize) -> Value {
    (0..depth).fold(value!(0), |inner, _| value!([inner]))
}

#[test]
fn merge_patches() {
    for (document, patch, expected) in [
        (value!({ "a": "b" }), value!({ "a": null, "c": [1] }), value!({ "c": [1] })),
        (
            value!({ "a": { "b": 1 } }),
            value!({ "a": { "c": { "d": null } } }),
            value!({ "a": { "b": 1, "c": {} } }),
        ),
        (value!({ "a": [1, 2] }), value!({ "a": [3] }), value!({ "a": [3] })),
    ] {
        assert_eq!(merge(&document, &patch), expected);
    }
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(pod in pod()) {
        prop_assert_eq!(&strategic(&pod, &value!({}), POD).unwrap(), &pod);
        prop_assert_eq!(&merge(&pod, &value!({})), &pod);
        prop_assert_eq!(&json(&pod, &value!([])).unwrap(), &pod);
    }

    #[test]
    fn a_patch_applied_twice_is_a_patch_applied_once(pod in pod(), patch in pod()) {
        let once = strategic(&pod, &patch, POD).unwrap();
        prop_assert_eq!(&strategic(&once, &patch, POD).unwrap(), &once);
        let once = merge(&pod, &patch);
        prop_assert_eq!(&merge(&once, &patch), &once);
    }

    #[test]
    fn a_patched_object_contains_the_patch(pod in pod(), patch in pod()) {
        let patched = strategic(&pod, &patch, POD).unwrap();
        for container in patch["spec"]["containers"].as_array().unwrap() {
            let found = patched["spec"]["containers"].as_array().unwrap();
            let found = found.iter().find(|it| it["name"] == container["name"]).unwrap();
            prop_assert_eq!(&found["image"], &container["image"]);
        }
    }
}

/// Pods with labels, finalizers and containers, few enough names to meet each other.
fn pod() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[ab]", "[xy]", 0..3);
    let finalizers = proptest::collection::btree_set("[abc]", 0..3);
    let env = proptest::collection::btree_map("[AB]", "[xy]", 0..3);
    let containers = proptest::collection::btree_map("[abc]", ("[xy]", env), 0..4);
    (labels, finalizers, containers).prop_map(|(labels, finalizers, containers)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, env))| {
                let env: Vec<Value> =
                    env.iter().map(|(name, it)| value!({ "name": name, "value": it })).collect();
                value!({ "name": name, "image": image, "env": env })
            })
            .collect();
        value!({
            "metadata": { "labels": labels, "finalizers": finalizers },
            "spec": { "containers": containers },
        })
    })
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn definition(kind: &str) -> String {
    let group = if kind == "Deployment" { "apps" } else { "core" };
    format!("io.k8s.api.{group}.v1.{kind}")
}

const POD: &str = "io.k8s.api.core.v1.Pod";

const UNPROCESSABLE: &str = "the server rejected our request due to an error in our request";

/// Kind, object, patch, result.
const STRATEGIC: [(&str, &str, &str, &str); 42] = [
    (
        "Service",
        r#"{"spec":{"ports":[{"port":101},{"port":99}]}}"#,
        r#"{"spec":{"$setElementOrder/ports":[{"port":97},{"port":98}],"ports":[{"port":97},{"$patch":"delete","port":99}]}}"#,
        r#"{"spec":{"ports":[{"port":101},{"port":97}]}}"#,
    ),
    ("ConfigMap", r#"{"data":{"a":"1"}}"#, r#"{}"#, r#"{"data":{"a":"1"}}"#),
    (
        "ConfigMap",
        r#"{"data":{"a":"1","b":"2"}}"#,
        r#"{"data":{"a":null,"c":"3"}}"#,
        r#"{"data":{"b":"2","c":"3"}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"labels":{"a":"1"}}}"#,
        r#"{"metadata":{"labels":{"$patch":"replace","b":"2"}}}"#,
        r#"{"metadata":{"labels":{"b":"2"}}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"labels":{"a":"1"}}}"#,
        r#"{"metadata":{"labels":{"$patch":"delete"}}}"#,
        r#"{"metadata":{"labels":{}}}"#,
    ),
    (
        "ConfigMap",
        r#"{}"#,
        r#"{"metadata":{"annotations":{"a":"1","b":null}}}"#,
        r#"{"metadata":{"annotations":{"a":"1"}}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"finalizers":["a","b"]}}"#,
        r#"{"metadata":{"finalizers":["c","a"]}}"#,
        r#"{"metadata":{"finalizers":["c","a","b"]}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"finalizers":["a","b","c"]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["b","x"]}}"#,
        r#"{"metadata":{"finalizers":["a","c"]}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"finalizers":["a","b"]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["c","b"],"finalizers":["c"]}}"#,
        r#"{"metadata":{"finalizers":["c","b"]}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}]}}"#,
        r#"{"metadata":{"ownerReferences":[{"uid":"2","controller":true},{"uid":"3","name":"c"}]}}"#,
        r#"{"metadata":{"ownerReferences":[{"name":"a","uid":"1"},{"controller":true,"name":"b","uid":"2"},{"name":"c","uid":"3"}]}}"#,
    ),
    (
        "ConfigMap",
        r#"{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}]}}"#,
        r#"{"metadata":{"ownerReferences":[{"$patch":"delete","uid":"1"}]}}"#,
        r#"{"metadata":{"ownerReferences":[{"name":"b","uid":"2"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"containers":[{"name":"b","image":"b:2"}]}}"#,
        r#"{"spec":{"containers":[{"image":"a:1","name":"a"},{"image":"b:2","name":"b"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"containers":[{"name":"c","image":"c:1"}]}}"#,
        r#"{"spec":{"containers":[{"image":"c:1","name":"c"},{"image":"a:1","name":"a"},{"image":"b:1","name":"b"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"},{"name":"c","image":"c:1"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"c","image":"c:2"}]}}"#,
        r#"{"spec":{"containers":[{"image":"b:1","name":"b"},{"image":"c:2","name":"c"},{"image":"a:1","name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"},{"name":"c","image":"c:1"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"d"},{"name":"a"}],"containers":[{"name":"d","image":"d"},{"name":"b","$patch":"delete"}]}}"#,
        r#"{"spec":{"containers":[{"image":"c:1","name":"c"},{"image":"d","name":"d"},{"image":"a:1","name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"},{"name":"c","image":"c:1"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"b"},{"name":"a"}]}}"#,
        r#"{"spec":{"containers":[{"image":"c:1","name":"c"},{"image":"b:1","name":"b"},{"image":"a:1","name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"containers":[{"$patch":"replace"},{"name":"c","image":"c:1"}]}}"#,
        r#"{"spec":{"containers":[{"image":"c:1","name":"c"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","args":["x","y"],"command":["c"]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","args":["z"]}]}}"#,
        r#"{"spec":{"containers":[{"args":["z"],"command":["c"],"name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","env":[{"name":"X","value":"1"},{"name":"Y","value":"2"}]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","env":[{"name":"Y","value":null,"valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},{"name":"X","$patch":"delete"}]}]}}"#,
        r#"{"spec":{"containers":[{"env":[{"name":"Y","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"http"}]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"protocol":"UDP"},{"containerPort":81}]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"http","protocol":"UDP"},{"containerPort":81}]}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
        r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name","configMap"],"configMap":{"name":"c"}}]}}"#,
        r#"{"spec":{"volumes":[{"configMap":{"name":"c"},"name":"v"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}},{"name":"w","emptyDir":{}}]}}"#,
        r#"{"spec":{"$setElementOrder/volumes":[{"name":"w"}],"volumes":[{"name":"v","$patch":"delete"}]}}"#,
        r#"{"spec":{"volumes":[{"emptyDir":{},"name":"w"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"tolerations":[{"key":"a"}]}}"#,
        r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
        r#"{"spec":{"tolerations":[{"key":"b"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"topologySpreadConstraints":[{"topologyKey":"a","maxSkew":1}]}}"#,
        r#"{"spec":{"topologySpreadConstraints":[{"topologyKey":"b","maxSkew":2}]}}"#,
        r#"{"spec":{"topologySpreadConstraints":[{"maxSkew":2,"topologyKey":"b"},{"maxSkew":1,"topologyKey":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"imagePullSecrets":[{"name":"a"}]}}"#,
        r#"{"spec":{"imagePullSecrets":[{"name":"b"}]}}"#,
        r#"{"spec":{"imagePullSecrets":[{"name":"b"},{"name":"a"}]}}"#,
    ),
    (
        "Pod",
        r#"{"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"Initialized","status":"True"}]}}"#,
        r#"{"status":{"conditions":[{"type":"Ready","status":"True"}],"$setElementOrder/conditions":[{"type":"Initialized"},{"type":"Ready"}]}}"#,
        r#"{"status":{"conditions":[{"status":"True","type":"Initialized"},{"status":"True","type":"Ready"}]}}"#,
    ),
    (
        "Pod",
        r#"{"status":{"podIPs":[{"ip":"1"}]}}"#,
        r#"{"status":{"podIPs":[{"ip":"1"},{"ip":"2"}]}}"#,
        r#"{"status":{"podIPs":[{"ip":"1"},{"ip":"2"}]}}"#,
    ),
    (
        "Deployment",
        r#"{"spec":{"replicas":1,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}"#,
        r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#,
        r#"{"spec":{"replicas":1,"strategy":{"type":"Recreate"}}}"#,
    ),
    (
        "Deployment",
        r#"{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"a","image":"a:1"}]}}}}"#,
        r#"{"spec":{"replicas":null,"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"t"}}}}}"#,
        r#"{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"t"}},"spec":{"containers":[{"image":"a:1","name":"a"}]}}}}"#,
    ),
    (
        "Deployment",
        r#"{"spec":{"template":{"spec":{"nodeSelector":{"a":"1"}}}}}"#,
        r#"{"spec":{"template":{"spec":{"nodeSelector":null}}}}"#,
        r#"{"spec":{"template":{"spec":{}}}}"#,
    ),
    (
        "Deployment",
        r#"{"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"Exists"}]}}}"#,
        r#"{"spec":{"selector":{"matchExpressions":[{"key":"b","operator":"Exists"}]}}}"#,
        r#"{"spec":{"selector":{"matchExpressions":[{"key":"b","operator":"Exists"}]}}}"#,
    ),
    (
        "Service",
        r#"{"spec":{"ports":[{"port":80,"name":"http","targetPort":8080}]}}"#,
        r#"{"spec":{"ports":[{"port":80,"targetPort":"http"},{"port":443,"name":"https"}]}}"#,
        r#"{"spec":{"ports":[{"name":"http","port":80,"targetPort":"http"},{"name":"https","port":443}]}}"#,
    ),
    (
        "Service",
        r#"{"spec":{"ports":[{"port":80,"name":"http"},{"port":443,"name":"https"}]}}"#,
        r#"{"spec":{"$setElementOrder/ports":[{"port":443}],"ports":[{"$patch":"delete","port":80}]}}"#,
        r#"{"spec":{"ports":[{"name":"https","port":443}]}}"#,
    ),
    (
        "Service",
        r#"{"spec":{"externalIPs":["1","2"]}}"#,
        r#"{"spec":{"externalIPs":["3"]}}"#,
        r#"{"spec":{"externalIPs":["3"]}}"#,
    ),
    (
        "Service",
        r#"{"spec":{"selector":{"a":"1"}}}"#,
        r#"{"spec":{"selector":{"b":"2"}}}"#,
        r#"{"spec":{"selector":{"a":"1","b":"2"}}}"#,
    ),
    (
        "ServiceAccount",
        r#"{"secrets":[{"name":"a"}],"imagePullSecrets":[{"name":"x"}]}"#,
        r#"{"secrets":[{"name":"b","kind":"Secret"}],"imagePullSecrets":[{"name":"x","$patch":"delete"}]}"#,
        r#"{"imagePullSecrets":[],"secrets":[{"kind":"Secret","name":"b"},{"name":"a"}]}"#,
    ),
    (
        "Node",
        r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}],"podCIDRs":["1"]}}"#,
        r#"{"spec":{"taints":null,"unschedulable":true,"podCIDRs":["2"]}}"#,
        r#"{"spec":{"podCIDRs":["2","1"],"unschedulable":true}}"#,
    ),
    (
        "Node",
        r#"{"status":{"addresses":[{"type":"InternalIP","address":"1"},{"type":"Hostname","address":"n"}]}}"#,
        r#"{"status":{"addresses":[{"type":"InternalIP","address":"2"}]}}"#,
        r#"{"status":{"addresses":[{"address":"2","type":"InternalIP"},{"address":"n","type":"Hostname"}]}}"#,
    ),
    (
        "Node",
        r#"{"status":{"capacity":{"cpu":"1","example.com/dongle":"2"}}}"#,
        r#"{"status":{"capacity":{"cpu":"2"}}}"#,
        r#"{"status":{"capacity":{"cpu":"2","example.com/dongle":"2"}}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"},{"name":"c","image":"c:1"},{"name":"d","image":"d:1"}]}}"#,
        r#"{"spec":{"containers":[{"name":"d","image":"d:2"},{"name":"e","image":"e:1"},{"name":"b","image":"b:2"}]}}"#,
        r#"{"spec":{"containers":[{"image":"a:1","name":"a"},{"image":"c:1","name":"c"},{"image":"d:2","name":"d"},{"image":"e:1","name":"e"},{"image":"b:2","name":"b"}]}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"hostNetwork":true}}"#,
        r#"{"spec":{"hostNetwork":{"a":1}}}"#,
        r#"{"spec":{"hostNetwork":{"a":1}}}"#,
    ),
    (
        "Pod",
        r#"{"spec":{"ephemeralContainers":[{"name":"d1"}]}}"#,
        r#"{"spec":{"$setElementOrder/ephemeralContainers":[{"name":"d2"}],"ephemeralContainers":[{"name":"d2","image":"x"}]}}"#,
        r#"{"spec":{"ephemeralContainers":[{"image":"x","name":"d2"},{"name":"d1"}]}}"#,
    ),
];

/// Kind, object, patch, code, message.
const REFUSED: [(&str, &str, &str, u16, &str); 9] = [
    (
        "ConfigMap",
        r#"{"metadata":{"labels":{"a":"1"}}}"#,
        r#"{"metadata":{"labels":{"$patch":"bad"}}}"#,
        500,
        "unknown patch type: bad in map: map[$patch:bad]",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"containers":[{"image":"b:2"}]}}"#,
        500,
        "map: map[image:b:2] does not contain declared merge key: name",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"b","image":"b:2"}]}}"#,
        500,
        "The order in patch list:\n[map[image:b:2 name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}"#,
        r#"{"spec":{"containers":[{"$patch":"merge"},{"name":"c","image":"c:1"}]}}"#,
        500,
        "merging lists cannot yet be specified in the patch",
    ),
    (
        "Pod",
        r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
        r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"configMap":{"name":"c"}}]}}"#,
        400,
        "invalid patch format of retainKeys",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"}]}}"#,
        r#"{"spec":{"$setElementOrder":[],"containers":[]}}"#,
        400,
        "invalid patch format of setElementOrder list",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":{}}}"#,
        500,
        "expected a []interface {}, but received a map[string]interface {}",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"}]}}"#,
        r#"{"spec":{"containers":["a"]}}"#,
        500,
        "list element types are not identical: [[map[image:a:1 name:a]] [a]]",
    ),
    (
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"a:1"}]}}"#,
        r#"{"spec":{"containers":[["a"]]}}"#,
        500,
        "list element types are not identical: [[map[image:a:1 name:a]] [[a]]]",
    ),
];
