//! One reader of history.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{Event, Prefix, Revision, WatchCache, WatchError};

/// How many events are taken from the cache at once.
const BATCH: usize = 256;

/// Changes under a prefix, in order, each once, from a position on.
///
/// Cheap to hold: it keeps a position in shared history, not a queue. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    cache: Arc<WatchCache>,
    prefix: Prefix,
    /// Everything up to here was delivered or lies in `ready`.
    position: Revision,
    ready: VecDeque<Arc<Event>>,
    wake: watch::Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(
        cache: Arc<WatchCache>,
        prefix: Prefix,
        after: Revision,
        wake: watch::Receiver<Revision>,
    ) -> Self {
        Self { cache, prefix, position: after, ready: VecDeque::new(), wake }
    }

    /// The next event; waits for it. After an error the watch is over.
    ///
    /// Cancel-safe: an event is either returned or still to come.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            self.wake.changed().await.map_err(|_closed| WatchError::Closed)?;
        }
    }

    /// The next event if there is one.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchError> {
        if self.ready.is_empty() {
            // Seen before looked: a change in between wakes us again.
            self.wake.borrow_and_update();
            self.position =
                self.cache.events_after(&self.prefix, self.position, BATCH, &mut self.ready)?;
        }
        Ok(self.ready.pop_front())
    }

    /// The revision up to which every event was delivered, for a bookmark; `None` while events are waiting.
    pub fn synced(&mut self) -> Result<Option<Revision>, WatchError> {
        if self.ready.is_empty() {
            self.position =
                self.cache.events_after(&self.prefix, self.position, BATCH, &mut self.ready)?;
        }
        if self.ready.is_empty() {
            // What a busy moment took is not carried along for the rest of an idle watch.
            self.ready = VecDeque::new();
        }
        Ok(self.ready.is_empty().then_some(self.position))
    }
}
