//! The catalog as the stored definitions make it.
//!
//! Nobody tells of changes: whoever asks for the catalog reads what happened to the definitions
//! since it was asked for last. So a definition counts from the moment on at which its write is
//! acknowledged, whoever wrote it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_api::{Catalog, Resource};
use hub_storage::{Entry, Event, ListRequest, Prefix, Storage, Watch};

pub(super) const GROUP: &str = "apiextensions.k8s.io";
pub(super) const PLURAL: &str = "customresourcedefinitions";

/// The definitions, followed.
#[derive(Default)]
pub(super) struct Definitions(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` before the first look, and after history was forgotten faster than we looked.
    watch: Option<Watch>,
    rows: BTreeMap<String, Vec<Resource>>,
    catalog: Option<Arc<Catalog>>,
    number: u64,
}

impl Definitions {
    pub(super) fn catalog(&self, storage: &dyn Storage) -> Arc<Catalog> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = state.follow(storage);
        match &state.catalog {
            Some(catalog) if !has_changed => catalog.clone(),
            Some(_) | None => state.make(),
        }
    }
}

impl State {
    /// Takes in what happened. Returns whether something did.
    fn follow(&mut self, storage: &dyn Storage) -> bool {
        let mut has_changed = false;
        while let Some(watch) = &mut self.watch {
            match watch.try_next() {
                Ok(Some(event)) => {
                    has_changed = true;
                    self.take(&event);
                }
                Ok(None) => return has_changed,
                Err(_) => self.watch = None,
            }
        }
        self.list(storage);
        true
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Put { entry, .. } => self.put(entry),
            Event::Delete { key, .. } => {
                self.rows.remove(key.name());
            }
        }
    }

    fn list(&mut self, storage: &dyn Storage) {
        let prefix = Prefix::all(GROUP, PLURAL);
        let Ok(list) = storage.list(&ListRequest::all(prefix.clone())) else { return };
        self.rows.clear();
        for entry in &list.entries {
            self.put(entry);
        }
        // Without a watch, the next look lists again.
        self.watch = storage.watch(&prefix, list.revision).ok();
    }

    fn put(&mut self, entry: &Entry) {
        let rows = hub_api::custom::rows(&entry.value(), entry.revision.get());
        self.rows.insert(entry.key.name().to_owned(), rows);
    }

    fn make(&mut self) -> Arc<Catalog> {
        self.number += 1;
        let others = self.rows.values().flatten().cloned().collect();
        let catalog = Arc::new(Catalog::with(others, self.number));
        self.catalog = Some(catalog.clone());
        catalog
    }
}
