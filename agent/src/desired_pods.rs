//! The hub's objects as pods that can be run: each Pod with what it refers to.
//!
//! A pod is put together again only when one of its objects changed.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::{
    desired::{DesiredPod, DesiredSet, References, referred_names},
    ids::PodUid,
};
use agent_sync::ObjectKey;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};

use crate::{
    desired::{Body, DesiredObjects},
    tokens::PodToken,
};

/// Objects, by identity.
type Bodies = Vec<Arc<Body>>;

/// What a pod was made of, by identity.
#[derive(Clone, Debug, Default)]
struct Inputs {
    bodies: Bodies,
    tokens: Vec<Arc<PodToken>>,
}

impl Inputs {
    fn is_same(&self, other: &Self) -> bool {
        are_same(&self.bodies, &other.bodies) && are_same(&self.tokens, &other.tokens)
    }
}

fn are_same<T>(before: &[Arc<T>], after: &[Arc<T>]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Remembers what was put together.
#[derive(Debug, Default)]
pub(crate) struct DesiredPods {
    pods: BTreeMap<PodUid, (Inputs, Arc<DesiredPod>)>,
    services: BTreeMap<String, (Bodies, Vec<Arc<Service>>)>,
    /// Which pod an object is.
    uids: BTreeMap<ObjectKey, (Arc<Body>, PodUid)>,
    /// The hub's authority (PEM).
    root_ca: Option<Arc<str>>,
}

impl DesiredPods {
    /// `authority` is the hub's, as PEM; empty if the node has none.
    pub(crate) fn new(authority: &str) -> Self {
        let root_ca = Some(authority).filter(|it| !it.is_empty()).map(Into::into);
        Self { root_ca, ..Self::default() }
    }

    /// All pods of the view.
    pub(crate) fn update(&mut self, view: &DesiredObjects) -> DesiredSet {
        let (mut pods, mut uids) = (BTreeMap::new(), BTreeMap::new());
        for (key, object) in view.of_kind("Pod") {
            match self.pod(view, key, &object.body) {
                Some((uid, inputs, pod)) => {
                    uids.insert(key.clone(), (Arc::clone(&object.body), uid));
                    pods.insert(uid, (inputs, pod));
                }
                None => tracing::warn!(pod = %key, "Left out a Pod that cannot be read"),
            }
        }
        (self.pods, self.uids) = (pods, uids);
        let set = self.pods.iter().map(|(uid, (_, pod))| (*uid, Arc::clone(pod))).collect();
        if view.complete { DesiredSet::Complete(set) } else { DesiredSet::Partial(set) }
    }

    fn pod(
        &mut self,
        view: &DesiredObjects,
        key: &ObjectKey,
        body: &Arc<Body>,
    ) -> Option<(PodUid, Inputs, Arc<DesiredPod>)> {
        let uid = match self.uids.get(key) {
            Some((known, uid)) if Arc::ptr_eq(known, body) => *uid,
            _ => body.pod_uid()?,
        };
        let known = self.pods.get(&uid).cloned();
        // The names that it refers to cannot change without the Pod.
        let parsed: Arc<Pod> = match &known {
            Some((inputs, pod))
                if inputs.bodies.first().is_some_and(|it| Arc::ptr_eq(it, body)) =>
            {
                Arc::clone(&pod.pod)
            }
            _ => Arc::new(body.parse()?),
        };
        let (inputs, references) =
            self.references(view, (&key.namespace, &uid), parsed.spec.as_ref()?, body);
        if let Some((before, pod)) = known
            && before.is_same(&inputs)
        {
            return Some((uid, inputs, pod));
        }
        let pod = DesiredPod::new(parsed, Arc::new(references)).ok()?;
        Some((uid, inputs, Arc::new(pod)))
    }

    fn references(
        &mut self,
        view: &DesiredObjects,
        (namespace, uid): (&str, &PodUid),
        spec: &PodSpec,
        pod: &Arc<Body>,
    ) -> (Inputs, References) {
        let names = referred_names(spec);
        let mut bodies = vec![Arc::clone(pod)];
        let mut references = References { root_ca: self.root_ca.clone(), ..References::default() };
        for name in names.config_maps {
            let Some(found) = view.find("ConfigMap", namespace, &name) else { continue };
            if let Some(map) = found.body.parse() {
                bodies.push(Arc::clone(&found.body));
                references.config_maps.insert(name, Arc::new(map));
            }
        }
        for name in names.secrets {
            let Some(found) = view.find("Secret", namespace, &name) else { continue };
            if let Some(secret) = found.body.parse() {
                bodies.push(Arc::clone(&found.body));
                references.secrets.insert(name, Arc::new(secret));
            }
        }
        let (services, parsed) = self.services(view, namespace);
        bodies.extend(services);
        references.services = parsed;
        let tokens: Vec<_> = view.tokens.of(uid).cloned().collect();
        let held = tokens.iter().map(|it| (it.name.clone(), Arc::clone(&it.token)));
        references.tokens = held.collect();
        (Inputs { bodies, tokens }, references)
    }

    fn services(&mut self, view: &DesiredObjects, namespace: &str) -> (Bodies, Vec<Arc<Service>>) {
        let inputs: Bodies = view
            .of_kind("Service")
            .filter(|(key, _)| {
                key.namespace == namespace
                    || (key.namespace == "default" && key.name == "kubernetes")
            })
            .map(|(_, object)| Arc::clone(&object.body))
            .collect();
        if let Some((before, services)) = self.services.get(namespace)
            && are_same(before, &inputs)
        {
            return (inputs, services.clone());
        }
        let services: Vec<Arc<Service>> =
            inputs.iter().filter_map(|it| it.parse().map(Arc::new)).collect();
        self.services.insert(namespace.to_owned(), (inputs.clone(), services.clone()));
        (inputs, services)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::StoredObject;

    const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

    fn put(view: &mut DesiredObjects, kind: &str, name: &str, value: Value) {
        let key = ObjectKey::new(kind, "d", name);
        let body = Arc::new(Body::new(value.to_string().as_bytes()).unwrap());
        view.objects.insert(key, StoredObject { revision: 1, body });
    }

    #[test]
    fn a_pod_is_made_again_only_when_one_of_its_objects_changes() {
        let mut view = DesiredObjects { complete: true, ..DesiredObjects::default() };
        let volumes = json!([{"name": "v", "configMap": {"name": "c"}}]);
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": UID},
            "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}});
        put(&mut view, "Pod", "p", pod);
        put(&mut view, "Pod", "broken", json!({"metadata": {}}));
        let mut pods = DesiredPods::default();
        let only = |set: DesiredSet| Arc::clone(set.pods().values().next().unwrap());
        let first = only(pods.update(&view));
        assert!(first.volumes.is_err());
        put(&mut view, "ConfigMap", "other", json!({"data": {"k": "v"}}));
        assert!(Arc::ptr_eq(&first, &only(pods.update(&view))));
        put(&mut view, "ConfigMap", "c", json!({"data": {"k": "v"}}));
        let second = only(pods.update(&view));
        assert!(second.volumes.is_ok());
        assert!(Arc::ptr_eq(&second, &only(pods.update(&view))));
        put(&mut view, "ConfigMap", "c", json!({"data": {"k": "w"}}));
        let third = only(pods.update(&view));
        assert_ne!(second.volumes_fingerprint, third.volumes_fingerprint);
        assert!(matches!(pods.update(&view), DesiredSet::Complete(_)));
        view.complete = false;
        assert!(matches!(pods.update(&view), DesiredSet::Partial(_)));
    }
}
