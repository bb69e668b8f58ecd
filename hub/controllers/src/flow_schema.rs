//! FlowSchemas: whether the priority level that each refers to exists.

use jiff::Timestamp;
use serde_json::json;

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::value::str_at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

const DANGLING: &str = "Dangling";

#[derive(Debug)]
pub struct FlowSchemaController;

impl Controller for FlowSchemaController {
    fn name(&self) -> &'static str {
        "flow-schema-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::FLOW_SCHEMA => change.latest().map(Object::key).into_iter().collect(),
            // Only whether a level is there matters.
            Kind::PRIORITY_LEVEL if change.old.is_none() || change.new.is_none() => {
                let name = change.latest().map_or("", |it| it.name.name.as_str());
                let schemas = world.list(Kind::FLOW_SCHEMA).filter(|it| level(it) == name);
                schemas.map(|it| it.key()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(schema) = world.find(key) else { return Plan::default() };
        let level = level(schema);
        let exists = world.get(Kind::PRIORITY_LEVEL, &Name::cluster(level)).is_some();
        let about = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?}"
        );
        let (status, reason, message) = match exists {
            true => ("False", "Found", format!("{about} and it exists")),
            false => ("True", "NotFound", format!("{about} but there is no such object")),
        };
        let mut conditions = condition::list(schema.status());
        let new = Condition { kind: DANGLING, status, reason, message };
        if !condition::set(&mut conditions, &new, None, now) {
            return Plan::default();
        }
        let patch = json!({"status": {"conditions": conditions}});
        Plan::from(vec![Write::patch(schema, Some("status"), patch)])
    }
}

fn level(schema: &Object) -> &str {
    str_at(schema.spec(), &["priorityLevelConfiguration", "name"])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{plan, world};

    #[test]
    fn a_schema_says_whether_its_level_is_missing() {
        let schema = |status: Value| {
            let spec = json!({"priorityLevelConfiguration": {"name": "a"}});
            (Kind::FLOW_SCHEMA, json!({"metadata": {"name": "s"}, "spec": spec, "status": status}))
        };
        let level = (Kind::PRIORITY_LEVEL, json!({"metadata": {"name": "a"}}));
        let key = Kind::FLOW_SCHEMA.key(&Name::cluster("s"));
        let missing = plan(&FlowSchemaController, &key, &world([schema(json!({}))]));
        assert!(missing.contains("\"reason\":\"NotFound\",\"status\":\"True\""), "{missing}");
        let found = plan(&FlowSchemaController, &key, &world([schema(json!({})), level.clone()]));
        assert!(found.contains("and it exists"), "{found}");
        let told = json!({"conditions": [{
            "type": "Dangling", "status": "False", "reason": "Found",
            "message": "This FlowSchema references the PriorityLevelConfiguration object named \"a\" and it exists",
        }]});
        assert_eq!(plan(&FlowSchemaController, &key, &world([schema(told), level])), "");
    }
}
