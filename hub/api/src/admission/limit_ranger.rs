//! LimitRanger: what containers get when they ask for nothing, and what they may ask for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::quota::{pod_limits, pod_requests};
use crate::object;
use crate::quantity::Quantity;

/// Tells people what was set for them.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Sets the defaults of a namespace's LimitRanges on a new pod. Returns whether any was set.
pub fn set_defaults(pod: &mut Value, ranges: &[Value]) -> bool {
    let mut requests = Map::new();
    let mut limits = Map::new();
    let mut told = Vec::new();
    for range in ranges {
        for item in object::list(range, "spec.limits") {
            if object::text(item, "type") != "Container" {
                continue;
            }
            for (into, path) in [(&mut requests, "defaultRequest"), (&mut limits, "default")] {
                for (name, amount) in object::entries(item, path) {
                    into.entry(name.clone()).or_insert_with(|| amount.clone());
                }
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return false;
    }
    let Some(spec) = pod.get_mut("spec") else { return false };
    for (list, called) in [("containers", "container"), ("initContainers", "init container")] {
        for container in object::items_mut(spec, list) {
            let name = object::text(container, "name").to_owned();
            for (kind, defaults) in [("requests", &requests), ("limits", &limits)] {
                let set = fill(container, kind, defaults);
                if !set.is_empty() {
                    let word = if kind == "requests" { "request" } else { "limit" };
                    told.push(format!("{} {word} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return false;
    }
    let metadata = object::ensure(pod, "metadata");
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    let said = format!("LimitRanger plugin set: {}", told.join("; "));
    object::as_map(annotations).insert(ANNOTATION.to_owned(), json!(said));
    true
}

fn fill(container: &mut Value, kind: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        let resources = object::ensure(container, "resources");
        let list = object::as_map(resources.entry(kind).or_insert(Value::Null));
        if !list.contains_key(name) {
            list.insert(name.clone(), amount.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// What of a pod is outside of a LimitRange, in Kubernetes' words.
pub fn check_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for item in object::list(range, "spec.limits") {
        match object::text(item, "type") {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    for container in object::list(&pod["spec"], list) {
                        let asked = Asked {
                            requests: amounts(object::get(container, "resources.requests")),
                            limits: amounts(object::get(container, "resources.limits")),
                        };
                        asked.check(item, "Container", &mut out);
                    }
                }
            }
            "Pod" => {
                let asked = Asked { requests: pod_requests(pod), limits: pod_limits(pod) };
                asked.check(item, "Pod", &mut out);
            }
            _ => {}
        }
    }
    out
}

/// What of a claim is outside of a LimitRange, in Kubernetes' words.
pub fn check_claim(claim: &Value, range: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let requests = amounts(object::get(claim, "spec.resources.requests"));
    let asked = Asked { requests, limits: BTreeMap::new() };
    for item in object::list(range, "spec.limits") {
        const KIND: &str = "PersistentVolumeClaim";
        if object::text(item, "type") != KIND {
            continue;
        }
        for (name, bound) in bounds(item, "min") {
            out.extend(asked.below(KIND, name, bound));
        }
        for (name, bound) in bounds(item, "max") {
            match asked.requests.get(name) {
                None => out.push(format!(
                    "maximum {name} usage per {KIND} is {bound}.  No request is specified"
                )),
                Some(request) if *request > bound => out.push(format!(
                    "maximum {name} usage per {KIND} is {bound}, but request is {request}"
                )),
                Some(_) => {}
            }
        }
    }
    out
}

/// Several things that are wrong, as Go joins them.
pub fn joined(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

struct Asked {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

impl Asked {
    fn check(&self, item: &Value, kind: &str, out: &mut Vec<String>) {
        for (name, bound) in bounds(item, "min") {
            out.extend(self.below(kind, name, bound));
        }
        for (name, bound) in bounds(item, "max") {
            out.extend(self.above(kind, name, bound));
        }
        for (name, bound) in bounds(item, "maxLimitRequestRatio") {
            out.extend(self.ratio(kind, name, bound));
        }
    }

    fn below(&self, kind: &str, name: &str, bound: Quantity) -> Option<String> {
        let usage = format!("minimum {name} usage per {kind} is {bound}");
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{usage}.  No request is specified")),
            (Some(request), _) if *request < bound => {
                Some(format!("{usage}, but request is {request}"))
            }
            (Some(_), Some(limit)) if *limit < bound => {
                Some(format!("{usage}, but limit is {limit}"))
            }
            (Some(_), _) => None,
        }
    }

    fn above(&self, kind: &str, name: &str, bound: Quantity) -> Option<String> {
        let usage = format!("maximum {name} usage per {kind} is {bound}");
        match (self.limits.get(name), self.requests.get(name)) {
            (None, _) => Some(format!("{usage}.  No limit is specified")),
            (Some(limit), _) if *limit > bound => Some(format!("{usage}, but limit is {limit}")),
            (Some(_), Some(request)) if *request > bound => {
                Some(format!("{usage}, but request is {request}"))
            }
            (Some(_), _) => None,
        }
    }

    fn ratio(&self, kind: &str, name: &str, bound: Quantity) -> Option<String> {
        let usage = format!("{name} max limit to request ratio per {kind} is {bound}");
        let given =
            |list: &BTreeMap<String, Quantity>| list.get(name).copied().filter(|it| !it.is_zero());
        let Some(request) = given(&self.requests) else {
            return Some(format!("{usage}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{usage}, but no limit is specified or limit is 0"));
        };
        let (ratio, most) = (
            limit.nano_value() as f64 / request.nano_value() as f64,
            bound.nano_value() as f64 / 1e9,
        );
        (ratio > most).then(|| format!("{usage}, but provided ratio is {ratio:.6}"))
    }
}

fn bounds<'a>(item: &'a Value, path: &'a str) -> impl Iterator<Item = (&'a String, Quantity)> {
    object::entries(item, path)
        .filter_map(|(name, amount)| Some((name, Quantity::parse(amount.as_str()?).ok()?)))
}

pub(super) fn amounts(list: Option<&Value>) -> BTreeMap<String, Quantity> {
    list.and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?)))
        .collect()
}
