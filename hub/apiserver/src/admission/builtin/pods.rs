//! Pods: account, priority, tolerations, limits, security.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_api::admission::pod_security::{self, Level, Policies};
use hub_api::admission::{limit_ranger, scheduling, service_account};
use hub_api::{Status, object};
use serde_json::Value;

use super::super::Attributes;
use super::{Lookup, refuse, template};
use crate::registry::{Fresh, Registry};

/// How long a pod waits for the default account of its namespace, which a controller makes.
const ACCOUNT_WAIT: Duration = Duration::from_secs(1);
/// Pods that are looked at when a namespace asks for a stricter standard.
const MAX_PODS: usize = 3000;

/// Sets what plugins set on a new pod.
pub(super) async fn create(
    registry: &Registry,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let namespace = attributes.namespace.unwrap_or_default();
    limit_ranger::set_defaults(pod, &registry.find_all("", "limitranges", Some(namespace)));
    set_account(registry, attributes, namespace, pod).await?;
    set_priority(registry, attributes, pod)?;
    scheduling::default_tolerations(pod);
    scheduling::extended_resource_tolerations(pod);
    set_runtime_class(registry, attributes, pod)
}

async fn set_account(
    registry: &Registry,
    attributes: &Attributes<'_>,
    namespace: &str,
    pod: &mut Value,
) -> Result<(), Status> {
    if service_account::is_mirror(pod) {
        return match service_account::mirror_refusal(pod) {
            Some(why) => Err(refuse(attributes, Some(pod), why)),
            None => Ok(()),
        };
    }
    let name = service_account::account_name(pod).to_owned();
    let Some(account) = account(registry, namespace, &name).await else {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        return Err(refuse(attributes, Some(pod), &why));
    };
    service_account::apply(pod, &account);
    if registry.mounts_tokens() && service_account::wants_token(pod, &account) {
        service_account::mount_token(pod, Fresh::draw().suffix());
    }
    Ok(())
}

/// The account; the default one is waited for, as a controller makes it in new namespaces.
async fn account(registry: &Registry, namespace: &str, name: &str) -> Option<Value> {
    let find = || registry.find("", "serviceaccounts", Some(namespace), name);
    if let Some(account) = find() {
        return Some(account);
    }
    if name != "default" {
        return None;
    }
    let mut progress = registry.storage().progress();
    let waiting = async {
        loop {
            if let Some(account) = find() {
                return Some(account);
            }
            progress.changed().await.ok()?;
        }
    };
    tokio::time::timeout(ACCOUNT_WAIT, waiting).await.ok().flatten()
}

fn set_priority(
    registry: &Registry,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    const GROUP: &str = "scheduling.k8s.io";
    let name = object::text(pod, "spec.priorityClassName").to_owned();
    let class = if name.is_empty() {
        scheduling::default_class(&registry.find_all(GROUP, "priorityclasses", None)).cloned()
    } else {
        let found = registry.find(GROUP, "priorityclasses", None, &name);
        let class = found.or_else(|| scheduling::system_class(&name)).ok_or_else(|| {
            let why = format!("no PriorityClass with name {name} was found");
            refuse(attributes, Some(pod), &why)
        })?;
        Some(class)
    };
    scheduling::set_priority(pod, class.as_ref()).map_err(|why| refuse(attributes, Some(pod), &why))
}

fn set_runtime_class(
    registry: &Registry,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let name = object::text(pod, "spec.runtimeClassName").to_owned();
    if name.is_empty() {
        if object::get(pod, "spec.overhead").is_some() {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(refuse(attributes, Some(pod), why));
        }
        return Ok(());
    }
    let Some(class) = registry.find("node.k8s.io", "runtimeclasses", None, &name) else {
        let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
        return Err(refuse(attributes, Some(pod), &why));
    };
    scheduling::set_runtime_class(pod, &class).map_err(|why| refuse(attributes, Some(pod), &why))
}

/// LimitRanger.
pub(super) fn check_limits(
    registry: &Registry,
    attributes: &Attributes<'_>,
    pod: &Value,
) -> Result<(), Status> {
    for range in registry.find_all("", "limitranges", attributes.namespace) {
        let wrong = limit_ranger::check_pod(pod, &range);
        if !wrong.is_empty() {
            return Err(refuse(attributes, Some(pod), &limit_ranger::joined(&wrong)));
        }
    }
    Ok(())
}

fn policies(registry: &Registry, attributes: &Attributes<'_>) -> Option<Policies> {
    let namespace = registry.find("", "namespaces", None, attributes.namespace?)?;
    let (policies, _) = Policies::of(&namespace);
    (!policies.is_privileged()).then_some(policies)
}

/// PodSecurity of a pod.
pub(super) fn check_security(
    registry: &Registry,
    attributes: &Attributes<'_>,
    pod: &Value,
) -> Result<(), Status> {
    let Some(policies) = policies(registry, attributes) else { return Ok(()) };
    if attributes.old.is_some_and(|old| !pod_security::is_significant(old, pod)) {
        return Ok(());
    }
    let enforced = policies.enforce;
    let requester = attributes.requester;
    requester
        .annotate("pod-security.kubernetes.io/enforce-policy".to_owned(), enforced.to_string());
    let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
    let refused = pod_security::evaluate(enforced, metadata, spec);
    note_violations(attributes, &policies, metadata, spec, refused.is_none());
    match refused {
        None => Ok(()),
        Some(how) => {
            let why = format!("violates PodSecurity \"{enforced}\": {how}");
            Err(refuse(attributes, Some(pod), &why))
        }
    }
}

/// PodSecurity of what makes pods: it is only told of, the pods themselves are refused.
pub(super) fn warn_of_template(registry: &Registry, attributes: &Attributes<'_>, object: &Value) {
    let Some(policies) = policies(registry, attributes) else { return };
    let Some(template) = template(attributes.resource).and_then(|at| object::get(object, at))
    else {
        return;
    };
    note_violations(attributes, &policies, &template["metadata"], &template["spec"], true);
}

fn note_violations(
    attributes: &Attributes<'_>,
    policies: &Policies,
    metadata: &Value,
    spec: &Value,
    warns: bool,
) {
    let told = |policy: pod_security::Policy| {
        pod_security::evaluate(policy, metadata, spec)
            .map(|how| format!("would violate PodSecurity \"{policy}\": {how}"))
    };
    if let Some(text) = told(policies.audit) {
        let key = "pod-security.kubernetes.io/audit-violations".to_owned();
        attributes.requester.annotate(key, text);
    }
    if let Some(text) = told(policies.warn).filter(|_| warns) {
        attributes.requester.warn(text);
    }
}

/// PodSecurity of a namespace: its labels can be read, and who tightens them is told which pods
/// would not be let in again.
pub(super) fn check_namespace(
    registry: &Registry,
    attributes: &Attributes<'_>,
    namespace: &Value,
) -> Result<(), Status> {
    let (policies, errors) = Policies::of(namespace);
    let before = attributes.old.map(Policies::of);
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, before)| *before != errors) {
        return Err(Status::invalid("", "Namespace", object::name(namespace), errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    if policies.enforce == before.enforce || policies.enforce.level == Level::Privileged {
        return Ok(());
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let pods = registry.find_all("", "pods", Some(attributes.name));
    for pod in pods.iter().take(MAX_PODS) {
        let how = pod_security::evaluate(policies.enforce, &pod["metadata"], &pod["spec"]);
        if let Some(how) = how {
            // Only the reasons: pods of one kind are told of together.
            found.entry(reasons(&how)).or_default().push(object::name(pod).to_owned());
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    attributes.requester.warn(format!(
        "existing pods in namespace \"{}\" violate the new PodSecurity enforce level \"{}\"",
        attributes.name, policies.enforce
    ));
    for (how, names) in found {
        let first = names.first().map(String::as_str).unwrap_or_default();
        let who = match names.len() {
            1 => first.to_owned(),
            2 => format!("{first} (and 1 other pod)"),
            n => format!("{first} (and {} other pods)", n - 1),
        };
        attributes.requester.warn(format!("{who}: {how}"));
    }
    Ok(())
}

/// `a (why), b (why)` without what stands in brackets.
fn reasons(how: &str) -> String {
    let mut depth = 0_usize;
    let mut out = String::new();
    for c in how.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out.replace(" ,", ",").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::reasons;

    #[test]
    fn only_reasons_are_left() {
        assert_eq!(
            reasons("privileged (container \"a\"), hostPort (b (c))"),
            "privileged, hostPort"
        );
    }
}
