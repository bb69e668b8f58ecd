//! Commands in running containers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use rustix::event::epoll::EventFlags;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::clients::{kernel, refused};
use super::containers::{Heard, Starting, not_running};
use super::{Keeper, Owner, Process, Source, Waiter};
use crate::clock;
use crate::container::{self, Command, Found, Start, Stdio};
use crate::error::{Refusal, RefusalKind};
use crate::ids::ContainerId;
use crate::protocol::{Answer, Message};
use crate::types::{ExecSpec, ExitStatus};

/// A command that one agent asked for.
#[derive(Debug)]
pub(super) struct Exec {
    /// Who is told of its end.
    client: u64,
    process: Process,
    starting: Option<Starting>,
    terminal: Option<OwnedFd>,
    failure: Option<(Refusal, Vec<Waiter>)>,
    started_at: Timestamp,
}

impl Keeper {
    pub(super) fn exec(
        &mut self,
        waiter: Waiter,
        id: &ContainerId,
        spec: ExecSpec,
        fds: Vec<OwnedFd>,
    ) {
        if let Err(refusal) = self.start_exec(waiter, id, spec, fds) {
            self.answer(waiter, Err(refusal));
        }
    }

    fn start_exec(
        &mut self,
        waiter: Waiter,
        id: &ContainerId,
        spec: ExecSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        if spec.args.first().is_none_or(String::is_empty) {
            return Err(Refusal::new(RefusalKind::InvalidSpec, "could not find a command to run"));
        }
        let stdio = exec_stdio(&spec, fds)
            .ok_or_else(|| Refusal::new(RefusalKind::InvalidSpec, "a stream is missing"))?;
        let started = self.spawn_exec(id, spec, stdio)?;
        let exec_id = self.next_exec;
        self.next_exec += 1;
        let cannot = |err: io::Error| kernel("watch a command", &err);
        let (pid, pidfd) = (started.child.pid, started.child.pidfd);
        let process = self.watch_process(pid, pidfd, Owner::Exec(exec_id)).map_err(cannot)?;
        let channel = started.channel;
        let source = Source::Channel(Owner::Exec(exec_id));
        let token = self.watch(channel.as_fd(), source, EventFlags::IN).map_err(cannot)?;
        let waiters = vec![waiter];
        let starting = Starting { channel, token, executing: false, failure: None, waiters };
        let exec = Exec {
            client: waiter.client,
            process,
            starting: Some(starting),
            terminal: None,
            failure: None,
            started_at: clock::now(),
        };
        self.execs.insert(exec_id, exec);
        Ok(())
    }

    fn spawn_exec(
        &self,
        id: &ContainerId,
        spec: ExecSpec,
        stdio: Stdio,
    ) -> Result<container::Starting, Refusal> {
        let container = self.containers.get(id).ok_or_else(|| {
            Refusal::new(RefusalKind::NotFound, format!("could not find container {id}"))
        })?;
        let (made, process) = container.running().ok_or_else(|| not_running(id))?;
        let own = made.bundle.spec.process().as_ref();
        let mut env = own.and_then(|it| it.env().clone()).unwrap_or_default();
        env.extend(spec.env);
        let start = Start {
            bundle: &made.bundle,
            command: Command {
                args: spec.args,
                env,
                cwd: spec
                    .cwd
                    .or_else(|| own.map(|it| it.cwd().clone()))
                    .unwrap_or_else(|| "/".into()),
                user: spec.user.unwrap_or_else(|| made.bundle.user.clone()),
            },
            dirs: &made.dirs,
            entry: self.cgroups.entry(&made.cgroup).map_err(|err| kernel("join a cgroup", &err))?,
            namespaces: vec![],
            target: Some(process.pidfd.as_fd()),
            stdio,
            profile: self.profile_of(&made.bundle),
            nofile: self.nofile,
            found: Found::default(),
        };
        self.with_pid_namespace(
            || {
                let kind = ThreadNameSpaceType::PROCESS_ID;
                Ok(move_into_thread_name_spaces(process.pidfd.as_fd(), kind)?)
            },
            || container::exec(start),
        )
        .map_err(|err| refused(&err))
    }

    pub(super) fn handle_exec_channel(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        let Some(starting) = &mut exec.starting else { return };
        match starting.read() {
            Heard::Nothing => {}
            Heard::Terminal(terminal) => exec.terminal = Some(terminal),
            Heard::End => self.exec_started(id),
        }
    }

    /// The channel has closed: the command runs, or never will.
    fn exec_started(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        let Some(starting) = exec.starting.take() else { return };
        let terminal = exec.terminal.take();
        match starting.refusal() {
            Some(refusal) => exec.failure = Some((refusal, starting.waiters.clone())),
            None => {
                let mut fds: Vec<_> = terminal.into_iter().collect();
                for waiter in &starting.waiters {
                    let fds = std::mem::take(&mut fds);
                    self.answer_with(*waiter, Ok(Answer::Exec { id }), fds);
                }
            }
        }
        self.unwatch(starting.token, starting.channel.as_fd());
    }

    pub(super) fn handle_exec_exit(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        while let Some(starting) = &mut exec.starting {
            // Its last words come first.
            match starting.read() {
                Heard::Nothing if starting.has_more() => {}
                Heard::Nothing | Heard::End => break,
                Heard::Terminal(terminal) => exec.terminal = Some(terminal),
            }
        }
        self.exec_started(id);
        let Some(exec) = self.execs.remove(&id) else { return };
        let ended = super::reap(exec.process.pidfd.as_fd());
        self.unwatch(exec.process.token, exec.process.pidfd.as_fd());
        if let Some((refusal, waiters)) = exec.failure {
            for waiter in waiters {
                self.answer(waiter, Err(refusal.clone()));
            }
            return;
        }
        let (code, signal) = ended.unwrap_or((255, None));
        let exit = ExitStatus {
            code,
            signal,
            oom_killed: false,
            unknown: ended.is_none(),
            started_at: Some(exec.started_at),
            finished_at: clock::now(),
        };
        self.tell(exec.client, &Message::ExecExited { id, exit }, vec![]);
    }

    pub(super) fn signal_exec(&mut self, id: u64, signal: i32) -> Result<(), Refusal> {
        let Some(exec) = self.execs.get(&id) else {
            return Err(Refusal::new(RefusalKind::NotRunning, "the command has ended"));
        };
        agent_sys::pidfd_send_signal(exec.process.pidfd.as_fd(), signal)
            .map_err(|err| refused(&err))
    }
}

/// The streams that came with the question; `None` if some are missing.
fn exec_stdio(spec: &ExecSpec, fds: Vec<OwnedFd>) -> Option<Stdio> {
    if spec.tty {
        return Some(Stdio::Terminal);
    }
    let mut fds = fds.into_iter();
    let stdin = if spec.stdin { Some(fds.next()?) } else { None };
    Some(Stdio::Streams([stdin, Some(fds.next()?), Some(fds.next()?)]))
}
