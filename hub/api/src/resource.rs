//! A resource is a row: names, scope, verbs, subresources, selectable fields, schema and strategy.
//! Rows of custom resources are made at run time: what is theirs alone stands in [`Resource::custom`].

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use crate::custom::Custom;
use crate::object;
use crate::status::Status;
use crate::strategy::Strategy;

/// One resource that the API serves.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// Version in the group.
    pub version: Cow<'static, str>,
    /// Kind of the objects.
    pub kind: Cow<'static, str>,
    /// Plural name, as in paths.
    pub plural: Cow<'static, str>,
    /// Singular name, for command lines.
    pub singular: Cow<'static, str>,
    /// Short names, for command lines; of built-in resources, see [`Self::short_names()`].
    pub short_names: Cow<'static, [&'static str]>,
    /// Categories: `all` is what `kubectl get all` shows. Of built-in resources, see
    /// [`Self::categories()`].
    pub categories: Cow<'static, [&'static str]>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs of discovery.
    pub verbs: Cow<'static, [&'static str]>,
    /// What is below an object.
    pub subresources: Cow<'static, [Subresource]>,
    /// Name of the schema definition, such as `io.k8s.api.core.v1.Pod`.
    pub schema: Cow<'static, str>,
    /// Fields that field selectors may name, beyond `metadata.name` and `metadata.namespace`.
    pub field_labels: Cow<'static, [FieldLabel]>,
    /// The rules of writes.
    pub strategy: StrategyRef,
    /// Set where this is another version of a kind that has a row of its own.
    pub version_of: Option<VersionOf>,
    /// What a definition says of it, if it is a custom resource.
    pub custom: Option<Arc<Custom>>,
}

/// A version that is served but not stored: every object of it is a view of a stored one.
#[derive(Clone, Debug)]
pub struct VersionOf {
    /// The row under which objects are stored, checked and selected.
    pub stored: Arc<Resource>,
    /// How to get from one to the other.
    pub conversion: Conversion,
}

/// How objects of two versions become one another. `apiVersion` and `kind` are set by the caller;
/// metadata is the same in both unless a function says otherwise. Nothing may get lost on the way
/// there and back.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// From the version that is stored to the one that is shown.
    pub show: fn(&mut Value),
    /// From the version that is shown to the one that is stored.
    pub store: fn(&mut Value),
}

impl Conversion {
    /// Both versions have the same fields.
    pub const SAME: Self = Self { show: |_| (), store: |_| () };
}

/// The rules of writes of one resource: of a built-in kind, or made at run time.
#[derive(Clone, Debug)]
pub enum StrategyRef {
    /// Of a kind that is always there.
    Builtin(&'static dyn Strategy),
    /// Of a custom resource.
    Made(Arc<dyn Strategy>),
}

impl Deref for StrategyRef {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Builtin(strategy) => *strategy,
            Self::Made(strategy) => &**strategy,
        }
    }
}

/// Something below an object: `status`, `scale`, `log`, ...
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subresource {
    /// The path segment.
    pub name: &'static str,
    /// Group of the kind that is exchanged, empty for core.
    pub group: &'static str,
    /// Version of the kind that is exchanged.
    pub version: &'static str,
    /// Kind that is exchanged; empty for the resource's own, see [`Resource::exchanged`].
    pub kind: &'static str,
    /// Verbs of discovery.
    pub verbs: &'static [&'static str],
}

/// A field that field selectors may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FieldLabel {
    /// What the selector says.
    pub label: &'static str,
    /// Where the value stands in the object, dotted.
    pub path: &'static str,
    /// What an absent value equals: empty, or `false` for booleans.
    pub absent: &'static str,
}

impl Resource {
    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The group as the first part of storage keys: `core` stands for the empty one.
    pub fn storage_group(&self) -> &str {
        if self.group.is_empty() { "core" } else { &self.group }
    }

    /// The row under which objects are stored: this one, unless it is another version.
    pub fn stored(&self) -> &Self {
        self.version_of.as_ref().map_or(self, |it| &it.stored)
    }

    /// Turns an object of this version into what is stored.
    #[must_use]
    pub fn store(&self, mut shown: Value) -> Value {
        if let Some(version) = &self.version_of {
            (version.conversion.store)(&mut shown);
            version.stored.set_type(&mut shown);
        }
        shown
    }

    /// Turns a stored object into one of this version.
    #[must_use]
    pub fn show(&self, mut stored: Value) -> Value {
        if let Some(version) = &self.version_of {
            (version.conversion.show)(&mut stored);
            self.set_type(&mut stored);
        }
        stored
    }

    fn set_type(&self, object: &mut Value) {
        let map = object::as_map(object);
        map.insert("apiVersion".to_owned(), self.api_version().into());
        map.insert("kind".to_owned(), Value::from(&*self.kind));
    }

    /// Kind of a list of these objects.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    /// Short names, for command lines.
    pub fn short_names(&self) -> Vec<&str> {
        match &self.custom {
            Some(custom) => custom.short_names.iter().map(String::as_str).collect(),
            None => self.short_names.to_vec(),
        }
    }

    /// Categories that the resource is in.
    pub fn categories(&self) -> Vec<&str> {
        match &self.custom {
            Some(custom) => custom.categories.iter().map(String::as_str).collect(),
            None => self.categories.to_vec(),
        }
    }

    /// Whether objects of the row are stored under it: not other versions, nor questions, nor what is
    /// measured when it is asked for.
    pub fn is_stored(&self) -> bool {
        self.version_of.is_none() && self.has_verb("get") && !self.is_measured()
    }

    /// Whether objects are measured when they are asked for.
    pub fn is_measured(&self) -> bool {
        self.custom.is_none() && self.group == crate::resources::metrics::NAME
    }

    /// Group, version and kind that a subresource exchanges. The row of a custom resource leaves
    /// them out of `status`: they are its own.
    pub fn exchanged<'a>(&'a self, subresource: &'a Subresource) -> (&'a str, &'a str, &'a str) {
        if subresource.kind.is_empty() {
            (&self.group, &self.version, &self.kind)
        } else {
            (subresource.group, subresource.version, subresource.kind)
        }
    }

    /// Looks up what is below an object.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|it| it.name == name)
    }

    /// Whether `status` is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// 404: no object of that name.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.group, &self.plural, name)
    }

    /// 409: an object of that name exists.
    pub fn already_exists(&self, name: &str) -> Status {
        Status::already_exists(&self.group, &self.plural, name)
    }

    /// 409: the object is not what the writer thought.
    pub fn conflict(&self, name: &str, why: &str) -> Status {
        Status::conflict(&self.group, &self.plural, name, why)
    }

    /// Whether discovery offers the verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}
