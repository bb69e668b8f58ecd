//! A small model of the API server: what a write does to the objects.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, Name, ObjectRef};
use crate::value::{at, int_at, list_at, object_mut, set, str_at, time_text};
use crate::{Await, Failure, FailureKind, Propagation, Uid, Write};

/// What an informer will be told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Put { kind: Kind, value: Value },
    Removed { key: ObjectRef, revision: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub objects: BTreeMap<ObjectRef, Value>,
    pub revision: u64,
    pub log: Vec<Event>,
    /// Number of writes that changed something.
    pub n_writes: u64,
    next_id: u64,
}

type Written = Result<Option<Await>, Failure>;

impl Store {
    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = (&ObjectRef, &Value)> {
        self.objects.iter().filter(move |(key, _)| key.kind == kind)
    }

    pub(super) fn perform(&mut self, write: &Write, now: Timestamp) -> Written {
        match write {
            Write::Create { kind, namespace, object, .. } => {
                self.create(*kind, namespace, object.clone(), now).map(Some)
            }
            Write::Patch { target, subresource, patch } => {
                self.patch(target, *subresource, patch, now)
            }
            Write::Replace { target, object, .. } => {
                let mut object = object.clone();
                object_mut(&mut object["metadata"]).remove("resourceVersion");
                let Some(current) = self.objects.get(target) else { return Ok(None) };
                let finalizers = at(&object, &["spec", "finalizers"]).clone();
                let mut new = current.clone();
                new["spec"]["finalizers"] = finalizers;
                Ok(self.put(target.clone(), new))
            }
            Write::Delete {
                target,
                uid,
                revision,
                propagation,
                grace_seconds,
                only_without,
                ..
            } => {
                let is_present = |(key, uid): &(ObjectRef, Option<Uid>)| {
                    let found = self.objects.get(key).map(|it| str_at(it, &["metadata", "uid"]));
                    found.is_some_and(|it| uid.as_ref().is_none_or(|uid| uid.0 == it))
                };
                if only_without.iter().any(is_present) {
                    return Ok(None);
                }
                let found = self.revision_of(target);
                if revision.is_some_and(|it| it != found && self.objects.contains_key(target)) {
                    let message = "the object has been modified".to_owned();
                    return Err(Failure { kind: FailureKind::Conflict, message });
                }
                Ok(self.delete(target, &uid.0, *propagation, *grace_seconds, now))
            }
            Write::Note(_) => Ok(None),
        }
    }

    pub(super) fn create(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        now: Timestamp,
    ) -> Result<Await, Failure> {
        self.next_id += 1;
        if str_at(&object, &["metadata", "name"]).is_empty() {
            let name =
                format!("{}{}", str_at(&object, &["metadata", "generateName"]), self.next_id);
            set(&mut object, &["metadata", "name"], json!(name));
        }
        set(&mut object, &["metadata", "namespace"], json!(namespace));
        set(&mut object, &["metadata", "uid"], json!(format!("uid-{}", self.next_id)));
        set(&mut object, &["metadata", "generation"], json!(1));
        set(&mut object, &["metadata", "creationTimestamp"], json!(time_text(now)));
        let key = kind.key(&Name::new(namespace, str_at(&object, &["metadata", "name"])));
        if self.objects.contains_key(&key) {
            let message = format!("{key} already exists");
            return Err(Failure { kind: FailureKind::Create, message });
        }
        match self.put(key, object) {
            Some(awaited) => Ok(awaited),
            None => unreachable!("a new object is a change"),
        }
    }

    pub(super) fn patch(
        &mut self,
        key: &ObjectRef,
        subresource: Option<&str>,
        patch: &Value,
        _now: Timestamp,
    ) -> Written {
        let Some(current) = self.objects.get(key) else { return Ok(None) };
        for field in ["uid", "resourceVersion"] {
            let wanted = str_at(patch, &["metadata", field]);
            if !wanted.is_empty() && wanted != str_at(current, &["metadata", field]) {
                let message = "the object has been modified".to_owned();
                return Err(Failure { kind: FailureKind::Conflict, message });
            }
        }
        let mut new = current.clone();
        merge(&mut new, patch);
        let kept = if subresource == Some("status") { "spec" } else { "status" };
        new[kept] = current[kept].clone();
        object_mut(&mut new).retain(|_, value| !value.is_null());
        if new.get("spec") != current.get("spec") {
            set(
                &mut new,
                &["metadata", "generation"],
                json!(int_at(current, &["metadata", "generation"]) + 1),
            );
        }
        Ok(self.put(key.clone(), new))
    }

    pub(super) fn delete(
        &mut self,
        key: &ObjectRef,
        uid: &str,
        propagation: Propagation,
        grace_seconds: Option<i64>,
        now: Timestamp,
    ) -> Option<Await> {
        let object = self.objects.get(key)?;
        if str_at(object, &["metadata", "uid"]) != uid {
            return None;
        }
        let mut new = object.clone();
        let mut finalizers = list_at(&new, &["metadata", "finalizers"]).to_vec();
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push(json!("foregroundDeletion")),
            Propagation::Orphan => finalizers.push(json!("orphan")),
        }
        finalizers.dedup();
        let is_graceful = key.kind == Kind::POD
            && grace_seconds != Some(0)
            && !str_at(&new, &["spec", "nodeName"]).is_empty();
        let is_kept = is_graceful || !finalizers.is_empty() || key.kind == Kind::NAMESPACE;
        let gone = Some(Await::Gone(key.clone(), Uid(uid.to_owned())));
        if !is_kept {
            self.remove(key);
            return gone;
        }
        if !finalizers.is_empty() {
            set(&mut new, &["metadata", "finalizers"], json!(finalizers));
        }
        if at(&new, &["metadata", "deletionTimestamp"]).is_null() {
            set(&mut new, &["metadata", "deletionTimestamp"], json!(time_text(now)));
        }
        self.put(key.clone(), new);
        gone
    }

    pub(super) fn remove(&mut self, key: &ObjectRef) {
        if self.objects.remove(key).is_some() {
            self.revision += 1;
            self.n_writes += 1;
            self.log.push(Event::Removed { key: key.clone(), revision: self.revision });
        }
    }

    /// Stores an object, or lets it go if its deletion waited for nothing else.
    pub(super) fn put(&mut self, key: ObjectRef, mut new: Value) -> Option<Await> {
        let is_same = self.objects.get(&key).is_some_and(|old| {
            let mut old = old.clone();
            old["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
            old == new
        });
        let kind = key.kind;
        if is_same {
            return Some(Await::Revision(kind, self.revision_of(&key)));
        }
        let is_done = !at(&new, &["metadata", "deletionTimestamp"]).is_null()
            && list_at(&new, &["metadata", "finalizers"]).is_empty()
            && list_at(&new, &["spec", "finalizers"]).is_empty()
            && kind != Kind::POD;
        if is_done {
            let uid = Uid(str_at(&new, &["metadata", "uid"]).to_owned());
            self.remove(&key);
            return Some(Await::Gone(key, uid));
        }
        self.revision += 1;
        self.n_writes += 1;
        set(&mut new, &["metadata", "resourceVersion"], json!(self.revision.to_string()));
        self.log.push(Event::Put { kind, value: new.clone() });
        self.objects.insert(key, new);
        Some(Await::Revision(kind, self.revision))
    }

    fn revision_of(&self, key: &ObjectRef) -> u64 {
        let object = self.objects.get(key);
        object
            .and_then(|it| str_at(it, &["metadata", "resourceVersion"]).parse().ok())
            .unwrap_or_default()
    }
}

fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *value = patch.clone();
        return;
    };
    let fields = object_mut(value);
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}
