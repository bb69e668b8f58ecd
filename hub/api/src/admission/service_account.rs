//! ServiceAccount: the account that a pod runs as, what it brings along, and its token.

use serde_json::{Map, Value, json};

use crate::object;

/// Where containers find their token.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a mounted token lives, in seconds: an hour and a margin, as upstream, so that its age
/// tells it from others.
pub const TOKEN_SECONDS: i64 = 3607;

/// The name of the account that a new pod will run as.
pub fn account_name(pod: &Value) -> &str {
    match object::text(pod, "spec.serviceAccountName") {
        "" => "default",
        name => name,
    }
}

/// Whether a node made this pod from a file of its own: nobody else decides about it.
pub fn is_mirror(pod: &Value) -> bool {
    object::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

/// What is wrong with a mirror pod, if anything is.
pub fn mirror_refusal(pod: &Value) -> Option<&'static str> {
    if !object::text(pod, "spec.serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    let tokens = object::list(pod, "spec.volumes").iter().any(|volume| {
        object::list(volume, "projected.sources")
            .iter()
            .any(|source| object::get(source, "serviceAccountToken").is_some())
    });
    tokens.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// Sets the name of the account, and its pull secrets if the pod brings none.
pub fn apply(pod: &mut Value, account: &Value) {
    let name = account_name(pod).to_owned();
    let spec = object::ensure(pod, "spec");
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
    let own =
        spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    let secrets = object::list(account, "imagePullSecrets");
    if !own && !secrets.is_empty() {
        spec.insert("imagePullSecrets".to_owned(), json!(secrets));
    }
}

/// Whether the pod wants a token mounted: its own word comes before its account's.
pub fn wants_token(pod: &Value, account: &Value) -> bool {
    let said = |object: &Value, path: &str| object::get(object, path).and_then(Value::as_bool);
    said(pod, "spec.automountServiceAccountToken")
        .or_else(|| said(account, "automountServiceAccountToken"))
        .unwrap_or(true)
}

/// Mounts a token into every container that has nothing at that place. `suffix` makes the name of
/// the volume unique.
pub fn mount_token(pod: &mut Value, suffix: &str) {
    let existing = object::list(pod, "spec.volumes")
        .iter()
        .map(|it| object::text(it, "name"))
        .find(|it| it.starts_with("kube-api-access-"));
    let (name, is_new) = match existing {
        Some(name) => (name.to_owned(), false),
        None => (format!("kube-api-access-{suffix}"), true),
    };
    let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
    let spec = object::ensure(pod, "spec");
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            mounted |= add_mount(object::as_map(container), &mount);
        }
    }
    if mounted && is_new {
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(&name));
        }
    }
}

fn add_mount(container: &mut Map<String, Value>, mount: &Value) -> bool {
    let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
    let Some(mounts) = mounts.as_array_mut() else { return false };
    if mounts.iter().any(|it| object::text(it, "mountPath") == TOKEN_PATH) {
        return false;
    }
    mounts.push(mount.clone());
    true
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}
