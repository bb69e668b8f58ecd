//! The schema table: what every built-in definition looks like, read once from the checked-in data
//! file that `cargo xtask codegen` makes.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod fields;
mod legacy;
mod metrics;

pub use fields::Fields;

/// A definition, or the place of a field, an item or a map value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Schema {
    /// JSON type; absent for a reference or for any JSON value.
    #[serde(rename = "type")]
    pub ty: Option<Type>,
    /// Narrower form: `int32`, `int-or-string`, `quantity`, `date-time`, ...
    pub format: Option<Box<str>>,
    /// Name of the definition that says the rest.
    #[serde(rename = "ref")]
    pub reference: Option<Box<str>>,
    /// Fields of an object.
    pub properties: Fields,
    /// Fields that must be present.
    pub required: Vec<String>,
    /// Items of an array.
    pub items: Option<Box<Self>>,
    /// Values of a map.
    pub additional_properties: Option<Box<Self>>,
    /// How appliers own items: `atomic`, `set` or `map`.
    pub list_type: Option<Box<str>>,
    /// Keys of the items of a `map` list.
    pub list_map_keys: Vec<String>,
    /// How a strategic patch treats the field: `merge`, `replace`, `retainKeys`.
    pub patch_strategy: Option<Box<str>>,
    /// Key of the items under a strategic patch.
    pub patch_merge_key: Option<String>,
    /// How appliers own entries: `atomic` or `granular`.
    pub map_type: Option<Box<str>>,
    /// Value of an absent field.
    pub default: Option<Box<Value>>,
    /// Group, version and kind, for definitions that are kinds.
    pub kinds: Vec<(String, String, String)>,
    /// Whether any content is allowed below.
    pub open: bool,
    /// Whether Go leaves the field out when it is zero: absent and zero are one value.
    #[serde(skip)]
    pub omits_zero: bool,
    /// Fields that Go shows even where nobody set them: structs that are no pointers, and lists and
    /// maps that are not left out when they are empty.
    #[serde(skip)]
    pub implied: Vec<String>,
}

/// JSON types.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// `{}`.
    Object,
    /// `[]`.
    Array,
    /// `""`.
    String,
    /// A number without a fraction.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl Schema {
    /// Follows references to where the shape is said.
    pub fn resolved(&'static self) -> &'static Self {
        self.target()
    }

    /// Like [`Self::resolved`], of a schema that may live shorter than the table.
    pub(crate) fn target(&self) -> &Self {
        let mut at = self;
        // Definitions that are mere references are at most two deep; the bound guards the data file.
        for _ in 0..4 {
            match at.reference.as_deref().and_then(lookup) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }
}

#[derive(Deserialize)]
struct File {
    definitions: BTreeMap<String, Schema>,
}

/// The message table knows of each field how Go writes it: `z` leaves out zero, `i` is inlined.
#[derive(Deserialize)]
struct Messages {
    messages: BTreeMap<String, Vec<Row>>,
}

/// Number, JSON name, type, flags.
type Row = (u32, String, String, String);

static TABLE: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let File { mut definitions } = embedded(include_bytes!("../data/schema.json.gz"));
    let Messages { messages } = embedded(include_bytes!("../data/protobuf.json.gz"));
    for (name, definition) in &mut definitions {
        mark_zeros(definition, messages.get(name), &messages);
    }
    legacy::add(&mut definitions);
    metrics::add(&mut definitions);
    let implied: Vec<(String, Vec<String>)> =
        definitions.iter().map(|(name, it)| (name.clone(), implied(it, &definitions))).collect();
    for (name, implied) in implied {
        if let Some(definition) = definitions.get_mut(&name) {
            definition.implied = implied;
        }
    }
    definitions
});

fn embedded<T: DeserializeOwned>(data: &[u8]) -> T {
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(data);
    reader.read_to_string(&mut text).expect("embedded tables are gzip");
    serde_json::from_str(&text).expect("embedded tables have the agreed shape")
}

/// What [`Schema::implied`] lists. A field is a pointer, or it is left out when it is zero, or it is
/// required.
fn implied(definition: &Schema, all: &BTreeMap<String, Schema>) -> Vec<String> {
    let is_implied = |name: &String, place: &Schema| {
        let is_required = definition.required.contains(name);
        match &place.reference {
            Some(name) => {
                let is_struct = all.get(&**name).is_some_and(|it| !it.properties.is_empty());
                is_struct && (place.omits_zero || is_required)
            }
            None => is_required && matches!(place.ty, Some(Type::Array | Type::Object)),
        }
    };
    let fields = definition.properties.iter().filter(|(name, place)| is_implied(name, place));
    fields.map(|(name, _)| name.clone()).collect()
}

fn mark_zeros(
    definition: &mut Schema,
    rows: Option<&Vec<Row>>,
    messages: &BTreeMap<String, Vec<Row>>,
) {
    for (_, name, ty, flags) in rows.into_iter().flatten() {
        if flags.contains('i') {
            mark_zeros(definition, messages.get(ty), messages);
        } else if let Some(property) = definition.properties.get_mut(name) {
            property.omits_zero = flags.contains('z');
        }
    }
}

/// Looks up a definition by its full name.
pub fn lookup(name: &str) -> Option<&'static Schema> {
    TABLE.get(name)
}

/// All definitions by their full names.
pub fn definitions() -> &'static BTreeMap<String, Schema> {
    &TABLE
}
