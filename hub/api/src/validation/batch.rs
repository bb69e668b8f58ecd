//! Checks of the kinds of `batch`.

use serde_json::{Value, json};

use super::apps::selects;
use super::{immutable, not_negative, one_of, pod, same, selector};
use crate::cron;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::selector::LabelSelector;
use crate::status::FieldError;

/// Pods that an indexed job may have at once.
const MAX_INDEXED: i64 = 100_000;
const MAX_MANAGER: usize = 63;
/// What is left for the suffix of the jobs' names.
const MAX_CRON_JOB_NAME: usize = 52;

/// Checks a Job.
pub fn job(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = generated_selector(object);
    errors.extend(job_spec(spec, &path));
    let at = path.field("selector");
    match object::get(spec, "selector") {
        None => errors.push(FieldError::required(at, "")),
        Some(selector) => {
            errors.extend(selector::label_selector(selector, &at));
            let template = &spec["template"];
            errors.extend(selects(selector, template, &path.field("template")));
        }
    }
    let completions = object::int(spec, "completions").unwrap_or(0);
    if is_indexed(spec) && completions > 0 {
        let name = object::name(object);
        let host = format!("{name}-{}", completions - 1);
        for wrong in names::dns1123_label(&host) {
            errors.push(FieldError::invalid(
                "metadata.name",
                name,
                format!("will not able to create pod with invalid DNS label: {host}: {wrong}"),
            ));
        }
    }
    errors
}

/// Checks a changed Job.
pub fn job_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let started = object::get(old, "status.startTime").is_some();
    let directed = object::flag(old, "spec.suspend") && !started;
    let (new, old) = (&new["spec"], &old["spec"]);
    let mut errors = Vec::new();
    errors.extend(completions_update(new, old, &path));
    errors.extend(immutable(new.get("selector"), old.get("selector"), &path.field("selector")));
    errors.extend(template_update(new, old, directed, &path.field("template")));
    for field in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        errors.extend(immutable(new.get(field), old.get(field), &path.field(field)));
    }
    errors
}

/// Checks the counts of a Job's status.
pub fn job_status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    ["active", "succeeded", "failed", "ready", "terminating"]
        .iter()
        .filter_map(|it| not_negative(&object["status"], it, &path))
        .collect()
}

/// Checks a CronJob.
pub fn cron_job(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let zone = object::get(spec, "timeZone").and_then(Value::as_str);
    let schedule = object::text(spec, "schedule");
    let at = path.field("schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        if let Err(err) = cron::parse(schedule) {
            errors.push(FieldError::invalid(at, schedule, err.to_string()));
        }
        if schedule.contains("TZ") {
            let why = match zone {
                Some(_) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
                None => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            };
            errors.push(FieldError::invalid(at, schedule, why));
        }
    }
    errors.extend(not_negative(spec, "startingDeadlineSeconds", &path));
    errors.extend(zone.and_then(|it| time_zone(it, &path.field("timeZone"))));
    errors.extend(one_of(spec, "concurrencyPolicy", &path, &["Allow", "Forbid", "Replace"]));
    let template = path.field("jobTemplate");
    let job = &spec["jobTemplate"]["spec"];
    if object::flag(job, "manualSelector") {
        errors.push(FieldError::not_supported(
            template.field("spec").field("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    errors.extend(job_spec(job, &template.field("spec")));
    errors.extend(not_negative(spec, "successfulJobsHistoryLimit", &path));
    errors.extend(not_negative(spec, "failedJobsHistoryLimit", &path));
    let name = object::name(object);
    if name.len() > MAX_CRON_JOB_NAME {
        let why = "must be no more than 52 characters";
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    errors
}

/// Checks a changed CronJob: everything of it may change, but a schedule that names a zone may
/// stay, since older versions took it.
pub fn cron_job_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

fn time_zone(zone: &str, path: &Path<'_>) -> Option<FieldError> {
    let why = if zone.is_empty() {
        "timeZone must be nil or non-empty string".to_owned()
    } else if zone.eq_ignore_ascii_case("Local") {
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            .to_owned()
    } else if !cron::is_time_zone(zone) {
        format!("unknown time zone {zone}")
    } else {
        return None;
    };
    Some(FieldError::invalid(path, zone, why))
}

fn is_indexed(spec: &Value) -> bool {
    object::text(spec, "completionMode") == "Indexed"
}

/// What the server made of the selector must still be what the client's object has.
fn generated_selector(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    let Some(selector) = object::get(spec, "selector") else { return errors };
    if object::flag(spec, "manualSelector") {
        return errors;
    }
    let (uid, name) = (object::uid(object), object::name(object));
    let labels = object::labels(&spec["template"]);
    for (key, wanted) in [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ] {
        let why = format!("must be '{wanted}'");
        let at = format!("spec.template.metadata.labels[{key}]");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.push(FieldError::required(at, why)),
            Some(found) if found != wanted => {
                errors.push(FieldError::invalid(at, labels.clone(), why));
            }
            Some(_) => {}
        }
    }
    let own = json!({
        "controller-uid": uid, "job-name": name,
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name,
    });
    if LabelSelector::from_value(selector).is_ok_and(|it| !it.matches(&own)) {
        let why = "`selector` not auto-generated";
        errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
    }
    errors
}

fn job_spec(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ]
    .iter()
    .filter_map(|it| not_negative(spec, it, path))
    .collect();
    let int = |field: &str| object::int(spec, field);
    if int("maxFailedIndexes").is_some() && int("backoffLimitPerIndex").is_none() {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(path.field("backoffLimitPerIndex"), why));
    }
    errors.extend(manager(spec, &path.field("managedBy")));
    errors.extend(completion_mode(spec, path));
    if let Some(policy) = object::get(spec, "podFailurePolicy") {
        errors.extend(failure_policy(spec, policy, &path.field("podFailurePolicy")));
    }
    if let Some(policy) = object::get(spec, "successPolicy") {
        errors.extend(success_policy(spec, policy, &path.field("successPolicy")));
    }
    let replacement = object::text(spec, "podReplacementPolicy");
    let known: &[&str] = if object::get(spec, "podFailurePolicy").is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !replacement.is_empty() && !known.contains(&replacement) {
        let at = path.field("podReplacementPolicy");
        errors.push(FieldError::not_supported(at, replacement, known));
    }
    let at = path.field("template");
    errors.extend(pod::template(&spec["template"], &at));
    let at = at.field("spec");
    let at = at.field("restartPolicy");
    match object::text(spec, "template.spec.restartPolicy") {
        "Always" | "" => {
            errors.push(FieldError::required(at, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if object::get(spec, "podFailurePolicy").is_some() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(at, "OnFailure", why));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(at, other, &["OnFailure", "Never"])),
    }
    errors
}

fn manager(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let Some(name) = object::get(spec, "managedBy").and_then(Value::as_str) else {
        return Vec::new();
    };
    let mut errors = super::domain_prefixed_path(name, path);
    if name.len() > MAX_MANAGER {
        errors.push(FieldError::too_long(path, MAX_MANAGER));
    }
    errors
}

fn completion_mode(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let int = |field: &str| object::int(spec, field);
    let mode = object::text(spec, "completionMode");
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        let at = path.field("completionMode");
        errors.push(FieldError::not_supported(at, mode, &["NonIndexed", "Indexed"]));
    }
    if !is_indexed(spec) {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = int(field) {
                let why = "requires indexed completion mode";
                errors.push(FieldError::invalid(path.field(field), value, why));
            }
        }
        return errors;
    }
    let Some(completions) = int("completions") else {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(path.field("completions"), why));
        return errors;
    };
    if let Some(parallelism) = int("parallelism").filter(|it| *it > MAX_INDEXED) {
        errors.push(FieldError::invalid(
            path.field("parallelism"),
            parallelism,
            "must be less than or equal to 100000 when completion mode is Indexed",
        ));
    }
    if let Some(most) = int("maxFailedIndexes") {
        let at = path.field("maxFailedIndexes");
        if most > completions {
            let why = "must be less than or equal to completions";
            errors.push(FieldError::invalid(at, most, why));
        }
        if most > MAX_INDEXED {
            let why = "must be less than or equal to 100000";
            errors.push(FieldError::invalid(at, most, why));
        }
    }
    if completions > MAX_INDEXED && int("backoffLimitPerIndex").is_some() {
        if int("maxFailedIndexes").is_none() {
            let why = "must be specified when completions is above 100000";
            errors.push(FieldError::required(path.field("maxFailedIndexes"), why));
        }
        if let Some(parallelism) = int("parallelism").filter(|it| *it > MAX_INDEXED / 10) {
            errors.push(FieldError::invalid(
                path.field("parallelism"),
                parallelism,
                "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
            ));
        }
    }
    errors
}

fn failure_policy(spec: &Value, policy: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("rules");
    let rules = object::list(policy, "rules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(at, rules.len(), 20));
    }
    let containers: Vec<&str> = ["template.spec.containers", "template.spec.initContainers"]
        .iter()
        .flat_map(|it| object::list(spec, it))
        .map(|it| object::text(it, "name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        match object::text(rule, "action") {
            "" => errors.push(FieldError::required(
                at.field("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            )),
            "FailIndex" if object::int(spec, "backoffLimitPerIndex").is_none() => {
                errors.push(FieldError::invalid(
                    at.field("action"),
                    "FailIndex",
                    "requires the backoffLimitPerIndex to be set",
                ));
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            other => errors.push(FieldError::not_supported(
                at.field("action"),
                other,
                &["Count", "FailIndex", "FailJob", "Ignore"],
            )),
        }
        let codes = object::get(rule, "onExitCodes");
        let patterns = object::list(rule, "onPodConditions");
        if let Some(codes) = codes {
            errors.extend(exit_codes(codes, &containers, &at.field("onExitCodes")));
        }
        errors.extend(pod_conditions(patterns, &at.field("onPodConditions")));
        match (codes.is_some(), !patterns.is_empty()) {
            (true, true) => errors.push(FieldError::invalid(
                at,
                rule.clone(),
                "specifying both OnExitCodes and OnPodConditions is not supported",
            )),
            (false, false) => errors.push(FieldError::invalid(
                at,
                rule.clone(),
                "specifying one of OnExitCodes and OnPodConditions is required",
            )),
            (true, false) | (false, true) => {}
        }
    }
    errors
}

fn exit_codes(codes: &Value, containers: &[&str], path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let operator = object::text(codes, "operator");
    errors.extend(one_of(codes, "operator", path, &["In", "NotIn"]));
    if let Some(name) = object::get(codes, "containerName").and_then(Value::as_str)
        && !containers.contains(&name)
    {
        errors.push(FieldError::invalid(
            path.field("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        ));
    }
    let at = path.field("values");
    let values = object::list(codes, "values");
    if values.is_empty() {
        errors.push(FieldError::invalid(at, values.to_vec(), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(FieldError::too_many(at, values.len(), 255));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    for (i, value) in numbers.iter().enumerate() {
        if operator == "In" && *value == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(at.index(i), 0, why));
        }
        if numbers.iter().take(i).any(|it| it == value) {
            errors.push(FieldError::duplicate(at.index(i), *value));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(at, values.to_vec(), "must be ordered"));
    }
    errors
}

fn pod_conditions(patterns: &[Value], path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if patterns.len() > 20 {
        errors.push(FieldError::too_many(path, patterns.len(), 20));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = path.index(i);
        let ty = object::text(pattern, "type");
        for wrong in names::qualified_name(ty) {
            errors.push(FieldError::invalid(at.field("type"), ty, wrong));
        }
        match object::text(pattern, "status") {
            "" => errors.push(FieldError::required(
                at.field("status"),
                "valid values: [\"False\" \"True\" \"Unknown\"]",
            )),
            "False" | "True" | "Unknown" => {}
            other => errors.push(FieldError::not_supported(
                at.field("status"),
                other,
                &["False", "True", "Unknown"],
            )),
        }
    }
    errors
}

fn success_policy(spec: &Value, policy: &Value, path: &Path<'_>) -> Vec<FieldError> {
    if !is_indexed(spec) {
        let why = "requires indexed completion mode";
        return vec![FieldError::invalid(path, policy.clone(), why)];
    }
    let mut errors = Vec::new();
    let at = path.field("rules");
    let rules = object::list(policy, "rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(at, why));
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(at, rules.len(), 20));
    }
    let completions = object::int(spec, "completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let indexes = object::get(rule, "succeededIndexes").and_then(Value::as_str);
        let count = object::int(rule, "succeededCount");
        if indexes.is_none() && count.is_none() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(at, why));
        }
        let mut total = completions;
        if let Some(text) = indexes {
            match count_indexes(text, completions) {
                Ok(count) => total = count,
                Err(why) => {
                    let why = format!("error parsing succeededIndexes: {why}");
                    errors.push(FieldError::invalid(at.field("succeededIndexes"), text, why));
                }
            }
        }
        if let Some(count) = count {
            errors.extend(not_negative(rule, "succeededCount", &at));
            if count > total {
                let why = match indexes {
                    Some(_) => format!(
                        "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                    ),
                    None => format!(
                        "must be less than or equal to {total} (the number of specified completions)"
                    ),
                };
                errors.push(FieldError::invalid(at.field("succeededCount"), count, why));
            }
        }
    }
    errors
}

/// Counts the indexes of a text like `1,3-5`: ascending, and below the completions.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut count: i64 = 0;
    let mut last: Option<i64> = None;
    for interval in text.split(',') {
        let mut limits = interval.split('-');
        let (Some(from), to, None) = (limits.next(), limits.next(), limits.next()) else {
            return Err(format!(
                "the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        };
        let number = |it: &str| {
            let number: i64 = it
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: \"{it}\""))?;
            if number >= completions {
                return Err(format!("too large index: \"{it}\""));
            }
            Ok(number)
        };
        let first = number(from)?;
        let end = to.map_or(Ok(first), number)?;
        if let Some(last) = last.filter(|it| first <= *it) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if to.is_some() && end <= first {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        count = count.saturating_add(end - first + 1);
        last = Some(end);
    }
    Ok(count)
}

/// The number of completions of an indexed job changes together with its parallelism only.
fn completions_update(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let at = path.field("completions");
    if !is_indexed(new) {
        return immutable(new.get("completions"), old.get("completions"), &at);
    }
    let completions = object::int(new, "completions")?;
    let changed = object::int(old, "completions") != Some(completions);
    (changed && object::int(new, "parallelism") != Some(completions)).then(|| {
        let why = "can only be modified in tandem with spec.parallelism";
        FieldError::invalid(at, completions, why)
    })
}

/// The template stays; where its pods go may be said until the job is started.
fn template_update(
    new: &Value,
    old: &Value,
    directed: bool,
    path: &Path<'_>,
) -> Option<FieldError> {
    let (mut template, before) = (new["template"].clone(), &old["template"]);
    if directed {
        if let (Some(spec), Some(before)) = (template.get_mut("spec"), before.get("spec")) {
            let fields = ["nodeSelector", "affinity", "tolerations", "schedulingGates"];
            pod::keep(spec, before, &fields);
        }
        if let (Some(meta), Some(before)) = (template.get_mut("metadata"), before.get("metadata")) {
            pod::keep(meta, before, &["labels", "annotations"]);
        }
    }
    if same(&template, before) {
        return None;
    }
    Some(FieldError::invalid(path, new["template"].clone(), super::IMMUTABLE))
}
