//! Places for connections: how many there may be in all, and how many from one source.
//!
//! Who is not known yet must not be able to keep others out: strangers have few places, lose them soon, and a source
//! of many strangers can take only a part of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::{MASTERS, User};
use crate::limits::{
    FIRST_REQUEST_TIMEOUT, GUEST_LIFE, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_USER, MAX_GUESTS,
    MAX_GUESTS_PER_SOURCE, RESERVED_CONNECTIONS,
};

/// A bounded number of places. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    per_source: usize,
    taken: Mutex<Taken>,
    n_refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    n: usize,
    by_source: BTreeMap<Source, usize>,
}

/// Addresses that one machine can choose from: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(it) => Self::V4(it.to_bits()),
            IpAddr::V6(it) => Self::V6((it.to_bits() >> 64) as u64),
        }
    }
}

/// Why there was no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPlace {
    /// All are taken.
    #[error("all {total} places are taken")]
    Full {
        /// How many there are.
        total: usize,
    },
    /// This source has its share.
    #[error("{per_source} places are taken by this source alone")]
    Source {
        /// How many one source may have.
        per_source: usize,
    },
}

impl Places {
    /// So many places in all, and so many for one source.
    pub fn new(total: usize, per_source: usize) -> Self {
        let (taken, n_refused) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { total, per_source, taken, n_refused }))
    }

    /// Takes a place until it is dropped.
    ///
    /// # Errors
    /// There is none, or the source has enough.
    pub fn take(&self, address: IpAddr) -> Result<Place, NoPlace> {
        let source = Source::of(address);
        let mut taken = self.0.lock();
        let (total, per_source) = (self.0.total, self.0.per_source);
        let refused = if taken.n >= total {
            Some(NoPlace::Full { total })
        } else {
            let of_source = taken.by_source.get(&source).copied().unwrap_or(0);
            (of_source >= per_source).then_some(NoPlace::Source { per_source })
        };
        if let Some(refused) = refused {
            drop(taken);
            self.complain(address, refused);
            return Err(refused);
        }
        taken.n += 1;
        *taken.by_source.entry(source).or_default() += 1;
        drop(taken);
        Ok(Place { places: self.clone(), source })
    }

    /// A flood must not flood the log as well: every doubling is told.
    fn complain(&self, address: IpAddr, refused: NoPlace) {
        let n_refused = self.0.n_refused.fetch_add(1, Ordering::Relaxed) + 1;
        if n_refused.is_power_of_two() {
            tracing::warn!(%address, n_refused, reason = %refused, "Refused a connection of a stranger");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    source: Source,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.n = taken.n.saturating_sub(1);
        if let Some(n) = taken.by_source.get_mut(&self.source) {
            *n -= 1;
            if *n == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// The places of the API's connections: strangers' and others'.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    guests: Places,
    known: Arc<Known>,
}

/// Connections of those who are known, by whose they are.
#[derive(Debug, Default)]
struct Known(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    n: usize,
    by_name: BTreeMap<String, usize>,
}

impl Known {
    fn take(self: &Arc<Self>, user: &User) -> Option<KnownPlace> {
        let mut users = self.lock();
        let own = users.by_name.get(&user.name).copied().unwrap_or(0);
        let is_free = users.n < MAX_CONNECTIONS && own < MAX_CONNECTIONS_PER_USER;
        let is_reserved = user.is_in(MASTERS) && users.n < MAX_CONNECTIONS + RESERVED_CONNECTIONS;
        if !is_free && !is_reserved {
            return None;
        }
        users.n += 1;
        *users.by_name.entry(user.name.clone()).or_default() += 1;
        Some(KnownPlace { known: self.clone(), name: user.name.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one known connection, given back when it is dropped.
#[derive(Debug)]
struct KnownPlace {
    known: Arc<Known>,
    name: String,
}

impl Drop for KnownPlace {
    fn drop(&mut self) {
        let mut users = self.known.lock();
        users.n = users.n.saturating_sub(1);
        if let Some(n) = users.by_name.get_mut(&self.name) {
            *n -= 1;
            if *n == 0 {
                users.by_name.remove(&self.name);
            }
        }
    }
}

impl Default for Seats {
    fn default() -> Self {
        Self { guests: Places::new(MAX_GUESTS, MAX_GUESTS_PER_SOURCE), known: Arc::default() }
    }
}

impl Seats {
    /// A stranger's place.
    pub(crate) fn guest(&self, address: IpAddr) -> Result<Arc<Seat>, NoPlace> {
        let place = Kind::Guest(self.guests.take(address)?);
        let (kind, asked) = (Mutex::new(place), AtomicBool::new(false));
        Ok(Arc::new(Seat { kind, known: self.known.clone(), asked }))
    }
}

/// The place of one connection: a stranger's until one of its requests was authenticated.
#[derive(Debug)]
pub(crate) struct Seat {
    kind: Mutex<Kind>,
    known: Arc<Known>,
    asked: AtomicBool,
}

#[derive(Debug)]
enum Kind {
    Guest(#[expect(dead_code, reason = "held for its drop")] Place),
    Known(#[expect(dead_code, reason = "held for its drop")] KnownPlace),
}

impl Seat {
    /// The other end has shown who it is. `false` if there is no place for it.
    pub(crate) fn authenticated(&self, user: &User) -> bool {
        let mut kind = self.kind.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*kind, Kind::Guest(_)) {
            let Some(place) = self.known.take(user) else { return false };
            *kind = Kind::Known(place);
        }
        true
    }

    /// A request has come.
    pub(crate) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    fn is_guest(&self) -> bool {
        matches!(*self.kind.lock().unwrap_or_else(PoisonError::into_inner), Kind::Guest(_))
    }

    /// Returns when the connection has had its time: nothing was asked, or nobody was named.
    pub(crate) async fn overdue(&self) -> Overdue {
        tokio::time::sleep(FIRST_REQUEST_TIMEOUT).await;
        if !self.asked.load(Ordering::Relaxed) {
            return Overdue::Silent;
        }
        tokio::time::sleep(GUEST_LIFE.saturating_sub(FIRST_REQUEST_TIMEOUT)).await;
        if self.is_guest() {
            return Overdue::Stranger;
        }
        std::future::pending().await
    }
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Overdue {
    /// No request came in time.
    Silent,
    /// Requests came, and none said whose they are.
    Stranger,
}

/// Pauses an accept loop after a failure, out of descriptors most likely: the connection stays in the queue.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_gets_its_share_and_all_get_what_there_is() {
        let places = Places::new(3, 2);
        let first = places.take(at("10.0.0.1")).unwrap();
        let _second = places.take(at("::ffff:10.0.0.1")).unwrap();
        assert_eq!(places.take(at("10.0.0.1")).unwrap_err(), NoPlace::Source { per_source: 2 });
        let _other = places.take(at("2001:db8::1")).unwrap();
        assert_eq!(places.take(at("10.0.0.2")).unwrap_err(), NoPlace::Full { total: 3 });
        drop(first);
        let _third = places.take(at("2001:db8:0:0:ffff::2")).unwrap();
        assert_eq!(places.take(at("10.0.0.2")).unwrap_err(), NoPlace::Full { total: 3 });
        assert_eq!(places.0.lock().by_source.len(), 2);
    }

    #[test]
    fn nobody_who_is_known_keeps_others_out() {
        let known = Arc::new(Known::default());
        let user =
            |name: &str, group: &str| User { groups: vec![group.to_owned()], ..User::named(name) };
        let flood = |name: &str| {
            let taken = std::iter::from_fn(|| known.take(&user(name, "dev")));
            taken.collect::<Vec<_>>()
        };
        let first = flood("a");
        assert_eq!(first.len(), MAX_CONNECTIONS_PER_USER);
        let others: Vec<Vec<KnownPlace>> = ["b", "c", "d", "e"].map(flood).into();
        assert_eq!(others.iter().map(Vec::len).sum::<usize>() + first.len(), MAX_CONNECTIONS);
        assert!(known.take(&user("f", "dev")).is_none());
        let mut admin: Vec<KnownPlace> =
            std::iter::from_fn(|| known.take(&user("admin", MASTERS))).collect();
        assert_eq!(admin.len(), RESERVED_CONNECTIONS);
        admin.clear();
        drop((first, others));
        assert!(known.lock().by_name.is_empty() && known.lock().n == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_strangers_and_those_who_stay_strangers_lose_their_places() {
        let seats = Seats::default();
        let silent = seats.guest(at("10.0.0.1")).unwrap();
        assert_eq!(silent.overdue().await, Overdue::Silent);
        let stranger = seats.guest(at("10.0.0.1")).unwrap();
        stranger.asked();
        assert_eq!(stranger.overdue().await, Overdue::Stranger);
        let known = seats.guest(at("10.0.0.1")).unwrap();
        known.asked();
        assert!(known.authenticated(&User::named("jane")));
        assert_eq!(seats.guests.0.lock().n, 2);
        let day = Duration::from_hours(24);
        assert!(tokio::time::timeout(day, known.overdue()).await.is_err());
    }
}
