//! What CEL knows of schemas: the names of fields, the types of formats, and which fields there are.

use std::collections::BTreeMap;

use kube_cel::cel::common::ast::{Expr, IdedExpr};

use super::structural::{Additional, Node};
use crate::cel::{Program, Value, marked};
use crate::schema::Type;

/// Words that CEL keeps for itself.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name of a field in expressions.
pub(super) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// A text whose format is a type of CEL.
pub(super) fn text(text: &str, format: &str) -> Option<Value> {
    match format {
        "date-time" | "datetime" => {
            Some(Value::Timestamp(chrono::DateTime::parse_from_rfc3339(text).ok()?))
        }
        "date" => {
            let midnight = format!("{text}T00:00:00Z");
            Some(Value::Timestamp(chrono::DateTime::parse_from_rfc3339(&midnight).ok()?))
        }
        "duration" => Some(Value::Duration(chrono::Duration::nanoseconds(nanoseconds(text)?))),
        "byte" => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(Value::Bytes(std::sync::Arc::new(bytes)))
        }
        _ => None,
    }
}

/// Reads a duration as Go writes it.
fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|it: char| it.is_ascii_digit()).unwrap_or(after.len());
        let (unit, left) = after.split_at(letters);
        let unit = match unit.trim() {
            "ns" => 1.0,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 24.0 * 3600e9,
            "w" => 7.0 * 24.0 * 3600e9,
            "" if number == "0" => 0.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = left;
    }
    let nanoseconds = sign * total;
    #[expect(clippy::cast_possible_truncation, reason = "in range, as checked")]
    (nanoseconds.abs() < 9.2e18).then_some(nanoseconds as i64)
}

/// Looks for fields that the schema does not have. Returns the compiler's words for the first.
pub(crate) fn undefined_field(program: &Program, node: &Node, is_root: bool) -> Option<String> {
    let mut scope = Scope { source: program.source(), is_root, variables: BTreeMap::new() };
    scope.variables.insert("self", Some(node));
    scope.variables.insert("oldSelf", None);
    let mut wrong = None;
    scope.at(program.plain(), &mut wrong);
    wrong
}

struct Scope<'a> {
    source: &'a str,
    is_root: bool,
    /// `None` where nothing is known.
    variables: BTreeMap<&'a str, Option<&'a Node>>,
}

impl<'a> Scope<'a> {
    /// The schema of what the expression comes to, if it is known.
    fn at(&mut self, it: &'a IdedExpr, wrong: &mut Option<String>) -> Option<&'a Node> {
        match &it.expr {
            Expr::Ident(name) => self.variables.get(name.as_str()).copied().flatten(),
            Expr::Select(select) => {
                let node = self.at(&select.operand, wrong)?;
                let is_self = matches!(&select.operand.expr, Expr::Ident(it) if it == "self");
                self.field(node, &select.field, is_self && self.is_root, wrong)
            }
            Expr::Call(call) => {
                let target = call.target.as_ref().and_then(|it| self.at(it, wrong));
                let args: Vec<_> = call.args.iter().map(|it| self.at(it, wrong)).collect();
                let _ = target;
                match (call.func_name.as_str(), args.first().copied().flatten()) {
                    ("_[_]", Some(node)) => match (&node.items, &node.additional) {
                        (Some(items), _) => Some(items),
                        (None, Some(Additional::Schema(values))) => Some(values),
                        (None, Some(Additional::Any(_)) | None) => None,
                    },
                    _ => None,
                }
            }
            Expr::Comprehension(loop_) => {
                let range = self.at(&loop_.iter_range, wrong);
                let item = range.and_then(|it| it.items.as_deref());
                let before = self.variables.insert(&loop_.iter_var, item);
                let accu = self.variables.insert(&loop_.accu_var, None);
                for part in [&loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result] {
                    self.at(part, wrong);
                }
                self.restore(&loop_.iter_var, before);
                self.restore(&loop_.accu_var, accu);
                None
            }
            Expr::List(list) => {
                for it in &list.elements {
                    self.at(it, wrong);
                }
                None
            }
            Expr::Unspecified | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => None,
        }
    }

    fn restore(&mut self, name: &'a str, before: Option<Option<&'a Node>>) {
        match before {
            Some(node) => self.variables.insert(name, node),
            None => self.variables.remove(name),
        };
    }

    fn field(
        &self,
        node: &'a Node,
        name: &str,
        is_resource: bool,
        wrong: &mut Option<String>,
    ) -> Option<&'a Node> {
        if let Some(found) = node.properties.iter().find(|(key, _)| escape(key) == name) {
            return Some(found.1);
        }
        let is_resource = is_resource || node.embedded;
        if is_resource && ["apiVersion", "kind", "metadata"].contains(&name) {
            return None;
        }
        if let Some(Additional::Schema(values)) = &node.additional {
            return Some(values);
        }
        let is_closed = node.ty == Some(Type::Object)
            && node.additional.is_none()
            && !(node.preserves && node.properties.is_empty());
        if is_closed && wrong.is_none() {
            let column = self.source.find(&format!(".{name}")).map_or(1, |it| it + 1);
            *wrong = Some(marked(self.source, column, &format!("undefined field '{name}'")));
        }
        None
    }
}
