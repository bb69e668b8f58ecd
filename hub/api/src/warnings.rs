//! Warnings: what is allowed, but hardly meant. Clients print them; nothing else comes of them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;

/// Sorts of volumes that are on their way out, and how far they are.
const VOLUMES: [(&str, &str); 9] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
];
/// Labels of nodes that have another name now.
const LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];
const IN_HOSTNAME: &str = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended";
const IN_POD_NAMES: &str = "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended";

/// Warnings about a Pod.
pub fn pod(object: &Value) -> Vec<String> {
    let mut out = name(object, IN_HOSTNAME);
    out.extend(pod_parts(object, &Path::Root));
    out
}

/// Warnings about what makes pods of a template at `template`, such as `spec.template`.
pub fn of_template(object: &Value, template: &Path<'_>) -> Vec<String> {
    let mut out = name(object, IN_POD_NAMES);
    let found = object::get(object, &template.to_string());
    out.extend(found.map(|it| pod_parts(it, template)).unwrap_or_default());
    out
}

fn name(object: &Value, why: &str) -> Vec<String> {
    let name = object::name(object);
    let wrong = if name.contains('.') && names::dns1123_subdomain(name).is_empty() {
        vec!["must not contain dots".to_owned()]
    } else {
        names::dns1123_label(name)
    };
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!("metadata.name: {why}: [{}]", wrong.join(" "))]
}

fn pod_parts(pod: &Value, path: &Path<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let at = path.field("spec");
    let spec = &pod["spec"];
    let selector = at.field("nodeSelector");
    for (key, _) in object::entries(spec, "nodeSelector") {
        if let Some((_, since, instead)) = LABELS.iter().find(|it| it.0 == key.as_str()) {
            let key = selector.key(key);
            out.push(format!("{key}: deprecated since {since}; use \"{instead}\" instead"));
        }
    }
    let volumes = at.field("volumes");
    for (i, volume) in object::list(spec, "volumes").iter().enumerate() {
        for (kind, why) in VOLUMES {
            if object::get(volume, kind).is_some() {
                out.push(format!("{}: {why}", volumes.index(i).field(kind)));
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let containers = at.field(list);
        for (i, container) in object::list(spec, list).iter().enumerate() {
            out.extend(container_parts(container, &containers.index(i)));
        }
    }
    out.extend(annotations(pod, path));
    out
}

fn container_parts(container: &Value, at: &Path<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let resources = at.field("resources");
    for list in ["limits", "requests"] {
        let path = resources.field(list);
        for name in ["memory", "ephemeral-storage"] {
            let Some(text) = container["resources"][list].get(name).and_then(Value::as_str) else {
                continue;
            };
            if Quantity::parse(text).is_ok_and(|it| it.milli_value() % 1000 != 0) {
                let why =
                    format!("fractional byte value \"{text}\" is invalid, must be an integer");
                out.push(format!("{}: {why}", path.key(name)));
            }
        }
    }
    let env = at.field("env");
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for (i, variable) in object::list(container, "env").iter().enumerate() {
        let name = object::text(variable, "name");
        // Whoever adds to an earlier value means both.
        let adds = object::text(variable, "value").contains(&format!("$({name})"));
        if seen.insert(name, ()).is_some() && !adds {
            let why = "which may be dropped when using apply";
            out.push(format!("{}: hides previous definition of \"{name}\", {why}", env.index(i)));
        }
    }
    let ports = at.field("ports");
    let mut numbers: BTreeMap<(i64, &str), usize> = BTreeMap::new();
    for (i, port) in object::list(container, "ports").iter().enumerate() {
        let number = object::int(port, "containerPort").unwrap_or(0);
        let key = (number, object::text(port, "protocol"));
        let unlike =
            |a: &Value, b: &Value| ["hostPort", "hostIP"].iter().any(|it| a.get(*it) != b.get(*it));
        match numbers.get(&key) {
            Some(first) if !unlike(&container["ports"][*first], port) => out.push(format!(
                "{}: duplicate port definition with {}",
                ports.index(i),
                ports.index(*first)
            )),
            Some(_) => {}
            None => drop(numbers.insert(key, i)),
        }
    }
    out
}

fn annotations(pod: &Value, path: &Path<'_>) -> Vec<String> {
    let meta = path.field("metadata");
    let at = meta.field("annotations");
    let old = |key: &str| {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            Some("deprecated since v1.30; use the \"appArmorProfile\" field instead")
        } else if key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
            || key == "seccomp.security.alpha.kubernetes.io/pod"
        {
            Some("non-functional in v1.27+; use the \"seccompProfile\" field instead")
        } else {
            None
        }
    };
    let all = object::entries(pod, "metadata.annotations");
    all.filter_map(|(key, _)| Some(format!("{}: {}", at.key(key), old(key)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_hardly_meant_is_said() {
        let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
        let containers = |container: Value| pod(json!({"containers": [container]}));
        for (object, expected) in [
            (pod(json!({"containers": []})), None),
            (
                json!({"metadata": {"name": "a.b"}, "spec": {}}),
                Some(
                    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
                ),
            ),
            (
                pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}})),
                Some(
                    "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                ),
            ),
            (
                pod(json!({"volumes": [{"name": "v", "rbd": {}}]})),
                Some("spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+"),
            ),
            (
                containers(
                    json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
                ),
                Some(
                    "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                ),
            ),
            (containers(json!({"env": [{"name": "A"}, {"name": "A", "value": "$(A):2"}]})), None),
            (
                containers(json!({"ports": [{"containerPort": 80}, {"containerPort": 80}]})),
                Some(
                    "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                ),
            ),
            (
                containers(json!({"resources": {"limits": {"memory": "500m"}}})),
                Some(
                    "spec.containers[0].resources.limits[memory]: fractional byte value \"500m\" is invalid, must be an integer",
                ),
            ),
        ] {
            let found = super::pod(&object);
            assert_eq!(
                found.iter().map(String::as_str).collect::<Vec<_>>(),
                Vec::from_iter(expected)
            );
        }
        let job = json!({"metadata": {"name": "j.k"}, "spec": {"template": {"spec": {}}}});
        let spec = Path::Root.field("spec");
        let found = of_template(&job, &spec.field("template"));
        assert!(found[0].starts_with("metadata.name: this is used in Pod names"), "{found:?}");
    }
}
