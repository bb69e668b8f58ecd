//! Probes: what to ask a container, how often, and what the answers mean.
//!
//! A startup probe gates the others: until it succeeded once, neither readiness nor liveness is
//! asked. A failed startup or liveness probe makes the container unhealthy, which the planner
//! answers with a restart.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    desired::Role,
    pod::{Health, Unhealthy},
};

/// What a probe decides.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    /// As events spell it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// What is done to a container, by a probe or by a lifecycle hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProbeAction {
    Exec {
        command: Vec<String>,
    },
    Http(HttpGet),
    Tcp {
        host: Option<String>,
        port: u16,
    },
    /// The health protocol of gRPC.
    Grpc {
        port: u16,
        service: String,
    },
    Sleep {
        seconds: i64,
    },
    /// This node cannot do it; the text says what.
    Unsupported {
        what: String,
    },
}

/// An HTTP request; any answer from 200 to 399 is success.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpGet {
    pub https: bool,
    /// The pod's address when none is given.
    pub host: Option<String>,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// One probe of one container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeSpec {
    pub kind: ProbeKind,
    pub action: ProbeAction,
    pub initial_delay: SignedDuration,
    pub timeout: SignedDuration,
    pub period: SignedDuration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    pub grace: Option<SignedDuration>,
}

/// The probes of a container.
pub fn probes(container: &Container) -> Vec<ProbeSpec> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some(parse(kind, probe.as_ref()?, container)))
    .collect()
}

fn parse(kind: ProbeKind, probe: &Probe, container: &Container) -> ProbeSpec {
    let seconds = |n: Option<i32>, default: i32| {
        // Zero stands for the default, in what old clients wrote.
        let n = n.filter(|n| *n > 0).unwrap_or(default);
        SignedDuration::from_secs(i64::from(n))
    };
    let count =
        |n: Option<i32>, default| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(default).max(1);
    let handler = LifecycleHandler {
        exec: probe.exec.clone(),
        http_get: probe.http_get.clone(),
        tcp_socket: probe.tcp_socket.clone(),
        sleep: None,
    };
    let action = match &probe.grpc {
        Some(grpc) => match u16::try_from(grpc.port) {
            Ok(port) => {
                ProbeAction::Grpc { port, service: grpc.service.clone().unwrap_or_default() }
            }
            Err(_) => ProbeAction::Unsupported { what: format!("port {}", grpc.port) },
        },
        None => action(&handler, container),
    };
    ProbeSpec {
        kind,
        action,
        initial_delay: SignedDuration::from_secs(i64::from(
            probe.initial_delay_seconds.unwrap_or(0).max(0),
        )),
        timeout: seconds(probe.timeout_seconds, 1),
        period: seconds(probe.period_seconds, 10),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
        grace: probe.termination_grace_period_seconds.map(SignedDuration::from_secs),
    }
}

/// The action of a hook.
pub fn action(handler: &LifecycleHandler, container: &Container) -> ProbeAction {
    let unsupported = |what: &str| ProbeAction::Unsupported { what: what.to_owned() };
    if let Some(exec) = &handler.exec {
        return ProbeAction::Exec { command: exec.command.clone().unwrap_or_default() };
    }
    if let Some(get) = &handler.http_get {
        return http_action(get, container).unwrap_or_else(|| unsupported("unknown port name"));
    }
    if let Some(tcp) = &handler.tcp_socket {
        let host = tcp.host.clone().filter(|host| !host.is_empty());
        return port(&tcp.port, container)
            .map(|port| ProbeAction::Tcp { host, port })
            .unwrap_or_else(|| unsupported("unknown port name"));
    }
    match &handler.sleep {
        Some(sleep) => ProbeAction::Sleep { seconds: sleep.seconds },
        None => unsupported("a handler without an action"),
    }
}

fn http_action(get: &HTTPGetAction, container: &Container) -> Option<ProbeAction> {
    let mut path = get.path.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let headers = get.http_headers.iter().flatten();
    Some(ProbeAction::Http(HttpGet {
        https: get.scheme.as_deref().is_some_and(|it| it.eq_ignore_ascii_case("https")),
        host: get.host.clone().filter(|host| !host.is_empty()),
        port: port(&get.port, container)?,
        path,
        headers: headers.map(|it| (it.name.clone(), it.value.clone())).collect(),
    }))
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|it| it.name.as_ref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |it| Some(it.container_port))?
        }
    };
    u16::try_from(number).ok().filter(|it| *it > 0)
}

/// Answers of one probe, counted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Tally {
    last: Option<bool>,
    run: u32,
    /// What the thresholds made of it.
    verdict: Option<bool>,
}

impl Tally {
    fn record(&mut self, success: bool, spec: &ProbeSpec) {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { spec.success_threshold } else { spec.failure_threshold };
        if self.run >= threshold {
            self.verdict = Some(success);
        }
    }
}

/// All probes of one running attempt.
#[derive(Clone, Debug)]
pub struct Tracker {
    probes: Vec<(ProbeSpec, Tally)>,
}

impl Tracker {
    /// `was_ready`: the container ran before this process did, and was ready then.
    pub fn new(container: &Container, role: Role, was_ready: bool) -> Self {
        let specs = match role {
            Role::Init | Role::Ephemeral => Vec::new(),
            Role::Sidecar | Role::Main => probes(container),
        };
        let probes = specs.into_iter().map(|spec| {
            let verdict = (was_ready && spec.kind != ProbeKind::Liveness).then_some(true);
            (spec, Tally { verdict, ..Tally::default() })
        });
        Self { probes: probes.collect() }
    }

    pub fn specs(&self) -> impl Iterator<Item = &ProbeSpec> {
        self.probes.iter().map(|(spec, _)| spec)
    }

    /// Whether there is anything to ask.
    pub fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// Whether this probe is to be asked now.
    pub fn is_open(&self, kind: ProbeKind) -> bool {
        match kind {
            ProbeKind::Startup => self.verdict(kind).is_none(),
            ProbeKind::Readiness => self.started(),
            ProbeKind::Liveness => self.started() && self.verdict(kind) != Some(false),
        }
    }

    /// Counts one answer.
    pub fn record(&mut self, kind: ProbeKind, success: bool) {
        for (spec, tally) in self.probes.iter_mut().filter(|(spec, _)| spec.kind == kind) {
            tally.record(success, spec);
        }
    }

    fn find(&self, kind: ProbeKind) -> Option<&(ProbeSpec, Tally)> {
        self.probes.iter().find(|(spec, _)| spec.kind == kind)
    }

    fn verdict(&self, kind: ProbeKind) -> Option<bool> {
        self.find(kind).and_then(|(_, tally)| tally.verdict)
    }

    fn started(&self) -> bool {
        self.find(ProbeKind::Startup).is_none_or(|(_, tally)| tally.verdict == Some(true))
    }

    /// What all answers amount to.
    pub fn health(&self) -> Health {
        let readiness = self.find(ProbeKind::Readiness);
        let ready = readiness.is_none_or(|(_, tally)| tally.verdict == Some(true));
        let unhealthy = [ProbeKind::Startup, ProbeKind::Liveness].into_iter().find_map(|kind| {
            let (spec, tally) = self.find(kind)?;
            (tally.verdict == Some(false))
                .then(|| Unhealthy { probe: kind.word(), grace: spec.grace })
        });
        let started = self.started();
        Health { started, ready: started && ready, unhealthy }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tracker(container: serde_json::Value) -> Tracker {
        let container = serde_json::from_value(container).unwrap();
        Tracker::new(&container, Role::Main, false)
    }

    #[test]
    fn no_probes_means_ready() {
        let health = tracker(json!({"name": "c"})).health();
        assert_eq!(health, Health { started: true, ready: true, unhealthy: None });
    }

    #[test]
    fn startup_gates_the_others() {
        let tcp = json!({"tcpSocket": {"port": 80}});
        let mut all = tracker(json!({"name": "c", "startupProbe": tcp,
            "readinessProbe": tcp, "livenessProbe": tcp}));
        assert!(all.is_open(ProbeKind::Startup));
        assert!(!all.is_open(ProbeKind::Readiness) && !all.is_open(ProbeKind::Liveness));
        all.record(ProbeKind::Startup, true);
        assert!(!all.is_open(ProbeKind::Startup));
        assert!(all.is_open(ProbeKind::Readiness) && all.is_open(ProbeKind::Liveness));
        assert_eq!(all.health(), Health { started: true, ready: false, unhealthy: None });
        all.record(ProbeKind::Readiness, true);
        assert!(all.health().ready);
    }

    #[test]
    fn thresholds_count_runs_of_equal_answers() {
        let mut one = tracker(json!({"name": "c", "livenessProbe":
            {"exec": {"command": ["true"]}, "failureThreshold": 2}}));
        for answer in [false, true, false] {
            one.record(ProbeKind::Liveness, answer);
            assert_eq!(one.health().unhealthy, None);
        }
        one.record(ProbeKind::Liveness, false);
        assert_eq!(one.health().unhealthy.unwrap().probe, "liveness");
        assert!(!one.is_open(ProbeKind::Liveness));
    }

    #[test]
    fn defaults_and_port_names_are_filled_in() {
        let container = serde_json::from_value(json!({"name": "c",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "http", "path": "ready"}, "timeoutSeconds": 0}}))
        .unwrap();
        let found = probes(&container);
        let get = HttpGet {
            https: false,
            host: None,
            port: 8080,
            path: "/ready".to_owned(),
            headers: Vec::new(),
        };
        assert_eq!(found[0].action, ProbeAction::Http(get));
        assert_eq!((found[0].timeout.as_secs(), found[0].period.as_secs()), (1, 10));
    }
}
