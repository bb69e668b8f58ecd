//! Default classes of claims and ingresses, and the finalizers that keep volumes in use.

use serde_json::{Value, json};

use crate::object;
use crate::time;

const DEFAULT_STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

/// DefaultStorageClass: the class of a claim that names none.
pub fn default_storage_class(claim: &mut Value, classes: &[Value]) {
    let named = object::get(claim, "spec.storageClassName").is_some()
        || object::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
    if named {
        return;
    }
    if let Some(class) = newest(classes, &DEFAULT_STORAGE) {
        let name = object::name(class);
        object::ensure(claim, "spec").insert("storageClassName".to_owned(), json!(name));
    }
}

/// DefaultIngressClass: the class of an Ingress that names none.
///
/// # Errors
/// Several classes are the default.
pub fn default_ingress_class(ingress: &mut Value, classes: &[Value]) -> Result<(), String> {
    let named = object::get(ingress, "spec.ingressClassName").is_some()
        || object::annotation(ingress, "kubernetes.io/ingress.class").is_some();
    if named {
        return Ok(());
    }
    let defaults = classes.iter().filter(|it| is_default(it, &DEFAULT_INGRESS)).count();
    if defaults > 1 {
        return Err(format!("{defaults} default IngressClasses were found, only 1 allowed"));
    }
    if let Some(class) = newest(classes, &DEFAULT_INGRESS) {
        let name = object::name(class);
        object::ensure(ingress, "spec").insert("ingressClassName".to_owned(), json!(name));
    }
    Ok(())
}

/// StorageObjectInUseProtection: a new volume or claim stays while something uses it.
pub fn protect(object: &mut Value, finalizer: &str) {
    let metadata = object::ensure(object, "metadata");
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|it| it == finalizer)
    {
        finalizers.push(json!(finalizer));
    }
}

fn is_default(class: &Value, annotations: &[&str]) -> bool {
    annotations.iter().any(|it| object::annotation(class, it) == Some("true"))
}

/// Of several defaults the newest, and among those the first by name.
fn newest<'a>(classes: &'a [Value], annotations: &[&str]) -> Option<&'a Value> {
    let created = |class: &Value| time::parse(object::text(class, "metadata.creationTimestamp"));
    classes
        .iter()
        .filter(|it| is_default(it, annotations))
        .min_by(|a, b| created(b).cmp(&created(a)).then(object::name(a).cmp(object::name(b))))
}
