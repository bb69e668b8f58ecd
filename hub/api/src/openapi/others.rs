//! Documents of version 2 of other servers: what becomes part of ours, and under which names.
//!
//! Each group version brings its own paths and the definitions that they need, and nothing else:
//! nobody says anything about what others serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

const REFERENCE: &str = "$ref";
const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

/// What a server's document says of one group version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part(
    /// `paths` and `definitions`, JSON: it is read only when a document is made.
    Vec<u8>,
);

/// Paths and definitions by name.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) paths: Map<String, Value>,
    pub(super) definitions: Map<String, Value>,
}

impl Part {
    /// Takes the part of a group version out of a whole document (JSON). `None` if it is no such
    /// document, or has no paths of the group version.
    pub fn of(document: &[u8], group: &str, version: &str) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        if document.get("swagger").and_then(Value::as_str) != Some("2.0") {
            return None;
        }
        let prefix = format!("/apis/{group}/{version}/");
        let paths = document.get("paths")?.as_object()?.iter();
        let own = paths.filter(|(path, item)| path.starts_with(&prefix) && item.is_object());
        let paths: Map<String, Value> =
            own.map(|(path, item)| (path.clone(), with_parameters(item, &document))).collect();
        if paths.is_empty() {
            return None;
        }
        let definitions = needed(&paths, &document);
        let part = json!({"paths": paths, "definitions": definitions});
        serde_json::to_vec(&part).ok().map(Self)
    }

    fn read(&self) -> Content {
        let mut all: Value = serde_json::from_slice(&self.0).unwrap_or_default();
        let mut take = |name: &str| match all.get_mut(name).map(Value::take) {
            Some(Value::Object(map)) => map,
            Some(_) | None => Map::new(),
        };
        Content { paths: take("paths"), definitions: take("definitions") }
    }
}

/// A path with the parameters that it shares with others written out: they are numbered by each
/// server as it likes.
fn with_parameters(item: &Value, document: &Value) -> Value {
    let shared = |it: &Value| {
        let name = it.get(REFERENCE)?.as_str()?.strip_prefix(PARAMETERS)?;
        document.get("parameters")?.get(name).cloned()
    };
    let written_out = |holder: &mut Value| {
        let parameters = holder.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            if let Some(whole) = shared(parameter) {
                *parameter = whole;
            }
        }
    };
    let mut item = item.clone();
    written_out(&mut item);
    for (_, operation) in item.as_object_mut().into_iter().flatten() {
        written_out(operation);
    }
    item
}

/// The definitions that paths need, however deep.
fn needed(paths: &Map<String, Value>, document: &Value) -> Map<String, Value> {
    let mut open = Vec::new();
    for item in paths.values() {
        references(item, &mut open);
    }
    let mut found = Map::new();
    while let Some(name) = open.pop() {
        let definition = document.get("definitions").and_then(|it| it.get(name));
        if let Some(definition) = definition.filter(|_| !found.contains_key(name)) {
            references(definition, &mut open);
            found.insert(name.to_owned(), definition.clone());
        }
    }
    found
}

fn references<'a>(value: &'a Value, open: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|it| it.strip_prefix(DEFINITIONS)) {
                    Some(name) if key == REFERENCE => open.push(name),
                    Some(_) | None => references(value, open),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|it| references(it, open)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// All parts together. Definitions that are `known` already stay as they are; others of one name
/// that differ get a number, as Kubernetes gives it: `Thing_v2`.
pub(super) fn merged(parts: &[Arc<Part>], known: &BTreeSet<&str>) -> Content {
    let mut all = Content::default();
    for part in parts {
        let Content { mut paths, mut definitions } = part.read();
        definitions.retain(|name, _| !known.contains(name.as_str()));
        let taken = |name: &str| all.definitions.contains_key(name);
        let differ = |(name, it): (&String, &Value)| {
            all.definitions.get(name).is_some_and(|other| other != it)
        };
        if definitions.iter().any(differ) {
            // What looks the same may mean what differs: nothing is shared.
            let is_used = |name: &str| taken(name) || definitions.contains_key(name);
            let renamed: BTreeMap<String, String> = definitions
                .keys()
                .filter(|name| taken(name))
                .map(|name| (name.clone(), free_name(name, is_used)))
                .collect();
            paths.values_mut().for_each(|it| rename(it, &renamed));
            definitions = std::mem::take(&mut definitions)
                .into_iter()
                .map(|(name, mut it)| {
                    rename(&mut it, &renamed);
                    (renamed.get(&name).cloned().unwrap_or(name), it)
                })
                .collect();
        }
        for (path, item) in paths {
            all.paths.entry(path).or_insert(item);
        }
        for (name, definition) in definitions {
            all.definitions.entry(name).or_insert(definition);
        }
    }
    all
}

fn free_name(name: &str, is_used: impl Fn(&str) -> bool) -> String {
    let mut names = (2u32..).map(|n| format!("{name}_v{n}"));
    names.find(|it| !is_used(it)).unwrap_or_else(|| name.to_owned())
}

/// Makes references lead to the new names.
fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = value.as_str().and_then(|it| it.strip_prefix(DEFINITIONS));
                match name.filter(|_| key == REFERENCE).map(|it| renamed.get(it)) {
                    Some(Some(name)) => *value = format!("{DEFINITIONS}{name}").into(),
                    Some(None) => {}
                    None => rename(value, renamed),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|it| rename(it, renamed)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(field: &str) -> Value {
        let get = |name: &str| json!({"get": {"responses": {"200": {"schema": {"$ref": format!("#/definitions/{name}")}}}}});
        let mut things = get("Thing");
        things["parameters"] =
            json!([{"$ref": "#/parameters/pretty-1"}, {"name": "b", "in": "query"}]);
        json!({
            "swagger": "2.0",
            "paths": {
                "/apis/a.test/v1/things": things,
                "/apis/a.test/v1beta1/things": get("Old"),
                "/apis/b.test/v1/others": get("Other"),
                "/version": get("Version"),
            },
            "parameters": {"pretty-1": {"name": "pretty", "in": "query", "type": "string"}},
            "definitions": {
                "Thing": {"properties": {"part": {"$ref": "#/definitions/Part"}, "meta": {"$ref": "#/definitions/Meta"}}},
                "Part": {"properties": {"up": {"$ref": "#/definitions/Thing"}, field: {"type": "string"}}},
                "Meta": {}, "Old": {}, "Other": {}, "Version": {},
            },
        })
    }

    fn part(document: &Value) -> Option<Arc<Part>> {
        Part::of(document.to_string().as_bytes(), "a.test", "v1").map(Arc::new)
    }

    fn keys(map: &Map<String, Value>) -> Vec<&str> {
        let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_group_version_brings_its_paths_and_what_they_need() {
        let content = part(&document("x")).unwrap().read();
        assert_eq!(keys(&content.paths), ["/apis/a.test/v1/things"]);
        assert_eq!(keys(&content.definitions), ["Meta", "Part", "Thing"]);
        let parameters = &content.paths["/apis/a.test/v1/things"]["parameters"];
        assert_eq!(parameters[0]["name"], "pretty");
        assert_eq!(parameters[1]["name"], "b");
        let mut other = document("x");
        other["swagger"] = json!("3.0");
        assert_eq!(part(&other), None);
        other["swagger"] = json!("2.0");
        other["paths"] = json!({"/apis/a.test/v12/things": {}});
        assert_eq!(part(&other), None);
        assert_eq!(Part::of(b"no JSON", "a.test", "v1"), None);
    }

    #[test]
    fn definitions_that_differ_keep_apart() {
        let known = BTreeSet::from(["Meta"]);
        let (one, two) = (part(&document("x")).unwrap(), part(&document("y")).unwrap());
        let same = merged(&[one.clone(), one.clone()], &known);
        assert_eq!(keys(&same.definitions), ["Part", "Thing"]);
        // Of another group, so that its paths are kept.
        let mut third = document("y");
        third["paths"] =
            json!({"/apis/b.test/v1/things": third["paths"]["/apis/a.test/v1/things"]});
        let third = Part::of(third.to_string().as_bytes(), "b.test", "v1").map(Arc::new).unwrap();
        let all = merged(&[one, two, third], &known);
        let names = ["Part", "Part_v2", "Part_v3", "Thing", "Thing_v2", "Thing_v3"];
        assert_eq!(keys(&all.definitions), names);
        assert_eq!(
            all.definitions["Thing_v3"]["properties"]["part"]["$ref"],
            "#/definitions/Part_v3"
        );
        assert_eq!(all.definitions["Thing_v3"]["properties"]["meta"]["$ref"], "#/definitions/Meta");
        let schema = |path: &str| &all.paths[path]["get"]["responses"]["200"]["schema"]["$ref"];
        assert_eq!(schema("/apis/a.test/v1/things"), "#/definitions/Thing");
        assert_eq!(schema("/apis/b.test/v1/things"), "#/definitions/Thing_v3");
    }
}
