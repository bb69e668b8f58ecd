//! Forgets history in etcd, so that it does not grow without end.

use std::{sync::Arc, time::Duration};

use super::{
    CALL_TIMEOUT, Store, one,
    wire::{self, CallError, Compare, Op, PutRequest, TxnRequest},
};

/// History in etcd is forgotten this often, up to where it was forgotten last but one: as Kubernetes' API server does.
const COMPACT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Forgets history in etcd: one of the hubs does it, once in the interval, whoever comes first.
pub(super) async fn run(store: Arc<Store>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(COMPACT_INTERVAL).await;
        match compact(&store, seen).await {
            Ok(now) => seen = Some(now),
            Err(err) => tracing::warn!(error = %err, "Could not compact etcd's history"),
        }
    }
}

/// What a hub knows of the last compaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    /// Of the record of the last one; zero if there is none.
    pub(super) record: i64,
    /// etcd's own at that look.
    pub(super) at: i64,
}

/// Compacts up to where etcd stood at the look before, if nobody else has done so since.
pub(super) async fn compact(
    store: &Store,
    seen: Option<Compaction>,
) -> Result<Compaction, CallError> {
    let key = store.layout.compact();
    let channel = store.members.channel();
    let look = |at: i64, kv: Option<&wire::KeyValue>| Compaction {
        record: kv.map_or(0, |it| it.mod_revision),
        at,
    };
    let Some(seen) = seen else {
        let found = wire::range(&channel, one(key), CALL_TIMEOUT).await?;
        let at = found.header.unwrap_or_default().revision;
        return Ok(look(at, found.kvs.first()));
    };
    let value = seen.at.to_string().into();
    let request = TxnRequest {
        compare: vec![Compare::unchanged(key.clone(), seen.record)],
        success: vec![Op::Put(PutRequest { key: key.clone(), value }).into()],
        failure: vec![Op::Range(one(key)).into()],
    };
    let response = wire::txn(&channel, request, CALL_TIMEOUT).await?;
    let at = response.header.unwrap_or_default().revision;
    if !response.succeeded {
        let range = response.responses.into_iter().next().and_then(|it| it.range);
        return Ok(look(at, range.and_then(|it| it.kvs.into_iter().next()).as_ref()));
    }
    let request = wire::CompactionRequest { revision: seen.at };
    match wire::compact(&channel, request, CALL_TIMEOUT).await {
        // Whoever else uses this etcd has gone further.
        Ok(_) | Err(CallError::Compacted) => {}
        Err(err) => return Err(err),
    }
    tracing::debug!(revision = seen.at, "Compacted etcd's history");
    Ok(Compaction { record: at, at })
}
