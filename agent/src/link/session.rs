//! One session: moves bytes between the QUIC stream, the state machine, the ledger and the outbox.

use std::{collections::BTreeSet, time::Duration};

use agent_ledger::Table;
use agent_sync::{Epoch, NodeConfig, NodeEvent, NodeSession, Persist, digest, stream};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    LinkConfig, StreamHandler,
    dial::{self, Dialled},
    tls, tokens,
};
use crate::clock;

/// Reports in flight to the hub.
const REPORT_WINDOW: usize = 64;
/// Frames on their way to the socket.
const OUT_QUEUE: usize = 16;
/// A hub that acknowledges no packet for so long, while reports wait, is taken for dead; on a slow
/// link it gets [`SILENT_ROUND_TRIPS`] instead. Without reports the idle timeout is soon enough.
const SILENCE: Duration = Duration::from_secs(2);
const SILENT_ROUND_TRIPS: u32 = 8;
const SILENCE_CHECK: Duration = Duration::from_millis(500);
const CLOSE_ERROR: VarInt = VarInt::from_u32(1);
/// Record of the meta table that lets the node follow another epoch once.
const ACCEPT_EPOCH: &str = "accept-new-epoch";

/// Runs until the connection ends; the answer is why, in words for the operator.
pub(super) async fn run(config: &LinkConfig, dialled: &Dialled) -> String {
    let connection = &dialled.connection;
    let reason = match serve(config, connection).await {
        Ok(()) => String::new(),
        Err(reason) => reason,
    };
    connection.close(CLOSE_ERROR, reason.as_bytes());
    match (dial::hub_said(connection), connection.close_reason()) {
        (Some(said), _) => said,
        (None, Some(err)) if reason.is_empty() => err.to_string(),
        (None, _) => reason,
    }
}

async fn serve(config: &LinkConfig, connection: &Connection) -> Result<(), String> {
    let (send, recv) = connection.open_bi().await.map_err(|err| err.to_string())?;
    let (out_tx, out_rx) = mpsc::channel(OUT_QUEUE);
    let driver = Driver {
        machine: NodeSession::new(node_config(config), clock::monotonic()),
        config,
        connection,
        recv,
        out_tx,
        offered: 0,
        in_flight: BTreeSet::new(),
        heard: (0, clock::monotonic()),
        hub_answers: true,
    };
    tokio::select! {
        result = driver.run() => result,
        reason = tokens::renew(config, connection) => Err(reason),
        () = write(send, out_rx) => Ok(()),
        () = accept_streams(connection, &config.on_stream) => Ok(()),
        err = connection.closed() => Err(err.to_string()),
    }
}

fn node_config(config: &LinkConfig) -> NodeConfig {
    let vital = config.ledger.vital();
    let view = config
        .desired
        .snapshot()
        .objects
        .iter()
        .map(|(key, object)| (key.clone(), digest::object(key, object.body.json())))
        .collect();
    NodeConfig {
        node: vital.node_name,
        epoch: vital.hub_epoch.parse::<Epoch>().ok(),
        revision: vital.accepted_revision,
        view,
        accept_new_epoch: config.accept_new_epoch
            || config.ledger.read(Table::Meta, ACCEPT_EPOCH).is_some(),
    }
}

async fn write(mut send: SendStream, mut out_rx: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = out_rx.recv().await {
        if send.write_all(&bytes).await.is_err() {
            // The connection is gone; `closed` tells why.
            return;
        }
    }
}

/// Streams end with the session: their other end is the hub.
async fn accept_streams(connection: &Connection, handler: &StreamHandler) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, recv)) = accepted else { return };
                let handler = handler.clone();
                streams.spawn(async move { serve_stream(handler, recv, send).await });
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn serve_stream(handler: StreamHandler, mut recv: RecvStream, send: SendStream) {
    let mut head = [0; 4];
    let request = async {
        recv.read_exact(&mut head).await.ok()?;
        let mut body = vec![0; stream::request_len(head).ok()?];
        recv.read_exact(&mut body).await.ok()?;
        stream::decode_request(&body).ok()
    };
    match request.await {
        Some(request) => handler(request, recv, send).await,
        None => tracing::warn!("The hub opened a stream without a request"),
    }
}

struct Driver<'a> {
    machine: NodeSession,
    config: &'a LinkConfig,
    connection: &'a Connection,
    recv: RecvStream,
    out_tx: mpsc::Sender<Vec<u8>>,
    /// The last report that was offered on this connection.
    offered: u64,
    in_flight: BTreeSet<u64>,
    /// Datagrams received, and when that number last grew.
    heard: (u64, Duration),
    /// Whether the hub answers requests for tokens; some older ones do not.
    hub_answers: bool,
}

impl Driver<'_> {
    async fn run(mut self) -> Result<(), String> {
        let mut newest = self.config.outbox.subscribe();
        loop {
            self.persist().await?;
            self.handle_events().await;
            self.offer();
            if !self.flush().await {
                return Ok(());
            }
            let deadline =
                self.machine.poll_timeout().map(|at| at.saturating_sub(clock::monotonic()));
            // Every arm is cancel-safe: each takes one chunk or one wake-up, or nothing.
            tokio::select! {
                chunk = self.recv.read_chunk(64 << 10, true) => match chunk {
                    Ok(Some(chunk)) => {
                        self.machine
                            .handle_bytes(&chunk.bytes)
                            .map_err(|err| crate::chain(&err))?;
                    }
                    Ok(None) => return Ok(()),
                    Err(err) => return Err(err.to_string()),
                },
                changed = newest.changed() => {
                    changed.map_err(|_| "the outbox is closed")?;
                }
                () = tokio::time::sleep(SILENCE_CHECK), if !self.in_flight.is_empty() => {
                    self.check_silence()?;
                }
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {
                    if self.machine.is_expired(clock::monotonic()) {
                        return Err("the hub did not answer".to_owned());
                    }
                }
            }
        }
    }

    /// A hub that was killed and started again would else be missed until the idle timeout.
    fn check_silence(&mut self) -> Result<(), String> {
        let (datagrams, now) = (self.connection.stats().udp_rx.datagrams, clock::monotonic());
        if datagrams != self.heard.0 {
            self.heard = (datagrams, now);
            return Ok(());
        }
        let patience = SILENCE.max(self.connection.rtt() * SILENT_ROUND_TRIPS);
        if now.saturating_sub(self.heard.1) < patience {
            return Ok(());
        }
        Err(format!("the hub did not acknowledge anything for {patience:?}"))
    }

    /// Durable first, then acknowledged.
    async fn persist(&mut self) -> Result<(), String> {
        while let Some(persist) = self.machine.poll_persist() {
            let Persist { token, changes, complete, epoch, revision } = persist;
            let tokens =
                tokens::first(self.config, self.connection, &changes, &mut self.hub_answers)
                    .await?;
            let kept = self.config.desired.apply_with_tokens(changes, complete, tokens).await;
            kept.map_err(|err| crate::chain(&err))?;
            accept(self.config, epoch, revision).await?;
            self.machine.handle_persisted(token);
        }
        Ok(())
    }

    async fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                NodeEvent::Welcome { hub_unix_micros } => {
                    self.config.outbox.retell();
                    let latest = tls::latest_time_of(self.connection);
                    raise_floor(self.config, hub_unix_micros / 1_000_000, latest).await;
                }
                NodeEvent::Done { seq } => {
                    self.in_flight.remove(&seq);
                    self.config.outbox.done(seq).await;
                }
            }
        }
    }

    fn offer(&mut self) {
        if self.in_flight.is_empty() {
            // Silence counts from the first report that waits.
            self.heard = (self.connection.stats().udp_rx.datagrams, clock::monotonic());
        }
        let room = REPORT_WINDOW.saturating_sub(self.in_flight.len());
        for (seq, report) in self.config.outbox.after(self.offered, room) {
            self.offered = seq;
            self.in_flight.insert(seq);
            self.machine.offer(seq, report);
        }
    }

    async fn flush(&mut self) -> bool {
        while let Some(bytes) = self.machine.poll_transmit() {
            if self.out_tx.send(bytes).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Moves the high-water mark: never backwards within one epoch, unless the operator said so.
async fn accept(config: &LinkConfig, epoch: Epoch, revision: u64) -> Result<(), String> {
    let mut vital = config.ledger.vital();
    let epoch = epoch.to_string();
    let is_known = if config.accept_new_epoch {
        vital.accepted_revision == revision
    } else {
        vital.accepted_revision >= revision
    };
    if vital.hub_epoch == epoch && is_known {
        return Ok(());
    }
    vital.accepted_revision = revision;
    vital.hub_epoch = epoch;
    config.ledger.set_vital(vital).await.map_err(|err| crate::chain(&err))
}

/// The floor moves in steps, so that a healthy clock does not wear out the flash. It never moves down again, so a hub
/// whose clock is years ahead must not move it: above `latest` its clock is wrong, for else it would show another
/// certificate.
async fn raise_floor(config: &LinkConfig, hub_seconds: i64, latest: Option<i64>) {
    const STEP_SECONDS: i64 = 3600;
    let mut vital = config.ledger.vital();
    if hub_seconds < vital.time_floor.saturating_add(STEP_SECONDS) {
        return;
    }
    if latest.is_none_or(|it| hub_seconds > it) {
        tracing::warn!(
            hub_seconds,
            "The hub's clock is ahead of its own certificate: its time is not used"
        );
        return;
    }
    vital.time_floor = hub_seconds;
    match config.ledger.set_vital(vital).await {
        Ok(()) => config.clock.raise(hub_seconds),
        Err(err) => tracing::warn!(error = crate::chain(&err), "Could not raise the time floor"),
    }
}
