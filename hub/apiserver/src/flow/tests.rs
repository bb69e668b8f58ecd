//! Which level a request gets, and who waits for whom.

use futures_util::future::join_all;
use hub_api::resources::flowcontrol;
use serde_json::json;

use super::schema::What;
use super::*;
use crate::auth::User;

fn objects() -> (Vec<Value>, Vec<Value>) {
    let mut schemas = flowcontrol::mandatory_schemas();
    schemas.extend(flowcontrol::suggested_schemas());
    let mut levels = flowcontrol::mandatory_levels();
    levels.extend(flowcontrol::suggested_levels());
    (schemas, levels)
}

fn flows(schemas: &[Value], levels: &[Value]) -> Flows {
    let (schemas, levels): (Vec<&Value>, Vec<&Value>) =
        (schemas.iter().collect(), levels.iter().collect());
    let config = Config::new(&schemas, &levels, &Config::default());
    Flows { config: RwLock::new(Arc::new(config)) }
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|it| (*it).to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::anonymous() }
}

fn pods<'a>(user: &'a User, verb: &'a str) -> Digest<'a> {
    let what =
        What::Resource { group: "", resource: "pods", subresource: "", namespace: "default" };
    Digest { user, verb, what }
}

#[test]
fn requests_find_the_schema_of_the_lowest_precedence() {
    let (schemas, levels) = objects();
    let flows = flows(&schemas, &levels);
    let config = flows.config.read().unwrap().clone();
    let check = |request: Digest<'_>, expect: &str| {
        let found = config.schemas.iter().find(|it| it.matches(&request));
        assert_eq!(found.map(|it| it.name.as_str()), Some(expect), "{request:?}");
    };
    let all = "system:authenticated";
    check(pods(&user("admin", &["system:masters", all]), "list"), "exempt");
    check(pods(&user("bob", &[all]), "list"), "global-default");
    check(
        pods(&user("system:serviceaccount:team:app", &["system:serviceaccounts", all]), "list"),
        "service-accounts",
    );
    check(pods(&user("system:node:n1", &["system:nodes", all]), "list"), "system-nodes");
    check(
        Digest {
            what: What::Path("/healthz"),
            ..pods(&user("bob", &["system:unauthenticated"]), "get")
        },
        "probes",
    );
    let path = |path| What::Path(path);
    check(
        Digest { what: path("/metrics"), ..pods(&user("bob", &["system:unauthenticated"]), "get") },
        "global-default",
    );
    let lease = What::Resource {
        group: "coordination.k8s.io",
        resource: "leases",
        subresource: "",
        namespace: "kube-system",
    };
    let scheduler = user("system:kube-scheduler", &[all]);
    check(Digest { what: lease, ..pods(&scheduler, "update") }, "system-leader-election");
}

/// One level with a single seat and two short queues, which everybody shares.
fn narrow(response: Value) -> Flows {
    let (mut schemas, mut levels) = objects();
    schemas.retain(|it| it["metadata"]["name"] == "exempt");
    schemas.push(json!({
        "metadata": {"name": "all", "uid": "s"},
        "spec": {
            "matchingPrecedence": 5,
            "priorityLevelConfiguration": {"name": "narrow"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": "*"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            }],
        },
    }));
    levels.retain(|it| it["metadata"]["name"] == "exempt");
    // All others' shares make this one's a single seat.
    levels.push(json!({
        "metadata": {"name": "narrow", "uid": "l"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": response}},
    }));
    levels.push(json!({
        "metadata": {"name": "other"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 100_000}},
    }));
    flows(&schemas, &levels)
}

fn queue(queues: usize, hand: usize, length: usize) -> Value {
    let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": length});
    json!({"type": "Queue", "queuing": queuing})
}

#[tokio::test(start_paused = true)]
async fn a_flood_waits_behind_itself_and_others_pass() {
    let flows = Arc::new(narrow(queue(64, 1, 50)));
    let (flood, other) = (user("flood", &[]), user("other", &[]));
    let first = flows.enter(&pods(&flood, "list")).await.unwrap();
    assert_eq!((first.schema_uid.as_str(), first.level_uid.as_str()), ("s", "l"));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let served = |who: &'static User, n: usize| {
        let (flows, order) = (flows.clone(), order.clone());
        async move {
            let ticket = flows.enter(&pods(who, "list")).await;
            order.lock().unwrap().push((who.name.clone(), n, ticket.is_ok()));
            tokio::task::yield_now().await;
        }
    };
    let (flood, other): (&'static User, &'static User) =
        (Box::leak(Box::new(flood)), Box::leak(Box::new(other)));
    let mut all: Vec<_> = (0..60).map(|n| served(flood, n)).collect();
    all.push(served(other, 0));
    let waiting = join_all(all);
    tokio::pin!(waiting);
    // Everybody stands in a queue now; the seat is free only then.
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    drop(first);
    waiting.await;
    let order = order.lock().unwrap().clone();
    let refused = order.iter().filter(|(_, _, ok)| !ok).count();
    assert_eq!(refused, 10, "the queue of the flood has 50 places");
    let place = order.iter().filter(|(_, _, ok)| *ok).position(|(who, ..)| who == "other");
    assert!(place.is_some_and(|it| it <= 1), "{place:?}: it waits for one turn, not for fifty");
    // Masters wait for nobody.
    let held = flows.enter(&pods(flood, "list")).await.unwrap();
    assert!(flows.enter(&pods(&user("root", &["system:masters"]), "list")).await.is_ok());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_is_told_why_and_leaves_nothing_behind() {
    let who = user("bob", &[]);
    let flows = narrow(json!({"type": "Reject"}));
    let held = flows.enter(&pods(&who, "list")).await.unwrap();
    let refused = flows.enter(&pods(&who, "list")).await.unwrap_err();
    assert_eq!((refused.why, refused.status().code), (Refused::ConcurrencyLimit, 429));
    drop(held);
    assert!(flows.enter(&pods(&who, "list")).await.is_ok());

    let flows = narrow(queue(1, 1, 1));
    let held = flows.enter(&pods(&who, "list")).await.unwrap();
    {
        let request = pods(&who, "list");
        let gone = flows.enter(&request);
        tokio::pin!(gone);
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        assert_eq!(flows.enter(&request).await.unwrap_err().why, Refused::QueueFull);
    }
    // The one that waited has gone: its place is free, until its time is up as well.
    assert_eq!(flows.enter(&pods(&who, "list")).await.unwrap_err().why, Refused::TimeOut);
    drop(held);
    for _ in 0..3 {
        drop(flows.enter(&pods(&who, "list")).await.unwrap());
    }
}
