//! Objects before and after their defaults.

use serde_json::{Value, json};

use crate::resources;

mod workloads;

/// Fills in an object twice, since defaults must not depend on what they filled in themselves.
fn defaulted(plural: &str, mut object: Value) -> Value {
    let row = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
    row.strategy.default(&mut object);
    let once = object.clone();
    row.strategy.default(&mut object);
    assert_eq!(object, once, "defaults of {plural} are idempotent");
    object
}

fn check(plural: &str, object: Value, expected: Value) {
    assert_eq!(defaulted(plural, object), expected);
}

#[test]
fn a_deployment_is_filled_in_down_to_its_containers() {
    check(
        "deployments",
        json!({"spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 80}]}]},
            },
        }}),
        json!({"spec": {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "c",
                        "image": "web:1",
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                    }],
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Always",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30,
                },
            },
        }}),
    );
}

#[test]
fn parts_of_a_pod_are_filled_in() {
    let pod = defaulted(
        "pods",
        json!({"spec": {
            "hostNetwork": true,
            "serviceAccount": "robot",
            "containers": [{
                "name": "c",
                "image": "web",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "livenessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
                "resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}, "requests": {"cpu": 0.1}},
            }],
            "volumes": [
                {"name": "a"},
                {"name": "b", "hostPath": {"path": "/x"}},
                {"name": "c", "configMap": {"name": "m"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        }}),
    );
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    for (found, expected) in [
        (&spec["enableServiceLinks"], json!(true)),
        (&spec["serviceAccountName"], json!("robot")),
        (&container["imagePullPolicy"], json!("Always")),
        (&container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"})),
        (
            &container["env"][0]["valueFrom"]["fieldRef"],
            json!({"apiVersion": "v1", "fieldPath": "status.podIP"}),
        ),
        (
            &container["livenessProbe"],
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            }),
        ),
        (
            &container["resources"],
            json!({
                "limits": {"cpu": "1", "memory": "512Mi"},
                "requests": {"cpu": "100m", "memory": "512Mi"},
            }),
        ),
        (&spec["volumes"][0], json!({"name": "a", "emptyDir": {}})),
        (&spec["volumes"][1]["hostPath"], json!({"path": "/x", "type": ""})),
        (&spec["volumes"][2]["configMap"], json!({"name": "m", "defaultMode": 420})),
        (
            &spec["volumes"][3]["projected"],
            json!({
                "defaultMode": 420,
                "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
            }),
        ),
    ] {
        assert_eq!(*found, expected);
    }
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, expected) in [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1", "IfNotPresent"),
        ("web@sha256:0123", "IfNotPresent"),
        ("web:latest@sha256:0123", "Always"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        let pod = defaulted("pods", pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], expected, "{image}");
    }
}

#[test]
fn services_are_filled_in_by_type() {
    let port = json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]);
    check(
        "services",
        json!({"spec": {"ports": [{"port": 80}]}}),
        json!({"spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": port,
        }}),
    );
    check(
        "services",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}}),
        json!({"spec": {
            "type": "LoadBalancer", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "allocateLoadBalancerNodePorts": true,
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": port,
        }}),
    );
    check(
        "services",
        json!({"spec": {"clusterIP": "None"}}),
        json!({"spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "clusterIP": "None", "clusterIPs": ["None"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        }}),
    );
    check(
        "services",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
        json!({"spec": {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}}),
    );
}

#[test]
fn small_kinds_are_filled_in() {
    check(
        "secrets",
        json!({"stringData": {"a": "x", "b": "y"}, "data": {"a": "b2xk"}}),
        json!({"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}}),
    );
    check(
        "namespaces",
        json!({"metadata": {"name": "n"}}),
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}}),
    );
    check(
        "nodes",
        json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "2000m"}}}),
        json!({
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
            "status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}},
        }),
    );
    check(
        "endpointslices",
        json!({"ports": [{"port": 80}]}),
        json!({"ports": [{"port": 80, "name": "", "protocol": "TCP"}]}),
    );
}

#[test]
fn the_class_follows_the_resources() {
    for (resources, expected) in [
        (json!([{}]), "BestEffort"),
        (json!([{"limits": {"cpu": "0"}}]), "BestEffort"),
        (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
        (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}]), "Guaranteed"),
        (
            json!([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}]),
            "Guaranteed",
        ),
        (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}]), "Burstable"),
        (
            json!([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}]),
            "Burstable",
        ),
    ] {
        let containers: Vec<Value> =
            resources.as_array().unwrap().iter().map(|it| json!({"resources": it})).collect();
        let pod = json!({"spec": {"containers": containers}});
        assert_eq!(super::pod::qos_class(&pod), expected, "{resources}");
    }
}
