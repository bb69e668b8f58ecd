//! Bringing up: volumes, sandbox, containers. Written down first, then done.

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use agent_core::{
    desired::{DesiredContainer, DesiredPod},
    event::Subject,
    ids::{Attempt, ContainerId, SandboxId},
    image,
    pod::{ImageState, VolumeState},
    probe,
    record::{ContainerRecord, ExitRecord, SandboxRecord},
    resources,
    spec::{self, ImageFacts, MountSource, Propagation},
};
use agent_image::{Image, ImageRef};
use agent_runtime::{CallError, CgroupPath, RefusalKind, Resources, SandboxSpec};
use jiff::SignedDuration;

use super::{
    Done, PodWorker,
    apply::{ApplyError, rt, rt_sandbox},
    memory::failed_again,
};
use crate::{
    actions, chain, records,
    system_files::{self, SystemFile},
    volumes,
};

/// Exit code of a container whose command could not be run, as Kubernetes reports it.
const START_ERROR_CODE: i32 = 128;

impl PodWorker {
    pub(super) async fn prepare_volumes(&mut self, fingerprint: u64) -> Result<(), ApplyError> {
        let Some(pod) = self.pod.clone() else { return Ok(()) };
        let node = Arc::clone(&self.node);
        let stamp = node.clock.now().as_nanosecond().to_string();
        let prepared =
            tokio::task::spawn_blocking(move || volumes::prepare(&node.config, &pod, &stamp));
        prepared.await.map_err(|_| ApplyError::Cancelled)??;
        self.memory.volumes = VolumeState::Ready { fingerprint };
        self.memory.volume_failure = None;
        Ok(())
    }

    pub(super) async fn create_sandbox(&mut self, id: &SandboxId) -> Result<(), ApplyError> {
        let Some(pod) = self.pod.clone() else { return Ok(()) };
        let node = Arc::clone(&self.node);
        let address = if pod.host_network { None } else { Some(node.network.reserve(&self.uid)?) };
        self.write_sandbox(id.attempt, address).await?;
        let mut spec = sandbox_spec(&pod, id, &node.facts());
        spec.resources.pids_limit = node.pod_pids_limit;
        match node.runtime.ensure_sandbox(&spec).await {
            Err(err) if is_mismatch(&err) => {
                // Made by another version of this program, or from other words, and nothing has run
                // in it: otherwise it would be known as made.
                self.remove_sandbox(id).await?;
                node.runtime.ensure_sandbox(&spec).await?
            }
            other => other?,
        };
        node.view.sandbox_made(id);
        if let Some(address) = address {
            let netns = node.runtime.netns(&rt_sandbox(id)).await?;
            node.network.attach(id, netns, address).await?;
        }
        let pod_ip = self.pod_ip();
        let written = tokio::task::spawn_blocking(move || {
            system_files::write(&node.config, &pod, &node.facts(), pod_ip)
        });
        written
            .await
            .map_err(|_| ApplyError::Cancelled)?
            .map_err(|(path, err)| ApplyError::Prepare { path, err })?;
        self.memory.sandbox_failure = None;
        let made_at = self.node.clock.now();
        // Written with the first container: until then the sandbox is made again, which is free.
        if let Some(sandbox) = self.pod_record().and_then(|it| it.sandbox.as_mut()) {
            sandbox.made_at = Some(made_at);
        }
        Ok(())
    }

    /// The sandbox and the address, durable before they are used.
    async fn write_sandbox(
        &mut self,
        attempt: Attempt,
        address: Option<std::net::Ipv4Addr>,
    ) -> Result<(), ApplyError> {
        let grace = self.pod.as_ref().map(|it| it.grace.as_secs());
        let Some(record) = self.pod_record() else { return Ok(()) };
        let known = record.sandbox.as_ref();
        if known.is_some_and(|it| it.attempt == attempt && it.address == address) {
            return Ok(());
        }
        record.sandbox = Some(SandboxRecord { attempt, made_at: None, address });
        record.grace_seconds = grace.unwrap_or(record.grace_seconds);
        let record = record.clone();
        let ledger = &self.node.ledger;
        records::put_pod(ledger, &record, address).await.map_err(ApplyError::Ledger)?;
        self.records.address = address;
        Ok(())
    }

    pub(super) fn pod_ip(&self) -> Option<IpAddr> {
        match self.pod.as_ref().is_some_and(|it| it.host_network) {
            true => self.node.host_ip(),
            false => self.records.address.map(IpAddr::V4),
        }
    }

    pub(super) async fn start_container(
        &mut self,
        id: &ContainerId,
        sandbox: Attempt,
        backoff: SignedDuration,
    ) -> Result<(), ApplyError> {
        let Some(pod) = self.pod.clone() else { return Ok(()) };
        let Some(desired) = pod.container(&id.name) else { return Ok(()) };
        let started = self.try_start(&pod, desired, id, sandbox, backoff).await;
        let subject = Subject::container(self.uid, &pod.pod_ref, &id.name, desired.role);
        let Err(err) = started else {
            self.started(&pod, desired, id, subject);
            return Ok(());
        };
        let (reason, message) = if let ApplyError::Noted { reason, message } = &err {
            (*reason, message.clone())
        } else {
            ("CreateContainerError", chain(&err))
        };
        self.node.events.warning(subject, "Failed", format!("Error: {message}")).await;
        if is_start_error(&err) {
            // The command cannot be run: that is how this attempt ended.
            return self.record_start_error(id, message).await;
        }
        let now = self.node.clock.now();
        let memory = self.memory.container(&id.name);
        memory.start_failure =
            Some(failed_again(memory.start_failure.as_ref(), reason, message, now));
        Err(err)
    }

    async fn try_start(
        &mut self,
        pod: &Arc<DesiredPod>,
        desired: &DesiredContainer,
        id: &ContainerId,
        sandbox: Attempt,
        backoff: SignedDuration,
    ) -> Result<(), ApplyError> {
        let Some(image) = self.find_image(desired) else {
            // It was collected in between: look again.
            self.memory.container(&id.name).image = ImageState::Unknown;
            let message = format!("image {:?} is gone", desired.image);
            return Err(ApplyError::Noted { reason: "CreateContainerError", message });
        };
        let sandbox_id = SandboxId { pod: self.uid, attempt: sandbox };
        let ids = (id.clone(), sandbox_id);
        let (facts, pod_ip) = (self.node.facts(), self.pod_ip());
        let spec = spec::container_spec(pod, desired, ids, &image_facts(&image), &facts, pod_ip)
            .map_err(|err| ApplyError::Noted { reason: err.reason(), message: err.to_string() })?;
        self.write_attempt(desired, &image, &spec, backoff).await?;
        let log_path = self.node.config.log_path(&pod.pod_ref, id);
        let last_words = self.node.config.termination_log(id);
        prepare_file(&log_path, false)?;
        prepare_file(&last_words, true)?;
        let made = self.runtime_spec(pod, &spec, &image, &log_path)?;
        match self.node.runtime.ensure_container(&made).await {
            Ok(state) => {
                self.memory.container(&id.name).begin_attempt(id.attempt);
                self.node.view.container_made(id, &state);
                Ok(())
            }
            Err(err) => {
                if is_mismatch(&err) {
                    // An earlier half of it, from other words: it never ran.
                    self.node.runtime.remove_container(&rt(id)).await?;
                    self.node.view.container_removed(id);
                }
                Err(err.into())
            }
        }
    }

    fn find_image(&self, desired: &DesiredContainer) -> Option<Image> {
        self.node.images.lookup(&desired.image.parse::<ImageRef>().ok()?)
    }

    /// The attempt, durable before it exists; with it the sandbox that it lives in.
    async fn write_attempt(
        &mut self,
        desired: &DesiredContainer,
        image: &Image,
        spec: &spec::ContainerSpec,
        backoff: SignedDuration,
    ) -> Result<(), ApplyError> {
        let before = self.records.containers.get(&desired.name);
        let last = match before {
            Some(it) if it.attempt == spec.id.attempt => it.last.clone(),
            Some(it) => it.exit.clone(),
            None => None,
        };
        let record = ContainerRecord {
            name: desired.name.clone(),
            attempt: spec.id.attempt,
            sandbox: spec.sandbox.attempt,
            image: Some(desired.image.clone()),
            image_id: image::image_id(&image.reference.to_string(), &image.repo_digest.to_string()),
            backoff_seconds: backoff.as_secs(),
            created_at: self.node.clock.now(),
            stop_signal: spec.stop_signal,
            stop: None,
            exit: None,
            last,
            ready: false,
            ready_changed_at: None,
        };
        self.put_container(record).await
    }

    /// Writes a container's record, and keeps it in memory.
    pub(super) async fn put_container(
        &mut self,
        record: ContainerRecord,
    ) -> Result<(), ApplyError> {
        let Some(pod) = self.pod_record().cloned() else { return Ok(()) };
        records::put_container(&self.node.ledger, &pod, &record)
            .await
            .map_err(ApplyError::Ledger)?;
        self.records.containers.insert(record.name.clone(), record);
        Ok(())
    }

    fn started(
        &mut self,
        pod: &Arc<DesiredPod>,
        desired: &DesiredContainer,
        id: &ContainerId,
        subject: Subject,
    ) {
        let name = &id.name;
        self.tell_later(subject.clone(), "Created", format!("Created container: {name}"));
        self.tell_later(subject.clone(), "Started", format!("Started container {name}"));
        tracing::info!(pod = %pod.pod_ref, container = %name, attempt = %id.attempt, "Started a container");
        let memory = self.memory.container(name);
        if desired.pull_policy == agent_core::desired::PullPolicy::Always {
            // The next start asks the registry again.
            memory.image = ImageState::Unknown;
        }
        let hook = desired.container.lifecycle.as_ref().and_then(|it| it.post_start.as_ref());
        let Some(hook) = hook else { return };
        memory.post_start_began(id.attempt);
        let action = probe::action(hook, &desired.container);
        let (node, id, pod_ip) = (Arc::clone(&self.node), id.clone(), self.pod_ip());
        self.tasks.spawn(async move {
            let outcome = actions::run(&node, &id, &action, pod_ip, actions::HOOK_TIMEOUT).await;
            let result = outcome.into_result();
            if let Err(message) = &result {
                let text = format!("PostStartHook failed: {message}");
                node.events.warning(subject, "FailedPostStartHook", text).await;
            }
            Done::PostStart { id, result }
        });
    }

    /// The attempt ended before it began.
    async fn record_start_error(
        &mut self,
        id: &ContainerId,
        message: String,
    ) -> Result<(), ApplyError> {
        // What was half made of it must not stay.
        self.node.runtime.remove_container(&rt(id)).await?;
        self.node.view.container_removed(id);
        let Some(mut record) = self.records.containers.get(&id.name).cloned() else {
            return Ok(());
        };
        record.exit = Some(ExitRecord {
            attempt: id.attempt,
            code: START_ERROR_CODE,
            signal: None,
            reason: "StartError".to_owned(),
            message,
            started_at: None,
            finished_at: self.node.clock.now(),
            image_id: record.image_id.clone(),
            lost: false,
        });
        self.put_container(record).await
    }

    fn runtime_spec(
        &self,
        pod: &DesiredPod,
        spec: &spec::ContainerSpec,
        image: &Image,
        log_path: &Path,
    ) -> Result<agent_runtime::ContainerSpec, ApplyError> {
        let security = &spec.security;
        let mut made = agent_runtime::ContainerSpec::new(
            rt(&spec.id),
            rt_sandbox(&spec.sandbox),
            image.layers.clone(),
            spec.args.clone(),
            log_path.to_owned(),
        );
        made.env = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        made.cwd = spec.cwd.clone().into();
        made.user.image.clone_from(&security.user);
        made.user.supplementary_groups.clone_from(&security.groups);
        // All or nothing: what an app writes where its volume should be is lost with the container.
        let mounts = spec.mounts.iter().map(|it| self.mount(pod, spec, it));
        made.mounts = mounts.collect::<Result<_, _>>()?;
        made.resources = runtime_resources(spec.limits);
        made.capabilities.add.clone_from(&security.add_capabilities);
        made.capabilities.drop.clone_from(&security.drop_capabilities);
        made.privileged = security.privileged;
        made.read_only_rootfs = security.read_only_rootfs;
        made.no_new_privs = security.no_new_privs;
        if security.seccomp_unconfined {
            made.seccomp = agent_runtime::Seccomp::Unconfined;
        }
        made.log_rate = self.node.config.container_log_rate;
        made.tty = spec.tty;
        made.stdin = spec.stdin;
        let target = spec.target.as_ref().and_then(|it| self.records.containers.get(it));
        made.process_namespace_of = target.map(|it| rt(&it.id(self.uid)));
        made.oom_score_adj = spec.oom_score_adj.max(self.node.least_oom_score_adj);
        Ok(made)
    }

    fn mount(
        &self,
        pod: &DesiredPod,
        spec: &spec::ContainerSpec,
        mount: &spec::Mount,
    ) -> Result<agent_runtime::Mount, ApplyError> {
        let config = &self.node.config;
        let uid = &self.uid;
        let mut read_only = mount.read_only;
        let (source, sub_path) = match &mount.source {
            MountSource::Volume { name, sub_path } => {
                read_only |= volumes::is_read_only(pod, name);
                let source = volumes::source(&config.volumes_dir(uid), pod, name);
                let source = source.ok_or_else(|| missing_volume(name, spec))?;
                (source, sub_path.as_ref().map(Into::into))
            }
            MountSource::Hosts => (system_files::path(config, uid, SystemFile::Hosts), None),
            MountSource::ResolvConf => {
                (system_files::path(config, uid, SystemFile::ResolvConf), None)
            }
            MountSource::Hostname => (system_files::path(config, uid, SystemFile::Hostname), None),
            MountSource::TerminationLog => (config.termination_log(&spec.id), None),
        };
        Ok(agent_runtime::Mount {
            source,
            target: mount.target.clone().into(),
            read_only,
            kind: agent_runtime::MountKind::Bind,
            sub_path,
            propagation: match mount.propagation {
                Propagation::Private => agent_runtime::Propagation::Private,
                Propagation::HostToContainer => agent_runtime::Propagation::HostToContainer,
                Propagation::Bidirectional => agent_runtime::Propagation::Bidirectional,
            },
        })
    }
}

/// The kubelet's words for a mount that nothing is behind.
fn missing_volume(volume: &str, spec: &spec::ContainerSpec) -> ApplyError {
    let message =
        format!("cannot find volume {volume:?} to mount into container \"{}\"", spec.id.name);
    ApplyError::Noted { reason: "CreateContainerConfigError", message }
}

/// Something else has the name.
fn is_mismatch(err: &CallError) -> bool {
    err.refusal().is_some_and(|it| it.kind == RefusalKind::SpecMismatch)
}

/// The command itself cannot be run: no retry of the same attempt helps.
fn is_start_error(err: &ApplyError) -> bool {
    let ApplyError::Runtime(CallError::Refused { refusal, .. }) = err else { return false };
    matches!(
        refusal.kind,
        RefusalKind::CommandNotFound | RefusalKind::CommandNotExecutable | RefusalKind::InvalidSpec
    )
}

/// The file's directory, and the file itself if a container is to write to it.
fn prepare_file(path: &Path, make: bool) -> Result<(), ApplyError> {
    use std::os::unix::fs::PermissionsExt;

    let failed = |err| ApplyError::Prepare { path: path.to_owned(), err };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    if make {
        fs::File::create(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    }
    Ok(())
}

fn runtime_resources(limits: resources::Limits) -> Resources {
    Resources {
        cpu_shares: limits.cpu_shares,
        cpu_quota: limits.cpu_quota.and_then(|it| i64::try_from(it).ok()),
        cpu_period: limits.cpu_quota.map(|_| resources::CPU_PERIOD),
        memory_limit: limits.memory,
        pids_limit: None,
    }
}

fn sandbox_spec(
    pod: &DesiredPod,
    id: &SandboxId,
    facts: &agent_core::field::NodeFacts,
) -> SandboxSpec {
    let spec = pod.spec();
    let path = resources::cgroup_path(resources::qos(spec), &pod.uid);
    let sysctls = spec.security_context.iter().flat_map(|it| it.sysctls.iter().flatten());
    SandboxSpec {
        id: rt_sandbox(id),
        hostname: spec::hostname(pod, facts),
        host_network: pod.host_network,
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        cgroup: CgroupPath::new(path).expect("a class and a UID are names"),
        resources: runtime_resources(resources::pod_limits(spec)),
        sysctls: sysctls.map(|it| (it.name.clone(), it.value.clone())).collect(),
    }
}

fn image_facts(image: &Image) -> ImageFacts {
    let Some(config) = image.config.config() else { return ImageFacts::default() };
    let pair = |line: &String| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    ImageFacts {
        user: config.user().clone().unwrap_or_default(),
        env: config.env().iter().flatten().filter_map(pair).collect(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
    }
}
