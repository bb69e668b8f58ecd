//! Who is tried, for how long, and what is said of those who are not reached.

use super::*;
use crate::streaming::{NoNodes, NodeStream};
use crate::tls::trusting_client;

/// Nodes that never answer.
struct Silent;

impl NodeStreams for Silent {
    fn open(
        &self,
        _node: &str,
        _request: StreamRequest,
    ) -> futures_util::future::BoxFuture<'_, Result<NodeStream, OpenError>> {
        Box::pin(std::future::pending())
    }
}

fn pod() -> Place {
    let request = StreamRequest {
        pod_namespace: "default".to_owned(),
        pod_name: "p".to_owned(),
        pod_uid: String::new(),
        container: String::new(),
        kind: StreamKind::Connect { port: 8443 },
    };
    Place::Pod { node: "n".to_owned(), request }
}

async fn refusal(nodes: Arc<dyn NodeStreams>, places: &[Place]) -> String {
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let passage = Passage { nodes, tasks, stopping };
    let tls = trusting_client().unwrap();
    let reached = passage.reach(places, &tls, "s", PASSING_CONNECT_TIMEOUT).await;
    reached.map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn who_is_not_reached_is_named_and_only_a_few_are_tried() {
    // Nothing listens on the first port.
    let nobody = || Place::Address("127.0.0.1:1".parse().unwrap());
    let refused = "dial tcp 127.0.0.1:1: connect: connection refused";
    for (places, why) in [
        (vec![], "no endpoints available"),
        (vec![nobody()], refused),
        (vec![nobody(), pod()], "node \"n\" is not connected"),
        (vec![nobody(), nobody(), nobody(), pod()], refused),
    ] {
        assert_eq!(refusal(Arc::new(NoNodes), &places).await, why);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_takes_no_more_time_than_there_is() {
    let places = [pod()];
    let enough = PASSING_CONNECT_TIMEOUT + Duration::from_secs(1);
    let why = tokio::time::timeout(enough, refusal(Arc::new(Silent), &places)).await;
    assert_eq!(why.unwrap(), "dial pod default/p:8443: i/o timeout");
}
