//! Events in the forms in which watchers want them, each made once and shared.
//!
//! What is stored is shared as it is. Tables, metadata and other versions have to be made of the decoded object; the
//! first watcher that comes to an event makes them, the others find them here. Bounded: what is older than the latest few
//! thousand is made again for whoever is so late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hub_api::Resource;
use hub_api::table::IncludeObject;
use hub_storage::{Key, Revision};

/// Encoded bytes that are kept, at most.
const KEPT_BYTES: usize = 4 << 20;

/// In what form.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Shape {
    /// The whole object, in another version than it is stored in.
    Object,
    /// Its metadata.
    Metadata { beta: bool },
    /// A table of one row. It tells ages, so it is good for one second.
    Table { beta: bool, include: IncludeObject, columns: bool, second: i64 },
}

/// Which event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which<'a> {
    pub(super) resource: &'a Arc<Resource>,
    pub(super) key: &'a Key,
    pub(super) revision: Revision,
    /// Whether it shows what was before the revision.
    pub(super) deleted: bool,
}

/// Revision, what it shows, form, and the address of the resource, which the entry keeps alive.
type Name = (Revision, bool, Shape, usize);

#[derive(Debug)]
struct Encoding {
    /// Keeps its address from being another's.
    _resource: Arc<Resource>,
    key: Key,
    bytes: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Encodings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    encodings: BTreeMap<Name, Encoding>,
    order: VecDeque<Name>,
    bytes: usize,
}

impl Encodings {
    /// The event in this form, as another watcher had it made, or as `make` makes it.
    pub(super) fn get(
        &self,
        which: Which<'_>,
        shape: Shape,
        make: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let address = Arc::as_ptr(which.resource).addr();
        let name = (which.revision, which.deleted, shape, address);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.encodings.get(&name).filter(|it| it.key == *which.key);
        if let Some(found) = found {
            return found.bytes.clone();
        }
        drop(kept);
        // Two may make it at the same time; nobody waits for another.
        let bytes = make();
        let (resource, key) = (which.resource.clone(), which.key.clone());
        let encoding = Encoding { _resource: resource, key, bytes: bytes.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(name, encoding);
        bytes
    }
}

impl Kept {
    fn keep(&mut self, name: Name, encoding: Encoding) {
        self.bytes += encoding.bytes.len();
        match self.encodings.insert(name, encoding) {
            Some(old) => self.bytes -= old.bytes.len(),
            None => self.order.push_back(name),
        }
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.encodings.remove(&oldest).map_or(0, |it| it.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn pods() -> Arc<Resource> {
        Arc::new(hub_api::resources::find("", "v1", "pods").unwrap().clone())
    }

    #[test]
    fn each_form_of_an_event_is_made_once() {
        let (encodings, pods, made) = (Encodings::default(), pods(), Cell::new(0));
        let key = Key::new("core", "pods", Some("d"), "a");
        let get = |resource: &Arc<Resource>, key: &Key, revision, deleted, shape| {
            let which = Which { resource, key, revision: Revision::new(revision), deleted };
            encodings.get(which, shape, || {
                made.set(made.get() + 1);
                Bytes::from(made.get().to_string())
            })
        };
        let table = |second| Shape::Table {
            beta: false,
            include: IncludeObject::Metadata,
            columns: false,
            second,
        };
        let metadata = Shape::Metadata { beta: false };
        let other = Key::new("core", "pods", Some("d"), "b");
        let pods_again = Arc::new((*pods).clone());
        for _ in 0..2 {
            assert_eq!(get(&pods, &key, 1, false, metadata), "1");
        }
        // Each of these shows something else.
        assert_eq!(get(&pods, &key, 1, false, Shape::Metadata { beta: true }), "2");
        assert_eq!(get(&pods, &key, 1, true, metadata), "3");
        assert_eq!(get(&pods, &key, 2, false, metadata), "4");
        assert_eq!(get(&pods, &other, 1, false, metadata), "5");
        assert_eq!(get(&pods_again, &other, 1, false, metadata), "6");
        assert_eq!(get(&pods, &key, 1, false, table(1)), "7");
        assert_eq!(get(&pods, &key, 1, false, table(1)), "7");
        assert_eq!(get(&pods, &key, 1, false, table(2)), "8");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut kept, pods) = (Kept::default(), pods());
        let encoding = |size: usize| Encoding {
            _resource: pods.clone(),
            key: Key::new("core", "pods", Some("d"), "a"),
            bytes: vec![0; size].into(),
        };
        for revision in 0..10_000 {
            let name = (Revision::new(revision), false, Shape::Object, 0);
            kept.keep(name, encoding(1 << 10));
            kept.keep(name, encoding(1 << 10));
        }
        assert_eq!((kept.bytes, kept.order.len(), kept.encodings.len()), (4 << 20, 4096, 4096));
        kept.keep((Revision::ZERO, false, Shape::Object, 0), encoding(KEPT_BYTES + 1));
        assert_eq!((kept.bytes, kept.order.len(), kept.encodings.len()), (0, 0, 0));
    }
}
