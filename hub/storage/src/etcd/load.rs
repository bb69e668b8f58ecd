//! What lies in etcd when a hub starts: the identity of the history, and every object at one moment.

use super::{
    CALL_TIMEOUT, Layout, Members, one,
    record::{RecordError, decode, revision},
    wire::{self, CallError, Compare, Op, PutRequest, RangeRequest, RequestOp, TxnRequest},
};
use crate::{Entry, Key, Revision, Sealer, StorageEpoch};

/// Objects that are read at once.
const PAGE: i64 = 256;

/// Everything that is stored, at one revision.
pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    /// Of the last transaction.
    pub(super) revision: Revision,
    /// etcd's own when it was read: the watch goes on after it.
    pub(super) at: i64,
    pub(super) cluster: u64,
    pub(super) n_unreadable: usize,
    /// Indices of the entries that are not sealed as they should be.
    pub(super) to_reseal: Vec<usize>,
}

/// Why not everything could be read.
pub(super) enum LoadError {
    Call(CallError),
    Record { key: String, err: RecordError },
}

impl From<CallError> for LoadError {
    fn from(err: CallError) -> Self {
        Self::Call(err)
    }
}

/// Finds or begins the history, and reads everything.
pub(super) async fn begin(
    members: &Members,
    layout: &Layout,
    sealer: Option<&Sealer>,
) -> Result<(StorageEpoch, bool, Loaded), LoadError> {
    let (epoch, new_epoch) = epoch(members, layout).await?;
    Ok((epoch, new_epoch, load(members, layout, sealer).await?))
}

/// A new history begins with a write, so that readers have something to catch up with.
pub(super) fn write_epoch(layout: &Layout, epoch: StorageEpoch) -> Vec<RequestOp> {
    let put = |key, value: String| Op::Put(PutRequest { key, value: value.into() }).into();
    vec![put(layout.epoch(), epoch.get().to_string()), put(layout.last(), String::new())]
}

/// Of hubs that start at the same time exactly one begins the history.
async fn epoch(members: &Members, layout: &Layout) -> Result<(StorageEpoch, bool), LoadError> {
    let drawn = StorageEpoch::draw();
    let request = TxnRequest {
        compare: vec![Compare::absent(layout.epoch())],
        success: write_epoch(layout, drawn),
        failure: vec![Op::Range(one(layout.epoch())).into()],
    };
    let response = wire::txn(&members.channel(), request, CALL_TIMEOUT).await?;
    if response.succeeded {
        return Ok((drawn, true));
    }
    let range = response.responses.into_iter().next().and_then(|it| it.range);
    let found = range.and_then(|it| it.kvs.into_iter().next());
    let text = found.and_then(|it| String::from_utf8(it.value.to_vec()).ok());
    let number = text.and_then(|it| it.parse().ok());
    let malformed = || LoadError::Record { key: "epoch".to_owned(), err: RecordError::Malformed };
    number.map(|it| (StorageEpoch::new(it), false)).ok_or_else(malformed)
}

/// Reads every object as it was at one moment.
pub(super) async fn load(
    members: &Members,
    layout: &Layout,
    sealer: Option<&Sealer>,
) -> Result<Loaded, LoadError> {
    let channel = members.channel();
    let (mut key, range_end) = layout.objects();
    let mut loaded = Loaded {
        entries: Vec::new(),
        revision: Revision::ZERO,
        at: 0,
        cluster: 0,
        n_unreadable: 0,
        to_reseal: Vec::new(),
    };
    loop {
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: PAGE,
            revision: loaded.at,
        };
        let page = wire::range(&channel, request, CALL_TIMEOUT).await?;
        if loaded.at == 0 {
            let header = page.header.unwrap_or_default();
            (loaded.at, loaded.cluster) = (header.revision, header.cluster_id);
        }
        if let Some(last) = page.kvs.last() {
            key = [&last.key[..], b"\0"].concat().into();
        }
        for kv in page.kvs {
            loaded.absorb(layout, &kv, sealer)?;
        }
        if !page.more {
            break;
        }
    }
    let last = RangeRequest { revision: loaded.at, ..one(layout.last()) };
    let last = wire::range(&channel, last, CALL_TIMEOUT).await?.kvs.into_iter().next();
    loaded.revision = last.map_or(Revision::ZERO, |it| revision(it.mod_revision));
    Ok(loaded)
}

impl Loaded {
    pub(super) fn keys_to_reseal(&self) -> Vec<Key> {
        let entries = self.to_reseal.iter().filter_map(|index| self.entries.get(*index));
        entries.map(|it| it.key.clone()).collect()
    }

    fn absorb(
        &mut self,
        layout: &Layout,
        kv: &wire::KeyValue,
        sealer: Option<&Sealer>,
    ) -> Result<(), LoadError> {
        let Some(key) = layout.object_key(&kv.key) else {
            self.n_unreadable += 1;
            return Ok(());
        };
        match decode(&key, kv, sealer) {
            Ok((entry, sealed_with)) => {
                if sealed_with.as_deref() != sealer.and_then(|it| it.wanted(&entry.key)) {
                    self.to_reseal.push(self.entries.len());
                }
                self.entries.push(entry);
            }
            Err(RecordError::Malformed) => self.n_unreadable += 1,
            Err(err) => return Err(LoadError::Record { key: key.to_string(), err }),
        }
        Ok(())
    }
}
