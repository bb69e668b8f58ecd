//! Pod templates: their hash, and whether two are the same.

use serde_json::{Value, json};

use crate::value::{at, is_empty, object_mut, set};

/// Label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The letters that a name may be made of without spelling words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short stable name for a template; `collisions` makes it another one. None of them are as good as nothing said.
pub fn hash(template: &Value, collisions: Option<i64>) -> String {
    // Keys are sorted, so that the text is canonical.
    let text = template.to_string();
    let salt = collisions.filter(|it| *it > 0).map(i64::to_le_bytes);
    let bytes = text.bytes().chain(salt.into_iter().flatten());
    let hash = bytes
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    hash.to_string().bytes().map(letter).collect()
}

/// Whether a replica set's template is the Deployment's, but for the hash label.
pub fn is_same(of_set: &Value, of_deployment: &Value) -> bool {
    normal(of_set) == normal(of_deployment)
}

/// `template` with the hash label added.
pub fn with_hash(template: &Value, hash: &str) -> Value {
    let mut template = template.clone();
    set(&mut template, &["metadata", "labels", HASH_LABEL], json!(hash));
    template
}

/// `selector` with the hash label added.
pub fn selector_with_hash(selector: &Value, hash: &str) -> Value {
    let mut selector = selector.clone();
    set(&mut selector, &["matchLabels", HASH_LABEL], json!(hash));
    selector
}

fn normal(template: &Value) -> Value {
    let mut template = template.clone();
    if !at(&template, &["metadata", "labels", HASH_LABEL]).is_null() {
        object_mut(&mut template["metadata"]["labels"]).remove(HASH_LABEL);
    }
    if let Some(metadata) = template.get_mut("metadata") {
        object_mut(metadata).retain(|_, value| !is_empty(value));
    }
    object_mut(&mut template).retain(|_, value| !is_empty(value));
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_stable_and_changes_with_template_and_collisions() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"x": 1}});
        assert_eq!(hash(&template, None), "5888c8f5b6");
        assert_eq!(hash(&template, Some(0)), hash(&template, None));
        assert_ne!(hash(&template, Some(1)), hash(&template, None));
        assert_ne!(hash(&template, Some(1)), hash(&template, Some(2)));
        assert_ne!(hash(&json!({"spec": {"x": 2}}), None), hash(&template, None));
    }

    #[test]
    fn templates_are_the_same_but_for_the_hash_label() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"x": 1}});
        assert!(is_same(&with_hash(&template, "abc"), &template));
        assert!(!is_same(&with_hash(&template, "abc"), &json!({"spec": {"x": 1}})));
        let bare = json!({"metadata": {"creationTimestamp": null}, "spec": {"x": 1}});
        assert!(is_same(&with_hash(&bare, "abc"), &json!({"spec": {"x": 1}})));
    }
}
