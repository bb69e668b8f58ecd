//! Watches: every change of the selected objects, in order, each once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hub_api::{Resource, Status};
use hub_storage::{Entry, Event, Prefix, Revision, Watch, WatchError};

use super::{ListOptions, Registry, Selection, WatchOptions, prefix};

/// One change, as a watcher with a selector sees it.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new, or begins to match.
    Added(Arc<Entry>),
    /// The object matched and still does.
    Modified(Arc<Entry>),
    /// The object is gone, or matches no longer.
    Deleted {
        /// The object as it last matched.
        last: Arc<Entry>,
        /// The same with the revision of the change as `resourceVersion`.
        bytes: Bytes,
        /// The revision of the change.
        revision: Revision,
    },
    /// All that was there at the start has been sent.
    InitialEventsEnd(Revision),
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct RegistryWatch {
    initial: VecDeque<Arc<Entry>>,
    /// Set while the end of the initial events is still to be told.
    initial_end: Option<Revision>,
    live: Watch,
    selection: Selection,
    /// Events up to here are not wanted.
    floor: Revision,
    /// The resource, if it is a custom one: its objects are shown in its version.
    custom: Option<Arc<Resource>>,
    /// Who asks the webhook that converts the objects, if one does and the reader wants that.
    asks: Option<Registry>,
    /// Initial objects that are still as they are stored.
    unconverted: VecDeque<Arc<Entry>>,
    /// An event that is being converted.
    pending: Option<Arc<Event>>,
}

/// Initial objects that are converted in one go.
const CONVERTED_AT_ONCE: usize = 500;

impl Registry {
    /// As [`Self::watch`]; what a webhook has to convert is shown in the version of the resource.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub fn watch_converted(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<RegistryWatch, Status> {
        if super::custom::converting(resource).is_none() {
            return self.watch(resource, namespace, options);
        }
        let of_fields = options.selection.fields.required_value("metadata.namespace");
        let namespace = namespace.or_else(|| of_fields.filter(|_| resource.namespaced));
        // What is selected is the object as it is shown.
        let plain = WatchOptions { selection: Selection::default(), ..options.clone() };
        let watch = self.watch(resource, namespace, &plain)?;
        Ok(RegistryWatch {
            selection: options.selection.clone(),
            asks: Some(self.clone()),
            unconverted: watch.initial,
            initial: VecDeque::new(),
            ..watch
        })
    }

    /// Watches objects of one resource, in one namespace or in all.
    ///
    /// # Errors
    /// `Expired` if history does not reach back so far, `Timeout` if initial events are wanted of a
    /// future state.
    pub fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<RegistryWatch, Status> {
        let namespace = namespace.or_else(|| {
            let fields = &options.selection.fields;
            fields.required_value("metadata.namespace").filter(|_| resource.namespaced)
        });
        let prefix = prefix(resource, namespace);
        let wanted = options.revision.filter(|it| *it != 0).map(Revision::new);
        let with_state = options.initial_events.unwrap_or_else(|| wanted.is_none());
        if with_state {
            self.watch_with_state(resource, namespace, &prefix, wanted, options)
        } else {
            self.watch_after(resource, &prefix, wanted, options)
        }
    }

    fn watch_with_state(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        prefix: &Prefix,
        wanted: Option<Revision>,
        options: &WatchOptions,
    ) -> Result<RegistryWatch, Status> {
        let list_options = ListOptions {
            selection: options.selection.clone(),
            revision: wanted.map(Revision::get),
            ..ListOptions::default()
        };
        let list = self.list(resource, namespace, &list_options)?;
        let live = self.storage.watch(prefix, list.revision).map_err(refusal)?;
        Ok(RegistryWatch {
            initial: list.entries.into(),
            initial_end: (options.initial_events == Some(true)).then_some(list.revision),
            live,
            selection: options.selection.clone(),
            floor: list.revision,
            custom: custom(resource),
            asks: None,
            unconverted: VecDeque::new(),
            pending: None,
        })
    }

    fn watch_after(
        &self,
        resource: &Resource,
        prefix: &Prefix,
        wanted: Option<Revision>,
        options: &WatchOptions,
    ) -> Result<RegistryWatch, Status> {
        let current = self.storage.revision();
        let floor = wanted.unwrap_or(current);
        // A position ahead of us is waited for: events up to it are skipped when they come.
        let live = self.storage.watch(prefix, floor.min(current)).map_err(refusal)?;
        Ok(RegistryWatch {
            initial: VecDeque::new(),
            initial_end: None,
            live,
            selection: options.selection.clone(),
            floor,
            custom: custom(resource),
            asks: None,
            unconverted: VecDeque::new(),
            pending: None,
        })
    }
}

impl RegistryWatch {
    /// The next event; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// `Expired` if the reader was too slow: list again. `ServiceUnavailable` at shutdown.
    pub async fn next(&mut self) -> Result<WatchEvent, Status> {
        self.convert_initial().await?;
        if let Some(event) = self.next_initial() {
            return Ok(event);
        }
        loop {
            let event = match self.pending.clone() {
                Some(event) => event,
                None => self.live.next().await.map_err(refusal)?,
            };
            let Some(asks) = self.asks.clone() else {
                if let Some(event) = self.select(&event) {
                    return Ok(event);
                }
                continue;
            };
            // Kept until it is converted: who is cancelled here finds it again.
            self.pending = Some(event.clone());
            let converted = self.converted(&asks, &event).await?;
            self.pending = None;
            if let Some(event) = self.select(&converted) {
                return Ok(event);
            }
        }
    }

    async fn convert_initial(&mut self) -> Result<(), Status> {
        while self.initial.is_empty() && !self.unconverted.is_empty() {
            let Some(asks) = self.asks.clone() else { return Ok(()) };
            let n_taken = self.unconverted.len().min(CONVERTED_AT_ONCE);
            let taken = self.unconverted.iter().take(n_taken).cloned().collect();
            let shown = self.convert(&asks, taken).await?;
            self.unconverted.drain(..n_taken);
            let selection = &self.selection;
            self.initial.extend(shown.into_iter().filter(|it| selection.matches(&it.value())));
        }
        Ok(())
    }

    async fn convert(
        &self,
        asks: &Registry,
        entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let converting =
            self.custom.as_ref().and_then(|it| Some((it, super::custom::converting(it)?)));
        match converting {
            Some((resource, definition)) => {
                asks.convert_entries(resource, definition, entries).await
            }
            None => Ok(entries),
        }
    }

    /// The event with its objects in the version of the resource.
    async fn converted(&self, asks: &Registry, event: &Event) -> Result<Event, Status> {
        let lost = || Status::internal("a conversion lost its object");
        match event {
            Event::Put { entry, previous } => {
                let both = previous.iter().cloned().chain([entry.clone()]).collect();
                let mut shown = self.convert(asks, both).await?;
                let entry = shown.pop().ok_or_else(lost)?;
                Ok(Event::Put { entry, previous: shown.pop() })
            }
            Event::Delete { key, revision, previous, .. } => {
                let shown = self.convert(asks, vec![previous.clone()]).await?;
                let previous = shown.into_iter().next().ok_or_else(lost)?;
                let last = previous.stamped(*revision);
                Ok(Event::Delete { key: key.clone(), revision: *revision, previous, last })
            }
        }
    }

    /// The next event if there is one.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<WatchEvent>, Status> {
        if let Some(event) = self.next_initial() {
            return Ok(Some(event));
        }
        if self.asks.is_some() {
            // What comes now has to be converted, and that takes its time.
            return Ok(None);
        }
        while let Some(event) = self.live.try_next().map_err(refusal)? {
            if let Some(event) = self.select(&event) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The revision up to which everything was delivered; `None` while events are waiting.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn bookmark(&mut self) -> Result<Option<Revision>, Status> {
        let is_busy = !self.unconverted.is_empty() || self.pending.is_some();
        if is_busy || !self.initial.is_empty() || self.initial_end.is_some() {
            return Ok(None);
        }
        let synced = self.live.synced().map_err(refusal)?;
        Ok(synced.filter(|it| *it >= self.floor))
    }

    fn next_initial(&mut self) -> Option<WatchEvent> {
        if let Some(entry) = self.initial.pop_front() {
            return Some(WatchEvent::Added(entry));
        }
        if !self.unconverted.is_empty() {
            return None;
        }
        // A large first list is not carried along for the rest of the watch.
        self.initial.shrink_to_fit();
        self.initial_end.take().map(WatchEvent::InitialEventsEnd)
    }

    fn select(&self, event: &Event) -> Option<WatchEvent> {
        if event.revision() <= self.floor {
            return None;
        }
        let shown = |it: &Arc<Entry>| match &self.custom {
            Some(resource) => super::custom::shown(resource, it.clone()),
            None => it.clone(),
        };
        let everything = self.selection.is_everything();
        let matched = |entry: &Arc<Entry>| everything || self.selection.matches(&entry.value());
        match event {
            Event::Put { entry, previous } => {
                let before = previous.as_ref().filter(|it| matched(it));
                match (before, matched(entry)) {
                    (None, true) => Some(WatchEvent::Added(shown(entry))),
                    (Some(_), true) => Some(WatchEvent::Modified(shown(entry))),
                    (Some(last), false) => {
                        let last = shown(last);
                        let bytes = last.stamped(entry.revision);
                        Some(WatchEvent::Deleted { last, bytes, revision: entry.revision })
                    }
                    (None, false) => None,
                }
            }
            Event::Delete { revision, previous, last, .. } => matched(previous).then(|| {
                let shown = shown(previous);
                let is_same = Arc::ptr_eq(&shown, previous);
                let bytes = if is_same { last.clone() } else { shown.stamped(*revision) };
                WatchEvent::Deleted { last: shown, bytes, revision: *revision }
            }),
        }
    }
}

fn custom(resource: &Resource) -> Option<Arc<Resource>> {
    resource.custom.is_some().then(|| Arc::new(resource.clone()))
}

fn refusal(err: WatchError) -> Status {
    match err {
        WatchError::Compacted { after, oldest } => {
            Status::expired(format!("too old resource version: {after} ({oldest})"))
        }
        WatchError::Future { after, current } => {
            Status::timeout_rv_too_large(after.get(), current.get())
        }
        WatchError::Closed => Status::service_unavailable("the server is shutting down"),
    }
}
