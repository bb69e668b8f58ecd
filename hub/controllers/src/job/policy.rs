//! `podFailurePolicy`: what a failed pod means for its Job.

use serde_json::Value;

use crate::object::Object;
use crate::value::{at, int_at, list_at, str_at};

/// What is done about a failed pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// It counts against the limit.
    Count,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed; this is why.
    FailJob(String),
    /// It does not count.
    Ignore,
}

/// What the first rule that fits says; without one the pod counts.
pub(super) fn judge(job: &Object, pod: &Object) -> Action {
    let rules = list_at(job.spec(), &["podFailurePolicy", "rules"]);
    for (i, rule) in rules.iter().enumerate() {
        let action = str_at(rule, &["action"]);
        let Some(why) = fits(rule, pod, action, i) else { continue };
        return match action {
            "Ignore" => Action::Ignore,
            "FailJob" => Action::FailJob(why),
            "FailIndex" if !at(job.spec(), &["backoffLimitPerIndex"]).is_null() => {
                Action::FailIndex
            }
            _ => Action::Count,
        };
    }
    Action::Count
}

fn fits(rule: &Value, pod: &Object, action: &str, index: usize) -> Option<String> {
    let name = &pod.name;
    let codes = at(rule, &["onExitCodes"]);
    if !codes.is_null() {
        let (container, code) = exit_code(codes, pod)?;
        return Some(format!(
            "Container {container} for pod {name} failed with exit code {code} matching {action} rule at index {index}"
        ));
    }
    let conditions = list_at(pod.status(), &["conditions"]);
    for wanted in list_at(rule, &["onPodConditions"]) {
        let status = match str_at(wanted, &["status"]) {
            "" => "True",
            status => status,
        };
        let ty = str_at(wanted, &["type"]);
        let has = conditions
            .iter()
            .any(|it| str_at(it, &["type"]) == ty && str_at(it, &["status"]) == status);
        if has {
            return Some(format!(
                "Pod {name} has condition {ty} matching {action} rule at index {index}"
            ));
        }
    }
    None
}

fn exit_code<'a>(codes: &Value, pod: &'a Object) -> Option<(&'a str, i64)> {
    let wanted = str_at(codes, &["containerName"]);
    let values = list_at(codes, &["values"]);
    let is_not = str_at(codes, &["operator"]) == "NotIn";
    let statuses = ["containerStatuses", "initContainerStatuses"];
    let statuses = statuses.into_iter().flat_map(|field| list_at(pod.status(), &[field]));
    let mut ended = statuses.filter_map(|status| {
        let name = str_at(status, &["name"]);
        let code = at(status, &["state", "terminated", "exitCode"]).as_i64()?;
        // Success is no failure, whatever the rule says.
        (code != 0 && (wanted.is_empty() || wanted == name)).then_some((name, code))
    });
    ended.find(|(_, code)| values.iter().any(|it| it.as_i64() == Some(*code)) != is_not)
}

/// Restarts of the containers of pods that run or wait, all together.
pub(super) fn restarts(pod: &Object) -> i64 {
    if !matches!(str_at(pod.status(), &["phase"]), "Running" | "Pending") {
        return 0;
    }
    let statuses = ["containerStatuses", "initContainerStatuses"];
    let statuses = statuses.into_iter().flat_map(|field| list_at(pod.status(), &[field]));
    statuses.map(|it| int_at(it, &["restartCount"])).sum()
}
