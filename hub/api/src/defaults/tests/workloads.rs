//! What makes pods, and what they store in.

use serde_json::{Value, json};

use super::check;

/// The least template, and what becomes of it.
fn template(restart: &str) -> (Value, Value) {
    let least = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}], "restartPolicy": restart},
    });
    let mut full = least.clone();
    full["spec"] = json!({
        "containers": [{
            "name": "c", "image": "web:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst", "restartPolicy": restart,
        "schedulerName": "default-scheduler", "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    });
    (least, full)
}

#[test]
fn daemons_and_stateful_sets() {
    let (least, full) = template("Always");
    check(
        "daemonsets",
        json!({"spec": {"template": least}}),
        json!({"spec": {
            "revisionHistoryLimit": 10, "template": full,
            "updateStrategy": {
                "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
        }}),
    );
    check(
        "statefulsets",
        json!({"spec": {
            "template": least,
            "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}],
        }}),
        json!({"spec": {
            "podManagementPolicy": "OrderedReady", "replicas": 1, "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain", "whenScaled": "Retain",
            },
            "template": full,
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"partition": 0, "maxUnavailable": 1},
            },
            "volumeClaimTemplates": [{
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
                "spec": {"resources": {}, "volumeMode": "Filesystem"},
                "status": {"phase": "Pending"},
            }],
        }}),
    );
}

#[test]
fn replication_controllers_select_what_their_template_says() {
    let (least, full) = template("Always");
    check(
        "replicationcontrollers",
        json!({"spec": {"template": least}}),
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"replicas": 1, "selector": {"app": "web"}, "template": full},
        }),
    );
}

#[test]
fn jobs_and_what_makes_them() {
    let (least, full) = template("Never");
    check(
        "jobs",
        json!({"spec": {"template": least}}),
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1,
                "manualSelector": false, "parallelism": 1,
                "podReplacementPolicy": "TerminatingOrFailed", "suspend": false, "template": full,
            },
        }),
    );
    check(
        "cronjobs",
        json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": least}}}}),
        json!({"spec": {
            "concurrencyPolicy": "Allow", "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {}, "spec": {"template": full}},
            "schedule": "@daily", "successfulJobsHistoryLimit": 3, "suspend": false,
        }}),
    );
}

#[test]
fn autoscalers() {
    check(
        "horizontalpodautoscalers",
        json!({"spec": {"maxReplicas": 3, "behavior": {"scaleUp": {}}}}),
        json!({"spec": {
            "behavior": {
                "scaleDown": {
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                    "selectPolicy": "Max",
                },
                "scaleUp": {
                    "policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                    ],
                    "selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                },
            },
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}],
            "minReplicas": 1,
        }}),
    );
}

#[test]
fn volumes_claims_and_limits() {
    check(
        "persistentvolumes",
        json!({"spec": {"capacity": {"storage": "1024Mi"}, "hostPath": {"path": "/x"}}}),
        json!({"spec": {
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x", "type": ""},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
        }}),
    );
    let source = json!({"kind": "PersistentVolumeClaim", "name": "c"});
    check(
        "persistentvolumeclaims",
        json!({"spec": {"dataSource": source}}),
        json!({"spec": {
            "dataSource": source, "dataSourceRef": source, "resources": {},
            "volumeMode": "Filesystem",
        }}),
    );
    check(
        "limitranges",
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
        json!({"spec": {"limits": [{
            "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
            "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"},
        }]}}),
    );
}
