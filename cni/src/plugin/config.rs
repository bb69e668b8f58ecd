//! The network configuration that comes on standard input.

use std::{net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{PluginError, VERSIONS};
use crate::{BridgeConfig, ipam::Pool};

/// A checked configuration.
#[derive(Clone, Debug)]
pub(super) struct NetworkConfig {
    pub(super) version: String,
    pub(super) bridge: BridgeConfig,
    pub(super) data_dir: PathBuf,
    pub(super) valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container_id: String,
    pub(super) ifname: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    name: String,
    #[serde(default = "default_bridge")]
    bridge: String,
    #[serde(default = "default_mtu")]
    mtu: u32,
    ipam: RawIpam,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIpam {
    subnet: String,
    gateway: Option<Ipv4Addr>,
    #[serde(default = "default_data_dir")]
    data_dir: PathBuf,
}

fn default_bridge() -> String {
    "outbye0".into()
}

fn default_mtu() -> u32 {
    1500
}

fn default_data_dir() -> PathBuf {
    "/var/lib/cni/outbye".into()
}

impl NetworkConfig {
    pub(super) fn parse(text: &str) -> Result<Self, PluginError> {
        let raw: Raw = serde_json::from_str(text).map_err(PluginError::Decode)?;
        let version = raw.cni_version.unwrap_or_else(|| "0.3.0".into());
        if !VERSIONS.contains(&version.as_str()) {
            return Err(PluginError::Version { version });
        }
        let subnet = raw.ipam.subnet.parse::<Ipv4Net>();
        let subnet = subnet.map_err(|_| PluginError::Config { what: "the subnet is not one" })?;
        let subnet = subnet.trunc();
        let valid_name = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
        if raw.name.is_empty() || !raw.name.chars().all(valid_name) || raw.name.starts_with('.') {
            return Err(PluginError::Config { what: "name is not a valid network name" });
        }
        // The kernel's settings of a link lie in a directory of its name.
        let bad = |it: char| it == '/' || it == ':' || it.is_whitespace() || it.is_control();
        if raw.bridge.is_empty()
            || raw.bridge.len() > 15
            || raw.bridge.starts_with('.')
            || raw.bridge.contains(bad)
        {
            return Err(PluginError::Config { what: "bridge is not a valid link name" });
        }
        if subnet.prefix_len() > 30 {
            return Err(PluginError::Config { what: "the subnet has no room for a sandbox" });
        }
        let first = subnet.hosts().next().unwrap_or_else(|| subnet.network());
        let gateway = raw.ipam.gateway.unwrap_or(first);
        if !subnet.contains(&gateway) {
            return Err(PluginError::Config { what: "the gateway is not in the subnet" });
        }
        Ok(Self {
            version,
            bridge: BridgeConfig { name: raw.bridge, subnet, gateway, mtu: raw.mtu },
            data_dir: raw.ipam.data_dir.join(raw.name),
            valid_attachments: raw.valid_attachments,
        })
    }

    pub(super) fn pool(&self) -> Pool {
        Pool::new(self.bridge.subnet, self.bridge.gateway)
    }
}
