//! What makes pods: apps, batch, autoscaling.

use serde_json::{Value, json};

use super::{causes, check, context, put};
use crate::write::{create, update};

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    })
}

fn selecting(plural: &str) -> Value {
    let mut object = json!({
        "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()},
    });
    match plural {
        "replicationcontrollers" => object["spec"]["selector"] = json!({"app": "web"}),
        "daemonsets" => {
            object["spec"]["updateStrategy"] = json!({"rollingUpdate": {"maxUnavailable": 1}});
        }
        _ => object["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 0}}),
    }
    object
}

fn job() -> Value {
    let mut job = json!({"metadata": {"name": "a"}, "spec": {"template": template()}});
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    job
}

/// Changes one place of an object that exists and tells what is wrong then.
fn check_update(plural: &str, good: &Value, cases: &[(&str, Value, &[&str])]) {
    let context = context(plural);
    let old = create(good.clone(), &context).unwrap();
    for (pointer, value, expected) in cases {
        let mut new = old.clone();
        put(&mut new, pointer, value.clone());
        assert_eq!(causes(update(new, &old, &context)), *expected, "{pointer} = {value}");
    }
}

#[test]
fn daemon_sets() {
    check(
        "daemonsets",
        &selecting("daemonsets"),
        &[
            (
                "/spec/template/metadata/labels",
                json!({"app": "x"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "/spec/updateStrategy/rollingUpdate",
                json!({"maxSurge": 1, "maxUnavailable": 1}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                "/spec/updateStrategy/rollingUpdate",
                json!({"maxSurge": 0, "maxUnavailable": 0}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "Slowly"}),
                &[
                    "spec.updateStrategy: Unsupported value: {\"type\":\"Slowly\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
                ],
            ),
        ],
    );
}

#[test]
fn stateful_sets() {
    let good = selecting("statefulsets");
    check(
        "statefulsets",
        &good,
        &[
            (
                "/spec/podManagementPolicy",
                json!("Any"),
                &[
                    "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
                &[
                    "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
                ],
            ),
            (
                "/spec/updateStrategy/rollingUpdate/partition",
                json!(-1),
                &[
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenScaled": "Later"}),
                &[
                    "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Later\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
        ],
    );
    check_update(
        "statefulsets",
        &good,
        &[
            ("/spec/replicas", json!(5), &[]),
            ("/spec/minReadySeconds", json!(5), &[]),
            (
                "/spec/podManagementPolicy",
                json!("Parallel"),
                &[
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                ],
            ),
        ],
    );
}

#[test]
fn replication_controllers_and_revisions() {
    check(
        "replicationcontrollers",
        &selecting("replicationcontrollers"),
        &[(
            "/spec/selector",
            json!({"app": "x"}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        )],
    );
    let revision = json!({"metadata": {"name": "a"}, "data": {"a": 1}, "revision": 1});
    check(
        "controllerrevisions",
        &revision,
        &[
            ("/data", Value::Null, &["data: Required value: data is mandatory"]),
            (
                "/revision",
                json!(-1),
                &["revision: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
    check_update(
        "controllerrevisions",
        &revision,
        &[
            ("/revision", json!(2), &[]),
            ("/data", json!({"a": 2}), &["data: Invalid value: {\"a\":2}: field is immutable"]),
        ],
    );
}

#[test]
fn jobs() {
    let good = job();
    check(
        "jobs",
        &good,
        &[
            (
                "/spec/template/spec/restartPolicy",
                json!("Always"),
                &[
                    "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ],
            ),
            ("/spec/completionMode", json!("Indexed"), &[]),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
            (
                "/spec/selector",
                json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "x"}}),
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"x\"}}: `selector` not auto-generated",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\",\"batch.kubernetes.io/controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"job-name\":\"a\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template/metadata/labels",
                json!({"job-name": "x"}),
                &[
                    "spec.template.metadata.labels[job-name]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"job-name\":\"x\"}: must be 'a'",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "Ignore"}]}),
                &[
                    "spec.podFailurePolicy.rules[0]: Invalid value: {\"action\":\"Ignore\"}: specifying one of OnExitCodes and OnPodConditions is required",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}]}),
                &[
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
                ],
            ),
        ],
    );
    check_update(
        "jobs",
        &good,
        &[
            ("/spec/parallelism", json!(3), &[]),
            ("/spec/suspend", json!(true), &[]),
            (
                "/spec/completions",
                json!(3),
                &["spec.completions: Invalid value: 3: field is immutable"],
            ),
            (
                "/spec/completionMode",
                json!("Indexed"),
                &["spec.completionMode: Invalid value: \"Indexed\": field is immutable"],
            ),
        ],
    );
}

#[test]
fn a_suspended_job_may_be_directed_until_it_starts() {
    let mut suspended = job();
    suspended["spec"]["suspend"] = json!(true);
    let selector = json!({"disk": "ssd"});
    check_update(
        "jobs",
        &suspended,
        &[("/spec/template/spec/nodeSelector", selector.clone(), &[])],
    );
    let context = context("jobs");
    let old = create(job(), &context).unwrap();
    let mut new = old.clone();
    put(&mut new, "/spec/template/spec/nodeSelector", selector);
    let found = causes(update(new, &old, &context));
    assert!(found.len() == 1 && found[0].ends_with("field is immutable"), "{found:?}");
}

#[test]
fn cron_jobs() {
    let good = json!({
        "metadata": {"name": "a"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job()["spec"]}},
    });
    check(
        "cronjobs",
        &good,
        &[
            ("/spec/timeZone", json!("Europe/Paris"), &[]),
            ("/spec/schedule", json!(""), &["spec.schedule: Required value"]),
            (
                "/spec/schedule",
                json!("* * * *"),
                &[
                    "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
                ],
            ),
            (
                "/spec/schedule",
                json!("TZ=UTC * * * * *"),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                ],
            ),
            (
                "/spec/timeZone",
                json!("europe/paris"),
                &["spec.timeZone: Invalid value: \"europe/paris\": unknown time zone europe/paris"],
            ),
            (
                "/spec/timeZone",
                json!("local"),
                &[
                    "spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                ],
            ),
            (
                "/spec/concurrencyPolicy",
                json!("Never"),
                &[
                    "spec.concurrencyPolicy: Unsupported value: \"Never\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                ],
            ),
            (
                "/spec/jobTemplate/spec/template/spec/restartPolicy",
                json!("Always"),
                &[
                    "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ],
            ),
            (
                "/metadata/name",
                json!("a".repeat(53)),
                &[
                    "metadata.name: Invalid value: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\": must be no more than 52 characters",
                ],
            ),
        ],
    );
}

#[test]
fn autoscalers() {
    check(
        "horizontalpodautoscalers",
        &json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
        }),
        &[
            (
                "/spec/maxReplicas",
                json!(0),
                &[
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to 1",
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                ],
            ),
            (
                "/spec/minReplicas",
                json!(4),
                &[
                    "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                ],
            ),
            ("/spec/scaleTargetRef/name", json!(""), &["spec.scaleTargetRef.name: Required value"]),
            (
                "/spec/metrics",
                json!([{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}}}]),
                &[
                    "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                    "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
                ],
            ),
            (
                "/spec/behavior",
                json!({"scaleUp": {"stabilizationWindowSeconds": 3601, "policies": []}}),
                &[
                    "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                    "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                ],
            ),
        ],
    );
}
