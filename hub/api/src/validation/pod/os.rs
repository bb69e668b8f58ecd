//! The operating system that a pod is for, and what does not exist there.

use serde_json::Value;

use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Fields of the spec that Windows has nothing for.
const NOT_ON_WINDOWS: &[&str] = &["hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"];
const NOT_IN_WINDOWS_PODS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];
const NOT_IN_WINDOWS_CONTAINERS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const WINDOWS_SIGNALS: &[&str] = &["SIGKILL", "SIGTERM"];
const LINUX_POD: &str = "windows options cannot be set for a linux pod";
const WINDOWS_POD: &str = "cannot be set for a windows pod";

/// Checks `os`, and all that depends on it.
pub(super) fn os(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(os) = object::get(spec, "os") else { return errors };
    let context = path.field("securityContext");
    match object::text(os, "name") {
        "" => errors.push(FieldError::required(path.field("os").field("name"), "")),
        "linux" => {
            let has = |it: &Value| object::get(it, "securityContext.windowsOptions").is_some();
            if has(spec) {
                errors.push(FieldError::forbidden(context.field("windowsOptions"), LINUX_POD));
            }
            for_containers(spec, path, |container, at| {
                if has(container) {
                    let context = at.field("securityContext");
                    errors.push(FieldError::forbidden(context.field("windowsOptions"), LINUX_POD));
                }
            });
        }
        "windows" => {
            for field in NOT_ON_WINDOWS {
                if object::get(spec, field).is_some() {
                    errors.push(FieldError::forbidden(path.field(field), WINDOWS_POD));
                }
            }
            errors.extend(forbidden(spec, NOT_IN_WINDOWS_PODS, &context));
            for_containers(spec, path, |container, at| {
                let context = at.field("securityContext");
                errors.extend(forbidden(container, NOT_IN_WINDOWS_CONTAINERS, &context));
            });
        }
        other => errors.push(FieldError::not_supported(
            path.field("os").field("name"),
            other,
            &["linux", "windows"],
        )),
    }
    errors
}

/// Checks the signal that stops a container.
pub(super) fn stop_signal(spec: &Value, signal: &str, path: &Path<'_>) -> Option<FieldError> {
    let known = match object::text(spec, "os.name") {
        "" => {
            let why = "may not be set for containers with empty `spec.os.name`";
            return Some(FieldError::forbidden(path, why));
        }
        "windows" => WINDOWS_SIGNALS,
        _ => SIGNALS,
    };
    (!known.contains(&signal) && !is_real_time(signal))
        .then(|| FieldError::not_supported(path, signal, known))
}

fn is_real_time(signal: &str) -> bool {
    let rest = signal.strip_prefix("SIGRTM");
    rest.is_some_and(|it| {
        let (end, offset) = match it.split_once(['+', '-']) {
            Some((end, offset)) => (end, offset.parse::<u8>().ok()),
            None => (it, Some(0)),
        };
        matches!(end, "IN" | "AX") && offset.is_some_and(|it| it <= 15)
    })
}

fn forbidden(holder: &Value, fields: &[&str], path: &Path<'_>) -> Vec<FieldError> {
    let context = object::get(holder, "securityContext").unwrap_or(&Value::Null);
    fields
        .iter()
        .filter(|it| object::get(context, it).is_some())
        .map(|it| FieldError::forbidden(path.field(it), WINDOWS_POD))
        .collect()
}

fn for_containers(spec: &Value, path: &Path<'_>, mut look: impl FnMut(&Value, &Path<'_>)) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let at = path.field(list);
        for (i, container) in object::list(spec, list).iter().enumerate() {
            look(container, &at.index(i));
        }
    }
}
