//! Turns the hub's watches into changes of the nodes' views.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent_sync::ObjectKey;
use hub_storage::{
    Entry, Event, Key, ListError, ListRequest, Prefix, Revision, Storage, WatchError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Fleet, State, ToSession, join::removed, listener::CLOSE_REFUSED, view::Addressed};

/// Kinds that nodes may see: storage group, plural, kind.
const KINDS: [(&str, &str, &str); 6] = [
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
    for (kind, position) in KINDS.into_iter().zip(positions) {
        let (fleet, storage, shutdown) = (fleet.clone(), storage.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = follow(&fleet, &*storage, kind, position) => {}
                // Dropping a watch loses nothing: the index is rebuilt from storage.
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn follow(
    fleet: &Fleet,
    storage: &dyn Storage,
    kind: (&'static str, &'static str, &'static str),
    mut position: Result<Revision, ListError>,
) {
    loop {
        let err = match position {
            Ok(after) => match drain(fleet, storage, kind, after).await {
                WatchError::Closed => return,
                err @ (WatchError::Compacted { .. } | WatchError::Future { .. }) => err.to_string(),
            },
            Err(err) => err.to_string(),
        };
        tracing::warn!(plural = kind.1, error = err, "Listed again for the nodes' views");
        tokio::time::sleep(RELIST_PAUSE).await;
        position = relist(fleet, storage, kind);
    }
}

async fn drain(
    fleet: &Fleet,
    storage: &dyn Storage,
    kind: (&'static str, &'static str, &'static str),
    after: Revision,
) -> WatchError {
    let mut watch = match storage.watch(&Prefix::all(kind.0, kind.1), after) {
        Ok(watch) => watch,
        Err(err) => return err,
    };
    loop {
        let mut next = match watch.next().await {
            Ok(event) => Some(event),
            Err(err) => return err,
        };
        let mut state = fleet.lock();
        // Everything that is ready in one go: one wake-up of the sessions, not one an event.
        while let Some(event) = next {
            state.apply(kind.2, &event);
            next = match watch.try_next() {
                Ok(event) => event,
                Err(err) => return err,
            };
        }
        state.announce();
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
        let changes = self.index.put(key, entry.revision.get(), entry.value());
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
