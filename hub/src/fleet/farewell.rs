//! What a killed hub could not say: its next process tells the nodes that their old connections are gone.
//!
//! A node hears of a dead hub only when it sends something, which an idle node does every ten seconds. So the hub
//! notes which connections it has, and sends each a stateless reset (RFC 9000, section 10.3) when it starts again:
//! one packet a node, and only after a crash. The note may be old or lost; then nodes notice by themselves.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, ConnectionId, ConnectionIdGenerator};
use ring::{hmac, rand::SecureRandom};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes of a connection's identifier.
const ID_LEN: usize = 8;
/// Bytes of a reset token.
const TOKEN_LEN: usize = 16;
/// Unpredictable bytes before the token, so that the packet looks like any other.
const PADDING: usize = 27;
/// A change is noted at once; those that come this soon after wait for each other.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of a note that are believed.
const MAX_LINES: usize = 100_000;

/// Identifier of a connection, chosen by the hub.
pub(super) type Id = [u8; ID_LEN];

thread_local! {
    /// The first identifier that was drawn on this thread since the last look.
    static FIRST: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Identifiers of connections. quinn's own generator signs them with a key of the process, and
/// then drops what a killed hub's nodes still send: they would wait for their idle timeout. Of
/// these any may have been ours, and the reset that answers it is smaller than what it answers.
pub(super) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = uuid::Uuid::new_v4().into_bytes();
        let id = random.first_chunk::<ID_LEN>().copied().unwrap_or_default();
        FIRST.with(|it| it.set(it.get().or(Some(id))));
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Runs what accepts one connection. Also returns the identifier under which its peer will write to it: the first
/// that is drawn, and the only one that the peer uses while it does not move to another address.
pub(super) fn watch_id<T>(accept: impl FnOnce() -> T) -> (T, Option<Id>) {
    FIRST.with(|it| it.set(None));
    let accepted = accept();
    (accepted, FIRST.with(Cell::take))
}

/// The connections that a crash would cut.
pub(super) struct Farewells {
    path: PathBuf,
    open: Mutex<BTreeMap<Id, Connection>>,
    changed: Notify,
}

impl Farewells {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: Mutex::default(), changed: Notify::new() }
    }

    /// Notes a connection until the result is dropped.
    pub(super) fn note(&self, id: Id, connection: &Connection) -> Noted<'_> {
        self.lock().insert(id, connection.clone());
        self.changed.notify_one();
        Noted { farewells: self, id }
    }

    /// Writes what changes, and at the end removes the note: an orderly stop says goodbye itself.
    pub(super) async fn keep(&self, shutdown: CancellationToken) {
        let keeping = async {
            loop {
                self.changed.notified().await;
                if let Err(err) = self.write() {
                    tracing::warn!(error = %err, path = %self.path.display(), "Could not note connections");
                }
                tokio::time::sleep(NOTE_INTERVAL).await;
            }
        };
        let _stopped: Option<()> = shutdown.run_until_cancelled(keeping).await;
        // What stays behind tells nodes what they know.
        let _absent = fs::remove_file(&self.path);
    }

    #[expect(clippy::disallowed_methods, reason = "after a power cut nodes notice by themselves")]
    pub(super) fn write(&self) -> io::Result<()> {
        let mut text = String::new();
        for (id, connection) in &*self.lock() {
            let id = u64::from_be_bytes(*id);
            text.push_str(&format!("{id:016x} {}\n", connection.remote_address()));
        }
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &self.path)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the note.
pub(super) struct Noted<'a> {
    farewells: &'a Farewells,
    id: Id,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.farewells.lock().remove(&self.id);
        self.farewells.changed.notify_one();
    }
}

/// Tells the nodes of the process before that their connections are gone. Returns how many.
pub(super) fn say(path: &Path, socket: &UdpSocket, reset_key: &hmac::Key) -> usize {
    // No note: the first start, or an orderly stop before it.
    let Ok(text) = fs::read_to_string(path) else { return 0 };
    let told = text.lines().take(MAX_LINES).filter_map(parse);
    told.filter(|(id, address)| match socket.send_to(&reset(*id, reset_key), address) {
        Ok(_) => true,
        Err(err) => {
            tracing::debug!(%address, error = %err, "Could not say farewell");
            false
        }
    })
    .count()
}

fn parse(line: &str) -> Option<(Id, SocketAddr)> {
    let (id, address) = line.split_once(' ')?;
    Some((u64::from_str_radix(id, 16).ok()?.to_be_bytes(), address.parse().ok()?))
}

/// A stateless reset: padding that looks like the head of a short packet, then the token.
fn reset(id: Id, reset_key: &hmac::Key) -> Vec<u8> {
    let mut packet = vec![0; PADDING];
    // Without randomness it is merely easier to recognise.
    let _ = ring::rand::SystemRandom::new().fill(&mut packet);
    if let Some(first) = packet.first_mut() {
        *first = 0b0100_0000 | (*first >> 2);
    }
    let token = hmac::sign(reset_key, &id);
    packet.extend(token.as_ref().iter().take(TOKEN_LEN));
    packet
}
