//! The hub's end of the protocol: one session a connected node.
//!
//! The session holds the node's view as it should be, and sends what differs. Changes that come
//! faster than the node takes them collapse into the latest: memory is bounded by the view.
//!
//! Must not: have more than [`MAX_UNACKED`] batches in flight; say `end` before every object of
//! the named buckets was sent.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Change, Epoch, FrameError, ObjectKey, ReportBody,
    digest::{self, ViewDigest},
    wire::{self, Batch, Body, Done, Have, Hello, Splitter, Welcome},
};

/// A node that does not say `Hello` in this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Batches in flight to one node.
const MAX_UNACKED: u64 = 8;
/// A batch is closed when its bodies reach this many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// What the hub is when the connection opens.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    pub epoch: Epoch,
}

/// One object of a node's view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ViewObject {
    pub revision: u64,
    /// The JSON that the API serves, shared with the watch cache.
    pub body: Bytes,
}

/// What the hub's glue should deal with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HubEvent {
    /// The node introduced itself. Compare the name with its certificate.
    Hello { node: String, epoch: Option<Epoch>, revision: u64 },
    /// Answer with [`HubSession::done`] when the report is durable or refused for good.
    Report { seq: u64, report: ReportBody },
}

#[derive(Debug)]
enum State {
    AwaitHello {
        deadline: Duration,
    },
    /// `Hello` came, the view is not loaded yet.
    AwaitView(Hello),
    AwaitHave,
    Snapshot(Snapshot),
    Live,
}

#[derive(Debug)]
struct Snapshot {
    /// Still to be sent.
    remaining: BTreeSet<ObjectKey>,
    /// Buckets to name in the first batch; empty once that is sent.
    announce: Option<Vec<u32>>,
}

#[derive(Debug)]
struct Held {
    object: ViewObject,
    hash: u64,
}

/// One connection of a node, seen from the hub.
#[derive(Debug)]
pub struct HubSession {
    config: HubConfig,
    state: State,
    splitter: Splitter,
    view: BTreeMap<ObjectKey, Held>,
    digest: ViewDigest,
    view_loaded: bool,
    revision: u64,
    unix_micros: i64,
    /// Changed since it was last sent.
    dirty: BTreeSet<ObjectKey>,
    sent: u64,
    acked: u64,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<HubEvent>,
}

impl HubSession {
    /// Opens a session at `now`, a monotonic time of the caller's choice.
    pub fn new(config: HubConfig, now: Duration) -> Self {
        Self {
            config,
            state: State::AwaitHello { deadline: now + HANDSHAKE_TIMEOUT },
            splitter: Splitter::default(),
            view: BTreeMap::new(),
            digest: ViewDigest::default(),
            view_loaded: false,
            revision: 0,
            unix_micros: 0,
            dirty: BTreeSet::new(),
            sent: 0,
            acked: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether the node has everything that was given to this session so far, durably.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Live) && self.dirty.is_empty() && self.acked == self.sent
    }

    /// Takes bytes as they arrive, cut anywhere.
    ///
    /// # Errors
    /// The peer broke the protocol: close the connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.splitter.push(bytes);
        while let Some(body) = self.splitter.next()? {
            self.handle_body(body)?;
        }
        Ok(())
    }

    /// Whether the session has to be closed because the node does not speak.
    pub fn is_expired(&self, now: Duration) -> bool {
        matches!(self.state, State::AwaitHello { deadline } if now >= deadline)
    }

    /// When [`Self::is_expired`] should be asked again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::AwaitHello { deadline } => Some(deadline),
            State::AwaitView(_) | State::AwaitHave | State::Snapshot(_) | State::Live => None,
        }
    }

    /// The node should know this object, with this content.
    pub fn upsert(&mut self, key: ObjectKey, object: ViewObject) {
        let hash = digest::object(&key, &object.body);
        if self.view.get(&key).is_some_and(|held| held.hash == hash) {
            return;
        }
        self.forget(&key);
        self.digest.add(&key, hash);
        self.dirty.insert(key.clone());
        self.view.insert(key, Held { object, hash });
    }

    /// The node should no longer know this object.
    pub fn delete(&mut self, key: &ObjectKey) {
        if self.forget(key) {
            self.dirty.insert(key.clone());
        }
    }

    /// Everything up to this revision has been given; from the first call on, the view is whole.
    pub fn advance(&mut self, revision: u64, unix_micros: i64) {
        self.revision = self.revision.max(revision);
        self.unix_micros = unix_micros;
        self.view_loaded = true;
        if let State::AwaitView(hello) = &self.state {
            let hello = hello.clone();
            self.welcome(&hello);
        }
    }

    /// The report is durable here, or will never be wanted.
    pub fn done(&mut self, seq: u64) {
        self.transmits.push_back(wire::encode(Body::Done(Done { seq })));
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if let Some(bytes) = self.transmits.pop_front() {
            return Some(bytes);
        }
        if self.sent - self.acked >= MAX_UNACKED {
            return None;
        }
        self.next_batch().map(|batch| wire::encode(Body::Batch(batch)))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<HubEvent> {
        self.events.pop_front()
    }

    fn forget(&mut self, key: &ObjectKey) -> bool {
        // What a snapshot still has to send stays in it, as it will be then: to the node, an object
        // that a finished snapshot left out is gone.
        let Some(held) = self.view.remove(key) else { return false };
        self.digest.remove(key, held.hash);
        true
    }

    fn handle_body(&mut self, body: Body) -> Result<(), FrameError> {
        match body {
            Body::Hello(hello) => self.handle_hello(hello),
            Body::Have(have) => self.handle_have(have),
            Body::Ack(ack) => {
                if ack.number > self.sent {
                    return Err(FrameError::Malformed { what: "ack number" });
                }
                self.acked = self.acked.max(ack.number);
                Ok(())
            }
            Body::Report(report) => {
                let (seq, report) = report.into_parts()?;
                self.events.push_back(HubEvent::Report { seq, report });
                Ok(())
            }
            Body::Welcome(_) | Body::Batch(_) | Body::Done(_) => {
                Err(FrameError::Unexpected { frame: body.name() })
            }
        }
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), FrameError> {
        if !matches!(self.state, State::AwaitHello { .. }) {
            return Err(FrameError::Unexpected { frame: "Hello" });
        }
        if hello.protocol != wire::PROTOCOL {
            return Err(FrameError::Version { theirs: hello.protocol, ours: wire::PROTOCOL });
        }
        self.events.push_back(HubEvent::Hello {
            node: hello.node.clone(),
            epoch: hello.epoch(),
            revision: hello.revision,
        });
        if self.view_loaded {
            self.welcome(&hello);
        } else {
            self.state = State::AwaitView(hello);
        }
        Ok(())
    }

    fn welcome(&mut self, hello: &Hello) {
        let in_sync = hello.epoch() == Some(self.config.epoch) && hello.root == self.digest.root();
        let welcome = Welcome::new(self.config.epoch, self.revision, in_sync, self.unix_micros);
        self.transmits.push_back(wire::encode(Body::Welcome(welcome)));
        // What is dirty so far is covered by the comparison of digests.
        self.dirty.clear();
        self.state = if in_sync { State::Live } else { State::AwaitHave };
    }

    fn handle_have(&mut self, have: Have) -> Result<(), FrameError> {
        if !matches!(self.state, State::AwaitHave) {
            return Err(FrameError::Unexpected { frame: "Have" });
        }
        let theirs = ViewDigest::from_buckets(have.buckets)
            .ok_or(FrameError::Malformed { what: "bucket digests" })?;
        let buckets = self.digest.differing(&theirs);
        let remaining = self
            .view
            .keys()
            .filter(|key| {
                u32::try_from(digest::bucket(key))
                    .is_ok_and(|it| buckets.binary_search(&it).is_ok())
            })
            .cloned()
            .collect();
        self.state = State::Snapshot(Snapshot { remaining, announce: Some(buckets) });
        Ok(())
    }

    fn next_batch(&mut self) -> Option<Batch> {
        match &mut self.state {
            State::AwaitHello { .. } | State::AwaitView(_) | State::AwaitHave => None,
            State::Snapshot(snapshot) => {
                let announce = snapshot.announce.take();
                let changes = take_changes(&mut snapshot.remaining, &self.view);
                for change in &changes {
                    // Sent as it is now: not dirty any more.
                    self.dirty.remove(change.key());
                }
                let end = snapshot.remaining.is_empty();
                let begin = announce.is_some();
                if end {
                    self.state = State::Live;
                }
                Some(self.batch(changes, begin, announce.unwrap_or_default(), end))
            }
            State::Live => {
                let changes = take_changes(&mut self.dirty, &self.view);
                (!changes.is_empty()).then(|| self.batch(changes, false, Vec::new(), false))
            }
        }
    }

    fn batch(&mut self, changes: Vec<Change>, begin: bool, buckets: Vec<u32>, end: bool) -> Batch {
        self.sent += 1;
        let (changes, compressed) = wire::encode_changes(changes);
        Batch {
            number: self.sent,
            begin,
            buckets,
            end,
            revision: self.revision,
            compressed,
            changes,
        }
    }
}

/// Takes keys from `pending` until a batch is full.
fn take_changes(
    pending: &mut BTreeSet<ObjectKey>,
    view: &BTreeMap<ObjectKey, Held>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut size = 0;
    while size < BATCH_BYTES {
        let Some(key) = pending.pop_first() else { break };
        changes.push(match view.get(&key) {
            Some(held) => {
                size += held.object.body.len();
                let ViewObject { revision, body } = held.object.clone();
                Change::Upsert { key, revision, body }
            }
            None => Change::Delete { key },
        });
        size += 64;
    }
    changes
}
