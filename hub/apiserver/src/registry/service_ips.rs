//! Cluster addresses of services. An address belongs to the service whose transaction wrote its
//! record, therefore no two services can ever have the same one.

use std::net::Ipv4Addr;

use hub_api::status::FieldError;
use hub_api::{Resource, Status, object};
use hub_storage::{Body, Condition, Key, Write};
use serde_json::{Value, json};

use super::Registry;
use super::write::Companions;

/// Random draws before all addresses are looked through.
const DRAWS: u32 = 32;

impl Registry {
    /// Gives a service its address, and takes back what it gives up. `old` is `None` at creation.
    pub(super) fn allocate(
        &self,
        resource: &Resource,
        old: Option<&Value>,
        service: &mut Value,
        companions: &mut Companions,
    ) -> Result<(), Status> {
        if !is_service(resource) {
            return Ok(());
        }
        let held = old.and_then(address);
        if needs_address(service) {
            match address(service) {
                Some(wanted) if held == Some(wanted) => return Ok(()),
                Some(wanted) => self.claim_wanted(service, wanted, companions)?,
                None => {
                    let address = self
                        .free_address()
                        .ok_or_else(|| refused(service, "failed to allocate IP: range is full"))?;
                    set_address(service, address);
                    claim(service, address, companions);
                }
            }
        }
        if let Some(held) = held.filter(|it| address(service) != Some(*it)) {
            self.give_back(held, companions);
        }
        Ok(())
    }

    /// Takes back the address of a service that is removed.
    pub(super) fn release(
        &self,
        resource: &Resource,
        service: &Value,
        companions: &mut Companions,
    ) {
        if is_service(resource)
            && let Some(address) = address(service)
        {
            self.give_back(address, companions);
        }
    }

    fn give_back(&self, address: Ipv4Addr, companions: &mut Companions) {
        // What was never recorded cannot be deleted.
        if self.storage.get(&record(address)).is_some() {
            companions.writes.push(Write::Delete(record(address)));
        }
    }

    fn claim_wanted(
        &self,
        service: &mut Value,
        wanted: Ipv4Addr,
        companions: &mut Companions,
    ) -> Result<(), Status> {
        let cidr = self.config.service_cidr;
        if !cidr.contains(&wanted) || wanted == cidr.network() || wanted == cidr.broadcast() {
            let why = format!(
                "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {cidr}"
            );
            return Err(refused(service, &why));
        }
        if self.storage.get(&record(wanted)).is_some() {
            let why = format!("failed to allocate IP {wanted}: provided IP is already allocated");
            return Err(refused(service, &why));
        }
        set_address(service, wanted);
        claim(service, wanted, companions);
        Ok(())
    }

    /// A free address; the lower part of the range is left to those who name theirs.
    fn free_address(&self) -> Option<Ipv4Addr> {
        let cidr = self.config.service_cidr;
        let (first, last) = (cidr.network().to_bits(), cidr.broadcast().to_bits());
        let size = u64::from(last - first) + 1;
        let reserved = u32::try_from((size / 16).clamp(16, 256)).unwrap_or(16);
        let free = |bits: &u32| self.storage.get(&record(Ipv4Addr::from_bits(*bits))).is_none();
        let upper = first.saturating_add(reserved).min(last)..last;
        let drawn = (0..DRAWS).filter(|_| !upper.is_empty()).map(|_| {
            let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
            upper.start
                + u32::try_from(random % u64::try_from(upper.len()).unwrap_or(1)).unwrap_or(0)
        });
        drawn
            .chain(upper.clone())
            .chain(first + 1..upper.start.max(first + 1))
            .find(free)
            .map(Ipv4Addr::from_bits)
    }
}

fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

fn needs_address(service: &Value) -> bool {
    object::text(service, "spec.type") != "ExternalName"
        && object::text(service, "spec.clusterIP") != "None"
}

fn address(service: &Value) -> Option<Ipv4Addr> {
    object::text(service, "spec.clusterIP").parse().ok()
}

fn set_address(service: &mut Value, address: Ipv4Addr) {
    let spec = object::ensure(service, "spec");
    spec.insert("clusterIP".to_owned(), address.to_string().into());
    spec.insert("clusterIPs".to_owned(), json!([address.to_string()]));
}

fn claim(service: &Value, address: Ipv4Addr, companions: &mut Companions) {
    let key = record(address);
    let holder = format!("{}/{}", object::namespace(service), object::name(service));
    companions.conditions.push(Condition::Absent(key.clone()));
    companions.writes.push(Write::Put(key, Body::from_value(&json!({ "service": holder }))));
}

fn record(address: Ipv4Addr) -> Key {
    Key::new("core", "serviceips", None, &address.to_string())
}

fn refused(service: &Value, why: &str) -> Status {
    let shown = json!([object::text(service, "spec.clusterIP")]);
    let error = FieldError::invalid("spec.clusterIPs", shown, why);
    Status::invalid("", "Service", object::name(service), vec![error])
}
