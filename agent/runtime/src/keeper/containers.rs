//! Containers in the keeper: started, watched, written down, adopted, removed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::RecvAncillaryMessage;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::clients::{kernel, refused};
use super::output::{Output, flow_of, open_fifo};
use super::record::{self, CreateRecord, ExitRecord, RunRecord};
use super::{Keeper, Owner, Process, Source, Waiter};
use crate::cgroup::{self, DeviceRule};
use crate::clock;
use crate::container::{self, Command, Dirs, Failure, Found, Report, Start, Stdio, Step};
use crate::error::{Refusal, RefusalKind};
use crate::ids::{ContainerId, SandboxId};
use crate::log::{Lines, LogFile, Stream};
use crate::protocol::{Answer, Message};
use crate::spec::{self, Bundle, Shares};
use crate::types::{ContainerSpec, ContainerState, ExitStatus, Phase, Seccomp, Stats};

/// A container as long as it has a writable layer.
#[derive(Debug)]
pub(super) struct Container {
    id: ContainerId,
    sandbox: SandboxId,
    phase: Phase,
    /// None for one that ended before this keeper, or this boot, began.
    made: Option<Made>,
    process: Option<Process>,
    starting: Option<Starting>,
    /// What kept it from starting, until its process is reaped.
    failure: Option<(Refusal, Vec<Waiter>)>,
    pub(super) output: Output,
    removing: Option<Vec<Waiter>>,
}

/// What a container was made from.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) spec: ContainerSpec,
    pub(super) bundle: Bundle,
    pub(super) dirs: Dirs,
    /// From the root of the hierarchy.
    pub(super) cgroup: String,
    /// Whether its processes end with its first one.
    own_pid_namespace: bool,
}

/// A process on its way to `execve`.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) channel: OwnedFd,
    pub(super) token: u64,
    pub(super) executing: bool,
    pub(super) failure: Option<Failure>,
    pub(super) waiters: Vec<Waiter>,
}

impl Container {
    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(super) fn spec_sandbox(&self) -> &SandboxId {
        &self.sandbox
    }

    pub(super) fn state(&self) -> ContainerState {
        let (id, sandbox) = (self.id.clone(), self.sandbox.clone());
        ContainerState { id, sandbox, phase: self.phase.clone() }
    }

    /// Whether something is left to do that no event will tell of.
    pub(super) fn is_unfinished(&self) -> bool {
        self.removing.is_some() && self.process.is_none()
    }

    /// What a command needs to know that is to run in it.
    pub(super) fn running(&self) -> Option<(&Made, &Process)> {
        match self.phase {
            Phase::Running { .. } => self.made.as_ref().zip(self.process.as_ref()),
            Phase::Created | Phase::Exited(_) => None,
        }
    }
}

pub(super) fn not_found(id: &ContainerId) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("could not find container {id}"))
}

pub(super) fn not_running(id: &ContainerId) -> Refusal {
    Refusal::new(RefusalKind::NotRunning, format!("container {id} does not run"))
}

// Starting.
impl Keeper {
    pub(super) fn ensure_container(&mut self, waiter: Waiter, spec: ContainerSpec) {
        let id = spec.id.clone();
        if let Some(container) = self.containers.get_mut(&id) {
            let differs = container.made.as_ref().is_some_and(|it| it.spec != spec);
            if differs || container.removing.is_some() || container.failure.is_some() {
                let text = format!("container {id} exists with another specification");
                let refusal = Refusal::new(RefusalKind::SpecMismatch, text);
                return self.answer(waiter, Err(refusal));
            }
            if let Some(starting) = &mut container.starting {
                return starting.waiters.push(waiter);
            }
            let state = container.state();
            return self.answer(waiter, Ok(Answer::Container(state)));
        }
        if let Err(refusal) = self.start_container(waiter, spec) {
            self.answer(waiter, Err(refusal));
        }
    }

    fn start_container(&mut self, waiter: Waiter, spec: ContainerSpec) -> Result<(), Refusal> {
        let id = spec.id.clone();
        let made = self.build(spec)?;
        let cannot = |what: &'static str| move |err: io::Error| kernel(what, &err);
        self.prepare_dirs(&made).map_err(cannot("prepare the container's directories"))?;
        self.prepare_cgroup(&made).map_err(cannot("prepare the container's cgroup"))?;
        let (mut output, stdio) =
            self.open_output(&made).map_err(cannot("open the container's streams"))?;
        if made.bundle.seccomp == Seccomp::Default {
            self.ensure_profile(made.bundle.capabilities)
                .map_err(cannot("compile the system call filter"))?;
        }
        let started = self.spawn_container(&made, stdio).map_err(|err| {
            // Nothing runs in it; if it cannot be removed now, removing the sandbox will.
            let _ = self.cgroups.remove(&made.cgroup);
            kernel("start the container's process", &err)
        })?;
        let owner = Owner::Container(id.clone());
        let watched = self
            .watch_process(started.child.pid, started.child.pidfd, owner.clone())
            .and_then(|process| {
                let channel = started.channel;
                let token = self.watch(channel.as_fd(), Source::Channel(owner), EventFlags::IN)?;
                self.watch_streams(&id, &mut output.streams)?;
                let starting = Starting {
                    channel,
                    token,
                    executing: false,
                    failure: None,
                    waiters: vec![waiter],
                };
                Ok((process, starting))
            });
        let (process, starting) = watched.map_err(|err| {
            // Nobody would see it end.
            let _ = self.cgroups.kill(&made.cgroup);
            kernel("watch the container's process", &err)
        })?;
        let container = Container {
            id: id.clone(),
            sandbox: made.spec.sandbox.clone(),
            phase: Phase::Created,
            made: Some(made),
            process: Some(process),
            starting: Some(starting),
            failure: None,
            output,
            removing: None,
        };
        self.containers.insert(id, container);
        Ok(())
    }

    fn build(&self, spec: ContainerSpec) -> Result<Made, Refusal> {
        let Some(sandbox) = self.sandboxes.get(&spec.sandbox).filter(|it| it.is_ready()) else {
            let text = format!("could not find sandbox {}", spec.sandbox);
            return Err(Refusal::new(RefusalKind::NotFound, text));
        };
        if spec.layers.is_empty() {
            let text = format!("container {} has no layers", spec.id);
            return Err(Refusal::new(RefusalKind::InvalidSpec, text));
        }
        let cgroup = self.cgroup_path(sandbox.spec.cgroup.child(&spec.id).as_str());
        let shared = sandbox.spec.host_pid || sandbox.spec.share_process_namespace;
        if !shared && let Some(target) = &spec.process_namespace_of {
            self.joinable(target, &spec.sandbox)?;
        }
        let shares = Shares { pid: shared || spec.process_namespace_of.is_some() };
        let dirs = self.layout.dirs(&spec.id);
        let bundle = spec::build(&spec, dirs.rootfs.clone(), &cgroup, shares)
            .map_err(|err| Refusal::new(RefusalKind::InvalidSpec, err.to_string()))?;
        Ok(Made { spec, bundle, dirs, cgroup, own_pid_namespace: !shares.pid })
    }

    /// The process whose namespace another container of its sandbox may join.
    fn joinable(&self, id: &ContainerId, sandbox: &SandboxId) -> Result<BorrowedFd<'_>, Refusal> {
        let container = self.containers.get(id).filter(|it| it.sandbox == *sandbox);
        let running = container.and_then(Container::running);
        let Some((_, process)) = running else {
            let text = format!("unable to find target container \"{id}\"");
            return Err(Refusal::new(RefusalKind::NotRunning, text));
        };
        Ok(process.pidfd.as_fd())
    }

    fn prepare_dirs(&self, made: &Made) -> io::Result<()> {
        for dir in [&made.dirs.rootfs, &made.dirs.upper, &made.dirs.work] {
            fs::create_dir_all(dir)?;
        }
        // The top of the writable layer becomes the root of the container, for every user of it.
        fs::set_permissions(&made.dirs.upper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let record = CreateRecord {
            version: record::VERSION,
            id: made.spec.id.clone(),
            sandbox: made.spec.sandbox.clone(),
        };
        record::write(&self.layout.create_record(&made.spec.id), &record, false)
    }

    fn prepare_cgroup(&self, made: &Made) -> io::Result<()> {
        self.cgroups.create(&made.cgroup)?;
        self.cgroups.limit(&made.cgroup, &made.spec.resources)?;
        // A container of which the kernel killed a part looks well and is not: as kubelets do, on v2
        // (`singleProcessOOMKill`).
        self.cgroups.kill_as_one(&made.cgroup)?;
        if made.spec.privileged {
            return Ok(());
        }
        let mut rules = cgroup::default_device_rules();
        for device in &made.spec.devices {
            let stat = rustix::fs::stat(&device.source)?;
            let file_type = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let kind = if file_type.is_block_device() {
                'b'
            } else if file_type.is_char_device() {
                'c'
            } else {
                return Err(io::Error::other("not a device"));
            };
            rules.push(DeviceRule {
                kind,
                major: Some(u64::from(rustix::fs::major(stat.st_rdev))),
                minor: Some(u64::from(rustix::fs::minor(stat.st_rdev))),
                access: device.access.clone(),
            });
        }
        self.cgroups.allow_devices(&made.cgroup, &rules)
    }

    fn spawn_container(&self, made: &Made, stdio: Stdio) -> io::Result<container::Starting> {
        let sandbox = self.sandboxes.get(&made.spec.sandbox).ok_or(io::ErrorKind::NotFound)?;
        let others = sandbox.namespaces.iter().filter(|(kind, _)| **kind != "pid");
        let process = made.bundle.spec.process().as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let start = Start {
            bundle: &made.bundle,
            command: Command {
                args: process.args().clone().unwrap_or_default(),
                env: process.env().clone().unwrap_or_default(),
                cwd: process.cwd().clone(),
                user: made.bundle.user.clone(),
            },
            dirs: &made.dirs,
            entry: self.cgroups.entry(&made.cgroup)?,
            namespaces: others.map(|(_, fd)| fd.as_fd()).collect(),
            target: None,
            stdio,
            profile: self.profile_of(&made.bundle),
            nofile: self.nofile,
            found: Found::default(),
        };
        let target = made.spec.process_namespace_of.as_ref();
        if let Some(target) = target.filter(|_| !sandbox.namespaces.contains_key("pid"))
            && !sandbox.spec.host_pid
        {
            let found = self.joinable(target, &made.spec.sandbox);
            let process = found.map_err(|err| io::Error::other(err.to_string()))?;
            let kind = ThreadNameSpaceType::PROCESS_ID;
            return self.with_pid_namespace(
                || Ok(move_into_thread_name_spaces(process, kind)?),
                || container::create(start, false),
            );
        }
        match sandbox.namespaces.get("pid") {
            Some(shared) => self.with_pid_namespace(
                || Ok(rustix::thread::move_into_link_name_space(shared.as_fd(), None)?),
                || container::create(start, false),
            ),
            None => container::create(start, made.own_pid_namespace),
        }
    }

    pub(super) fn profile_of(&self, bundle: &Bundle) -> Option<&crate::seccomp::Profile> {
        match bundle.seccomp {
            Seccomp::Default => self.profiles.get(&bundle.capabilities),
            Seccomp::Unconfined => None,
        }
    }

    /// A container on its way to its command has something to say.
    pub(super) fn handle_container_channel(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(starting) = &mut container.starting else { return };
        match starting.read() {
            Heard::Nothing => {}
            Heard::Terminal(terminal) => self.set_terminal(id, terminal),
            Heard::End => self.container_started(id),
        }
    }

    /// The channel has closed: the command runs, or never will.
    fn container_started(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(starting) = container.starting.take() else { return };
        if let Some(refusal) = starting.refusal() {
            // Answered when the process is reaped, so that trying again finds nothing in the way.
            container.failure = Some((refusal, starting.waiters));
            self.unwatch(starting.token, starting.channel.as_fd());
            return;
        }
        let started_at = clock::now();
        let pid = container.process.as_ref().map_or(0, |it| it.record.pid);
        container.phase = Phase::Running { pid, started_at };
        let record =
            container.made.as_ref().zip(container.process.as_ref()).map(|(made, process)| {
                let (spec, process) = (made.spec.clone(), process.record.clone());
                RunRecord { version: record::VERSION, spec, process, started_at }
            });
        let state = container.state();
        self.unwatch(starting.token, starting.channel.as_fd());
        let path = self.layout.run_record(id);
        if let Some(Err(err)) = record.map(|it| record::write(&path, &it, false)) {
            // It runs all the same; only another keeper would not know it.
            self.complain("write down a container", &err);
        }
        for waiter in starting.waiters {
            self.answer(waiter, Ok(Answer::Container(state.clone())));
        }
    }
}

/// What a channel had to say.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    Terminal(OwnedFd),
    End,
}

impl Starting {
    /// Reads one report.
    pub(super) fn read(&mut self) -> Heard {
        use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
        let mut packet = [0; 8192];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut parts = [io::IoSliceMut::new(&mut packet)];
        let length = match recvmsg(&self.channel, &mut parts, &mut control, flags) {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Nothing,
            Err(_) => 0,
        };
        let fd = control.drain().find_map(|message| {
            let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
            fds.next()
        });
        if length == 0 {
            return Heard::End;
        }
        let report = packet.get(..length).and_then(|it| serde_json::from_slice(it).ok());
        match (report, fd) {
            (Some(Report::Terminal), Some(fd)) => return Heard::Terminal(fd),
            (Some(Report::Executing), _) => self.executing = true,
            (Some(Report::Failed(failure)), _) => self.failure = Some(failure),
            // Not in the sequence: it counts as a failure at the end.
            (Some(Report::Terminal) | None, _) => self.executing = false,
        }
        Heard::Nothing
    }

    /// Why the command does not run, if it does not.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match &self.failure {
            None if self.executing => None,
            None => {
                let text =
                    "its process was ended while it was set up: is its memory limit too small?";
                Some(Refusal::new(RefusalKind::Setup, text))
            }
            Some(failure) => {
                let kind = match (failure.step, failure.errno) {
                    (Step::Execute, Some(nix::libc::ENOENT)) => RefusalKind::CommandNotFound,
                    (Step::Execute, _) => RefusalKind::CommandNotExecutable,
                    (Step::User, None) => RefusalKind::InvalidSpec,
                    _ => RefusalKind::Setup,
                };
                Some(Refusal::new(kind, failure.to_string()))
            }
        }
    }
}

// Running.
impl Keeper {
    pub(super) fn signal_container(
        &mut self,
        id: &ContainerId,
        signal: i32,
    ) -> Result<(), Refusal> {
        let container = self.containers.get(id).ok_or_else(|| not_found(id))?;
        let process = container.process.as_ref().ok_or_else(|| not_running(id))?;
        match agent_sys::pidfd_send_signal(process.pidfd.as_fd(), signal) {
            Err(err) if err.raw_os_error() == Some(nix::libc::ESRCH) => Err(not_running(id)),
            Err(err) if err.raw_os_error() == Some(nix::libc::EINVAL) => Err(Refusal::new(
                RefusalKind::InvalidSpec,
                format!("no signal has number {signal}"),
            )),
            other => other.map_err(|err| refused(&err)),
        }
    }

    pub(super) fn kill_container(&mut self, id: &ContainerId) -> Result<(), Refusal> {
        let container = self.containers.get(id).ok_or_else(|| not_found(id))?;
        let process = container.process.as_ref().ok_or_else(|| not_running(id))?;
        // The first process first: where it is an init, the kernel ends the others with it.
        match agent_sys::pidfd_send_signal(process.pidfd.as_fd(), nix::libc::SIGKILL) {
            Err(err) if err.raw_os_error() == Some(nix::libc::ESRCH) => {}
            other => other.map_err(|err| refused(&err))?,
        }
        if let Some(made) = &container.made {
            self.cgroups.kill(&made.cgroup).map_err(|err| refused(&err))?;
        }
        Ok(())
    }

    pub(super) fn container_stats(&mut self, id: &ContainerId) -> Result<Stats, Refusal> {
        let container = self.containers.get(id).ok_or_else(|| not_found(id))?;
        let (made, _) = container.running().ok_or_else(|| not_running(id))?;
        self.cgroups.stats(&made.cgroup).map_err(|err| refused(&err))
    }
}

// Ending.
impl Keeper {
    pub(super) fn handle_container_exit(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let was_starting = container.starting.is_some();
        // Its last words come first.
        while let Some(starting) =
            self.containers.get_mut(id).and_then(|container| container.starting.as_mut())
        {
            match starting.read() {
                Heard::Nothing if starting.has_more() => {}
                Heard::Nothing | Heard::End => break,
                Heard::Terminal(terminal) => self.set_terminal(id, terminal),
            }
        }
        if was_starting {
            self.container_started(id);
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(process) = container.process.take() else { return };
        let ended = super::reap(process.pidfd.as_fd());
        self.unwatch(process.token, process.pidfd.as_fd());
        self.container_ended(id, ended);
    }

    /// Writes down how a container ended, tells everybody, and goes on with what waited for it.
    fn container_ended(&mut self, id: &ContainerId, ended: Option<(i32, Option<i32>)>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (streams, trouble) = container.output.finish(&mut self.scratch);
        container.output = Output::default();
        let failure = container.failure.take();
        let started_at = match &container.phase {
            Phase::Running { started_at, .. } => Some(*started_at),
            Phase::Created | Phase::Exited(_) => None,
        };
        let oom_kills = container.made.as_ref().map_or(0, |it| self.cgroups.oom_kills(&it.cgroup));
        let (code, signal) = ended.unwrap_or((255, None));
        let exit = ExitStatus {
            code,
            signal,
            oom_killed: oom_kills > 0,
            unknown: ended.is_none(),
            started_at,
            finished_at: clock::now(),
        };
        container.phase = Phase::Exited(exit.clone());
        let sandbox = container.sandbox.clone();
        for (token, fd) in streams {
            self.unwatch(token, fd.as_fd());
        }
        if let Some(err) = trouble {
            self.complain("write a log", &err);
        }
        match failure {
            Some((refusal, waiters)) => self.container_failed(id, refusal, waiters),
            None => {
                let record = ExitRecord {
                    version: record::VERSION,
                    id: id.clone(),
                    sandbox,
                    exit: exit.clone(),
                };
                if let Err(err) = record::write(&self.layout.exit_record(id), &record, true) {
                    self.complain("write down an exit", &err);
                }
                self.tell_all(&Message::Exited { id: id.clone(), exit });
                self.finish_container(id);
            }
        }
    }

    /// A container that never ran leaves nothing but its directory.
    fn container_failed(&mut self, id: &ContainerId, refusal: Refusal, waiters: Vec<Waiter>) {
        if let Some(container) = self.containers.get_mut(id) {
            container.removing.get_or_insert_default();
        }
        self.finish_container(id);
        for waiter in waiters {
            self.answer(waiter, Err(refusal.clone()));
        }
    }

    pub(super) fn remove_container(&mut self, waiter: Waiter, id: &ContainerId) {
        if self.containers.contains_key(id) {
            self.begin_removal(id, Some(waiter));
        } else {
            self.discard_dir(id);
            self.answer(waiter, Ok(Answer::Done));
        }
    }

    pub(super) fn begin_removal(&mut self, id: &ContainerId, waiter: Option<Waiter>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.removing.get_or_insert_default().extend(waiter);
        if container.process.is_some() {
            // Fails only if it ends at this moment by itself; its end is an event either way.
            let _ = self.kill_container(id);
        } else {
            self.finish_container(id);
        }
    }

    /// Ends what is left of an ended container, and removes it if that was asked for.
    pub(super) fn finish_container(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.process.is_some() {
            return;
        }
        if let Some(made) = &container.made {
            let empty = matches!(self.cgroups.kill(&made.cgroup), Ok(true));
            if !empty || self.cgroups.remove(&made.cgroup).is_err() {
                // Tried again when it is removed.
                return;
            }
        }
        let Some(waiters) = container.removing.take() else { return };
        self.containers.remove(id);
        self.discard_dir(id);
        for waiter in waiters {
            self.answer(waiter, Ok(Answer::Done));
        }
        let sandboxes = self.sandboxes.iter().filter(|(_, it)| it.is_unfinished());
        for sandbox in sandboxes.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.finish_sandbox(&sandbox);
        }
    }

    /// Moves a container's directory out of the way; whoever asked deletes it at leisure.
    fn discard_dir(&mut self, id: &ContainerId) {
        for path in
            [self.layout.run_record(id), self.layout.fifo(id, "out"), self.layout.fifo(id, "err")]
        {
            if let Err(err) = record::remove(&path) {
                self.complain("remove a record", &err);
            }
        }
        let stamp = clock::now().as_nanosecond();
        let trash = self.layout.trash().join(format!("{id}-{stamp}"));
        match fs::rename(self.layout.container(id), trash) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                self.complain("move a container to the trash", &err);
            }
            _ => {}
        }
    }
}

impl Starting {
    /// Whether another report waits.
    pub(super) fn has_more(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.channel, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
    }
}

// Taking over.
impl Keeper {
    /// Takes over what an earlier keeper left, running or not.
    pub(super) fn adopt_containers(&mut self) -> io::Result<()> {
        for name in record::names_in(&self.layout.containers(), "") {
            let Ok(id) = ContainerId::new(name) else { continue };
            let exit: Option<ExitRecord> = record::read(&self.layout.exit_record(&id));
            let run: Option<RunRecord> = record::read(&self.layout.run_record(&id));
            match (exit, run) {
                (Some(exit), run) => self.adopt_exited(exit, run),
                (None, Some(run)) if run.process.boot_id == self.boot_id => {
                    self.adopt_running(run)?
                }
                // Where `run_dir` outlives a boot, the record of what ran does too.
                (None, Some(_) | None) => self.adopt_unknown(&id),
            }
        }
        Ok(())
    }

    fn adopt_exited(&mut self, exit: ExitRecord, run: Option<RunRecord>) {
        let made = run.and_then(|run| self.build(run.spec).ok());
        let container = Container {
            id: exit.id.clone(),
            sandbox: exit.sandbox,
            phase: Phase::Exited(exit.exit),
            made,
            process: None,
            starting: None,
            failure: None,
            output: Output::default(),
            removing: None,
        };
        self.containers.insert(exit.id, container);
    }

    fn adopt_running(&mut self, run: RunRecord) -> io::Result<()> {
        let id = run.spec.id.clone();
        let sandbox = run.spec.sandbox.clone();
        let process = self.adopt_process(&run.process, Owner::Container(id.clone()))?;
        let mut output = Output::default();
        if process.is_some() {
            output.log = LogFile::open(&run.spec.log_path).ok();
            for (stream, name) in [(Stream::Stdout, "out"), (Stream::Stderr, "err")] {
                if let Ok(reader) = open_fifo(&self.layout.fifo(&id, name)) {
                    let at = output.streams.len() as u64;
                    output.streams.insert(at, (reader, Lines::new(stream)));
                }
            }
            output.flow = Some(flow_of(&run.spec));
            self.watch_streams(&id, &mut output.streams)?;
        }
        let (pid, started_at) = (run.process.pid, run.started_at);
        let made = self.build(run.spec).ok();
        let filtered = made.as_ref().filter(|it| it.bundle.seccomp == Seccomp::Default);
        if let Some(made) = filtered {
            self.ensure_profile(made.bundle.capabilities)?;
        }
        let is_running = process.is_some();
        let container = Container {
            id: id.clone(),
            sandbox,
            phase: Phase::Running { pid, started_at },
            made,
            process,
            starting: None,
            failure: None,
            output,
            removing: None,
        };
        self.containers.insert(id.clone(), container);
        if !is_running {
            self.container_ended(&id, None);
        }
        Ok(())
    }

    /// It was made, and nobody knows what became of it: as a rule the machine went down under it. That no
    /// start of it is known tells it from one that ended unseen.
    fn adopt_unknown(&mut self, id: &ContainerId) {
        let Some(record) = record::read::<CreateRecord>(&self.layout.create_record(id)) else {
            return self.discard_dir(id);
        };
        // It may run all the same: the keeper ended between its start and the record of it.
        if let Some(sandbox) = self.sandboxes.get(&record.sandbox) {
            let cgroup = self.cgroup_path(sandbox.spec.cgroup.child(id).as_str());
            if let Err(err) = self.cgroups.kill(&cgroup) {
                self.complain("kill a container that nobody knows", &err);
            }
        }
        let container = Container {
            id: id.clone(),
            sandbox: record.sandbox,
            phase: Phase::Created,
            made: None,
            process: None,
            starting: None,
            failure: None,
            output: Output::default(),
            removing: None,
        };
        self.containers.insert(id.clone(), container);
        self.container_ended(id, None);
    }
}
