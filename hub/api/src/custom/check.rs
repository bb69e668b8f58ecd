//! Checks objects against structural schemas, in the words of Kubernetes' validator.

use serde_json::Value;

use super::formats;
use super::structural::{Additional, Checks, Node};
use crate::path::Path;
use crate::schema::Type;
use crate::status::{FieldError, quote};

/// Broken rules that are told; more would only make the answer unreadable.
const MAX_ERRORS: usize = 100;

/// Checks a value by itself.
pub(super) fn check(object: &Value, node: &Node) -> Vec<FieldError> {
    check_change(object, None, node)
}

/// Checks a value that takes the place of another: what stays as it was may stay wrong.
pub(super) fn check_change(object: &Value, old: Option<&Value>, node: &Node) -> Vec<FieldError> {
    let mut report = Report::default();
    at(object, old, node, &Path::Root, &mut report);
    report.errors.truncate(MAX_ERRORS);
    report.errors
}

#[derive(Debug, Default)]
struct Report {
    errors: Vec<FieldError>,
    /// How much was found right: tells the alternative that was meant.
    matched: usize,
}

/// A path as the validator writes it: keys of maps look like fields.
fn shown(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Field(Path::Root, name) | Path::Key(Path::Root, name) => (*name).to_owned(),
        Path::Field(parent, name) | Path::Key(parent, name) => format!("{}.{name}", shown(parent)),
        Path::Index(parent, index) => format!("{}[{index}]", shown(parent)),
    }
}

impl Report {
    fn wrong(&mut self, path: &Path<'_>, value: impl Into<Value>, what: &str) {
        let path = shown(path);
        let detail = format!("{path} in body {what}");
        self.errors.push(FieldError::invalid(path, value, detail));
    }

    fn mismatch(&mut self, path: &Path<'_>, wanted: &str, found: &str) {
        let path = shown(path);
        let detail = format!("{path} in body must be of type {wanted}: {}", quote(found));
        self.errors.push(FieldError::type_invalid(path, found, detail));
    }

    /// What is said of a whole choice has no field.
    fn choice(&mut self, path: &Path<'_>, what: &str) {
        let detail = format!("{} {what}", quote(&shown(path)));
        self.errors.push(FieldError::invalid("<nil>", "", detail));
    }
}

fn at(value: &Value, old: Option<&Value>, node: &Node, path: &Path<'_>, report: &mut Report) {
    if report.errors.len() >= MAX_ERRORS || old == Some(value) {
        return;
    }
    let before = report.errors.len();
    if !check_type(value, node, path, report) || value.is_null() {
        return;
    }
    let checks = &node.checks;
    choices(value, checks, path, report);
    match value {
        Value::String(text) => check_text(text, checks, path, report),
        Value::Number(_) => check_number(value, checks, path, report),
        Value::Array(items) => check_items(items, old, node, path, report),
        Value::Null | Value::Bool(_) | Value::Object(_) => {}
    }
    check_enum(value, checks, path, report);
    if let Value::Object(_) = value {
        check_fields(value, old, node, path, report);
    }
    report.matched += usize::from(report.errors.len() == before);
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(value: &Value, node: &Node, path: &Path<'_>, report: &mut Report) -> bool {
    let found = name_of(value);
    let is_whole = value.as_f64().is_some_and(|it| it.fract() == 0.0 && it.abs() < 9.0e15);
    let (wanted, fits) = if node.int_or_string {
        ("integer,string", matches!(found, "integer" | "string") || found == "number" && is_whole)
    } else {
        match node.ty {
            None => return true,
            Some(Type::Object) => ("object", found == "object"),
            Some(Type::Array) => ("array", found == "array"),
            Some(Type::String) => ("string", found == "string"),
            Some(Type::Boolean) => ("boolean", found == "boolean"),
            Some(Type::Number) => ("number", matches!(found, "number" | "integer")),
            Some(Type::Integer) => ("integer", found == "integer" || found == "number" && is_whole),
        }
    };
    if fits || value.is_null() && node.nullable {
        return true;
    }
    report.mismatch(path, wanted, found);
    false
}

fn check_text(text: &str, checks: &Checks, path: &Path<'_>, report: &mut Report) {
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(most) = checks.max_length.filter(|it| length > *it) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        report.errors.push(FieldError::too_long(shown(path), most));
    }
    if let Some(least) = checks.min_length.filter(|it| length < *it) {
        report.wrong(path, text, &format!("should be at least {least} chars long"));
    }
    if let Some((pattern, regex)) = &checks.pattern
        && regex.as_ref().is_some_and(|it| !it.is_match(text))
    {
        report.wrong(path, text, &format!("should match '{pattern}'"));
    }
    if formats::is_known(&checks.format) && !formats::fits(&checks.format, text) {
        let what = format!("must be of type {}: {}", checks.format, quote(text));
        report.wrong(path, text, &what);
    }
}

fn check_number(value: &Value, checks: &Checks, path: &Path<'_>, report: &mut Report) {
    let Some(number) = value.as_f64() else { return };
    if let Some(divisor) = checks.multiple_of.filter(|it| *it > 0.0) {
        let times = number / divisor;
        if (times - times.round()).abs() > 1e-9 {
            report.wrong(path, value.clone(), &format!("should be a multiple of {divisor}"));
        }
    }
    match checks.maximum {
        Some((most, true)) if number >= most => {
            report.wrong(path, value.clone(), &format!("should be less than {most}"));
        }
        Some((most, false)) if number > most => {
            report.wrong(path, value.clone(), &format!("should be less than or equal to {most}"));
        }
        Some(_) | None => {}
    }
    match checks.minimum {
        Some((least, true)) if number <= least => {
            report.wrong(path, value.clone(), &format!("should be greater than {least}"));
        }
        Some((least, false)) if number < least => {
            let what = format!("should be greater than or equal to {least}");
            report.wrong(path, value.clone(), &what);
        }
        Some(_) | None => {}
    }
    let whole = value.as_i64();
    if checks.format == "int32" && whole.is_none_or(|it| i32::try_from(it).is_err()) {
        report.wrong(
            path,
            value.clone(),
            &format!("must be of type int32: {}", quote(&value.to_string())),
        );
    }
}

fn check_items(
    items: &[Value],
    old: Option<&Value>,
    node: &Node,
    path: &Path<'_>,
    report: &mut Report,
) {
    let checks = &node.checks;
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Some(below) = &node.items {
        for (index, item) in items.iter().enumerate() {
            let old = old.and_then(|it| twin(item, it, node));
            at(item, old, below, &path.index(index), report);
        }
    }
    if let Some(least) = checks.min_items.filter(|it| count < *it) {
        report.wrong(path, count, &format!("should have at least {least} items"));
    }
    if let Some(most) = checks.max_items.filter(|it| count > *it) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        report.errors.push(FieldError::too_many(shown(path), items.len(), most));
    }
}

fn check_enum(value: &Value, checks: &Checks, path: &Path<'_>, report: &mut Report) {
    let Some(allowed) = checks.allowed.as_ref().filter(|it| !it.contains(value)) else { return };
    let texts: Vec<String> = allowed
        .iter()
        .map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    report.errors.push(FieldError::not_supported(shown(path), value.clone(), &texts));
}

fn check_fields(
    value: &Value,
    old: Option<&Value>,
    node: &Node,
    path: &Path<'_>,
    report: &mut Report,
) {
    let Value::Object(map) = value else { return };
    let checks = &node.checks;
    let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
    if let Some(least) = checks.min_properties.filter(|it| count < *it) {
        report.wrong(path, count, &format!("should have at least {least} properties"));
    }
    if let Some(most) = checks.max_properties.filter(|it| count > *it) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        report.errors.push(FieldError::too_many(shown(path), map.len(), most));
    }
    for key in &checks.required {
        if !map.contains_key(key) {
            report.errors.push(FieldError::required(shown(&path.field(key)), ""));
        }
    }
    for (key, value) in map {
        let old = old.and_then(|it| it.get(key));
        if let Some(below) = node.properties.get(key) {
            at(value, old, below, &path.field(key), report);
        } else if let Some(Additional::Schema(below)) = &node.additional {
            at(value, old, below, &path.key(key), report);
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn choices(value: &Value, checks: &Checks, path: &Path<'_>, report: &mut Report) {
    let attempts = |nodes: &[Node]| -> Vec<Report> {
        let attempt = |node: &Node| {
            let mut report = Report::default();
            at(value, None, node, path, &mut report);
            report
        };
        nodes.iter().map(attempt).collect()
    };
    if !checks.any_of.is_empty() {
        let tried = attempts(&checks.any_of);
        if tried.iter().all(|it| !it.errors.is_empty()) {
            report.choice(path, "must validate at least one schema (anyOf)");
            report.errors.extend(best(tried));
        }
    }
    if !checks.one_of.is_empty() {
        let tried = attempts(&checks.one_of);
        match tried.iter().filter(|it| it.errors.is_empty()).count() {
            1 => {}
            0 => {
                let what = "must validate one and only one schema (oneOf). Found none valid";
                report.choice(path, what);
                report.errors.extend(best(tried));
            }
            n => report.choice(
                path,
                &format!(
                    "must validate one and only one schema (oneOf). Found {n} valid alternatives"
                ),
            ),
        }
    }
    if !checks.all_of.is_empty() {
        let tried = attempts(&checks.all_of);
        let n_valid = tried.iter().filter(|it| it.errors.is_empty()).count();
        if n_valid < tried.len() {
            let none = if n_valid == 0 { ". None validated" } else { "" };
            report.errors.extend(tried.into_iter().flat_map(|it| it.errors));
            report.choice(path, &format!("must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &checks.not {
        let mut tried = Report::default();
        at(value, None, not, path, &mut tried);
        if tried.errors.is_empty() {
            report.choice(path, "must not validate the schema (not)");
        }
    }
}

/// What is wrong with the alternative that fits best.
fn best(tried: Vec<Report>) -> Vec<FieldError> {
    let mut best: Option<Report> = None;
    for report in tried {
        if best.as_ref().is_none_or(|it| report.matched > it.matched) {
            best = Some(report);
        }
    }
    best.map(|it| it.errors).unwrap_or_default()
}

/// Items that stand twice in sets, and keys that do in keyed lists.
pub(super) fn check_lists(value: &Value, node: &Node) -> Vec<FieldError> {
    let mut errors = Vec::new();
    lists_at(value, node, &Path::Root, &mut errors);
    errors.truncate(MAX_ERRORS);
    errors
}

fn lists_at(value: &Value, node: &Node, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Array(items) => {
            let keys = &node.list_map_keys;
            match node.list_type.as_str() {
                "set" => duplicates(items.iter().cloned(), path, errors),
                "map" => {
                    let key_of = |item: &Value| {
                        let key = |key: &String| {
                            let value = item.get(key).filter(|it| !it.is_null());
                            (key.clone(), value.cloned().unwrap_or(Value::Null))
                        };
                        let key = keys.iter().map(key).filter(|(_, it)| !it.is_null());
                        Value::Object(key.collect())
                    };
                    duplicates(items.iter().map(key_of), path, errors);
                }
                _ => {}
            }
            if let Some(below) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    lists_at(item, below, &path.index(index), errors);
                }
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                match node.properties.get(key) {
                    Some(below) => lists_at(value, below, &path.field(key), errors),
                    None => {
                        if let Some(below) = node.field(key) {
                            lists_at(value, below, &path.key(key), errors);
                        }
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn duplicates(items: impl Iterator<Item = Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in items.enumerate() {
        // Maps are ordered, so equal values have equal texts.
        if !seen.insert(item.to_string()) {
            errors.push(FieldError::duplicate(path.index(index), item));
        }
    }
}

/// The item of an old keyed list that has the same keys.
pub(super) fn twin<'a>(item: &Value, old: &'a Value, node: &Node) -> Option<&'a Value> {
    if node.list_type != "map" {
        return None;
    }
    let same = |other: &&Value| node.list_map_keys.iter().all(|it| other.get(it) == item.get(it));
    old.as_array()?.iter().find(same)
}
