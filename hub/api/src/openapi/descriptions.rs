//! The words of the definitions.
//!
//! They are many and wanted only while a document is made, so they are unpacked for that and not
//! kept.

use std::collections::BTreeMap;
use std::io::Read as _;

/// What a definition and its fields are for.
#[derive(Debug)]
pub(super) struct Descriptions(BTreeMap<String, BTreeMap<String, String>>);

static DATA: [&[u8]; 2] = [
    include_bytes!("../../data/descriptions-core.json.gz"),
    include_bytes!("../../data/descriptions-others.json.gz"),
];

impl Descriptions {
    pub(super) fn unpack() -> Self {
        let mut all = BTreeMap::new();
        for packed in DATA {
            let mut text = String::new();
            let mut reader = flate2::read::GzDecoder::new(packed);
            reader.read_to_string(&mut text).expect("the embedded descriptions are gzip");
            let part: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text)
                .expect("the embedded descriptions have the agreed shape");
            all.extend(part);
        }
        Self(all)
    }

    /// Describes a definition.
    pub(super) fn of(&self, definition: &str) -> Option<&str> {
        Some(self.words(definition)?.get("")?)
    }

    /// Describes a field of a definition.
    pub(super) fn of_field(&self, definition: &str, field: &str) -> Option<&str> {
        let fields = self.words(definition)?;
        match field {
            // Every kind has these two.
            "apiVersion" => Some("Group and version of the object, such as apps/v1."),
            "kind" => Some("Kind of the object, such as Deployment."),
            _ => Some(fields.get(field)?),
        }
    }

    /// Versions that Kubernetes publishes no more have the words of what took their place.
    fn words(&self, definition: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(definition).or_else(|| self.0.get(&definition.replace(".v1beta1.", ".v1.")))
    }
}
