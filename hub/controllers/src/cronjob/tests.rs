//! What is planned for a CronJob, case by case.

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, world};
use crate::value::set;

/// Every five minutes, last at 07:50, with changes. It is eight o'clock.
fn cron(changes: &[(&[&str], Value)]) -> (Kind, Value) {
    let mut object = json!({
        "metadata": {"name": "c", "creationTimestamp": "2026-11-20T07:00:00Z"},
        "spec": {
            "schedule": "*/5 * * * *",
            "concurrencyPolicy": "Allow",
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}},
        },
        "status": {"lastScheduleTime": "2026-11-20T07:55:00Z"},
    });
    for (path, value) in changes {
        set(&mut object, path, value.clone());
    }
    (Kind::CRON_JOB, object)
}

fn job(name: &str, ending: &str, started: &str) -> (Kind, Value) {
    let mut status = json!({"startTime": started});
    if !ending.is_empty() {
        status["conditions"] = json!([{"type": ending, "status": "True"}]);
        status["completionTime"] = json!("2026-11-20T07:58:00Z");
    }
    (
        Kind::JOB,
        json!({
            "metadata": {"name": name, "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c", "controller": true,
            }]},
            "status": status,
        }),
    )
}

fn plan_of(objects: Vec<(Kind, Value)>) -> Plan {
    let world = world(objects);
    CronJobController.reconcile(&Kind::CRON_JOB.key(&Name::new("default", "c")), &world, now())
}

fn check(objects: Vec<(Kind, Value)>, expect: &[&str]) {
    let line = |write: &Write| match write {
        Write::Create { object, .. } => {
            format!("create {}", object["metadata"]["name"].as_str().unwrap())
        }
        Write::Delete { target, .. } => format!("delete {}", target.name.name),
        Write::Patch { patch, .. } => format!("status {}", patch["status"]),
        Write::Note(note) => format!("note {}", note.reason),
        Write::Replace { .. } => "replace".to_owned(),
    };
    let lines: Vec<String> = plan_of(objects).writes.iter().map(line).collect();
    assert_eq!(lines, expect);
}

const LAST: &str = "status {\"lastScheduleTime\":\"2026-11-20T08:00:00Z\"}";

#[test]
fn a_job_is_made_when_it_is_due() {
    let due = format!("create c-{}", now().as_second() / 60);
    check(vec![cron(&[])], &[&due, LAST]);
    let plan = plan_of(vec![cron(&[])]);
    assert_eq!(plan.recheck_at, Some("2026-11-20T08:05:00Z".parse().unwrap()));
    let Some(Write::Create { object, .. }) = plan.writes.first() else { panic!("no job") };
    assert_eq!(object["metadata"]["annotations"][SCHEDULED], "2026-11-20T08:00:00Z");
    assert_eq!(object["metadata"]["labels"]["a"], "b");
    assert_eq!(object["metadata"]["ownerReferences"][0]["kind"], "CronJob");

    check(vec![cron(&[(&["spec", "suspend"], json!(true))])], &[]);
    check(vec![cron(&[(&["status", "lastScheduleTime"], json!("2026-11-20T08:00:00Z"))])], &[]);
    check(vec![cron(&[(&["spec", "schedule"], json!("0 9 * * *"))])], &[]);
    let zone: &[(&[&str], Value)] = &[
        (&["spec", "schedule"], json!("0 9 * * *")),
        (&["spec", "timeZone"], json!("Europe/Berlin")),
    ];
    check(vec![cron(zone)], &[&due, LAST]);
    // Missed times are made up for once.
    check(vec![cron(&[(&["status"], json!({}))])], &[&due, LAST]);
    let long_ago: &[(&[&str], Value)] =
        &[(&["status", "lastScheduleTime"], json!("2026-11-01T00:00:00Z"))];
    check(vec![cron(long_ago)], &["note TooManyMissedTimes", &due, LAST]);
    // Made, but the status does not say so.
    let name = format!("c-{}", now().as_second() / 60);
    let plan = plan_of(vec![cron(&[]), job(&name, "", "2026-11-20T08:00:00Z")]);
    assert!(matches!(plan.writes.as_slice(), [Write::Patch { .. }]), "{:?}", plan.writes);
}

#[test]
fn the_policy_decides_what_running_jobs_mean() {
    let due = format!("create c-{}", now().as_second() / 60);
    let with = |policy: &str| {
        let running = job("old", "", "2026-11-20T07:55:00Z");
        let known = json!([{"uid": "old", "name": "old"}]);
        let changes: &[(&[&str], Value)] =
            &[(&["spec", "concurrencyPolicy"], json!(policy)), (&["status", "active"], known)];
        vec![cron(changes), running]
    };
    check(with("Allow"), &[&due, LAST]);
    check(with("Forbid"), &["note JobAlreadyActive"]);
    let replaced = "status {\"active\":null,\"lastScheduleTime\":\"2026-11-20T08:00:00Z\"}";
    check(with("Replace"), &["delete old", &due, replaced]);
}

#[test]
fn old_jobs_are_forgotten_and_endings_told() {
    let quiet: &[(&[&str], Value)] = &[
        (&["spec", "suspend"], json!(true)),
        (&["spec", "successfulJobsHistoryLimit"], json!(1)),
        (&["spec", "failedJobsHistoryLimit"], json!(0)),
        (
            &["status", "active"],
            json!([{"uid": "b", "name": "b"}, {"uid": "gone", "name": "gone"}]),
        ),
    ];
    check(
        vec![
            cron(quiet),
            job("a", "Complete", "2026-11-20T07:40:00Z"),
            job("b", "Complete", "2026-11-20T07:45:00Z"),
            job("f", "Failed", "2026-11-20T07:50:00Z"),
        ],
        &[
            "note SawCompletedJob",
            "note MissingJob",
            "delete a",
            "delete f",
            "status {\"active\":null,\"lastSuccessfulTime\":\"2026-11-20T07:58:00Z\"}",
        ],
    );
}
