//! The phase of a Pod, by the states of its containers.

use k8s_openapi::api::core::v1::ContainerStatus;

use crate::desired::{DesiredPod, RestartPolicy, Role};

/// How the containers of one list stand.
#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

fn terminated_code(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|it| it.exit_code)
}

fn last_code(status: &ContainerStatus) -> Option<i32> {
    status.last_state.as_ref()?.terminated.as_ref().map(|it| it.exit_code)
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|it| it.running.is_some())
}

/// `terminal`: the pod is being taken down, nothing starts again.
pub(super) fn phase(
    pod: &DesiredPod,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    terminal: bool,
) -> &'static str {
    let mut pending_init = 0_usize;
    let mut failed_init = 0_usize;
    let init_containers = pod.containers.iter().filter(|it| it.role != Role::Main);
    for (desired, status) in init_containers.zip(inits) {
        if desired.role == Role::Sidecar {
            let up = status.started == Some(true) || last_code(status).is_some();
            pending_init += usize::from(!up && terminated_code(status).is_none());
            continue;
        }
        let code = terminated_code(status)
            .or_else(|| if is_running(status) { None } else { last_code(status) });
        match code {
            Some(0) => pending_init += usize::from(terminated_code(status).is_none()),
            Some(_) => failed_init += 1,
            None => pending_init += 1,
        }
    }
    let mut count = Count::default();
    for status in mains {
        let ended = terminated_code(status);
        if is_running(status) {
            count.running += 1;
        } else if let Some(code) = ended {
            count.stopped += 1;
            count.succeeded += usize::from(code == 0);
        } else if last_code(status).is_some() {
            count.stopped += 1;
        } else {
            count.waiting += 1;
        }
    }
    if failed_init > 0 && pod.restart_policy == RestartPolicy::Never {
        return "Failed";
    }
    let begun = count.running + count.stopped > 0;
    if ((pending_init > 0 || failed_init > 0) && !begun) || count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    if count.stopped == 0 {
        return "Pending";
    }
    let all_succeeded = count.stopped == count.succeeded;
    match (terminal, pod.restart_policy) {
        (true, _) if all_succeeded => "Succeeded",
        (true, _) => "Failed",
        (false, RestartPolicy::Always) => "Running",
        (false, RestartPolicy::OnFailure | RestartPolicy::Never) if all_succeeded => "Succeeded",
        (false, RestartPolicy::Never) => "Failed",
        (false, RestartPolicy::OnFailure) => "Running",
    }
}
