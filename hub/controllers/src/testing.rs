//! Worlds made by hand, and plans as text.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, KindRow, Object, ObjectRef};
use crate::value::set;
use crate::{Controller, Plan, World, Write};

/// The time at which plans are made in tests.
pub(crate) fn now() -> Timestamp {
    "2026-11-20T08:00:00Z".parse().unwrap()
}

pub(crate) fn rows() -> Vec<KindRow> {
    [
        (Kind::BUDGET, "policy/v1", "PodDisruptionBudget", true),
        (Kind::CONFIG_MAP, "v1", "ConfigMap", true),
        (Kind::CONTROLLER_REVISION, "apps/v1", "ControllerRevision", true),
        (Kind::CRON_JOB, "batch/v1", "CronJob", true),
        (Kind::DAEMON_SET, "apps/v1", "DaemonSet", true),
        (
            Kind::CUSTOM_RESOURCE_DEFINITION,
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            false,
        ),
        (Kind::DEPLOYMENT, "apps/v1", "Deployment", true),
        (Kind::ENDPOINTS, "v1", "Endpoints", true),
        (Kind::ENDPOINT_SLICE, "discovery.k8s.io/v1", "EndpointSlice", true),
        (Kind::EVENT, "v1", "Event", true),
        (Kind::FLOW_SCHEMA, "flowcontrol.apiserver.k8s.io/v1", "FlowSchema", false),
        (Kind::JOB, "batch/v1", "Job", true),
        (Kind::LEASE, "coordination.k8s.io/v1", "Lease", true),
        (Kind::NAMESPACE, "v1", "Namespace", false),
        (Kind::NODE, "v1", "Node", false),
        (Kind::POD, "v1", "Pod", true),
        (
            Kind::PRIORITY_LEVEL,
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            false,
        ),
        (Kind::REPLICA_SET, "apps/v1", "ReplicaSet", true),
        (Kind::SERVICE, "v1", "Service", true),
        (Kind::SERVICE_ACCOUNT, "v1", "ServiceAccount", true),
        (Kind::STATEFUL_SET, "apps/v1", "StatefulSet", true),
        (
            Kind::STORAGE_VERSION_MIGRATION,
            "storagemigration.k8s.io/v1",
            "StorageVersionMigration",
            false,
        ),
        (Kind::VOLUME_CLAIM, "v1", "PersistentVolumeClaim", true),
        (
            Kind { group: "rbac.authorization.k8s.io", plural: "clusterroles" },
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            false,
        ),
    ]
    .into_iter()
    .map(|(kind, api_version, object_kind, namespaced)| KindRow {
        kind,
        api_version: api_version.to_owned(),
        object_kind: object_kind.to_owned(),
        namespaced,
    })
    .collect()
}

/// A world with these objects. Each has its name as uid, unless it says otherwise, and is of
/// namespace `default`, if it is of any.
pub(crate) fn world(objects: impl IntoIterator<Item = (Kind, Value)>) -> World {
    let mut world = World::new(rows(), Timestamp::UNIX_EPOCH);
    for (kind, mut object) in objects {
        let namespaced = world.row(kind).unwrap().namespaced;
        let name = object["metadata"]["name"].clone();
        let mut default = |field: &str, value: Value| {
            if object["metadata"][field].is_null() {
                set(&mut object, &["metadata", field], value);
            }
        };
        default("uid", name);
        default("resourceVersion", json!("7"));
        if namespaced {
            default("namespace", json!("default"));
        }
        world.put(Object::from_value(kind, object), now());
    }
    world
}

/// What a controller plans, one line a write.
pub(crate) fn plan(controller: &dyn Controller, key: &ObjectRef, world: &World) -> String {
    text(&controller.reconcile(key, world, now()))
}

pub(crate) fn text(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.writes.iter().map(line).collect();
    if let Some(at) = plan.recheck_at {
        lines.push(format!("recheck at {at}"));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(write: &Write) -> String {
    match write {
        Write::Create { kind, object, .. } => format!("create {kind} {object}"),
        Write::Patch { target, subresource, patch } => {
            let subresource = subresource.map(|it| format!("/{it}")).unwrap_or_default();
            format!("patch {target}{subresource} {patch}")
        }
        Write::Replace { target, subresource, object } => {
            format!("replace {target}/{} {object}", subresource.unwrap_or_default())
        }
        Write::Delete { target, revision, propagation, grace_seconds, only_without, .. } => {
            let revision = revision.map(|it| format!(" at {it}")).unwrap_or_default();
            let grace = grace_seconds.map(|it| format!(" grace {it}")).unwrap_or_default();
            let without: Vec<String> =
                only_without.iter().map(|(key, _)| format!(" unless {key}")).collect();
            format!("delete {target}{revision} {propagation:?}{grace}{}", without.concat())
        }
        Write::Note(note) => format!("note {}: {}", note.reason, note.message),
    }
}
