//! Says of every APIService whether its server answers, in its condition `Available`, and hears
//! meanwhile what it serves. Words are those of Kubernetes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{ACCEPT, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hub_api::{Status, discovery, object, resources, time};
use hub_storage::{Event, Prefix};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Aggregation, Api, GROUP, Heard, PLURAL};
use crate::auth::MASTERS;
use crate::backends::Absent;
use crate::limits::{
    AGGREGATION_BATCH, AGGREGATION_CHECK, AGGREGATION_IDLE, AGGREGATION_RECHECK,
    AGGREGATION_TIMEOUT, MAX_DISCOVERY, PASSING_CONNECT_TIMEOUT,
};
use crate::passing::{Passage, Reached, passed_on};
use crate::registry::{ListOptions, Registry, WriteOptions};

/// As whom the hub asks.
const USER: &str = "system:kube-aggregator";

/// What a server is asked for.
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    /// Of the answer that is known already; empty if there is none.
    pub(super) tag: &'a str,
    /// Bytes of the largest answer.
    pub(super) limit: usize,
    /// Time for all of it.
    pub(super) patience: Duration,
}

/// What a condition is to say.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    fn yes(reason: &'static str, message: &str) -> Self {
        Self { status: "True", reason, message: message.to_owned() }
    }
}

impl Aggregation {
    /// Looks after the conditions of all APIServices. Never returns.
    pub(crate) async fn follow_servers(&self, registry: &Registry, passage: &Passage) {
        loop {
            let revision = registry.revision();
            let pause = self.check_all(registry, passage).await;
            let changed = async {
                match registry.storage().watch(&Prefix::all(GROUP, PLURAL), revision) {
                    // A watch that breaks is a reason to look as well.
                    Ok(mut watch) => while watch.next().await.is_ok_and(|it| !is_news(&it)) {},
                    Err(_) => std::future::pending().await,
                }
                // Changes come in swarms.
                tokio::time::sleep(AGGREGATION_BATCH).await;
            };
            // Both only wait.
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// How long the answers hold if nothing changes.
    async fn check_all(&self, registry: &Registry, passage: &Passage) -> Duration {
        for name in local_without_word(registry) {
            let verdict = Verdict::yes("Local", "Local APIServices are always available");
            tell(registry, &name, &verdict, true).await;
        }
        let apis = self.all(&**registry.storage());
        let checks = apis.iter().map(|api| self.check(registry, passage, api));
        let verdicts = join_all(checks).await;
        match verdicts.as_slice() {
            [] => AGGREGATION_IDLE,
            all if all.iter().all(|it| *it) => AGGREGATION_CHECK,
            _ => AGGREGATION_RECHECK,
        }
    }

    async fn check(&self, registry: &Registry, passage: &Passage, api: &Arc<Api>) -> bool {
        let verdict = match api.backend().places(registry) {
            Err(absent) => missing(api, &absent),
            Ok(_) => {
                let url = format!("https://{}:{}{}", api.host(), api.port, path_of(api));
                match self.hear_of(registry, passage, api).await {
                    Ok(heard) => {
                        self.hear(api, heard);
                        Verdict::yes("Passed", "all checks passed")
                    }
                    Err(why) => {
                        let message = format!("failing or missing response from {url}: {why}");
                        Verdict::no("FailedDiscoveryCheck", message)
                    }
                }
            }
        };
        let now = registry.now();
        if tell(registry, &api.name, &verdict, self.may_reword(api, now)).await {
            self.told(api, now);
        }
        verdict.status == "True"
    }

    /// Asks the server for its discovery document. What it is otherwise does not count: a server
    /// that answers is available.
    async fn hear_of(
        &self,
        registry: &Registry,
        passage: &Passage,
        api: &Api,
    ) -> Result<Heard, String> {
        let mut heard = self.heard(api).unwrap_or_default();
        let list = self.fetch(registry, passage, api, &path_of(api)).await?;
        let list: Option<Value> = serde_json::from_slice(&list).ok();
        let found = list.and_then(|it| discovery::resources_of(&it, &api.group, &api.version));
        if let Some(resources) = found {
            heard.resources = resources;
        }
        // A server without OpenAPI is a server all the same.
        if let Ok(index) = self.fetch(registry, passage, api, "/openapi/v3").await {
            heard.openapi = serde_json::from_slice(&index).ok().and_then(|it| hash_in(&it, api));
        }
        Ok(heard)
    }

    async fn fetch(
        &self,
        registry: &Registry,
        passage: &Passage,
        api: &Api,
        path: &str,
    ) -> Result<Bytes, String> {
        let asked = Asked { path, tag: "", limit: MAX_DISCOVERY, patience: AGGREGATION_TIMEOUT };
        let answer = self.ask(registry, passage, api, &asked).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("bad status: {}", answer.status().as_u16()));
        }
        Ok(answer.into_body())
    }

    /// Asks a server for something of its own.
    ///
    /// # Errors
    /// It does not answer in time, or with more than may be.
    pub(super) async fn ask(
        &self,
        registry: &Registry,
        passage: &Passage,
        api: &Api,
        asked: &Asked<'_>,
    ) -> Result<Response<Bytes>, String> {
        let asking = async {
            let mut request = Request::get("/")
                .header(ACCEPT, "application/json")
                .header(USER_AGENT, "kube-aggregator")
                .header("x-remote-user", USER)
                .header("x-remote-group", MASTERS)
                .header(HOST, api.host());
            if !asked.tag.is_empty() {
                request = request.header(IF_NONE_MATCH, asked.tag);
            }
            let request = request.body(Empty::<Bytes>::new()).map_err(|err| err.to_string())?;
            let request = passed_on(request, asked.path, &api.host()).map_err(|it| it.message)?;
            let reached = self.reach(registry, passage, api).await.map_err(|it| it.message)?;
            let patience = Some(asked.patience);
            let answer = passage.exchange(reached, request, None, patience, ()).await;
            let (head, body) = answer.map_err(|it| it.message)?.into_parts();
            let body = Limited::new(body, asked.limit).collect().await;
            let body = body.map_err(|err| err.to_string())?.to_bytes();
            Ok::<_, String>(Response::from_parts(head, body))
        };
        match tokio::time::timeout(asked.patience, asking).await {
            Ok(answered) => answered,
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    /// Connects to one of the servers of an API.
    ///
    /// # Errors
    /// None of them can be reached or believed; the message is that of the last one.
    pub(crate) async fn reach(
        &self,
        registry: &Registry,
        passage: &Passage,
        api: &Api,
    ) -> Result<Reached, Status> {
        let config = self.tls(api).map_err(Status::service_unavailable)?;
        let places = api.backend().places(registry);
        let places = places.map_err(|it| Status::service_unavailable(missing(api, &it).message))?;
        let (config, host) = (&config, api.host());
        let reaching = passage.reach(&places, config, &host, PASSING_CONNECT_TIMEOUT);
        reaching.await.map(|(_, reached)| reached).map_err(|err| err.to_status())
    }
}

fn path_of(api: &Api) -> String {
    format!("/apis/{}/{}", api.group, api.version)
}

/// The hash in the address of an API's document, in an index of OpenAPI 3.
fn hash_in(index: &Value, api: &Api) -> Option<String> {
    let entry = &index["paths"][format!("apis/{}/{}", api.group, api.version)];
    let url = entry["serverRelativeURL"].as_str()?;
    let hash = url.split_once("hash=").map_or(url, |(_, hash)| hash);
    let is_plain = |it: char| it.is_ascii_alphanumeric();
    (hash.len() <= 128).then(|| hash.chars().filter(|it| is_plain(*it)).collect())
}

fn missing(api: &Api, absent: &Absent) -> Verdict {
    let Api { namespace, service, port, .. } = api;
    match absent {
        Absent::Service => Verdict::no(
            "ServiceNotFound",
            format!("service/{service} in {namespace:?} is not present"),
        ),
        Absent::Port => Verdict::no(
            "ServicePortError",
            format!("service/{service} in {namespace:?} is not listening on port {port}"),
        ),
        Absent::Endpoints => Verdict::no(
            "EndpointsNotFound",
            format!("cannot find endpoints for service/{service} in {namespace:?}"),
        ),
        Absent::Addresses { port_name } => Verdict::no(
            "MissingEndpoints",
            format!(
                "endpoints for service/{service} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        ),
    }
}

/// Whether an event is about more than what is said of an APIService, which hubs write themselves.
fn is_news(event: &Event) -> bool {
    match event {
        Event::Put { entry, previous: Some(previous) } => {
            let (new, old) = (entry.value(), previous.value());
            new["spec"] != old["spec"] || condition_of(&new).is_none()
        }
        Event::Put { previous: None, .. } | Event::Delete { .. } => true,
    }
}

/// APIServices of this server that do not say so.
fn local_without_word(registry: &Registry) -> Vec<String> {
    let Some(resource) = resources::find(GROUP, "v1", PLURAL) else { return Vec::new() };
    let all = registry.list(resource, None, &ListOptions::default());
    let all = all.map(|it| it.entries).unwrap_or_default();
    let is_silent = |it: &Value| {
        let condition = condition_of(it);
        object::get(it, "spec.service").is_none()
            && condition.is_none_or(|it| object::text(it, "reason") != "Local")
    };
    let silent = all.iter().filter(|it| is_silent(&it.value()));
    silent.map(|it| object::name(&it.value()).to_owned()).collect()
}

fn condition_of(object: &Value) -> Option<&Value> {
    let mut conditions = object::list(object, "status.conditions").iter();
    conditions.find(|it| object::text(it, "type") == "Available")
}

/// Writes a verdict down unless it stands there already; other words for it only if these may be
/// written. Returns whether anything was.
async fn tell(registry: &Registry, name: &str, verdict: &Verdict, may_reword: bool) -> bool {
    let Some(resource) = resources::find(GROUP, "v1", PLURAL) else { return false };
    let Ok(entry) = registry.get(resource, None, name) else { return false };
    let next = |current: &Value| with_verdict(current, verdict, may_reword, registry.now());
    if next(&entry.value()).is_none() {
        return false;
    }
    let change = |current: &Value, _: &Value| Ok(next(current).unwrap_or_else(|| current.clone()));
    let options = WriteOptions::default();
    let written = registry.modify(resource, None, name, Some("status"), &options, change).await;
    match &written {
        Ok(_) => {
            tracing::info!(
                api = name,
                available = verdict.status,
                reason = verdict.reason,
                "An aggregated API changed"
            );
        }
        // The next look tries again.
        Err(err) => tracing::debug!(api = name, error = %err, "Could not write a condition"),
    }
    written.is_ok()
}

/// The object with the verdict; `None` if it has it, be it in other words that may not be changed.
fn with_verdict(
    object: &Value,
    verdict: &Verdict,
    may_reword: bool,
    now: Timestamp,
) -> Option<Value> {
    let Verdict { status, reason, message } = verdict;
    let known = condition_of(object);
    let says = |field: &str| known.map(|it| object::text(it, field)).unwrap_or_default();
    let is_same = says("status") == *status && says("reason") == *reason;
    if is_same && (says("message") == message || !may_reword) {
        return None;
    }
    let since = match says("lastTransitionTime") {
        since if says("status") == *status && !since.is_empty() => since.to_owned(),
        _ => time::format(now),
    };
    let condition = json!({
        "type": "Available",
        "status": status,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    });
    let others = object::list(object, "status.conditions").iter();
    let others = others.filter(|it| object::text(it, "type") != "Available").cloned();
    let conditions: Vec<Value> = others.chain([condition]).collect();
    let mut next = object.clone();
    next["status"]["conditions"] = conditions.into();
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let at = |text: &str| time::parse(text).unwrap();
        let (early, late) = ("2026-11-20T08:00:00Z", "2026-11-20T09:00:00Z");
        let no = |message: &str| Verdict::no("ServiceNotFound", message.to_owned());
        let object = json!({"status": {"conditions": [{"type": "Other"}]}});
        let first = with_verdict(&object, &no("a"), false, at(early)).unwrap();
        assert_eq!(with_verdict(&first, &no("a"), true, at(late)), None);
        assert_eq!(with_verdict(&first, &no("b"), false, at(late)), None, "only other words");
        let second = with_verdict(&first, &no("b"), true, at(late)).unwrap();
        let passed = Verdict::yes("Passed", "x");
        let third = with_verdict(&second, &passed, false, at(late)).unwrap();
        for (object, since) in [(first, early), (second, early), (third, late)] {
            assert_eq!(condition_of(&object).unwrap()["lastTransitionTime"], since);
            assert_eq!(object["status"]["conditions"].as_array().unwrap().len(), 2);
        }
    }
}
