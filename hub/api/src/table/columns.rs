//! Which columns a resource has. Columns of priority 1 are those of `kubectl get -o wide`.
//!
//! One file a group: a new resource is one more constant and one more arm there.

use jiff::Timestamp;
use serde_json::Value;

use super::workload;

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) ty: &'static str,
    pub(super) format: &'static str,
    pub(super) description: &'static str,
    pub(super) priority: u8,
    pub(super) cell: Cell,
}

/// Where a cell comes from. Paths are JSON pointers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    /// How long ago the object was made.
    Age,
    Boolean(&'static str),
    Computed(fn(&Value) -> Value),
    ComputedSince(fn(&Value, Timestamp) -> Value),
    /// How many entries there are at all paths together.
    Count(&'static [&'static str]),
    Integer(&'static str),
    /// Text, and what stands for none.
    Text(&'static str, &'static str),
}

/// The columns of a resource.
pub(super) fn of(group: &str, plural: &str) -> &'static [Column] {
    let own = match group {
        // Events are the same objects in both groups.
        "" | "events.k8s.io" => core::of(plural),
        "admissionregistration.k8s.io" => admissionregistration::of(plural),
        "apiextensions.k8s.io" => apiextensions::of(plural),
        "apiregistration.k8s.io" => apiregistration::of(plural),
        "apps" => apps::of(plural),
        "autoscaling" => autoscaling::of(plural),
        "batch" => batch::of(plural),
        "certificates.k8s.io" => certificates::of(plural),
        "coordination.k8s.io" => coordination::of(plural),
        "discovery.k8s.io" => discovery::of(plural),
        "flowcontrol.apiserver.k8s.io" => flowcontrol::of(plural),
        "metrics.k8s.io" => metrics::of(plural),
        "networking.k8s.io" => networking::of(plural),
        "node.k8s.io" => node::of(plural),
        "policy" => policy::of(plural),
        "rbac.authorization.k8s.io" => rbac::of(plural),
        "resource.k8s.io" => resource::of(plural),
        "scheduling.k8s.io" => scheduling::of(plural),
        "storage.k8s.io" => storage::of(plural),
        _ => None,
    };
    own.unwrap_or(OTHERS)
}

const fn column(
    name: &'static str,
    ty: &'static str,
    cell: Cell,
    description: &'static str,
) -> Column {
    Column { name, ty, format: "", description, priority: 0, cell }
}

const fn text(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "string", Cell::Text(path, ""), description)
}

const fn integer(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "integer", Cell::Integer(path), description)
}

const fn boolean(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "boolean", Cell::Boolean(path), description)
}

const fn computed(
    name: &'static str,
    compute: fn(&Value) -> Value,
    description: &'static str,
) -> Column {
    column(name, "string", Cell::Computed(compute), description)
}

const fn since(
    name: &'static str,
    compute: fn(&Value, Timestamp) -> Value,
    description: &'static str,
) -> Column {
    column(name, "string", Cell::ComputedSince(compute), description)
}

const fn count(
    name: &'static str,
    paths: &'static [&'static str],
    description: &'static str,
) -> Column {
    column(name, "string", Cell::Count(paths), description)
}

impl Column {
    /// Shows the column only with `-o wide`.
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    const fn of_type(mut self, ty: &'static str) -> Self {
        self.ty = ty;
        self
    }

    /// Marks what the client may use to name the object.
    const fn as_name(mut self) -> Self {
        self.format = "name";
        self
    }

    /// Says how clients are to read the cells.
    const fn in_format(mut self, format: &'static str) -> Self {
        self.format = format;
        self
    }

    /// Says what stands for nothing.
    const fn or(mut self, missing: &'static str) -> Self {
        if let Cell::Text(path, _) = self.cell {
            self.cell = Cell::Text(path, missing);
        }
        self
    }
}

const NAME: Column = text("Name", "/metadata/name", "Name of the object.").as_name();
const AGE: Column = column("Age", "string", Cell::Age, "Time since the object was made.");
const CREATED_AT: Column =
    text("Created At", "/metadata/creationTimestamp", "When the object was made.").of_type("date");
const CONTAINERS: Column =
    computed("Containers", workload::containers, "Names of the containers of the template.").wide();
const IMAGES: Column =
    computed("Images", workload::images, "Images of the containers of the template.").wide();
const SELECTOR: Column =
    computed("Selector", workload::selector_cell, "Which pods belong to the object.").wide();
const PLAIN_SELECTOR: Column =
    computed("Selector", workload::plain_selector, "Which pods belong to the object.").wide();

const OTHERS: &[Column] = &[NAME, CREATED_AT];
