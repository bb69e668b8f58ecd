//! Custom resources: what a `CustomResourceDefinition` says, and the rules it gives to its objects.
//!
//! [`rows`] turns a stored definition into rows of the catalog. Everything that is special about
//! their objects hangs on [`Custom`]: schema, defaults, pruning, validation, CEL rules, columns,
//! scale and selectable fields.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::object;
use crate::resource::{Resource, StrategyRef, Subresource};
use crate::resources;

mod check;
pub mod columns;
pub mod conversion;
pub mod definition;
mod estimate;
mod formats;
mod jsonpath;
mod model;
pub mod names;
pub mod publish;
mod rules;
mod schema_rules;
mod strategy;
mod structural;
mod typing;

pub use model::ObjectModel;
pub use structural::{Additional, Checks, Node, fill, prune};

use columns::Column;
use strategy::CustomStrategy;

/// What one version of a definition says of its resource.
#[derive(Clone, Debug)]
pub struct Custom {
    /// What all versions share.
    pub definition: Arc<Definition>,
    /// Kind of a list of the objects.
    pub list_kind: String,
    /// Short names, for command lines.
    pub short_names: Vec<String>,
    /// Categories that the resource is in.
    pub categories: Vec<String>,
    /// The structure of the objects.
    pub node: Arc<Node>,
    /// What the rules of ownership know of the objects.
    pub model: ObjectModel,
    /// The schema as it was written.
    pub schema: Arc<Value>,
    /// The columns of tables.
    pub columns: Vec<Column>,
    /// Where the numbers of `scale` stand.
    pub scale: Option<ScalePaths>,
    /// Dotted paths of the fields that field selectors may name.
    pub selectable: Vec<String>,
    /// What clients of this version are told, if it is deprecated.
    pub warning: Option<String>,
}

/// What all versions of a definition share.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `<plural>.<group>`.
    pub name: String,
    /// Revision at which the definition was stored.
    pub revision: u64,
    /// Version in which objects are stored.
    pub storage_version: String,
    /// Versions in which objects are served.
    pub served: Vec<String>,
    /// Structure of every version, served or not, for what is stored in it.
    pub nodes: Vec<(String, Arc<Node>)>,
    /// `spec.conversion`, or `null`.
    pub conversion: Value,
    /// Whether the definition is being deleted: nothing new may be made.
    pub is_terminating: bool,
}

/// Dotted paths of the numbers of `scale`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScalePaths {
    /// Wanted replicas, below `.spec`.
    pub spec_replicas: String,
    /// Replicas that are there, below `.status`.
    pub status_replicas: String,
    /// Selector of the pods as a text; empty if there is none.
    pub label_selector: String,
}

impl Custom {
    /// Whether this is the version that stands for all where one is enough: the one in which
    /// objects are stored, if it is served.
    pub fn is_stored(&self, version: &str) -> bool {
        let definition = &self.definition;
        match definition.served.contains(&definition.storage_version) {
            true => definition.storage_version == version,
            false => definition.served.first().is_some_and(|it| it == version),
        }
    }
}

impl Definition {
    /// The structure of a version.
    pub fn node(&self, version: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|(name, _)| name == version).map(|(_, node)| node)
    }
}

const VERBS: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];
/// The kind of `status` is the object's own.
const STATUS: Subresource =
    Subresource { name: "status", group: "", version: "", kind: "", verbs: PART_VERBS };
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: PART_VERBS,
};

/// The rows that a stored definition makes; none before its names are accepted.
pub fn rows(definition: &Value, revision: u64) -> Vec<Resource> {
    if !names::is_true(definition, "Established") || !has_own_place(definition) {
        return Vec::new();
    }
    let spec = object::get(definition, "spec").unwrap_or(&Value::Null);
    let versions = object::list(spec, "versions");
    let name = |it: &Value| object::text(it, "name").to_owned();
    let schema = |it: &Value| it.pointer("/schema/openAPIV3Schema").cloned().unwrap_or(Value::Null);
    let storage = versions.iter().find(|it| object::flag(it, "storage"));
    let served = || versions.iter().filter(|it| object::flag(it, "served"));
    let nodes = versions.iter().map(|it| (name(it), Arc::new(Node::read(&schema(it)))));
    let shared = Arc::new(Definition {
        name: object::name(definition).to_owned(),
        revision,
        storage_version: storage.map(name).unwrap_or_default(),
        served: served().map(name).collect(),
        nodes: nodes.collect(),
        conversion: object::get(spec, "conversion").cloned().unwrap_or(Value::Null),
        is_terminating: object::is_terminating(definition),
    });
    served().map(|version| row(definition, version, &shared)).collect()
}

/// The group in which the server keeps what no API shows, such as the keys that hubs share: no definition is of it.
pub(crate) const OWN_GROUP: &str = "outbye.dev";

/// Whether objects are stored where the definition's own name says, and nobody else's are. What was accepted stands in
/// the status, which not only this server writes: whoever may write that must not reach what lies elsewhere.
fn has_own_place(definition: &Value) -> bool {
    let (group, plural) =
        (object::text(definition, "spec.group"), object::text(definition, "spec.names.plural"));
    let is_taken = |it: &Resource| it.storage_group() == group && it.plural == plural;
    group != OWN_GROUP
        && object::text(definition, "status.acceptedNames.plural") == plural
        && object::name(definition) == format!("{plural}.{group}")
        && !resources::builtin().iter().any(is_taken)
}

fn row(definition: &Value, version: &Value, shared: &Arc<Definition>) -> Resource {
    let own = |text: &str| Cow::Owned(text.to_owned());
    let group = object::text(definition, "spec.group");
    let accepted = object::get(definition, "status.acceptedNames").unwrap_or(&Value::Null);
    let name = object::text(version, "name");
    let node = shared.node(name).cloned().unwrap_or_else(|| Arc::new(Node::open()));
    let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or(Value::Null);
    let scale = object::get(version, "subresources.scale").map(|it| ScalePaths {
        spec_replicas: dotted(object::text(it, "specReplicasPath")),
        status_replicas: dotted(object::text(it, "statusReplicasPath")),
        label_selector: dotted(object::text(it, "labelSelectorPath")),
    });
    let has_status = object::get(version, "subresources.status").is_some();
    let mut subresources = Vec::new();
    subresources.extend(has_status.then_some(STATUS));
    subresources.extend(scale.is_some().then_some(SCALE));
    let kind = object::text(accepted, "kind");
    let selectable = object::list(version, "selectableFields");
    let custom = Custom {
        definition: shared.clone(),
        list_kind: object::text(accepted, "listKind").to_owned(),
        short_names: structural::texts(accepted.get("shortNames")),
        categories: structural::texts(accepted.get("categories")),
        columns: columns::read(object::list(version, "additionalPrinterColumns")),
        scale,
        selectable: selectable.iter().map(|it| dotted(object::text(it, "jsonPath"))).collect(),
        warning: object::flag(version, "deprecated").then(|| {
            match object::text(version, "deprecationWarning") {
                "" => format!("{group}/{name} {kind} is deprecated"),
                warning => warning.to_owned(),
            }
        }),
        model: ObjectModel(node.clone()),
        node: node.clone(),
        schema: Arc::new(schema),
    };
    Resource {
        group: own(group),
        version: own(name),
        kind: own(kind),
        plural: own(object::text(accepted, "plural")),
        singular: own(object::text(accepted, "singular")),
        short_names: Cow::Borrowed(&[]),
        categories: Cow::Borrowed(&[]),
        namespaced: object::text(definition, "spec.scope") == "Namespaced",
        verbs: Cow::Borrowed(VERBS),
        subresources: Cow::Owned(subresources),
        schema: Cow::Owned(publish::definition_name(group, name, kind)),
        field_labels: Cow::Borrowed(&[]),
        strategy: StrategyRef::Made(Arc::new(CustomStrategy { node, has_status })),
        version_of: None,
        custom: Some(Arc::new(custom)),
    }
}

/// A path such as `.spec.replicas` without its first dot.
fn dotted(path: &str) -> String {
    match jsonpath::simple(path) {
        Some(keys) => keys.join("."),
        None => path.trim_start_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests;
