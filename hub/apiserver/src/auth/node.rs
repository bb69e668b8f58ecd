//! Nodes as users: `system:node:<name>` in `system:nodes`. A node reads what its pods need, and
//! writes only about itself and its pods.
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_api::selector::FieldSelector;
use hub_api::{Status, object, resources};
use hub_storage::{Prefix, Storage};
use serde_json::Value;

use super::feed::{Change, Feed};
use super::guard::ClientWrite;
use super::{Attributes, Authorizer, Decision, Rules, User};
use crate::registry::Registry;

pub(super) const USER_PREFIX: &str = "system:node:";
pub(super) const GROUP: &str = "system:nodes";
/// Annotation of pods that a node made from a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation of Nodes: to which key the name belongs, as [`super::key_hash`] gives it.
pub const KEY_HASH: &str = "outbye.dev/key-hash";
/// Labels of these domains are not a node's to choose.
const RESERVED_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// Labels of reserved domains that a node may set all the same.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/windows-build",
];
/// Domains below the reserved ones in which a node may set any label.
const OWN_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The node that a user is.
pub(crate) fn name_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX).filter(|it| !it.is_empty())?;
    user.is_in(GROUP).then_some(name)
}

/// Whether a node's certificate is good no more: its Node was deleted, or the name belongs to another key.
pub(crate) fn is_locked_out(registry: &Registry, node: &str, certificate: &[u8]) -> bool {
    let found = resources::find("", "v1", "nodes").map(|it| registry.get(it, None, node));
    let Some(Ok(entry)) = found else { return true };
    let hash = super::key_hash(certificate).ok();
    object::annotation(&entry.value(), KEY_HASH).is_some_and(|it| Some(it) != hash.as_deref())
}

/// Something that a pod needs: plural, namespace and name.
type Need = (&'static str, String, String);

/// What the pods of each node need.
#[derive(Debug, Default)]
struct Graph {
    /// Of each pod (namespace and name): its node and its needs.
    pods: BTreeMap<(String, String), (String, Vec<Need>)>,
    /// Of each node and need: by how many pods.
    needs: BTreeMap<(String, Need), usize>,
}

impl Graph {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Reset => *self = Self::default(),
            Change::Put(entry) => {
                let key = place(&entry.key);
                self.remove(&key);
                let pod = &*entry.value();
                let node = object::text(pod, "spec.nodeName");
                if node.is_empty() {
                    return;
                }
                // A static pod's mirror may not make its node read anything.
                let needs = if is_mirror(pod) { Vec::new() } else { needs_of(pod, &key.0) };
                for need in &needs {
                    *self.needs.entry((node.to_owned(), need.clone())).or_default() += 1;
                }
                self.pods.insert(key, (node.to_owned(), needs));
            }
            Change::Delete(key) => self.remove(&place(&key)),
        }
    }

    fn remove(&mut self, key: &(String, String)) {
        let Some((node, needs)) = self.pods.remove(key) else { return };
        for need in needs {
            let key = (node.clone(), need);
            if let Some(count) = self.needs.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.needs.remove(&key);
                }
            }
        }
    }

    fn has(&self, node: &str, plural: &'static str, namespace: &str, name: &str) -> bool {
        let need = (plural, namespace.to_owned(), name.to_owned());
        self.needs.contains_key(&(node.to_owned(), need))
    }
}

fn place(key: &hub_storage::Key) -> (String, String) {
    (key.namespace().unwrap_or_default().to_owned(), key.name().to_owned())
}

/// Everything that a pod names and its node must read.
fn needs_of(pod: &Value, namespace: &str) -> Vec<Need> {
    let mut out: Vec<Need> = Vec::new();
    let mut need = |plural: &'static str, name: &str| {
        if !name.is_empty() {
            out.push((plural, namespace.to_owned(), name.to_owned()));
        }
    };
    need("serviceaccounts", object::text(pod, "spec.serviceAccountName"));
    for secret in object::list(pod, "spec.imagePullSecrets") {
        need("secrets", object::text(secret, "name"));
    }
    for list in ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"] {
        for container in object::list(pod, list) {
            for source in object::list(container, "envFrom") {
                need("secrets", object::text(source, "secretRef.name"));
                need("configmaps", object::text(source, "configMapRef.name"));
            }
            for variable in object::list(container, "env") {
                need("secrets", object::text(variable, "valueFrom.secretKeyRef.name"));
                need("configmaps", object::text(variable, "valueFrom.configMapKeyRef.name"));
            }
        }
    }
    for volume in object::list(pod, "spec.volumes") {
        need("secrets", object::text(volume, "secret.secretName"));
        need("configmaps", object::text(volume, "configMap.name"));
        need("persistentvolumeclaims", object::text(volume, "persistentVolumeClaim.claimName"));
        if volume.get("ephemeral").is_some() {
            let claim = format!("{}-{}", object::name(pod), object::text(volume, "name"));
            need("persistentvolumeclaims", &claim);
        }
        for source in object::list(volume, "projected.sources") {
            need("secrets", object::text(source, "secret.name"));
            need("configmaps", object::text(source, "configMap.name"));
        }
    }
    out
}

fn is_mirror(pod: &Value) -> bool {
    object::annotation(pod, MIRROR).is_some()
}

/// Decides for nodes, and only for them.
pub struct NodeAuthorizer {
    state: Mutex<(Feed, Graph)>,
}

impl std::fmt::Debug for NodeAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeAuthorizer").finish_non_exhaustive()
    }
}

impl NodeAuthorizer {
    /// Reads the pods of this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        let feed = Feed::new(storage, [Prefix::all("core", "pods")]);
        Self { state: Mutex::new((feed, Graph::default())) }
    }

    fn needs(&self, node: &str, plural: &'static str, it: &Attributes<'_>) -> bool {
        self.look(|graph| graph.has(node, plural, it.namespace, it.name))
    }

    fn has_pod(&self, node: &str, it: &Attributes<'_>) -> bool {
        let key = (it.namespace.to_owned(), it.name.to_owned());
        self.look(|graph| graph.pods.get(&key).is_some_and(|(at, _)| at == node))
    }

    fn look<T>(&self, see: impl FnOnce(&Graph) -> T) -> T {
        // The graph is consistent after each change: a panic elsewhere does not spoil it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (feed, graph) = &mut *state;
        if feed.is_behind() {
            feed.drain(|_, change| graph.apply(change));
        }
        see(graph)
    }
}

/// Whether a field selector demands that a field has that value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    FieldSelector::value_wanted(selector, field).is_some_and(|it| it == value)
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, it: &Attributes<'_>) -> Decision {
        let Some(node) = name_of(it.user) else { return Decision::SILENT };
        let no = |reason: &str| Decision::NoOpinion { reason: reason.to_owned() };
        let yes = || Decision::Allow { reason: String::new() };
        if !it.is_resource() {
            return Decision::SILENT;
        }
        let reads = matches!(it.verb, "get" | "list" | "watch");
        let related = |plural: &'static str| {
            if !reads || !it.subresource.is_empty() {
                return no("can only read resources of this type");
            }
            if it.name.is_empty() {
                return no("can only read namespaced object of this type");
            }
            if self.needs(node, plural, it) {
                return yes();
            }
            no(&format!("no relationship found between node '{node}' and this object"))
        };
        match (it.group, it.resource, it.subresource) {
            ("", "secrets", _) => related("secrets"),
            ("", "configmaps", _) => related("configmaps"),
            ("", "persistentvolumeclaims", "") => related("persistentvolumeclaims"),
            ("", "serviceaccounts", "token") => {
                if it.verb != "create" {
                    return no("can only create tokens for individual service accounts");
                }
                if self.needs(node, "serviceaccounts", it) {
                    return yes();
                }
                no(&format!("no relationship found between node '{node}' and this object"))
            }
            ("coordination.k8s.io", "leases", "") => own_lease(node, it),
            ("storage.k8s.io", "csinodes", "") if it.name == node => yes(),
            ("", "pods", "") if it.verb == "get" => {
                if self.has_pod(node, it) {
                    return yes();
                }
                no(&format!("no relationship found between node '{node}' and this object"))
            }
            ("", "pods", "") if reads && !selects(it.field_selector, "spec.nodeName", node) => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "nodes", "") if it.verb == "get" && it.name != node => {
                no(&format!("node '{node}' cannot read '{}', only its own Node object", it.name))
            }
            ("", "nodes", "") if matches!(it.verb, "list" | "watch") && it.name != node => {
                no(&format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            _ if ALWAYS.iter().any(|rule| rule.allows(it)) => yes(),
            _ => Decision::SILENT,
        }
    }

    fn rules(&self, user: &User, _namespace: &str) -> Rules {
        if name_of(user).is_none() {
            return Rules::default();
        }
        let error = "node authorizer does not support user rule resolution";
        Rules { is_incomplete: true, errors: vec![error.to_owned()], ..Rules::default() }
    }
}

fn own_lease(node: &str, it: &Attributes<'_>) -> Decision {
    let no = |reason: &str| Decision::NoOpinion { reason: reason.to_owned() };
    if !matches!(it.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if it.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // A creation names its object only in the body: it is looked at before it is stored.
    if it.verb != "create" && it.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow { reason: String::new() }
}

/// What every node may do.
struct Fixed {
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
}

impl Fixed {
    fn allows(&self, it: &Attributes<'_>) -> bool {
        let what = if it.subresource.is_empty() {
            it.resource.to_owned()
        } else {
            format!("{}/{}", it.resource, it.subresource)
        };
        self.group == it.group
            && self.verbs.contains(&it.verb)
            && self.resources.contains(&what.as_str())
    }
}

const READ: &[&str] = &["get", "list", "watch"];

const ALWAYS: &[Fixed] = &[
    Fixed { verbs: READ, group: "", resources: &["services", "nodes", "pods"] },
    Fixed { verbs: &["create", "update", "patch"], group: "", resources: &["nodes"] },
    Fixed { verbs: &["update", "patch"], group: "", resources: &["nodes/status", "pods/status"] },
    Fixed { verbs: &["create", "delete"], group: "", resources: &["pods"] },
    Fixed { verbs: &["create"], group: "", resources: &["pods/eviction"] },
    Fixed { verbs: &["create", "update", "patch"], group: "", resources: &["events"] },
    Fixed { verbs: &["create", "update", "patch"], group: "events.k8s.io", resources: &["events"] },
    Fixed { verbs: &["create"], group: "authentication.k8s.io", resources: &["tokenreviews"] },
    Fixed {
        verbs: &["create"],
        group: "authorization.k8s.io",
        resources: &["subjectaccessreviews", "localsubjectaccessreviews"],
    },
    Fixed {
        verbs: &["create", "get", "list", "watch"],
        group: "certificates.k8s.io",
        resources: &["certificatesigningrequests"],
    },
    Fixed { verbs: READ, group: "node.k8s.io", resources: &["runtimeclasses"] },
    Fixed { verbs: READ, group: "storage.k8s.io", resources: &["csidrivers"] },
    Fixed { verbs: &["get"], group: "", resources: &["persistentvolumes"] },
    Fixed { verbs: &["get"], group: "storage.k8s.io", resources: &["volumeattachments"] },
];

/// What a node may not write although it may use the verb. `authorizer` is asked for the audiences of tokens.
pub(super) fn restrict(
    registry: &Registry,
    authorizer: &dyn Authorizer,
    node: &str,
    it: &ClientWrite<'_>,
) -> Result<(), Status> {
    let forbidden = |why: String| {
        Err(Status::forbidden(&it.resource.group, &it.resource.plural, it.name, &why))
    };
    let about = (&*it.resource.group, &*it.resource.plural, it.subresource);
    match about {
        ("", "pods", subresource) => restrict_pod(registry, node, it, subresource),
        ("", "nodes", None | Some("status")) => restrict_node(node, it),
        ("", "serviceaccounts", Some("token")) => token::restrict(registry, authorizer, node, it),
        ("coordination.k8s.io", "leases", None) => {
            let named = it.new.map_or(it.name, object::name);
            let placed = it.namespace == Some("kube-node-lease");
            if placed && named == node {
                return Ok(());
            }
            forbidden(
                "can only access node lease with the same name as the requesting node".to_owned(),
            )
        }
        _ => Ok(()),
    }
}

fn restrict_pod(
    registry: &Registry,
    node: &str,
    it: &ClientWrite<'_>,
    subresource: Option<&str>,
) -> Result<(), Status> {
    let forbidden = |why: String| Err(Status::forbidden("", "pods", it.name, &why));
    let bound_here = |pod: &Value| object::text(pod, "spec.nodeName") == node;
    match (subresource, it.old, it.new) {
        (None, None, Some(new)) => match mirror_refusal(registry, node, new) {
            Some(why) => forbidden(why),
            None => Ok(()),
        },
        (None, Some(old), None) if !bound_here(old) => forbidden(format!(
            "node \"{node}\" can only delete pods with spec.nodeName set to itself"
        )),
        (Some("status"), Some(old), _) if !bound_here(old) => forbidden(format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        )),
        (Some("status"), Some(old), Some(new)) if object::labels(old) != object::labels(new) => {
            forbidden(format!("node \"{node}\" cannot update labels through pod status"))
        }
        (Some("eviction"), _, _) => {
            let pods = resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
            let pod = registry.get(pods, it.namespace, it.name)?;
            if bound_here(&pod.value()) {
                return Ok(());
            }
            forbidden(format!(
                "node \"{node}\" can only evict pods with spec.nodeName set to itself"
            ))
        }
        (None, Some(_), Some(_)) => forbidden(format!("node \"{node}\" cannot update pods")),
        _ => Ok(()),
    }
}

/// Why a node may not make this pod: it makes nothing but mirrors of its own static pods, and these must not refer to
/// anything, for what a pod refers to its node may read.
fn mirror_refusal(registry: &Registry, node: &str, pod: &Value) -> Option<String> {
    if !is_mirror(pod) {
        return Some(format!(
            "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    let own = |what: &str| Some(format!("node \"{node}\" can only create pods with {what}"));
    if object::text(pod, "spec.nodeName") != node {
        return own("spec.nodeName set to itself");
    }
    let [owner] = object::list(pod, "metadata.ownerReferences") else {
        return own("an owner reference set to itself");
    };
    let text = |field: &str| object::text(owner, field);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return own("an owner reference set to itself");
    }
    if !object::flag(owner, "controller") {
        return own("a controller owner reference set to itself");
    }
    if object::flag(owner, "blockOwnerDeletion") {
        return Some(format!(
            "node \"{node}\" must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let nodes = resources::find("", "v1", "nodes")?;
    let uid = registry.get(nodes, None, node).map(|it| object::uid(&it.value()).to_owned());
    match uid {
        Ok(uid) if uid == text("uid") => {}
        Ok(uid) => {
            let got = text("uid");
            return Some(format!("node {node} UID mismatch: expected {uid} got {got}"));
        }
        Err(status) => return Some(status.message),
    }
    let needs = needs_of(pod, object::namespace(pod));
    let claims = !object::list(pod, "spec.resourceClaims").is_empty();
    let needed = needs.first().map(|(plural, ..)| *plural);
    let what = needed.or_else(|| claims.then_some("resourceclaims"))?;
    Some(format!("node \"{node}\" can not create pods that reference {what}"))
}

fn restrict_node(node: &str, it: &ClientWrite<'_>) -> Result<(), Status> {
    let name = it.new.map_or(it.name, object::name);
    let forbidden = |why: String| Err(Status::forbidden("", "nodes", name, &why));
    if name != node {
        return forbidden(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
    }
    let Some(new) = it.new else { return Ok(()) };
    let nothing = Value::Null;
    let old = it.old.unwrap_or(&nothing);
    if object::annotation(old, KEY_HASH) != object::annotation(new, KEY_HASH) {
        return forbidden(format!(
            "node \"{node}\" is not allowed to modify the annotation {KEY_HASH}"
        ));
    }
    if it.old.is_some() && it.subresource.is_none() {
        let differ = |path: &str| object::get(old, path) != object::get(new, path);
        if differ("spec.taints") {
            return forbidden(format!("node \"{node}\" is not allowed to modify taints"));
        }
        if differ("spec.configSource") {
            return forbidden(format!("node \"{node}\" is not allowed to update configSource"));
        }
        if differ("metadata.ownerReferences") {
            return forbidden(format!("node \"{node}\" is not allowed to modify ownerReferences"));
        }
    }
    let labels = |it: &Value| object::string_map(object::labels(it));
    let (before, after) = (labels(old), labels(new));
    let changed: Vec<&str> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key))
        .map(String::as_str)
        .filter(|key| !may_label(key))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    forbidden(format!(
        "is not allowed to modify labels: {}",
        changed
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

/// Whether a node may choose the label itself.
pub fn may_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within =
        |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|it| it.ends_with('.'));
    OWN_LABELS.contains(&key)
        || OWN_LABEL_DOMAINS.iter().any(|it| within(it))
        || !RESERVED_DOMAINS.iter().any(|it| within(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_choose_only_labels_that_mean_nothing_to_others() {
        for (key, allowed) in [
            ("site", true),
            ("example.com/rack", true),
            ("kubernetes.io/hostname", true),
            ("kubelet.kubernetes.io/x", true),
            ("x.node.kubernetes.io/y", true),
            ("node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("foo.k8s.io/x", false),
            ("notk8s.io/x", true),
        ] {
            assert_eq!(may_label(key), allowed, "{key}");
        }
    }

    #[test]
    fn pods_name_what_their_node_reads() {
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}],
                            "envFrom": [{"configMapRef": {"name": "all"}}]}],
            "volumes": [{"secret": {"secretName": "files"}},
                        {"projected": {"sources": [{"configMap": {"name": "part"}}]}},
                        {"name": "v", "ephemeral": {}}],
        }});
        let mut needs: Vec<String> = needs_of(&pod, "a")
            .into_iter()
            .map(|(plural, _, name)| format!("{plural} {name}"))
            .collect();
        needs.sort();
        assert_eq!(
            needs,
            [
                "configmaps all",
                "configmaps part",
                "persistentvolumeclaims p-v",
                "secrets files",
                "secrets key",
                "secrets pull",
                "serviceaccounts sa",
            ]
        );
    }
}
