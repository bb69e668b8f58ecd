//! Everything the informers have seen, with the indexes that controllers need.
//!
//! The world lags behind the store, each kind on its own. A controller may therefore see a dependent
//! before its owner: absence proves nothing where it leads to a deletion (see `garbage`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::heartbeats::Heartbeats;
use crate::node_lifecycle::LEASES;
use crate::object::{Kind, KindRow, Name, Object, ObjectRef, OwnerRef, Uid};
use crate::value::{at, str_at, time_at};

/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// One object before and after an event.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub kind: Kind,
    pub old: Option<&'a Object>,
    pub new: Option<&'a Object>,
}

impl<'a> Change<'a> {
    /// Both sides of the change that exist.
    pub fn sides(&self) -> impl Iterator<Item = &'a Object> {
        self.old.into_iter().chain(self.new)
    }

    /// The newest side.
    pub fn latest(&self) -> Option<&'a Object> {
        self.new.or(self.old)
    }

    pub fn is_removal(&self) -> bool {
        self.new.is_none()
    }
}

/// What an informer did to the cache.
#[derive(Clone, Debug)]
pub struct Applied {
    pub kind: Kind,
    pub old: Option<Arc<Object>>,
    pub new: Option<Arc<Object>>,
}

impl Applied {
    pub fn change(&self) -> Change<'_> {
        Change { kind: self.kind, old: self.old.as_deref(), new: self.new.as_deref() }
    }
}

#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Name, Arc<Object>>,
    /// Highest revision that the informer of this kind has delivered.
    seen: u64,
    synced: bool,
}

/// The cached cluster.
#[derive(Debug, Default)]
pub struct World {
    rows: BTreeMap<Kind, KindRow>,
    tables: BTreeMap<Kind, Table>,
    by_uid: BTreeMap<Uid, ObjectRef>,
    dependents: BTreeMap<Uid, BTreeSet<ObjectRef>>,
    /// Pods, replica sets and revisions that no controller manages, by kind and namespace.
    unmanaged: BTreeMap<(Kind, String), BTreeSet<Name>>,
    pods_by_node: BTreeMap<String, BTreeSet<Name>>,
    slices_by_service: BTreeMap<Name, BTreeSet<Name>>,
    node_gone_at: BTreeMap<String, Timestamp>,
    heartbeats: Heartbeats,
    started: Timestamp,
}

impl World {
    /// An empty world of these kinds. `started` is when this process began to look.
    pub fn new(rows: impl IntoIterator<Item = KindRow>, started: Timestamp) -> Self {
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.kind, row)).collect();
        let tables = rows.keys().map(|kind| (*kind, Table::default())).collect();
        Self { rows, tables, started, ..Self::default() }
    }

    /// Begins to know a kind.
    pub fn add_kind(&mut self, row: KindRow) {
        self.tables.entry(row.kind).or_default();
        self.rows.insert(row.kind, row);
    }

    /// Forgets a kind and its objects. What referred to them finds nothing.
    pub fn remove_kind(&mut self, kind: Kind) {
        self.rows.remove(&kind);
        let Some(table) = self.tables.remove(&kind) else { return };
        for object in table.objects.values() {
            self.unindex(object);
        }
    }

    pub fn started(&self) -> Timestamp {
        self.started
    }

    pub fn row(&self, kind: Kind) -> Option<&KindRow> {
        self.rows.get(&kind)
    }

    pub fn rows(&self) -> impl Iterator<Item = &KindRow> {
        self.rows.values()
    }

    /// The kind that an owner reference names, if it is known here.
    pub fn kind_of_owner(&self, owner: OwnerRef<'_>) -> Option<&KindRow> {
        let group = owner.api_version().rsplit_once('/').map_or("", |(group, _)| group);
        self.rows.values().find(|row| row.object_kind == owner.kind() && row.kind.group == group)
    }

    pub fn get(&self, kind: Kind, name: &Name) -> Option<&Arc<Object>> {
        self.tables.get(&kind)?.objects.get(name)
    }

    pub fn find(&self, key: &ObjectRef) -> Option<&Arc<Object>> {
        self.get(key.kind, &key.name)
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.find(self.by_uid.get(&Uid(uid.to_owned()))?)
    }

    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.tables.get(&kind).into_iter().flat_map(|table| table.objects.values())
    }

    pub fn list_in<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = Name::new(namespace, "");
        self.tables
            .get(&kind)
            .into_iter()
            .flat_map(move |table| table.objects.range(first.clone()..))
            .take_while(move |(name, _)| name.namespace == namespace)
            .map(|(_, object)| object)
    }

    pub fn is_empty_of(&self, kind: Kind) -> bool {
        self.tables.get(&kind).is_none_or(|table| table.objects.is_empty())
    }

    /// Objects that name this owner, in any role.
    pub fn dependents(&self, owner: &Uid) -> impl Iterator<Item = &Arc<Object>> {
        self.dependents.get(owner).into_iter().flatten().filter_map(|key| self.find(key))
    }

    /// Objects of `kind` that `owner` manages.
    pub fn managed_by<'a>(
        &'a self,
        owner: &'a Uid,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.dependents(owner)
            .filter(move |object| object.kind == kind && object.is_controlled_by(owner))
    }

    /// Pods, replica sets or revisions of a namespace that no controller manages.
    pub fn unmanaged(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.unmanaged
            .get(&(kind, namespace.to_owned()))
            .into_iter()
            .flatten()
            .filter_map(move |name| self.get(kind, name))
    }

    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.pods_by_node
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|name| self.get(Kind::POD, name))
    }

    pub fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Arc<Object>> {
        self.slices_by_service
            .get(service)
            .into_iter()
            .flatten()
            .filter_map(|name| self.get(Kind::ENDPOINT_SLICE, name))
    }

    /// Since when a node is known not to exist: its removal, or the start of this process.
    pub fn node_gone_at(&self, node: &str) -> Timestamp {
        self.node_gone_at.get(node).copied().unwrap_or(self.started)
    }

    /// Since when a node is known to exist: its first sight, or the start of this process.
    pub fn node_known_since(&self, node: &str) -> Timestamp {
        self.heartbeats.came_at(node).unwrap_or(self.started)
    }

    /// When the Lease of a node was last seen to be renewed; none if it was not since the start of this process. By the
    /// clock of this process, whatever the Lease says.
    pub fn node_heard_at(&self, node: &str) -> Option<Timestamp> {
        self.heartbeats.heard_at(node)
    }

    pub fn is_synced(&self) -> bool {
        self.tables.values().all(|table| table.synced)
    }

    /// The revision up to which the informer of `kind` has delivered; none if nobody informs on it.
    pub fn seen(&self, kind: Kind) -> Option<u64> {
        self.tables.get(&kind).map(|table| table.seen)
    }

    /// Whether nothing that was written up to `revision` is missing here, whatever its kind. Kinds are heard of each on
    /// its own: what is not seen may be there.
    pub fn is_complete(&self, revision: u64) -> bool {
        self.tables.values().all(|table| table.seen >= revision)
    }

    /// Notes that everything of `kind` up to `revision` has been delivered.
    pub fn mark_synced(&mut self, kind: Kind, revision: u64) {
        if let Some(table) = self.tables.get_mut(&kind) {
            table.synced = true;
            table.seen = table.seen.max(revision);
        }
    }

    /// Lets go of what was decoded of an object. Nobody sees a difference.
    pub fn forget_value(&mut self, key: &ObjectRef) {
        let found = self.tables.get_mut(&key.kind).and_then(|it| it.objects.get_mut(&key.name));
        if let Some(object) = found
            && let Some(forgotten) = object.forgotten()
        {
            *object = Arc::new(forgotten);
        }
    }

    /// Takes in a new or changed object, seen now. Older news than what is known is ignored.
    pub fn put(&mut self, object: Object, now: Timestamp) -> Option<Applied> {
        let kind = object.kind;
        let table = self.tables.get_mut(&kind)?;
        table.seen = table.seen.max(object.revision);
        if table.objects.get(&object.name).is_some_and(|old| old.revision > object.revision) {
            return None;
        }
        // What the first list holds may have happened long ago.
        let seen_at = table.synced.then_some(now);
        let new = Arc::new(object);
        let old = table.objects.insert(new.name.clone(), new.clone());
        if let Some(old) = &old {
            self.unindex(old);
        }
        self.index(&new);
        if kind == Kind::NODE && old.is_none() {
            self.heartbeats.node_came(&new.name.name, seen_at);
        } else if is_heartbeat(kind, &new.name) {
            let renewed = time_at(new.spec(), &["renewTime"]);
            self.heartbeats.lease_says(&new.name.name, renewed, seen_at);
        }
        Some(Applied { kind, old, new: Some(new) })
    }

    /// Takes in a removal at `revision`.
    pub fn remove(&mut self, key: &ObjectRef, revision: u64, now: Timestamp) -> Option<Applied> {
        let table = self.tables.get_mut(&key.kind)?;
        table.seen = table.seen.max(revision);
        let old = table.objects.remove(&key.name)?;
        self.unindex(&old);
        if key.kind == Kind::NODE {
            self.node_gone_at.insert(key.name.name.clone(), now);
            self.heartbeats.forget(&key.name.name);
        } else if is_heartbeat(key.kind, &key.name) {
            // A node whose Lease somebody deletes has its time to renew it.
            let node = Name::cluster(&key.name.name);
            if self.get(Kind::NODE, &node).is_none() {
                self.heartbeats.forget(&node.name);
            }
        }
        Some(Applied { kind: key.kind, old: Some(old), new: None })
    }

    fn index(&mut self, object: &Object) {
        let key = object.key();
        self.by_uid.insert(object.uid.clone(), key.clone());
        for owner in object.owners() {
            self.dependents.entry(Uid(owner.uid().to_owned())).or_default().insert(key.clone());
        }
        if is_manageable(object.kind) && object.controller().is_none() {
            let place = (object.kind, object.name.namespace.clone());
            self.unmanaged.entry(place).or_default().insert(object.name.clone());
        }
        if object.kind == Kind::NODE {
            self.node_gone_at.remove(&object.name.name);
        }
        if let Some(node) = node_of(object) {
            self.pods_by_node.entry(node).or_default().insert(object.name.clone());
        }
        if let Some(service) = service_of(object) {
            self.slices_by_service.entry(service).or_default().insert(object.name.clone());
        }
    }

    fn unindex(&mut self, object: &Object) {
        let key = object.key();
        if self.by_uid.get(&object.uid) == Some(&key) {
            self.by_uid.remove(&object.uid);
        }
        for owner in object.owners() {
            take(&mut self.dependents, &Uid(owner.uid().to_owned()), &key);
        }
        if is_manageable(object.kind) && object.controller().is_none() {
            let place = (object.kind, object.name.namespace.clone());
            take(&mut self.unmanaged, &place, &object.name);
        }
        if let Some(node) = node_of(object) {
            take(&mut self.pods_by_node, &node, &object.name);
        }
        if let Some(service) = service_of(object) {
            take(&mut self.slices_by_service, &service, &object.name);
        }
    }
}

fn take<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

/// Whether this is the Lease that a node renews.
fn is_heartbeat(kind: Kind, name: &Name) -> bool {
    kind == Kind::LEASE && name.namespace == LEASES
}

fn is_manageable(kind: Kind) -> bool {
    matches!(kind, Kind::POD | Kind::REPLICA_SET | Kind::CONTROLLER_REVISION)
}

fn node_of(object: &Object) -> Option<String> {
    let node = str_at(object.spec(), &["nodeName"]);
    (object.kind == Kind::POD && !node.is_empty()).then(|| node.to_owned())
}

/// The Service that an EndpointSlice belongs to.
pub fn service_of(object: &Object) -> Option<Name> {
    let service = at(object.labels(), &[SERVICE_NAME_LABEL]).as_str()?;
    (object.kind == Kind::ENDPOINT_SLICE).then(|| Name::new(&object.name.namespace, service))
}
