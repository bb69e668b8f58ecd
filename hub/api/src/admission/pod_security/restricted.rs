//! What the restricted standard asks for beyond the baseline.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::forbidden_seccomp;
use super::{Pod, Violation, containers, plural, quoted, setters, violation};
use crate::object;

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// All checks in the order of their names.
pub(super) fn check(pod: &Pod<'_>) -> Vec<Violation> {
    let linux = !pod.is_windows();
    let checks: [(Option<Violation>, bool); 6] = [
        (privilege_escalation(pod), pod.minor >= 8 && linux),
        (capabilities(pod), pod.minor >= 22 && linux),
        (volumes(pod), true),
        (run_as_non_root(pod), true),
        (run_as_user(pod), pod.minor >= 23),
        (seccomp(pod), pod.minor >= 19 && linux),
    ];
    checks.into_iter().filter(|(_, applies)| *applies).filter_map(|(found, _)| found).collect()
}

fn said(holder: &Value, field: &str) -> Option<bool> {
    object::get(holder, &format!("securityContext.{field}")).and_then(Value::as_bool)
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.where_(|it| said(it, "allowPrivilegeEscalation") != Some(false));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        object::list(container, &format!("securityContext.capabilities.{field}"))
            .iter()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect()
    };
    let keeping = pod.where_(|it| !list(it, "drop").iter().any(|it| it == "ALL"));
    let mut added = BTreeSet::new();
    let adding = pod.where_(|container| {
        let bad: Vec<String> =
            list(container, "add").into_iter().filter(|it| it != "NET_BIND_SERVICE").collect();
        let any = !bad.is_empty();
        added.extend(bad);
        any
    });
    let mut told = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        told.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let added: Vec<String> = added.into_iter().collect();
        let (who, list) = (containers(&adding), quoted(&added));
        told.push(format!("{who} must not include {list} in securityContext.capabilities.add"));
    }
    if told.is_empty() { None } else { violation("unrestricted capabilities", told.join("; ")) }
}

fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let mut names = Vec::new();
    for volume in object::list(pod.spec, "volumes") {
        let sources = volume.as_object().into_iter().flatten();
        let kind = sources.map(|(key, _)| key.as_str()).find(|it| *it != "name");
        if let Some(kind) = kind.filter(|it| !VOLUMES.contains(it)) {
            kinds.insert(kind);
            names.push(object::text(volume, "name"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let word = plural("volume", "volumes", names.len());
    let uses = plural("uses", "use", names.len());
    let types = plural("restricted volume type", "restricted volume types", kinds.len());
    violation(
        "restricted volume types",
        format!("{word} {} {uses} {types} {}", quoted(&names), quoted(&kinds)),
    )
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    let of_pod = said(pod.spec, "runAsNonRoot");
    let refusing = pod.where_(|it| said(it, "runAsNonRoot") == Some(false));
    // A container that says nothing does as the pod does.
    let silent = pod.where_(|it| said(it, "runAsNonRoot").is_none());
    if of_pod == Some(false) && !silent.is_empty() || !refusing.is_empty() {
        let pod_is_bad = of_pod == Some(false) && !silent.is_empty();
        let who = setters(pod_is_bad, &refusing);
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation("runAsNonRoot != true", detail);
    }
    if of_pod.is_none() && !silent.is_empty() {
        let who = containers(&silent);
        let detail = format!("pod or {who} must set securityContext.runAsNonRoot=true");
        return violation("runAsNonRoot != true", detail);
    }
    None
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |it: &Value| object::int(it, "securityContext.runAsUser") == Some(0);
    let of_pod = is_root(pod.spec);
    let names = pod.where_(is_root);
    if !of_pod && names.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters(of_pod, &names)))
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(detail) = forbidden_seccomp(pod) {
        return violation("seccompProfile", detail);
    }
    let silent = |it: &Value| object::text(it, "securityContext.seccompProfile.type").is_empty();
    let names = if silent(pod.spec) { pod.where_(silent) } else { Vec::new() };
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}
