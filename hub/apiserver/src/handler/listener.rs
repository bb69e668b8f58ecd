//! Tells the audit log of one request.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderValue, Request};
use hub_api::Status;

use super::Shared;
use crate::audit::{Audit, Noted, Outcome, Seen};
use crate::registry::Registry;
use crate::request::body::RequestBody;
use crate::response::{self, Answer};
use crate::server::Peer;

/// What is kept of a request for the audit log until it is answered.
pub(super) struct Listener {
    audit: Arc<Audit>,
    registry: Registry,
    id: String,
    uri: String,
    source: String,
    agent: String,
    method: String,
}

impl Listener {
    /// Nothing if there is no audit log.
    pub(super) fn new(
        shared: &Shared,
        peer: &Peer,
        request: &Request<RequestBody>,
        id: &HeaderValue,
    ) -> Option<Self> {
        let agent = request.headers().get(USER_AGENT).and_then(|it| it.to_str().ok());
        Some(Self {
            audit: shared.audit.clone()?,
            registry: shared.registry.clone(),
            id: id.to_str().unwrap_or_default().to_owned(),
            uri: request.uri().to_string(),
            source: peer.address.ip().to_string(),
            agent: agent.unwrap_or_default().to_owned(),
            method: request.method().as_str().to_owned(),
        })
    }

    /// Serves the request while what is found out about it is noted.
    pub(super) async fn listen<F: Future>(&self, service: F) -> (F::Output, Option<Noted>) {
        let seen = Seen {
            id: &self.id,
            uri: &self.uri,
            source: &self.source,
            agent: &self.agent,
            method: &self.method,
            now: self.registry.now(),
        };
        let (served, noted) = self.audit.scope(seen, service).await;
        (served, Some(noted))
    }

    /// Tells how the request ended.
    pub(super) async fn tell(
        &self,
        noted: &Noted,
        answer: &mut Answer,
        refused: Option<&Status>,
        panicked: bool,
    ) {
        let body = if noted.wants_answer() { response::copy_body(answer).await } else { None };
        let code = answer.status().as_u16();
        let outcome = Outcome { code, status: refused, panicked, now: self.registry.now() };
        self.audit.finish(noted, outcome, body.as_ref()).await;
    }
}
