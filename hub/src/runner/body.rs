//! What the controllers keep of objects: the text, shared with the storage's cache. What is decoded of it takes some
//! fifteen times as much, and is let go of when others were looked at since.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hub_controllers::{Body, Kind, Name, ObjectRef, Uid};
use hub_storage::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

/// Text of objects that are kept decoded, at most, in bytes.
const DECODED_BYTES: usize = 1 << 20;

/// Which objects were decoded, in the order in which that happened, each with the size of its text.
#[derive(Debug, Default)]
pub(super) struct Decoded(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    keys: VecDeque<(ObjectRef, usize)>,
    bytes: usize,
}

impl Decoded {
    fn note(&self, key: ObjectRef, size: usize) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.keys.push_back((key, size));
        noted.bytes += size;
    }

    /// Whether nothing is kept decoded.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.is_empty()
    }

    /// All of them, to be forgotten.
    pub(super) fn take(&self) -> Vec<ObjectRef> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        noted.keys.into_iter().map(|(key, _)| key).collect()
    }

    /// Those to forget, so that the bound holds again.
    pub(super) fn surplus(&self) -> Vec<ObjectRef> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut surplus = Vec::new();
        while noted.bytes > DECODED_BYTES
            && let Some((key, size)) = noted.keys.pop_front()
        {
            noted.bytes -= size;
            surplus.push(key);
        }
        surplus
    }
}

/// An object as it is stored.
struct Stored {
    kind: Kind,
    entry: Arc<Entry>,
    value: OnceLock<Value>,
    decoded: Arc<Decoded>,
}

impl Body for Stored {
    fn value(&self) -> &Value {
        self.value.get_or_init(|| {
            let mut value = self.entry.decode();
            // Only namespaces are written back as a whole.
            if self.kind != Kind::NAMESPACE
                && let Some(metadata) = value["metadata"].as_object_mut()
            {
                metadata.remove("managedFields");
            }
            self.decoded.note(self.kind.key(&name_of(&self.entry)), self.entry.bytes.len());
            value
        })
    }

    fn forgotten(&self) -> Option<Arc<dyn Body>> {
        self.value.get()?;
        let (kind, entry, decoded) = (self.kind, self.entry.clone(), self.decoded.clone());
        Some(Arc::new(Self { kind, entry, value: OnceLock::new(), decoded }))
    }
}

/// What the controllers keep of an object. Of kinds that are many or large and of little interest,
/// that is only the metadata.
pub(super) fn body(kind: Kind, entry: Arc<Entry>, decoded: &Arc<Decoded>) -> Arc<dyn Body> {
    let is_plain = match kind {
        Kind::EVENT | Kind { group: "", plural: "secrets" } => false,
        Kind::CONFIG_MAP => entry.key.name() == "kube-root-ca.crt",
        _ => true,
    };
    if is_plain {
        let decoded = decoded.clone();
        return Arc::new(Stored { kind, entry, value: OnceLock::new(), decoded });
    }
    let mut object = entry.decode();
    let mut metadata = object["metadata"].take();
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("annotations");
        fields.remove("managedFields");
    }
    Arc::new(json!({
        "metadata": metadata,
        "lastTimestamp": object["lastTimestamp"].take(),
        "eventTime": object["eventTime"].take(),
        "series": object["series"].take(),
    }))
}

/// The uid, found without keeping anything else of the object.
pub(super) fn uid_of(entry: &Entry) -> Uid {
    #[derive(Default, Deserialize)]
    struct Head {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default)]
        uid: String,
    }
    Uid(serde_json::from_slice(&entry.bytes)
        .map_or_else(|_| String::new(), |it: Head| it.metadata.uid))
}

pub(super) fn name_of(entry: &Entry) -> Name {
    Name::new(entry.key.namespace().unwrap_or_default(), entry.key.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decoded_first_is_forgotten_first() {
        let decoded = Decoded::default();
        let key = |name: &str| Kind::POD.key(&Name::new("d", name));
        decoded.note(key("a"), DECODED_BYTES / 2);
        decoded.note(key("b"), DECODED_BYTES / 2);
        assert_eq!(decoded.surplus(), []);
        decoded.note(key("c"), 1);
        assert_eq!(decoded.surplus(), [key("a")]);
        decoded.note(key("d"), 2 * DECODED_BYTES);
        assert_eq!(decoded.surplus(), [key("b"), key("c"), key("d")]);
    }
}
