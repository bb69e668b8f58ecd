//! Who gets in.

use crate::harness::World;

#[tokio::test]
async fn certificates_and_tokens_decide() {
    let mut world = World::new().await;
    for (authorization, path, code) in [
        ("", "/version", 200),
        ("", "/readyz", 200),
        ("", "/api", 401),
        ("", "/api/v1/pods", 401),
        ("Bearer wrong", "/version", 401),
        ("Bearer guest", "/api", 200),
        ("Bearer guest", "/metrics", 403),
        ("Bearer guest", "/api/v1/pods", 403),
        ("Bearer boss", "/api/v1/pods", 200),
        ("Bearer boss", "/metrics", 200),
    ] {
        let reply = world.send("GET", path, &[("authorization", authorization)], "").await;
        assert_eq!(reply.code, code, "{authorization} {path}");
    }
    let path = "/api/v1/namespaces/default/pods";
    assert_eq!(world.get_h2(path, ("root", "system:masters")).await.code, 200);
    let refused = world.get_h2(path, ("jane", "dev")).await;
    assert_eq!(
        refused.json()["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    world.stop().await;
}

#[tokio::test]
async fn masters_may_act_as_others_and_nobody_else_may() {
    let mut world = World::new().await;
    for (authorization, code, message) in [
        (
            "Bearer boss",
            403,
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
        ),
        (
            "Bearer guest",
            403,
            "users \"jane\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
    ] {
        let headers = [("authorization", authorization), ("impersonate-user", "jane")];
        let reply = world.send("GET", "/api/v1/pods", &headers, "").await;
        assert_eq!((reply.code, reply.json()["message"].as_str()), (code, Some(message)));
    }
    world.stop().await;
}
