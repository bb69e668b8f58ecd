//! A node that runs nothing: it answers streams by itself, for trying clients against.

use agent_sync::stream::{Channel, FrameDecoder, StreamKind, StreamRequest, encode_frame};
use futures_util::future::BoxFuture;
use hub_apiserver::{NodeStream, NodeStreams, OpenError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::task::TaskTracker;

#[derive(Default)]
pub(crate) struct PretendNode {
    tasks: TaskTracker,
}

impl NodeStreams for PretendNode {
    fn open(
        &self,
        _node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let stream = Stream { io: theirs, decoder: FrameDecoder::default() };
            self.tasks.spawn(async move {
                // The client may leave at any time.
                let _ = stream.serve(request.kind).await;
            });
            let (recv, send) = tokio::io::split(ours);
            Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) })
        })
    }
}

struct Stream {
    io: DuplexStream,
    decoder: FrameDecoder,
}

impl Stream {
    async fn serve(mut self, kind: StreamKind) -> std::io::Result<()> {
        match kind {
            StreamKind::Logs { follow, .. } => {
                for n in 1..=if follow { 5 } else { 3 } {
                    self.say(Channel::Stdout, format!("line {n}\n").as_bytes()).await?;
                    if follow {
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    }
                }
                self.exit(0).await
            }
            StreamKind::Exec { command, .. } => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                match words.as_slice() {
                    ["exit", code] => self.exit(code.parse().unwrap_or(255)).await,
                    ["yes", n] => {
                        let n: usize = n.parse().unwrap_or(1);
                        for _ in 0..n {
                            self.say(Channel::Stdout, &[b'y'; 1024]).await?;
                        }
                        self.exit(0).await
                    }
                    ["cat"] | ["sh"] => self.echo().await,
                    _ => {
                        self.say(Channel::Stdout, format!("{words:?}\n").as_bytes()).await?;
                        self.say(Channel::Stderr, b"to stderr\n").await?;
                        self.exit(0).await
                    }
                }
            }
            // Nothing runs here, nothing is used.
            StreamKind::Stats => {
                self.say(Channel::Stdout, b"{}").await?;
                self.exit(0).await
            }
            StreamKind::Page { .. } => {
                self.say(Channel::Stdout, br#"{"code":404,"contentType":"text/plain"}"#).await?;
                self.exit(0).await
            }
            StreamKind::Attach { stdin: true, .. } => self.echo().await,
            StreamKind::Attach { .. } => {
                self.say(Channel::Stdout, b"attached\n").await?;
                self.exit(0).await
            }
            StreamKind::PortForward { .. } | StreamKind::Connect { .. } => {
                while let Some((channel, payload)) = self.hear().await? {
                    if channel == Channel::CloseStdin || payload.ends_with(b"\r\n\r\n") {
                        break;
                    }
                }
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n";
                self.say(Channel::Stdout, answer).await?;
                self.exit(0).await
            }
        }
    }

    async fn echo(&mut self) -> std::io::Result<()> {
        while let Some((channel, payload)) = self.hear().await? {
            match channel {
                Channel::CloseStdin => break,
                Channel::Stdin => self.say(Channel::Stdout, &payload).await?,
                Channel::Stdout | Channel::Stderr | Channel::Error | Channel::Resize => {
                    self.say(Channel::Stdout, &[b"size ", payload.as_slice(), b"\r\n"].concat())
                        .await?
                }
            }
        }
        self.exit(0).await
    }

    async fn hear(&mut self) -> std::io::Result<Option<(Channel, Vec<u8>)>> {
        let mut buffer = vec![0; 4096];
        loop {
            if let Ok(Some(frame)) = self.decoder.next() {
                return Ok(Some(frame));
            }
            match self.io.read(&mut buffer).await? {
                0 => return Ok(None),
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    async fn say(&mut self, channel: Channel, payload: &[u8]) -> std::io::Result<()> {
        let mut out = Vec::new();
        encode_frame(channel, payload, &mut out);
        self.io.write_all(&out).await
    }

    async fn exit(&mut self, code: u8) -> std::io::Result<()> {
        let status = if code == 0 {
            r#"{"metadata":{},"status":"Success"}"#.to_owned()
        } else {
            format!(
                r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code: exit status {code}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
            )
        };
        self.say(Channel::Error, status.as_bytes()).await
    }
}
