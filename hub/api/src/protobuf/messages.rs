//! The table of messages, read once from the checked-in data file that `cargo xtask codegen` makes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::wire::Packed;

/// Fields of one message by their numbers.
pub(super) type Fields = BTreeMap<u32, Field>;

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its JSON name; empty if it is the whole value of the message.
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) shape: Shape,
    /// Whether Go leaves it out of the JSON when it is zero.
    pub(super) omits_zero: bool,
}

/// How often a field occurs, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    One,
    List,
    /// A map from text.
    Map,
    /// Its fields belong to the parent.
    Inline,
}

/// Type of a field's values.
#[derive(Debug)]
pub(super) enum Type {
    Bool,
    Bytes,
    Double,
    Integer,
    Text,
    Message(String),
}

impl Type {
    /// The value of a map entry that has none.
    pub(super) fn zero(&self) -> Value {
        match self {
            Self::Bool => false.into(),
            Self::Bytes | Self::Text => "".into(),
            Self::Double | Self::Integer => 0.into(),
            Self::Message(_) => Value::Object(serde_json::Map::new()),
        }
    }

    /// How a list of these may be packed.
    pub(super) fn packed(&self) -> Option<Packed> {
        match self {
            Self::Bool | Self::Integer => Some(Packed::Varint),
            Self::Double => Some(Packed::Fixed64),
            Self::Bytes | Self::Text | Self::Message(_) => None,
        }
    }
}

/// Looks up a message by the name of its schema definition.
pub(super) fn lookup(name: &str) -> Option<&'static Fields> {
    TABLE.get(name)
}

#[derive(Deserialize)]
struct File {
    messages: BTreeMap<String, Vec<(u32, String, String, String)>>,
}

static DATA: &[u8] = include_bytes!("../../data/protobuf.json.gz");

static TABLE: LazyLock<BTreeMap<String, Fields>> = LazyLock::new(|| {
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(DATA);
    reader.read_to_string(&mut text).expect("the embedded table is gzip");
    let file: File = serde_json::from_str(&text).expect("the embedded table has the agreed shape");
    let messages = file.messages.into_iter();
    messages.map(|(name, rows)| (name, rows.into_iter().map(field).collect())).collect()
});

fn field((number, name, ty, flags): (u32, String, String, String)) -> (u32, Field) {
    let ty = match ty.as_str() {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int32" | "int64" => Type::Integer,
        "string" => Type::Text,
        _ => Type::Message(ty),
    };
    let shape = if flags.contains('r') {
        Shape::List
    } else if flags.contains('m') {
        Shape::Map
    } else if flags.contains('i') {
        Shape::Inline
    } else {
        Shape::One
    };
    (number, Field { name, ty, shape, omits_zero: flags.contains('z') })
}
