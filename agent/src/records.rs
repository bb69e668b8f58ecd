//! What the ledger knows about pods, read at boot and written before every act.

use std::{collections::BTreeMap, net::Ipv4Addr};

use agent_core::{
    ids::{ContainerName, PodUid},
    record::{self, ContainerRecord, PodRecord},
};
use agent_ledger::{Change, CommitError, Ledger, Table};

use crate::network::Remembered;

/// The records of one pod.
#[derive(Clone, Debug, Default)]
pub struct PodRecords {
    pub pod: Option<PodRecord>,
    pub containers: BTreeMap<ContainerName, ContainerRecord>,
    pub address: Option<Ipv4Addr>,
}

/// Reads the records of all pods. What does not parse is left out: the runtime's inventory shows
/// what runs all the same.
pub fn load(ledger: &Ledger) -> BTreeMap<PodUid, PodRecords> {
    let mut pods: BTreeMap<PodUid, PodRecords> = BTreeMap::new();
    for (key, bytes) in ledger.scan(Table::Sandbox) {
        if let (Ok(uid), Some(record)) = (key.parse(), record::decode::<PodRecord>(&bytes)) {
            pods.entry(uid).or_default().pod = Some(record);
        }
    }
    for (key, bytes) in ledger.scan(Table::Container) {
        let Some((uid, name)) = key.split_once('/') else { continue };
        if let (Ok(uid), Ok(name), Some(record)) =
            (uid.parse(), name.parse(), record::decode::<ContainerRecord>(&bytes))
        {
            pods.entry(uid).or_default().containers.insert(name, record);
        }
    }
    for (uid, address) in leases(ledger) {
        pods.entry(uid).or_default().address = Some(address);
    }
    pods
}

/// What the pods have of the network.
pub fn network(ledger: &Ledger) -> Remembered {
    let mut remembered = Remembered { leases: leases(ledger), ..Remembered::default() };
    for record in load(ledger).into_values().filter_map(|it| it.pod) {
        let sandbox = record.sandbox.as_ref().filter(|_| !record.has_ended());
        let Some((attempt, address)) = sandbox.and_then(|it| Some((it.attempt, it.address?)))
        else {
            continue;
        };
        remembered.sandboxes.insert(record.sandbox_id(attempt), address);
    }
    remembered
}

/// All addresses that are given out.
fn leases(ledger: &Ledger) -> BTreeMap<PodUid, Ipv4Addr> {
    let parse = |(key, bytes): (String, Vec<u8>)| {
        Some((key.parse().ok()?, std::str::from_utf8(&bytes).ok()?.parse().ok()?))
    };
    ledger.scan(Table::Ipam).into_iter().filter_map(parse).collect()
}

/// The address that a pod has.
pub fn lease(ledger: &Ledger, uid: &PodUid) -> Option<Ipv4Addr> {
    let bytes = ledger.read(Table::Ipam, &uid.to_string())?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

fn put_lease(uid: &PodUid, address: Ipv4Addr) -> Change {
    let value = address.to_string().into_bytes();
    Change::Put { table: Table::Ipam, key: uid.to_string(), value }
}

fn delete_lease(uid: &PodUid) -> Change {
    Change::Delete { table: Table::Ipam, key: uid.to_string() }
}

fn container_key(uid: &PodUid, name: &ContainerName) -> String {
    format!("{uid}/{name}")
}

/// Writes the pod's record, and the address that it has.
///
/// # Errors
/// The ledger could not write.
pub async fn put_pod(
    ledger: &Ledger,
    record: &PodRecord,
    address: Option<Ipv4Addr>,
) -> Result<(), CommitError> {
    let mut changes = vec![pod_change(record)];
    changes.extend(address.map(|it| put_lease(&record.uid, it)));
    ledger.commit(changes).await
}

fn pod_change(record: &PodRecord) -> Change {
    let value = record::encode(record);
    Change::Put { table: Table::Sandbox, key: record.uid.to_string(), value }
}

/// Writes a container's record, and the pod's with it.
///
/// # Errors
/// The ledger could not write.
pub async fn put_container(
    ledger: &Ledger,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<(), CommitError> {
    let value = record::encode(record);
    let key = container_key(&pod.uid, &record.name);
    let container = Change::Put { table: Table::Container, key, value };
    ledger.commit(vec![container, pod_change(pod)]).await
}

/// Gives the pod's address back.
///
/// # Errors
/// The ledger could not write.
pub async fn release(ledger: &Ledger, uid: &PodUid) -> Result<(), CommitError> {
    ledger.commit(vec![delete_lease(uid)]).await
}

/// Drops everything that is known about a pod.
///
/// # Errors
/// The ledger could not write.
pub async fn forget(ledger: &Ledger, uid: &PodUid) -> Result<(), CommitError> {
    let prefix = format!("{uid}/");
    let containers = ledger.scan(Table::Container).into_iter().map(|(key, _)| key);
    let mut changes: Vec<Change> = containers
        .filter(|key| key.starts_with(&prefix))
        .map(|key| Change::Delete { table: Table::Container, key })
        .collect();
    changes.push(Change::Delete { table: Table::Sandbox, key: uid.to_string() });
    changes.push(delete_lease(uid));
    ledger.commit(changes).await
}
