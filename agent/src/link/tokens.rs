//! Gets tokens for pods from the hub, on streams of the session's connection.
//!
//! The first ones come before the pod itself is kept: a pod that this node knows has what it needs
//! to start. Later ones come when the old are at four fifths of their life, or a day old.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_core::{ids::PodUid, token as rules};
use agent_sync::{
    Change, ObjectKey,
    token::{self, NodeRequest, TokenGrant, TokenOrder},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use quinn::Connection;

use super::LinkConfig;
use crate::{
    clock,
    desired::{Body, DesiredObjects},
    tokens::{PodToken, Tokens},
};

/// Tokens in one request: on a slow link, too, it is over soon.
const AT_ONCE: usize = 32;
/// A hub that does not answer in this time, and as much more for each token as it takes on a link
/// of 32 kbit/s, is asked again later; what it sent meanwhile is kept without tokens.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_EACH: Duration = Duration::from_millis(500);
/// A refusal is followed by another try after this long, doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Time of day may jump: what is due is looked for at least so often.
const LOOK: Duration = Duration::from_secs(600);
/// And at most so often, whatever changes.
const REST: Duration = Duration::from_secs(1);

/// Tokens could not be got.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("could not ask the hub for tokens")]
    Open(#[source] quinn::ConnectionError),
    #[error("could not ask the hub for tokens")]
    Write(#[source] quinn::WriteError),
    #[error("could not read the hub's tokens")]
    Read(#[source] quinn::ReadToEndError),
    #[error("could not use the hub's tokens")]
    Decode(#[source] agent_sync::FrameError),
    #[error("the hub gave no tokens within {patience:?}")]
    Timeout { patience: Duration },
    #[error("the hub does not take the request")]
    Closed,
}

/// The tokens that come with these changes. A pod whose token the hub does not give is kept
/// without: it starts, and the token follows.
pub(super) async fn first(
    config: &LinkConfig,
    connection: &Connection,
    changes: &[Change],
    answers: &mut bool,
) -> Result<Vec<PodToken>, String> {
    let view = config.desired.snapshot();
    let orders: Vec<(PodUid, TokenOrder)> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Upsert { key, body, .. } if key.kind == "Pod" => {
                serde_json::from_slice::<Pod>(body).ok()
            }
            Change::Upsert { .. } | Change::Delete { .. } => None,
        })
        .flat_map(|pod| orders_of(&pod))
        .filter(|(uid, order)| view.tokens.find(uid, &name_of(order)).is_none())
        .collect();
    let mut tokens = Vec::new();
    for part in orders.chunks(AT_ONCE) {
        // Who did not answer once is not waited for again on this connection.
        if !*answers {
            break;
        }
        match fetch(config, connection, part).await {
            Ok(outcome) => {
                for (order, message) in &outcome.refused {
                    let (namespace, pod) = (&order.namespace, &order.pod);
                    tracing::warn!(namespace, pod, error = message, "The hub gave a pod no token");
                }
                tokens.extend(outcome.tokens);
            }
            // Nothing of these changes is kept: they come again with the next session.
            Err(err) if connection.close_reason().is_some() => return Err(crate::chain(&err)),
            Err(err) => {
                tracing::warn!(error = crate::chain(&err), "Took pods without their tokens");
                *answers = false;
            }
        }
    }
    Ok(tokens)
}

/// Keeps the tokens of all pods young until the connection ends.
pub(super) async fn renew(config: &LinkConfig, connection: &Connection) -> String {
    let mut generation_rx = config.desired.subscribe();
    let mut refused: BTreeMap<TokenOrder, (u32, Duration)> = BTreeMap::new();
    let mut pods = Pods::default();
    loop {
        generation_rx.borrow_and_update();
        pods.update(&config.desired.snapshot());
        let (mut orders, next) = due(config, &pods, &mut refused);
        orders.truncate(AT_ONCE);
        if !orders.is_empty() {
            match fetch(config, connection, &orders).await {
                Ok(outcome) => {
                    for (order, message) in outcome.refused {
                        let (namespace, pod) = (&order.namespace, &order.pod);
                        tracing::debug!(namespace, pod, error = message, "No token for a pod");
                        postpone(&mut refused, order);
                    }
                    if let Err(err) = config.desired.keep_tokens(outcome.tokens).await {
                        return crate::chain(&err);
                    }
                }
                Err(err) if connection.close_reason().is_some() => return crate::chain(&err),
                Err(err) => {
                    tracing::debug!(error = crate::chain(&err), "Could not renew tokens");
                    orders.into_iter().for_each(|(_, order)| postpone(&mut refused, order));
                }
            }
            continue;
        }
        // Both arms are cancel-safe.
        tokio::select! {
            changed = generation_rx.changed() => {
                if changed.is_err() {
                    return "the desired objects are closed".to_owned();
                }
            }
            () = tokio::time::sleep(next) => {}
        }
        tokio::time::sleep(REST).await;
    }
}

/// The tokens that pods name; read anew only where a pod changed.
#[derive(Debug, Default)]
struct Pods(BTreeMap<ObjectKey, (Arc<Body>, Orders)>);

type Orders = Vec<(PodUid, TokenOrder)>;

impl Pods {
    fn update(&mut self, view: &DesiredObjects) {
        let mut before = std::mem::take(&mut self.0);
        for (key, object) in view.of_kind("Pod") {
            let known = before.remove(key).filter(|(body, _)| Arc::ptr_eq(body, &object.body));
            let orders = match known {
                Some((_, orders)) => orders,
                None => object.body.parse::<Pod>().map(|it| orders_of(&it)).unwrap_or_default(),
            };
            self.0.insert(key.clone(), (Arc::clone(&object.body), orders));
        }
    }

    fn orders(&self) -> impl Iterator<Item = &(PodUid, TokenOrder)> {
        self.0.values().flat_map(|(_, orders)| orders)
    }
}

fn postpone(refused: &mut BTreeMap<TokenOrder, (u32, Duration)>, order: TokenOrder) {
    let entry = refused.entry(order).or_default();
    entry.0 = entry.0.saturating_add(1);
    let pause = MIN_PAUSE.saturating_mul(1 << entry.0.saturating_sub(1).min(16)).min(MAX_PAUSE);
    entry.1 = clock::monotonic() + pause;
}

/// What is missing or due now, and when to look again.
fn due(
    config: &LinkConfig,
    pods: &Pods,
    refused: &mut BTreeMap<TokenOrder, (u32, Duration)>,
) -> (Vec<(PodUid, TokenOrder)>, Duration) {
    let view = config.desired.snapshot();
    let ended = (config.ended)();
    let (now, instant) = (config.clock.now(), clock::monotonic());
    let all: Vec<&(PodUid, TokenOrder)> =
        pods.orders().filter(|(uid, _)| !ended.contains(uid)).collect();
    refused.retain(|order, _| all.iter().any(|(_, it)| it == order));
    // One that is due takes those along that soon will be.
    let is_urgent =
        all.iter().any(|(uid, order)| is_missing_or_over(&view.tokens, uid, order, now));
    let mut next = LOOK;
    let mut orders = Vec::new();
    for (uid, order) in all {
        let held = view.tokens.find(uid, &name_of(order));
        if let Some((_, until)) = refused.get(order)
            && *until > instant
        {
            next = next.min(until.saturating_sub(instant));
        } else if is_urgent && held.is_none_or(|it| it.is_due(now)) {
            orders.push((*uid, order.clone()));
        } else if let Some(held) = held {
            let left = Duration::try_from(held.renewal().duration_since(now)).unwrap_or_default();
            next = next.min(left.max(MIN_PAUSE));
        }
    }
    (orders, next)
}

fn is_missing_or_over(tokens: &Tokens, uid: &PodUid, order: &TokenOrder, now: Timestamp) -> bool {
    let held = tokens.find(uid, &name_of(order));
    held.is_none_or(|it| it.renewal() <= now || it.since > now)
}

/// All tokens that a pod names.
fn orders_of(pod: &Pod) -> Vec<(PodUid, TokenOrder)> {
    let meta = &pod.metadata;
    let (Some(spec), Some(namespace), Some(name), Some(text)) =
        (&pod.spec, &meta.namespace, &meta.name, &meta.uid)
    else {
        return Vec::new();
    };
    let Ok(uid) = text.parse::<PodUid>() else { return Vec::new() };
    let order = |it: rules::TokenName| TokenOrder {
        namespace: namespace.clone(),
        pod: name.clone(),
        uid: text.clone(),
        audience: it.audience,
        expiration_seconds: it.seconds,
    };
    rules::wanted(spec).into_iter().map(|it| (uid, order(it))).collect()
}

fn name_of(order: &TokenOrder) -> rules::TokenName {
    rules::TokenName { audience: order.audience.clone(), seconds: order.expiration_seconds }
}

/// What the hub gave, and what not.
#[derive(Debug, Default)]
struct Outcome {
    tokens: Vec<PodToken>,
    refused: Vec<(TokenOrder, String)>,
}

async fn fetch(
    config: &LinkConfig,
    connection: &Connection,
    orders: &[(PodUid, TokenOrder)],
) -> Result<Outcome, FetchError> {
    let mut outcome = Outcome::default();
    let asked: Vec<TokenOrder> = orders.iter().map(|(_, order)| order.clone()).collect();
    let each = PATIENCE_EACH.saturating_mul(u32::try_from(asked.len()).unwrap_or(u32::MAX));
    let patience = PATIENCE + each;
    let grants = tokio::time::timeout(patience, ask(connection, asked))
        .await
        .map_err(|_elapsed| FetchError::Timeout { patience })??;
    let since = config.clock.now();
    for ((uid, order), grant) in orders.iter().zip(grants) {
        match grant {
            TokenGrant::Granted { token, life_seconds } => outcome.tokens.push(PodToken {
                uid: *uid,
                name: name_of(order),
                token: token.into(),
                since,
                life: SignedDuration::from_secs(life_seconds.max(0)),
            }),
            TokenGrant::Refused { message, .. } => {
                outcome.refused.push((order.clone(), message));
            }
        }
    }
    Ok(outcome)
}

async fn ask(
    connection: &Connection,
    orders: Vec<TokenOrder>,
) -> Result<Vec<TokenGrant>, FetchError> {
    let n_orders = orders.len();
    let (mut send, mut recv) = connection.open_bi().await.map_err(FetchError::Open)?;
    let request = token::encode_request(&NodeRequest::Tokens(orders));
    send.write_all(&request).await.map_err(FetchError::Write)?;
    send.finish().map_err(|_closed| FetchError::Closed)?;
    let answer = recv.read_to_end(token::MAX_ANSWER).await.map_err(FetchError::Read)?;
    token::decode_answer(&answer, n_orders).map_err(FetchError::Decode)
}
