//! As much of etcd's gRPC as is measured (`etcdserverpb`, messages by hand).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{Request, request::Builder};

use crate::connection::{Connection, Failure};

/// A request to this method.
pub(crate) fn request(connection: &Connection, method: &str) -> Builder {
    Request::post(connection.url(&format!("/etcdserverpb.{method}")))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// `PutRequest { key = 1, value = 2 }`.
pub(crate) fn put(key: &str, value: &[u8]) -> Result<Bytes, Failure> {
    let mut message = BytesMut::with_capacity(value.len() + 128);
    field(&mut message, 1, key.as_bytes());
    field(&mut message, 2, value);
    framed(&message)
}

/// `RangeRequest { key = 1, range_end = 2 }` of all keys with this beginning.
pub(crate) fn range(prefix: &str) -> Result<Bytes, Failure> {
    let mut message = BytesMut::new();
    keys(&mut message, prefix);
    framed(&message)
}

/// `WatchRequest { create_request = 1 { key = 1, range_end = 2 } }`.
pub(crate) fn watch(prefix: &str) -> Result<Bytes, Failure> {
    let (mut create, mut message) = (BytesMut::new(), BytesMut::new());
    keys(&mut create, prefix);
    field(&mut message, 1, &create);
    framed(&message)
}

fn keys(message: &mut BytesMut, prefix: &str) {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    field(message, 1, prefix.as_bytes());
    field(message, 2, &end);
}

fn framed(message: &[u8]) -> Result<Bytes, Failure> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// A length-delimited field.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or_default());
    message.put_slice(bytes);
}

/// Counts the events of `WatchResponse { events = 11 }` in a stream of messages.
#[derive(Default)]
pub(crate) struct Events(BytesMut);

impl Events {
    pub(crate) fn count(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.0.extend_from_slice(bytes);
        let mut events = 0;
        while let Some(head) = self.0.first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]]))?;
            if self.0.len() < length + 5 {
                break;
            }
            self.0.advance(5);
            events += events_of(self.0.split_to(length))?;
        }
        Ok(events)
    }
}

fn events_of(mut message: BytesMut) -> Result<usize, Failure> {
    let mut events = 0;
    while message.has_remaining() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => drop(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?)?;
                if length > message.len() {
                    return Err("etcd sent half a message".into());
                }
                message.advance(length);
            }
            other => return Err(format!("etcd sent wire type {other}").into()),
        }
        events += usize::from(tag >> 3 == 11);
    }
    Ok(events)
}

fn varint(message: &mut BytesMut) -> Result<u64, Failure> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = message.try_get_u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("etcd sent a number that is too long".into())
}
