//! One connected node: moves bytes between the QUIC stream and the session's state machine.

use std::{net::IpAddr, sync::Arc, time::Duration};

use agent_sync::{HubConfig, HubEvent, HubSession};
use quinn::{Connection, VarInt};
use tokio::sync::mpsc;

use super::{
    Fleet, SessionHandle, ToSession,
    heartbeat::{self, GivenUp},
    identity::Suspicion,
    pod_tokens, reports,
    view::ViewChange,
};
use crate::clock;

/// Frames on their way to the socket.
const OUT_QUEUE: usize = 16;
/// Reports on their way to storage.
const REPORT_QUEUE: usize = 64;
/// A node that opens no stream in this time is given up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const CLOSE_REPLACED: VarInt = VarInt::from_u32(3);
const CLOSE_NO_STORE: VarInt = VarInt::from_u32(4);

/// Serves the node until its connection ends. `Err` is the reason for which it is refused.
pub(super) async fn run(
    fleet: &Arc<Fleet>,
    node: String,
    key_hash: &str,
    connection: &Connection,
) -> Result<(), String> {
    let opened = tokio::time::timeout(OPEN_TIMEOUT, connection.accept_bi()).await;
    let (send, recv) =
        opened.map_err(|_| "the node did not open its stream")?.map_err(|err| err.to_string())?;
    let mut primed = fleet.primed.subscribe();
    primed.wait_for(|it| *it).await.map_err(|_| "the hub is shutting down")?;
    // What the node heard from another hub must be known here as well.
    let newest = fleet.registry.catch_up().await.map_err(|status| status.message)?;
    fleet.fed_to(newest).await;

    let (changes_tx, changes_rx) = mpsc::unbounded_channel();
    let mut machine = HubSession::new(HubConfig { epoch: fleet.epoch }, clock::monotonic());
    let (id, suspicion) = fleet.register(&node, connection, changes_tx, &mut machine);
    // A Node that was deleted until now ends nothing: the session was not in the table.
    if let Err(reason) = fleet.check_node_key(&node, key_hash) {
        fleet.unregister(&node, id);
        return Err(reason);
    }
    tracing::info!(node, remote = %connection.remote_address(), "Node connected");
    if let Some(suspicion) = suspicion {
        fleet.tell_suspicion(&node, &suspicion).await;
    }

    let (out_tx, out_rx) = mpsc::channel(OUT_QUEUE);
    let (reports_tx, reports_rx) = mpsc::channel(REPORT_QUEUE);
    // Bounded by the reports in flight; a bound of its own could deadlock with the queue above.
    let (done_tx, done_rx) = mpsc::unbounded_channel();
    let clock = fleet.clock.clone();
    let driver = Driver { machine, clock, recv, changes_rx, out_tx, reports_tx, done_rx };
    let mut given_up = None;
    let result = tokio::select! {
        result = driver.run(&node) => result,
        () = write(send, out_rx) => Ok(()),
        () = reports::apply_all(fleet, &node, reports_rx, done_tx) => Ok(()),
        reason = heartbeat::run(fleet, &node, address(connection)) => {
            given_up = Some(reason);
            Ok(())
        }
        () = pod_tokens::serve(fleet, &node, connection) => Ok(()),
        () = fleet.settle(&node) => Ok(()),
        _ = connection.closed() => Ok(()),
    };
    fleet.unregister(&node, id);
    if let Some(reason) = given_up {
        fleet.give_up(&node, connection, reason).await;
    }
    tracing::info!(node, "Node disconnected");
    result
}

/// Where the node connects from.
fn address(connection: &Connection) -> IpAddr {
    connection.remote_address().ip().to_canonical()
}

impl Fleet {
    /// Ends a connection that was not at fault. The node goes to the next hub that it knows.
    async fn give_up(&self, node: &str, connection: &Connection, reason: GivenUp) {
        let was_alive = connection.close_reason().is_none();
        match reason {
            GivenUp::NoStore => {
                connection.close(CLOSE_NO_STORE, b"this hub cannot reach the store now");
            }
            GivenUp::Elsewhere { from } => {
                connection.close(CLOSE_REPLACED, b"the node connected to another hub");
                if was_alive {
                    let ends: Vec<IpAddr> = from.into_iter().chain([address(connection)]).collect();
                    self.notice_replacement(node, &ends).await;
                }
            }
        }
    }

    async fn notice_replacement(&self, node: &str, ends: &[IpAddr]) {
        let suspicion = {
            let mut state = self.lock();
            let sightings = state.sightings.entry(node.to_owned()).or_default();
            sightings.replaced(clock::monotonic(), ends)
        };
        if let Some(suspicion) = suspicion {
            self.tell_suspicion(node, &suspicion).await;
        }
    }

    /// Takes the session into the table and gives it its whole view, in one step: no change can
    /// fall between the two.
    fn register(
        &self,
        node: &str,
        connection: &Connection,
        changes_tx: mpsc::UnboundedSender<ToSession>,
        machine: &mut HubSession,
    ) -> (u64, Option<Suspicion>) {
        let mut state = self.lock();
        for (key, object) in state.index.view_of(node) {
            machine.upsert(key, object);
        }
        machine.advance(state.revision, self.clock.now().as_microsecond());
        state.next_session += 1;
        let id = state.next_session;
        let handle = SessionHandle { id, connection: connection.clone(), changes_tx };
        if let Some(old) = state.sessions.insert(node.to_owned(), handle) {
            // The newest connection is the live one: the old one may be a path that died.
            let was_alive = old.connection.close_reason().is_none();
            old.connection.close(CLOSE_REPLACED, b"the node connected again");
            if was_alive {
                let sightings = state.sightings.entry(node.to_owned()).or_default();
                let suspicion = sightings.replaced(clock::monotonic(), &[address(connection)]);
                return (id, suspicion);
            }
        }
        (id, None)
    }

    fn unregister(&self, node: &str, id: u64) {
        let mut state = self.lock();
        if state.sessions.get(node).is_some_and(|it| it.id == id) {
            state.sessions.remove(node);
        }
    }
}

async fn write(mut send: quinn::SendStream, mut out_rx: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = out_rx.recv().await {
        if send.write_all(&bytes).await.is_err() {
            // The connection is gone; `closed` tells why.
            return;
        }
    }
}

struct Driver {
    machine: HubSession,
    clock: Arc<dyn hub_api::Clock>,
    recv: quinn::RecvStream,
    changes_rx: mpsc::UnboundedReceiver<ToSession>,
    out_tx: mpsc::Sender<Vec<u8>>,
    reports_tx: mpsc::Sender<(u64, agent_sync::ReportBody)>,
    done_rx: mpsc::UnboundedReceiver<u64>,
}

impl Driver {
    /// Neither a node that does not read nor storage that is slow may hold up the changes: they
    /// would pile up in their queue, and in the machine they collapse into the latest. A node that
    /// reports faster than storage takes it is not read from meanwhile.
    async fn run(mut self, node: &str) -> Result<(), String> {
        let mut frame = None;
        let mut report = None;
        loop {
            if frame.is_none() {
                frame = self.machine.poll_transmit();
            }
            if report.is_none() {
                report = self.next_report(node)?;
            }
            let deadline =
                self.machine.poll_timeout().map(|at| at.saturating_sub(clock::monotonic()));
            // Every arm is cancel-safe: each takes one message or one chunk, or nothing.
            tokio::select! {
                permit = self.out_tx.reserve(), if frame.is_some() => {
                    // The writer ends with the connection; `closed` tells why.
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(frame) = frame.take() {
                        permit.send(frame);
                    }
                }
                permit = self.reports_tx.reserve(), if report.is_some() => {
                    // The session ends when the task that applies reports does.
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(report) = report.take() {
                        permit.send(report);
                    }
                }
                chunk = self.recv.read_chunk(64 << 10, true), if report.is_none() => match chunk {
                    Ok(Some(chunk)) => {
                        self.machine.handle_bytes(&chunk.bytes).map_err(|err| crate::chain(&err))?;
                    }
                    Ok(None) | Err(_) => return Ok(()),
                },
                change = self.changes_rx.recv() => {
                    let Some(change) = change else { return Ok(()) };
                    take(&mut self.machine, &*self.clock, change);
                    while let Ok(change) = self.changes_rx.try_recv() {
                        take(&mut self.machine, &*self.clock, change);
                    }
                }
                seq = self.done_rx.recv() => {
                    let Some(seq) = seq else { return Ok(()) };
                    self.machine.done(seq);
                }
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {
                    if self.machine.is_expired(clock::monotonic()) {
                        return Err("the node did not introduce itself".to_owned());
                    }
                }
            }
        }
    }

    fn next_report(&mut self, node: &str) -> Result<Option<(u64, agent_sync::ReportBody)>, String> {
        while let Some(event) = self.machine.poll_event() {
            match event {
                HubEvent::Hello { node: name, .. } if name != node => {
                    return Err(format!("the certificate is {node}'s, the node says {name}"));
                }
                HubEvent::Hello { .. } => {}
                HubEvent::Report { seq, report } => return Ok(Some((seq, report))),
            }
        }
        Ok(None)
    }
}

fn take(machine: &mut HubSession, clock: &dyn hub_api::Clock, message: ToSession) {
    match message {
        ToSession::Change(ViewChange::Upsert(key, object)) => machine.upsert(key, object),
        ToSession::Change(ViewChange::Delete(key)) => machine.delete(&key),
        ToSession::Revision(revision) => {
            machine.advance(revision, clock.now().as_microsecond());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        fleet::{
            identity::SUSPICIOUS,
            testing::{Hubs, client},
        },
        pki,
    };

    #[tokio::test]
    async fn machines_that_push_each_other_out_at_two_hubs_are_noticed() {
        let hubs = Hubs::new().await;
        hubs.add_node("n").await;
        let (hub, port, client) = (hubs.hub(Some("a")), hubs.open_port(), client(&hubs.authority));
        let place = port.local_addr().unwrap();
        let from = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
        for _ in 0..SUSPICIOUS {
            let accepting = async { port.accept().await.unwrap().await.unwrap() };
            let connecting =
                async { client.connect(place, pki::SERVER_NAME).unwrap().await.unwrap() };
            let (connection, machine) = tokio::join!(accepting, connecting);
            hub.fleet.give_up("n", &connection, GivenUp::Elsewhere { from }).await;
            let closed = machine.closed().await;
            let quinn::ConnectionError::ApplicationClosed(close) = closed else {
                panic!("closed otherwise: {closed}");
            };
            assert_eq!(close.error_code, CLOSE_REPLACED);
        }
        let nodes = hub_api::resources::find("", "v1", "nodes").unwrap();
        let node = hub.fleet.registry.get(nodes, None, "n").unwrap().value();
        let condition = &node["status"]["conditions"][0];
        assert_eq!(condition["type"], "DuplicateIdentity");
        assert_eq!(condition["reason"], "SeveralAddresses");
    }
}
