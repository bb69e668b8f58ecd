//! Feeds the cache from one watch of everything, across breaks of the connection and failures of members.

use std::{sync::Arc, time::Duration};

use super::{
    CALL_TIMEOUT, Store,
    load::{LoadError, load, parse_epoch},
    one,
    record::{RecordError, decode, number, revision},
    wire::{self, CallError, EventType, WatchCreateRequest, WatchEvent},
};
use crate::{Revision, cache::Change};

const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Why a watch does not go on.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    /// The connection broke, or the member has no leader: another may have.
    #[error(transparent)]
    Call(#[from] CallError),
    /// etcd has forgotten what came after our position.
    #[error("etcd has forgotten what happened meanwhile")]
    Forgotten,
    /// It is another etcd, or an older state of it.
    #[error("etcd went back")]
    WentBack,
    /// An object of another hub that this one cannot read.
    #[error("could not read {key}")]
    Record {
        key: String,
        #[source]
        err: RecordError,
    },
}

/// Follows for ever; ends with the cache closed when there is nothing left to follow.
pub(super) async fn run(store: Arc<Store>, mut position: i64) {
    let mut pause = MIN_PAUSE;
    let mut is_broken = false;
    loop {
        let mut began = || {
            pause = MIN_PAUSE;
            if std::mem::take(&mut is_broken) {
                tracing::info!("Following etcd again");
            }
        };
        let Err(mut err) = follow(&store, &mut position, &mut began).await;
        if matches!(err, FollowError::Forgotten) {
            match relist(&store).await {
                Ok(at) => position = at,
                Err(failed) => err = failed,
            }
        }
        match err {
            // Read again: it is followed from there.
            FollowError::Forgotten => {}
            FollowError::Call(err) => {
                if !std::mem::replace(&mut is_broken, true) {
                    tracing::warn!(error = %err, "etcd is out of reach; trying again");
                }
                store.members.pass_over();
            }
            FollowError::WentBack => return store.give_up(),
            FollowError::Record { key, err } => {
                tracing::error!(key, error = %err, "Could not read what another hub wrote; this hub stops");
                return store.cache.close();
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Follows until something breaks.
async fn follow(
    store: &Store,
    position: &mut i64,
    began: &mut (dyn FnMut() + Send),
) -> Result<std::convert::Infallible, FollowError> {
    let channel = store.members.channel();
    // A watch says nothing about a member's past: a watch beyond the end of history just waits.
    let newest = wire::range(&channel, one(store.layout.last()), CALL_TIMEOUT).await?;
    let header = newest.header.unwrap_or_default();
    if !store.is_same_history(&header, *position) {
        return Err(FollowError::WentBack);
    }
    let (key, range_end) = store.layout.everything();
    let request = WatchCreateRequest {
        key,
        range_end,
        start_revision: *position + 1,
        progress_notify: true,
        fragment: true,
    };
    let mut stream = wire::watch(&channel, request, CALL_TIMEOUT).await?;
    let mut events = Vec::new();
    loop {
        let message = stream.next().await?;
        if message.compact_revision > 0 {
            return Err(FollowError::Forgotten);
        }
        if message.canceled {
            return Err(CallError::Unreachable { reason: message.cancel_reason }.into());
        }
        if message.created {
            began();
            continue;
        }
        events.extend(message.events);
        if message.fragment {
            continue;
        }
        if events.is_empty() {
            // Nothing of ours happened up to here: it need not be looked through again.
            *position = (*position).max(message.header.unwrap_or_default().revision);
        } else {
            *position = absorb(store, std::mem::take(&mut events), *position)?;
        }
    }
}

/// Takes in what happened; the answer is how far that goes.
fn absorb(store: &Store, events: Vec<WatchEvent>, mut position: i64) -> Result<i64, FollowError> {
    let mut changes = Vec::new();
    let mut reached = Revision::ZERO;
    let (last, epoch) = (store.layout.last(), store.layout.epoch());
    for event in events {
        let is_delete = event.kind == i32::from(EventType::Delete);
        let Some(kv) = event.kv else { continue };
        position = position.max(kv.mod_revision);
        let at = revision(kv.mod_revision);
        let Some(key) = store.layout.object_key(&kv.key) else {
            if kv.key == last {
                reached = reached.max(at);
            } else if kv.key == epoch && (is_delete || parse_epoch(&kv.value) != Some(store.epoch))
            {
                // What nodes were told of the old history is not true in the new one.
                return Err(FollowError::WentBack);
            }
            continue;
        };
        reached = reached.max(at);
        if is_delete {
            changes.push(Change::Delete(key, at));
            continue;
        }
        match decode(&key, &kv, store.sealer.as_deref()) {
            Ok((entry, _)) => changes.push(Change::Put(Arc::new(entry))),
            Err(RecordError::Malformed) => {
                tracing::warn!(%key, "Left out what is not an object of a hub");
            }
            Err(err) => return Err(FollowError::Record { key: key.to_string(), err }),
        }
    }
    store.cache.absorb(changes, reached);
    Ok(position)
}

/// Begins the cache anew. Its watches end: they have missed something.
async fn relist(store: &Store) -> Result<i64, FollowError> {
    tracing::warn!("etcd has forgotten what happened meanwhile: reading everything again");
    let loaded = load(&store.members, &store.layout, store.sealer.as_deref()).await;
    let loaded = loaded.map_err(|err| match err {
        LoadError::Call(err) => FollowError::Call(err),
        LoadError::Record { key, err } => FollowError::Record { key, err },
    })?;
    // A snapshot can be restored with revisions that look newer than all that was ever there.
    let is_same = loaded.cluster == store.cluster && loaded.epoch == Some(store.epoch);
    if !is_same || loaded.at < number(store.cache.revision()) {
        return Err(FollowError::WentBack);
    }
    store.cache.reset(loaded.entries, loaded.revision);
    Ok(loaded.at)
}
