//! Transactions: conditions and writes become one of etcd's, and its answer becomes ours.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    CALL_TIMEOUT, SETTLE_TIMEOUT, Store, one,
    record::{decode, encode, number, revision},
    wire::{
        self, CallError, Compare, DeleteRangeRequest, KeyValue, Op, PutRequest, RequestOp,
        ResponseOp, TxnRequest,
    },
};
use crate::{Committed, Condition, Entry, Key, Revision, Txn, TxnError, Write};

/// etcd's `--max-txn-ops`: so many conditions, and so many writes with our own.
const MAX_OPS: usize = 128;
/// Transactions on their way at once.
const MAX_IN_FLIGHT: usize = 1024;

/// A transaction to be made.
pub(super) struct Job {
    pub(super) txn: Txn,
    pub(super) answer: oneshot::Sender<Result<Committed, TxnError>>,
}

/// Makes transactions, many at a time. When the storage closes, what was begun is finished.
pub(super) async fn run(
    store: Arc<Store>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    closing: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut running = JoinSet::new();
    loop {
        // Each arm is cancel-safe: a job is taken or still in the queue.
        let job = tokio::select! {
            job = jobs.recv() => job,
            Some(_) = running.join_next() => continue,
            () = closing.cancelled() => {
                jobs.close();
                break;
            }
        };
        let Some(job) = job else { break };
        start(&store, &places, &mut running, job).await;
    }
    while let Some(job) = jobs.recv().await {
        start(&store, &places, &mut running, job).await;
    }
    while running.join_next().await.is_some() {}
}

async fn start(
    store: &Arc<Store>,
    places: &Arc<Semaphore>,
    running: &mut JoinSet<()>,
    Job { txn, answer }: Job,
) {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await;
    let store = store.clone();
    running.spawn(async move {
        let result = commit(&store, txn).await;
        drop(place);
        // The caller may have gone; the write stands.
        let _ = answer.send(result);
    });
}

/// What must hold of one key.
struct Check {
    key: Key,
    wanted: Wanted,
}

enum Wanted {
    Absent,
    /// For deletions: the key must be there.
    Present,
    At(Revision),
}

impl Check {
    fn compare(&self, store: &Store) -> Compare {
        let key = store.layout.object(&self.key);
        match self.wanted {
            Wanted::Absent => Compare::absent(key),
            Wanted::Present => Compare::present(key),
            Wanted::At(revision) => Compare::unchanged(key, number(revision)),
        }
    }

    fn holds(&self, found: Option<&KeyValue>) -> bool {
        match self.wanted {
            Wanted::Absent => found.is_none(),
            Wanted::Present => found.is_some(),
            Wanted::At(wanted) => found.is_some_and(|it| revision(it.mod_revision) == wanted),
        }
    }
}

fn checks(txn: &Txn) -> Vec<Check> {
    let conditions = txn.conditions.iter().map(|condition| match condition {
        Condition::Absent(key) => Check { key: key.clone(), wanted: Wanted::Absent },
        Condition::Unchanged(key, at) => Check { key: key.clone(), wanted: Wanted::At(*at) },
    });
    let deletions = txn.writes.iter().filter_map(|write| match write {
        Write::Delete(key) => Some(Check { key: key.clone(), wanted: Wanted::Present }),
        Write::Put(..) => None,
    });
    let mut checks: Vec<Check> = conditions.collect();
    for deletion in deletions {
        // What is unchanged is there.
        let known = |it: &Check| {
            it.key == deletion.key && matches!(it.wanted, Wanted::At(_) | Wanted::Present)
        };
        if !checks.iter().any(known) {
            checks.push(deletion);
        }
    }
    checks
}

fn writes(store: &Store, txn: &Txn) -> Vec<RequestOp> {
    let mut ops: Vec<RequestOp> = txn
        .writes
        .iter()
        .map(|write| match write {
            Write::Put(key, body) => {
                let value = encode(key, body, store.sealer.as_deref());
                Op::Put(PutRequest { key: store.layout.object(key), value }).into()
            }
            Write::Delete(key) => {
                Op::Delete(DeleteRangeRequest { key: store.layout.object(key) }).into()
            }
        })
        .collect();
    if !ops.is_empty() {
        ops.push(Op::Put(PutRequest { key: store.layout.last(), value: Bytes::new() }).into());
    }
    ops
}

async fn commit(store: &Store, txn: Txn) -> Result<Committed, TxnError> {
    let checks = checks(&txn);
    let success = writes(store, &txn);
    for n in [checks.len() + 1, success.len()] {
        if n > MAX_OPS {
            return Err(TxnError::TooMany { n: n - 1, limit: MAX_OPS - 1 });
        }
    }
    // Also says how far the own cache must come before it makes sense to look again.
    let looks = checks.iter().map(|it| store.layout.object(&it.key)).chain([store.layout.last()]);
    let request = TxnRequest {
        compare: checks.iter().map(|it| it.compare(store)).collect(),
        success,
        failure: looks.map(|key| Op::Range(one(key)).into()).collect(),
    };
    // Conditions that a cache of another history fills may hold by chance.
    if store.cache.is_closed() {
        return Err(TxnError::Closed);
    }
    let known = number(store.cache.revision());
    let size = prost::Message::encoded_len(&request);
    let response = wire::txn(&store.members.channel(), request, CALL_TIMEOUT).await;
    let response = response.map_err(|err| refusal(err, &txn, size))?;
    let header = response.header.unwrap_or_default();
    if !store.is_same_history(&header, known) {
        store.give_up();
        return Err(TxnError::Closed);
    }
    if !response.succeeded {
        return Err(conflict(store, &checks, response.responses).await);
    }
    if txn.writes.is_empty() {
        return Ok(Committed { revision: store.cache.revision(), entries: Vec::new() });
    }
    let at = revision(header.revision);
    let written = txn.writes.into_iter().filter_map(|write| match write {
        Write::Put(key, body) => {
            let created = store.cache.get(&key).map_or(at, |it| it.created);
            Some(Entry::written(key, at, created, &body))
        }
        Write::Delete(_) => None,
    });
    let written: Vec<Arc<Entry>> = written.collect();
    store.reached(at, SETTLE_TIMEOUT).await;
    // The cache's own are shared with other readers, and know when the object was created.
    let shared = |entry: Arc<Entry>| {
        let cached = store.cache.get(&entry.key).filter(|it| it.revision == at);
        cached.unwrap_or(entry)
    };
    Ok(Committed { revision: at, entries: written.into_iter().map(shared).collect() })
}

/// Which condition did not hold, and what is there instead.
async fn conflict(store: &Store, checks: &[Check], responses: Vec<ResponseOp>) -> TxnError {
    let found = responses.into_iter().map(|it| it.range.and_then(|it| it.kvs.into_iter().next()));
    let mut found: Vec<Option<KeyValue>> = found.collect();
    let last = found.pop().flatten();
    let failed = checks.iter().zip(&found).find(|(check, found)| !check.holds(found.as_ref()));
    let Some((check, found)) = failed else {
        return TxnError::Unreachable { reason: "etcd's answer fits no condition".to_owned() };
    };
    let current = found.as_ref().and_then(|kv| {
        decode(&check.key, kv, store.sealer.as_deref()).ok().map(|(entry, _)| Arc::new(entry))
    });
    if let Some(last) = last {
        store.reached(revision(last.mod_revision), SETTLE_TIMEOUT).await;
    }
    TxnError::Conflict { key: check.key.clone(), current }
}

fn refusal(err: CallError, txn: &Txn, size: usize) -> TxnError {
    match err {
        CallError::TimedOut => TxnError::TimedOut,
        CallError::TooLarge => match txn.writes.first() {
            Some(Write::Put(key, _) | Write::Delete(key)) => {
                TxnError::TooLarge { key: key.clone(), size, limit: LIMIT_OF_ETCD }
            }
            None => TxnError::Refused { reason: CallError::TooLarge.to_string() },
        },
        CallError::Unreachable { reason } => TxnError::Unreachable { reason },
        other @ (CallError::Compacted | CallError::Refused { .. }) => {
            TxnError::Refused { reason: other.to_string() }
        }
    }
}

/// etcd's `--max-request-bytes`, unless it was told otherwise.
const LIMIT_OF_ETCD: usize = 3 << 19;
