//! `metrics.k8s.io`: what nodes and pods use, measured at the moment of the request.
//! Words and omissions are those of metrics-server.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use http::header::ACCEPT;
use hub_api::{Resource, Status, object, resources, usage};
use serde_json::Value;

use super::render::View;
use super::{Call, options};
use crate::registry::{ListOptions, Selection};
use crate::request::accept::{Answer as Wanted, negotiate};
use crate::response::{self, Answer};
use crate::usage::NodeUsage;

/// What nodes said, by their names.
type Said = BTreeMap<String, Arc<NodeUsage>>;

/// Answers `get` and `list`.
pub(super) async fn serve(call: &Call) -> Result<Answer, Status> {
    let view = View::new(call, negotiate(call.header(ACCEPT), Wanted::Objects)?)?;
    let now = call.shared.registry.now();
    let body = match call.verb {
        "get" => {
            let made = one(call).await?;
            view.values(&call.resource, &[made], true, now)
        }
        "list" => {
            let selection = options::list(call)?.selection;
            let made = all(call, &selection).await?;
            view.values(&call.resource, &made, false, now)
        }
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(response::ready(StatusCode::OK, response::JSON, body))
}

fn is_of_nodes(call: &Call) -> bool {
    !call.resource.namespaced
}

/// The row of what is measured.
fn measured(call: &Call) -> Result<&'static Resource, Status> {
    let plural = if is_of_nodes(call) { "nodes" } else { "pods" };
    resources::find("", "v1", plural).ok_or_else(Status::no_such_resource)
}

/// A pod uses something only on a node.
fn node_of<'a>(call: &Call, of: &'a Value) -> &'a str {
    if is_of_nodes(call) { object::name(of) } else { object::text(of, "spec.nodeName") }
}

async fn one(call: &Call) -> Result<Value, Status> {
    let (resource, namespace, name) = (measured(call)?, call.namespace(), call.name());
    let full = match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    let found = call.shared.registry.get(resource, namespace, name);
    let found = found.map_err(|_| Status::not_found("", &resource.plural, &full))?;
    let found = found.value();
    let said = ask(call, [node_of(call, &found)]).await;
    make(call, &said, &found).ok_or_else(|| {
        let kind = call.resource.kind.to_lowercase();
        Status::not_found(&call.resource.group, &kind, &full)
    })
}

async fn all(call: &Call, selection: &Selection) -> Result<Vec<Value>, Status> {
    let resource = measured(call)?;
    let options = ListOptions::default();
    let list = call.shared.registry.list(resource, call.namespace(), &options)?;
    let wanted: Vec<Arc<Value>> =
        list.entries.iter().map(|it| it.value()).filter(|it| selection.matches(it)).collect();
    let mut nodes: Vec<&str> = wanted.iter().map(|it| node_of(call, it)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let said = ask(call, nodes).await;
    Ok(wanted.iter().filter_map(|it| make(call, &said, it)).collect())
}

async fn ask<'a>(call: &Call, nodes: impl IntoIterator<Item = &'a str>) -> Said {
    let registry = call.shared.registry.clone();
    let nodes = nodes.into_iter().filter(|it| !it.is_empty());
    call.shared.usage.ask(&*call.shared.nodes, nodes, &move || registry.now()).await
}

/// `None` if nothing was said of it.
fn make(call: &Call, said: &Said, of: &Value) -> Option<Value> {
    let node = said.get(node_of(call, of))?;
    let now = call.shared.registry.now();
    if is_of_nodes(call) {
        return Some(usage::of_node(of, node.machine?, node.at, now));
    }
    let runs = object::text(of, "status.phase") == "Running";
    let containers = node.of_pod(of).filter(|_| runs)?;
    Some(usage::of_pod(of, &containers, node.at, now))
}
