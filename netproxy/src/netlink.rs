//! Batches of nftables messages: all of them take effect, or none does.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::NfTablesMessage, none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

use crate::SyncError;

/// The subsystem of nftables, named in the frame of a batch.
const NFTABLES: u16 = 10;

/// Messages in the making, each with words for what it does, about tables of one family.
#[derive(Debug)]
pub(crate) struct Batch {
    family: NetfilterProtoFamily,
    messages: Vec<(NfTablesMessage, u16, &'static str)>,
}

impl Batch {
    /// About packets of IPv4.
    pub(crate) fn ipv4() -> Self {
        Self { family: NetfilterProtoFamily::IPv4, messages: Vec::new() }
    }

    /// About frames on bridges.
    pub(crate) fn bridge() -> Self {
        Self { family: NetfilterProtoFamily::Bridge, messages: Vec::new() }
    }

    /// Adds a message; `what` completes "could not ...".
    pub(crate) fn push(&mut self, what: &'static str, message: NfTablesMessage, flags: u16) {
        self.messages.push((message, flags, what));
    }

    /// Hands the batch to the kernel and waits for its word.
    pub(crate) fn commit(self) -> Result<(), SyncError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let (bytes, whats) = self.encode();
        let socket = open(bytes.len()).map_err(SyncError::Socket)?;
        socket.send(&bytes, 0).map_err(SyncError::Exchange)?;
        // Only the last message asks for an answer; every refused one gets one unasked, before it.
        loop {
            let (bytes, _) = socket.recv_from_full().map_err(SyncError::Exchange)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let answer = parse(&mut rest).map_err(SyncError::Exchange)?;
                let NetlinkPayload::Error(err) = answer.payload else { continue };
                let index = usize::try_from(answer.header.sequence_number).unwrap_or(0);
                if err.code.is_some() {
                    // The frame itself is refused where the kernel has no nftables.
                    let what = whats.get(index.wrapping_sub(1)).copied().unwrap_or("use nftables");
                    return Err(SyncError::Refused { what, err: err.to_io() });
                }
                if index == whats.len() {
                    return Ok(());
                }
            }
        }
    }

    /// Message n of the batch has sequence number n, counted from one; the frame begins at zero.
    fn encode(self) -> (Vec<u8>, Vec<&'static str>) {
        let n_messages = self.messages.len();
        let mut bytes = Vec::new();
        let mut whats = Vec::with_capacity(n_messages);
        append(&mut bytes, frame(ControlMessage::BatchBegin), 0, 0);
        for (index, (message, flags, what)) in (1..).zip(self.messages) {
            let header = NetfilterHeader::new(self.family, 0, 0);
            let message = NetfilterMessage::new(header, message);
            let last = whats.len() + 1 == n_messages;
            append(&mut bytes, message, flags | if last { NLM_F_ACK } else { 0 }, index);
            whats.push(what);
        }
        append(&mut bytes, frame(ControlMessage::BatchEnd), 0, u32::MAX);
        (bytes, whats)
    }
}

/// A socket whose buffers hold a batch of this size.
pub(crate) fn open(size: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let size = size.saturating_mul(2).max(1 << 16);
    setsockopt(&socket, sockopt::SndBufForce, &size)?;
    setsockopt(&socket, sockopt::RcvBufForce, &size)?;
    Ok(socket)
}

/// Takes the first message off.
pub(crate) fn parse(rest: &mut &[u8]) -> io::Result<NetlinkMessage<NetfilterMessage>> {
    let invalid = |err| io::Error::new(io::ErrorKind::InvalidData, err);
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(invalid)?;
    let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Ok(message)
}

/// Appends an encoded request.
pub(crate) fn append(
    bytes: &mut Vec<u8>,
    message: impl Into<NetlinkPayload<NetfilterMessage>>,
    flags: u16,
    sequence: u32,
) {
    let mut message = NetlinkMessage::new(Default::default(), message.into());
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

fn frame(control: ControlMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES);
    NetfilterMessage::new(header, NetfilterMessageInner::None(control))
}
