//! Objects that every cluster has: made where they are missing, and renewed where they must be as
//! they are. One list of [`Seed`]s, whoever they come from.

use futures_util::{StreamExt, TryStreamExt, stream};
use hub_api::resources::{self, flowcontrol};
use hub_api::{Resource, Status, object, time};
use serde_json::{Value, json};

use super::{Registry, WriteOptions};

/// Objects that are made or renewed at once, where their order does not matter.
const CONCURRENCY: usize = 32;

/// An object that every cluster has.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The object, with `apiVersion`, `kind` and name. Its status is written where none is.
    pub object: Value,
    /// What an object that is there is to become, of it and of [`Self::object`] as it would be
    /// stored; nothing if it may stay.
    pub renew: fn(&Value, &Value) -> Option<Value>,
}

/// Why an object that every cluster has could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not create the {kind} {name}")]
pub struct BootstrapError {
    kind: String,
    name: String,
    #[source]
    err: Status,
}

/// Leaves an object as its users have it.
pub(crate) fn keep(_current: &Value, _wanted: &Value) -> Option<Value> {
    None
}

/// Restores the specification.
pub(crate) fn restore_spec(current: &Value, wanted: &Value) -> Option<Value> {
    if current["spec"] == wanted["spec"] {
        return None;
    }
    let mut next = current.clone();
    next["spec"] = wanted["spec"].clone();
    Some(next)
}

/// Restores the specification unless the users said that it is theirs.
fn restore_unless_taken(current: &Value, wanted: &Value) -> Option<Value> {
    let says = object::annotation(current, flowcontrol::AUTO_UPDATE);
    // Without the word, an object that was never changed is still the server's.
    let untouched = says.is_none() && object::int(current, "metadata.generation") == Some(1);
    if says == Some("true") || untouched { restore_spec(current, wanted) } else { None }
}

impl Registry {
    /// Creates what every cluster has, and renews what must be as it is. Harmless if all is there.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn bootstrap(&self) -> Result<(), BootstrapError> {
        self.ensure(&self.system_objects()).await
    }

    /// Creates and renews these objects, in their order.
    ///
    /// # Errors
    /// The storage refuses, or an object is not one that may be.
    pub async fn ensure(&self, seeds: &[Seed]) -> Result<(), BootstrapError> {
        for seed in seeds {
            self.ensure_one(seed).await?;
        }
        Ok(())
    }

    /// Creates and renews these objects, several at once, so that they share commits.
    ///
    /// # Errors
    /// The storage refuses, or an object is not one that may be.
    pub async fn ensure_unordered(&self, seeds: &[Seed]) -> Result<(), BootstrapError> {
        let all: Vec<_> = seeds.iter().map(|seed| self.ensure_one(seed)).collect();
        stream::iter(all).buffer_unordered(CONCURRENCY).try_collect().await
    }

    async fn ensure_one(&self, seed: &Seed) -> Result<(), BootstrapError> {
        self.make_or_renew(seed).await.map_err(|err| BootstrapError {
            kind: object::text(&seed.object, "kind").to_owned(),
            name: object::name(&seed.object).to_owned(),
            err,
        })
    }

    async fn make_or_renew(&self, seed: &Seed) -> Result<(), Status> {
        let wanted = &seed.object;
        let resource = resource_of(wanted).ok_or_else(Status::no_such_resource)?;
        let namespace = Some(object::namespace(wanted)).filter(|it| !it.is_empty());
        let name = object::name(wanted);
        let options = WriteOptions::default();
        match self.get(resource, namespace, name) {
            Ok(current) => {
                let mut full = wanted.clone();
                resource.strategy.default(&mut full);
                if (seed.renew)(&current.value(), &full).is_some() {
                    let change = |current: &Value, _: &Value| {
                        // A change that came between may have made it what it should be.
                        Ok((seed.renew)(current, &full).unwrap_or_else(|| current.clone()))
                    };
                    self.modify(resource, namespace, name, None, &options, change).await?;
                }
            }
            Err(_) => match self.create(resource, namespace, wanted.clone(), &options).await {
                Ok(_) => {}
                Err(err) if err.reason == "AlreadyExists" => {}
                Err(err) => return Err(err),
            },
        }
        let has_status = |it: &Value| it["status"].as_object().is_some_and(|it| !it.is_empty());
        if has_status(wanted) && !has_status(&self.get(resource, namespace, name)?.value()) {
            let change = |current: &Value, _: &Value| {
                let mut next = current.clone();
                next["status"] = wanted["status"].clone();
                Ok(next)
            };
            self.modify(resource, namespace, name, Some("status"), &options, change).await?;
        }
        Ok(())
    }

    /// What the server itself brings.
    fn system_objects(&self) -> Vec<Seed> {
        let seed = |object, renew| Seed { object, renew };
        let mut seeds: Vec<Seed> = Vec::new();
        seeds.extend(super::namespaces::SYSTEM.iter().map(|name| {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            seed(namespace, keep)
        }));
        // So that pods can be made at once; in other namespaces a controller makes it.
        seeds.extend(super::namespaces::SYSTEM.iter().map(|name| {
            let account = json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": { "name": "default", "namespace": name },
            });
            seed(account, keep)
        }));
        seeds.extend(priority_classes().map(|it| seed(it, keep)));
        let mandatory = flowcontrol::mandatory_levels().into_iter();
        seeds.extend(mandatory.map(|it| seed(it, restore_level)));
        let mandatory = flowcontrol::mandatory_schemas().into_iter();
        seeds.extend(mandatory.map(|it| seed(it, restore_spec)));
        let suggested = flowcontrol::suggested_levels().into_iter();
        seeds.extend(
            suggested
                .chain(flowcontrol::suggested_schemas())
                .map(|it| seed(it, restore_unless_taken)),
        );
        seeds.push(seed(self.service_range(), keep));
        seeds.extend(api_services().map(|it| {
            // Another server of metrics may take the place of ours.
            let is_ours = object::text(&it, "spec.group") != resources::metrics::NAME;
            seed(it, if is_ours { restore_spec } else { keep })
        }));
        seeds
    }

    fn service_range(&self) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": { "name": "kubernetes" },
            "spec": { "cidrs": [self.config.service_cidr.to_string()] },
            "status": { "conditions": [{
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": time::format(self.now()),
                "reason": "",
                "message": "Kubernetes Service CIDR is ready",
            }] },
        })
    }
}

/// The shares of the level `exempt` are its users' to say, all else is fixed.
fn restore_level(current: &Value, wanted: &Value) -> Option<Value> {
    if object::name(wanted) == "exempt" { None } else { restore_spec(current, wanted) }
}

fn priority_classes() -> impl Iterator<Item = Value> {
    let told = [
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        "Used for system critical pods that must not be moved from their current node.",
    ];
    let classes = hub_api::validation::scheduling::SYSTEM_PRIORITIES.into_iter().zip(told);
    classes.map(|((name, value), description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": { "name": name },
            "value": value,
            "description": description,
        })
    })
}

/// Which groups come first in discovery, and which versions in a group: group, version, priority of
/// the group, priority of the version.
const API_PRIORITIES: [(&str, &str, u32, u32); 23] = [
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("events.k8s.io", "v1", 17_750, 5),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("metrics.k8s.io", "v1beta1", 100, 100),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("resource.k8s.io", "v1", 15_900, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("storagemigration.k8s.io", "v1", 15_800, 15),
];

/// The groups that this server answers for itself.
fn api_services() -> impl Iterator<Item = Value> {
    let is_served = |group: &str, version: &str| {
        resources::builtin().iter().any(|it| it.group == group && it.version == version)
    };
    let served =
        API_PRIORITIES.into_iter().filter(move |(group, version, ..)| is_served(group, version));
    served.map(|(group, version, group_priority, version_priority)| {
        let mut spec = json!({
            "version": version,
            "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority,
        });
        if !group.is_empty() {
            spec["group"] = json!(group);
        }
        json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {
                "name": format!("{version}.{group}"),
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
            },
            "spec": spec,
        })
    })
}

fn resource_of(object: &Value) -> Option<&'static Resource> {
    let version = object::text(object, "apiVersion");
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    resources::find_kind(group, version, object::text(object, "kind"))
}
