//! JSONPath, as far as columns of definitions use it: fields, indices, ranges, wildcards, filters
//! and recursive descent.

use serde_json::Value;

/// Steps of a path at most.
const MAX_STEPS: usize = 100;
/// Values that one path may lead to.
const MAX_FOUND: usize = 1_000;

/// A path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Range(Option<i64>, Option<i64>, i64),
    Every,
    Descend,
    Filter(Operand, Comparison, Operand),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() >= MAX_STEPS {
                return None;
            }
            let (step, left) = step(rest)?;
            steps.extend(step);
            rest = left;
        }
        Some(Self(steps))
    }

    /// The values that the path leads to.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.take(value, &mut next);
                if next.len() > MAX_FOUND {
                    next.truncate(MAX_FOUND);
                    break;
                }
            }
            found = next;
        }
        found
    }
}

/// The keys of a path of fields alone, or nothing if it has other steps.
pub(super) fn simple(path: &str) -> Option<Vec<String>> {
    let JsonPath(steps) = JsonPath::parse(path)?;
    if !path.starts_with('.') && !path.starts_with('[') {
        return None;
    }
    let key = |step: Step| match step {
        Step::Field(key) => Some(key),
        Step::Index(_) | Step::Range(..) | Step::Every | Step::Descend | Step::Filter(..) => None,
    };
    steps.into_iter().map(key).collect()
}

/// The first step of a text, and what follows it.
fn step(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix("..") {
        return Some((Some(Step::Descend), rest));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let end = closing(rest)?;
        let (inner, rest) = (rest.get(..end)?.trim(), rest.get(end + 1..)?);
        return Some((Some(bracket(inner)?), rest));
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    if rest.is_empty() {
        return Some((None, rest));
    }
    if let Some(rest) = rest.strip_prefix('*') {
        return Some((Some(Step::Every), rest));
    }
    if rest.starts_with('[') {
        return Some((None, rest));
    }
    let mut key = String::new();
    let mut chars = rest.char_indices();
    while let Some((index, it)) = chars.next() {
        match it {
            '\\' => key.extend(chars.next().map(|(_, it)| it)),
            '.' | '[' => {
                return (!key.is_empty()).then(|| (Some(Step::Field(key)), &rest[index..]));
            }
            ' ' | ')' | '(' => return None,
            it => key.push(it),
        }
    }
    Some((Some(Step::Field(key)), ""))
}

/// Where the bracket closes, outside of texts.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut quote = None;
    for (index, it) in text.char_indices() {
        match (quote, it) {
            (Some(open), _) if open == it => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(it),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::Every);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|it| it.strip_suffix(')')) {
        return filter_step(filter.trim());
    }
    if let Some(key) = quoted(inner) {
        return Some(Step::Field(key.to_owned()));
    }
    if inner.contains(':') {
        let bounds: Vec<&str> = inner.split(':').map(str::trim).collect();
        let bound = |index: usize| match bounds.get(index) {
            None | Some(&"") => Some(None),
            Some(text) => text.parse().ok().map(Some),
        };
        let by = bound(2)?.unwrap_or(1);
        return (bounds.len() <= 3 && by > 0).then_some(Step::Range(bound(0)?, bound(1)?, by));
    }
    inner.parse().ok().map(Step::Index)
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    })
}

fn filter_step(filter: &str) -> Option<Step> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let outside = outside_quotes(filter);
    for (text, comparison) in OPERATORS {
        if let Some(at) = outside.find(text) {
            let (left, right) = (filter.get(..at)?, filter.get(at + text.len()..)?);
            return Some(Step::Filter(operand(left)?, comparison, operand(right)?));
        }
    }
    Some(Step::Filter(operand(filter)?, Comparison::Exists, Operand::Literal(Value::Null)))
}

/// The text with everything in quotes blanked out.
fn outside_quotes(text: &str) -> String {
    let mut quote = None;
    let blank = |it: char| match (quote, it) {
        (Some(open), _) if open == it => {
            quote = None;
            ' '
        }
        (Some(_), it) => {
            if it.len_utf8() == 1 {
                ' '
            } else {
                it
            }
        }
        (None, '\'' | '"') => {
            quote = Some(it);
            ' '
        }
        (None, it) => it,
    };
    text.chars().map(blank).collect()
}

fn operand(text: &str) -> Option<Operand> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    if let Some(text) = quoted(text) {
        return Some(Operand::Literal(Value::from(text)));
    }
    serde_json::from_str(text).ok().map(Operand::Literal)
}

impl Step {
    fn take<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(key) => out.extend(value.get(key)),
            Self::Index(index) => out.extend(value.as_array().and_then(|it| at(it, *index))),
            Self::Range(from, to, by) => {
                let Some(items) = value.as_array() else { return };
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let place = |it: i64| if it < 0 { (it + length).max(0) } else { it.min(length) };
                let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
                let mut index = from;
                while index < to {
                    out.extend(at(items, index));
                    index = index.saturating_add(*by);
                }
            }
            Self::Every => match value {
                Value::Array(items) => out.extend(items),
                Value::Object(map) => out.extend(map.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
            Self::Descend => descend(value, out),
            Self::Filter(left, comparison, right) => {
                let items = value.as_array().into_iter().flatten();
                out.extend(items.filter(|it| holds(it, left, *comparison, right)));
            }
        }
    }
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(items.len()).ok()?;
    let index = if index < 0 { index + length } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() > MAX_FOUND {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|it| descend(it, out)),
        Value::Object(map) => map.values().for_each(|it| descend(it, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn holds(item: &Value, left: &Operand, comparison: Comparison, right: &Operand) -> bool {
    let value = |it: &Operand| match it {
        Operand::Path(path) => path.find(item).first().map(|it| (*it).clone()),
        Operand::Literal(value) => Some(value.clone()),
    };
    if comparison == Comparison::Exists {
        return value(left).is_some();
    }
    let (Some(left), Some(right)) = (value(left), value(right)) else { return false };
    let order = match (left.as_f64(), right.as_f64(), left.as_str(), right.as_str()) {
        (Some(left), Some(right), ..) => left.partial_cmp(&right),
        (_, _, Some(left), Some(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparison {
        Comparison::Exists => true,
        Comparison::Equal => left == right || order.is_some_and(|it| it.is_eq()),
        Comparison::NotEqual => left != right && order.is_none_or(|it| it.is_ne()),
        Comparison::Less => order.is_some_and(|it| it.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|it| it.is_le()),
        Comparison::Greater => order.is_some_and(|it| it.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|it| it.is_ge()),
    }
}
