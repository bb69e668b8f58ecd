//! Priority and fairness: which requests are served at once, and which wait for whom.
//!
//! A FlowSchema says to which priority level a request belongs and which flow it is part of; a level has its share of
//! seats, and queues in which its flows wait. A flow that floods fills its own few queues: others pass by.
//!
//! Source: <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>. Unlike there, levels lend each
//! other nothing, and every request costs one seat.

mod level;
mod schema;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hub_api::Status;
use hub_storage::{Prefix, Revision, WatchError};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use self::level::{Level, Refused, Seat};
use self::schema::Schema;
pub(crate) use self::schema::{Digest, What};
use crate::registry::Registry;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// Every request finds this one, whatever was deleted.
const CATCH_ALL: &str = "catch-all";
/// Before flow control is read again after its watch broke.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides about every request.
#[derive(Debug)]
pub(crate) struct Flows {
    config: RwLock<Arc<Config>>,
}

#[derive(Debug, Default)]
struct Config {
    /// In the order in which they are asked.
    schemas: Vec<Schema>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// A request that may be served now, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) schema_uid: String,
    pub(crate) level_uid: String,
    _seat: Option<Seat>,
}

/// A request that is not served, and whose fault it is.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) schema_uid: String,
    pub(crate) level_uid: String,
    pub(crate) why: Refused,
}

impl Rejected {
    pub(crate) fn status(&self) -> Status {
        Status::too_many_requests("Too many requests, please try again later.", 1)
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self { config: RwLock::new(Arc::new(Config::default())) }
    }
}

impl Flows {
    /// Waits until the request may be served.
    pub(crate) async fn enter(&self, request: &Digest<'_>) -> Result<Ticket, Rejected> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let found = config.schemas.iter().find(|it| it.matches(request));
        // Before the first objects were read nothing is held up.
        let Some((schema, level)) = found.and_then(|it| {
            Some((it, config.levels.get(&it.level).or_else(|| config.levels.get(CATCH_ALL))?))
        }) else {
            return Ok(Ticket { schema_uid: String::new(), level_uid: String::new(), _seat: None });
        };
        let (schema_uid, level_uid) = (schema.uid.clone(), level.uid.clone());
        match level.enter(flow_hash(&schema.name, schema.flow(request))).await {
            Ok(seat) => Ok(Ticket { schema_uid, level_uid, _seat: seat }),
            Err(why) => Err(Rejected { schema_uid, level_uid, why }),
        }
    }

    /// Follows the objects that say how. Never returns.
    pub(crate) async fn follow(&self, registry: &Registry) {
        loop {
            let revision = registry.revision();
            self.load(registry);
            if let Err(err) = changed(registry, revision).await {
                tracing::debug!(error = %err, "Reading flow control again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Reads all objects. What is being served keeps its seats.
    pub(crate) fn load(&self, registry: &Registry) {
        let read = |plural: &str| -> Vec<Arc<hub_storage::Entry>> {
            let request = hub_storage::ListRequest::all(Prefix::all(GROUP, plural));
            registry.storage().list(&request).map(|it| it.entries).unwrap_or_default()
        };
        let (schemas, levels) = (read(SCHEMAS), read(LEVELS));
        let old = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let decoded = |entries: &[Arc<hub_storage::Entry>]| -> Vec<Value> {
            entries.iter().map(|it| it.decode()).collect()
        };
        let (schemas, levels) = (decoded(&schemas), decoded(&levels));
        let fresh = Config::new(
            &schemas.iter().collect::<Vec<_>>(),
            &levels.iter().collect::<Vec<_>>(),
            &old,
        );
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
    }
}

/// Waits for a change of flow control after a revision.
async fn changed(registry: &Registry, after: Revision) -> Result<(), WatchError> {
    let storage = registry.storage();
    let mut schemas = storage.watch(&Prefix::all(GROUP, SCHEMAS), after)?;
    let mut levels = storage.watch(&Prefix::all(GROUP, LEVELS), after)?;
    tokio::select! {
        event = schemas.next() => event.map(drop),
        event = levels.next() => event.map(drop),
    }
}

impl Config {
    fn new(schemas: &[&Value], levels: &[&Value], old: &Self) -> Self {
        let mut schemas: Vec<Schema> = schemas.iter().map(|it| Schema::parse(it)).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let limits: Vec<level::Limits> = levels.iter().map(|it| level::Limits::parse(it)).collect();
        let shares: u64 = limits.iter().map(|it| it.shares).sum();
        let levels = limits.into_iter().map(|limits| {
            let name = limits.name.clone();
            let known = old.levels.get(&name).filter(|it| it.uid == limits.uid).cloned();
            let level = known.unwrap_or_else(|| Arc::new(Level::new(limits.uid.clone())));
            level.set(&limits, shares);
            (name, level)
        });
        Self { schemas, levels: levels.collect() }
    }
}

fn flow_hash(schema: &str, flow: &str) -> u64 {
    let text = format!("{schema}\0{flow}");
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |it| u64::from_be_bytes(*it))
}

#[cfg(test)]
mod tests;
