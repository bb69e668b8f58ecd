//! Turns the hub's watches into changes of the nodes' views.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent_sync::ObjectKey;
use hub_storage::{
    Entry, Event, Key, ListError, ListRequest, Prefix, Revision, Storage, WatchError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Fleet, State, ToSession, join::removed, listener::CLOSE_REFUSED, view::Addressed};

pub(super) const N_KINDS: usize = 6;

/// Kinds that nodes may see: storage group, plural, kind.
const KINDS: [(&str, &str, &str); N_KINDS] = [
    ("core", "configmaps", "ConfigMap"),
    ("core", "nodes", "Node"),
    ("core", "pods", "Pod"),
    ("core", "secrets", "Secret"),
    ("core", "services", "Service"),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice"),
];

/// Between two lists of a kind whose watch keeps failing.
const RELIST_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn spawn(
    fleet: &Arc<Fleet>,
    storage: &Arc<dyn Storage>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    // Lists first, all of them: a session must never take half a view for the whole one.
    let positions = KINDS.map(|kind| relist(fleet, &**storage, kind));
    fleet.primed.send_replace(true);
    for (number, (kind, position)) in KINDS.into_iter().zip(positions).enumerate() {
        let feed = Feed { number, kind };
        let (fleet, storage, shutdown) = (fleet.clone(), storage.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = follow(&fleet, &*storage, feed, position) => {}
                // Dropping a watch loses nothing: the index is rebuilt from storage.
                () = shutdown.cancelled() => {}
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Feed {
    number: usize,
    kind: (&'static str, &'static str, &'static str),
}

impl Fleet {
    /// Waits until the views hold every change up to a revision that readers can see. Then it may be told to nodes: one
    /// that was connected to another hub must not find this one behind.
    pub(super) async fn fed_to(&self, revision: Revision) {
        let mut fed = self.fed.subscribe();
        self.asked.send_replace(());
        // The sender lives as long as this fleet.
        let _reached = fed.wait_for(|it| it.iter().all(|it| *it >= revision.get())).await;
        let mut state = self.lock();
        state.revision = state.revision.max(revision.get());
    }

    fn is_fed(&self, feed: Feed, position: Revision) {
        self.fed.send_modify(|it| {
            if let Some(it) = it.get_mut(feed.number) {
                *it = (*it).max(position.get());
            }
        });
    }
}

async fn follow(
    fleet: &Fleet,
    storage: &dyn Storage,
    feed: Feed,
    mut position: Result<Revision, ListError>,
) {
    loop {
        let err = match position {
            Ok(after) => match drain(fleet, storage, feed, after).await {
                WatchError::Closed => return,
                err @ (WatchError::Compacted { .. } | WatchError::Future { .. }) => err.to_string(),
            },
            Err(err) => err.to_string(),
        };
        tracing::warn!(plural = feed.kind.1, error = err, "Listed again for the nodes' views");
        tokio::time::sleep(RELIST_PAUSE).await;
        position = relist(fleet, storage, feed.kind);
    }
}

async fn drain(fleet: &Fleet, storage: &dyn Storage, feed: Feed, after: Revision) -> WatchError {
    let (group, plural, kind) = feed.kind;
    let mut watch = match storage.watch(&Prefix::all(group, plural), after) {
        Ok(watch) => watch,
        Err(err) => return err,
    };
    let mut asked = fleet.asked.subscribe();
    asked.mark_changed();
    loop {
        // Both arms are cancel-safe: an event is returned or still to come, and so is a question.
        let mut next = tokio::select! {
            event = watch.next() => match event {
                Ok(event) => Some(event),
                Err(err) => return err,
            },
            // The sender lives as long as the fleet.
            _ = asked.changed() => match watch.try_next() {
                Ok(event) => event,
                Err(err) => return err,
            },
        };
        if next.is_some() {
            let mut state = fleet.lock();
            // Everything that is ready in one go: one wake-up of the sessions, not one an event.
            while let Some(event) = next {
                state.apply(kind, &event);
                next = match watch.try_next() {
                    Ok(event) => event,
                    Err(err) => return err,
                };
            }
            state.announce();
        }
        match watch.synced() {
            Ok(Some(position)) => fleet.is_fed(feed, position),
            // More came meanwhile.
            Ok(None) => {}
            Err(err) => return err,
        }
    }
}

fn relist(
    fleet: &Fleet,
    storage: &dyn Storage,
    (group, plural, kind): (&'static str, &'static str, &'static str),
) -> Result<Revision, ListError> {
    let list = storage.list(&ListRequest::all(Prefix::all(group, plural)))?;
    let mut state = fleet.lock();
    let mut gone: BTreeSet<ObjectKey> = state.index.keys_of(kind).cloned().collect();
    for entry in &list.entries {
        gone.remove(&object_key(kind, &entry.key));
        state.put(kind, entry);
    }
    for key in gone {
        state.remove(&key);
    }
    state.revision = state.revision.max(list.revision.get());
    state.announce();
    Ok(list.revision)
}

fn object_key(kind: &str, key: &Key) -> ObjectKey {
    ObjectKey::new(kind, key.namespace().unwrap_or_default(), key.name())
}

impl State {
    fn apply(&mut self, kind: &str, event: &Event) {
        match event {
            Event::Put { entry, .. } => self.put(kind, entry),
            Event::Delete { key, revision, .. } => {
                self.revision = self.revision.max(revision.get());
                self.remove(&object_key(kind, key));
            }
        }
    }

    fn put(&mut self, kind: &str, entry: &Entry) {
        let key = object_key(kind, &entry.key);
        let changes = self.index.put(key, entry.revision.get(), &entry.value());
        self.revision = self.revision.max(entry.revision.get());
        self.send(changes);
    }

    fn remove(&mut self, key: &ObjectKey) {
        let changes = self.index.remove(key);
        self.send(changes);
        if key.kind == "Node"
            && let Some(session) = self.sessions.get(&key.name)
        {
            // Whose Node object is gone is locked out. The session takes itself out of the table.
            session.connection.close(CLOSE_REFUSED, removed(&key.name).as_bytes());
        }
    }

    fn send(&self, changes: Addressed) {
        for (node, change) in changes {
            match node {
                Some(node) => {
                    if let Some(session) = self.sessions.get(&node) {
                        session.send(ToSession::Change(change));
                    }
                }
                None => {
                    for session in self.sessions.values() {
                        session.send(ToSession::Change(change.clone()));
                    }
                }
            }
        }
    }

    fn announce(&self) {
        for session in self.sessions.values() {
            session.send(ToSession::Revision(self.revision));
        }
    }
}
