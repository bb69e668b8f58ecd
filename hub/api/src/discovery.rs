//! Discovery: which groups, versions and resources are served.

use serde_json::{Value, json};

use crate::resource::Resource;

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

/// The `APIVersions` of `/api`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": server_address }
        ],
    })
}

/// The `APIGroupList` of `/apis`.
pub fn api_group_list(_rows: &[Resource]) -> Value {
    json!({})
}

/// The `APIGroup` of `/apis/<group>`, or nothing if the group is not served.
pub fn api_group(_group: &str, _rows: &[Resource]) -> Option<Value> {
    None
}

/// The `APIResourceList` of a group version, or nothing if it is not served.
pub fn api_resource_list(_group: &str, _version: &str, _rows: &[Resource]) -> Option<Value> {
    None
}

/// The `APIGroupDiscoveryList` of `/api` or `/apis`.
pub fn aggregated(_scope: Scope, _version: AggregatedVersion, _rows: &[Resource]) -> Value {
    json!({})
}
