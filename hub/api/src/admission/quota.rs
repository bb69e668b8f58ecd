//! ResourceQuota: what an object uses, which quotas count it, and whether there is room.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::limit_ranger::amounts;
use super::scheduling::is_extended;
use crate::object;
use crate::quantity::{Format, Quantity};
use crate::resource::Resource;

/// Amounts by name, such as `requests.cpu`.
pub type Amounts = BTreeMap<String, Quantity>;

/// What an object uses of everything that can be limited.
pub fn usage(resource: &Resource, object: &Value) -> Amounts {
    let mut out = Amounts::new();
    let one = Quantity::from_value(1, Format::DecimalSi);
    let plural = &resource.plural;
    let count = if resource.group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{}", resource.group)
    };
    out.insert(count, one);
    if !resource.group.is_empty() {
        return out;
    }
    match &**plural {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            out.insert(plural.to_string(), one);
        }
        "pods" => pod_usage(object, &mut out),
        "services" => service_usage(object, &mut out),
        "persistentvolumeclaims" => claim_usage(object, &mut out),
        _ => {}
    }
    out
}

fn pod_usage(pod: &Value, out: &mut Amounts) {
    // What is over uses nothing but its place in the store.
    if matches!(object::text(pod, "status.phase"), "Failed" | "Succeeded") {
        return;
    }
    out.insert("pods".to_owned(), Quantity::from_value(1, Format::DecimalSi));
    for (name, amount) in pod_requests(pod) {
        if matches!(&*name, "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-")
        {
            out.insert(name.clone(), amount);
        } else if !is_extended(&name) {
            continue;
        }
        out.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_limits(pod) {
        if matches!(&*name, "cpu" | "memory" | "ephemeral-storage") {
            out.insert(format!("limits.{name}"), amount);
        }
    }
}

fn service_usage(service: &Value, out: &mut Amounts) {
    let number =
        |n: usize| Quantity::from_value(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi);
    out.insert("services".to_owned(), number(1));
    let ports = object::list(service, "spec.ports");
    let (balancers, node_ports) = match object::text(service, "spec.type") {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" => {
            let allocates = object::get(service, "spec.allocateLoadBalancerNodePorts")
                .and_then(Value::as_bool)
                .unwrap_or(true);
            let named = ports.iter().filter(|it| object::int(it, "nodePort").unwrap_or(0) != 0);
            (1, if allocates { ports.len() } else { named.count() })
        }
        _ => (0, 0),
    };
    out.insert("services.loadbalancers".to_owned(), number(balancers));
    out.insert("services.nodeports".to_owned(), number(node_ports));
}

fn claim_usage(claim: &Value, out: &mut Amounts) {
    let one = Quantity::from_value(1, Format::DecimalSi);
    let size = object::get(claim, "spec.resources.requests.storage")
        .and_then(Value::as_str)
        .and_then(|it| Quantity::parse(it).ok());
    out.insert("persistentvolumeclaims".to_owned(), one);
    let class = object::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(claim, "spec.storageClassName"));
    if !class.is_empty() {
        let suffix = "storageclass.storage.k8s.io";
        out.insert(format!("{class}.{suffix}/persistentvolumeclaims"), one);
        if let Some(size) = size {
            out.insert(format!("{class}.{suffix}/requests.storage"), size);
        }
    }
    if let Some(size) = size {
        out.insert("requests.storage".to_owned(), size);
    }
}

/// What a pod asks for as a whole: its containers together, or its largest init container, and
/// its overhead. Init containers that stay count as containers.
pub fn pod_requests(pod: &Value) -> Amounts {
    pod_resources(pod, "requests")
}

/// As [`pod_requests`], of limits.
pub fn pod_limits(pod: &Value) -> Amounts {
    pod_resources(pod, "limits")
}

fn pod_resources(pod: &Value, kind: &str) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| amounts(object::get(container, &format!("resources.{kind}")));
    let mut total = Amounts::new();
    for container in object::list(spec, "containers") {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut largest = Amounts::new();
    for container in object::list(spec, "initContainers") {
        let mut own = of(container);
        if object::text(container, "restartPolicy") == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut largest, &own);
    }
    raise(&mut total, &largest);
    // What the pod says for itself stands above what its containers say.
    for (name, amount) in amounts(object::get(spec, &format!("resources.{kind}"))) {
        total.insert(name, amount);
    }
    let overhead = amounts(object::get(spec, "overhead"));
    for (name, amount) in overhead {
        if kind == "requests" || total.contains_key(&name) {
            add(&mut total, &Amounts::from([(name, amount)]));
        }
    }
    total
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match into.get(name) {
            Some(held) if held >= amount => {}
            Some(_) | None => drop(into.insert(name.clone(), *amount)),
        }
    }
}

/// Adds amounts.
pub fn add(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let sum = into.get(name).map_or(*amount, |held| *held + *amount);
        into.insert(name.clone(), sum);
    }
}

/// What `new` uses beyond `old`; negative where it uses less.
pub fn difference(new: &Amounts, old: &Amounts) -> Amounts {
    let mut out = new.clone();
    for (name, amount) in old {
        let left = out.get(name).copied().unwrap_or(Quantity::ZERO) - *amount;
        out.insert(name.clone(), left);
    }
    out
}

/// Whether a quota counts an object: all its scopes must fit. Only pods (and claims) have any.
pub fn counts(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let scopes = object::list(quota, "spec.scopes").iter().filter_map(Value::as_str);
    let selectors = object::list(quota, "spec.scopeSelector.matchExpressions");
    let mut needed: Vec<(&str, &str, Vec<&str>)> =
        scopes.map(|it| (it, "Exists", Vec::new())).collect();
    needed.extend(selectors.iter().map(|it| {
        let values = object::list(it, "values").iter().filter_map(Value::as_str).collect();
        (object::text(it, "scopeName"), object::text(it, "operator"), values)
    }));
    if needed.is_empty() {
        return true;
    }
    let is_pod = resource.group.is_empty() && resource.plural == "pods";
    let is_claim = resource.group.is_empty() && resource.plural == "persistentvolumeclaims";
    needed.into_iter().all(|(scope, operator, values)| match scope {
        "VolumeAttributesClass" => {
            is_claim
                && fits(object::text(object, "spec.volumeAttributesClassName"), operator, &values)
        }
        _ => is_pod && pod_in_scope(object, scope, operator, &values),
    })
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    let deadline = object::int(pod, "spec.activeDeadlineSeconds").is_some_and(|it| it >= 0);
    match scope {
        "Terminating" => deadline,
        "NotTerminating" => !deadline,
        "BestEffort" => crate::defaults::pod::qos_class(pod) == "BestEffort",
        "NotBestEffort" => crate::defaults::pod::qos_class(pod) != "BestEffort",
        "PriorityClass" => fits(object::text(pod, "spec.priorityClassName"), operator, values),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn fits(value: &str, operator: &str, values: &[&str]) -> bool {
    match operator {
        "In" => values.contains(&value),
        "NotIn" => !values.contains(&value),
        "DoesNotExist" => value.is_empty(),
        _ => !value.is_empty(),
    }
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let path = |part: &str| format!("spec.affinity.{kind}.{part}");
        let required = path("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = path("preferredDuringSchedulingIgnoredDuringExecution");
        let terms = object::list(pod, &required)
            .iter()
            .chain(object::list(pod, &preferred).iter().filter_map(|it| it.get("podAffinityTerm")));
        terms.into_iter().any(|term| {
            !object::list(term, "namespaces").is_empty()
                || object::get(term, "namespaceSelector").is_some()
        })
    })
}

/// The limits of a quota.
pub fn hard(quota: &Value) -> Amounts {
    amounts(object::get(quota, "spec.hard"))
}

/// What a quota's status says is used, `None` unless it speaks of all the limits.
pub fn used(quota: &Value) -> Option<Amounts> {
    let (wanted, told) = (hard(quota), amounts(object::get(quota, "status.hard")));
    (wanted == told).then(|| amounts(object::get(quota, "status.used")))
}

/// A quota's status with these amounts in use, of what is limited.
pub fn status(quota: &Value, used: &Amounts) -> Value {
    let hard = hard(quota);
    let used: BTreeMap<&String, String> = hard
        .keys()
        .map(|name| {
            let amount = used.get(name).copied().unwrap_or(Quantity::ZERO);
            (name, if amount.is_negative() { Quantity::ZERO } else { amount }.to_string())
        })
        .collect();
    let hard: BTreeMap<&String, String> =
        hard.iter().map(|(name, amount)| (name, amount.to_string())).collect();
    json!({"hard": hard, "used": used})
}

/// Checks that a pod says what a quota that limits processor or memory must know of it.
///
/// # Errors
/// What it must specify, and for which containers.
pub fn check_specified(quota: &Value, pod: &Value) -> Result<(), String> {
    const EXPLICIT: [&str; 6] =
        ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let limited = hard(quota);
    // What the pod says for itself covers its containers.
    let pod_level = |kind: &str, name: &str| {
        object::get(pod, &format!("spec.resources.{kind}.{name}")).is_some()
    };
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for wanted in EXPLICIT.into_iter().filter(|it| limited.contains_key(*it)) {
        let (kind, name) = wanted.split_once('.').unwrap_or(("requests", wanted));
        if pod_level(kind, name) {
            continue;
        }
        for list in ["containers", "initContainers"] {
            for container in object::list(&pod["spec"], list) {
                if object::get(container, &format!("resources.{kind}.{name}")).is_none() {
                    missing.entry(wanted).or_default().insert(object::text(container, "name"));
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", told.join("; ")))
}

/// Checks that there is room for more.
///
/// # Errors
/// What is asked for, used and limited, of everything that there is no room for.
pub fn check_room(quota: &Value, used: &Amounts, delta: &Amounts) -> Result<(), String> {
    let hard = hard(quota);
    let zero = Quantity::ZERO;
    let over = |name: &&String| {
        let wanted = delta.get(*name).copied().unwrap_or(zero);
        let held = used.get(*name).copied().unwrap_or(zero);
        !wanted.is_zero()
            && !wanted.is_negative()
            && hard.get(*name).is_some_and(|limit| held + wanted > *limit)
    };
    let exceeded: Vec<&String> = hard.keys().filter(over).collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let shown: Vec<String> = exceeded
            .iter()
            .map(|name| format!("{name}={}", amounts.get(*name).copied().unwrap_or(zero)))
            .collect();
        shown.join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        object::name(quota),
        show(delta),
        show(used),
        show(&hard)
    ))
}
