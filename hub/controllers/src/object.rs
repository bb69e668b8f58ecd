//! Objects as the informers hand them in, and the names by which they are found.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use crate::value::{at, bool_at, int_at, list_at, str_at, time_at};

/// A kind of object, named as in a URL.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Kind {
    pub group: &'static str,
    pub plural: &'static str,
}

impl Kind {
    pub const BUDGET: Self = Self { group: "policy", plural: "poddisruptionbudgets" };
    pub const CONFIG_MAP: Self = Self { group: "", plural: "configmaps" };
    pub const CONTROLLER_REVISION: Self = Self { group: "apps", plural: "controllerrevisions" };
    pub const CRON_JOB: Self = Self { group: "batch", plural: "cronjobs" };
    pub const DAEMON_SET: Self = Self { group: "apps", plural: "daemonsets" };
    pub const CUSTOM_RESOURCE_DEFINITION: Self =
        Self { group: "apiextensions.k8s.io", plural: "customresourcedefinitions" };
    pub const DEPLOYMENT: Self = Self { group: "apps", plural: "deployments" };
    pub const ENDPOINTS: Self = Self { group: "", plural: "endpoints" };
    pub const ENDPOINT_SLICE: Self = Self { group: "discovery.k8s.io", plural: "endpointslices" };
    pub const EVENT: Self = Self { group: "", plural: "events" };
    pub const FLOW_SCHEMA: Self =
        Self { group: "flowcontrol.apiserver.k8s.io", plural: "flowschemas" };
    pub const JOB: Self = Self { group: "batch", plural: "jobs" };
    pub const LEASE: Self = Self { group: "coordination.k8s.io", plural: "leases" };
    pub const NAMESPACE: Self = Self { group: "", plural: "namespaces" };
    pub const NODE: Self = Self { group: "", plural: "nodes" };
    pub const POD: Self = Self { group: "", plural: "pods" };
    pub const PRIORITY_LEVEL: Self =
        Self { group: "flowcontrol.apiserver.k8s.io", plural: "prioritylevelconfigurations" };
    pub const REPLICATION_CONTROLLER: Self = Self { group: "", plural: "replicationcontrollers" };
    pub const REPLICA_SET: Self = Self { group: "apps", plural: "replicasets" };
    pub const SERVICE: Self = Self { group: "", plural: "services" };
    pub const SERVICE_ACCOUNT: Self = Self { group: "", plural: "serviceaccounts" };
    pub const STORAGE_VERSION_MIGRATION: Self =
        Self { group: "storagemigration.k8s.io", plural: "storageversionmigrations" };
    pub const STATEFUL_SET: Self = Self { group: "apps", plural: "statefulsets" };
    pub const VOLUME_CLAIM: Self = Self { group: "", plural: "persistentvolumeclaims" };

    /// A kind that was made at run time. Its names are kept as long as the process lives: a few
    /// bytes for each definition of a custom resource that was ever seen.
    pub fn made(group: &str, plural: &str) -> Self {
        Self { group: lasting(group), plural: lasting(plural) }
    }

    /// The key `name` of this kind.
    pub fn key(self, name: &Name) -> ObjectRef {
        ObjectRef { kind: self, name: name.clone() }
    }

    /// The key for work that is about all objects of this kind at once.
    pub fn all(self) -> ObjectRef {
        ObjectRef { kind: self, name: Name::cluster("") }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.plural),
            group => write!(f, "{}.{group}", self.plural),
        }
    }
}

/// Texts that last.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn lasting(text: &str) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(text) {
        return known;
    }
    let text: &'static str = Box::leak(text.into());
    names.insert(text);
    text
}

/// What the world has to know about a kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KindRow {
    pub kind: Kind,
    /// As in `apiVersion`.
    pub api_version: String,
    /// As in `kind`.
    pub object_kind: String,
    pub namespaced: bool,
}

/// Namespace and name; the namespace is empty for objects of the whole cluster.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn cluster(name: &str) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// One object by kind and name, whichever incarnation.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ObjectRef {
    pub kind: Kind,
    pub name: Name,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// One incarnation of an object.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whatever holds the JSON of an object, so that a cache need not copy it.
pub trait Body: Send + Sync {
    fn value(&self) -> &Value;

    /// The same object without what was decoded of it; `None` if there is nothing to be forgotten.
    fn forgotten(&self) -> Option<Arc<dyn Body>> {
        None
    }
}

impl Body for Value {
    fn value(&self) -> &Value {
        self
    }
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug)]
pub struct OwnerRef<'a>(&'a Value);

impl<'a> OwnerRef<'a> {
    pub fn uid(self) -> &'a str {
        str_at(self.0, &["uid"])
    }

    pub fn name(self) -> &'a str {
        str_at(self.0, &["name"])
    }

    pub fn api_version(self) -> &'a str {
        str_at(self.0, &["apiVersion"])
    }

    pub fn kind(self) -> &'a str {
        str_at(self.0, &["kind"])
    }

    pub fn is_controller(self) -> bool {
        bool_at(self.0, &["controller"])
    }

    /// Whether a foreground deletion of the owner waits for this dependent.
    pub fn blocks_owner_deletion(self) -> bool {
        bool_at(self.0, &["blockOwnerDeletion"])
    }
}

/// One object at one revision.
#[derive(Clone)]
pub struct Object {
    pub kind: Kind,
    pub name: Name,
    pub uid: Uid,
    pub revision: u64,
    body: Arc<dyn Body>,
}

impl Object {
    pub fn new(kind: Kind, revision: u64, body: Arc<dyn Body>) -> Self {
        let meta = at(body.value(), &["metadata"]);
        let name = Name::new(str_at(meta, &["namespace"]), str_at(meta, &["name"]));
        let uid = Uid(str_at(meta, &["uid"]).to_owned());
        Self { kind, name, uid, revision, body }
    }

    /// An object of which this much is known: its body is not looked into.
    pub fn known(kind: Kind, name: Name, uid: Uid, revision: u64, body: Arc<dyn Body>) -> Self {
        Self { kind, name, uid, revision, body }
    }

    /// Takes the revision from the object itself.
    pub fn from_value(kind: Kind, value: Value) -> Self {
        let revision = str_at(&value, &["metadata", "resourceVersion"]).parse().unwrap_or_default();
        Self::new(kind, revision, Arc::new(value))
    }

    pub fn value(&self) -> &Value {
        self.body.value()
    }

    /// The same object, whose value is decoded again when somebody asks for it.
    pub(crate) fn forgotten(&self) -> Option<Self> {
        Some(Self { body: self.body.forgotten()?, ..self.clone() })
    }

    pub fn key(&self) -> ObjectRef {
        self.kind.key(&self.name)
    }

    pub fn meta(&self) -> &Value {
        at(self.value(), &["metadata"])
    }

    pub fn spec(&self) -> &Value {
        at(self.value(), &["spec"])
    }

    pub fn status(&self) -> &Value {
        at(self.value(), &["status"])
    }

    pub fn labels(&self) -> &Value {
        at(self.meta(), &["labels"])
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        at(self.meta(), &["annotations", key]).as_str()
    }

    pub fn generation(&self) -> i64 {
        int_at(self.meta(), &["generation"])
    }

    pub fn created(&self) -> Option<Timestamp> {
        time_at(self.meta(), &["creationTimestamp"])
    }

    pub fn is_deleting(&self) -> bool {
        !at(self.meta(), &["deletionTimestamp"]).is_null()
    }

    pub fn owners(&self) -> impl Iterator<Item = OwnerRef<'_>> {
        list_at(self.meta(), &["ownerReferences"]).iter().map(OwnerRef)
    }

    /// The one owner that manages this object.
    pub fn controller(&self) -> Option<OwnerRef<'_>> {
        self.owners().find(|owner| owner.is_controller())
    }

    pub fn is_controlled_by(&self, uid: &Uid) -> bool {
        self.controller().is_some_and(|owner| owner.uid() == uid.0)
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        list_at(self.meta(), &["finalizers"]).iter().filter_map(Value::as_str)
    }

    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().any(|finalizer| finalizer == name)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.kind, self.name, self.revision)
    }
}
