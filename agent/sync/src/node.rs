//! The node's end of the protocol.
//!
//! ```text
//! AwaitWelcome ──Welcome{in_sync}──────────────> Live
//!      └───────Welcome{!in_sync}─> AwaitSnapshot ─Batch{begin}..Batch{end}─> Live
//! ```
//!
//! Must not: acknowledge a batch before [`NodeSession::handle_persisted`]; treat absence as
//! deletion outside the buckets of a finished snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    Change, Epoch, FrameError, ObjectKey, ReportBody,
    digest::{self, ViewDigest},
    wire::{self, Ack, Batch, Body, Have, Hello, Report, Splitter, Welcome},
};

/// A hub that does not answer `Hello` in this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the node knows when the connection opens.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node: String,
    /// The hub epoch that this node follows; `None` before the first session.
    pub epoch: Option<Epoch>,
    /// Highest revision that was made durable.
    pub revision: u64,
    /// Every object of the ledger, with [`digest::object`] of its content.
    pub view: BTreeMap<ObjectKey, u64>,
    /// Follow a hub of another epoch, or one that went back in its own, because the operator said so.
    pub accept_new_epoch: bool,
}

/// Changes to make durable, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Persist {
    /// Give it back to [`NodeSession::handle_persisted`].
    pub token: u64,
    pub changes: Vec<Change>,
    /// With these changes the set is complete: what is absent is not wanted.
    pub complete: bool,
    pub epoch: Epoch,
    pub revision: u64,
}

/// What the node's glue should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeEvent {
    /// The hub answered; its clock, in microseconds since 1970.
    Welcome { hub_unix_micros: i64 },
    /// The hub has dealt with this report: the outbox may forget it.
    Done { seq: u64 },
}

#[derive(Debug)]
enum State {
    AwaitWelcome { deadline: Duration },
    AwaitSnapshot,
    Live,
}

#[derive(Debug)]
struct Snapshot {
    buckets: BTreeSet<usize>,
    seen: BTreeSet<ObjectKey>,
}

/// One connection of a node to its hub.
#[derive(Debug)]
pub struct NodeSession {
    config: NodeConfig,
    state: State,
    epoch: Epoch,
    splitter: Splitter,
    snapshot: Option<Snapshot>,
    transmits: VecDeque<Vec<u8>>,
    persists: VecDeque<Persist>,
    events: VecDeque<NodeEvent>,
    held_reports: VecDeque<(u64, ReportBody)>,
}

impl NodeSession {
    /// Opens a session at `now`, a monotonic time of the caller's choice.
    pub fn new(config: NodeConfig, now: Duration) -> Self {
        let hello = Hello::new(
            &config.node,
            config.epoch,
            config.revision,
            view_digest(&config.view).root(),
        );
        Self {
            epoch: config.epoch.unwrap_or(Epoch(0)),
            config,
            state: State::AwaitWelcome { deadline: now + HANDSHAKE_TIMEOUT },
            splitter: Splitter::default(),
            snapshot: None,
            transmits: VecDeque::from([wire::encode(Body::Hello(hello))]),
            persists: VecDeque::new(),
            events: VecDeque::new(),
            held_reports: VecDeque::new(),
        }
    }

    /// Whether the hub has answered and the node's set is known to be complete.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    /// Takes bytes as they arrive, cut anywhere.
    ///
    /// # Errors
    /// The peer broke the protocol or has another epoch: close the connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.splitter.push(bytes);
        while let Some(body) = self.splitter.next()? {
            self.handle_body(body)?;
        }
        Ok(())
    }

    /// The ledger has made this batch, and all before it, durable.
    pub fn handle_persisted(&mut self, token: u64) {
        if token > 0 {
            self.transmits.push_back(wire::encode(Body::Ack(Ack { number: token })));
        }
    }

    /// Whether the session has to be closed because the hub does not answer.
    pub fn is_expired(&self, now: Duration) -> bool {
        matches!(self.state, State::AwaitWelcome { deadline } if now >= deadline)
    }

    /// When [`Self::is_expired`] should be asked again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::AwaitWelcome { deadline } => Some(deadline),
            State::AwaitSnapshot | State::Live => None,
        }
    }

    /// Sends a report; it is held back until the hub has answered `Hello`.
    ///
    /// `seq` is the outbox's number. A report that was not done when a connection ended is
    /// offered again on the next one.
    pub fn offer(&mut self, seq: u64, report: ReportBody) {
        match self.state {
            State::AwaitWelcome { .. } => self.held_reports.push_back((seq, report)),
            State::AwaitSnapshot | State::Live => self.send_report(seq, &report),
        }
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next changes to make durable.
    pub fn poll_persist(&mut self) -> Option<Persist> {
        self.persists.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    fn send_report(&mut self, seq: u64, report: &ReportBody) {
        self.transmits.push_back(wire::encode(Body::Report(Report::new(seq, report))));
    }

    fn handle_body(&mut self, body: Body) -> Result<(), FrameError> {
        match body {
            Body::Welcome(welcome) => self.handle_welcome(&welcome),
            Body::Batch(batch) => self.handle_batch(batch),
            Body::Done(done) => {
                self.events.push_back(NodeEvent::Done { seq: done.seq });
                Ok(())
            }
            Body::Hello(_) | Body::Have(_) | Body::Ack(_) | Body::Report(_) => {
                Err(FrameError::Unexpected { frame: body.name() })
            }
        }
    }

    fn handle_welcome(&mut self, welcome: &Welcome) -> Result<(), FrameError> {
        if !matches!(self.state, State::AwaitWelcome { .. }) {
            return Err(FrameError::Unexpected { frame: "Welcome" });
        }
        if welcome.protocol != wire::PROTOCOL {
            return Err(FrameError::Version { theirs: welcome.protocol, ours: wire::PROTOCOL });
        }
        let offered = welcome.epoch()?;
        if let Some(known) = self.config.epoch
            && known != offered
            && !self.config.accept_new_epoch
        {
            return Err(FrameError::EpochChanged { known, offered });
        }
        // What this node has seen was durable there: a hub of the same epoch that knows less runs
        // on an old copy of its storage, and would take back what was decided since.
        if self.config.epoch == Some(offered)
            && welcome.revision < self.config.revision
            && !self.config.accept_new_epoch
        {
            let (known, offered) = (self.config.revision, welcome.revision);
            return Err(FrameError::RolledBack { known, offered });
        }
        self.epoch = offered;
        self.events.push_back(NodeEvent::Welcome { hub_unix_micros: welcome.unix_micros });
        if welcome.in_sync {
            self.state = State::Live;
            self.persists.push_back(Persist {
                token: 0,
                changes: Vec::new(),
                complete: true,
                epoch: offered,
                revision: welcome.revision,
            });
        } else {
            self.state = State::AwaitSnapshot;
            let buckets = view_digest(&self.config.view).buckets().to_vec();
            self.transmits.push_back(wire::encode(Body::Have(Have { buckets })));
        }
        for (seq, report) in std::mem::take(&mut self.held_reports) {
            self.send_report(seq, &report);
        }
        Ok(())
    }

    fn handle_batch(&mut self, batch: Batch) -> Result<(), FrameError> {
        if matches!(self.state, State::AwaitWelcome { .. }) {
            return Err(FrameError::Unexpected { frame: "Batch" });
        }
        if batch.begin {
            let buckets = batch.buckets.iter().filter_map(|it| usize::try_from(*it).ok()).collect();
            self.snapshot = Some(Snapshot { buckets, seen: BTreeSet::new() });
        }
        let mut changes = wire::decode_changes(batch.changes, batch.compressed)?;
        for change in &changes {
            self.note(change);
        }
        if batch.end {
            let Some(snapshot) = self.snapshot.take() else {
                return Err(FrameError::Unexpected { frame: "Batch{end}" });
            };
            for key in self.absent(&snapshot) {
                self.config.view.remove(&key);
                changes.push(Change::Delete { key });
            }
            self.state = State::Live;
        }
        self.persists.push_back(Persist {
            token: batch.number,
            changes,
            complete: batch.end || self.is_live(),
            epoch: self.epoch,
            revision: batch.revision,
        });
        Ok(())
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::Upsert { key, body, .. } => {
                self.config.view.insert(key.clone(), digest::object(key, body));
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.seen.insert(key.clone());
                }
            }
            Change::Delete { key } => {
                self.config.view.remove(key);
            }
        }
    }

    fn absent(&self, snapshot: &Snapshot) -> Vec<ObjectKey> {
        self.config
            .view
            .keys()
            .filter(|key| {
                snapshot.buckets.contains(&digest::bucket(key)) && !snapshot.seen.contains(*key)
            })
            .cloned()
            .collect()
    }
}

fn view_digest(view: &BTreeMap<ObjectKey, u64>) -> ViewDigest {
    let mut digest = ViewDigest::default();
    for (key, hash) in view {
        digest.add(key, *hash);
    }
    digest
}
