//! Discovery: tells clients which groups, versions and resources are served.
//!
//! Two forms of the same: one document a group version, which every client reads, and one
//! aggregated document that newer clients ask for to save requests. All is derived from the rows;
//! the order of groups is theirs.

mod served;

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use crate::resource::{Resource, Subresource};

pub use served::{Served, add_to_aggregated, add_to_groups, own_rows, resources_of, with_group};

/// Which of the two aggregated documents is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// `/api`: the core group.
    Core,
    /// `/apis`: all others.
    Groups,
}

/// Version of the aggregated documents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AggregatedVersion {
    /// `v2`.
    V2,
    /// `v2beta1`, which clients from 1.26 to 1.29 ask for.
    V2Beta1,
}

impl AggregatedVersion {
    fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// The `APIVersions` of `/api`. `server_address` is host and port.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": server_address },
        ],
    })
}

/// The `APIGroupList` of `/apis`.
pub fn api_group_list(rows: &[Resource]) -> Value {
    let groups = groups(rows).into_iter().filter(|it| !it.is_empty());
    let groups: Vec<Value> = groups.map(|it| group_value(it, rows)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// The `APIGroup` of `/apis/<group>`, or nothing if the group is not served.
pub fn api_group(group: &str, rows: &[Resource]) -> Option<Value> {
    if group.is_empty() || rows.iter().all(|it| it.group != group) {
        return None;
    }
    let mut value = group_value(group, rows);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// The `APIResourceList` of a group version, or nothing if it is not served.
pub fn api_resource_list(group: &str, version: &str, rows: &[Resource]) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for row in rows.iter().filter(|it| it.group == group && it.version == version) {
        let mut value = Map::new();
        value.insert("name".into(), json!(row.plural));
        value.insert("singularName".into(), json!(row.singular));
        value.insert("namespaced".into(), row.namespaced.into());
        value.insert("kind".into(), json!(row.kind));
        value.insert("verbs".into(), json!(row.verbs));
        add_names(&mut value, row);
        resources.push(value.into());
        resources.extend(row.subresources.iter().map(|it| subresource_value(row, it)));
    }
    if resources.is_empty() {
        return None;
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = group_version(group, version);
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": resources,
    });
    // Kubernetes leaves it out of the core group's list.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// The `APIGroupDiscoveryList` of `/api` or `/apis`.
pub fn aggregated(scope: Scope, version: AggregatedVersion, rows: &[Resource]) -> Value {
    let groups = groups(rows).into_iter().filter(|it| it.is_empty() == (scope == Scope::Core));
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = versions(group, rows)
                .into_iter()
                .map(|version| aggregated_version(group, version, rows))
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", version.as_str()),
        "metadata": {},
        "items": items,
    })
}

/// The groups in the order of the rows.
pub(crate) fn groups(rows: &[Resource]) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for row in rows {
        if !groups.contains(&&*row.group) {
            groups.push(&row.group);
        }
    }
    groups
}

/// The versions of a group, the preferred one first: stable before beta before alpha, newer before
/// older.
pub(crate) fn versions<'a>(group: &str, rows: &'a [Resource]) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|it| it.group == group) {
        if !versions.contains(&&*row.version) {
            versions.push(&row.version);
        }
    }
    versions.sort_by_key(|it| (Reverse(maturity(it)), *it));
    versions
}

/// `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > what has another form.
fn maturity(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    for (word, level) in [("alpha", 0), ("beta", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((level, major.parse().ok()?, minor.parse().ok()?));
        }
    }
    Some((2, rest.parse().ok()?, 0))
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_value(group: &str, rows: &[Resource]) -> Value {
    let versions: Vec<Value> = versions(group, rows)
        .into_iter()
        .map(|it| json!({ "groupVersion": group_version(group, it), "version": it }))
        .collect();
    json!({ "name": group, "preferredVersion": versions.first(), "versions": versions })
}

fn subresource_value(row: &Resource, subresource: &Subresource) -> Value {
    let (group, version, kind) = row.exchanged(subresource);
    let mut value = json!({
        "name": format!("{}/{}", row.plural, subresource.name),
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": kind,
        "verbs": subresource.verbs,
    });
    if (group, version) != (&*row.group, &*row.version) {
        value["group"] = group.into();
        value["version"] = version.into();
    }
    value
}

fn add_names(value: &mut Map<String, Value>, row: &Resource) {
    for (key, names) in [("shortNames", row.short_names()), ("categories", row.categories())] {
        if !names.is_empty() {
            value.insert(key.into(), json!(names));
        }
    }
}

fn aggregated_version(group: &str, version: &str, rows: &[Resource]) -> Value {
    let mut rows: Vec<&Resource> =
        rows.iter().filter(|it| it.group == group && it.version == version).collect();
    rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    let resources: Vec<Value> = rows.into_iter().map(aggregated_resource).collect();
    json!({ "version": version, "resources": resources, "freshness": "Current" })
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut value = Map::new();
    value.insert("resource".into(), json!(row.plural));
    let kind = json!({ "group": row.group, "version": row.version, "kind": row.kind });
    value.insert("responseKind".into(), kind);
    let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
    value.insert("scope".into(), scope.into());
    value.insert("singularResource".into(), json!(row.singular));
    value.insert("verbs".into(), json!(row.verbs));
    add_names(&mut value, row);
    if !row.subresources.is_empty() {
        let mut subresources: Vec<&Subresource> = row.subresources.iter().collect();
        subresources.sort_by_key(|it| it.name);
        let subresources: Vec<Value> = subresources
            .into_iter()
            .map(|it| {
                let (group, version, kind) = row.exchanged(it);
                let kind = json!({ "group": group, "version": version, "kind": kind });
                json!({ "subresource": it.name, "responseKind": kind, "verbs": it.verbs })
            })
            .collect();
        value.insert("subresources".into(), subresources.into());
    }
    value.into()
}

#[cfg(test)]
mod tests;
