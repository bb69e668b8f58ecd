//! Group versions that other servers serve behind this one, in the documents of discovery.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Scope, group_version, maturity};
use crate::object;
use crate::resource::Resource;

/// Resources of one group version that are taken from its server.
const MAX_RESOURCES: usize = 4096;

/// A group version that another server serves.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Its group, never empty.
    pub group: String,
    /// Its version.
    pub version: String,
    /// `spec.versionPriority`: the higher one comes first.
    pub version_priority: i64,
    /// `spec.groupPriorityMinimum`: the highest of the group counts.
    pub group_priority: i64,
    /// Its resources as aggregated discovery has them, as far as they were ever heard.
    pub resources: Vec<Value>,
    /// Whether they were heard lately.
    pub is_current: bool,
}

/// The rows that this server answers for itself: those of no such group version.
pub fn own_rows(rows: &[Resource], served: &[Served]) -> Vec<Resource> {
    let is_served =
        |row: &Resource| served.iter().any(|it| it.group == row.group && it.version == row.version);
    rows.iter().filter(|row| !is_served(row)).cloned().collect()
}

/// Groups by priority, the versions of each by theirs.
fn by_group(served: &[Served]) -> Vec<(&str, Vec<&Served>)> {
    let mut groups: BTreeMap<&str, Vec<&Served>> = BTreeMap::new();
    for it in served {
        groups.entry(&it.group).or_default().push(it);
    }
    let mut groups: Vec<(&str, Vec<&Served>)> = groups.into_iter().collect();
    for (_, versions) in &mut groups {
        versions
            .sort_by_key(|it| (Reverse((it.version_priority, maturity(&it.version))), &it.version));
    }
    let priority = |versions: &[&Served]| versions.iter().map(|it| it.group_priority).max();
    groups.sort_by_key(|(name, versions)| (Reverse(priority(versions)), *name));
    groups
}

/// Adds them to an `APIGroupList`.
pub fn add_to_groups(list: &mut Value, served: &[Served]) {
    let Some(groups) = list.get_mut("groups").and_then(Value::as_array_mut) else { return };
    for (name, versions) in by_group(served) {
        if let Some(group) = groups.iter_mut().find(|it| it["name"] == name) {
            add_versions(group, &versions);
        } else {
            groups.push(group_of(name, &versions));
        }
    }
}

/// Adds them to an `APIGroup`, or makes one of them; nothing if nobody serves the group.
pub fn with_group(own: Option<Value>, name: &str, served: &[Served]) -> Option<Value> {
    let Some((_, versions)) = by_group(served).into_iter().find(|(it, _)| *it == name) else {
        return own;
    };
    let mut group = own.unwrap_or_else(|| {
        let mut group = group_of(name, &[]);
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        group
    });
    add_versions(&mut group, &versions);
    Some(group)
}

fn group_of(name: &str, versions: &[&Served]) -> Value {
    let mut group = json!({ "name": name, "versions": [] });
    add_versions(&mut group, versions);
    group
}

fn add_versions(group: &mut Value, versions: &[&Served]) {
    let Some(list) = group.get_mut("versions").and_then(Value::as_array_mut) else { return };
    for it in versions {
        let group_version = group_version(&it.group, &it.version);
        list.push(json!({ "groupVersion": group_version, "version": it.version }));
    }
    let first = list.first().cloned();
    if group.get("preferredVersion").is_none_or(Value::is_null)
        && let Some(first) = first
    {
        group["preferredVersion"] = first;
    }
}

/// Adds them to an `APIGroupDiscoveryList`.
pub fn add_to_aggregated(list: &mut Value, scope: Scope, served: &[Served]) {
    if scope == Scope::Core {
        return;
    }
    let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) else { return };
    for (name, versions) in by_group(served) {
        let found = items.iter_mut().find(|it| it["metadata"]["name"] == name);
        let versions = versions.iter().map(|it| {
            let freshness = if it.is_current { "Current" } else { "Stale" };
            json!({ "version": it.version, "resources": it.resources, "freshness": freshness })
        });
        match found.and_then(|it| it["versions"].as_array_mut()) {
            Some(known) => known.extend(versions),
            None => items.push(json!({
                "metadata": { "name": name },
                "versions": versions.collect::<Vec<Value>>(),
            })),
        }
    }
}

/// The resources of an `APIResourceList`, in the form of aggregated discovery; `None` if it is none
/// of this group version.
pub fn resources_of(list: &Value, group: &str, version: &str) -> Option<Vec<Value>> {
    let own = group_version(group, version);
    if list["kind"] != "APIResourceList" || list["groupVersion"] != own.as_str() {
        return None;
    }
    let mut found: BTreeMap<&str, Value> = BTreeMap::new();
    for it in object::list(list, "resources").iter().take(MAX_RESOURCES) {
        let (name, below) = match object::text(it, "name").split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (object::text(it, "name"), None),
        };
        if name.is_empty() {
            continue;
        }
        let or_own = |field: &str, own: &str| match object::text(it, field) {
            "" => own.to_owned(),
            said => said.to_owned(),
        };
        let kind = json!({
            "group": or_own("group", group),
            "version": or_own("version", version),
            "kind": object::text(it, "kind"),
        });
        let scope = if object::flag(it, "namespaced") { "Namespaced" } else { "Cluster" };
        let verbs = texts(it, "verbs");
        let entry = found.entry(name).or_insert_with(
            // A server may have a subresource of nothing.
            || json!({ "resource": name, "scope": scope, "singularResource": "", "verbs": [] }),
        );
        if let Some(below) = below {
            let one = json!({ "subresource": below, "responseKind": kind, "verbs": verbs });
            match entry["subresources"].as_array_mut() {
                Some(list) => list.push(one),
                None => entry["subresources"] = json!([one]),
            }
            continue;
        }
        entry["responseKind"] = kind;
        entry["scope"] = scope.into();
        entry["singularResource"] = object::text(it, "singularName").into();
        entry["verbs"] = verbs;
        for field in ["shortNames", "categories"] {
            if !object::list(it, field).is_empty() {
                entry[field] = texts(it, field);
            }
        }
    }
    Some(found.into_values().collect())
}

fn texts(object: &Value, field: &str) -> Value {
    object::list(object, field).iter().filter(|it| it.is_string()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(group: &str, version: &str, group_priority: i64, version_priority: i64) -> Served {
        Served {
            group: group.to_owned(),
            version: version.to_owned(),
            group_priority,
            version_priority,
            ..Served::default()
        }
    }

    #[test]
    fn groups_and_versions_come_by_their_priorities() {
        let all = [
            served("b.io", "v1alpha1", 10, 5),
            served("b.io", "v1", 10, 5),
            served("a.io", "v1", 5, 9),
            served("apps", "v9", 1, 9),
            served("b.io", "v2", 2000, 1),
        ];
        let own = json!({ "name": "apps", "preferredVersion": {"version": "v1"},
            "versions": [{"version": "v1"}] });
        let mut list = json!({ "groups": [own] });
        add_to_groups(&mut list, &all);
        let shown: Vec<String> = list["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| {
                let versions = group["versions"].as_array().unwrap().iter();
                let versions: Vec<&str> =
                    versions.map(|it| it["version"].as_str().unwrap()).collect();
                let preferred = group["preferredVersion"]["version"].as_str().unwrap();
                format!("{} {} {preferred}", group["name"].as_str().unwrap(), versions.join(","))
            })
            .collect();
        assert_eq!(shown, ["apps v1,v9 v1", "b.io v1,v1alpha1,v2 v1", "a.io v1 v1"]);
        let group = with_group(None, "b.io", &all).unwrap();
        assert_eq!(group["kind"], "APIGroup");
        assert_eq!(group["versions"][2]["groupVersion"], "b.io/v2");
        assert_eq!(with_group(None, "c.io", &all), None);
    }

    #[test]
    fn a_servers_list_becomes_aggregated() {
        let list = json!({ "kind": "APIResourceList", "groupVersion": "b.io/v1", "resources": [
            { "name": "things/status", "kind": "Thing", "namespaced": true, "verbs": ["get"] },
            { "name": "things", "kind": "Thing", "singularName": "thing", "namespaced": true,
              "verbs": ["get", "list"], "shortNames": ["th"] },
            { "name": "orphans/x", "kind": "X", "group": "c.io", "version": "v2", "verbs": [7] },
            { "name": "" },
        ]});
        let expected = json!([
            { "resource": "orphans", "scope": "Cluster", "singularResource": "", "verbs": [],
              "subresources": [{ "subresource": "x", "verbs": [],
                "responseKind": { "group": "c.io", "version": "v2", "kind": "X" } }] },
            { "resource": "things", "scope": "Namespaced", "singularResource": "thing",
              "responseKind": { "group": "b.io", "version": "v1", "kind": "Thing" },
              "verbs": ["get", "list"], "shortNames": ["th"],
              "subresources": [{ "subresource": "status", "verbs": ["get"],
                "responseKind": { "group": "b.io", "version": "v1", "kind": "Thing" } }] },
        ]);
        assert_eq!(Value::Array(resources_of(&list, "b.io", "v1").unwrap()), expected);
        assert_eq!(resources_of(&list, "b.io", "v2"), None);
        let it = Served { resources: vec![json!({})], ..served("b.io", "v1", 1, 1) };
        let mut all = json!({ "items": [] });
        add_to_aggregated(&mut all, Scope::Groups, &[it]);
        assert_eq!(
            all["items"],
            json!([{ "metadata": { "name": "b.io" },
                "versions": [{ "version": "v1", "resources": [{}], "freshness": "Stale" }] }])
        );
    }
}
