//! OpenAPI documents of version 2 of the servers: what they say of their group versions becomes part
//! of ours, while they answer. These documents are large: a server is asked for its own when it says
//! something new of itself, and now and then, with the tag of what is known.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use http::StatusCode;
use http::header::ETAG;
use hub_api::openapi::V2Part;

use super::availability::Asked;
use super::{Aggregation, Api, Document};
use crate::limits::{AGGREGATION_DOCUMENT_LIFE, AGGREGATION_DOCUMENT_TIMEOUT, MAX_OPENAPI};
use crate::passing::Passage;
use crate::registry::Registry;

/// Longest tag that is kept.
const MAX_TAG: usize = 256;

/// What a server answered.
#[derive(Debug, Eq, PartialEq)]
enum Answered {
    /// What was known holds.
    Same,
    /// It has this document, of which nothing may be ours.
    New { tag: String, part: Option<V2Part> },
}

impl Aggregation {
    /// Keeps the documents of all servers that answer. Never returns.
    pub(crate) async fn follow_documents(&self, registry: &Registry, passage: &Passage) {
        let mut due = pin!(tokio::time::sleep(AGGREGATION_DOCUMENT_LIFE));
        loop {
            // Both only wait.
            let is_due = tokio::select! {
                () = self.news.notified() => false,
                () = &mut due => true,
            };
            if is_due {
                due.set(tokio::time::sleep(AGGREGATION_DOCUMENT_LIFE));
            }
            let stale = self.take_stale(registry, is_due);
            let asking = stale.iter().map(|(api, tag)| self.learn(registry, passage, api, tag));
            join_all(asking).await;
        }
    }

    /// The servers that should be asked, with the tags of what is known.
    fn take_stale(&self, registry: &Registry, is_due: bool) -> Vec<(Arc<Api>, String)> {
        let mut state = self.follow(&**registry.storage());
        let heard = state.apis.values().filter(|it| state.heard.contains_key(&it.name));
        let heard: Vec<Arc<Api>> = heard.cloned().collect();
        let mut stale = Vec::new();
        for api in heard {
            let unknown = || Document { is_stale: true, tag: String::new(), part: None };
            let document = state.documents.entry(api.name.clone()).or_insert_with(unknown);
            // What is said while it is asked makes it stale again.
            if std::mem::take(&mut document.is_stale) || is_due {
                stale.push((api, document.tag.clone()));
            }
        }
        stale
    }

    async fn learn(&self, registry: &Registry, passage: &Passage, api: &Api, tag: &str) {
        match self.document_of(registry, passage, api, tag).await {
            Ok(answered) => self.keep(api, answered),
            // What is known stays; it is shown while the server is available.
            Err(why) => {
                let api = &*api.name;
                tracing::debug!(api, error = why, "Could not get the OpenAPI document of a server");
            }
        }
    }

    async fn document_of(
        &self,
        registry: &Registry,
        passage: &Passage,
        api: &Api,
        tag: &str,
    ) -> Result<Answered, String> {
        let patience = AGGREGATION_DOCUMENT_TIMEOUT;
        let asked = Asked { path: "/openapi/v2", tag, limit: MAX_OPENAPI, patience };
        let answer = self.ask(registry, passage, api, &asked).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => Ok(Answered::Same),
            StatusCode::OK => {
                let tag = answer.headers().get(ETAG).and_then(|it| it.to_str().ok());
                let tag = tag.filter(|it| it.len() <= MAX_TAG).unwrap_or_default().to_owned();
                let part = V2Part::of(answer.body(), &api.group, &api.version);
                Ok(Answered::New { tag, part })
            }
            // A server without such a document is a server all the same.
            StatusCode::NOT_FOUND => Ok(Answered::New { tag: String::new(), part: None }),
            status => Err(format!("bad status: {}", status.as_u16())),
        }
    }

    fn keep(&self, api: &Api, answered: Answered) {
        let Answered::New { tag, part } = answered else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Without one, the API has gone meanwhile.
        let Some(document) = state.documents.get_mut(&api.name) else { return };
        document.tag = tag;
        if document.part.as_deref() != part.as_ref() {
            document.part = part.map(Arc::new);
            state.change();
        }
    }
}
