//! Exec and attach over WebSocket: each message is one byte of channel and its data. Clients may send text.
//! Protocol v5 adds a message that closes a channel, for the end of input.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::NodeStream;
use super::bridge::{Input, Output, bridge};
use crate::limits::{MAX_WS_MESSAGE, STREAM_CLOSE_TIMEOUT, STREAM_PING_INTERVAL, STREAM_QUEUE};

/// Protocols of exec and attach, the best first.
pub(crate) const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A connection that has been upgraded, as a WebSocket.
pub(super) async fn accept<T>(io: T) -> WebSocketStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_WS_MESSAGE))
        .max_frame_size(Some(MAX_WS_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves one exec or attach to its end.
pub(crate) async fn serve<T>(io: T, node: NodeStream, stdout: bool)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, stream) = accept(io).await.split();
    // An empty message tells the client that it is connected.
    let hello = if stdout { STDOUT } else { ERROR };
    if sink.send(Message::Binary(vec![hello].into())).await.is_err() {
        return;
    }
    let (input_tx, input) = mpsc::channel(STREAM_QUEUE);
    let (output, output_rx) = mpsc::channel(STREAM_QUEUE);
    let work = async { tokio::join!(bridge(node, input, output), write(sink, output_rx)) };
    let reading = read(stream, input_tx);
    tokio::pin!(work, reading);
    tokio::select! {
        _ = work.as_mut() => {
            // The client closes after us; one that does not is hung up on.
            let _ = tokio::time::timeout(STREAM_CLOSE_TIMEOUT, reading).await;
        }
        // Without input the bridge sees that the client is gone, and ends.
        () = reading.as_mut() => {
            work.await;
        }
    }
}

/// Reads messages until the client closes. Goes on reading when nobody wants input any more:
/// that is how pings and the closing are seen.
pub(super) async fn read<T>(mut stream: SplitStream<WebSocketStream<T>>, input: mpsc::Sender<Input>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            // The official Python client sends input so.
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let (channel, data) = (bytes.first().copied(), bytes.slice(bytes.len().min(1)..));
        let event = match channel {
            Some(STDIN) if !data.is_empty() => Input::Stdin(data),
            Some(RESIZE) if !data.is_empty() => Input::Resize(data),
            Some(CLOSE) if data.first() == Some(&STDIN) => Input::CloseStdin,
            _ => continue,
        };
        let _ = input.send(event).await; // the process may be over already
    }
}

async fn write<T>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut output: mpsc::Receiver<Output>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match tokio::time::timeout(STREAM_PING_INTERVAL, output.recv()).await {
            Ok(Some(Output::Stdout(bytes))) => on_channel(STDOUT, &bytes),
            Ok(Some(Output::Stderr(bytes))) => on_channel(STDERR, &bytes),
            Ok(Some(Output::Status(bytes))) => on_channel(ERROR, &bytes),
            Ok(None) => break,
            Err(_) => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(goodbye))).await; // the client may be gone
}

fn on_channel(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    Message::Binary(message.freeze())
}
