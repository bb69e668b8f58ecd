//! Fuzz targets: what clients of exec, attach and port-forward send over WebSocket, from the first byte after the upgrade.

use bytes::Bytes;
use futures_util::StreamExt;
use tests_fuzz::Target;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::bridge::Input;
use super::{portforward_channels, remote_websocket};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// A frame as a client sends it: masked, with a mask that changes nothing, so that words fit in.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126, "longer ones have their length elsewhere");
    [&[0x80 | kind, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// A connection whose client sends this and goes. The network cuts it once.
fn connection(input: &[u8], cut: usize) -> impl AsyncRead + AsyncWrite + Unpin {
    let (first, second) = input.split_at(cut.min(input.len()));
    tokio::io::join(first.chain(second), tokio::io::sink())
}

/// What the channels of exec and attach are understood as. Numbers are those of version 5.
async fn understood(input: &[u8], cut: usize) -> Vec<(u8, Bytes)> {
    let (_, stream) = remote_websocket::accept(connection(input, cut)).await.split();
    let (events_tx, mut events_rx) = mpsc::channel(input.len() + 1);
    remote_websocket::read(stream, events_tx).await;
    let mut events = Vec::new();
    while let Some(event) = events_rx.recv().await {
        events.push(match event {
            Input::Stdin(bytes) => (0, bytes),
            Input::Resize(bytes) => (4, bytes),
            Input::CloseStdin => (255, Bytes::new()),
        });
    }
    events
}

#[test]
fn websocket_channels() {
    let seed = [
        frame(BINARY, b"\0input"),
        frame(TEXT, b"\0of the Python client"),
        frame(BINARY, b"\x04{\"Width\":80,\"Height\":24}"),
        frame(PING, b"x"),
        frame(BINARY, b"\xff\0"),
        frame(BINARY, b""),
        frame(CLOSE, b"\x03\xe8"),
    ]
    .concat();
    let runtime = runtime();
    Target::new("websocket-channels", &[&seed]).words(&["\u{0}", "\u{4}"]).check(|input| {
        let events = runtime.block_on(understood(input, input.len()));
        let n_bytes: usize = events.iter().map(|(_, it)| it.len()).sum();
        assert!(n_bytes <= input.len(), "nothing is invented");
        let cut = usize::from(input.first().copied().unwrap_or(0));
        let again = runtime.block_on(understood(input, cut));
        assert_eq!(again, events, "however the network cuts it");
        events.len() > 1
    });
}

#[test]
fn port_forward_channels() {
    let seed = [
        frame(BINARY, b"\0to the first"),
        frame(BINARY, b"\x01an error is not for us"),
        frame(TEXT, b"\x02to the second"),
        frame(BINARY, b"\x04to nobody"),
        frame(CLOSE, b""),
    ]
    .concat();
    let runtime = runtime();
    Target::new("port-forward-channels", &[&seed]).words(&["\u{0}", "\u{2}"]).check(|input| {
        let mut n_bytes = 0;
        runtime.block_on(async {
            let io = connection(input, input.len() / 2);
            let (_, stream) = remote_websocket::accept(io).await.split();
            let (first_tx, mut first) = mpsc::channel(input.len() + 1);
            let (second_tx, mut second) = mpsc::channel(input.len() + 1);
            portforward_channels::read(stream, vec![first_tx, second_tx]).await;
            while let Some(bytes) = first.recv().await {
                n_bytes += bytes.len();
            }
            while let Some(bytes) = second.recv().await {
                n_bytes += bytes.len();
            }
        });
        assert!(n_bytes <= input.len(), "nothing is invented");
        n_bytes > 0
    });
}
