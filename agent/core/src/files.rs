//! Content of the files that a node manages for its pods: hosts and resolver configuration.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;

use crate::{desired::DesiredPod, field::NodeFacts, spec};

/// Domain below which Services have their names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// `/etc/hosts` of a pod. `host_file` is the machine's own, for pods in its network.
pub fn hosts(
    pod: &DesiredPod,
    facts: &NodeFacts,
    pod_ip: Option<IpAddr>,
    host_file: &str,
) -> String {
    let mut text = String::new();
    if pod.host_network {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host_file);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n");
        text.push_str("127.0.0.1\tlocalhost\n");
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str("fe00::0\tip6-localnet\n");
        text.push_str("fe00::0\tip6-mcastprefix\n");
        text.push_str("fe00::1\tip6-allnodes\n");
        text.push_str("fe00::2\tip6-allrouters\n");
        if let Some(ip) = pod_ip {
            let name = spec::hostname(pod, facts);
            match pod.spec().subdomain.as_deref().filter(|it| !it.is_empty()) {
                Some(sub) => {
                    let namespace = &pod.pod_ref.namespace;
                    let full = format!("{name}.{sub}.{namespace}.svc.{CLUSTER_DOMAIN}");
                    text.push_str(&format!("{ip}\t{full}\t{name}\n"));
                }
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

/// `/etc/resolv.conf` of a pod. `host_file` is the machine's own.
pub fn resolv_conf(spec: &PodSpec, host_file: &str) -> String {
    let mut resolver = match spec.dns_policy.as_deref() {
        Some("None") => Resolver::default(),
        _ => Resolver::parse(host_file),
    };
    if let Some(config) = &spec.dns_config {
        extend_new(&mut resolver.nameservers, config.nameservers.iter().flatten());
        extend_new(&mut resolver.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            resolver.options.retain(|known| known.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    resolver.to_text()
}

fn extend_new<'a>(known: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !known.contains(item) {
            known.push(item.clone());
        }
    }
}

#[derive(Default)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let key = words.next();
            let rest = words.map(str::to_owned);
            match key {
                Some("nameserver") => resolver.nameservers.extend(rest.take(1)),
                Some("search") => resolver.searches = rest.collect(),
                Some("options") => resolver.options.extend(rest),
                _ => {}
            }
        }
        resolver
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dns_config_adds_to_the_policy() {
        let host = "# comment\nsearch lan\nnameserver 10.0.0.1\noptions ndots:1 rotate\n";
        let spec = |policy: &str| -> PodSpec {
            let config = json!({"nameservers": ["1.1.1.1"], "searches": ["lan", "x"],
                "options": [{"name": "ndots", "value": "5"}]});
            let spec = json!({"containers": [], "dnsPolicy": policy, "dnsConfig": config});
            serde_json::from_value(spec).unwrap()
        };
        assert_eq!(
            resolv_conf(&spec("Default"), host),
            "search lan x\nnameserver 10.0.0.1\nnameserver 1.1.1.1\noptions rotate ndots:5\n"
        );
        assert_eq!(
            resolv_conf(&spec("None"), host),
            "search lan x\nnameserver 1.1.1.1\noptions ndots:5\n"
        );
    }
}
