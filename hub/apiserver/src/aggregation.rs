//! APIs that other servers serve behind this one: an `APIService` with a Service in it stands for
//! one group version. Requests for it are authorised here and passed on; what it serves shows in
//! discovery beside what is ours.
//! <https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>
//!
//! Nobody tells of changes: whoever looks for an API reads what happened to the objects since the
//! last look. What a server said last in discovery is kept for as long as this process lives, so
//! that no request for discovery waits for a server.

mod availability;
mod documents;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hub_api::discovery::Served;
use hub_api::object;
use hub_api::openapi::V2Part;
use hub_storage::{Entry, Event, ListRequest, Prefix, Storage, Watch};
use jiff::Timestamp;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Notify;

use crate::admission::authorities;
use crate::backends::ServicePort;
use crate::limits::AGGREGATION_REWORD;
use crate::tls::{Believed, ServerCertificate, client_config};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
/// TLS settings that are kept made.
const MAX_CONFIGS: usize = 256;

/// The group versions that others serve.
pub(crate) struct Aggregation {
    state: Mutex<State>,
    /// A server said something else of itself.
    news: Notify,
    /// Who the hub is to the others.
    identity: Option<Arc<ServerCertificate>>,
    configs: Mutex<BTreeMap<(String, bool), Arc<ClientConfig>>>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Api {
    /// Of the object.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    namespace: String,
    service: String,
    port: u16,
    /// PEM in base64.
    ca: String,
    is_insecure: bool,
    group_priority: i64,
    version_priority: i64,
    /// Whether its condition says that it answers.
    pub(crate) is_available: bool,
}

impl Api {
    /// `None` if the group version is this server's own.
    fn of(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let service = object::get(spec, "service")?;
        let group = object::text(spec, "group");
        if group.is_empty() {
            return None;
        }
        let conditions = object::list(object, "status.conditions").iter();
        let is_available = conditions
            .filter(|it| object::text(it, "type") == "Available")
            .any(|it| object::text(it, "status") == "True");
        Some(Self {
            name: object::name(object).to_owned(),
            group: group.to_owned(),
            version: object::text(spec, "version").to_owned(),
            namespace: object::text(service, "namespace").to_owned(),
            service: object::text(service, "name").to_owned(),
            port: object::int(service, "port").and_then(|it| it.try_into().ok()).unwrap_or(443),
            ca: object::text(spec, "caBundle").to_owned(),
            is_insecure: object::flag(spec, "insecureSkipTLSVerify"),
            group_priority: object::int(spec, "groupPriorityMinimum").unwrap_or(0),
            version_priority: object::int(spec, "versionPriority").unwrap_or(0),
            is_available,
        })
    }

    /// The name that its server's certificate must have, and that is asked for there.
    pub(crate) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where its servers are found.
    fn backend(&self) -> ServicePort<'_> {
        ServicePort { namespace: &self.namespace, service: &self.service, port: self.port }
    }
}

#[derive(Default)]
struct State {
    /// `None` before the first look, and after history was forgotten faster than we looked.
    watch: Option<Watch>,
    /// By name of the object.
    apis: BTreeMap<String, Arc<Api>>,
    heard: BTreeMap<String, Heard>,
    /// When their conditions were last written by this hub.
    told: BTreeMap<String, Timestamp>,
    documents: BTreeMap<String, Document>,
    /// Counts changes of what discovery shows.
    number: u64,
    shown: Option<Arc<Others>>,
}

/// What a server said of itself.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    resources: Vec<Value>,
    /// The hash of its OpenAPI document, if it has one.
    openapi: Option<String>,
}

/// What became part of our OpenAPI document of version 2 of a server's.
#[derive(Debug)]
struct Document {
    /// Whether the server should be asked for it again.
    is_stale: bool,
    /// By which the server knows its last answer; empty if it gave none.
    tag: String,
    part: Option<Arc<V2Part>>,
}

/// What others serve, as discovery shows it.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Equal numbers are equal contents.
    pub(crate) number: u64,
    pub(crate) served: Vec<Served>,
    /// Paths of OpenAPI documents, each with the hash of its content.
    pub(crate) openapi: BTreeMap<String, String>,
    /// Their parts of the OpenAPI document of version 2.
    pub(crate) openapi_v2: Vec<Arc<V2Part>>,
}

impl Aggregation {
    pub(crate) fn new(identity: Option<Arc<ServerCertificate>>) -> Self {
        Self { state: Mutex::default(), news: Notify::new(), identity, configs: Mutex::default() }
    }

    fn follow(&self, storage: &dyn Storage) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow(storage);
        state
    }

    /// Who serves a group version, if it is not this server.
    pub(crate) fn find(
        &self,
        storage: &dyn Storage,
        group: &str,
        version: &str,
    ) -> Option<Arc<Api>> {
        let state = self.follow(storage);
        state.apis.get(&format!("{version}.{group}")).cloned()
    }

    /// All of them.
    fn all(&self, storage: &dyn Storage) -> Vec<Arc<Api>> {
        self.follow(storage).apis.values().cloned().collect()
    }

    /// What others serve, for discovery.
    pub(crate) fn others(&self, storage: &dyn Storage) -> Arc<Others> {
        let mut state = self.follow(storage);
        if let Some(shown) = &state.shown {
            return shown.clone();
        }
        let shown = Arc::new(state.show());
        state.shown = Some(shown.clone());
        shown
    }

    /// Notes what a server said.
    fn hear(&self, api: &Api, heard: Heard) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.heard.get(&api.name) != Some(&heard) {
            state.heard.insert(api.name.clone(), heard);
            if let Some(document) = state.documents.get_mut(&api.name) {
                document.is_stale = true;
            }
            state.change();
            self.news.notify_one();
        }
    }

    /// Whether the condition of an APIService may say the same in other words. Servers fail in more ways
    /// than one, and each hub sees them fail in its own: every word of that would be a write.
    fn may_reword(&self, api: &Api, now: Timestamp) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let age = state.told.get(&api.name).map(|at| now.duration_since(*at));
        let age = age.and_then(|it| Duration::try_from(it).ok());
        age.is_none_or(|it| it >= AGGREGATION_REWORD)
    }

    /// Notes that the condition of an APIService was written.
    fn told(&self, api: &Api, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.told.insert(api.name.clone(), now);
    }

    fn heard(&self, api: &Api) -> Option<Heard> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard.get(&api.name).cloned()
    }

    /// How TLS is spoken with a server.
    ///
    /// # Errors
    /// The bundle of authorities is none; in words for a condition.
    pub(crate) fn tls(&self, api: &Api) -> Result<Arc<ClientConfig>, String> {
        let key = (api.ca.clone(), api.is_insecure);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&key) {
            return Ok(config.clone());
        }
        let believed = if api.is_insecure {
            Believed::Everybody
        } else {
            Believed::Authorities(authorities(&api.ca)?)
        };
        let config =
            client_config(believed, self.identity.clone()).map_err(|err| err.to_string())?;
        if configs.len() >= MAX_CONFIGS {
            configs.clear();
        }
        configs.insert(key, config.clone());
        Ok(config)
    }
}

impl State {
    /// Takes in what happened.
    fn follow(&mut self, storage: &dyn Storage) {
        while let Some(watch) = &mut self.watch {
            match watch.try_next() {
                Ok(Some(event)) => self.take(&event),
                Ok(None) => return,
                Err(_) => self.watch = None,
            }
        }
        self.list(storage);
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Put { entry, .. } => self.put(entry),
            Event::Delete { key, .. } => {
                if self.apis.remove(key.name()).is_some() {
                    self.heard.remove(key.name());
                    self.told.remove(key.name());
                    self.documents.remove(key.name());
                    self.change();
                }
            }
        }
    }

    fn list(&mut self, storage: &dyn Storage) {
        let prefix = Prefix::all(GROUP, PLURAL);
        let Ok(list) = storage.list(&ListRequest::all(prefix.clone())) else { return };
        self.apis.clear();
        for entry in &list.entries {
            self.put(entry);
        }
        self.change();
        // Without a watch, the next look lists again.
        self.watch = storage.watch(&prefix, list.revision).ok();
    }

    fn put(&mut self, entry: &Entry) {
        let name = entry.key.name();
        let has_changed = match Api::of(&entry.value()) {
            Some(api) if self.apis.get(name).is_some_and(|it| **it == api) => false,
            Some(api) => {
                self.apis.insert(name.to_owned(), Arc::new(api));
                true
            }
            None => self.apis.remove(name).is_some(),
        };
        if has_changed {
            self.change();
        }
    }

    fn change(&mut self) {
        self.number += 1;
        self.shown = None;
    }

    fn show(&self) -> Others {
        let apis = || self.apis.values().map(|api| (api, self.heard.get(&api.name)));
        let served = apis().map(|(api, heard)| Served {
            group: api.group.clone(),
            version: api.version.clone(),
            version_priority: api.version_priority,
            group_priority: api.group_priority,
            resources: heard.map(|it| it.resources.clone()).unwrap_or_default(),
            is_current: api.is_available && heard.is_some(),
        });
        let openapi = apis().filter_map(|(api, heard)| {
            let path = format!("apis/{}/{}", api.group, api.version);
            Some((path, heard?.openapi.clone()?))
        });
        let available = apis().filter(|(api, _)| api.is_available);
        let openapi_v2 =
            available.filter_map(|(api, _)| self.documents.get(&api.name)?.part.clone());
        Others {
            number: self.number,
            served: served.collect(),
            openapi: openapi.collect(),
            openapi_v2: openapi_v2.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(is_available: bool) -> Arc<Api> {
        Arc::new(Api {
            name: "v1.a.test".to_owned(),
            group: "a.test".to_owned(),
            version: "v1".to_owned(),
            namespace: "default".to_owned(),
            service: "s".to_owned(),
            port: 443,
            ca: String::new(),
            is_insecure: false,
            group_priority: 1,
            version_priority: 1,
            is_available,
        })
    }

    #[test]
    fn what_a_server_said_of_its_paths_is_shown_while_it_answers() {
        let document = br#"{"swagger": "2.0", "paths": {"/apis/a.test/v1/things": {}}}"#;
        let part = V2Part::of(document, "a.test", "v1").map(Arc::new);
        let document = Document { is_stale: false, tag: String::new(), part };
        let mut state = State::default();
        state.documents.insert("v1.a.test".to_owned(), document);
        for (is_there, is_available, n) in [(true, true, 1), (true, false, 0), (false, true, 0)] {
            state.apis =
                is_there.then(|| ("v1.a.test".to_owned(), api(is_available))).into_iter().collect();
            assert_eq!(state.show().openapi_v2.len(), n, "{is_there} {is_available}");
        }
    }
}
