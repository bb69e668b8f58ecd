//! Lists: which state they show, pages, and what becomes of them when history is forgotten.

use hub_storage::Revision;
use serde_json::{Value, json};

use crate::harness::{Reply, World};

const CMS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> String {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|it| it["metadata"]["name"].as_str()).collect::<Vec<_>>().join(" ")
}

/// Makes a, b and c, then deletes b. Returns the revisions after each step.
async fn history(world: &mut World) -> Vec<u64> {
    let mut revisions = Vec::new();
    for name in ["a", "b", "c"] {
        let labels = json!({"vowel": (name == "a").to_string()});
        let made = world.post(CMS, &json!({"metadata":{"name":name,"labels":labels}})).await;
        revisions
            .push(made.json()["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap());
    }
    world.send("DELETE", &format!("{CMS}/b"), &[], "").await;
    revisions.push(world.registry.revision().get());
    revisions
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#the-resourceversion-parameter>
#[tokio::test]
async fn a_resource_version_names_a_state_as_its_match_says() {
    let mut world = World::new().await;
    let revisions = history(&mut world).await;
    let (second, third, newest) = (revisions[1], revisions[2], revisions[3]);
    let future = newest + 1000;
    for (query, expect, at) in [
        (String::new(), "a c", newest),
        ("resourceVersion=".into(), "a c", newest),
        ("resourceVersion=0".into(), "a c", newest),
        (format!("resourceVersion={second}"), "a c", newest),
        (format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan"), "a c", newest),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".into(), "a c", newest),
        (format!("resourceVersion={third}&resourceVersionMatch=Exact"), "a b c", third),
        (format!("resourceVersion={second}&resourceVersionMatch=Exact"), "a b", second),
        (format!("resourceVersion={third}&resourceVersionMatch=Exact&limit=2"), "a b", third),
        (format!("resourceVersion={third}&resourceVersionMatch=NotOlderThan&limit=1"), "a", newest),
        // As clients from before the match mean it.
        (format!("resourceVersion={third}&limit=2"), "a b", third),
        (
            format!(
                "resourceVersion={third}&resourceVersionMatch=Exact&labelSelector=vowel%3Dfalse"
            ),
            "b c",
            third,
        ),
    ] {
        let reply = world.get(&format!("{CMS}?{query}")).await;
        assert_eq!(reply.code, 200, "{query}: {:?}", reply.body);
        let list = reply.json();
        assert_eq!(names(&list), expect, "{query}");
        assert_eq!(list["metadata"]["resourceVersion"], at.to_string(), "{query}");
    }
    for (query, code, reason) in [
        (format!("resourceVersion={future}"), 504, "Timeout"),
        (format!("resourceVersion={future}&resourceVersionMatch=Exact"), 504, "Timeout"),
        (format!("resourceVersion={future}&limit=1"), 504, "Timeout"),
        ("resourceVersion=0&resourceVersionMatch=Exact".into(), 422, "Invalid"),
        ("resourceVersionMatch=NotOlderThan".into(), 422, "Invalid"),
        (format!("resourceVersion={third}&resourceVersionMatch=Newer"), 422, "Invalid"),
        ("sendInitialEvents=true".into(), 422, "Invalid"),
        ("resourceVersion=x".into(), 400, "BadRequest"),
        ("limit=x".into(), 400, "BadRequest"),
    ] {
        let reply = world.get(&format!("{CMS}?{query}")).await;
        assert_eq!((reply.code, reply.json()["reason"].as_str()), (code, Some(reason)), "{query}");
    }
    world.stop().await;
}

async fn page(world: &mut World, query: &str) -> Reply {
    world.get(&format!("{CMS}?limit=1&{query}")).await
}

fn token(metadata: &Value) -> String {
    metadata["continue"].as_str().unwrap_or_else(|| panic!("no token in {metadata}")).to_owned()
}

#[tokio::test]
async fn a_forgotten_page_comes_with_a_token_for_the_present() {
    let mut world = World::new().await;
    for name in ["a", "b", "d"] {
        world.post(CMS, &json!({"metadata":{"name":name}})).await;
    }
    let first = page(&mut world, "").await.json();
    let old = token(&first["metadata"]);
    for (query, code) in [("resourceVersion=1", 400), ("resourceVersion=0", 200)] {
        let reply = page(&mut world, &format!("{query}&continue={old}")).await;
        assert_eq!(reply.code, code, "{query}");
    }
    world.send("DELETE", &format!("{CMS}/b"), &[], "").await;
    world.post(CMS, &json!({"metadata":{"name":"c"}})).await;
    let now = world.registry.revision();
    world.registry.storage().compact(now);

    let gone = page(&mut world, &format!("continue={old}")).await;
    let status = gone.json();
    assert_eq!((gone.code, &status["reason"]), (410, &json!("Expired")));
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("The provided continue parameter is too old")
    );
    let fresh = token(&status["metadata"]);
    let rest = page(&mut world, &format!("continue={fresh}")).await.json();
    assert_eq!((names(&rest).as_str(), &rest["metadata"]["remainingItemCount"]), ("c", &json!(1)));
    assert_eq!(rest["metadata"]["resourceVersion"], now.to_string());
    // From here on it is one state again.
    world.send("DELETE", &format!("{CMS}/d"), &[], "").await;
    let last = page(&mut world, &format!("continue={}", token(&rest["metadata"]))).await.json();
    assert_eq!(names(&last), "d");

    let exact = format!("resourceVersion={}&resourceVersionMatch=Exact", now.get() - 1);
    let status = world.get(&format!("{CMS}?{exact}")).await.json();
    assert_eq!(
        (status["code"].as_u64(), status["message"].as_str()),
        (Some(410), Some("The resourceVersion for the provided list is too old."))
    );
    assert!(world.registry.revision() > Revision::new(1));
    world.stop().await;
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let mut world = World::new().await;
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        world.post(CMS, &json!({"metadata":{"name":name,"labels":{"team":team}}})).await;
    }
    for (query, deleted, left) in [
        ("labelSelector=team%3Dx&dryRun=All", "a c d", "a b c d"),
        ("labelSelector=team%3Dx&limit=2", "a c", "b d"),
        ("fieldSelector=metadata.name%3Dd", "d", "b"),
        ("labelSelector=team%3Dz", "", "b"),
        ("", "b kube-root-ca.crt", ""),
    ] {
        let reply = world.send("DELETE", &format!("{CMS}?{query}"), &[], "").await;
        assert_eq!(reply.code, 200, "{query}");
        let list = reply.json();
        let deleted = deleted.strip_suffix(" kube-root-ca.crt").unwrap_or(deleted);
        assert_eq!(
            (list["kind"].as_str(), names(&list).as_str()),
            (Some("ConfigMapList"), deleted)
        );
        assert_eq!(names(&world.get(CMS).await.json()), left, "{query}");
    }
    world.stop().await;
}
