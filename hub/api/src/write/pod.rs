//! Writes that only pods have: binding to a node, ephemeral containers, new resources.

use serde_json::{Value, json};

use super::create::invalid_unless_empty;
use super::update::keep_metadata;
use super::{WriteContext, strip_server_fields};
use crate::object;
use crate::status::Status;
use crate::time;
use crate::validation;

/// Assigns a pod to a node. Done once in a pod's life.
pub fn bind(pod: &Value, node: &str, context: &WriteContext<'_>) -> Result<Value, Status> {
    let name = object::name(pod);
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, &why));
    if object::is_terminating(pod) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let bound = object::text(pod, "spec.nodeName");
    if !bound.is_empty() {
        return refuse(format!("pod {name} is already assigned to node \"{bound}\""));
    }
    if !object::list(pod, "spec.schedulingGates").is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut out = pod.clone();
    strip_server_fields(&mut out);
    object::ensure(&mut out, "spec").insert("nodeName".to_owned(), json!(node));
    let generation = object::int(&out, "metadata.generation").unwrap_or(1);
    out["metadata"]["generation"] = json!(generation.saturating_add(1));
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time::format(context.now),
    });
    let status = object::ensure(&mut out, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|it| object::text(it, "type") != "PodScheduled");
        conditions.push(scheduled);
    }
    Ok(out)
}

/// Takes the resources of the new pod's containers, all else stays.
pub fn resize(mut new: Value, old: &Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    context.resource.strategy.default(&mut new);
    let mut out = old.clone();
    strip_server_fields(&mut out);
    for list in ["containers", "initContainers"] {
        let wanted = object::list(&new["spec"], list);
        for container in object::items_mut(&mut out["spec"], list) {
            let same_name =
                |it: &&Value| object::text(it, "name") == object::text(container, "name");
            let resources = wanted.iter().find(same_name).and_then(|it| it.get("resources"));
            let Some(resources) = resources.cloned() else { continue };
            object::as_map(container).insert("resources".to_owned(), resources);
        }
    }
    count_change(&mut out, old);
    let errors = validation::pod::resize(&out, old);
    invalid_unless_empty(context, &out, errors)?;
    Ok(out)
}

fn count_change(new: &mut Value, old: &Value) {
    if new["spec"] != old["spec"] {
        let generation = object::int(new, "metadata.generation").unwrap_or(1);
        new["metadata"]["generation"] = json!(generation.saturating_add(1));
    }
}

/// Takes `spec.ephemeralContainers` of the new pod; containers may be added, never changed.
pub fn update_ephemeral_containers(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    context.resource.strategy.default(&mut new);
    let wanted = object::get(&new, "spec.ephemeralContainers").cloned();
    let mut out = old.clone();
    strip_server_fields(&mut out);
    let spec = object::ensure(&mut out, "spec");
    match wanted {
        Some(containers) => spec.insert("ephemeralContainers".to_owned(), containers),
        None => spec.remove("ephemeralContainers"),
    };
    count_change(&mut out, old);
    let errors = validation::pod::ephemeral_containers_update(&out, old);
    invalid_unless_empty(context, &out, errors)?;
    Ok(out)
}
