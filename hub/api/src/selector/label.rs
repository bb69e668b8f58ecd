//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::parse;
use crate::names;
use crate::object;
use crate::status::{FieldError, Status, quote};

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One requirement on one label.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold of its value.
    pub operator: Operator,
    /// The values it is compared with.
    pub values: BTreeSet<String>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Operator {
    /// The label is absent.
    DoesNotExist,
    /// The label has exactly this value.
    Equals,
    /// The label is present.
    Exists,
    /// The label's value is a larger integer.
    GreaterThan,
    /// The label's value is one of these.
    In,
    /// The label's value is a smaller integer.
    LessThan,
    /// The label is absent or has another value.
    NotEquals,
    /// The label is absent or its value is none of these.
    NotIn,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Matches objects that have all these labels (`spec.selector` of a Service).
    pub fn from_map(labels: &Value) -> Self {
        let entries = object::string_map(labels).into_iter();
        let requirements = entries.map(|(key, value)| Requirement {
            key,
            operator: Operator::Equals,
            values: BTreeSet::from([value]),
        });
        Self { requirements: requirements.collect(), nothing: false }
    }

    /// Parses the `labelSelector` parameter.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut requirements = parse::parse(text).map_err(Status::bad_request)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// Converts a `metav1.LabelSelector`. Absent selects nothing, empty selects everything.
    pub fn from_value(selector: &Value) -> Result<Self, Status> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut out = Self::from_map(selector.get("matchLabels").unwrap_or(&Value::Null));
        for expression in object::list(selector, "matchExpressions") {
            let operator = match object::text(expression, "operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let other = quote(other);
                    return Err(Status::bad_request(format!(
                        "{other} is not a valid label selector operator"
                    )));
                }
            };
            let values = object::list(expression, "values").iter();
            out.requirements.push(Requirement {
                key: object::text(expression, "key").to_owned(),
                operator,
                values: values.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            });
        }
        out.requirements.sort();
        Ok(out)
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The requirements, ordered by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether the labels (a JSON map, or `null`) match.
    pub fn matches(&self, labels: &Value) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|it| it.matches(labels.get(&it.key).and_then(Value::as_str)))
    }

    /// Whether an object's labels match.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(object::labels(object))
    }

    /// Whether a typed map of labels matches.
    pub fn matches_map(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|it| it.matches(labels.get(&it.key).map(String::as_str)))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let integer = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|it| integer(it));
        match (self.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::NotEquals | Operator::NotIn, None) => true,
            (
                Operator::Equals | Operator::In | Operator::GreaterThan | Operator::LessThan,
                None,
            ) => false,
            (Operator::Equals | Operator::In, Some(value)) => self.values.contains(value),
            (Operator::NotEquals | Operator::NotIn, Some(value)) => !self.values.contains(value),
            (Operator::GreaterThan, Some(value)) => {
                matches!((integer(value), bound()), (Some(a), Some(b)) if a > b)
            }
            (Operator::LessThan, Some(value)) => {
                matches!((integer(value), bound()), (Some(a), Some(b)) if a < b)
            }
        }
    }

    /// Checks key and values, as a selector in a request must have them.
    pub(super) fn check(self) -> Result<Self, String> {
        let mut wrong = names::errors("key", &self.key, names::qualified_name(&self.key));
        match self.operator {
            Operator::In | Operator::NotIn if self.values.is_empty() => {
                wrong.push(FieldError::invalid(
                    "values",
                    Vec::<Value>::new(),
                    "for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            Operator::GreaterThan | Operator::LessThan
                if self.values.iter().any(|it| it.parse::<i64>().is_err()) =>
            {
                let value = self.values.first().cloned().unwrap_or_default();
                wrong.push(FieldError::invalid(
                    "values[0]",
                    value,
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                ));
            }
            Operator::DoesNotExist
            | Operator::Equals
            | Operator::Exists
            | Operator::GreaterThan
            | Operator::In
            | Operator::LessThan
            | Operator::NotEquals
            | Operator::NotIn => {}
        }
        for (i, value) in self.values.iter().enumerate() {
            let field = format!("values[{i}][{}]", self.key);
            wrong.extend(names::errors(&field, value, names::label_value(value)));
        }
        match wrong.as_slice() {
            [] => Ok(self),
            [one] => Err(one.to_string()),
            many => {
                let many: Vec<String> = many.iter().map(ToString::to_string).collect();
                Err(format!("[{}]", many.join(", ")))
            }
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let values = values.join(",");
        match self.operator {
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::Equals => write!(f, "{}={values}", self.key),
            Operator::Exists => f.write_str(&self.key),
            Operator::GreaterThan => write!(f, "{}>{values}", self.key),
            Operator::In => write!(f, "{} in ({values})", self.key),
            Operator::LessThan => write!(f, "{}<{values}", self.key),
            Operator::NotEquals => write!(f, "{}!={values}", self.key),
            Operator::NotIn => write!(f, "{} notin ({values})", self.key),
        }
    }
}
