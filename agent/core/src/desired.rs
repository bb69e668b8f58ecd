//! A Pod as this node runs it: the API object with everything that it refers to, checked.
//!
//! Problems do not stop the construction: they are kept beside what they concern, so that a pod
//! with one bad container still runs its good ones, and says why the other waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, Secret, Service,
};

use crate::{
    env,
    ids::{ContainerName, PodRef, PodUid},
    record::ExitRecord,
    token::TokenName,
    volume::{self, PlannedVolume, VolumeProblem},
};

/// What the node should run, and whether we know all of it.
#[derive(Clone, Debug)]
pub enum DesiredSet {
    /// Some pods are known; absence proves nothing. Start and keep, never remove.
    Partial(BTreeMap<PodUid, Arc<DesiredPod>>),
    /// The full set. Absence means "remove".
    Complete(BTreeMap<PodUid, Arc<DesiredPod>>),
}

impl DesiredSet {
    pub fn pods(&self) -> &BTreeMap<PodUid, Arc<DesiredPod>> {
        match self {
            Self::Partial(pods) | Self::Complete(pods) => pods,
        }
    }

    /// What the set says about one pod.
    pub fn verdict(&self, uid: &PodUid) -> Verdict {
        match (self.pods().get(uid), self) {
            (Some(pod), _) => Verdict::Wanted(Arc::clone(pod)),
            (None, Self::Complete(_)) => Verdict::Unwanted { last: None },
            (None, Self::Partial(_)) => Verdict::Unknown,
        }
    }
}

/// What a [`DesiredSet`] says about one pod.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It should run as described.
    Wanted(Arc<DesiredPod>),
    /// It should not be here. `last` is what it was, if this process knows: its hooks still run.
    Unwanted { last: Option<Arc<DesiredPod>> },
    /// Nobody knows: leave it as it is.
    Unknown,
}

/// What one pod may need: ConfigMaps, Secrets and Services by name, and its tokens.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Services of the pod's namespace, and `default/kubernetes`.
    pub services: Vec<Arc<Service>>,
    /// The newest token that the node has for the pod, good or not.
    pub tokens: BTreeMap<TokenName, Arc<str>>,
    /// The hub's authority (PEM), for pods whose namespace has not got it published yet.
    pub root_ca: Option<Arc<str>>,
}

/// Names of the objects that a pod refers to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReferredNames {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// Which containers restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Option<Self> {
        Some(match text? {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        })
    }
}

/// When a pull is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Place of a container in the pod's life.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Runs to its end before what follows.
    Init,
    /// Starts among the init containers, runs as long as the pod.
    Sidecar,
    Main,
    /// Was added to look at the others: runs once, at any time, and nothing waits for it.
    Ephemeral,
}

impl Role {
    /// The list of the Pod in which the container stands.
    pub fn list(self) -> &'static str {
        match self {
            Self::Init | Self::Sidecar => "initContainers",
            Self::Main => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub struct DesiredContainer {
    pub name: ContainerName,
    pub role: Role,
    pub image: String,
    pub pull_policy: PullPolicy,
    pub restart: RestartPolicy,
    pub restart_rules: Vec<ContainerRestartRule>,
    pub pre_stop: bool,
    pub post_start: bool,
    /// Why it cannot be configured: `CreateContainerConfigError`.
    pub problem: Option<String>,
    pub container: Arc<Container>,
    /// The container whose processes it sees.
    pub target: Option<ContainerName>,
}

impl DesiredContainer {
    /// Whether an attempt that ended so is followed by another.
    pub fn restarts_after(&self, exit: &ExitRecord) -> bool {
        for rule in &self.restart_rules {
            let Some(codes) = &rule.exit_codes else { continue };
            let listed = codes.values.iter().flatten().any(|&code| code == exit.code);
            let matches = match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            if matches && rule.action == "Restart" {
                return true;
            }
        }
        match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.succeeded(),
            RestartPolicy::Never => false,
        }
    }
}

/// A Pod with what it refers to.
#[derive(Clone, Debug)]
pub struct DesiredPod {
    pub uid: PodUid,
    pub pod_ref: PodRef,
    pub restart_policy: RestartPolicy,
    /// Init containers, main ones, ephemeral ones: each list in its order.
    pub containers: Vec<DesiredContainer>,
    pub grace: SignedDuration,
    /// Grace of a deletion that was asked for.
    pub deletion: Option<SignedDuration>,
    pub active_deadline: Option<SignedDuration>,
    pub host_network: bool,
    pub volumes: Result<Vec<PlannedVolume>, VolumeProblem>,
    /// Changes when the content of a volume does.
    pub volumes_fingerprint: u64,
    pub pod: Arc<Pod>,
    pub references: Arc<References>,
}

/// The object is no pod that can be run at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePodError {
    #[error("could not use a Pod without a valid metadata.uid")]
    Uid,
    #[error("could not use a Pod without spec, name or namespace")]
    Incomplete,
    #[error("could not use the container name {name:?}")]
    ContainerName { name: String },
}

impl DesiredPod {
    /// # Errors
    /// The object lacks what the API server guarantees.
    pub fn new(pod: Arc<Pod>, references: Arc<References>) -> Result<Self, ParsePodError> {
        let meta = &pod.metadata;
        let uid = meta.uid.as_deref().and_then(|uid| uid.parse().ok()).ok_or(ParsePodError::Uid)?;
        let (Some(spec), Some(name), Some(namespace)) = (&pod.spec, &meta.name, &meta.namespace)
        else {
            return Err(ParsePodError::Incomplete);
        };
        let refusal = refused(spec);
        let restart_policy =
            RestartPolicy::parse(spec.restart_policy.as_deref()).unwrap_or(RestartPolicy::Always);
        let mut containers = Vec::new();
        for container in spec.init_containers.iter().flatten() {
            containers.push(desired_container(container, true, restart_policy)?);
        }
        for container in &spec.containers {
            containers.push(desired_container(container, false, restart_policy)?);
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            containers.push(ephemeral_container(container)?);
        }
        for desired in &mut containers {
            let container = &desired.container;
            desired.problem = refusal
                .clone()
                .or_else(|| refused_container(container))
                .or_else(|| env::check(&pod, container, &references).err().map(|e| e.to_string()));
        }
        let volumes = volume::plan_volumes(&pod, &references);
        let grace = seconds(spec.termination_grace_period_seconds.unwrap_or(30));
        let deletion = meta
            .deletion_timestamp
            .as_ref()
            .map(|_| meta.deletion_grace_period_seconds.map_or(grace, seconds));
        Ok(Self {
            uid,
            pod_ref: PodRef { namespace: namespace.clone(), name: name.clone() },
            restart_policy,
            containers,
            grace,
            deletion,
            active_deadline: spec.active_deadline_seconds.map(seconds),
            host_network: spec.host_network.unwrap_or(false),
            volumes_fingerprint: volume::fingerprint(&volumes),
            volumes,
            references,
            pod,
        })
    }

    pub fn spec(&self) -> &PodSpec {
        // `new` refuses a Pod without spec.
        self.pod.spec.as_ref().expect("a desired pod has a spec")
    }

    pub fn container(&self, name: &ContainerName) -> Option<&DesiredContainer> {
        self.containers.iter().find(|it| &it.name == name)
    }

    pub fn of_role(&self, role: Role) -> impl DoubleEndedIterator<Item = &DesiredContainer> {
        self.containers.iter().filter(move |it| it.role == role)
    }

    pub fn has_init(&self) -> bool {
        self.containers.iter().any(|it| matches!(it.role, Role::Init | Role::Sidecar))
    }

    /// `name_namespace(uid)`, as Kubernetes' messages name a pod.
    pub fn long_name(&self) -> String {
        format!("{}_{}({})", self.pod_ref.name, self.pod_ref.namespace, self.uid)
    }
}

fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n.max(0))
}

fn desired_container(
    container: &Container,
    init: bool,
    pod_policy: RestartPolicy,
) -> Result<DesiredContainer, ParsePodError> {
    let name = container
        .name
        .parse()
        .map_err(|_| ParsePodError::ContainerName { name: container.name.clone() })?;
    let own = RestartPolicy::parse(container.restart_policy.as_deref());
    let role = match (init, own) {
        (true, Some(RestartPolicy::Always)) => Role::Sidecar,
        (true, _) => Role::Init,
        (false, _) => Role::Main,
    };
    let restart = own.unwrap_or(match (role, pod_policy) {
        // An init container that succeeded is done.
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (_, policy) => policy,
    });
    let image = container.image.clone().unwrap_or_default();
    let pull_policy = match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    };
    let lifecycle = container.lifecycle.as_ref();
    Ok(DesiredContainer {
        name,
        role,
        image,
        pull_policy,
        restart,
        restart_rules: container.restart_policy_rules.clone().unwrap_or_default(),
        pre_stop: lifecycle.is_some_and(|it| it.pre_stop.is_some()),
        post_start: lifecycle.is_some_and(|it| it.post_start.is_some()),
        problem: None,
        container: Arc::new(container.clone()),
        target: None,
    })
}

/// An ephemeral container has the fields of any other, and names whose processes it sees.
fn ephemeral_container(container: &EphemeralContainer) -> Result<DesiredContainer, ParsePodError> {
    let target = container.target_container_name.as_deref().filter(|it| !it.is_empty());
    let parse = |name: &str| {
        name.parse().map_err(|_| ParsePodError::ContainerName { name: name.to_owned() })
    };
    let target = target.map(parse).transpose()?;
    let plain = plain(container);
    let desired = desired_container(&plain, false, RestartPolicy::Never)?;
    Ok(DesiredContainer { role: Role::Ephemeral, restart: RestartPolicy::Never, target, ..desired })
}

/// The fields that it shares with other containers; it has no ports, probes, hooks or resources.
fn plain(container: &EphemeralContainer) -> Container {
    let it = container.clone();
    Container {
        name: it.name,
        image: it.image,
        image_pull_policy: it.image_pull_policy,
        command: it.command,
        args: it.args,
        working_dir: it.working_dir,
        env: it.env,
        env_from: it.env_from,
        volume_mounts: it.volume_mounts,
        volume_devices: it.volume_devices,
        security_context: it.security_context,
        stdin: it.stdin,
        stdin_once: it.stdin_once,
        tty: it.tty,
        termination_message_path: it.termination_message_path,
        termination_message_policy: it.termination_message_policy,
        ..Container::default()
    }
}

/// Names of the ConfigMaps and Secrets that a pod cannot do without or would use.
pub fn referred_names(spec: &PodSpec) -> ReferredNames {
    let mut names = ReferredNames::default();
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(plain).collect();
    let inits = spec.init_containers.iter().flatten();
    for container in inits.chain(&spec.containers).chain(&ephemeral) {
        for source in container.env_from.iter().flatten() {
            names.config_maps.extend(source.config_map_ref.iter().map(|it| it.name.clone()));
            names.secrets.extend(source.secret_ref.iter().map(|it| it.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|it| it.value_from.as_ref()) {
            names.config_maps.extend(source.config_map_key_ref.iter().map(|it| it.name.clone()));
            names.secrets.extend(source.secret_key_ref.iter().map(|it| it.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        names.config_maps.extend(volume.config_map.iter().map(|it| it.name.clone()));
        names.secrets.extend(volume.secret.iter().filter_map(|it| it.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|it| it.sources.iter().flatten()) {
            names.config_maps.extend(source.config_map.iter().map(|it| it.name.clone()));
            names.secrets.extend(source.secret.iter().map(|it| it.name.clone()));
        }
    }
    names.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|it| it.name.clone()));
    names
}

/// Why the pod cannot be run here with what it asks for: leaving it out would be unsafe.
fn refused(spec: &PodSpec) -> Option<String> {
    let windows = spec.os.as_ref().is_some_and(|os| os.name != "linux");
    let asks = [
        (spec.host_users == Some(false), "hostUsers: false"),
        (spec.runtime_class_name.is_some(), "runtimeClassName"),
        (spec.resource_claims.as_ref().is_some_and(|it| !it.is_empty()), "resourceClaims"),
        (windows, "os"),
    ];
    asks.iter()
        .find(|(asked, _)| *asked)
        .map(|(_, field)| format!("spec.{field} is not supported on this node"))
}

fn refused_container(container: &Container) -> Option<String> {
    let context = container.security_context.as_ref();
    let asks = [
        (container.volume_devices.as_ref().is_some_and(|it| !it.is_empty()), "volumeDevices"),
        (
            context.and_then(|it| it.proc_mount.as_deref()).is_some_and(|mount| mount != "Default"),
            "securityContext.procMount",
        ),
        (
            context
                .and_then(|it| it.seccomp_profile.as_ref())
                .is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.seccompProfile.localhostProfile",
        ),
    ];
    asks.iter().find(|(asked, _)| *asked).map(|(_, field)| {
        format!("{field} of container {} is not supported on this node", container.name)
    })
}
