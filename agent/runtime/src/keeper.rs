//! The keeper: parent of every container, and the only process that must not die.
//!
//! One thread, one loop over epoll. It does what it is asked, writes down what ends, and pumps output
//! into log files; it decides nothing. Agents come and go on its socket. What it holds:
//!
//! ```text
//! sandbox     making ──> ready ──────────────> removing ──> gone
//! container   starting ──> running ──> exited ──> removing ──> gone
//! exec        starting ──> running ──> gone
//! ```
//!
//! It must never block on anything that a container or an agent controls.
//!
//! When it dies all the same, the next keeper adopts what runs: by process id and start time, namespaces
//! by their mounts, output by named pipes, which no writer finds broken in between. Lost are the exit
//! codes of those containers (reported as unknown, 255), partial lines, open input and terminals.

mod boot;
mod clients;
mod containers;
mod execs;
mod flow;
mod output;
mod record;
mod sandboxes;
mod spares;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::thread::move_into_link_name_space;

use crate::cgroup::{self, CgroupDriver};
use crate::ids::{ContainerId, SandboxId};
use crate::log::Stream;
use crate::seccomp::{self, Profile};

use clients::Client;
use containers::Container;
use execs::Exec;
use output::Scratch;
use record::{Layout, ProcessRecord};
use sandboxes::Sandbox;
use spares::Spares;

/// Something that the kernel was not done with is tried again after this long, then after twice as long
/// each time, up to [`MAX_RETRY`].
const MIN_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(16);

/// What an event of the loop is about.
#[derive(Clone, Debug)]
enum Source {
    Listener,
    Client(u64),
    /// Reports from a process on its way to `execve`.
    Channel(Owner),
    /// The end of a process.
    Process(Owner),
    /// Reports from a process that makes namespaces ahead of need.
    Spare,
    /// Output of a container.
    Output(ContainerId, Stream),
}

/// What a process belongs to.
#[derive(Clone, Debug)]
enum Owner {
    Container(ContainerId),
    Exec(u64),
    Sandbox(SandboxId),
}

/// A question whose answer is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Waiter {
    client: u64,
    request: u64,
}

/// A process that runs.
#[derive(Debug)]
struct Process {
    pidfd: OwnedFd,
    record: ProcessRecord,
    token: u64,
}

struct Keeper {
    layout: Layout,
    cgroup_root: String,
    boot_id: String,
    nofile: (u64, u64),
    pid_namespace: OwnedFd,
    cgroups: Box<dyn CgroupDriver>,
    /// By capabilities: containers with the same ones share a filter.
    profiles: BTreeMap<u64, Profile>,
    epoll: OwnedFd,
    listener: OwnedFd,
    sources: BTreeMap<u64, Source>,
    next_token: u64,
    clients: BTreeMap<u64, Client>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    containers: BTreeMap<ContainerId, Container>,
    execs: BTreeMap<u64, Exec>,
    next_exec: u64,
    /// When each kind of trouble was last complained about.
    complaints: RefCell<BTreeMap<String, jiff::Timestamp>>,
    /// Containers that log too fast, and when their output is read again.
    held: BTreeMap<ContainerId, Instant>,
    scratch: Scratch,
    spares: Spares,
    /// The next pause before what is unfinished is tried again.
    retry: Duration,
    retired: bool,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// Where to keep what, as the agent says on the command line.
#[derive(Debug)]
struct Arguments {
    state_dir: PathBuf,
    run_dir: PathBuf,
    cgroup_root: String,
}

fn parse(args: &[OsString]) -> Option<Arguments> {
    let [_, _, state_dir, run_dir, cgroup_root] = args else {
        return None;
    };
    let cgroup_root = crate::ids::CgroupPath::new(cgroup_root.to_str()?).ok()?.as_str().to_owned();
    let (state_dir, run_dir) = (PathBuf::from(state_dir), PathBuf::from(run_dir));
    (state_dir.is_absolute() && run_dir.is_absolute()).then_some(Arguments {
        state_dir,
        run_dir,
        cgroup_root,
    })
}

/// Runs this process as a keeper, for `<program> keeper <state_dir> <run_dir> <cgroup_root>`.
#[expect(clippy::print_stdout, reason = "the agent that starts a keeper reads its reasons")]
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let Some(parsed) = parse(args) else {
        println!("usage: keeper <state-dir> <run-dir> <cgroup-root>");
        return ExitCode::FAILURE;
    };
    let detached = boot::seal(args).and_then(|()| {
        // The process that was started ends here; the keeper goes on as nobody's child.
        agent_sys::clone3(nix::sched::CloneFlags::empty(), None, || match Keeper::start(parsed) {
            Ok((mut keeper, _lock)) => keeper.serve(),
            Err(err) => {
                println!("{err}");
                1
            }
        })
    });
    match detached {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

impl Keeper {
    fn start(args: Arguments) -> io::Result<(Self, OwnedFd)> {
        let layout = Layout { state_dir: args.state_dir, run_dir: args.run_dir };
        layout.make_dirs()?;
        nix::unistd::setsid()?;
        let lock = boot::lock(&layout.run_dir)?;
        let nofile = boot::protect()?;
        crate::capability::learn();
        let cgroups = cgroup::driver()?;
        let own = format!("{}/keeper", args.cgroup_root);
        cgroups.create(&own)?;
        cgroups.join(&own)?;

        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = clients::listen(&layout.socket())?;
        let mut keeper = Self {
            boot_id: record::boot_id()?,
            cgroup_root: args.cgroup_root,
            nofile,
            pid_namespace: std::fs::File::open("/proc/self/ns/pid")?.into(),
            cgroups,
            profiles: BTreeMap::new(),
            epoll,
            listener: listener.try_clone()?,
            sources: BTreeMap::new(),
            next_token: 0,
            clients: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            // No agent must take a command of this keeper for one of an earlier keeper.
            next_exec: u64::try_from(crate::clock::now().as_microsecond()).unwrap_or(1),
            complaints: RefCell::new(BTreeMap::new()),
            held: BTreeMap::new(),
            scratch: Scratch::default(),
            spares: Spares::default(),
            retry: MIN_RETRY,
            retired: false,
            layout,
        };
        keeper.adopt_sandboxes();
        keeper.adopt_containers()?;
        keeper.watch(listener.as_fd(), Source::Listener, epoll::EventFlags::IN)?;
        boot::announce(&keeper.layout.run_dir.join("keeper.log"))?;
        Ok((keeper, lock))
    }

    fn serve(&mut self) -> i32 {
        let mut events = Vec::with_capacity(256);
        while !self.retired {
            let timeout = self.timeout();
            self.retry =
                if self.has_unfinished() { (self.retry * 2).min(MAX_RETRY) } else { MIN_RETRY };
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => self.complain("wait for events", &errno.into()),
            }
            for event in &events {
                self.handle(event.data.u64(), event.flags);
            }
            self.retry_unfinished();
            self.release_output();
            self.refill_spares();
        }
        0
    }

    fn handle(&mut self, token: u64, flags: epoll::EventFlags) {
        // A source may be gone by the time its event comes up in the same batch.
        let Some(source) = self.sources.get(&token).cloned() else {
            return;
        };
        match source {
            Source::Listener => self.handle_listener(),
            Source::Client(client) => self.handle_client(client, flags),
            Source::Channel(Owner::Container(id)) => self.handle_container_channel(&id),
            Source::Channel(Owner::Exec(id)) => self.handle_exec_channel(id),
            Source::Channel(Owner::Sandbox(id)) => self.handle_sandbox_channel(&id),
            Source::Process(Owner::Container(id)) => self.handle_container_exit(&id),
            Source::Process(Owner::Exec(id)) => self.handle_exec_exit(id),
            Source::Process(Owner::Sandbox(id)) => self.handle_sandbox_exit(&id),
            Source::Spare => self.handle_spare(),
            Source::Output(id, stream) => self.handle_output(&id, stream),
        }
    }

    /// When to look again though nothing happens.
    fn timeout(&self) -> Option<Timespec> {
        let unfinished = self.has_unfinished().then_some(self.retry);
        // Rounded up to the milliseconds of the kernel: never a loop that finds nothing to do.
        let later = self.next_release().into_iter().chain(self.next_refill());
        let later = later.map(|it| it + Duration::from_millis(1));
        Timespec::try_from(unfinished.into_iter().chain(later).min()?).ok()
    }

    fn has_unfinished(&self) -> bool {
        self.containers.values().any(Container::is_unfinished)
            || self.sandboxes.values().any(Sandbox::is_unfinished)
    }

    fn retry_unfinished(&mut self) {
        let containers = self.containers.iter().filter(|(_, it)| it.is_unfinished());
        for id in containers.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.finish_container(&id);
        }
        let sandboxes = self.sandboxes.iter().filter(|(_, it)| it.is_unfinished());
        for id in sandboxes.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.finish_sandbox(&id);
        }
    }

    /// Adds a descriptor to the loop.
    fn watch(
        &mut self,
        fd: BorrowedFd<'_>,
        source: Source,
        flags: epoll::EventFlags,
    ) -> io::Result<u64> {
        let token = self.next_token;
        self.next_token += 1;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Takes a descriptor out of the loop. It must still be open, for a copy of it in a child may be.
    fn unwatch(&mut self, token: u64, fd: BorrowedFd<'_>) {
        self.sources.remove(&token);
        // It can only fail if the descriptor was not in there, and then nothing is left to do.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Makes sure that `capabilities` have a compiled filter.
    fn ensure_profile(&mut self, capabilities: u64) -> io::Result<()> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.profiles.entry(capabilities)
        {
            entry.insert(seccomp::compile(capabilities)?);
        }
        Ok(())
    }

    /// Runs `work` with children going to another process namespace.
    fn with_pid_namespace<T>(
        &self,
        enter: impl FnOnce() -> io::Result<()>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        enter()?;
        let result = work();
        if let Err(errno) = move_into_link_name_space(self.pid_namespace.as_fd(), None) {
            // Going on would put the next container into the wrong place.
            self.complain("come back from a process namespace", &errno.into());
            std::process::abort();
        }
        result
    }

    /// Path of a cgroup from the root of the hierarchy.
    fn cgroup_path(&self, path: &str) -> String {
        format!("{}/{path}", self.cgroup_root)
    }

    /// For the operator: what the keeper could not do and nobody waits for. The same trouble is told
    /// once in a while: a container that floods a full disk must not fill the log of the keeper.
    #[expect(clippy::print_stderr, reason = "standard error is the keeper's log file")]
    fn complain(&self, what: &str, err: &io::Error) {
        let now = crate::clock::now();
        if is_news(&mut self.complaints.borrow_mut(), what, now) {
            eprintln!("{now} could not {what}: {err}");
        }
    }
}

/// Whether this trouble was not told in the last minute; if so, now it is.
fn is_news(told: &mut BTreeMap<String, jiff::Timestamp>, what: &str, now: jiff::Timestamp) -> bool {
    const QUIET: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);
    if told.get(what).is_some_and(|at| now.duration_since(*at).abs() < QUIET) {
        return false;
    }
    told.insert(what.to_owned(), now);
    true
}

/// How a process ended, as code and signal; `None` if it was no child of ours.
fn reap(pidfd: BorrowedFd<'_>) -> Option<(i32, Option<i32>)> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some((code, None)),
        (None, Some(signal)) => Some((128 + signal, Some(signal))),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_a_minute() {
        let mut told = BTreeMap::new();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        assert!(is_news(&mut told, "write a log", at(1000)));
        assert!(!is_news(&mut told, "write a log", at(1059)));
        assert!(is_news(&mut told, "reap", at(1059)));
        assert!(is_news(&mut told, "write a log", at(1060)));
        // A clock that was set back silences nobody for long.
        assert!(is_news(&mut told, "write a log", at(10)));
    }
}
