//! Processor, memory and quality of service, in the kernel's words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{ids::PodUid, quantity};

/// Period of the CPU quota, in microseconds.
pub const CPU_PERIOD: u64 = 100_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// Smallest quota that the kernel takes, in microseconds.
const MIN_QUOTA: u64 = 1_000;

/// Quality of service class of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// As the Pod's status says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Limits of one control group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub cpu_shares: Option<u64>,
    /// Microseconds in each [`CPU_PERIOD`].
    pub cpu_quota: Option<u64>,
    pub memory: Option<u64>,
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn quantity_of<'a>(
    map: Option<&'a BTreeMap<String, Quantity>>,
    resource: &str,
) -> Option<&'a Quantity> {
    map?.get(resource)
}

fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    quantity_of(container.resources.as_ref()?.limits.as_ref(), resource)
}

/// The request, or the limit where only that is given.
fn request<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    let resources = container.resources.as_ref()?;
    quantity_of(resources.requests.as_ref(), resource)
        .or_else(|| quantity_of(resources.limits.as_ref(), resource))
}

/// Kubernetes' rule: all limits given and equal to the requests, some given, or none.
pub fn qos(spec: &PodSpec) -> Qos {
    let positive =
        |it: Option<&Quantity>| it.and_then(quantity::milli_value).filter(|milli| *milli > 0);
    let mut any = false;
    let mut guaranteed = true;
    for container in all_containers(spec) {
        for resource in ["cpu", "memory"] {
            let (limit, request) =
                (positive(limit(container, resource)), positive(request(container, resource)));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// Path of the pod's control group below the node's own.
pub fn cgroup_path(qos: Qos, uid: &PodUid) -> String {
    format!("{}/pod{uid}", qos.as_str().to_lowercase())
}

fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli: u64) -> u64 {
    (milli.saturating_mul(CPU_PERIOD) / 1000).max(MIN_QUOTA)
}

fn unsigned(n: Option<i64>) -> Option<u64> {
    n.and_then(|n| u64::try_from(n).ok())
}

/// Limits of one container.
pub fn container_limits(container: &Container) -> Limits {
    let cpu_request = unsigned(request(container, "cpu").and_then(quantity::milli_value));
    let cpu_limit = unsigned(limit(container, "cpu").and_then(quantity::milli_value));
    let memory = unsigned(limit(container, "memory").and_then(quantity::value));
    Limits {
        cpu_shares: Some(shares(cpu_request.unwrap_or(0))),
        cpu_quota: cpu_limit.filter(|it| *it > 0).map(quota),
        memory: memory.filter(|it| *it > 0),
    }
}

/// What all containers of a pod ask for at most at one time: thousandths of a processor, and bytes.
pub fn pod_requests(spec: &PodSpec) -> (u64, u64) {
    let cpu = |it: &Container| unsigned(request(it, "cpu").and_then(quantity::milli_value));
    let memory = |it: &Container| unsigned(request(it, "memory").and_then(quantity::value));
    let overhead = |resource| quantity_of(spec.overhead.as_ref(), resource);
    let cpu_overhead = unsigned(overhead("cpu").and_then(quantity::milli_value)).unwrap_or(0);
    let memory_overhead = unsigned(overhead("memory").and_then(quantity::value)).unwrap_or(0);
    // A container that asks for nothing counts for nothing.
    let cpu = peak(spec, &|it| Some(cpu(it).unwrap_or(0))).unwrap_or(0);
    let memory = peak(spec, &|it| Some(memory(it).unwrap_or(0))).unwrap_or(0);
    (cpu.saturating_add(cpu_overhead), memory.saturating_add(memory_overhead))
}

/// The most that containers have together: init containers run one after the other before the rest,
/// and those that restart always run beside all that follow them. `None` if one has no number.
fn peak(spec: &PodSpec, pick: &dyn Fn(&Container) -> Option<u64>) -> Option<u64> {
    let (mut beside, mut top) = (0_u64, 0);
    for init in spec.init_containers.iter().flatten() {
        let own = pick(init)?;
        top = top.max(beside.saturating_add(own));
        if init.restart_policy.as_deref() == Some("Always") {
            beside = beside.saturating_add(own);
        }
    }
    for main in &spec.containers {
        beside = beside.saturating_add(pick(main)?);
    }
    Some(top.max(beside)).filter(|total| *total > 0)
}

/// Limits of the pod as a whole: set where every container has one.
pub fn pod_limits(spec: &PodSpec) -> Limits {
    let (requested, _) = pod_requests(spec);
    let sum = |pick: &dyn Fn(&Container) -> Option<u64>| peak(spec, pick);
    Limits {
        cpu_shares: Some(shares(requested)),
        cpu_quota: sum(&|it| unsigned(limit(it, "cpu").and_then(quantity::milli_value))).map(quota),
        memory: sum(&|it| unsigned(limit(it, "memory").and_then(quantity::value))),
    }
}

/// How willingly the kernel kills the container when memory is short, as the kubelet has it.
pub fn oom_score_adj(qos: Qos, container: &Container, node_memory: i64) -> i32 {
    const GUARANTEED: i32 = -997;
    const BEST_EFFORT: i32 = 1000;
    match qos {
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => BEST_EFFORT,
        Qos::Burstable => {
            let request = request(container, "memory").and_then(quantity::value).unwrap_or(0);
            let share = i128::from(request) * 1000 / i128::from(node_memory.max(1));
            let adj = i32::try_from(1000 - share).unwrap_or(GUARANTEED);
            adj.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(resources: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({"containers": [{"name": "c", "resources": resources}]}))
            .unwrap()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (json!({}), Qos::BestEffort),
            (json!({"limits": both}), Qos::Guaranteed),
            (json!({"limits": both, "requests": {"cpu": "500m"}}), Qos::Burstable),
            (json!({"requests": both}), Qos::Burstable),
            (json!({"limits": {"cpu": "1"}}), Qos::Burstable),
        ];
        for (resources, want) in cases {
            assert_eq!(qos(&spec(resources.clone())), want, "{resources}");
        }
    }

    #[test]
    fn quantities_become_shares_and_quota() {
        let spec =
            spec(json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}));
        let limits = container_limits(&spec.containers[0]);
        let want =
            Limits { cpu_shares: Some(256), cpu_quota: Some(50_000), memory: Some(64 << 20) };
        assert_eq!(limits, want);
        assert_eq!(pod_limits(&spec), want);
    }

    #[test]
    fn sidecars_count_beside_the_main_containers() {
        let with = |mebi: u64| json!({"limits": {"memory": format!("{mebi}Mi")}});
        let spec = |inits: serde_json::Value| -> PodSpec {
            let main = json!([{"name": "c", "resources": with(64)}]);
            serde_json::from_value(json!({"containers": main, "initContainers": inits})).unwrap()
        };
        let init = |mebi: u64| json!({"name": "i", "resources": with(mebi)});
        let sidecar =
            |mebi: u64| json!({"name": "s", "resources": with(mebi), "restartPolicy": "Always"});
        let cases = [
            (json!([init(32)]), Some(64)),
            (json!([init(100)]), Some(100)),
            (json!([sidecar(32)]), Some(96)),
            (json!([sidecar(32), init(80)]), Some(112)),
            (json!([init(80), sidecar(32)]), Some(96)),
            (json!([{"name": "s", "restartPolicy": "Always"}]), None),
        ];
        for (inits, want) in cases {
            let found = pod_limits(&spec(inits.clone())).memory;
            assert_eq!(found, want.map(|mebi: u64| mebi << 20), "{inits}");
        }
    }

    #[test]
    fn absurd_quantities_do_no_harm() {
        let spec = spec(json!({"limits": {"cpu": "9000000000000000", "memory": "9E"}}));
        let limits = container_limits(&spec.containers[0]);
        assert_eq!(limits.cpu_shares, Some(MAX_SHARES));
        assert!(limits.cpu_quota > Some(MIN_QUOTA));
        assert_eq!(pod_limits(&spec), limits);
    }

    #[test]
    fn burstable_scores_lie_between_the_other_classes() {
        let half = spec(json!({"requests": {"memory": "512Mi"}}));
        assert_eq!(oom_score_adj(Qos::Burstable, &half.containers[0], 1 << 30), 500);
        let none = spec(json!({"requests": {"cpu": "1"}}));
        assert_eq!(oom_score_adj(Qos::Burstable, &none.containers[0], 1 << 30), 999);
        let all = spec(json!({"requests": {"memory": "1Gi"}}));
        assert_eq!(oom_score_adj(Qos::Burstable, &all.containers[0], 1 << 30), 3);
    }
}
