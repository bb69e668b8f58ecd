//! The columns of tables of custom resources.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::object;
use crate::table::human_duration;

/// One column, of `additionalPrinterColumns`.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    ty: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Reads the columns of a version; age alone if it has none. The name always comes first.
pub(super) fn read(columns: &[Value]) -> Vec<Column> {
    let mut out = vec![Column {
        name: "Name".to_owned(),
        ty: "string".to_owned(),
        format: "name".to_owned(),
        description: NAME.to_owned(),
        priority: 0,
        path: JsonPath::parse(".metadata.name"),
    }];
    if columns.is_empty() {
        out.push(Column {
            name: "Age".to_owned(),
            ty: "date".to_owned(),
            format: String::new(),
            description: AGE.to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp"),
        });
    }
    let text = |it: &Value, key: &str| object::text(it, key).to_owned();
    out.extend(columns.iter().map(|it| Column {
        name: text(it, "name"),
        ty: text(it, "type"),
        format: text(it, "format"),
        description: match text(it, "description") {
            none if none.is_empty() => {
                format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    text(it, "jsonPath")
                )
            }
            description => description,
        },
        priority: object::int(it, "priority").unwrap_or(0),
        path: JsonPath::parse(object::text(it, "jsonPath")),
    }));
    out
}

/// Whether a path of a column can be read.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with(['.', '[']) && JsonPath::parse(path).is_some()
}

impl Column {
    /// The definition of the column in a table.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.ty,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    /// What stands in the column for an object; `null` for nothing.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.as_ref().map(|it| it.find(object)).unwrap_or_default();
        let Some(value) = found.first().filter(|it| !it.is_null()) else { return Value::Null };
        match self.ty.as_str() {
            "integer" => match value.as_f64() {
                #[expect(clippy::cast_possible_truncation, reason = "shown without its fraction")]
                Some(number) => value.as_i64().unwrap_or(number as i64).into(),
                None => Value::Null,
            },
            "number" => {
                if value.is_number() {
                    (*value).clone()
                } else {
                    Value::Null
                }
            }
            "boolean" => {
                if value.is_boolean() {
                    (*value).clone()
                } else {
                    Value::Null
                }
            }
            "date" => date(value, now),
            _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned).into(),
        }
    }
}

fn date(value: &Value, now: Timestamp) -> Value {
    let Some(text) = value.as_str() else { return Value::Null };
    match crate::time::parse(text) {
        Some(at) => human_duration(now.duration_since(at).as_secs()).into(),
        None => "<invalid>".into(),
    }
}
