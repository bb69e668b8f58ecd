//! What lies in etcd when a hub starts: the identity of the history, and every object at one moment.

use std::time::Duration;

use bytes::Bytes;

use super::{
    CALL_TIMEOUT, Layout, Members, one,
    record::{RecordError, decode, revision},
    wire::{self, CallError, Compare, Op, PutRequest, RangeRequest, RequestOp, TxnRequest},
};
use crate::{Entry, Key, Revision, Sealer, StorageEpoch};

/// Objects that are read at once, unless they are too large together.
const PAGE: i64 = 256;
/// For one page. On a narrow link fewer objects arrive in this time: then fewer are asked for.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one page is asked for again when a connection breaks.
const MAX_BREAKS: u32 = 5;
const PAUSE_AFTER_BREAK: Duration = Duration::from_millis(500);

/// Everything that is stored, at one revision.
pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    /// Of the last transaction.
    pub(super) revision: Revision,
    /// etcd's own when it was read: the watch goes on after it.
    pub(super) at: i64,
    pub(super) cluster: u64,
    /// None: somebody has removed it.
    pub(super) epoch: Option<StorageEpoch>,
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

/// A new history begins with a write, so that readers have something to catch up with.
pub(super) fn write_epoch(layout: &Layout, epoch: StorageEpoch) -> Vec<RequestOp> {
    let put = |key, value: String| Op::Put(PutRequest { key, value: value.into() }).into();
    vec![put(layout.epoch(), epoch.get().to_string()), put(layout.last(), String::new())]
}

/// Finds the history, or begins it, and says whether it did: of hubs that start at the same time exactly one does.
pub(super) async fn begin(
    members: &Members,
    layout: &Layout,
) -> Result<(StorageEpoch, bool), LoadError> {
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
    let malformed = || LoadError::Record { key: "epoch".to_owned(), err: RecordError::Malformed };
    found.and_then(|it| parse_epoch(&it.value)).map(|it| (it, false)).ok_or_else(malformed)
}

/// Reads what [`write_epoch`] has written.
pub(super) fn parse_epoch(value: &[u8]) -> Option<StorageEpoch> {
    std::str::from_utf8(value).ok()?.parse().ok().map(StorageEpoch::new)
}

/// Reads every object as it was at one moment. Goes on through breaks of the connection.
pub(super) async fn load(
    members: &Members,
    layout: &Layout,
    sealer: Option<&Sealer>,
) -> Result<Loaded, LoadError> {
    let (mut key, range_end) = layout.objects();
    let mut loaded = Loaded {
        entries: Vec::new(),
        revision: Revision::ZERO,
        at: 0,
        cluster: 0,
        epoch: None,
        n_unreadable: 0,
        to_reseal: Vec::new(),
    };
    let mut pager = Pager { members, limit: PAGE, n_breaks: 0 };
    loop {
        let page = pager.read(&key, &range_end, loaded.at).await?;
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
    let last = pager.read(&layout.last(), &Bytes::new(), loaded.at).await?.kvs.pop();
    loaded.revision = last.map_or(Revision::ZERO, |it| revision(it.mod_revision));
    let epoch = pager.read(&layout.epoch(), &Bytes::new(), loaded.at).await?.kvs.pop();
    loaded.epoch = epoch.and_then(|it| parse_epoch(&it.value));
    Ok(loaded)
}

/// Reads page after page, in portions that arrive in time.
struct Pager<'a> {
    members: &'a Members,
    limit: i64,
    n_breaks: u32,
}

impl Pager<'_> {
    async fn read(
        &mut self,
        key: &Bytes,
        range_end: &Bytes,
        revision: i64,
    ) -> Result<wire::RangeResponse, CallError> {
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: self.limit,
                revision,
            };
            match wire::range(&self.members.channel(), request, PAGE_TIMEOUT).await {
                Err(err @ (CallError::TimedOut | CallError::TooLarge)) if self.limit > 1 => {
                    self.limit = (self.limit / 4).max(1);
                    if err == CallError::TimedOut {
                        self.members.pass_over();
                    }
                }
                Err(CallError::Unreachable { .. } | CallError::TimedOut)
                    if self.n_breaks < MAX_BREAKS =>
                {
                    self.n_breaks += 1;
                    self.members.pass_over();
                    tokio::time::sleep(PAUSE_AFTER_BREAK).await;
                }
                Err(err) => return Err(err),
                Ok(page) => {
                    // One slow moment, or a few large objects, are soon behind us.
                    self.limit = self.limit.saturating_mul(2).min(PAGE);
                    self.n_breaks = 0;
                    return Ok(page);
                }
            }
        }
    }
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
