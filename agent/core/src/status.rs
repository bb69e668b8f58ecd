//! The status of a Pod as the API shows it, word for word as the kubelet says it.

mod conditions;
mod container;
mod phase;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, HostIP, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    desired::{DesiredPod, Role},
    pod::ObservedPod,
    record::{Lifecycle, Rejection, TeardownReason},
    resources,
};

/// Scheme in front of a container's id.
pub const RUNTIME: &str = "outbye";

/// Computes the status. `previous` is the last one that the node or the API knows: conditions that
/// did not change keep their transition time, conditions of others stay.
pub fn pod_status(
    pod: &DesiredPod,
    observed: &ObservedPod,
    host_ip: Option<IpAddr>,
    previous: Option<&PodStatus>,
    now: Timestamp,
) -> PodStatus {
    if let Some(rejection) = &observed.rejection {
        return rejected(pod, observed, rejection, previous);
    }
    let statuses = |roles: &[Role]| -> Vec<ContainerStatus> {
        pod.containers
            .iter()
            .filter(|it| roles.contains(&it.role))
            .map(|it| container::status(pod, it, observed, now))
            .collect()
    };
    let inits = statuses(&[Role::Init, Role::Sidecar]);
    let mains = statuses(&[Role::Main]);
    let failed_for_good = matches!(
        observed.lifecycle,
        Lifecycle::Terminating { reason: TeardownReason::DeadlineExceeded, .. }
            | Lifecycle::Terminated { reason: TeardownReason::DeadlineExceeded, .. }
    );
    let phase = if failed_for_good {
        "Failed"
    } else {
        let terminal = observed.lifecycle != Lifecycle::Syncing;
        phase::phase(pod, &inits, &mains, terminal)
    };
    let (reason, message) = if failed_for_good {
        let message = "Pod was active on the node longer than the specified deadline";
        (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()))
    } else {
        (None, None)
    };
    let host_ip = host_ip.map(|ip| ip.to_string());
    let gone = matches!(observed.lifecycle, Lifecycle::Terminated { .. });
    let pod_ip = if pod.host_network {
        host_ip.clone()
    } else {
        // A pod that is gone keeps the address that it had, until the API forgets it.
        let last = observed.sandbox.as_ref().and_then(|it| it.address).filter(|_| gone);
        observed.address.or(last).map(|ip| ip.to_string())
    };
    PodStatus {
        conditions: Some(conditions::conditions(
            pod,
            observed,
            (&inits, &mains),
            phase,
            previous,
            now,
        )),
        container_statuses: Some(mains),
        ephemeral_container_statuses: Some(statuses(&[Role::Ephemeral]))
            .filter(|it| !it.is_empty()),
        init_container_statuses: Some(inits).filter(|it| !it.is_empty()),
        host_ips: host_ip.clone().map(|ip| vec![HostIP { ip }]),
        host_ip,
        phase: Some(phase.to_owned()),
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        qos_class: Some(resources::qos(pod.spec()).as_str().to_owned()),
        start_time: Some(time(observed.started_at)),
        observed_generation: pod.pod.metadata.generation,
        reason,
        message,
        ..PodStatus::default()
    }
}

/// A pod that never had anything on this node.
fn rejected(
    pod: &DesiredPod,
    observed: &ObservedPod,
    rejection: &Rejection,
    previous: Option<&PodStatus>,
) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(rejection.reason.clone()),
        message: Some(format!("Pod was rejected: {}", rejection.message)),
        qos_class: Some(resources::qos(pod.spec()).as_str().to_owned()),
        start_time: Some(time(observed.started_at)),
        observed_generation: pod.pod.metadata.generation,
        conditions: previous.and_then(|it| it.conditions.clone()),
        ..PodStatus::default()
    }
}

/// The API counts in seconds.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests;
