//! What happens to the objects of a few kinds, taken in when somebody asks: what is decided from
//! it is never behind what readers see, and costs nothing while nothing changes.

use std::sync::Arc;

use hub_storage::{Entry, Event, Key, ListRequest, Prefix, Revision, Storage, Watch, WatchError};

/// A change of one kind.
#[derive(Debug)]
pub(super) enum Change {
    /// Everything of the kind is forgotten; what there is follows.
    Reset,
    /// The object is this now.
    Put(Arc<Entry>),
    /// The object is gone.
    Delete(Key),
}

/// Reads the kinds at these prefixes.
pub(super) struct Feed {
    storage: Arc<dyn Storage>,
    sources: Vec<(Prefix, Option<Watch>)>,
    seen: Option<Revision>,
}

impl Feed {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        prefixes: impl IntoIterator<Item = Prefix>,
    ) -> Self {
        let sources = prefixes.into_iter().map(|it| (it, None)).collect();
        Self { storage, sources, seen: None }
    }

    /// Whether anything was written since the last [`Self::drain`], of whatever kind.
    pub(super) fn is_behind(&self) -> bool {
        self.seen != Some(self.storage.revision())
    }

    /// Hands out all changes, with the index of their prefix.
    pub(super) fn drain(&mut self, mut apply: impl FnMut(usize, Change)) {
        // Looked at first: what comes in meanwhile is seen by the next one who asks.
        let seen = self.storage.revision();
        for (index, (prefix, watch)) in self.sources.iter_mut().enumerate() {
            if read(watch, &mut |change| apply(index, change)).is_err() {
                *watch = begin(&*self.storage, prefix, &mut |change| apply(index, change));
            }
        }
        self.seen = Some(seen);
    }
}

/// Takes what a watch has; an error if there is no watch, or no more of it.
fn read(watch: &mut Option<Watch>, apply: &mut dyn FnMut(Change)) -> Result<(), WatchError> {
    let watch = watch.as_mut().ok_or(WatchError::Closed)?;
    while let Some(event) = watch.try_next()? {
        apply(match &*event {
            Event::Put { entry, .. } => Change::Put(entry.clone()),
            Event::Delete { key, .. } => Change::Delete(key.clone()),
        });
    }
    Ok(())
}

fn begin(storage: &dyn Storage, prefix: &Prefix, apply: &mut dyn FnMut(Change)) -> Option<Watch> {
    // Refused only once the storage is closed: what was known is all that can be known then.
    let list = storage.list(&ListRequest::all(prefix.clone())).ok()?;
    let watch = storage.watch(prefix, list.revision).ok()?;
    apply(Change::Reset);
    for entry in list.entries {
        apply(Change::Put(entry));
    }
    Some(watch)
}
