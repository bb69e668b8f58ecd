//! Events are forgotten after a while: they tell what happened lately, not history.

use std::time::Duration;

use hub_api::{object, resources, time};
use hub_storage::{Condition, ListRequest, Txn, TxnError, Write};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::{Registry, prefix};
use crate::limits::{EVENT_TTL, EXPIRY_BATCH, EXPIRY_INTERVAL};

impl Registry {
    /// Deletes old events now and then, for ever. Of the hubs on one store one does it.
    pub async fn keep_events_short(&self) {
        let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let n_expired = self.expire_events(EVENT_TTL).await;
            tracing::debug!(n_expired, "Expired events");
        }
    }

    /// Deletes events that nothing was added to for `ttl`, and says how many. Counted from when
    /// they reached the hub: a node that was away for weeks can still tell what happened.
    pub async fn expire_events(&self, ttl: Duration) -> usize {
        let Some(resource) = resources::find("", "v1", "events") else { return 0 };
        let Ok(list) = self.storage.list(&ListRequest::all(prefix(resource, None))) else {
            return 0;
        };
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
        let oldest = self.now().saturating_sub(ttl).unwrap_or(Timestamp::MIN);
        // Decoded for this look alone: nobody else may ever ask for them.
        let mut old: Vec<_> =
            list.entries.into_iter().filter(|it| last_seen(&it.decode()) < Some(oldest)).collect();
        let mut n_expired = 0;
        while !old.is_empty() {
            let batch = old.split_off(old.len().saturating_sub(EXPIRY_BATCH));
            let mut txn = Txn::default();
            for entry in &batch {
                txn = txn
                    .when(Condition::Unchanged(entry.key.clone(), entry.revision))
                    .and(Write::Delete(entry.key.clone()));
            }
            match self.storage.txn(txn).await {
                Ok(_) => n_expired += batch.len(),
                // One of them was written meanwhile: the others go next time.
                Err(TxnError::Conflict { .. }) => {}
                // Closed, out of reach, or full: there is a next time.
                Err(_) => return n_expired,
            }
        }
        n_expired
    }
}

/// When something was last said about the event; nothing is before everything.
fn last_seen(event: &Value) -> Option<Timestamp> {
    ["metadata.creationTimestamp", "lastTimestamp", "series.lastObservedTime"]
        .into_iter()
        .filter_map(|path| time::parse(object::text(event, path)))
        .max()
}
