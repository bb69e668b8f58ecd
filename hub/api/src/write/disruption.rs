//! What an eviction costs a PodDisruptionBudget, and what it leaves on the pod.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object;
use crate::selector::LabelSelector;
use crate::status::{Cause, Details, Status};
use crate::time;

/// Evictions that may wait to be confirmed by the controller.
const MAX_DISRUPTED: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const SEVERAL: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// Whether the pod may go whatever its budgets say: it does not run, or not any more.
pub fn needs_no_budget(pod: &Value) -> bool {
    object::is_terminating(pod)
        || matches!(object::text(pod, "status.phase"), "Failed" | "Pending" | "Succeeded")
}

/// The budget that guards the pod, among those of its namespace.
///
/// # Errors
/// Several do.
pub fn budget_of<'a>(
    pod: &Value,
    budgets: impl IntoIterator<Item = &'a Value>,
) -> Result<Option<&'a Value>, Status> {
    let labels = object::labels(pod);
    if labels.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(None);
    }
    let guards = |budget: &&Value| {
        let selector = object::get(budget, "spec.selector");
        let selector = selector.and_then(|it| LabelSelector::from_value(it).ok());
        selector.is_some_and(|it| it.matches(labels))
    };
    let mut guards = budgets.into_iter().filter(guards);
    let first = guards.next();
    if guards.next().is_some() {
        let mut refusal = Status::internal("");
        refusal.reason = Cow::Borrowed("");
        refusal.message = SEVERAL.to_owned();
        refusal.details = None;
        return Err(refusal);
    }
    Ok(first)
}

/// Whether the pod may go without its budget paying: it is unwell, and nobody needs it.
pub fn is_free(pod: &Value, budget: &Value) -> bool {
    let mut conditions = object::list(pod, "status.conditions").iter();
    let ready = conditions.find(|it| it["type"] == "Ready");
    if ready.is_some_and(|it| it["status"] == "True") {
        return false;
    }
    let count = |field: &str| object::int(&budget["status"], field).unwrap_or(0);
    object::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0
}

/// The budget after it paid for the eviction of `pod`.
///
/// # Errors
/// 429 if it cannot, or if its controller has not looked at it yet.
pub fn pay(budget: &Value, pod: &str, now: Timestamp) -> Result<Value, Status> {
    let name = object::name(budget);
    let count = |path: &str| object::int(budget, path).unwrap_or(0);
    if count("status.observedGeneration") < count("metadata.generation") {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why, Some(10)));
    }
    let allowed = count("status.disruptionsAllowed");
    let forbidden = |why: &str| Status::forbidden("policy", "poddisruptionbudget", name, why);
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if object::entries(budget, "status.disruptedPods").count() > MAX_DISRUPTED {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("status.desiredHealthy"),
            count("status.currentHealthy")
        );
        return Err(refused(why, None));
    }
    let mut next = budget.clone();
    let status = object::ensure(&mut next, "status");
    status.insert("disruptionsAllowed".to_owned(), json!(allowed - 1));
    let disrupted = object::as_map(status.entry("disruptedPods").or_insert(Value::Null));
    disrupted.insert(pod.to_owned(), json!(time::format(now)));
    if allowed == 1 {
        let observed = status.get("observedGeneration").cloned();
        let mut condition = json!({
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "lastTransitionTime": time::format(now),
        });
        if let Some(generation) = observed {
            condition["observedGeneration"] = generation;
        }
        set_condition(&mut next, condition);
    }
    Ok(next)
}

/// The pod with the word that it is being evicted.
pub fn say_evicted(pod: &Value, now: Timestamp) -> Value {
    let mut next = pod.clone();
    set_condition(
        &mut next,
        json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": time::format(now),
        }),
    );
    next
}

fn set_condition(object: &mut Value, mut new: Value) {
    let status = object::ensure(object, "status");
    let slot = status.entry("conditions").or_insert(Value::Null);
    if !slot.is_array() {
        *slot = json!([]);
    }
    let Some(list) = slot.as_array_mut() else { return };
    match list.iter_mut().find(|it| it["type"] == new["type"]) {
        Some(old) => {
            if old["status"] == new["status"] {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = new;
        }
        None => list.push(new),
    }
}

fn refused(why: String, retry_after_seconds: Option<u32>) -> Status {
    Status::too_many_requests(REFUSED, 0).with_details(Details {
        causes: vec![Cause {
            reason: Cow::Borrowed("DisruptionBudget"),
            message: why,
            field: String::new(),
        }],
        retry_after_seconds,
        ..Details::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T08:00:00Z".parse().unwrap()
    }

    fn budget(status: Value) -> Value {
        json!({
            "metadata": {"name": "b", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": status,
        })
    }

    #[test]
    fn a_budget_pays_until_it_has_nothing_left() {
        let rich = budget(
            json!({"observedGeneration": 2, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3}),
        );
        let paid = pay(&rich, "p", now()).unwrap();
        assert_eq!(paid["status"]["disruptionsAllowed"], 0);
        assert_eq!(paid["status"]["disruptedPods"]["p"], "2026-11-20T08:00:00Z");
        assert_eq!(paid["status"]["conditions"][0]["reason"], "InsufficientPods");
        let refused = pay(&paid, "q", now()).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (429, REFUSED));
        let details = refused.details.unwrap();
        assert_eq!(details.causes[0].reason, "DisruptionBudget");
        assert_eq!(
            details.causes[0].message,
            "The disruption budget b needs 2 healthy pods and has 3 currently"
        );
        assert_eq!(details.retry_after_seconds, None);
    }

    #[test]
    fn a_budget_that_was_not_looked_at_refuses() {
        let new = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 5}));
        let details = pay(&new, "p", now()).unwrap_err().details.unwrap();
        assert_eq!(details.retry_after_seconds, Some(10));
        assert_eq!(
            details.causes[0].message,
            "The disruption budget b is still being processed by the server."
        );
    }

    #[test]
    fn pods_find_their_budget() {
        let pod = |labels: Value| json!({"metadata": {"name": "p", "labels": labels}});
        let web = budget(json!({}));
        let mut all = web.clone();
        all["spec"]["selector"] = json!({});
        let mut none = web.clone();
        none["spec"] = json!({});
        let pod = |app: &str| pod(json!({"app": app}));
        assert_eq!(budget_of(&pod("web"), [&web, &none]).unwrap(), Some(&web));
        assert_eq!(budget_of(&pod("db"), [&web, &none]).unwrap(), None);
        assert_eq!(budget_of(&pod("db"), [&all]).unwrap(), Some(&all));
        let several = budget_of(&pod("web"), [&web, &all]).unwrap_err();
        assert_eq!((several.code, several.message.as_str()), (500, SEVERAL));
        let unlabelled = json!({"metadata": {"name": "p"}});
        assert_eq!(budget_of(&unlabelled, [&all]).unwrap(), None);
    }

    #[test]
    fn unwell_pods_go_free_where_enough_are_well() {
        let pod = |ready: &str| json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        let with = |policy: &str, current: i64, desired: i64| {
            let mut it = budget(json!({"currentHealthy": current, "desiredHealthy": desired}));
            it["spec"]["unhealthyPodEvictionPolicy"] = json!(policy);
            it
        };
        for (pod, budget, free) in [
            (pod("True"), with("AlwaysAllow", 5, 1), false),
            (pod("False"), with("AlwaysAllow", 0, 1), true),
            (pod("False"), with("IfHealthyBudget", 0, 1), false),
            (pod("False"), with("IfHealthyBudget", 1, 1), true),
            (pod("False"), with("", 0, 0), false),
        ] {
            assert_eq!(is_free(&pod, &budget), free, "{budget}");
        }
    }
}
