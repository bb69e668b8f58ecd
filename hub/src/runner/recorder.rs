//! Records events for users: repetitions are counted, floods are cut short.
//!
//! Events are a courtesy. They never hold up anything, and are dropped rather than queued without end.

mod correlate;

use std::sync::Arc;

use futures_util::future::join_all;
use hub_api::{Clock, Resource, resources};
use hub_apiserver::auth::User;
use hub_apiserver::{Registry, WriteOptions};
use hub_controllers::{Note, value::time_text};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::correlate::{Correlator, Entry};
use super::execute::unversioned;

const QUEUE: usize = 4096;
const BATCH: usize = 128;

/// Takes events. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    notes: mpsc::Sender<(&'static str, Note)>,
}

impl Recorder {
    /// Records what `component` has to say.
    pub(super) fn record(&self, component: &'static str, note: Note) {
        if self.notes.try_send((component, note)).is_err() {
            tracing::debug!("Dropped an event, there are too many");
        }
    }
}

/// Writes the events; ends when the last recorder is gone and all is written.
pub(super) struct Recording {
    notes: mpsc::Receiver<(&'static str, Note)>,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

pub(super) fn channel(registry: Registry, clock: Arc<dyn Clock>) -> (Recorder, Recording) {
    let (notes_tx, notes) = mpsc::channel(QUEUE);
    (Recorder { notes: notes_tx }, Recording { notes, registry, clock })
}

impl Recording {
    pub(super) async fn run(mut self) {
        let Some(resource) = resources::find("", "v1", "events") else { return };
        let mut correlator = Correlator::default();
        let mut batch = Vec::new();
        while self.notes.recv_many(&mut batch, BATCH).await > 0 {
            let now = self.clock.now();
            for (component, note) in batch.drain(..) {
                correlator.add(component, note, now);
            }
            let entries = correlator.take_changed();
            join_all(entries.iter().map(|entry| self.write(resource, entry))).await;
        }
    }

    async fn write(&self, resource: &Resource, entry: &Entry) {
        let namespace = Some(entry.note.namespace());
        let options = WriteOptions {
            field_manager: entry.component.to_owned(),
            user: Arc::new(User::named(format!(
                "system:serviceaccount:kube-system:{}",
                entry.component
            ))),
            ..WriteOptions::default()
        };
        if entry.count > 1 {
            let change = |event: &Value, _whole: &Value| {
                let mut event = unversioned(event);
                event["count"] = json!(entry.count);
                event["lastTimestamp"] = json!(time_text(entry.last));
                event["message"] = json!(entry.note.message);
                Ok(event)
            };
            let name = &entry.name;
            let counted =
                self.registry.modify(resource, namespace, name, None, &options, change).await;
            if counted.is_ok() {
                return;
            }
        }
        let event =
            entry.note.to_event(&entry.name, entry.component, entry.count, entry.first, entry.last);
        if let Err(status) = self.registry.create(resource, namespace, event, &options).await {
            tracing::debug!(
                event = entry.name,
                error = status.message,
                "Could not record an event"
            );
        }
    }
}
