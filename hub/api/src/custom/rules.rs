//! `x-kubernetes-validations`: the CEL rules of a schema, compiled with it.

use serde_json::{Map, Value, json};

use super::check::twin;
use super::structural::{Additional, Node};
use super::typing;
use crate::cel::{self, CompileError, EvaluateError, Program, Session};
use crate::path::Path;
use crate::schema::Type;
use crate::status::{FieldError, FieldErrorKind};

/// Longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 << 10;

/// The rules of one place.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) source: String,
    pub(crate) message: String,
    pub(crate) message_source: String,
    pub(crate) field_path: String,
    pub(crate) reason: String,
    pub(crate) optional_old: bool,
    pub(crate) program: Result<Program, CompileError>,
    pub(crate) message_program: Option<Result<Program, CompileError>>,
}

impl Rules {
    /// Reads and compiles the rules of a schema.
    pub(crate) fn read(schema: &Value) -> Self {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        Self(rules.into_iter().flatten().map(Rule::read).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (source, message_source) = (text("rule"), text("messageExpression"));
        const VARIABLES: &[&str] = &["self", "oldSelf"];
        let message_program = (!message_source.is_empty())
            .then(|| Program::compile(message_source.trim(), VARIABLES));
        Self {
            program: Program::compile(source.trim(), VARIABLES),
            message_program,
            source,
            message_source,
            message: text("message").trim().to_owned(),
            field_path: text("fieldPath"),
            reason: text("reason"),
            optional_old: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
        }
    }

    /// Whether the rule is about a change.
    pub(crate) fn is_transition(&self) -> bool {
        self.program.as_ref().is_ok_and(|it| it.uses("oldSelf"))
    }

    fn words(&self) -> String {
        match self.message.as_str() {
            "" => format!("failed rule: {}", self.source.trim()),
            message => message.to_owned(),
        }
    }

    fn error(&self, value: &Value, path: &Path<'_>, detail: String) -> FieldError {
        let field = format!("{path}{}", dotted(&self.field_path, matches!(path, Path::Root)));
        let shown = match value {
            Value::Object(_) => json!("object"),
            Value::Array(_) => json!("array"),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        };
        let mut error = FieldError::invalid(field, shown, detail);
        match self.reason.as_str() {
            "FieldValueForbidden" => error.kind = FieldErrorKind::Forbidden,
            "FieldValueRequired" => error.kind = FieldErrorKind::Required,
            "FieldValueDuplicate" => error.kind = FieldErrorKind::Duplicate,
            _ => {}
        }
        error
    }
}

/// A path relative to a place, as it is appended to the place.
fn dotted(path: &str, at_root: bool) -> String {
    let path = path.replace("['", "[").replace("']", "]");
    if at_root { path.strip_prefix('.').unwrap_or(&path).to_owned() } else { path }
}

/// Evaluates all rules of a schema over an object, and over its predecessor if there is one.
pub(super) fn check(new: &Value, old: Option<&Value>, node: &Node) -> Vec<FieldError> {
    if !node.has_rules() {
        return Vec::new();
    }
    let session = match old {
        Some(old) => Session::new(&[new, old]),
        None => Session::new(&[new]),
    };
    let mut walk = Walk { session, errors: Vec::new(), is_over: false };
    walk.at(new, old, node, &Path::Root, true);
    walk.errors
}

struct Walk {
    session: Session,
    errors: Vec<FieldError>,
    /// The budget is spent: what follows is not looked at.
    is_over: bool,
}

impl Walk {
    fn at(&mut self, new: &Value, old: Option<&Value>, node: &Node, path: &Path<'_>, root: bool) {
        if self.is_over || !node.has_rules() || new.is_null() {
            return;
        }
        if !node.rules.is_empty() {
            self.rules(new, old, node, path, root);
        }
        match new {
            Value::Object(map) => {
                for (key, value) in map {
                    let Some(below) = node.field(key) else { continue };
                    let in_map = !node.properties.contains_key(key);
                    let path = if in_map { path.key(key) } else { path.field(key) };
                    self.at(value, old.and_then(|it| it.get(key)), below, &path, below.embedded);
                }
            }
            Value::Array(items) => {
                let Some(below) = &node.items else { return };
                for (index, item) in items.iter().enumerate() {
                    let old = old.and_then(|it| twin(item, it, node));
                    self.at(item, old, below, &path.index(index), below.embedded);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rules(
        &mut self,
        new: &Value,
        old: Option<&Value>,
        node: &Node,
        path: &Path<'_>,
        root: bool,
    ) {
        let is_same = old == Some(new);
        let this = typed(new, node, root);
        let before = old.filter(|it| !it.is_null()).map(|it| typed(it, node, root));
        for rule in node.rules.iter() {
            let program = match &rule.program {
                Ok(program) => program,
                Err(err) => {
                    self.errors.push(rule.error(new, path, format!("rule compile error: {err}")));
                    continue;
                }
            };
            let old_self = match (rule.is_transition(), &before) {
                // What has not changed may break rules that came later.
                (false, _) if is_same => continue,
                (false, _) => None,
                (true, _) if rule.optional_old => Some(cel::optional(before.clone())),
                (true, Some(before)) => Some(before.clone()),
                (true, None) => continue,
            };
            let mut variables = vec![("self", this.clone())];
            variables.extend(old_self.map(|it| ("oldSelf", it)));
            match self.session.evaluate_bool(program, &variables) {
                Ok(true) => {}
                Ok(false) => {
                    let detail = self.message(rule, &variables);
                    self.errors.push(rule.error(new, path, detail));
                }
                Err(err) => {
                    self.failed(rule, new, path, &err);
                    if self.is_over {
                        return;
                    }
                }
            }
        }
    }

    fn failed(&mut self, rule: &Rule, value: &Value, path: &Path<'_>, err: &EvaluateError) {
        let words = rule.words();
        let detail = match err {
            EvaluateError::Failed(why) if why == "no such overload" => format!(
                "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {words}"
            ),
            EvaluateError::Failed(why) => format!("{why} evaluating rule: {words}"),
            EvaluateError::CallCost => format!(
                "no further validation rules will be run due to call cost exceeds limit for rule: {words}"
            ),
            EvaluateError::TotalCost => err.to_string(),
        };
        self.is_over = matches!(err, EvaluateError::CallCost | EvaluateError::TotalCost);
        self.errors.push(rule.error(value, path, detail));
    }

    /// What the rule says of its failure; its expression if that makes a good message.
    fn message(&self, rule: &Rule, variables: &[(&str, cel::Value)]) -> String {
        let Some(Ok(program)) = &rule.message_program else { return rule.words() };
        match self.session.evaluate_text(program, variables) {
            Ok(text)
                if !text.trim().is_empty()
                    && text.len() <= MAX_MESSAGE
                    && !text.contains(['\n', '\r']) =>
            {
                text.trim().to_owned()
            }
            Ok(_) | Err(_) => rule.words(),
        }
    }
}

/// A value as CEL sees it with its schema: fields that the schema has, formats as types.
fn typed(value: &Value, node: &Node, root: bool) -> cel::Value {
    match value {
        Value::Object(map) => typed_object(map, node, root),
        Value::Array(items) => match &node.items {
            Some(below) => {
                let items = items.iter().map(|it| typed(it, below, below.embedded));
                cel::Value::List(std::sync::Arc::new(items.collect()))
            }
            None => cel::value(value),
        },
        Value::String(text) if node.ty == Some(Type::String) => {
            typing::text(text, &node.checks.format).unwrap_or_else(|| cel::value(value))
        }
        Value::Number(number) if node.ty == Some(Type::Number) => {
            cel::Value::Float(number.as_f64().unwrap_or_default())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => cel::value(value),
    }
}

fn typed_object(map: &Map<String, Value>, node: &Node, root: bool) -> cel::Value {
    let is_open = node.properties.is_empty()
        && !matches!(node.additional, Some(Additional::Schema(_)))
        && node.preserves;
    let entries = map.iter().filter(|(_, it)| !it.is_null()).filter_map(|(key, value)| {
        if let Some(below) = node.properties.get(key) {
            return Some((typing::escape(key), typed(value, below, below.embedded)));
        }
        match key.as_str() {
            "apiVersion" | "kind" if root => Some((key.clone(), cel::value(value))),
            "metadata" if root => Some((key.clone(), metadata(value))),
            _ => match node.field(key) {
                Some(below) => Some((key.clone(), typed(value, below, below.embedded))),
                None => is_open.then(|| (key.clone(), cel::value(value))),
            },
        }
    });
    cel::map(entries)
}

/// Of metadata, rules may see the name alone.
fn metadata(value: &Value) -> cel::Value {
    let names = ["name", "generateName"].into_iter();
    cel::map(names.filter_map(|it| Some((it.to_owned(), cel::value(value.get(it)?)))))
}
