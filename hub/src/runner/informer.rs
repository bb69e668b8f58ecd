//! Informers: what happens to the objects of one kind, from the first list on, without a gap.

use std::collections::BTreeSet;
use std::sync::Arc;

use hub_api::{Resource, Status};
use hub_apiserver::{Registry, RegistryWatch, WatchEvent, WatchOptions};
use hub_controllers::{Kind, KindRow, Name, Object, ObjectRef, World};

use super::body::{Decoded, body, name_of, uid_of};
use super::kind_of;

/// Something that happened to one object.
#[derive(Debug)]
pub(super) enum News {
    Put(Object),
    Removed { key: ObjectRef, revision: u64 },
}

impl News {
    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::Put(object) => object.revision,
            Self::Removed { revision, .. } => *revision,
        }
    }
}

/// Why there will be no more news.
#[derive(Debug, thiserror::Error)]
#[error("could not watch {kind}")]
pub(super) struct InformerError {
    kind: Kind,
    #[source]
    err: Status,
}

/// Reads the watch of one kind.
#[derive(Debug)]
pub(super) struct Informer {
    kind: Kind,
    resource: Arc<Resource>,
    watch: Option<RegistryWatch>,
    /// Names seen since the watch began; set until all that was there at its start has come.
    listed: Option<BTreeSet<Name>>,
    decoded: Arc<Decoded>,
}

impl Informer {
    /// An informer on a kind that can be watched.
    pub(super) fn new(resource: &Arc<Resource>, decoded: &Arc<Decoded>) -> Option<Self> {
        let kind = kind_of(resource);
        let is_new = resource.has_verb("watch");
        is_new.then(|| Self {
            kind,
            resource: resource.clone(),
            watch: None,
            listed: None,
            decoded: decoded.clone(),
        })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this informs on the objects of the row, under the same names.
    pub(super) fn is_of(&self, resource: &Resource) -> bool {
        let mine = &self.resource;
        let names = |it: &Resource| (it.kind.clone(), it.version.clone(), it.namespaced);
        kind_of(resource) == self.kind && names(resource) == names(mine)
    }

    /// What the controllers have to know of the kind.
    pub(super) fn row(&self) -> KindRow {
        KindRow {
            kind: self.kind,
            api_version: self.resource.api_version(),
            object_kind: self.resource.kind.to_string(),
            namespaced: self.resource.namespaced,
        }
    }

    /// Hands out all there is. Returns the revision up to which that is everything.
    pub(super) fn drain(
        &mut self,
        registry: &Registry,
        world: &World,
        news: &mut Vec<News>,
    ) -> Result<Option<u64>, InformerError> {
        loop {
            match self.read(registry, world, news) {
                Ok(revision) => return Ok(revision),
                // History was forgotten before we read it: begin with a list again.
                Err(status) if status.reason == "Expired" => {
                    tracing::debug!(kind = %self.kind, "Listing again");
                    self.watch = None;
                }
                Err(err) => return Err(InformerError { kind: self.kind, err }),
            }
        }
    }

    fn read(
        &mut self,
        registry: &Registry,
        world: &World,
        news: &mut Vec<News>,
    ) -> Result<Option<u64>, Status> {
        if self.watch.is_none() {
            let options = WatchOptions { initial_events: Some(true), ..WatchOptions::default() };
            self.watch = Some(registry.watch(&self.resource, None, &options)?);
            self.listed = Some(BTreeSet::new());
        }
        let Some(watch) = &mut self.watch else { return Ok(None) };
        while let Some(event) = watch.try_next()? {
            match event {
                WatchEvent::Added(entry) | WatchEvent::Modified(entry) => {
                    if let Some(listed) = &mut self.listed {
                        listed.insert(name_of(&entry));
                    }
                    let revision = entry.revision.get();
                    let (name, uid) = (name_of(&entry), uid_of(&entry));
                    let body = body(self.kind, entry, &self.decoded);
                    let object = Object::known(self.kind, name, uid, revision, body);
                    news.push(News::Put(object));
                }
                WatchEvent::Deleted { last, revision, .. } => {
                    let key = self.kind.key(&name_of(&last));
                    news.push(News::Removed { key, revision: revision.get() });
                }
                WatchEvent::InitialEventsEnd(revision) => {
                    let listed = self.listed.take().unwrap_or_default();
                    let gone = world.list(self.kind).filter(|it| !listed.contains(&it.name));
                    let revision = revision.get();
                    news.extend(gone.map(|it| News::Removed { key: it.key(), revision }));
                }
            }
        }
        Ok(watch.bookmark()?.map(|revision| revision.get()))
    }
}
