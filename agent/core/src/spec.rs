//! One container as the runtime must make it: the Pod's words and the image's, put together.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::VolumeMount;

use crate::{
    desired::{DesiredContainer, DesiredPod},
    env::{self, EnvError},
    field::NodeFacts,
    ids::{ContainerId, ContainerName, SandboxId},
    resources::{self, Limits},
    security::{self, Security, SecurityError},
};

/// Search path of a container whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a container may leave its last words.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// SIGTERM.
pub const DEFAULT_STOP_SIGNAL: i32 = 15;
/// SIGRTMIN and SIGRTMAX as programs count them: C libraries keep the first two for themselves (signal(7)).
const FIRST_REAL_TIME: i32 = 34;
const LAST_SIGNAL: i32 = 64;

/// What an image says about its containers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImageFacts {
    pub user: String,
    pub env: Vec<(String, String)>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: String,
}

/// A container for the runtime, with volumes and system files still named, not placed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub security: Security,
    pub mounts: Vec<Mount>,
    pub limits: Limits,
    pub oom_score_adj: i32,
    pub hostname: String,
    pub tty: bool,
    pub stdin: bool,
    pub stop_signal: i32,
    /// The container whose processes it sees.
    pub target: Option<ContainerName>,
}

/// Something that shows at a path in the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
    pub propagation: Propagation,
}

/// What is mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MountSource {
    /// A volume of the pod, or a path in it.
    Volume { name: String, sub_path: Option<String> },
    /// `/etc/hosts`.
    Hosts,
    /// `/etc/resolv.conf`.
    ResolvConf,
    /// `/etc/hostname`.
    Hostname,
    /// The file for the termination message.
    TerminationLog,
}

/// Whether mounts below become visible on the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    Private,
    HostToContainer,
    Bidirectional,
}

/// A container cannot be configured. The text becomes the waiting message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpecError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("no command specified")]
    NoCommand,
    #[error("volume mount {name} names no volume of the pod")]
    Volume { name: String },
    #[error("could not expand subPathExpr {expression:?}")]
    SubPathExpr { expression: String },
}

impl SpecError {
    /// Kubernetes' waiting reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCommand => "CreateContainerError",
            Self::Env(_) | Self::Security(_) | Self::Volume { .. } | Self::SubPathExpr { .. } => {
                "CreateContainerConfigError"
            }
        }
    }
}

/// Puts one container together.
///
/// # Errors
/// Something that it asks for is missing or not allowed.
pub fn container_spec(
    pod: &DesiredPod,
    desired: &DesiredContainer,
    (id, sandbox): (ContainerId, SandboxId),
    image: &ImageFacts,
    facts: &NodeFacts,
    pod_ip: Option<IpAddr>,
) -> Result<ContainerSpec, SpecError> {
    let container = &*desired.container;
    let own = env::resolve(&pod.pod, container, &pod.references, facts, pod_ip)?;
    let hostname = hostname(pod, facts);
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut order = Vec::new();
    let fixed = [("PATH", DEFAULT_PATH), ("HOSTNAME", hostname.as_str())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tty = container.tty.unwrap_or(false);
    let term = tty.then(|| ("TERM".to_owned(), "xterm".to_owned()));
    let parts = fixed.into_iter().chain(term).chain(image.env.iter().cloned());
    for (name, value) in parts.chain(own.iter().cloned()) {
        if all.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    }
    let own: BTreeMap<String, String> = own.into_iter().collect();
    let lookup = |name: &str| own.get(name).cloned();
    let args = command_line(container.command.as_deref(), container.args.as_deref(), image, lookup);
    if args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let cwd = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let cwd = cwd.or_else(|| Some(image.working_dir.clone()).filter(|dir| !dir.is_empty()));
    let qos = resources::qos(pod.spec());
    Ok(ContainerSpec {
        security: security::security(&pod.long_name(), pod.spec(), container, &image.user)?,
        mounts: mounts(pod, desired, lookup)?,
        limits: resources::container_limits(container),
        oom_score_adj: resources::oom_score_adj(qos, container, facts.allocatable_memory),
        env: order
            .into_iter()
            .filter_map(|name| all.remove(&name).map(|value| (name, value)))
            .collect(),
        id,
        sandbox,
        args,
        cwd: cwd.unwrap_or_else(|| "/".to_owned()),
        hostname,
        tty,
        stdin: container.stdin.unwrap_or(false),
        stop_signal: stop_signal(&image.stop_signal),
        target: desired.target.clone(),
    })
}

/// Command and arguments: the image's arguments belong to the image's entry point only.
fn command_line(
    command: Option<&[String]>,
    args: Option<&[String]>,
    image: &ImageFacts,
    lookup: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let command = command.filter(|it| !it.is_empty());
    let args = args.filter(|it| !it.is_empty());
    let expanded =
        |words: &[String]| words.iter().map(|it| env::expand(it, &lookup)).collect::<Vec<_>>();
    let mut line = command.map_or_else(|| image.entrypoint.clone(), expanded);
    match (args, command) {
        (Some(args), _) => line.extend(expanded(args)),
        (None, None) => line.extend(image.cmd.iter().cloned()),
        (None, Some(_)) => {}
    }
    line
}

/// Name of the pod's UTS namespace.
pub fn hostname(pod: &DesiredPod, facts: &NodeFacts) -> String {
    const MAX: usize = 63;
    if pod.host_network {
        return facts.node_name.clone();
    }
    let spec = pod.spec();
    let name = spec.hostname.as_ref().filter(|it| !it.is_empty()).unwrap_or(&pod.pod_ref.name);
    name.chars().take(MAX).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

fn mounts(
    pod: &DesiredPod,
    desired: &DesiredContainer,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Mount>, SpecError> {
    let container = &*desired.container;
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        mounts.push(volume_mount(pod, mount, &lookup)?);
    }
    let message = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    let system = [
        (MountSource::Hosts, "/etc/hosts"),
        (MountSource::ResolvConf, "/etc/resolv.conf"),
        (MountSource::Hostname, "/etc/hostname"),
        (MountSource::TerminationLog, message),
    ];
    for (source, target) in system {
        if !mounts.iter().any(|it| it.target == target) {
            let (target, propagation) = (target.to_owned(), Propagation::Private);
            mounts.push(Mount { source, target, read_only: false, propagation });
        }
    }
    // A mount below another must come after it.
    mounts.sort_by_key(|it| it.target.matches('/').count());
    Ok(mounts)
}

fn volume_mount(
    pod: &DesiredPod,
    mount: &VolumeMount,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Mount, SpecError> {
    let volumes = pod.spec().volumes.iter().flatten();
    if !volumes.into_iter().any(|it| it.name == mount.name) {
        return Err(SpecError::Volume { name: mount.name.clone() });
    }
    let sub_path = match mount.sub_path_expr.as_deref().filter(|it| !it.is_empty()) {
        Some(expression) => {
            let path = env::expand(expression, lookup);
            if path.contains("$(") {
                return Err(SpecError::SubPathExpr { expression: expression.to_owned() });
            }
            Some(path)
        }
        None => mount.sub_path.clone().filter(|it| !it.is_empty()),
    };
    let mut target = mount.mount_path.clone();
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    Ok(Mount {
        source: MountSource::Volume { name: mount.name.clone(), sub_path },
        target,
        read_only: mount.read_only.unwrap_or(false),
        propagation: match mount.mount_propagation.as_deref() {
            Some("Bidirectional") => Propagation::Bidirectional,
            Some("HostToContainer") => Propagation::HostToContainer,
            _ => Propagation::Private,
        },
    })
}

/// The number of a signal, by number or name; SIGTERM for anything else. The word is the image's, and nobody's promise.
fn stop_signal(text: &str) -> i32 {
    const NAMES: [(&str, i32); 10] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real_time = || {
        let offset: u8 = name.strip_prefix("RTMIN+")?.parse().ok()?;
        Some(FIRST_REAL_TIME + i32::from(offset)).filter(|it| *it <= LAST_SIGNAL)
    };
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = || text.parse().ok().filter(|it| (1..=LAST_SIGNAL).contains(it));
    named.or_else(real_time).or_else(number).unwrap_or(DEFAULT_STOP_SIGNAL)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{desired::References, ids::Attempt};

    fn made(container: serde_json::Value, image: &ImageFacts) -> Result<ContainerSpec, SpecError> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns",
                "uid": "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e"},
            "spec": {"containers": [container],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "x", "emptyDir": {}}]}}))
        .unwrap();
        let pod = DesiredPod::new(Arc::new(pod), Arc::new(References::default())).unwrap();
        let desired = &pod.containers[0];
        let attempt = Attempt(0);
        let id = ContainerId { pod: pod.uid, name: desired.name.clone(), attempt };
        let sandbox = SandboxId { pod: pod.uid, attempt };
        container_spec(&pod, desired, (id, sandbox), image, &NodeFacts::default(), None)
    }

    fn image() -> ImageFacts {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        ImageFacts { entrypoint: words("/entry -e"), cmd: words("a b"), ..ImageFacts::default() }
    }

    #[test]
    fn command_and_args_replace_what_the_image_says() {
        let cases = [
            (json!({"name": "c"}), "/entry -e a b"),
            (json!({"name": "c", "args": ["x"]}), "/entry -e x"),
            (json!({"name": "c", "command": ["y"]}), "y"),
            (
                json!({"name": "c", "command": ["y"], "args": ["$(A)$$"],
                "env": [{"name": "A", "value": "1"}]}),
                "y 1$",
            ),
        ];
        for (container, want) in cases {
            assert_eq!(made(container, &image()).unwrap().args.join(" "), want);
        }
        let none = made(json!({"name": "c"}), &ImageFacts::default());
        assert_eq!(none, Err(SpecError::NoCommand));
    }

    #[test]
    fn mounts_below_others_come_later_and_system_files_give_way() {
        let spec = made(
            json!({"name": "c", "volumeMounts": [
                {"name": "x", "mountPath": "/data/x", "subPathExpr": "$(A)/y", "readOnly": true},
                {"name": "data", "mountPath": "/data"},
                {"name": "x", "mountPath": "/etc/hosts", "subPath": "hosts"}],
                "env": [{"name": "A", "value": "1"}]}),
            &image(),
        );
        let targets: Vec<_> = spec.unwrap().mounts.into_iter().map(|it| it.target).collect();
        let want = [
            "/data",
            "/data/x",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/etc/hostname",
            TERMINATION_LOG,
        ];
        assert_eq!(targets, want);
    }

    #[test]
    fn signals_parse_by_name_and_number() {
        for (text, want) in [("", 15), ("SIGQUIT", 3), ("9", 9), ("RTMIN+3", 37), ("NOPE", 15)] {
            assert_eq!(stop_signal(text), want, "{text}");
        }
        for beyond in ["65", "0", "-9", "SIGRTMIN+31", "SIGRTMIN+-1", "SIGRTMIN+2147483647"] {
            assert_eq!(stop_signal(beyond), DEFAULT_STOP_SIGNAL, "{beyond}");
        }
        assert_eq!(stop_signal("SIGRTMIN+30"), LAST_SIGNAL);
    }
}
