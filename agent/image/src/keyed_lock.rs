//! One lock for each digest that somebody works on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use crate::Digest;

#[derive(Debug, Default)]
pub(crate) struct KeyedLock {
    locks: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl KeyedLock {
    /// Waits until nobody else works on this digest.
    pub(crate) async fn lock(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let found = locks.get(digest).and_then(Weak::upgrade);
            found.unwrap_or_else(|| {
                let lock = Arc::default();
                locks.insert(digest.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
