//! Cells that many kinds share.

use jiff::Timestamp;
use serde_json::Value;

use super::human_duration;
use crate::time;

/// What stands for nothing.
pub(super) const NONE: &str = "<none>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// How long ago a time was.
pub(super) fn age(since: Option<&Value>, now: Timestamp) -> String {
    let since = since.and_then(Value::as_str).and_then(time::parse);
    since.map_or_else(|| UNKNOWN.to_owned(), |it| human_duration(now.duration_since(it).as_secs()))
}

/// The text at a path, empty if there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The elements at a path.
pub(super) fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The number at a path, zero if there is none.
pub(super) fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

/// Elements of a list, entries of a map.
pub(super) fn size(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// A name or number as text without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `text`, or `<none>` if it is empty.
pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// `a=1,b=2`, or `<none>`.
pub(super) fn labels(labels: Option<&Value>) -> String {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    or_none(labels.map(|(name, it)| format!("{name}={}", plain(it))).collect::<Vec<_>>().join(","))
}

/// A label selector as text: `a=1,b in (2,3),!c`, or `<none>`. Nothing selected differs from no
/// selector.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|it| !it.is_null()) else { return NONE.to_owned() };
    let mut terms: Vec<(String, String)> = Vec::new();
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push((name.clone(), format!("{name}={}", plain(value))));
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<String> = list(expression, "/values").iter().map(plain).collect();
        values.sort();
        let values = values.join(",");
        let term = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => "<error>".to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    or_none(terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

/// One field of every element, joined.
pub(super) fn join(elements: &[Value], path: &str) -> String {
    elements.iter().map(|it| text(it, path)).collect::<Vec<_>>().join(",")
}

/// At most three entries, then how many more there are.
pub(super) fn at_most_three(entries: &[String], if_empty: &str) -> String {
    match entries {
        [] => if_empty.to_owned(),
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a},{b},{c} + {} more...", rest.len()),
        few => few.join(","),
    }
}

/// The status of a condition, empty if it is not there.
pub(super) fn condition<'a>(object: &'a Value, wanted: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|it| it["type"] == wanted)
}
