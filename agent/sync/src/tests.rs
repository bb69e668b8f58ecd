//! Drives both ends with one clock over links that cut, delay and lose what is in flight.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const EPOCH: Epoch = Epoch(7);

/// A hub with its truth, a node with its ledger and outbox, and perhaps a link between them.
#[derive(Default)]
struct Pair {
    truth: BTreeMap<ObjectKey, (u64, Bytes)>,
    revision: u64,
    ledger: BTreeMap<ObjectKey, Bytes>,
    node_epoch: Option<Epoch>,
    node_revision: u64,
    complete: bool,
    outbox: BTreeMap<u64, ReportBody>,
    next_seq: u64,
    delivered: Vec<u64>,
    link: Option<Link>,
}

struct Link {
    hub: HubSession,
    node: NodeSession,
    to_node: VecDeque<u8>,
    to_hub: VecDeque<u8>,
    unpersisted: VecDeque<Persist>,
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Remove(u8),
    Report(u8),
    Connect,
    /// The link dies: everything in flight is lost.
    Cut,
    /// So many bytes travel to the node, to the hub.
    Carry(u16, u16),
    /// The ledger finishes one batch.
    Persist,
    /// The node loses power: what the ledger had not finished is gone.
    PowerCut,
}

fn key(n: u8) -> ObjectKey {
    ObjectKey::new("Pod", "default", format!("p{n}"))
}

impl Pair {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Put(n, content) => {
                self.revision += 1;
                let body = Bytes::from(vec![*content; 1 + usize::from(*n) * 40]);
                self.truth.insert(key(*n), (self.revision, body.clone()));
                let (revision, object) =
                    (self.revision, ViewObject { revision: self.revision, body });
                if let Some(link) = &mut self.link {
                    link.hub.upsert(key(*n), object);
                    link.hub.advance(revision, 0);
                }
            }
            Op::Remove(n) => {
                self.revision += 1;
                self.truth.remove(&key(*n));
                if let Some(link) = &mut self.link {
                    link.hub.delete(&key(*n));
                    link.hub.advance(self.revision, 0);
                }
            }
            Op::Report(n) => {
                self.next_seq += 1;
                let report = ReportBody {
                    kind: ReportKind::PodStatus,
                    key: key(*n),
                    uid: "u".into(),
                    body: Bytes::from_static(b"{}"),
                };
                self.outbox.insert(self.next_seq, report.clone());
                if let Some(link) = &mut self.link {
                    link.node.offer(self.next_seq, report);
                }
            }
            Op::Connect => self.connect(),
            Op::Cut | Op::PowerCut => self.link = None,
            Op::Carry(to_node, to_hub) => self.carry((*to_node).into(), (*to_hub).into()),
            Op::Persist => self.persist(),
        }
    }

    fn connect(&mut self) {
        let now = Duration::ZERO;
        let mut hub = HubSession::new(HubConfig { epoch: EPOCH }, now);
        for (key, (revision, body)) in &self.truth {
            hub.upsert(key.clone(), ViewObject { revision: *revision, body: body.clone() });
        }
        hub.advance(self.revision, 0);
        let view = self.ledger.iter().map(|(k, b)| (k.clone(), digest::object(k, b))).collect();
        let config = NodeConfig {
            node: "n".into(),
            epoch: self.node_epoch,
            revision: self.node_revision,
            view,
            accept_new_epoch: false,
        };
        let mut node = NodeSession::new(config, now);
        for (seq, report) in &self.outbox {
            node.offer(*seq, report.clone());
        }
        self.link = Some(Link {
            hub,
            node,
            to_node: VecDeque::new(),
            to_hub: VecDeque::new(),
            unpersisted: VecDeque::new(),
        });
    }

    fn carry(&mut self, to_node: usize, to_hub: usize) {
        let Some(link) = &mut self.link else { return };
        while let Some(bytes) = link.node.poll_transmit() {
            link.to_hub.extend(bytes);
        }
        while let Some(bytes) = link.hub.poll_transmit() {
            link.to_node.extend(bytes);
        }
        let n = to_node.min(link.to_node.len());
        let bytes: Vec<u8> = link.to_node.drain(..n).collect();
        link.node.handle_bytes(&bytes).unwrap();
        let n = to_hub.min(link.to_hub.len());
        let bytes: Vec<u8> = link.to_hub.drain(..n).collect();
        link.hub.handle_bytes(&bytes).unwrap();
        while let Some(event) = link.hub.poll_event() {
            if let HubEvent::Report { seq, .. } = event {
                self.delivered.push(seq);
                link.hub.done(seq);
            }
        }
        while let Some(event) = link.node.poll_event() {
            if let NodeEvent::Done { seq } = event {
                self.outbox.remove(&seq);
            }
        }
        while let Some(persist) = link.node.poll_persist() {
            link.unpersisted.push_back(persist);
        }
    }

    fn persist(&mut self) {
        let Some(link) = &mut self.link else { return };
        let Some(persist) = link.unpersisted.pop_front() else { return };
        for change in persist.changes {
            match change {
                Change::Upsert { key, body, .. } => {
                    self.ledger.insert(key, body);
                }
                Change::Delete { key } => {
                    // Absence is only ever reported for what is really gone or was replaced.
                    assert!(
                        !self.truth.contains_key(&key) || link.hub.poll_timeout().is_none(),
                        "{key} was deleted before the hub knew its view"
                    );
                    self.ledger.remove(&key);
                }
            }
        }
        self.node_epoch = Some(persist.epoch);
        assert!(persist.revision >= self.node_revision, "revision went backwards");
        self.node_revision = persist.revision;
        self.complete |= persist.complete;
        link.node.handle_persisted(persist.token);
    }

    fn settle(&mut self) {
        self.step(&Op::Cut);
        self.connect();
        for _ in 0..10_000 {
            self.carry(usize::MAX, usize::MAX);
            self.persist();
            if self.link.as_ref().is_some_and(|it| it.hub.is_settled() && it.node.is_live())
                && self.outbox.is_empty()
                && self.link.as_ref().is_some_and(|it| it.unpersisted.is_empty())
            {
                return;
            }
        }
        panic!("the pair did not settle");
    }

    fn ledger_matches_truth(&self) -> bool {
        self.ledger.len() == self.truth.len()
            && self.truth.iter().all(|(k, (_, body))| self.ledger.get(k) == Some(body))
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..24u8, any::<u8>()).prop_map(|(n, c)| Op::Put(n, c)),
        2 => (0..24u8).prop_map(Op::Remove),
        2 => (0..24u8).prop_map(Op::Report),
        1 => Just(Op::Connect),
        1 => Just(Op::Cut),
        8 => (0..900u16, 0..3000u16).prop_map(|(a, b)| Op::Carry(a, b)),
        6 => Just(Op::Persist),
        1 => Just(Op::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_agree_after_any_history(ops in proptest::collection::vec(op(), 1..120)) {
        let mut pair = Pair::default();
        for op in &ops {
            pair.step(op);
        }
        pair.settle();
        prop_assert!(pair.ledger_matches_truth());
        prop_assert!(pair.complete);
        for seq in 1..=pair.next_seq {
            prop_assert!(pair.delivered.contains(&seq), "report {} was lost", seq);
        }
    }

    #[test]
    fn no_bytes_of_a_peer_can_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut pair = Pair::default();
        pair.connect();
        if let Some(link) = &mut pair.link {
            // Either outcome is fine; dying is not.
            let _ignored = link.hub.handle_bytes(&bytes);
            let _ignored = link.node.handle_bytes(&bytes);
        }
    }
}

#[test]
fn reconnect_in_sync_sends_no_object() {
    let mut pair = Pair::default();
    for n in 0..20 {
        pair.step(&Op::Put(n, 1));
    }
    pair.settle();
    pair.step(&Op::Cut);
    pair.connect();
    let link = pair.link.as_mut().unwrap();
    let hello = link.node.poll_transmit().unwrap();
    link.hub.handle_bytes(&hello).unwrap();
    let mut size = hello.len();
    while let Some(bytes) = link.hub.poll_transmit() {
        size += bytes.len();
    }
    assert!(size < 128, "resuming cost {size} bytes");
}

#[test]
fn an_object_that_changes_while_a_snapshot_is_sent_is_never_absent() {
    // One object a batch, and more of them than may be in flight.
    let body = |content| Bytes::from(vec![content; 300 << 10]);
    let keys: Vec<ObjectKey> = (0..12).map(key).collect();
    let mut pair = Pair::default();
    for key in &keys {
        pair.ledger.insert(key.clone(), body(1));
        pair.truth.insert(key.clone(), (1, body(2)));
    }
    pair.connect();
    // Hello, Welcome, Have, and the first batches.
    for _ in 0..4 {
        pair.carry(usize::MAX, usize::MAX);
    }
    let link = pair.link.as_mut().unwrap();
    assert!((1..keys.len()).contains(&link.unpersisted.len()), "the snapshot is under way");
    for key in &keys {
        pair.truth.insert(key.clone(), (2, body(3)));
        link.hub.upsert(key.clone(), ViewObject { revision: 2, body: body(3) });
    }
    link.hub.advance(2, 0);
    for _ in 0..100 {
        pair.carry(usize::MAX, usize::MAX);
        let link = pair.link.as_ref().unwrap();
        for change in link.unpersisted.iter().flat_map(|it| &it.changes) {
            assert!(matches!(change, Change::Upsert { .. }), "{} was deleted", change.key());
        }
        pair.persist();
    }
    assert!(pair.complete && pair.ledger_matches_truth());
}

#[test]
fn another_epoch_is_refused_before_anything_changes() {
    let mut pair = Pair::default();
    pair.step(&Op::Put(1, 1));
    pair.settle();
    pair.node_epoch = Some(Epoch(8));
    pair.connect();
    let link = pair.link.as_mut().unwrap();
    let hello = link.node.poll_transmit().unwrap();
    link.hub.handle_bytes(&hello).unwrap();
    let welcome = link.hub.poll_transmit().unwrap();
    let err = link.node.handle_bytes(&welcome).unwrap_err();
    assert!(matches!(err, FrameError::EpochChanged { .. }), "{err}");
    assert!(link.node.poll_persist().is_none());
}

#[test]
fn a_restored_backup_is_refused_before_anything_changes() {
    let mut pair = Pair::default();
    for n in 0..9 {
        pair.step(&Op::Put(n, 1));
    }
    let (truth, revision) = (pair.truth.clone(), pair.revision);
    pair.step(&Op::Put(9, 1));
    pair.settle();
    (pair.truth, pair.revision) = (truth, revision);
    pair.connect();
    let link = pair.link.as_mut().unwrap();
    let hello = link.node.poll_transmit().unwrap();
    link.hub.handle_bytes(&hello).unwrap();
    let welcome = link.hub.poll_transmit().unwrap();
    let err = link.node.handle_bytes(&welcome).unwrap_err();
    assert!(matches!(err, FrameError::RolledBack { known: 10, offered: 9 }), "{err}");
    assert!(link.node.poll_persist().is_none());
}

#[test]
fn an_oversized_frame_is_refused_by_its_length() {
    let mut pair = Pair::default();
    pair.connect();
    let link = pair.link.as_mut().unwrap();
    let err = link.hub.handle_bytes(&u32::MAX.to_be_bytes()).unwrap_err();
    assert!(matches!(err, FrameError::TooLarge { .. }), "{err}");
}

#[test]
fn a_silent_peer_expires() {
    let mut pair = Pair::default();
    pair.connect();
    let link = pair.link.as_ref().unwrap();
    let deadline = link.node.poll_timeout().unwrap();
    assert!(!link.node.is_expired(deadline - Duration::from_millis(1)));
    assert!(link.node.is_expired(deadline));
    assert!(link.hub.is_expired(link.hub.poll_timeout().unwrap()));
}

#[test]
fn stream_frames_survive_any_cut() {
    use stream::{Channel, FrameDecoder, encode_frame};
    let big = vec![3u8; stream::MAX_PAYLOAD + 10];
    let mut bytes = Vec::new();
    encode_frame(Channel::Stdout, b"hello", &mut bytes);
    encode_frame(Channel::Stderr, &big, &mut bytes);
    encode_frame(Channel::CloseStdin, b"", &mut bytes);
    let mut decoder = FrameDecoder::default();
    let mut frames = Vec::new();
    for byte in bytes {
        decoder.push(&[byte]);
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
    }
    let sizes: Vec<_> = frames.iter().map(|(c, p)| (*c, p.len())).collect();
    assert_eq!(
        sizes,
        [
            (Channel::Stdout, 5),
            (Channel::Stderr, stream::MAX_PAYLOAD),
            (Channel::Stderr, 10),
            (Channel::CloseStdin, 0)
        ]
    );
}
