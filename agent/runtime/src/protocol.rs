//! What agent and keeper say to each other.
//!
//! A frame is its length (u32, little endian), the number of descriptors that came with it (one byte),
//! and JSON. Descriptors travel with the first bytes of their frame, so that they are there when the
//! frame is complete. The keeper outlives the agents it serves: fields are only ever added, with a default.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::ids::{ContainerId, SandboxId};
use crate::types::{
    ContainerSpec, ContainerState, ExecSpec, ExitStatus, Inventory, SandboxSpec, SandboxState,
    Stats,
};

/// Longest frame; a specification with a megabyte of environment fits.
const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Most descriptors in one frame.
const MAX_FDS: usize = 8;
const HEADER: usize = 5;

/// Agent to keeper.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Request {
    /// Chosen by the agent, comes back in the answer.
    pub(crate) id: u64,
    pub(crate) call: Call,
    /// It is at least this late, as the agent knows.
    #[serde(default)]
    pub(crate) least_time: Option<jiff::Timestamp>,
}

/// What the keeper can be asked for.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Call {
    List,
    EnsureSandbox(Box<SandboxSpec>),
    RemoveSandbox(SandboxId),
    Netns(SandboxId),
    EnsureContainer(Box<ContainerSpec>),
    Signal(ContainerId, i32),
    Kill(ContainerId),
    RemoveContainer(ContainerId),
    /// With the descriptors for standard input, output and error as far as they are wanted, in order.
    Exec(ContainerId, Box<ExecSpec>),
    SignalExec(u64, i32),
    Attach(ContainerId),
    Stats(ContainerId),
    /// Ends the keeper; containers go on.
    Retire,
}

/// Keeper to agent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Message {
    Answer { id: u64, result: Result<Answer, Refusal> },
    Exited { id: ContainerId, exit: ExitStatus },
    ExecExited { id: u64, exit: ExitStatus },
}

/// A good answer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Answer {
    Done,
    Inventory(Inventory),
    Sandbox(SandboxState),
    Container(ContainerState),
    Stats(Stats),
    /// With a terminal, its descriptor comes along.
    Exec {
        id: u64,
    },
    /// With descriptors as the flags say, in this order.
    Attach {
        stdin: bool,
        tty: bool,
    },
}

/// Makes a frame of `message`.
pub(crate) fn encode(message: &impl Serialize, n_fds: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - HEADER).map_err(io::Error::other)?;
    let n_fds = u8::try_from(n_fds).map_err(io::Error::other)?;
    if let Some(header) = frame.first_chunk_mut::<HEADER>() {
        let [a, b, c, d] = length.to_le_bytes();
        *header = [a, b, c, d, n_fds];
    }
    Ok(frame)
}

/// Sends as much as the socket takes, the descriptors with the first byte.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(sent)
}

/// Puts the bytes and descriptors that arrive together again.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once. `false` means that the other side is gone.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut buffer = [0; 32 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = rustix::net::recvmsg(socket, &mut parts, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(buffer.get(..received.bytes).unwrap_or_default());
        Ok(received.bytes > 0)
    }

    /// The next complete frame.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some([a, b, c, d, n_fds]) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let n_fds = usize::from(*n_fds);
        if length > MAX_FRAME || n_fds > MAX_FDS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        if self.fds.len() < n_fds {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.drain(..HEADER + length);
        Ok(Some((message, self.fds.drain(..n_fds).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_with_their_descriptors() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let with_fd = encode(&"with", 1).unwrap();
        let without = encode(&"without", 0).unwrap();
        send(&near, &with_fd, &[writer.as_fd()]).unwrap();
        let mut inbox = Inbox::default();
        inbox.receive(&far).unwrap();
        for byte in &without {
            send(&near, &[*byte], &[]).unwrap();
            inbox.receive(&far).unwrap();
        }
        drop(writer);

        let (message, fds) = inbox.next::<String>().unwrap().unwrap();
        assert_eq!((message.as_str(), fds.len()), ("with", 1));
        let (message, none) = inbox.next::<String>().unwrap().unwrap();
        assert_eq!((message.as_str(), none.len()), ("without", 0));
        assert!(inbox.next::<String>().unwrap().is_none());

        drop(fds);
        assert_eq!(io::read_to_string(reader).unwrap(), "");
    }

    #[test]
    fn an_endless_frame_is_refused() {
        let mut inbox = Inbox { bytes: vec![0xff; HEADER], fds: VecDeque::new() };
        assert!(inbox.next::<String>().is_err());
    }
}
