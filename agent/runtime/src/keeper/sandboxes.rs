//! Sandboxes in the keeper: made, held, adopted, removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::event::epoll::EventFlags;
use rustix::mount::UnmountFlags;

use super::clients::refused;
use super::record::{self, ProcessRecord, SandboxRecord};
use super::{Keeper, Owner, Process, Source, Waiter};
use crate::clock;
use crate::error::{Refusal, RefusalKind};
use crate::ids::SandboxId;
use crate::protocol::Answer;
use crate::sandbox;
use crate::types::{SandboxSpec, SandboxState};

/// Kinds of namespaces that a sandbox may have, as in `/proc/<pid>/ns`.
const KINDS: [&str; 4] = ["net", "uts", "ipc", "pid"];

/// The file system of namespaces, as in statfs(2).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Namespaces and a cgroup that containers share.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) spec: SandboxSpec,
    /// The sandbox's own namespaces, by kind.
    pub(super) namespaces: BTreeMap<&'static str, OwnedFd>,
    created_at: Timestamp,
    /// Pid 1 of all containers, if they share their processes.
    init: Option<Process>,
    making: Option<Making>,
    removing: Option<Vec<Waiter>>,
    state: SandboxState,
}

/// A sandbox whose namespaces are on their way.
#[derive(Debug)]
struct Making {
    process: Process,
    channel: OwnedFd,
    token: u64,
    waiters: Vec<Waiter>,
}

impl Sandbox {
    /// `None` while it is being made: it may come to nothing.
    pub(super) fn state(&self) -> Option<SandboxState> {
        self.making.is_none().then(|| self.state.clone())
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.removing.is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.making.is_none() && self.removing.is_none()
    }
}

impl Keeper {
    pub(super) fn ensure_sandbox(&mut self, waiter: Waiter, spec: SandboxSpec) {
        let id = spec.id.clone();
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            let answer = if sandbox.spec != spec || sandbox.removing.is_some() {
                let text = format!("sandbox {id} exists with another specification");
                Err(Refusal::new(RefusalKind::SpecMismatch, text))
            } else if let Some(making) = &mut sandbox.making {
                making.waiters.push(waiter);
                return;
            } else {
                Ok(Answer::Sandbox(sandbox.state.clone()))
            };
            return self.answer(waiter, answer);
        }
        match self.make_sandbox(spec) {
            Ok(Some(making)) => {
                if let Some(sandbox) = self.sandboxes.get_mut(&id) {
                    sandbox.making = Some(Making { waiters: vec![waiter], ..making });
                }
            }
            Ok(None) => self.sandbox_is_ready(&id, vec![waiter]),
            Err(err) => {
                self.answer(waiter, Err(refused(&err)));
            }
        }
    }

    /// Begins to make a sandbox; `None` if it has nothing of its own but a cgroup.
    fn make_sandbox(&mut self, spec: SandboxSpec) -> io::Result<Option<Making>> {
        let id = spec.id.clone();
        let cgroup = self.cgroup_path(spec.cgroup.as_str());
        self.cgroups.create(&cgroup)?;
        self.cgroups.limit(&cgroup, &spec.resources)?;
        let spare = self.take_spare(&spec);
        let making = if spare.is_some() || sandbox::own_namespaces(&spec).is_empty() {
            None
        } else {
            let init_cgroup = format!("{cgroup}/init");
            let entry = if sandbox::has_init(&spec) {
                self.cgroups.create(&init_cgroup)?;
                self.cgroups.entry(&init_cgroup)?
            } else {
                crate::cgroup::Entry::Files(vec![])
            };
            let made = sandbox::make(&spec, entry)?;
            let process =
                self.watch_process(made.child.pid, made.child.pidfd, Owner::Sandbox(id.clone()))?;
            let source = Source::Channel(Owner::Sandbox(id.clone()));
            let token = self.watch(made.channel.as_fd(), source, EventFlags::IN)?;
            Some(Making { process, channel: made.channel, token, waiters: vec![] })
        };
        let netns = (!spec.host_network).then(|| self.layout.namespace("net", &id));
        let created_at = clock::now();
        let state = SandboxState { id: id.clone(), netns, created_at };
        let sandbox = Sandbox {
            spec,
            namespaces: spare.unwrap_or_default(),
            created_at,
            init: None,
            making: None,
            removing: None,
            state,
        };
        self.sandboxes.insert(id, sandbox);
        Ok(making)
    }

    pub(super) fn watch_process(
        &mut self,
        pid: i32,
        pidfd: OwnedFd,
        owner: Owner,
    ) -> io::Result<Process> {
        let start_time = record::start_time(pid).unwrap_or(0);
        let token = self.watch(pidfd.as_fd(), Source::Process(owner), EventFlags::IN)?;
        let record = ProcessRecord { pid, start_time, boot_id: self.boot_id.clone() };
        Ok(Process { pidfd, record, token })
    }

    /// The process that made the namespaces has something to say.
    pub(super) fn handle_sandbox_channel(&mut self, id: &SandboxId) {
        let Some(making) = self.sandboxes.get_mut(id).and_then(|it| it.making.take()) else {
            return;
        };
        self.unwatch(making.token, making.channel.as_fd());
        let mut said = [0; 4096];
        let result = match rustix::io::read(&making.channel, &mut said) {
            Ok(length) => match said.get(..length) {
                Some(said) if said == sandbox::READY => self.hold_namespaces(id, &making.process),
                Some(reason) if !reason.is_empty() => {
                    Err(io::Error::other(String::from_utf8_lossy(reason).into_owned()))
                }
                _ => Err(io::Error::other("it ended without a word")),
            },
            Err(errno) => Err(errno.into()),
        };
        let has_init =
            self.sandboxes.get(id).is_some_and(|it| sandbox::has_init(&it.spec)) && result.is_ok();
        if has_init {
            if let Some(sandbox) = self.sandboxes.get_mut(id) {
                sandbox.init = Some(making.process);
            }
        } else {
            // Its end is of no interest once its namespaces are held, but it must be reaped.
            self.unwatch(making.process.token, making.process.pidfd.as_fd());
            // It may have ended by itself.
            let _ = agent_sys::pidfd_send_signal(making.process.pidfd.as_fd(), nix::libc::SIGKILL);
            super::reap(making.process.pidfd.as_fd());
        }
        match result {
            Ok(()) => self.sandbox_is_ready(id, making.waiters),
            Err(err) => {
                self.discard_sandbox(id);
                for waiter in making.waiters {
                    self.answer(waiter, Err(refused(&err)));
                }
            }
        }
    }

    /// Opens the namespaces and gives them names that outlive this process.
    fn hold_namespaces(&mut self, id: &SandboxId, process: &Process) -> io::Result<()> {
        let Some(sandbox) = self.sandboxes.get_mut(id) else {
            return Ok(());
        };
        for kind in sandbox::own_namespaces(&sandbox.spec).into_keys() {
            let source = format!("/proc/{}/ns/{kind}", process.record.pid);
            let target = self.layout.namespace(kind, id);
            File::create(&target)?;
            rustix::mount::mount_bind(source.as_str(), &target)?;
            sandbox.namespaces.insert(kind, File::open(&target)?.into());
        }
        Ok(())
    }

    fn sandbox_is_ready(&mut self, id: &SandboxId, waiters: Vec<Waiter>) {
        let Some(sandbox) = self.sandboxes.get(id) else {
            return;
        };
        let record = SandboxRecord {
            version: record::VERSION,
            spec: sandbox.spec.clone(),
            boot_id: self.boot_id.clone(),
            init: sandbox.init.as_ref().map(|it| it.record.clone()),
            created_at: sandbox.created_at,
        };
        let state = sandbox.state.clone();
        if let Err(err) = record::write(&self.layout.sandbox_record(id), &record, false) {
            // It works all the same; only another keeper would not know it.
            self.complain("write down a sandbox", &err);
        }
        for waiter in waiters {
            self.answer(waiter, Ok(Answer::Sandbox(state.clone())));
        }
    }

    pub(super) fn handle_sandbox_exit(&mut self, id: &SandboxId) {
        // While it is being made its channel tells; afterwards only an init can end, and then the
        // containers of the sandbox have ended with it.
        let init = self.sandboxes.get_mut(id).and_then(|it| it.init.take());
        if let Some(init) = init {
            self.unwatch(init.token, init.pidfd.as_fd());
            super::reap(init.pidfd.as_fd());
        }
    }

    pub(super) fn send_netns(&mut self, waiter: Waiter, id: &SandboxId) {
        let netns = self.sandboxes.get(id).and_then(|it| it.namespaces.get("net"));
        match netns.map(OwnedFd::try_clone) {
            Some(Ok(netns)) => self.answer_with(waiter, Ok(Answer::Done), vec![netns]),
            Some(Err(err)) => self.answer(waiter, Err(refused(&err))),
            None => {
                let text = format!("sandbox {id} has no network namespace of its own");
                self.answer(waiter, Err(Refusal::new(RefusalKind::NotFound, text)));
            }
        }
    }

    pub(super) fn remove_sandbox(&mut self, waiter: Waiter, id: &SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else {
            return self.answer(waiter, Ok(Answer::Done));
        };
        sandbox.removing.get_or_insert_default().push(waiter);
        let containers = self.containers.values().filter(|it| it.spec_sandbox() == id);
        for container in containers.map(|it| it.id().clone()).collect::<Vec<_>>() {
            self.begin_removal(&container, None);
        }
        self.finish_sandbox(id);
    }

    /// Goes on with a removal as far as the kernel lets it.
    pub(super) fn finish_sandbox(&mut self, id: &SandboxId) {
        let occupied = self.containers.values().any(|it| it.spec_sandbox() == id);
        let Some(sandbox) = self.sandboxes.get_mut(id) else {
            return;
        };
        if occupied || sandbox.making.is_some() {
            return;
        }
        if let Some(init) = &sandbox.init {
            // Its end comes back as an event.
            let _ = agent_sys::pidfd_send_signal(init.pidfd.as_fd(), nix::libc::SIGKILL);
            return;
        }
        let cgroup = format!("{}/{}", self.cgroup_root, sandbox.spec.cgroup);
        // What is still in there now came from an exec; it is killed, and the rest tried again.
        if !matches!(self.cgroups.kill(&cgroup), Ok(true)) || self.cgroups.remove(&cgroup).is_err()
        {
            return;
        }
        let waiters = sandbox.removing.take().unwrap_or_default();
        self.discard_sandbox(id);
        for waiter in waiters {
            self.answer(waiter, Ok(Answer::Done));
        }
    }

    /// Lets go of everything but the cgroup's processes.
    fn discard_sandbox(&mut self, id: &SandboxId) {
        let Some(sandbox) = self.sandboxes.remove(id) else {
            return;
        };
        drop(sandbox.namespaces);
        // The record first: names without a record are swept up, one without names is a sandbox that
        // cannot be taken over.
        self.remove_record(id);
        self.remove_names(id);
        let _ = self.cgroups.remove(&self.cgroup_path(sandbox.spec.cgroup.as_str()));
    }

    fn remove_record(&self, id: &SandboxId) {
        if let Err(err) = record::remove(&self.layout.sandbox_record(id)) {
            self.complain("remove a record", &err);
        }
    }

    /// Removes the names that namespaces have beside their descriptors.
    pub(super) fn remove_names(&self, id: &SandboxId) {
        for kind in KINDS {
            let path = self.layout.namespace(kind, id);
            if path.exists() {
                // Not a mount if making it failed half way.
                let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
                if let Err(err) = record::remove(&path) {
                    self.complain("remove a namespace", &err);
                }
            }
        }
    }

    /// Takes over what an earlier keeper of the same boot made. One that cannot be taken over was half
    /// made or half removed; what is left of it goes, and never keeps this keeper from its work.
    pub(super) fn adopt_sandboxes(&mut self) {
        for name in record::names_in(&self.layout.sandboxes(), ".json") {
            let Ok(id) = SandboxId::new(name) else { continue };
            let record = record::read::<SandboxRecord>(&self.layout.sandbox_record(&id));
            let Some(record) = record.filter(|it| it.boot_id == self.boot_id) else {
                self.remove_record(&id);
                continue;
            };
            let cgroup = self.cgroup_path(record.spec.cgroup.as_str());
            if let Err(err) = self.adopt_sandbox(record) {
                self.complain("take over a sandbox", &err);
                self.remove_record(&id);
                // If something runs in it, the next sandbox of the same pod has it.
                let _ = self.cgroups.remove(&cgroup);
            }
        }
        for name in KINDS.iter().flat_map(|it| record::names_in(&self.layout.namespaces(it), "")) {
            let Ok(id) = SandboxId::new(name) else { continue };
            if !self.sandboxes.contains_key(&id) {
                self.remove_names(&id);
            }
        }
    }

    fn adopt_sandbox(&mut self, record: SandboxRecord) -> io::Result<()> {
        let id = record.spec.id.clone();
        let mut namespaces = BTreeMap::new();
        for kind in sandbox::own_namespaces(&record.spec).into_keys() {
            namespaces.insert(kind, open_namespace(&self.layout.namespace(kind, &id))?);
        }
        let init = match &record.init {
            Some(init) => self.adopt_process(init, Owner::Sandbox(id.clone()))?,
            None => None,
        };
        let netns = (!record.spec.host_network).then(|| self.layout.namespace("net", &id));
        let state = SandboxState { id: id.clone(), netns, created_at: record.created_at };
        let sandbox = Sandbox {
            spec: record.spec,
            namespaces,
            created_at: record.created_at,
            init,
            making: None,
            removing: None,
            state,
        };
        self.sandboxes.insert(id, sandbox);
        Ok(())
    }

    /// The process of a record, if it still runs.
    pub(super) fn adopt_process(
        &mut self,
        record: &ProcessRecord,
        owner: Owner,
    ) -> io::Result<Option<Process>> {
        let Some(pid) = rustix::process::Pid::from_raw(record.pid) else {
            return Ok(None);
        };
        if record.boot_id != self.boot_id {
            return Ok(None);
        }
        let flags = rustix::process::PidfdFlags::empty();
        let Ok(pidfd) = rustix::process::pidfd_open(pid, flags) else {
            return Ok(None);
        };
        // Looked at after opening: from here on it is the same process or none.
        if record::start_time(record.pid) != Some(record.start_time) {
            return Ok(None);
        }
        self.watch_process(record.pid, pidfd, owner).map(Some)
    }
}

/// Opens a namespace by its name. Before it is mounted, and after, the name is a plain file.
fn open_namespace(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    if rustix::fs::fstatfs(&file)?.f_type != NSFS_MAGIC {
        return Err(io::Error::other(format!("{} is no namespace", path.display())));
    }
    Ok(file.into())
}
