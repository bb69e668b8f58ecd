//! Answers what a node asks on streams of its own: tokens for its pods.
//!
//! One request at a time: a node that floods waits for itself.

use std::{sync::Arc, time::Duration};

use agent_sync::token::{self, NodeRequest, TokenGrant, TokenOrder};
use hub_apiserver::auth::PodTokenOrder;
use quinn::{Connection, RecvStream, SendStream};

use super::Fleet;

/// From the stream to its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the connection ends.
pub(super) async fn serve(fleet: &Arc<Fleet>, node: &str, connection: &Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        match tokio::time::timeout(TIMEOUT, answer(fleet, node, send, recv)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => tracing::warn!(node, reason, "Could not answer a node"),
            Err(_elapsed) => tracing::debug!(node, "A node was too slow to ask"),
        }
    }
}

async fn answer(
    fleet: &Arc<Fleet>,
    node: &str,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), String> {
    let bytes = recv.read_to_end(token::MAX_REQUEST).await.map_err(|err| crate::chain(&err))?;
    let NodeRequest::Tokens(orders) =
        token::decode_request(&bytes).map_err(|err| crate::chain(&err))?;
    let mut grants = Vec::with_capacity(orders.len());
    for order in &orders {
        grants.push(grant(fleet, node, order).await);
        // A signature takes its time; other nodes are not to wait for all of them.
        tokio::task::yield_now().await;
    }
    send.write_all(&token::encode_answer(&grants)).await.map_err(|err| crate::chain(&err))?;
    send.finish().map_err(|err| crate::chain(&err))
}

async fn grant(fleet: &Fleet, node: &str, order: &TokenOrder) -> TokenGrant {
    let wanted = PodTokenOrder {
        namespace: &order.namespace,
        pod: &order.pod,
        uid: &order.uid,
        audience: &order.audience,
        expiration_seconds: order.expiration_seconds,
    };
    match fleet.tokens.for_pod(&fleet.registry, node, wanted).await {
        Ok(made) => TokenGrant::Granted { token: made.token, life_seconds: made.life_seconds },
        Err(status) => {
            tracing::debug!(node, pod = order.pod, error = %status, "Refused a pod's token");
            TokenGrant::Refused { code: status.code, message: status.to_string() }
        }
    }
}
