//! Volumes, claims and ingresses: default classes, protection while in use, growth.

use hub_api::admission::{limit_ranger, storage};
use hub_api::quantity::Quantity;
use hub_api::{Status, object};
use serde_json::Value;

use super::super::{Attributes, Operation};
use super::{Lookup, refuse};
use crate::registry::Registry;

/// Sets what plugins set on new volumes, claims and ingresses.
pub(super) fn create(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: &mut Value,
) -> Result<(), Status> {
    match &*attributes.resource.plural {
        "persistentvolumes" => storage::protect(object, "kubernetes.io/pv-protection"),
        "persistentvolumeclaims" => {
            let classes = registry.find_all("storage.k8s.io", "storageclasses", None);
            storage::default_storage_class(object, &classes);
            storage::protect(object, "kubernetes.io/pvc-protection");
        }
        _ => {
            let classes = registry.find_all("networking.k8s.io", "ingressclasses", None);
            storage::default_ingress_class(object, &classes)
                .map_err(|why| refuse(attributes, Some(object), &why))?;
        }
    }
    Ok(())
}

/// LimitRanger and PersistentVolumeClaimResize.
pub(super) fn check_claim(
    registry: &Registry,
    attributes: &Attributes<'_>,
    claim: &Value,
) -> Result<(), Status> {
    for range in registry.find_all("", "limitranges", attributes.namespace) {
        let wrong = limit_ranger::check_claim(claim, &range);
        if !wrong.is_empty() {
            return Err(refuse(attributes, Some(claim), &limit_ranger::joined(&wrong)));
        }
    }
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else {
        return Ok(());
    };
    let size = |claim: &Value| {
        Quantity::parse(object::text(claim, "spec.resources.requests.storage")).ok()
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if object::text(old, "status.phase") != "Bound" {
        let why = "Only bound persistent volume claims can be expanded";
        return Err(refuse(attributes, Some(claim), why));
    }
    let class = object::text(claim, "spec.storageClassName");
    let grows = registry
        .find("storage.k8s.io", "storageclasses", None, class)
        .is_some_and(|it| object::flag(&it, "allowVolumeExpansion"));
    if grows {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(refuse(attributes, Some(claim), why))
}
