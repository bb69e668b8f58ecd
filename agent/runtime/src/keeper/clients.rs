//! Agents on the socket: questions in, answers and news out.
//!
//! A client that does not read is cut off when what waits for it grows beyond a bound; it can come back
//! and list.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::epoll::{self, EventFlags};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen as listen_on,
    socket_with, sockopt::socket_peercred,
};

use super::{Keeper, Source, Waiter};
use crate::clock;
use crate::error::{Refusal, RefusalKind};
use crate::protocol::{self, Answer, Call, Inbox, Message, Request};
use crate::types::Inventory;

/// What may wait for one client, in bytes.
const MAX_BACKLOG: usize = 32 * 1024 * 1024;

/// An agent.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    token: u64,
    inbox: Inbox,
    outbox: VecDeque<Frame>,
    backlog: usize,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// Makes the socket, for root alone.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    super::record::remove(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(umask);
    bound?;
    listen_on(&socket, 64)?;
    Ok(socket)
}

impl Keeper {
    pub(super) fn handle_listener(&mut self) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(socket) => {
                    if let Err(err) = self.add_client(socket) {
                        self.complain("accept a client", &err);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return self.complain("accept clients", &errno.into()),
            }
        }
    }

    fn add_client(&mut self, socket: OwnedFd) -> io::Result<()> {
        let peer = socket_peercred(&socket)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::other(format!("user {} is not welcome", peer.uid.as_raw())));
        }
        let id = self.next_token;
        let token = self.watch(socket.as_fd(), Source::Client(id), EventFlags::IN)?;
        let (inbox, outbox) = (Inbox::default(), VecDeque::new());
        self.clients.insert(id, Client { socket, token, inbox, outbox, backlog: 0 });
        Ok(())
    }

    pub(super) fn handle_client(&mut self, id: u64, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.flush_client(id);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match self.read_client(id) {
                Ok(true) => {}
                Ok(false) => self.drop_client(id),
                Err(err) => {
                    self.complain("read from a client", &err);
                    self.drop_client(id);
                }
            }
        }
    }

    /// Whether the client is still there.
    fn read_client(&mut self, id: u64) -> io::Result<bool> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(true);
        };
        let connected = match client.inbox.receive(&client.socket) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            other => other?,
        };
        // Answering may cut the client off.
        while let Some(client) = self.clients.get_mut(&id) {
            let Some((request, fds)) = client.inbox.next::<Request>()? else {
                break;
            };
            if let Some(floor) = request.least_time {
                clock::raise_floor(floor);
            }
            let waiter = Waiter { client: id, request: request.id };
            self.handle_call(waiter, request.call, fds);
        }
        Ok(connected)
    }

    fn drop_client(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            self.unwatch(client.token, client.socket.as_fd());
        }
    }

    fn handle_call(&mut self, waiter: Waiter, call: Call, fds: Vec<OwnedFd>) {
        match call {
            Call::List => {
                let sandboxes = self.sandboxes.values().filter_map(|it| it.state()).collect();
                let containers = self.containers.values().map(|it| it.state()).collect();
                self.answer(waiter, Ok(Answer::Inventory(Inventory { sandboxes, containers })));
            }
            Call::EnsureSandbox(spec) => self.ensure_sandbox(waiter, *spec),
            Call::RemoveSandbox(id) => self.remove_sandbox(waiter, &id),
            Call::Netns(id) => self.send_netns(waiter, &id),
            Call::EnsureContainer(spec) => self.ensure_container(waiter, *spec),
            Call::Signal(id, signal) => {
                let result = self.signal_container(&id, signal);
                self.answer(waiter, result.map(|()| Answer::Done));
            }
            Call::Kill(id) => {
                let result = self.kill_container(&id);
                self.answer(waiter, result.map(|()| Answer::Done));
            }
            Call::RemoveContainer(id) => self.remove_container(waiter, &id),
            Call::Exec(id, spec) => self.exec(waiter, &id, *spec, fds),
            Call::SignalExec(id, signal) => {
                let result = self.signal_exec(id, signal);
                self.answer(waiter, result.map(|()| Answer::Done));
            }
            Call::Attach(id) => self.attach(waiter, &id),
            Call::Stats(id) => {
                let result = self.container_stats(&id);
                self.answer(waiter, result.map(Answer::Stats));
            }
            Call::Retire => {
                self.answer(waiter, Ok(Answer::Done));
                self.retired = true;
            }
        }
    }

    pub(super) fn answer(&mut self, waiter: Waiter, result: Result<Answer, Refusal>) {
        self.answer_with(waiter, result, vec![]);
    }

    pub(super) fn answer_with(
        &mut self,
        waiter: Waiter,
        result: Result<Answer, Refusal>,
        fds: Vec<OwnedFd>,
    ) {
        self.tell(waiter.client, &Message::Answer { id: waiter.request, result }, fds);
    }

    pub(super) fn tell_all(&mut self, message: &Message) {
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.tell(id, message, vec![]);
        }
    }

    /// Sends to a client, which may be gone.
    pub(super) fn tell(&mut self, id: u64, message: &Message, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match protocol::encode(message, fds.len()) {
            Ok(bytes) => {
                client.backlog += bytes.len();
                client.outbox.push_back(Frame { bytes, sent: 0, fds });
                self.flush_client(id);
            }
            Err(err) => {
                self.complain("encode a message", &err);
                self.drop_client(id);
            }
        }
    }

    fn flush_client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let done = client.flush();
        let flags = if client.outbox.is_empty() {
            EventFlags::IN
        } else {
            EventFlags::IN | EventFlags::OUT
        };
        let data = epoll::EventData::new_u64(client.token);
        let watched = epoll::modify(&self.epoll, &client.socket, data, flags);
        let too_slow = client.backlog > MAX_BACKLOG;
        if done.is_err() || watched.is_err() || too_slow {
            // It is gone, or as good as gone; what it did not read it can list.
            self.drop_client(id);
        }
    }
}

impl Client {
    /// Sends what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(frame) = self.outbox.front_mut() {
            let fds: Vec<_> = frame.fds.iter().map(AsFd::as_fd).collect();
            let rest = frame.bytes.get(frame.sent..).unwrap_or_default();
            match protocol::send(&self.socket, rest, &fds) {
                Ok(sent) => {
                    frame.sent += sent;
                    frame.fds.clear();
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err),
            }
            if frame.sent == frame.bytes.len() {
                self.backlog -= frame.bytes.len();
                self.outbox.pop_front();
            }
        }
        Ok(())
    }
}

/// The kernel's reason, where the question says what was tried.
pub(super) fn refused(err: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Kernel, err.to_string())
}

/// The keeper's word for something that the kernel refused.
pub(super) fn kernel(what: &str, err: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Kernel, format!("could not {what}: {err}"))
}
