//! A history in etcd that begins with given objects: those of a backup.
//!
//! While they are written, what stands in the place of the epoch is none: no hub opens half of them, and of two that
//! restore into one place only one does.

use bytes::Bytes;

use super::{
    CALL_TIMEOUT, EtcdOpenError, EtcdOptions, EtcdPlace, Layout, Members,
    load::{LoadError, write_epoch},
    patiently,
    record::{encode, revision},
    unreachable, unreadable,
    wire::{self, Compare, Op, PutRequest, RangeRequest, RequestOp, TxnRequest},
};
use crate::{Body, Key, StorageEpoch, backup::Restored};

/// In the place of the epoch until all is written.
const CLAIM: &str = "restoring";
/// Objects of one transaction: etcd takes 128.
const BATCH: usize = 64;
/// Bytes of one transaction: etcd takes 1.5 MiB, and an object may have as much.
const BATCH_BYTES: usize = 512 << 10;

/// Why objects could not become a history in etcd.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EtcdRestoreError {
    /// etcd cannot be spoken to. Nothing was written.
    #[error(transparent)]
    Open(#[from] EtcdOpenError),
    /// There is something already: a history, or what is left of an attempt before. Nothing was written.
    #[error(
        "{place} is not empty: a backup is restored into a new place only. Take another prefix, or remove what is left of \
         an attempt before with `etcdctl del --prefix {prefix}/`"
    )]
    NotEmpty {
        /// The etcd.
        place: String,
        /// What everything of it begins with.
        prefix: String,
    },
    /// An object is larger than etcd takes. Nothing was written.
    #[error("{key} has {size} bytes, more than the {limit} that etcd takes")]
    TooLarge {
        /// The object.
        key: Key,
        /// Its size.
        size: usize,
        /// The largest accepted size.
        limit: usize,
    },
    /// It stopped half-way. No hub opens what was written.
    #[error(
        "could not write to {place}: {reason}. Remove what was written with `etcdctl del --prefix {prefix}/`"
    )]
    Write {
        /// The etcd.
        place: String,
        /// What everything of it begins with.
        prefix: String,
        /// Why.
        reason: String,
    },
}

/// Makes a history of these objects, in an etcd that has nothing in this place. Waits a while for an etcd that is out of
/// reach.
///
/// # Errors
/// There is something already, or etcd is out of reach or refuses.
pub async fn restore_etcd(
    place: &EtcdPlace,
    options: &EtcdOptions,
    objects: Vec<(Key, Body)>,
) -> Result<Restored, EtcdRestoreError> {
    let limit = options.object_bytes;
    if let Some((key, body)) = objects.iter().find(|(_, body)| body.size() > limit) {
        return Err(EtcdRestoreError::TooLarge { key: key.clone(), size: body.size(), limit });
    }
    let target = Target {
        place,
        members: Members::new(place, &options.tls)?,
        layout: Layout::new(&place.prefix),
    };
    target.claim().await?;
    let n_objects = objects.len();
    let (mut batch, mut n_bytes) = (Vec::new(), 0);
    for (key, body) in objects {
        let value = encode(&key, &body, options.sealer.as_deref());
        if batch.len() == BATCH || (n_bytes + value.len() > BATCH_BYTES && !batch.is_empty()) {
            target.write(std::mem::take(&mut batch)).await?;
            n_bytes = 0;
        }
        n_bytes += value.len();
        batch.push(Op::Put(PutRequest { key: target.layout.object(&key), value }).into());
    }
    target.write(batch).await?;
    let epoch = StorageEpoch::draw();
    let at = target.write(write_epoch(&target.layout, epoch)).await?;
    Ok(Restored { n_objects, revision: revision(at), epoch })
}

struct Target<'a> {
    place: &'a EtcdPlace,
    members: Members,
    layout: Layout,
}

impl Target<'_> {
    /// Makes sure that there is nothing, and that nobody else begins.
    async fn claim(&self) -> Result<(), EtcdRestoreError> {
        let (key, range_end) = self.layout.everything();
        let look = RangeRequest { key, range_end, limit: 1, revision: 0 };
        let look = || async {
            let found = wire::range(&self.members.channel(), look.clone(), CALL_TIMEOUT).await?;
            Ok::<bool, LoadError>(found.kvs.is_empty())
        };
        let is_empty = patiently(self.place, &self.members, look).await;
        let is_empty = is_empty.map_err(|err| match err {
            LoadError::Call(err) => unreachable(self.place, err),
            LoadError::Record { key, err } => unreadable(self.place, key, err),
        })?;
        let claim =
            PutRequest { key: self.layout.epoch(), value: Bytes::from_static(CLAIM.as_bytes()) };
        let request = TxnRequest {
            compare: vec![Compare::absent(self.layout.epoch())],
            success: vec![Op::Put(claim).into()],
            failure: Vec::new(),
        };
        if is_empty && self.txn(request).await?.succeeded {
            return Ok(());
        }
        Err(EtcdRestoreError::NotEmpty {
            place: self.place.to_string(),
            prefix: self.place.prefix.clone(),
        })
    }

    /// Writes, if this place is still ours. The answer is etcd's revision.
    async fn write(&self, ops: Vec<RequestOp>) -> Result<i64, EtcdRestoreError> {
        let request = TxnRequest {
            compare: vec![Compare::present(self.layout.epoch())],
            success: ops,
            failure: Vec::new(),
        };
        let response = self.txn(request).await?;
        if !response.succeeded {
            return Err(self.failed("somebody removed it meanwhile".to_owned()));
        }
        Ok(response.header.unwrap_or_default().revision)
    }

    async fn txn(&self, request: TxnRequest) -> Result<wire::TxnResponse, EtcdRestoreError> {
        let answer = wire::txn(&self.members.channel(), request, CALL_TIMEOUT).await;
        answer.map_err(|err| self.failed(err.to_string()))
    }

    fn failed(&self, reason: String) -> EtcdRestoreError {
        let (place, prefix) = (self.place.to_string(), self.place.prefix.clone());
        EtcdRestoreError::Write { place, prefix, reason }
    }
}
