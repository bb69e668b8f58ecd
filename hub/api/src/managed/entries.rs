//! The entries of `metadata.managedFields`, read and written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::Set;
use crate::{object, time};

/// Longest name of a manager, in bytes.
pub(super) const MAX_MANAGER: usize = 128;
/// Entries of updates that an object keeps apart.
const MAX_UPDATERS: usize = 10;
/// Who manages what updates did that are too long ago to be kept apart.
const ANCIENT: &str = "ancient-changes";

/// Whose entry it is. An applier has one entry whatever its version.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

/// How fields came to be managed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What is managed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Owned {
    pub(super) api_version: String,
    pub(super) fields: Set,
    /// RFC 3339.
    pub(super) time: Option<String>,
}

/// All entries of one object.
pub(super) type Entries = BTreeMap<Manager, Owned>;

/// The name of a writer that gave none: the part of its user agent before the first slash.
pub fn manager_from_user_agent(agent: &str) -> String {
    let mut out = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars() {
        if c.is_control() {
            continue;
        }
        if out.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        out.push(c);
    }
    out
}

impl Manager {
    pub(super) fn applier(name: &str, subresource: &str) -> Self {
        Self {
            name: name.to_owned(),
            operation: Operation::Apply,
            api_version: String::new(),
            subresource: subresource.to_owned(),
        }
    }

    pub(super) fn updater(name: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            name: name.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// Checks entries that came from outside.
///
/// # Errors
/// In Kubernetes' words, if one of them is malformed.
pub fn check_entries(entries: &Value) -> Result<(), String> {
    read(Some(entries)).map(drop)
}

/// Reads entries.
///
/// # Errors
/// In Kubernetes' words, if one of them is malformed.
pub(super) fn read(entries: Option<&Value>) -> Result<Entries, String> {
    let mut out = Entries::new();
    let Some(entries) = entries.and_then(Value::as_array) else { return Ok(out) };
    for (i, entry) in entries.iter().enumerate() {
        let (manager, owned) = read_one(i, entry)?;
        out.insert(manager, owned);
    }
    Ok(out)
}

fn read_one(index: usize, entry: &Value) -> Result<(Manager, Owned), String> {
    let operation = match object::text(entry, "operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let api_version = object::text(entry, "apiVersion").to_owned();
    if api_version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match object::text(entry, "fieldsType") {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
        other => {
            return Err(format!("invalid fieldsType \"{other}\" in managed fields entry {index}"));
        }
    }
    let fields = match object::get(entry, "fieldsV1") {
        Some(fields) => Set::parse(fields).map_err(|why| format!("error decoding set: {why}"))?,
        None => Set::default(),
    };
    let manager = Manager {
        name: object::text(entry, "manager").to_owned(),
        operation,
        api_version: match operation {
            Operation::Apply => String::new(),
            Operation::Update => api_version.clone(),
        },
        subresource: object::text(entry, "subresource").to_owned(),
    };
    let time = object::get(entry, "time").and_then(Value::as_str).map(str::to_owned);
    Ok((manager, Owned { api_version, fields, time }))
}

/// Writes entries in Kubernetes' order; none if there is none.
pub(super) fn write(entries: &Entries) -> Option<Value> {
    if entries.is_empty() {
        return None;
    }
    let mut out: Vec<Value> =
        entries.iter().map(|(manager, owned)| write_one(manager, owned)).collect();
    sort(&mut out);
    Some(Value::Array(out))
}

/// Puts written entries in Kubernetes' order: appliers first, then by age.
pub(super) fn sort(entries: &mut [Value]) {
    entries.sort_by_cached_key(|entry| {
        let text = |key: &str| object::text(entry, key).to_owned();
        let seconds = time::parse(object::text(entry, "time")).map_or(0, |it| it.as_second());
        (text("operation"), seconds, text("manager"), text("apiVersion"), text("subresource"))
    });
}

fn write_one(manager: &Manager, owned: &Owned) -> Value {
    let mut out = Map::new();
    if !manager.name.is_empty() {
        out.insert("manager".to_owned(), json!(manager.name));
    }
    let operation = match manager.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    out.insert("operation".to_owned(), json!(operation));
    out.insert("apiVersion".to_owned(), json!(owned.api_version));
    if let Some(time) = &owned.time {
        out.insert("time".to_owned(), json!(time));
    }
    out.insert("fieldsType".to_owned(), json!("FieldsV1"));
    out.insert("fieldsV1".to_owned(), owned.fields.to_value());
    if !manager.subresource.is_empty() {
        out.insert("subresource".to_owned(), json!(manager.subresource));
    }
    Value::Object(out)
}

fn seconds(owned: &Owned) -> i64 {
    owned.time.as_deref().and_then(time::parse).map_or(0, |it| it.as_second())
}

/// Merges the oldest entries of updates, version by version, until there are few enough.
pub(super) fn cap(entries: &mut Entries) {
    let is_updater = |it: &&Manager| it.operation == Operation::Update;
    let mut updaters: Vec<Manager> = entries.keys().filter(is_updater).cloned().collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATERS {
        return;
    }
    updaters.sort_by_cached_key(|it| (entries.get(it).map_or(0, seconds), it.clone()));
    let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
    for manager in updaters {
        if count <= MAX_UPDATERS {
            break;
        }
        let Some(version) = entries.get(&manager).map(|it| it.api_version.clone()) else {
            continue;
        };
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, manager);
            continue;
        };
        let bucket = Manager::updater(ANCIENT, &version, "");
        if !entries.contains_key(&bucket)
            && let Some(owned) = entries.remove(first)
        {
            entries.insert(bucket.clone(), owned);
        }
        if manager != bucket
            && let Some(owned) = entries.remove(&manager)
            && let Some(ancient) = entries.get_mut(&bucket)
        {
            ancient.fields.add(&owned.fields);
            ancient.time = owned.time;
        }
        count -= 1;
    }
}
