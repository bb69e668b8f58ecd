//! What each node should know: its pods, what those refer to, its own Node, and every Service.
//!
//! A pure index over the objects of the hub. One change in, the changes of every open session
//! out. What a node reports itself (status) and what only the hub needs (resourceVersion,
//! managedFields) is cut off, so that a report does not come back as a change.

use std::collections::{BTreeMap, BTreeSet};

use agent_sync::{ObjectKey, ViewObject};
use serde_json::Value;

/// A change to the view of one node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ViewChange {
    Upsert(ObjectKey, ViewObject),
    Delete(ObjectKey),
}

/// Who sees an object.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Audience {
    Everyone,
    Node(String),
    /// Nodes with a pod that refers to it.
    Referrers,
    Nobody,
}

#[derive(Debug)]
struct Tracked {
    object: ViewObject,
    audience: Audience,
    /// ConfigMaps and Secrets that a pod needs.
    refs: BTreeSet<ObjectKey>,
}

/// The views of all nodes.
#[derive(Debug, Default)]
pub(super) struct ViewIndex {
    objects: BTreeMap<ObjectKey, Tracked>,
    /// Pods and Node object of each node.
    owned: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// How many pods of a node refer to an object.
    references: BTreeMap<String, BTreeMap<ObjectKey, usize>>,
    everyone: BTreeSet<ObjectKey>,
}

/// Changes by node; `None` is every node.
pub(super) type Addressed = Vec<(Option<String>, ViewChange)>;

impl ViewIndex {
    /// Everything that a node should know now.
    pub(super) fn view_of(&self, node: &str) -> Vec<(ObjectKey, ViewObject)> {
        let owned = self.owned.get(node).into_iter().flatten();
        let referred = self.references.get(node).into_iter().flat_map(BTreeMap::keys);
        owned
            .chain(referred)
            .chain(&self.everyone)
            .filter_map(|key| Some((key.clone(), self.objects.get(key)?.object.clone())))
            .collect()
    }

    /// The objects of one kind.
    pub(super) fn keys_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ObjectKey> {
        self.objects
            .range(ObjectKey::new(kind, "", "")..)
            .map(|(key, _)| key)
            .take_while(move |key| key.kind == kind)
    }

    /// An object exists with this content.
    pub(super) fn put(&mut self, key: ObjectKey, revision: u64, value: &Value) -> Addressed {
        let audience = audience(&key, value);
        let refs =
            if key.kind == "Pod" { references(&key.namespace, value) } else { BTreeSet::new() };
        let object = ViewObject { revision, body: trim(value).into() };
        let mut out = Addressed::new();
        let moved =
            self.objects.get(&key).is_some_and(|it| it.audience != audience || it.refs != refs);
        if moved {
            // Take the new references first: what both need must not be dropped in between.
            self.retain_references(&audience, &refs, &mut out);
            self.withdraw(&key, audience_node(&audience), &mut out);
        } else if !self.objects.contains_key(&key) {
            self.retain_references(&audience, &refs, &mut out);
        }
        match &audience {
            Audience::Everyone => {
                self.everyone.insert(key.clone());
            }
            Audience::Node(node) => {
                self.owned.entry(node.clone()).or_default().insert(key.clone());
            }
            Audience::Referrers | Audience::Nobody => {}
        }
        for node in self.viewers(&key, &audience) {
            out.push((node, ViewChange::Upsert(key.clone(), object.clone())));
        }
        self.objects.insert(key, Tracked { object, audience, refs });
        out
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> Addressed {
        let mut out = Addressed::new();
        self.withdraw(key, None, &mut out);
        out
    }

    fn viewers(&self, key: &ObjectKey, audience: &Audience) -> Vec<Option<String>> {
        match audience {
            Audience::Everyone => vec![None],
            Audience::Node(node) => vec![Some(node.clone())],
            Audience::Referrers => self
                .references
                .iter()
                .filter(|(_, refs)| refs.contains_key(key))
                .map(|(node, _)| Some(node.clone()))
                .collect(),
            Audience::Nobody => Vec::new(),
        }
    }

    fn retain_references(
        &mut self,
        audience: &Audience,
        refs: &BTreeSet<ObjectKey>,
        out: &mut Addressed,
    ) {
        let Audience::Node(node) = audience else { return };
        let counts = self.references.entry(node.clone()).or_default();
        for key in refs {
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1
                && let Some(tracked) = self.objects.get(key)
            {
                let change = ViewChange::Upsert(key.clone(), tracked.object.clone());
                out.push((Some(node.clone()), change));
            }
        }
    }

    /// Forgets the object; its viewers lose it, but for the node that keeps it.
    fn withdraw(&mut self, key: &ObjectKey, keeps: Option<&str>, out: &mut Addressed) {
        let Some(old) = self.objects.remove(key) else { return };
        for node in self.viewers(key, &old.audience) {
            if node.as_deref() != keeps || keeps.is_none() {
                out.push((node, ViewChange::Delete(key.clone())));
            }
        }
        self.everyone.remove(key);
        let Audience::Node(node) = &old.audience else { return };
        if let Some(owned) = self.owned.get_mut(node) {
            owned.remove(key);
            if owned.is_empty() {
                self.owned.remove(node);
            }
        }
        let Some(counts) = self.references.get_mut(node) else { return };
        for key in &old.refs {
            let Some(count) = counts.get_mut(key) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
                out.push((Some(node.clone()), ViewChange::Delete(key.clone())));
            }
        }
        if counts.is_empty() {
            self.references.remove(node);
        }
    }
}

fn audience_node(audience: &Audience) -> Option<&str> {
    match audience {
        Audience::Node(node) => Some(node),
        Audience::Everyone | Audience::Referrers | Audience::Nobody => None,
    }
}

fn audience(key: &ObjectKey, value: &Value) -> Audience {
    match key.kind.as_str() {
        "Pod" => match value["spec"]["nodeName"].as_str() {
            Some(node) if !node.is_empty() => Audience::Node(node.to_owned()),
            _ => Audience::Nobody,
        },
        "Node" => Audience::Node(key.name.clone()),
        "Service" | "EndpointSlice" => Audience::Everyone,
        "ConfigMap" | "Secret" => Audience::Referrers,
        _ => Audience::Nobody,
    }
}

/// The ConfigMaps and Secrets that a pod names anywhere.
fn references(namespace: &str, pod: &Value) -> BTreeSet<ObjectKey> {
    let mut out = BTreeSet::new();
    let mut add = |kind: &str, name: &Value| {
        if let Some(name) = name.as_str().filter(|it| !it.is_empty()) {
            out.insert(ObjectKey::new(kind, namespace, name));
        }
    };
    let spec = &pod["spec"];
    for secret in items(&spec["imagePullSecrets"]) {
        add("Secret", &secret["name"]);
    }
    for volume in items(&spec["volumes"]) {
        add("ConfigMap", &volume["configMap"]["name"]);
        add("Secret", &volume["secret"]["secretName"]);
        for source in items(&volume["projected"]["sources"]) {
            add("ConfigMap", &source["configMap"]["name"]);
            add("Secret", &source["secret"]["name"]);
        }
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|field| items(&spec[*field])) {
        for source in items(&container["envFrom"]) {
            add("ConfigMap", &source["configMapRef"]["name"]);
            add("Secret", &source["secretRef"]["name"]);
        }
        for var in items(&container["env"]) {
            add("ConfigMap", &var["valueFrom"]["configMapKeyRef"]["name"]);
            add("Secret", &var["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    out
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn trim(value: &Value) -> Vec<u8> {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            metadata.remove("resourceVersion");
        }
    }
    serde_json::to_vec(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, config: &str, status: &str) -> Value {
        json!({
            "metadata": {"name": "web", "resourceVersion": "5"},
            "spec": {"nodeName": node, "volumes": [{"name": "v", "configMap": {"name": config}}]},
            "status": {"phase": status}
        })
    }

    fn names(index: &ViewIndex, node: &str) -> Vec<String> {
        let mut names: Vec<_> =
            index.view_of(node).into_iter().map(|(key, _)| key.to_string()).collect();
        names.sort();
        names
    }

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_sees_its_pods_and_what_they_refer_to() {
        let mut index = ViewIndex::default();
        index.put(key("ConfigMap/d/a"), 1, &json!({"data": {}}));
        index.put(key("ConfigMap/d/b"), 2, &json!({"data": {}}));
        index.put(key("Secret/d/other"), 3, &json!({}));
        index.put(key("Service/d/s"), 4, &json!({}));
        index.put(key("Node//n1"), 5, &json!({}));
        index.put(key("Pod/d/web"), 6, &pod("n1", "a", "Pending"));
        assert_eq!(names(&index, "n1"), ["ConfigMap/d/a", "Node//n1", "Pod/d/web", "Service/d/s"]);
        assert_eq!(names(&index, "n2"), ["Service/d/s"]);

        let changes = index.put(key("Pod/d/web"), 7, &pod("n1", "b", "Pending"));
        let text: Vec<_> = changes
            .iter()
            .map(|(node, change)| {
                format!(
                    "{node:?} {}",
                    match change {
                        ViewChange::Upsert(key, _) => format!("+{key}"),
                        ViewChange::Delete(key) => format!("-{key}"),
                    }
                )
            })
            .collect();
        assert_eq!(
            text,
            [
                "Some(\"n1\") +ConfigMap/d/b",
                "Some(\"n1\") -ConfigMap/d/a",
                "Some(\"n1\") +Pod/d/web"
            ]
        );
        index.remove(&key("Pod/d/web"));
        assert_eq!(names(&index, "n1"), ["Node//n1", "Service/d/s"]);
        assert!(index.references.is_empty());
    }

    #[test]
    fn an_object_that_comes_after_its_pod_is_sent() {
        let mut index = ViewIndex::default();
        index.put(key("Pod/d/web"), 1, &pod("n1", "late", "Pending"));
        let changes = index.put(key("ConfigMap/d/late"), 2, &json!({}));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].0.as_deref(), Some("n1"));
    }

    #[test]
    fn a_status_report_does_not_change_the_body() {
        let mut index = ViewIndex::default();
        index.put(key("Pod/d/web"), 1, &pod("n1", "a", "Pending"));
        let before = index.view_of("n1");
        index.put(key("Pod/d/web"), 1, &pod("n1", "a", "Running"));
        assert_eq!(before, index.view_of("n1"));
    }
}
