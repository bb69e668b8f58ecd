//! The table of built-in resources: one file a group. A new resource is one row there, and a
//! strategy where it has rules.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use crate::resource::{Conversion, FieldLabel, Resource, StrategyRef, Subresource, VersionOf};
use crate::strategy::{self, Strategy};

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod events;
pub mod flowcontrol;
pub mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;
mod storagemigration;
mod trust;

/// All built-in resources, ordered by group, plural and version, the preferred version first.
pub fn builtin() -> &'static [Resource] {
    &BUILTIN
}

/// Looks up a resource by what stands in paths.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    BUILTIN.iter().find(|it| it.plural == plural && it.group == group && it.version == version)
}

/// Looks up a resource by what stands in objects.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    BUILTIN.iter().find(|it| it.kind == kind && it.group == group && it.version == version)
}

/// What clients are told of a resource that something else took the place of. Custom resources
/// say that themselves.
pub fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.version, &*resource.plural) {
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("batch", "v1beta1", "cronjobs") => Some(
            "batch/v1beta1 CronJob is deprecated in v1.21+, unavailable in v1.25+; use batch/v1 CronJob",
        ),
        ("discovery.k8s.io", "v1beta1", "endpointslices") => Some(
            "discovery.k8s.io/v1beta1 EndpointSlice is deprecated in v1.21+, unavailable in v1.25+; use discovery.k8s.io/v1 EndpointSlice",
        ),
        ("policy", "v1beta1", "poddisruptionbudgets") => Some(
            "policy/v1beta1 PodDisruptionBudget is deprecated in v1.21+, unavailable in v1.25+; use policy/v1 PodDisruptionBudget",
        ),
        _ => None,
    }
}

/// Rows of all groups, in the order of the groups.
static GROUPS: [&[Row]; 24] = [
    core::ROWS,
    admissionregistration::ROWS,
    apiextensions::ROWS,
    apiregistration::ROWS,
    apps::ROWS,
    authentication::ROWS,
    authorization::ROWS,
    autoscaling::ROWS,
    batch::ROWS,
    certificates::ROWS,
    trust::ROWS,
    coordination::ROWS,
    discovery::ROWS,
    events::ROWS,
    flowcontrol::ROWS,
    metrics::ROWS,
    networking::ROWS,
    node::ROWS,
    policy::ROWS,
    rbac::ROWS,
    resource::ROWS,
    scheduling::ROWS,
    storage::ROWS,
    storagemigration::ROWS,
];

static BUILTIN: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let rows = || GROUPS.into_iter().flatten();
    let stored = |version: &Version| rows().find(|it| version.is_of(it)).copied();
    rows().map(|row| row.resource(row.version_of.as_ref().and_then(stored))).collect()
});

const ALL: &[&str] = &["all"];
const WITHOUT_COLLECTION: &[&str] =
    &["create", "delete", "get", "list", "patch", "update", "watch"];
const EVERY_VERB: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};

const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource { name: "status", group, version, kind, verbs: &["get", "patch", "update"] }
}

const fn field(path: &'static str) -> FieldLabel {
    FieldLabel { label: path, path, absent: "" }
}

const fn boolean(path: &'static str) -> FieldLabel {
    FieldLabel { label: path, path, absent: "false" }
}

const fn count(path: &'static str) -> FieldLabel {
    FieldLabel { label: path, path, absent: "0" }
}

/// A row as it is written in the table: plain borrows, so that rows can share what they leave out.
#[derive(Clone, Copy)]
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    subresources: &'static [Subresource],
    schema: &'static str,
    field_labels: &'static [FieldLabel],
    strategy: &'static dyn Strategy,
    version_of: Option<Version>,
}

/// Says of which row another is a version. Its strategy is that of the stored row.
#[derive(Clone, Copy)]
struct Version {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    conversion: Conversion,
}

impl Version {
    fn is_of(&self, row: &Row) -> bool {
        (self.group, self.version, self.plural) == (row.group, row.version, row.plural)
    }
}

/// What most rows share.
const CORE: Row = Row {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: EVERY_VERB,
    subresources: &[],
    schema: "",
    field_labels: &[],
    strategy: &strategy::Plain,
    version_of: None,
};

impl Row {
    fn resource(self, stored: Option<Self>) -> Resource {
        let version_of = self.version_of.zip(stored).map(|(version, stored)| VersionOf {
            stored: Arc::new(stored.resource(None)),
            conversion: version.conversion,
        });
        Resource {
            group: Cow::Borrowed(self.group),
            version: Cow::Borrowed(self.version),
            kind: Cow::Borrowed(self.kind),
            plural: Cow::Borrowed(self.plural),
            singular: Cow::Borrowed(self.singular),
            short_names: Cow::Borrowed(self.short_names),
            categories: Cow::Borrowed(self.categories),
            namespaced: self.namespaced,
            verbs: Cow::Borrowed(self.verbs),
            subresources: Cow::Borrowed(self.subresources),
            schema: Cow::Borrowed(self.schema),
            field_labels: Cow::Borrowed(self.field_labels),
            strategy: StrategyRef::Builtin(stored.map_or(self.strategy, |it| it.strategy)),
            version_of,
            custom: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_has_a_schema() {
        for row in builtin() {
            assert!(std::ptr::eq(find(&row.group, &row.version, &row.plural).unwrap(), row));
            assert!(std::ptr::eq(find_kind(&row.group, &row.version, &row.kind).unwrap(), row));
            assert!(crate::schema::lookup(&row.schema).is_some(), "{}", row.schema);
        }
        assert!(find("", "v1", "replicasets").is_none());
    }

    #[test]
    fn rows_are_ordered() {
        // Within a kind the stored version comes first.
        assert!(builtin().is_sorted_by_key(|it| (&it.group, &it.plural)));
        let mut seen: Vec<&str> = Vec::new();
        for row in builtin() {
            match &row.version_of {
                Some(it) if it.stored.group == row.group => assert!(seen.contains(&&*row.plural)),
                _ => seen.push(&row.plural),
            }
        }
    }

    #[test]
    fn every_other_version_has_its_stored_row() {
        let rows = || GROUPS.into_iter().flatten();
        for row in rows().filter(|it| it.version_of.is_some()) {
            let found = find(row.group, row.version, row.plural).unwrap();
            let stored = found.stored();
            assert!(stored.version_of.is_none(), "{}", row.plural);
            assert!(find(&stored.group, &stored.version, &stored.plural).is_some());
            assert_eq!(found.namespaced, stored.namespaced);
        }
    }
}
