//! Applies what a node reports. A node may touch its own Node and the pods bound to it.
//!
//! A report is done when it is durable, or when it can never be applied (the pod is gone, the
//! node may not say that). It is kept by the node while storage cannot take it.

use std::{sync::Arc, time::Duration};

use agent_sync::{ReportBody, ReportKind};
use hub_api::{
    DeleteOptions, Resource, Status,
    decode::{FieldValidation, Media, decode},
    write::Preconditions,
};
use hub_apiserver::{
    WriteOptions,
    auth::{User, may_label},
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::Fleet;

/// Before a report is tried again after it was refused for reasons of the hub's own.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A report that is refused so often does not hold up the others any longer.
const MAX_TRIES: u32 = 20;
/// Largest accepted report, in bytes.
const MAX_REPORT: usize = 1 << 20;

/// Applies reports one by one, in the node's order.
pub(super) async fn apply_all(
    fleet: &Arc<Fleet>,
    node: &str,
    mut reports_rx: mpsc::Receiver<(u64, ReportBody)>,
    done_tx: mpsc::UnboundedSender<u64>,
) {
    while let Some((seq, report)) = reports_rx.recv().await {
        let mut n_tries = 0;
        while let Err(status) = apply(fleet, node, &report).await {
            n_tries += 1;
            let (key, error) = (&report.key, &status);
            match after(&status, n_tries) {
                // Of pods that are gone there is always something on the way.
                After::Drop if status.code == 404 => {
                    tracing::debug!(node, %key, %error, "Dropped a report");
                    break;
                }
                After::Drop => {
                    tracing::warn!(node, %key, %error, n_tries, "Dropped a report");
                    break;
                }
                After::Retry => {
                    tracing::warn!(node, %key, %error, "Could not apply a report");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        if done_tx.send(seq).is_err() {
            return;
        }
    }
}

/// What becomes of a report that was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    Retry,
    Drop,
}

fn after(status: &Status, n_tries: u32) -> After {
    // A hub that cannot write now can write nothing else either: nothing is gained by dropping.
    if is_final(status) || (n_tries >= MAX_TRIES && !status.is_transient()) {
        After::Drop
    } else {
        After::Retry
    }
}

/// Trying again cannot help: the report itself is at fault.
fn is_final(status: &Status) -> bool {
    (400..500).contains(&status.code) && status.code != 409 && !status.is_transient()
}

async fn apply(fleet: &Fleet, node: &str, report: &ReportBody) -> Result<(), Status> {
    if report.body.len() > MAX_REPORT {
        return Err(Status::request_entity_too_large("the report is too large"));
    }
    match report.kind {
        ReportKind::PodStatus => pod_status(fleet, node, report).await,
        ReportKind::PodGone => pod_gone(fleet, node, report).await,
        ReportKind::NodeStatus => node_status(fleet, node, report).await,
        ReportKind::Event => event(fleet, node, report).await,
        ReportKind::Unknown => Err(Status::bad_request("unknown report")),
    }
}

async fn pod_status(fleet: &Fleet, node: &str, report: &ReportBody) -> Result<(), Status> {
    let pods = row("", "v1", "pods")?;
    let status = parse_status(pods, &report.body)?;
    let (namespace, name) = (report.key.namespace.as_str(), report.key.name.as_str());
    let known = own_pod(fleet, node, report)?;
    if known.value()["status"] == keep_hub_conditions(status.clone(), &known.value()["status"]) {
        return Ok(());
    }
    let options = options(node);
    let change = |_: &Value, old: &Value| {
        check_own_pod(old, node, report)?;
        let mut pod = without_revision(old);
        pod["status"] = keep_hub_conditions(status.clone(), &old["status"]);
        Ok(pod)
    };
    fleet
        .registry
        .modify(pods, Some(namespace), name, Some("status"), &options, change)
        .await
        .map(drop)
}

/// Without a revision the registry takes the newest object and tries again by itself.
pub(super) fn without_revision(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// Conditions of types that the node did not send belong to controllers and are kept.
fn keep_hub_conditions(mut status: Value, old: &Value) -> Value {
    let sent: Vec<&str> = conditions(&status).filter_map(|it| it["type"].as_str()).collect();
    let kept: Vec<Value> = conditions(old)
        .filter(|it| it["type"].as_str().is_some_and(|ty| !sent.contains(&ty)))
        .cloned()
        .collect();
    if !kept.is_empty()
        && let Some(status) = status.as_object_mut()
        && let Some(list) = status.entry("conditions").or_insert_with(|| json!([])).as_array_mut()
    {
        list.extend(kept);
    }
    status
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().into_iter().flatten()
}

async fn pod_gone(fleet: &Fleet, node: &str, report: &ReportBody) -> Result<(), Status> {
    let pods = row("", "v1", "pods")?;
    let entry = own_pod(fleet, node, report)?;
    if entry.value()["metadata"]["deletionTimestamp"].is_null() {
        // Nobody asked for that: the pod stays, and the node is told to run it by its view.
        return Err(Status::bad_request("the pod is not being deleted"));
    }
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        preconditions: Preconditions { uid: Some(report.uid.clone()), ..Preconditions::default() },
        ..DeleteOptions::default()
    };
    fleet
        .registry
        .delete(pods, Some(&report.key.namespace), &report.key.name, &options)
        .await
        .map(drop)
}

async fn node_status(fleet: &Fleet, node: &str, report: &ReportBody) -> Result<(), Status> {
    let nodes = row("", "v1", "nodes")?;
    let sent = parse(nodes, &report.body)?;
    let options = options(node);
    let labelled = |old: &Value| {
        let mut object = without_revision(old);
        merge_labels(&mut object, &sent);
        object
    };
    let old = fleet.registry.get(nodes, None, node)?;
    if labelled(&old.value()) != without_revision(&old.value()) {
        let change = |_: &Value, old: &Value| Ok(labelled(old));
        fleet.registry.modify(nodes, None, node, None, &options, change).await?;
    }
    let reported = |old: &Value| {
        let mut object = without_revision(old);
        object["status"] = merge_node_status(&old["status"], &sent["status"]);
        object
    };
    let old = fleet.registry.get(nodes, None, node)?;
    if reported(&old.value()) == without_revision(&old.value()) {
        return Ok(());
    }
    let change = |_: &Value, old: &Value| Ok(reported(old));
    fleet.registry.modify(nodes, None, node, Some("status"), &options, change).await.map(drop)
}

fn merge_labels(object: &mut Value, sent: &Value) {
    let Some(labels) = sent["metadata"]["labels"].as_object() else { return };
    let own: Map<String, Value> = labels
        .iter()
        .filter(|(key, value)| may_label(key) && value.is_string())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(target) = object["metadata"]
        .as_object_mut()
        .and_then(|it| it.entry("labels").or_insert_with(|| json!({})).as_object_mut())
    {
        target.extend(own);
    }
}

/// The node's word counts for what it sends; capacity keys of others (extended resources) stay.
fn merge_node_status(old: &Value, sent: &Value) -> Value {
    let Some(sent) = sent.as_object() else { return old.clone() };
    let Some(old) = old.as_object() else { return Value::Object(sent.clone()) };
    let mut status = old.clone();
    for (field, value) in sent {
        match (field.as_str(), status.get_mut(field).and_then(Value::as_object_mut), value) {
            ("capacity" | "allocatable", Some(target), Value::Object(value)) => {
                target.extend(value.clone());
            }
            ("conditions", ..) => {}
            _ => {
                status.insert(field.clone(), value.clone());
            }
        }
    }
    // Conditions of types that the node does not send are the hub's.
    if sent.contains_key("conditions") {
        status.insert("conditions".to_owned(), sent["conditions"].clone());
        return keep_hub_conditions(Value::Object(status), &Value::Object(old.clone()));
    }
    Value::Object(status)
}

async fn event(fleet: &Fleet, node: &str, report: &ReportBody) -> Result<(), Status> {
    let events = row("", "v1", "events")?;
    let mut event = parse(events, &report.body)?;
    check_own_subject(fleet, &event["involvedObject"], node, report)?;
    event["source"] = json!({"component": "outbye-agent", "host": node});
    let namespace = report.key.namespace.as_str();
    let options = options(node);
    match fleet.registry.create(events, Some(namespace), event.clone(), &options).await {
        // The same event again, with a higher count.
        Err(status) if status.code == 409 => {
            let change = |_: &Value, old: &Value| count_again(old, &event, node);
            let name = event["metadata"]["name"].as_str().unwrap_or_default();
            fleet
                .registry
                .modify(events, Some(namespace), name, None, &options, change)
                .await
                .map(drop)
        }
        other => other.map(drop),
    }
}

/// A node may say something of itself and of its pods; of a pod that is gone nobody knows whose
/// it was.
fn check_own_subject(
    fleet: &Fleet,
    about: &Value,
    node: &str,
    report: &ReportBody,
) -> Result<(), Status> {
    let is_own = match about["kind"].as_str() {
        Some("Node") => about["name"].as_str() == Some(node),
        Some("Pod") if about["namespace"].as_str() == Some(report.key.namespace.as_str()) => {
            let pods = row("", "v1", "pods")?;
            let name = about["name"].as_str().unwrap_or_default();
            match fleet.registry.get(pods, Some(&report.key.namespace), name) {
                Ok(pod) => {
                    let pod = &*pod.value();
                    pod["metadata"]["uid"] != about["uid"] || pod["spec"]["nodeName"] == node
                }
                Err(status) if status.code == 404 => true,
                Err(status) => return Err(status),
            }
        }
        _ => false,
    };
    if is_own {
        return Ok(());
    }
    Err(Status::bad_request("a node may report events of its pods and of itself"))
}

/// What an event of this node becomes when it happens again.
fn count_again(old: &Value, event: &Value, node: &str) -> Result<Value, Status> {
    if old["source"]["host"] != node {
        return Err(Status::bad_request("the event is another's"));
    }
    let mut merged = without_revision(old);
    for field in ["count", "lastTimestamp", "message", "series"] {
        if !event[field].is_null() {
            merged[field] = event[field].clone();
        }
    }
    Ok(merged)
}

/// The pod that the report is about, if it is this node's and still the same one.
fn own_pod(
    fleet: &Fleet,
    node: &str,
    report: &ReportBody,
) -> Result<Arc<hub_storage::Entry>, Status> {
    let pods = row("", "v1", "pods")?;
    let entry = fleet.registry.get(pods, Some(&report.key.namespace), &report.key.name)?;
    check_own_pod(&entry.value(), node, report)?;
    Ok(entry)
}

fn check_own_pod(pod: &Value, node: &str, report: &ReportBody) -> Result<(), Status> {
    let (uid, bound) = (pod["metadata"]["uid"].as_str(), pod["spec"]["nodeName"].as_str());
    if uid == Some(report.uid.as_str()) && bound == Some(node) {
        return Ok(());
    }
    Err(Status::not_found("", "pods", &report.key.name))
}

/// Reads an object as strictly as a client's: one value of a wrong type makes a whole list
/// unreadable for clients that are typed.
fn parse(resource: &Resource, body: &[u8]) -> Result<Value, Status> {
    decode(resource, body, Media::Json, FieldValidation::Ignore).map(|it| it.object)
}

/// Reads what stands alone in a report, as the status of an object.
fn parse_status(resource: &Resource, body: &[u8]) -> Result<Value, Status> {
    let mut object = parse(resource, &[br#"{"status":"#, body, b"}"].concat())?;
    let status = object["status"].take();
    if status.is_null() {
        return Err(Status::bad_request("the report has no status"));
    }
    Ok(status)
}

fn row(group: &str, version: &str, plural: &str) -> Result<&'static Resource, Status> {
    hub_api::resources::find(group, version, plural).ok_or_else(Status::no_such_resource)
}

fn options(node: &str) -> WriteOptions {
    WriteOptions {
        user: Arc::new(User::named(format!("{}{node}", crate::pki::NODE_USER_PREFIX))),
        field_manager: "outbye-agent".to_owned(),
        ..WriteOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use agent_sync::ObjectKey;

    use super::*;
    use crate::fleet::testing::{Hubs, Road};

    #[test]
    fn foreign_capacity_and_conditions_survive_a_report() {
        let (ready, hubs) = (json!({"type": "Ready"}), json!({"type": "DuplicateIdentity"}));
        let old = json!({"capacity": {"cpu": "1", "example.com/gpu": "2"}, "conditions": [hubs]});
        let sent = json!({"capacity": {"cpu": "4"}, "conditions": [ready]});
        assert_eq!(
            merge_node_status(&old, &sent),
            json!({"capacity": {"cpu": "4", "example.com/gpu": "2"}, "conditions": [ready, hubs]})
        );
        let old =
            json!({"conditions": [{"type": "PodScheduled"}, {"type": "Ready", "status": "False"}]});
        let sent = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(
            keep_hub_conditions(sent, &old),
            json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled"}]})
        );
    }

    #[test]
    fn a_report_that_clients_could_not_read_is_refused() {
        let pods = row("", "v1", "pods").unwrap();
        for body in [
            r#"{"conditions": 5}"#,
            r#"{"startTime": "yesterday"}"#,
            r#"{"containerStatuses": [{"restartCount": "many"}]}"#,
            r#""Running""#,
            r#"null"#,
            r#"{"phase": "Running""#,
        ] {
            let status = parse_status(pods, body.as_bytes()).unwrap_err();
            assert!(is_final(&status), "{body}: {status}");
        }
        let good = br#"{"phase": "Running", "notYetInvented": 1}"#;
        assert_eq!(parse_status(pods, good).unwrap(), json!({"phase": "Running"}));
        let nodes = row("", "v1", "nodes").unwrap();
        for body in [r#"{"status": {"capacity": {"cpu": "much"}}}"#, r#"{"status": []}"#, "[]"] {
            assert!(is_final(&parse(nodes, body.as_bytes()).unwrap_err()), "{body}");
        }
    }

    #[test]
    fn a_report_that_never_succeeds_holds_up_the_others_for_a_while_only() {
        let broken = Status::internal("always");
        for (status, n_tries, expect) in [
            (&broken, 1, After::Retry),
            (&broken, MAX_TRIES - 1, After::Retry),
            (&broken, MAX_TRIES, After::Drop),
            (&Status::service_unavailable("full"), 1000, After::Retry),
            (&Status::timeout("request timed out"), 1000, After::Retry),
            (&Status::too_many_requests("busy", 1), 1000, After::Retry),
            (&Status::bad_request("no"), 1, After::Drop),
        ] {
            assert_eq!(after(status, n_tries), expect, "{status} {n_tries}");
        }
    }

    #[tokio::test]
    async fn reports_wait_for_a_store_that_is_full_silent_or_away() {
        let hubs = Hubs::new().await;
        hubs.add_node("n").await;
        let hub = hubs.hub(Some("a"));
        let report = ReportBody {
            kind: ReportKind::NodeStatus,
            key: ObjectKey::new("Node", "", "n"),
            uid: String::new(),
            body: br#"{"metadata": {"labels": {"a": "b"}}, "status": {}}"#.as_slice().into(),
        };
        for (road, says) in [
            (Road::Full, "the store refuses writes: etcdserver: mvcc: database space exceeded"),
            (Road::Slow, "Timeout: etcdserver: request timed out"),
            (Road::Cut, "the store is out of reach, and it is unknown whether this was stored"),
        ] {
            hub.store.set(road);
            let status = apply(&hub.fleet, "n", &report).await.unwrap_err();
            assert!(status.message.starts_with(says), "{road:?}: {status}");
            assert_eq!(after(&status, 1000), After::Retry, "{road:?}: {status}");
        }
        hub.store.set(Road::Open);
        apply(&hub.fleet, "n", &report).await.unwrap();
        let node = hub.fleet.registry.get(row("", "v1", "nodes").unwrap(), None, "n").unwrap();
        assert_eq!(node.value()["metadata"]["labels"]["a"], "b");
    }

    #[test]
    fn a_node_changes_no_event_but_its_own() {
        let old = json!({"source": {"component": "outbye-agent", "host": "n1"}, "count": 1});
        let event = json!({"count": 2, "reason": "Other"});
        assert_eq!(count_again(&old, &event, "n1").unwrap()["count"], 2);
        assert!(is_final(&count_again(&old, &event, "n2").unwrap_err()));
        let scheduler = json!({"source": {"component": "default-scheduler"}});
        assert!(is_final(&count_again(&scheduler, &event, "n2").unwrap_err()));
    }

    #[test]
    fn a_node_cannot_give_itself_restricted_labels() {
        let mut node = json!({"metadata": {"name": "n"}});
        let sent =
            json!({"metadata": {"labels": {"a": "b", "node-restriction.kubernetes.io/x": "y"}}});
        merge_labels(&mut node, &sent);
        assert_eq!(node["metadata"]["labels"], json!({"a": "b"}));
    }
}
