//! The environment of a container: variables, their sources, `$(NAME)` expansion, and the
//! variables that describe Services.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use crate::{
    desired::References,
    field::{self, FieldError, NodeFacts},
};

/// A variable cannot be made. The text is what Kubernetes says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvError {
    #[error("configmap \"{name}\" not found")]
    ConfigMap { name: String },
    #[error("secret \"{name}\" not found")]
    Secret { name: String },
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    ConfigMapKey { key: String, namespace: String, name: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    SecretKey { key: String, namespace: String, name: String },
    #[error("variable {name} comes from a file of a volume, which this node does not support")]
    File { name: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Whether the environment can be made.
///
/// # Errors
/// Something that it refers to is missing.
pub fn check(pod: &Pod, container: &Container, references: &References) -> Result<(), EnvError> {
    resolve(pod, container, references, &NodeFacts::default(), None).map(drop)
}

/// The environment of one container, in order, every name once.
///
/// # Errors
/// Something that it refers to is missing.
pub fn resolve(
    pod: &Pod,
    container: &Container,
    references: &References,
    facts: &NodeFacts,
    pod_ip: Option<IpAddr>,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|it| it.enable_service_links).unwrap_or(true);
    let services = service_variables(namespace, &references.services, links);
    let mut found = Environment::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &source.config_map_ref {
            let optional = wanted.optional.unwrap_or(false);
            for (key, value) in config_map(references, &wanted.name, optional)?
                .iter()
                .flat_map(|it| it.data.iter().flatten())
            {
                found.set(format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(wanted) = &source.secret_ref {
            let optional = wanted.optional.unwrap_or(false);
            for (key, value) in secret(references, &wanted.name, optional)?
                .iter()
                .flat_map(|it| it.data.iter().flatten())
            {
                found.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                expand(value, |name| found.values.get(name).or_else(|| services.get(name)).cloned())
            }
            (_, Some(source)) => {
                let context = Context { pod, container, references, facts, pod_ip, namespace };
                match context.value_from(&variable.name, source)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            (_, None) => String::new(),
        };
        found.set(variable.name.clone(), value);
    }
    for (name, value) in services {
        if !found.values.contains_key(&name) {
            found.set(name, value);
        }
    }
    Ok(found.into_pairs())
}

/// Variables in order of first mention; the last value counts.
#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }

    fn into_pairs(mut self) -> Vec<(String, String)> {
        self.order
            .into_iter()
            .filter_map(|name| self.values.remove(&name).map(|value| (name, value)))
            .collect()
    }
}

struct Context<'a> {
    pod: &'a Pod,
    container: &'a Container,
    references: &'a References,
    facts: &'a NodeFacts,
    pod_ip: Option<IpAddr>,
    namespace: &'a str,
}

impl Context<'_> {
    /// `None` when an optional source is missing: the variable does not exist then.
    fn value_from(&self, name: &str, source: &EnvVarSource) -> Result<Option<String>, EnvError> {
        if let Some(field) = &source.field_ref {
            let path = &field.field_path;
            return Ok(Some(field::pod_field(self.pod, path, self.facts, self.pod_ip)?));
        }
        if let Some(selector) = &source.resource_field_ref {
            let value = field::resource_field(self.pod, self.container, selector, self.facts)?;
            return Ok(Some(value));
        }
        if let Some(wanted) = &source.config_map_key_ref {
            let optional = wanted.optional.unwrap_or(false);
            let map = config_map(self.references, &wanted.name, optional)?;
            let value = map.and_then(|it| it.data.as_ref()?.get(&wanted.key).cloned());
            if value.is_none() && !optional {
                let (key, name) = (wanted.key.clone(), wanted.name.clone());
                let namespace = self.namespace.to_owned();
                return Err(EnvError::ConfigMapKey { key, namespace, name });
            }
            return Ok(value);
        }
        if let Some(wanted) = &source.secret_key_ref {
            let optional = wanted.optional.unwrap_or(false);
            let secret = secret(self.references, &wanted.name, optional)?;
            let value = secret.and_then(|it| {
                let bytes = it.data.as_ref()?.get(&wanted.key)?;
                Some(String::from_utf8_lossy(&bytes.0).into_owned())
            });
            if value.is_none() && !optional {
                let (key, name) = (wanted.key.clone(), wanted.name.clone());
                let namespace = self.namespace.to_owned();
                return Err(EnvError::SecretKey { key, namespace, name });
            }
            return Ok(value);
        }
        Err(EnvError::File { name: name.to_owned() })
    }
}

fn config_map<'a>(
    references: &'a References,
    name: &str,
    optional: bool,
) -> Result<Option<&'a ConfigMap>, EnvError> {
    match references.config_maps.get(name) {
        Some(found) => Ok(Some(found)),
        None if optional => Ok(None),
        None => Err(EnvError::ConfigMap { name: name.to_owned() }),
    }
}

fn secret<'a>(
    references: &'a References,
    name: &str,
    optional: bool,
) -> Result<Option<&'a Secret>, EnvError> {
    match references.secrets.get(name) {
        Some(found) => Ok(Some(found)),
        None if optional => Ok(None),
        None => Err(EnvError::Secret { name: name.to_owned() }),
    }
}

/// Replaces `$(NAME)` where the name is known; `$$` stands for `$`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// `{SVC}_SERVICE_HOST` and what Docker links would have set.
fn service_variables(
    namespace: &str,
    services: &[std::sync::Arc<Service>],
    links: bool,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let (Some(name), Some(spec)) = (meta.name.as_deref(), &service.spec) else { continue };
        let own = meta.namespace.as_deref() == Some(namespace);
        let master = meta.namespace.as_deref() == Some("default") && name == "kubernetes";
        if !(master || (own && links)) || (master && !own && out.contains_key("KUBERNETES_PORT")) {
            continue;
        }
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
        let Some(first) = spec.ports.iter().flatten().next() else { continue };
        let prefix = variable_name(name);
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for (at, port) in spec.ports.iter().flatten().enumerate() {
            if let Some(port_name) = port.name.as_deref().filter(|it| !it.is_empty()) {
                let key = format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name));
                out.insert(key, port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if at == 0 {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
            out.insert(format!("{link}_PROTO"), protocol.to_lowercase());
            out.insert(format!("{link}_PORT"), port.port.to_string());
            out.insert(format!("{link}_ADDR"), ip.to_owned());
            out.insert(link, url);
        }
    }
    out
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn references_expand_and_dollars_escape() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        let cases = [
            ("$(A)", "x"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x"),
            ("$(B) $A $", "$(B) $A $"),
            ("$(A", "$(A"),
            ("pre$(A)post$$", "prexpost$"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
    }

    fn references() -> References {
        let map = from_value(json!({"metadata": {"name": "c"}, "data": {"k": "v"}})).unwrap();
        let secret = from_value(json!({"metadata": {"name": "s"}, "data": {"p": "aHVzaA=="}}));
        let service = from_value(json!({
            "metadata": {"name": "my-db", "namespace": "ns"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]}
        }));
        References {
            config_maps: [("c".to_owned(), Arc::new(map))].into(),
            secrets: [("s".to_owned(), Arc::new(secret.unwrap()))].into(),
            services: vec![Arc::new(service.unwrap())],
            ..References::default()
        }
    }

    fn resolved(container: serde_json::Value) -> Result<Vec<(String, String)>, EnvError> {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns"},
            "spec": {"enableServiceLinks": false, "containers": []}});
        let pod: Pod = from_value(pod).unwrap();
        let container: Container = from_value(container).unwrap();
        resolve(&pod, &container, &references(), &NodeFacts::default(), None)
    }

    #[test]
    fn sources_become_variables() {
        let env = resolved(json!({"name": "c",
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}],
            "env": [
                {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef":
                    {"name": "none", "key": "p", "optional": true}}},
                {"name": "BOTH", "value": "$(X_k)-$(P)"}]}));
        let want = [("X_k", "v"), ("P", "hush"), ("N", "p"), ("BOTH", "v-hush")];
        let want: Vec<_> = want.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(env.unwrap(), want);
    }

    #[test]
    fn missing_sources_are_named_as_kubernetes_names_them() {
        let key = |source: &str, name: &str| {
            let error = resolved(json!({"name": "c", "env": [
                {"name": "A", "valueFrom": {source: {"name": name, "key": "x"}}}]}));
            error.unwrap_err().to_string()
        };
        assert_eq!(key("configMapKeyRef", "gone"), "configmap \"gone\" not found");
        assert_eq!(key("secretKeyRef", "gone"), "secret \"gone\" not found");
        assert_eq!(key("configMapKeyRef", "c"), "couldn't find key x in ConfigMap ns/c");
    }

    #[test]
    fn services_become_link_variables() {
        let found = service_variables("ns", &references().services, true);
        let lines: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect_test::expect![[r#"
            MY_DB_PORT=tcp://10.96.0.9:5432
            MY_DB_PORT_5432_TCP=tcp://10.96.0.9:5432
            MY_DB_PORT_5432_TCP_ADDR=10.96.0.9
            MY_DB_PORT_5432_TCP_PORT=5432
            MY_DB_PORT_5432_TCP_PROTO=tcp
            MY_DB_SERVICE_HOST=10.96.0.9
            MY_DB_SERVICE_PORT=5432
            MY_DB_SERVICE_PORT_SQL=5432"#]]
        .assert_eq(&lines.join("\n"));
        assert!(service_variables("ns", &references().services, false).is_empty());
    }
}
