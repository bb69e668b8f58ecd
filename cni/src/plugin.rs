//! The CNI protocol, versions 0.3.0 to 1.1.0: environment and configuration in, JSON out.
//!
//! Masquerading is not done here: the service proxy of the node does it for every address of the cluster.

mod config;
mod store;

use std::{fs::File, io, net::Ipv4Addr, os::fd::AsFd, path::PathBuf};

use serde_json::{Value, json};

use self::{
    config::NetworkConfig,
    store::{Store, StoreError},
};
use crate::{
    Attach, AttachError, BridgeError, CheckError, DetachError, attach, attach::PREFIX_LEN, check,
    detach, ensure_bridge,
};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the environment of the plugin says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: Option<String>,
    /// `CNI_NETNS`
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`
    pub ifname: Option<String>,
}

impl Environment {
    /// Reads it from the variables of this process.
    pub fn read() -> Self {
        let text = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
        Self {
            command: text("CNI_COMMAND").unwrap_or_default(),
            container_id: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS").map(PathBuf::from),
            ifname: text("CNI_IFNAME"),
        }
    }

    fn container_id(&self) -> Result<&str, PluginError> {
        let id = self.container_id.as_deref();
        let id = id.ok_or(PluginError::Environment { variable: "CNI_CONTAINERID" })?;
        let valid = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !valid || !id.starts_with(|it: char| it.is_ascii_alphanumeric()) {
            return Err(PluginError::Environment { variable: "CNI_CONTAINERID" });
        }
        Ok(id)
    }

    fn ifname(&self) -> Result<&str, PluginError> {
        let ifname = self.ifname.as_deref().unwrap_or_default();
        let bad = |it: char| it == '/' || it == ':' || it.is_whitespace();
        if ifname.is_empty() || ifname.len() > 15 || ifname.starts_with('.') || ifname.contains(bad)
        {
            return Err(PluginError::Environment { variable: "CNI_IFNAME" });
        }
        Ok(ifname)
    }

    fn netns(&self) -> Result<File, PluginError> {
        let path = self.netns.clone();
        let path = path.ok_or(PluginError::Environment { variable: "CNI_NETNS" })?;
        File::open(&path).map_err(|err| PluginError::OpenNetns { path, err })
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The version of the configuration is none of ours.
    #[error("could not speak CNI version {version}")]
    Version {
        /// What the configuration wants.
        version: String,
    },
    /// A variable is missing or malformed.
    #[error("could not use environment variable {variable}")]
    Environment {
        /// Which.
        variable: &'static str,
    },
    /// There is no such command.
    #[error("could not run command {command:?}")]
    Command {
        /// What was asked for.
        command: String,
    },
    /// The configuration is not JSON of the right shape.
    #[error("could not decode the network configuration")]
    Decode(#[source] serde_json::Error),
    /// The configuration makes no sense.
    #[error("could not use the network configuration: {what}")]
    Config {
        /// What is wrong.
        what: &'static str,
    },
    /// The network namespace is not there.
    #[error("could not open network namespace {}", path.display())]
    OpenNetns {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// Every address is taken.
    #[error("could not find a free address in {subnet}")]
    NoAddress {
        /// The subnet.
        subnet: String,
    },
    /// The attachment to be checked was never made.
    #[error("could not find an address of {id}")]
    NotAttached {
        /// The container.
        id: String,
    },
    /// Addresses could not be remembered.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The sandbox.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The sandbox.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// The sandbox.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl PluginError {
    /// The code of the specification, or above 100 for our own.
    pub fn code(&self) -> u32 {
        match self {
            Self::Version { .. } => 1,
            Self::Environment { .. } | Self::Command { .. } => 4,
            Self::OpenNetns { .. } | Self::Store(_) => 5,
            Self::Decode(_) => 6,
            Self::Config { .. } => 7,
            Self::NoAddress { .. } => 11,
            Self::Bridge(_) => 100,
            Self::Attach(_) => 101,
            Self::Detach(_) => 102,
            Self::Check(_) | Self::NotAttached { .. } => 103,
        }
    }

    /// What the plugin prints.
    pub fn to_json(&self) -> Value {
        let mut details = Vec::new();
        let mut cause = std::error::Error::source(self);
        while let Some(err) = cause {
            details.push(err.to_string());
            cause = err.source();
        }
        let (code, msg) = (self.code(), self.to_string());
        json!({"cniVersion": "1.1.0", "code": code, "msg": msg, "details": details.join(": ")})
    }
}

/// Runs one command. Some print nothing.
pub fn run(environment: &Environment, stdin: &str) -> Result<Option<Value>, PluginError> {
    if environment.command == "VERSION" {
        return Ok(Some(json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS})));
    }
    let config = NetworkConfig::parse(stdin)?;
    match environment.command.as_str() {
        "ADD" => add(environment, &config).map(Some),
        "DEL" => del(environment, &config).map(|()| None),
        "CHECK" => check_one(environment, &config).map(|()| None),
        "GC" => gc(&config).map(|()| None),
        "STATUS" => Store::open(&config).map(|_| None).map_err(PluginError::from),
        _ => Err(PluginError::Command { command: environment.command.clone() }),
    }
}

fn add(environment: &Environment, config: &NetworkConfig) -> Result<Value, PluginError> {
    let (id, ifname) = (environment.container_id()?, environment.ifname()?);
    let netns = environment.netns()?;
    let store = Store::open(config)?;
    let address = match store.find(id, ifname)? {
        Some(address) => address,
        None => store
            .reserve(&config.pool(), id, ifname)?
            .ok_or_else(|| PluginError::NoAddress { subnet: config.bridge.subnet.to_string() })?,
    };
    let attached = ensure_bridge(&config.bridge).map_err(PluginError::from).and_then(|()| {
        let name = link_id(id, ifname);
        let wanted = Attach { id: &name, netns: netns.as_fd(), ifname, address };
        attach(&config.bridge, &wanted).map_err(PluginError::from)
    });
    let attached = match attached {
        Ok(attached) => attached,
        Err(err) => {
            // The runtime will call DEL; should it not, at least the address is free.
            detach(&link_id(id, ifname))?;
            store.release(address)?;
            return Err(err);
        }
    };
    let path = environment.netns.as_ref().map(|it| it.display().to_string());
    let mut ip = json!({
        "address": format!("{address}/{PREFIX_LEN}"),
        "gateway": config.bridge.gateway,
        "interface": 2,
    });
    if config.version.starts_with("0.") {
        ip["version"] = json!("4");
    }
    Ok(json!({
        "cniVersion": config.version,
        "interfaces": [
            {"name": config.bridge.name, "mac": crate::Mac::of(config.bridge.gateway).to_string()},
            {"name": attached.host_ifname, "mac": attached.host_mac.map(|it| it.to_string())},
            {"name": ifname, "mac": attached.mac.to_string(), "sandbox": path},
        ],
        "ips": [ip],
        "routes": [
            {"dst": format!("{}/32", config.bridge.gateway)},
            {"dst": "0.0.0.0/0", "gw": config.bridge.gateway},
        ],
        "dns": {},
    }))
}

fn del(environment: &Environment, config: &NetworkConfig) -> Result<(), PluginError> {
    let (id, ifname) = (environment.container_id()?, environment.ifname()?);
    detach(&link_id(id, ifname))?;
    let store = Store::open(config)?;
    match store.find(id, ifname)? {
        Some(address) => Ok(store.release(address)?),
        None => Ok(()),
    }
}

fn check_one(environment: &Environment, config: &NetworkConfig) -> Result<(), PluginError> {
    let (id, ifname) = (environment.container_id()?, environment.ifname()?);
    let netns = environment.netns()?;
    let found: Option<Ipv4Addr> = Store::open(config)?.find(id, ifname)?;
    let address = found.ok_or_else(|| PluginError::NotAttached { id: id.into() })?;
    let name = link_id(id, ifname);
    let wanted = Attach { id: &name, netns: netns.as_fd(), ifname, address };
    Ok(check(&config.bridge, &wanted)?)
}

/// Gives back what belongs to none of the attachments that the runtime knows.
fn gc(config: &NetworkConfig) -> Result<(), PluginError> {
    let valid = config.valid_attachments.as_ref();
    let valid = valid.ok_or(PluginError::Config { what: "no cni.dev/valid-attachments" })?;
    let store = Store::open(config)?;
    for (address, owner) in store.all()? {
        if !valid.iter().any(|it| it.container_id == owner.id && it.ifname == owner.ifname) {
            detach(&link_id(&owner.id, &owner.ifname))?;
            store.release(address)?;
        }
    }
    Ok(())
}

fn link_id(id: &str, ifname: &str) -> String {
    format!("{id}/{ifname}")
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
