//! The baseline: no known way to become root on the node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Pod, Violation, containers, plural, quoted, setters, violation};
use crate::object;

/// Capabilities that container runtimes give anyway.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];
/// Kernel settings that a pod has for itself, and the minor version since which they are allowed.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// All checks in the order of their names. Where a stricter check of the restricted standard
/// replaces one, that is left out.
pub(super) fn check(pod: &Pod<'_>, restricted: bool) -> Vec<Violation> {
    let checks: [(Option<Violation>, bool); 12] = [
        (app_armor(pod), true),
        (capabilities(pod), !(restricted && pod.minor >= 22)),
        (host_namespaces(pod), true),
        (host_path(pod), !restricted),
        (host_ports(pod), true),
        (probe_hosts(pod), pod.minor >= 34),
        (privileged(pod), true),
        (proc_mount(pod), true),
        (se_linux(pod), true),
        (seccomp(pod), !restricted && pod.minor >= 19),
        (sysctls(pod), true),
        (host_process(pod), true),
    ];
    checks.into_iter().filter(|(_, applies)| *applies).filter_map(|(found, _)| found).collect()
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let kind = object::text(holder, "securityContext.appArmorProfile.type");
        let forbidden = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if forbidden {
            values.insert(kind.to_owned());
        }
        forbidden
    };
    let of_pod = bad(pod.spec);
    let names = pod.where_(&mut bad);
    let annotations: Vec<String> = object::entries(pod.metadata, "annotations")
        .filter(|(key, value)| {
            let profile = value.as_str().unwrap_or_default();
            let allowed =
                matches!(profile, "" | "runtime/default") || profile.starts_with("localhost/");
            key.starts_with(ANNOTATION) && !allowed
        })
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if values.is_empty() && annotations.is_empty() {
        return None;
    }
    let mut told = Vec::new();
    if !values.is_empty() {
        let kinds: Vec<String> = values.iter().cloned().collect();
        let who = setters(of_pod, &names);
        told.push(format!("{who} must not set AppArmor profile type to {}", quoted(&kinds)));
    }
    if !annotations.is_empty() {
        let word = plural("annotation", "annotations", annotations.len());
        told.push(format!("{word} {}", annotations.join(", ")));
    }
    let many = values.len() + annotations.len();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", many);
    violation(reason, told.join(" and "))
}

fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = pod.where_(|container| {
        let list = object::list(container, "securityContext.capabilities.add");
        let bad = list.iter().filter_map(Value::as_str).filter(|it| !CAPABILITIES.contains(it));
        let before: Vec<String> = bad.map(str::to_owned).collect();
        let any = !before.is_empty();
        added.extend(before);
        any
    });
    if names.is_empty() {
        return None;
    }
    let added: Vec<String> = added.into_iter().collect();
    let who = containers(&names);
    let list = quoted(&added);
    violation(
        "non-default capabilities",
        format!("{who} must not include {list} in securityContext.capabilities.add"),
    )
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|it| object::flag(pod.spec, it))
        .map(|it| format!("{it}=true"))
        .collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = object::list(pod.spec, "volumes")
        .iter()
        .filter(|it| object::get(it, "hostPath").is_some())
        .map(|it| object::text(it, "name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{word} {}", quoted(&names)))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = pod.where_(|container| {
        let used =
            object::list(container, "ports").iter().filter_map(|it| object::int(it, "hostPort"));
        let used: Vec<i64> = used.filter(|it| *it != 0).collect();
        ports.extend(used.iter().map(i64::to_string));
        !used.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", names.len());
    let word = plural("hostPort", "hostPorts", ports.len());
    let ports: Vec<String> = ports.into_iter().collect();
    violation("hostPort", format!("{} {uses} {word} {}", containers(&names), ports.join(", ")))
}

fn probe_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let names = pod.where_(|container| {
        let places = [
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle.postStart",
            "lifecycle.preStop",
        ];
        let used = places.iter().flat_map(|place| {
            ["httpGet.host", "tcpSocket.host"]
                .map(|part| object::text(container, &format!("{place}.{part}")).to_owned())
        });
        let used: Vec<String> = used.filter(|it| !it.is_empty()).collect();
        let any = !used.is_empty();
        hosts.extend(used);
        any
    });
    if names.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", names.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let hosts: Vec<String> = hosts.into_iter().collect();
    let detail = format!("{} {uses} {word} {}", containers(&names), quoted(&hosts));
    violation("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.where_(|it| object::flag(it, "securityContext.privileged"));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = pod.where_(|container| {
        let kind = object::text(container, "securityContext.procMount");
        let bad = !matches!(kind, "" | "Default");
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    });
    if names.is_empty() {
        return None;
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    let who = containers(&names);
    violation(
        "procMount",
        format!("{who} must not set securityContext.procMount to {}", quoted(&kinds)),
    )
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |holder: &Value| {
        let text =
            |field: &str| object::text(holder, &format!("securityContext.seLinuxOptions.{field}"));
        let kind = text("type");
        let known =
            SELINUX_TYPES.contains(&kind) || pod.minor >= 31 && kind == "container_engine_t";
        if !known {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (!text("user").is_empty(), !text("role").is_empty());
        user |= sets_user;
        role |= sets_role;
        !known || sets_user || sets_role
    };
    let of_pod = bad(pod.spec);
    let names = pod.where_(&mut bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let mut told = Vec::new();
    if !types.is_empty() {
        let types: Vec<String> = types.into_iter().collect();
        told.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        told.push("user may not be set".to_owned());
    }
    if role {
        told.push("role may not be set".to_owned());
    }
    let who = setters(of_pod, &names);
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", told.join("; ")),
    )
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    forbidden_seccomp(pod).and_then(|detail| violation("seccompProfile", detail))
}

/// Who sets a seccomp profile that neither standard allows.
pub(super) fn forbidden_seccomp(pod: &Pod<'_>) -> Option<String> {
    let mut kinds = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let kind = object::text(holder, "securityContext.seccompProfile.type");
        let forbidden = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if forbidden {
            kinds.insert(kind.to_owned());
        }
        forbidden
    };
    let of_pod = bad(pod.spec);
    let names = pod.where_(&mut bad);
    if kinds.is_empty() {
        return None;
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    let who = setters(of_pod, &names);
    Some(format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds)))
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let allowed = |name: &&str| SYSCTLS.iter().any(|(it, since)| it == name && pod.minor >= *since);
    let bad: Vec<&str> = object::list(pod.spec, "securityContext.sysctls")
        .iter()
        .map(|it| object::text(it, "name"))
        .filter(|it| !allowed(it))
        .collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let bad = |holder: &Value| object::flag(holder, "securityContext.windowsOptions.hostProcess");
    let of_pod = bad(pod.spec);
    let names = pod.where_(bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let who = setters(of_pod, &names);
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
