//! What every active namespace has: the ServiceAccount `default` and the cluster's CA for pods to trust.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, Name, Object, ObjectRef};
use crate::value::at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

const ACCOUNT: &str = "default";
const CA_CONFIG_MAP: &str = "kube-root-ca.crt";
const CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver \
    when using internal endpoints such as the internal service IP or kubernetes.default.svc. \
    No other usage is guaranteed across distributions of Kubernetes clusters.";

#[derive(Debug)]
pub struct ServiceAccountController {
    ca_pem: String,
}

impl ServiceAccountController {
    pub fn new(ca_pem: String) -> Self {
        Self { ca_pem }
    }

    fn data(&self) -> Value {
        json!({"ca.crt": self.ca_pem})
    }

    fn plan_ca(&self, namespace: &str, world: &World) -> Option<Write> {
        let Some(existing) = world.get(Kind::CONFIG_MAP, &Name::new(namespace, CA_CONFIG_MAP))
        else {
            return Some(self.create_ca(namespace));
        };
        let is_right = at(existing.value(), &["data"]) == &self.data();
        if is_right || existing.is_deleting() {
            return None;
        }
        let mut patch = json!({"data": self.data()});
        for key in at(existing.value(), &["data"]).as_object().into_iter().flat_map(|it| it.keys())
        {
            if key != "ca.crt" {
                patch["data"][key] = Value::Null;
            }
        }
        Some(Write::patch(existing, None, patch))
    }

    fn create_ca(&self, namespace: &str) -> Write {
        let metadata = json!({
            "name": CA_CONFIG_MAP,
            "namespace": namespace,
            "annotations": {"kubernetes.io/description": CA_DESCRIPTION},
        });
        create(
            Kind::CONFIG_MAP,
            namespace,
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self.data(),
            }),
        )
    }
}

impl Controller for ServiceAccountController {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        let Some(object) = change.latest() else { return Vec::new() };
        match (change.kind, object.name.name.as_str()) {
            (Kind::NAMESPACE, _) => vec![object.key()],
            (Kind::SERVICE_ACCOUNT, ACCOUNT) | (Kind::CONFIG_MAP, CA_CONFIG_MAP) => {
                vec![Kind::NAMESPACE.key(&Name::cluster(&object.name.namespace))]
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        let Some(namespace) = world.find(key).filter(|it| is_active(it)) else {
            return Plan::default();
        };
        let namespace = namespace.name.name.as_str();
        let mut writes = Vec::new();
        if world.get(Kind::SERVICE_ACCOUNT, &Name::new(namespace, ACCOUNT)).is_none() {
            let metadata = json!({"name": ACCOUNT, "namespace": namespace});
            writes.push(create(
                Kind::SERVICE_ACCOUNT,
                namespace,
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            ));
        }
        writes.extend(self.plan_ca(namespace, world));
        Plan::from(writes)
    }
}

fn is_active(namespace: &Object) -> bool {
    !namespace.is_deleting()
}

fn create(kind: Kind, namespace: &str, object: Value) -> Write {
    Write::Create { kind, namespace: namespace.to_owned(), object, then: None, or_else: None }
}
