//! Namespaces made ahead of need: a network namespace takes the kernel longer than all else that a
//! sandbox is made of.
//!
//! A few, held by descriptor and by nothing else: if the keeper dies they are gone. The first are made
//! when the first sandbox was, the next a moment after one was taken, when the pod that took it is on its
//! way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Keeper, Source};
use crate::cgroup::Entry;
use crate::clock;
use crate::ids::{CgroupPath, SandboxId};
use crate::sandbox;
use crate::types::{Resources, SandboxSpec};

/// How many are kept.
const SPARES: usize = 2;
/// How long after one was taken the next is made.
const REST: Duration = Duration::from_millis(15);

/// Namespaces by kind, as in `/proc/<pid>/ns`.
pub(super) type Namespaces = BTreeMap<&'static str, OwnedFd>;

/// What is ready, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Spares {
    ready: Vec<Namespaces>,
    making: Option<Making>,
    refill_at: Option<Instant>,
}

/// A process that makes namespaces.
#[derive(Debug)]
struct Making {
    made: sandbox::Made,
    token: u64,
}

/// A sandbox like most: everything its own but the processes, and nothing special about it.
fn usual() -> Option<SandboxSpec> {
    Some(SandboxSpec {
        id: SandboxId::new("spare").ok()?,
        hostname: "spare".to_owned(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        cgroup: CgroupPath::new("spare").ok()?,
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
    })
}

fn is_usual(spec: &SandboxSpec) -> bool {
    !spec.host_network && !spec.host_ipc && !sandbox::has_init(spec) && spec.sysctls.is_empty()
}

impl Keeper {
    /// Gives a sandbox namespaces that are ready, with names that outlive this process; `None` if there
    /// are none that fit.
    pub(super) fn take_spare(&mut self, spec: &SandboxSpec) -> Option<Namespaces> {
        if !is_usual(spec) {
            return None;
        }
        self.spares.refill_at = Some(clock::monotonic() + REST);
        let namespaces = self.spares.ready.pop()?;
        match self.adopt_spare(spec, &namespaces) {
            Ok(()) => Some(namespaces),
            Err(err) => {
                // They are made the usual way instead.
                self.complain("use spare namespaces", &err);
                self.remove_names(&spec.id);
                None
            }
        }
    }

    fn adopt_spare(&self, spec: &SandboxSpec, namespaces: &Namespaces) -> io::Result<()> {
        for (kind, namespace) in namespaces {
            if *kind == "uts" {
                self.name_host(namespace, &spec.hostname)?;
            }
            let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
            let target = self.layout.namespace(kind, &spec.id);
            File::create(&target)?;
            rustix::mount::mount_bind(source.as_str(), &target)?;
        }
        Ok(())
    }

    /// Sets the host's name as seen in another namespace.
    fn name_host(&self, namespace: &OwnedFd, hostname: &str) -> io::Result<()> {
        let kind = Some(LinkNameSpaceType::HostNameAndNISDomainName);
        let own = File::open("/proc/self/ns/uts")?;
        move_into_link_name_space(namespace.as_fd(), kind)?;
        let named = nix::unistd::sethostname(hostname);
        if let Err(errno) = move_into_link_name_space(own.as_fd(), kind) {
            // Going on would name the host after the next sandbox.
            self.complain("come back from a namespace of names", &errno.into());
            std::process::abort();
        }
        Ok(named?)
    }

    /// When the next spare is to be made.
    pub(super) fn next_refill(&self) -> Option<Duration> {
        let at = self.spares.refill_at.filter(|_| self.spares.making.is_none())?;
        Some(at.saturating_duration_since(clock::monotonic()))
    }

    /// Makes a spare if it is time.
    pub(super) fn refill_spares(&mut self) {
        if self.next_refill().is_none_or(|it| !it.is_zero()) {
            return;
        }
        self.spares.refill_at = None;
        if self.spares.ready.len() >= SPARES {
            return;
        }
        if let Err(err) = self.begin_spare() {
            // The next sandbox brings the next try.
            self.complain("make spare namespaces", &err);
        }
    }

    fn begin_spare(&mut self) -> io::Result<()> {
        let spec = usual().ok_or(io::ErrorKind::InvalidInput)?;
        let made = sandbox::make(&spec, Entry::Files(vec![]))?;
        let token = self.watch(made.channel.as_fd(), Source::Spare, EventFlags::IN)?;
        self.spares.making = Some(Making { made, token });
        Ok(())
    }

    /// The process that makes a spare has something to say.
    pub(super) fn handle_spare(&mut self) {
        let Some(Making { made, token }) = self.spares.making.take() else { return };
        self.unwatch(token, made.channel.as_fd());
        let namespaces = hold(&made);
        // It may have ended by itself.
        let _ = agent_sys::pidfd_send_signal(made.child.pidfd.as_fd(), nix::libc::SIGKILL);
        super::reap(made.child.pidfd.as_fd());
        match namespaces {
            Ok(namespaces) => {
                self.spares.ready.push(namespaces);
                self.spares.refill_at = Some(clock::monotonic());
            }
            Err(err) => self.complain("make spare namespaces", &err),
        }
    }
}

/// The namespaces of the process, if it is done.
fn hold(made: &sandbox::Made) -> io::Result<Namespaces> {
    let mut said = [0; 4096];
    let length = rustix::io::read(&made.channel, &mut said)?;
    let said = said.get(..length).unwrap_or_default();
    if said != sandbox::READY {
        return Err(io::Error::other(String::from_utf8_lossy(said).into_owned()));
    }
    let spec = usual().ok_or(io::ErrorKind::InvalidInput)?;
    let kinds = sandbox::own_namespaces(&spec).into_keys();
    kinds
        .map(|kind| Ok((kind, File::open(format!("/proc/{}/ns/{kind}", made.child.pid))?.into())))
        .collect()
}
