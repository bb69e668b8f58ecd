//! Pages of the node itself, as a kubelet has them: `nodes/NAME/proxy/…` of the API leads here. They
//! come out through the hub's streams alone: the node listens on no port.

use std::{fmt::Write as _, io};

use agent_core::ids::PodUid;
use agent_sync::stream::{Channel, MAX_PAYLOAD, PageHead};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWrite;

use super::{Refusal, frames::FrameWriter};
use crate::{
    node::{Node, PodRow},
    stats::{MachineStats, Measured, MeasuredContainer, Rate},
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Version of the text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page as it goes out.
struct Page {
    code: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Page {
    fn text(code: u16, text: &str) -> Self {
        Self { code, content_type: TEXT, body: text.as_bytes().to_vec() }
    }

    fn json(value: &Value) -> Self {
        Self { code: 200, content_type: JSON, body: value.to_string().into_bytes() }
    }
}

pub(super) async fn serve<W: AsyncWrite + Unpin>(
    node: &Node,
    path: &str,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let page = answer(node, path).await;
    let head = PageHead { code: page.code, content_type: page.content_type.to_owned() };
    send.write(Channel::Stdout, &serde_json::to_vec(&head)?).await?;
    for piece in page.body.chunks(MAX_PAYLOAD) {
        send.write(Channel::Stdout, piece).await?;
    }
    Ok(Ok(()))
}

async fn answer(node: &Node, path: &str) -> Page {
    let path = path.split('?').next().unwrap_or_default();
    match path.trim_end_matches('/') {
        // Whoever gets an answer has reached a working node.
        "/healthz" | "/healthz/ping" => Page::text(200, "ok"),
        "/metrics/resource" => {
            let measured = node.stats.measure(node).await;
            let text = resource_metrics(&measured, &node.pods.list());
            Page { code: 200, content_type: METRICS, body: text.into_bytes() }
        }
        "/stats/summary" => {
            let measured = node.stats.measure(node).await;
            Page::json(&summary(node, &measured, &node.pods.list()))
        }
        "/pods" => Page::json(&pods(node)),
        _ => Page::text(404, "404 page not found\n"),
    }
}

/// What the node runs, as the hub sent it, with the status that the node knows.
fn pods(node: &Node) -> Value {
    let rows = node.pods.list();
    let desired = node.desired.snapshot();
    let pods = desired.of_kind("Pod").filter_map(|(key, object)| {
        let mut pod: Value = object.body.parse()?;
        let uid = pod["metadata"]["uid"].as_str().and_then(|it| it.parse::<PodUid>().ok());
        let row = rows.iter().find(|it| Some(it.uid) == uid);
        if let Some(row) = row.filter(|it| it.pod.name == key.name) {
            pod["status"] = row.status.clone();
        }
        Some(pod)
    });
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods.collect::<Vec<_>>()})
}

/// Running pods that have a name: the rest is between two worlds.
fn named<'a>(
    measured: &'a Measured,
    rows: &'a [PodRow],
) -> impl Iterator<Item = (&'a PodRow, &'a [MeasuredContainer])> {
    rows.iter().filter_map(|row| Some((row, measured.pods.get(&row.uid)?.as_slice())))
}

/// `/metrics/resource`, by the names of
/// <https://kubernetes.io/docs/reference/instrumentation/metrics/>.
fn resource_metrics(measured: &Measured, rows: &[PodRow]) -> String {
    let mut out = Exposition::default();
    let containers = || {
        named(measured, rows).flat_map(|(row, containers)| {
            containers.iter().map(move |it| {
                let (namespace, pod) = (&row.pod.namespace, &row.pod.name);
                let name = &it.name;
                let labels =
                    format!("{{container=\"{name}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
                (labels, it)
            })
        })
    };
    let pods = || {
        named(measured, rows).map(|(row, containers)| {
            let (namespace, pod) = (&row.pod.namespace, &row.pod.name);
            (format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}"), containers)
        })
    };
    out.family("container_cpu_usage_seconds_total", "counter", CPU_OF_CONTAINER);
    for (labels, it) in containers() {
        out.at(&labels, seconds(it.stats.cpu_usage_ns), it.time);
    }
    out.family("container_memory_working_set_bytes", "gauge", MEMORY_OF_CONTAINER);
    for (labels, it) in containers() {
        out.at(&labels, it.stats.memory_working_set, it.time);
    }
    out.family("container_start_time_seconds", "gauge", START_OF_CONTAINER);
    for (labels, it) in containers() {
        out.plain(&labels, it.started_at.as_second());
    }
    if let Some((machine, _)) = &measured.machine {
        out.family("node_cpu_usage_seconds_total", "counter", CPU_OF_NODE);
        out.at("", seconds(machine.cpu_usage_ns), measured.time);
        out.family("node_memory_working_set_bytes", "gauge", MEMORY_OF_NODE);
        out.at("", machine.memory_working_set, measured.time);
    }
    out.family("pod_cpu_usage_seconds_total", "counter", CPU_OF_POD);
    for (labels, containers) in pods() {
        out.at(&labels, seconds(total(containers, |it| it.stats.cpu_usage_ns)), measured.time);
    }
    out.family("pod_memory_working_set_bytes", "gauge", MEMORY_OF_POD);
    for (labels, containers) in pods() {
        out.at(&labels, total(containers, |it| it.stats.memory_working_set), measured.time);
    }
    out.family("resource_scrape_error", "gauge", SCRAPE_ERROR);
    out.plain("", u8::from(measured.machine.is_none()));
    out.text
}

const CPU_OF_CONTAINER: &str =
    "[STABLE] Cumulative cpu time consumed by the container in core-seconds";
const MEMORY_OF_CONTAINER: &str = "[STABLE] Current working set of the container in bytes";
const START_OF_CONTAINER: &str = "[STABLE] Start time of the container since unix epoch in seconds";
const CPU_OF_NODE: &str = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
const MEMORY_OF_NODE: &str = "[STABLE] Current working set of the node in bytes";
const CPU_OF_POD: &str = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
const MEMORY_OF_POD: &str = "[STABLE] Current working set of the pod in bytes";
const SCRAPE_ERROR: &str =
    "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";

/// Lines in the text format of Prometheus.
#[derive(Default)]
struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a string does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn plain(&mut self, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }

    fn at(&mut self, labels: &str, value: impl std::fmt::Display, time: Timestamp) {
        let millis = time.as_millisecond();
        let _ = writeln!(self.text, "{}{labels} {value} {millis}", self.family);
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn total(containers: &[MeasuredContainer], of: impl Fn(&MeasuredContainer) -> u64) -> u64 {
    containers.iter().map(of).fold(0, u64::saturating_add)
}

/// `/stats/summary`, by `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.
fn summary(node: &Node, measured: &Measured, rows: &[PodRow]) -> Value {
    let machine = node.machine();
    let time = measured.time.to_string();
    let mut of_node = json!({
        "nodeName": node.config.node_name,
        "fs": {
            "time": time,
            "availableBytes": machine.disk_available,
            "capacityBytes": machine.disk_total,
            "usedBytes": machine.disk_total.saturating_sub(machine.disk_available),
        },
        "rlimit": {"time": time, "maxpid": machine.pids_max, "curproc": machine.pids_used},
    });
    if let Some((it, rate)) = &measured.machine {
        of_node["cpu"] = cpu(measured.time, rate.nanocores, it.cpu_usage_ns);
        of_node["memory"] = memory_of_machine(measured.time, it);
    }
    let pods = named(measured, rows).map(|(row, containers)| {
        let nanocores = total(containers, |it| it.rate.nanocores);
        let memory = [
            total(containers, |it| it.stats.memory_usage),
            total(containers, |it| it.stats.memory_working_set),
            total(containers, |it| it.stats.memory_rss),
        ];
        json!({
            "podRef": {
                "name": row.pod.name, "namespace": row.pod.namespace, "uid": row.uid.to_string(),
            },
            "startTime": row.status["startTime"],
            "containers": containers.iter().map(of_container).collect::<Vec<_>>(),
            "cpu": cpu(measured.time, nanocores, total(containers, |it| it.stats.cpu_usage_ns)),
            "memory": memory_of(measured.time, memory),
            "process_stats": {"process_count": total(containers, |it| it.stats.pids)},
        })
    });
    json!({"node": of_node, "pods": pods.collect::<Vec<_>>()})
}

fn of_container(it: &MeasuredContainer) -> Value {
    let Rate { nanocores, .. } = it.rate;
    let stats = &it.stats;
    let memory = [stats.memory_usage, stats.memory_working_set, stats.memory_rss];
    json!({
        "name": it.name,
        "startTime": it.started_at.to_string(),
        "cpu": cpu(it.time, nanocores, stats.cpu_usage_ns),
        "memory": memory_of(it.time, memory),
    })
}

fn cpu(time: Timestamp, nanocores: u64, nanoseconds: u64) -> Value {
    json!({
        "time": time.to_string(),
        "usageNanoCores": nanocores,
        "usageCoreNanoSeconds": nanoseconds,
    })
}

fn memory_of(time: Timestamp, [usage, working_set, rss]: [u64; 3]) -> Value {
    json!({
        "time": time.to_string(),
        "usageBytes": usage,
        "workingSetBytes": working_set,
        "rssBytes": rss,
    })
}

fn memory_of_machine(time: Timestamp, it: &MachineStats) -> Value {
    let mut value = memory_of(time, [it.memory_usage, it.memory_working_set, it.memory_rss]);
    value["availableBytes"] = json!(it.memory_available);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (nanos, expected) in
            [(0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (20_000_000_000, "20")]
        {
            assert_eq!(seconds(nanos), expected);
        }
    }
}
