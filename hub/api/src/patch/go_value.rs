//! Values in the words of Go, because Kubernetes' messages contain some.

use std::fmt;

use serde_json::Value;

/// A value as Go prints it: `map[name:web]`.
#[derive(Debug)]
pub(super) struct GoValue(pub(super) Value);

impl fmt::Display for GoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn print(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match value {
                Value::Null => f.write_str("<nil>"),
                Value::String(text) => f.write_str(text),
                Value::Array(elements) => {
                    f.write_str("[")?;
                    for (i, element) in elements.iter().enumerate() {
                        f.write_str(if i == 0 { "" } else { " " })?;
                        print(element, f)?;
                    }
                    f.write_str("]")
                }
                Value::Object(fields) => {
                    f.write_str("map[")?;
                    for (i, (name, value)) in fields.iter().enumerate() {
                        write!(f, "{}{name}:", if i == 0 { "" } else { " " })?;
                        print(value, f)?;
                    }
                    f.write_str("]")
                }
                scalar @ (Value::Bool(_) | Value::Number(_)) => write!(f, "{scalar}"),
            }
        }
        print(&self.0, f)
    }
}

/// The Go type that a decoded value has.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
