//! Field selectors: a few fields of each resource, compared as text.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::object;
use crate::resource::{FieldLabel, Resource};
use crate::status::Status;

/// A conjunction of comparisons of fields with texts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

/// A field of a built-in kind, or one that a definition lets selectors name.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Field {
    label: Cow<'static, str>,
    path: Cow<'static, str>,
    absent: &'static str,
}

impl From<&FieldLabel> for Field {
    fn from(it: &FieldLabel) -> Self {
        Self { label: it.label.into(), path: it.path.into(), absent: it.absent }
    }
}

const COMMON: [FieldLabel; 2] = [
    FieldLabel { label: "metadata.name", path: "metadata.name", absent: "" },
    FieldLabel { label: "metadata.namespace", path: "metadata.namespace", absent: "" },
];

impl FieldSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Parses the `fieldSelector` parameter for objects of `resource`.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let Some((label, equal, value)) = split_term(term) else {
                return Err(Status::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let value = unescape(value)?;
            let mut known = COMMON.iter().chain(resource.field_labels.iter());
            let selectable = resource.custom.iter().flat_map(|it| &it.selectable);
            let mut made = selectable.filter(|it| *it == label);
            let field = match (known.find(|it| it.label == label), made.next()) {
                (Some(field), _) => Field::from(field),
                (None, Some(path)) => {
                    Field { label: path.clone().into(), path: path.clone().into(), absent: "" }
                }
                (None, None) => {
                    return Err(Status::bad_request(format!("field label not supported: {label}")));
                }
            };
            terms.push(Term { field, equal, value });
        }
        Ok(Self { terms })
    }

    /// The value that a `fieldSelector` asks a field for, whatever the resource: rights may depend on it before it is
    /// known whether there is such a resource. Nothing if it does not, or is malformed.
    pub fn value_wanted(text: &str, label: &str) -> Option<String> {
        let mut terms = terms(text)?.into_iter();
        terms.find(|(found, equal, _)| *equal && *found == label).map(|(_, _, value)| value)
    }

    /// Whether a text is a `fieldSelector`, whatever the resource and its fields.
    pub fn parses(text: &str) -> bool {
        terms(text).is_some()
    }

    /// A comparison as it stands in a `fieldSelector`.
    pub fn term(label: &str, equal: bool, value: &str) -> String {
        let operator = if equal { "=" } else { "!=" };
        let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        format!("{label}{operator}{value}")
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field must have, if the selector asks for exactly one.
    /// `metadata.name` turns a list into a look-up.
    pub fn required_value(&self, label: &str) -> Option<&str> {
        let mut terms = self.terms.iter();
        terms.find(|it| it.equal && it.field.label == label).map(|it| it.value.as_str())
    }

    /// Whether the object matches.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|it| (text_of(object, &it.field) == it.value) == it.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}", Self::term(&term.field.label, term.equal, &term.value))?;
        }
        Ok(())
    }
}

fn text_of<'a>(object: &'a Value, field: &Field) -> Cow<'a, str> {
    match object::get(object, &field.path) {
        None => Cow::Borrowed(field.absent),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// The comparisons of a text: label, whether equality is wanted, and value. `None` if it is malformed.
fn terms(text: &str) -> Option<Vec<(&str, bool, String)>> {
    let parts = split_terms(text).into_iter().filter(|it| !it.is_empty());
    let term = |part| {
        let (label, equal, value) = split_term(part)?;
        Some((label, equal, unescape(value).ok()?))
    };
    parts.map(term).collect()
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// Splits `a=b`, `a==b` and `a!=b` at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!'])?;
    let (label, rest) = term.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((label, equal, value));
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, Status> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(other) => {
                    return Err(Status::bad_request(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
                None => {
                    return Err(Status::bad_request(
                        "invalid field selector: invalid escape sequence: \\",
                    ));
                }
            },
            ',' | '=' => {
                return Err(Status::bad_request(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
