//! Streams from the API server to a container: exec, attach, logs.

use std::{sync::Arc, time::Duration};

use agent_sync::stream::{StreamRequest, encode_request};
use futures_util::future::BoxFuture;
use hub_apiserver::{NodeStream, NodeStreams, OpenError};

use super::Fleet;

/// A node that does not take a stream in this time is treated as unreachable.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens streams on the nodes' connections.
#[derive(Clone, Debug)]
pub struct FleetStreams(pub Arc<Fleet>);

impl NodeStreams for FleetStreams {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let unreachable = || OpenError::NotConnected { node: node.clone() };
            let connection = {
                let state = self.0.lock();
                state.sessions.get(&node).map(|it| it.connection.clone())
            }
            .ok_or_else(unreachable)?;
            let opened = tokio::time::timeout(OPEN_TIMEOUT, async {
                let (mut send, recv) = connection.open_bi().await.ok()?;
                send.write_all(&encode_request(&request)).await.ok()?;
                Some((send, recv))
            })
            .await;
            let (send, recv) = opened.ok().flatten().ok_or_else(unreachable)?;
            Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) })
        })
    }
}
