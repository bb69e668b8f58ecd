//! StorageVersionMigrations: every object of a resource is written once, as it is, so that it lies
//! in the store as objects are stored today (version of a custom resource, key of encryption).
//!
//! An unchanged object costs nothing: the API machinery writes only what would be stored otherwise.
//! Source: <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/>.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Object, ObjectRef};
use crate::value::str_at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

#[derive(Debug)]
pub struct StorageMigrationController;

impl Controller for StorageMigrationController {
    fn name(&self) -> &'static str {
        "storage-version-migrator-controller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        let migrations = change.kind == Kind::STORAGE_VERSION_MIGRATION;
        change.latest().filter(|_| migrations).map(Object::key).into_iter().collect()
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(migration) = world.find(key).filter(|it| !has_ended(it)) else {
            return Plan::default();
        };
        let resource = |field| str_at(migration.spec(), &["resource", field]);
        let (group, plural) = (resource("group"), resource("resource"));
        let Some(kind) =
            world.rows().map(|it| it.kind).find(|it| it.group == group && it.plural == plural)
        else {
            let why =
                format!("resource {plural:?} of group {group:?} does not exist or is not stored");
            return Plan::from(vec![told(
                migration,
                FAILED,
                "StorageVersionMigrationFailed",
                why,
                None,
                now,
            )]);
        };
        // What is there now is all there is to do: later writes are stored as of today anyway.
        let Some(seen) = world.seen(kind) else { return Plan::default() };
        if condition::state(migration.status(), RUNNING) != "True" {
            let seen = Some(seen);
            let why = String::new();
            return Plan::from(vec![told(
                migration,
                RUNNING,
                "StorageVersionMigrationInProgress",
                why,
                seen,
                now,
            )]);
        }
        let mut writes: Vec<Write> =
            world.list(kind).map(|it| Write::patch(it, None, json!({}))).collect();
        writes.push(told(
            migration,
            SUCCEEDED,
            "StorageVersionMigrationSucceeded",
            String::new(),
            None,
            now,
        ));
        Plan::from(writes)
    }
}

fn has_ended(migration: &Object) -> bool {
    [SUCCEEDED, FAILED].iter().any(|it| condition::state(migration.status(), it) == "True")
}

/// Sets the one condition that holds, and clears `Running` with the others.
fn told(
    migration: &Object,
    kind: &str,
    reason: &str,
    message: String,
    seen: Option<u64>,
    now: Timestamp,
) -> Write {
    let mut conditions = condition::list(migration.status());
    if kind != RUNNING {
        let ended = Condition { kind: RUNNING, status: "False", reason, message: message.clone() };
        condition::set(&mut conditions, &ended, None, now);
    }
    condition::set(
        &mut conditions,
        &Condition { kind, status: "True", reason, message },
        None,
        now,
    );
    let mut status = json!({"conditions": conditions});
    if let Some(seen) = seen {
        status["resourceVersion"] = Value::from(seen.to_string());
    }
    Write::patch_exactly(migration, Some("status"), json!({"status": status}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;
    use crate::testing::{now, world};

    fn migration(plural: &str, running: &str) -> (Kind, Value) {
        let spec = json!({"resource": {"group": "", "resource": plural}});
        let conditions = json!([{"type": "Running", "status": running}]);
        let object =
            json!({"metadata": {"name": "m"}, "spec": spec, "status": {"conditions": conditions}});
        (Kind::STORAGE_VERSION_MIGRATION, object)
    }

    fn writes(of: (Kind, Value)) -> Vec<Write> {
        let map =
            |name: &str| (Kind::CONFIG_MAP, json!({"metadata": {"name": name, "namespace": "a"}}));
        let world = world([of, map("x"), map("y")]);
        let key = Kind::STORAGE_VERSION_MIGRATION.key(&Name::cluster("m"));
        StorageMigrationController.reconcile(&key, &world, now()).writes
    }

    fn conditions(write: &Write) -> Vec<String> {
        let Write::Patch { patch, subresource: Some("status"), .. } = write else {
            panic!("{write:?}")
        };
        let list = patch["status"]["conditions"].as_array().unwrap();
        list.iter()
            .map(|it| format!("{}={}", str_at(it, &["type"]), str_at(it, &["status"])))
            .collect()
    }

    #[test]
    fn every_object_is_written_once_and_then_it_is_over() {
        let started = writes(migration("configmaps", "False"));
        assert_eq!(started.iter().map(conditions).collect::<Vec<_>>(), [["Running=True"]]);
        let all = writes(migration("configmaps", "True"));
        let [Write::Patch { patch, .. }, Write::Patch { .. }, end] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(patch["metadata"].as_object().unwrap().keys().collect::<Vec<_>>(), ["uid"]);
        assert_eq!(conditions(end), ["Running=False", "Succeeded=True"]);
    }

    #[test]
    fn a_resource_that_is_not_there_fails_the_migration() {
        let all = writes(migration("nothing", ""));
        assert_eq!(
            all.iter().map(conditions).collect::<Vec<_>>(),
            [["Running=False", "Failed=True"]]
        );
    }
}
