//! What a controller wants written. The runner performs it through the API machinery.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, Object, ObjectRef, Uid};
use crate::value::time_text;
use crate::world::World;

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Makes an object; the name may be left to `generateName`.
    Create {
        kind: Kind,
        namespace: String,
        object: Value,
        /// Told after success; `{name}` stands for the name of the new object.
        then: Option<Note>,
        /// Told after failure; `{error}` stands for the reason.
        or_else: Option<Note>,
    },
    /// Applies a JSON merge patch. A uid or resourceVersion in its metadata is a precondition.
    Patch { target: ObjectRef, subresource: Option<&'static str>, patch: Value },
    /// Replaces an object, or what its subresource covers.
    Replace { target: ObjectRef, subresource: Option<&'static str>, object: Value },
    /// Deletes one incarnation of an object.
    Delete {
        target: ObjectRef,
        uid: Uid,
        /// Holds only for this revision, if one is given.
        revision: Option<u64>,
        propagation: Propagation,
        grace_seconds: Option<i64>,
        /// Dropped unless each of these is gone from the store itself, not only from the cache: one
        /// incarnation, or any object of that name.
        only_without: Vec<(ObjectRef, Option<Uid>)>,
        then: Option<Note>,
        or_else: Option<Note>,
    },
    /// Tells the user. Never fails a plan.
    Note(Note),
}

impl Write {
    /// A patch that holds only for this incarnation of `object`.
    pub fn patch(object: &Object, subresource: Option<&'static str>, mut patch: Value) -> Self {
        crate::value::set(&mut patch, &["metadata", "uid"], json!(object.uid.0));
        Self::Patch { target: object.key(), subresource, patch }
    }

    /// A patch that holds only for this very revision of `object`.
    pub fn patch_exactly(
        object: &Object,
        subresource: Option<&'static str>,
        mut patch: Value,
    ) -> Self {
        let revision = json!(object.revision.to_string());
        crate::value::set(&mut patch, &["metadata", "resourceVersion"], revision);
        Self::patch(object, subresource, patch)
    }

    /// A background deletion of this incarnation of `object`.
    pub fn delete(object: &Object) -> Self {
        Self::Delete {
            target: object.key(),
            uid: object.uid.clone(),
            revision: None,
            propagation: Propagation::Background,
            grace_seconds: None,
            only_without: Vec::new(),
            then: None,
            or_else: None,
        }
    }

    /// The same creation or deletion, with what to tell of it.
    #[must_use]
    pub fn telling(mut self, success: Note, failed: Note) -> Self {
        if let Self::Create { then, or_else, .. } | Self::Delete { then, or_else, .. } = &mut self {
            *then = Some(success);
            *or_else = Some(failed);
        }
        self
    }

    /// Whether `self` and `next` may be performed at the same time.
    pub fn is_independent_of(&self, next: &Self) -> bool {
        matches!(
            (self, next),
            (Self::Create { .. }, Self::Create { .. }) | (Self::Delete { .. }, Self::Delete { .. })
        )
    }
}

/// The object that an event is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Regarding {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

impl Regarding {
    pub fn of(object: &Object, world: &World) -> Self {
        let row = world.row(object.kind);
        Self {
            api_version: row.map(|row| row.api_version.clone()).unwrap_or_default(),
            kind: row.map(|row| row.object_kind.clone()).unwrap_or_default(),
            namespace: object.name.namespace.clone(),
            name: object.name.name.clone(),
            uid: object.uid.clone(),
        }
    }
}

/// An event for the user, before the runner has counted its repetitions.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Note {
    pub regarding: Regarding,
    pub is_warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    pub fn normal(object: &Object, world: &World, reason: &'static str, message: String) -> Self {
        Self { regarding: Regarding::of(object, world), is_warning: false, reason, message }
    }

    pub fn warning(object: &Object, world: &World, reason: &'static str, message: String) -> Self {
        Self { regarding: Regarding::of(object, world), is_warning: true, reason, message }
    }

    /// The namespace that the event object lives in.
    pub fn namespace(&self) -> &str {
        match self.regarding.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    /// The event object, seen `count` times from `first` to `last`.
    pub fn to_event(
        &self,
        name: &str,
        component: &str,
        count: u64,
        first: Timestamp,
        last: Timestamp,
    ) -> Value {
        let about = &self.regarding;
        let mut regarding = json!({
            "apiVersion": about.api_version, "kind": about.kind, "name": about.name, "uid": about.uid.0,
        });
        if !about.namespace.is_empty() {
            regarding["namespace"] = json!(about.namespace);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self.namespace()},
            "involvedObject": regarding,
            "reason": self.reason,
            "message": self.message,
            "source": {"component": component},
            "firstTimestamp": time_text(first),
            "lastTimestamp": time_text(last),
            "eventTime": null,
            "count": count,
            "type": if self.is_warning { "Warning" } else { "Normal" },
            "reportingComponent": component,
            "reportingInstance": "",
        })
    }

    /// The same with `{name}` or `{error}` filled in.
    #[must_use]
    pub fn filled(&self, place: &str, text: &str) -> Self {
        Self { message: self.message.replace(place, text), ..self.clone() }
    }
}
