//! Encoded objects, with a hole where the revision goes: the writer knows the number only at the last moment, and must
//! not encode anything.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use crate::{Key, Revision, decoded::Place};

/// An encoded object that lacks only its `metadata.resourceVersion`.
#[derive(Clone, Debug)]
pub struct Body {
    /// The JSON text up to and including the quote that opens the revision.
    pub before: Bytes,
    /// The JSON text from the quote that closes the revision.
    pub after: Bytes,
}

impl Body {
    /// Encodes an object. A `metadata.resourceVersion` in it is ignored; `metadata` is added if it is missing.
    pub fn from_value(object: &Value) -> Self {
        let empty = Map::new();
        let object = object.as_object().unwrap_or(&empty);
        let mut out = Encoder { text: Vec::with_capacity(1024), hole: 0 };
        out.text.push(b'{');
        let mut seen = false;
        for (key, value) in object {
            if !seen && key.as_str() > "metadata" {
                out.metadata(&empty);
                seen = true;
            }
            if key == "metadata" {
                out.metadata(value.as_object().unwrap_or(&empty));
                seen = true;
            } else {
                out.field(key, value);
            }
        }
        if !seen {
            out.metadata(&empty);
        }
        out.text.push(b'}');
        let mut before = Bytes::from(out.text);
        let after = before.split_off(out.hole);
        Self { before, after }
    }

    /// The object at a revision.
    pub fn at(&self, revision: Revision) -> Bytes {
        stamp(&self.before, revision, &self.after)
    }

    /// Size of the text, without the revision.
    pub fn size(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

struct Encoder {
    text: Vec<u8>,
    hole: usize,
}

impl Encoder {
    fn metadata(&mut self, metadata: &Map<String, Value>) {
        self.name("metadata");
        self.text.push(b'{');
        let mut holed = false;
        for (key, value) in metadata {
            if !holed && key.as_str() >= "resourceVersion" {
                self.revision();
                holed = true;
            }
            if key != "resourceVersion" {
                self.field(key, value);
            }
        }
        if !holed {
            self.revision();
        }
        self.text.push(b'}');
    }

    fn revision(&mut self) {
        self.name("resourceVersion");
        self.text.push(b'"');
        self.hole = self.text.len();
        self.text.push(b'"');
    }

    fn field(&mut self, key: &str, value: &Value) {
        self.name(key);
        serde_json::to_writer(&mut self.text, value).expect("a Value is encodable, a Vec writable");
    }

    fn name(&mut self, key: &str) {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, key).expect("a str is encodable, a Vec writable");
        self.text.push(b':');
    }
}

fn stamp(before: &[u8], revision: Revision, after: &[u8]) -> Bytes {
    let digits = revision.to_string();
    let mut out = BytesMut::with_capacity(before.len() + digits.len() + after.len());
    out.put_slice(before);
    out.put_slice(digits.as_bytes());
    out.put_slice(after);
    out.freeze()
}

/// One stored object.
#[derive(Debug)]
pub struct Entry {
    /// Where it is stored.
    pub key: Key,
    /// Its last write.
    pub revision: Revision,
    /// The write that created it.
    pub created: Revision,
    /// The whole object as JSON, with its `resourceVersion`.
    pub bytes: Bytes,
    /// Where in `bytes` the revision stands.
    hole: usize,
    value: Place,
}

impl Entry {
    /// An object at the moment of its write.
    pub(crate) fn written(
        key: Key,
        revision: Revision,
        created: Revision,
        body: &Body,
    ) -> Arc<Self> {
        let hole = body.before.len();
        Arc::new(Self::stored(key, revision, created, body.at(revision), hole))
    }

    /// An object read back.
    pub(crate) fn stored(
        key: Key,
        revision: Revision,
        created: Revision,
        bytes: Bytes,
        hole: usize,
    ) -> Self {
        Self { key, revision, created, bytes, hole, value: Place::default() }
    }

    /// The same write with the object in another form.
    pub fn in_form(&self, object: &Value) -> Arc<Self> {
        let body = Body::from_value(object);
        Self::written(self.key.clone(), self.revision, self.created, &body)
    }

    /// The object, decoded; shared with everybody who asked for it lately.
    pub fn value(&self) -> Arc<Value> {
        self.value.get(self.bytes.len(), || self.decode())
    }

    /// The object, decoded for the caller alone.
    pub fn decode(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The object as it was, with another revision in it.
    pub fn stamped(&self, revision: Revision) -> Bytes {
        let digits = self.revision.to_string().len();
        stamp(&self.bytes[..self.hole], revision, &self.bytes[self.hole + digits..])
    }

    /// The object without its revision, to be written again.
    #[cfg(feature = "etcd")]
    pub(crate) fn body(&self) -> Body {
        let digits = self.revision.to_string().len();
        Body {
            before: self.bytes.slice(..self.hole),
            after: self.bytes.slice(self.hole + digits..),
        }
    }

    pub(crate) fn hole(&self) -> usize {
        self.hole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value, expect: &str) {
        let text = Body::from_value(&object).at(Revision::new(7));
        assert_eq!(std::str::from_utf8(&text).unwrap(), expect);
    }

    #[test]
    fn the_revision_lands_in_its_sorted_place() {
        check(json!({}), r#"{"metadata":{"resourceVersion":"7"}}"#);
        check(
            json!({"kind":"Pod","metadata":{"name":"a","uid":"u","resourceVersion":"3"},"spec":{"x":[1,"\""]}}),
            r#"{"kind":"Pod","metadata":{"name":"a","resourceVersion":"7","uid":"u"},"spec":{"x":[1,"\""]}}"#,
        );
        check(
            json!({"kind":"Pod","spec":{}}),
            r#"{"kind":"Pod","metadata":{"resourceVersion":"7"},"spec":{}}"#,
        );
        check(
            json!({"metadata":{"resourceVersion":"1"}}),
            r#"{"metadata":{"resourceVersion":"7"}}"#,
        );
    }

    #[test]
    fn an_entry_is_stamped_anew() {
        let body = Body::from_value(&json!({"metadata":{"name":"a","uid":"u"}}));
        let key = Key::new("core", "pods", Some("d"), "a");
        let entry = Entry::written(key, Revision::new(999), Revision::new(1), &body);
        assert_eq!(entry.stamped(Revision::new(12345)), body.at(Revision::new(12345)));
        assert_eq!(entry.value()["metadata"]["resourceVersion"], "999");
    }
}
