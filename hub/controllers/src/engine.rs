//! Queues, back-off and ordering for all controllers, without doing anything itself.
//!
//! ```text
//!   change ──affected──> ready ──poll_work──> in flight ──handle_done──> held until the world shows
//!                          ^                                             the key's own writes ──┐
//!                          └── recheck, back-off, or changed meanwhile ─────────────────────────┘
//! ```
//! At most one plan of a key is in flight. Nothing is planned before every kind is known completely.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::object::{Kind, KindRow, Object, ObjectRef, Uid};
use crate::world::{Applied, World};
use crate::write::Write;
use crate::{Controller, Plan};

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_millis(5);
const LAST_BACKOFF: SignedDuration = SignedDuration::from_secs(60);

/// Names a plan that is being carried out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// Writes to carry out; the outcome goes back to [`Engine::handle_done`].
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub ticket: Ticket,
    /// Name of the controller that asks.
    pub controller: &'static str,
    pub key: ObjectRef,
    pub writes: Vec<Write>,
}

/// What has to be seen before a key is planned again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Await {
    /// The informer of this kind has delivered this revision.
    Revision(Kind, u64),
    /// This incarnation is gone or going.
    Gone(ObjectRef, Uid),
}

/// Why a plan stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// Somebody else was faster: the news is on its way.
    Conflict,
    Create,
    Delete,
    Other,
}

/// A failed write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    /// The reason of a ReplicaFailure condition, if this failure is worth one.
    pub fn reason_of_replica_failure(&self) -> Option<&'static str> {
        match self.kind {
            FailureKind::Create => Some("FailedCreate"),
            FailureKind::Delete => Some("FailedDelete"),
            FailureKind::Conflict | FailureKind::Other => None,
        }
    }
}

/// How a plan went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// What the writes that were made will show up as.
    pub awaits: Vec<Await>,
    pub failure: Option<Failure>,
}

/// A key of one controller, by its place in the list of controllers.
type Slot = (usize, ObjectRef);

#[derive(Debug)]
struct Flight {
    slot: Slot,
    recheck_at: Option<Timestamp>,
    awaits: Vec<Await>,
    /// Set on the writes that only report a failure.
    failed: bool,
}

/// The state machine that drives all controllers.
pub struct Engine {
    world: World,
    controllers: Vec<Box<dyn Controller>>,
    ready: Vec<VecDeque<ObjectRef>>,
    queued: BTreeSet<Slot>,
    in_flight: BTreeMap<Ticket, Flight>,
    busy: BTreeSet<Slot>,
    /// Changed while busy or held.
    dirty: BTreeSet<Slot>,
    held: BTreeMap<Slot, Vec<Await>>,
    /// Whether the world moved since the held keys were looked through.
    moved: bool,
    timers: BTreeSet<(Timestamp, Slot)>,
    timer_of: BTreeMap<Slot, Timestamp>,
    failures: BTreeMap<Slot, u32>,
    next_ticket: u64,
    max_in_flight: usize,
    turn: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("queued", &self.queued.len())
            .field("in_flight", &self.in_flight.len())
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    pub fn new(world: World, controllers: Vec<Box<dyn Controller>>, max_in_flight: usize) -> Self {
        let ready = controllers.iter().map(|_| VecDeque::new()).collect();
        let mut engine = Self {
            world,
            controllers,
            ready,
            queued: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            busy: BTreeSet::new(),
            dirty: BTreeSet::new(),
            held: BTreeMap::new(),
            moved: false,
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            failures: BTreeMap::new(),
            next_ticket: 0,
            max_in_flight,
            turn: 0,
        };
        for controller in 0..engine.controllers.len() {
            for key in engine.controllers[controller].initial() {
                engine.enqueue((controller, key));
            }
        }
        engine
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// See [`World::forget_value`].
    pub fn forget_value(&mut self, key: &ObjectRef) {
        self.world.forget_value(key);
    }

    /// Whether nothing is queued, in flight or held. Timers may still be set.
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty() && self.held.is_empty()
    }

    /// A new or changed object. Returns what it did to the cache, for others who keep state.
    pub fn handle_put(&mut self, object: Object, now: Timestamp) -> Option<Applied> {
        self.moved = true;
        let applied = self.world.put(object, now)?;
        self.wake(&applied);
        Some(applied)
    }

    /// A removed object.
    pub fn handle_removed(
        &mut self,
        key: &ObjectRef,
        revision: u64,
        now: Timestamp,
    ) -> Option<Applied> {
        self.moved = true;
        let applied = self.world.remove(key, revision, now)?;
        self.wake(&applied);
        Some(applied)
    }

    /// A kind is served from now on: its objects are still to come.
    pub fn add_kind(&mut self, row: KindRow) {
        self.world.add_kind(row);
        self.moved = true;
    }

    /// A kind is served no more.
    pub fn remove_kind(&mut self, kind: Kind) {
        self.world.remove_kind(kind);
        self.moved = true;
    }

    /// Everything of `kind` up to `revision` has been handed in.
    pub fn handle_synced(&mut self, kind: Kind, revision: u64) {
        self.moved = true;
        self.world.mark_synced(kind, revision);
    }

    /// A plan has been carried out.
    pub fn handle_done(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Work> {
        let mut flight = self.in_flight.remove(&ticket)?;
        flight.awaits.extend(outcome.awaits);
        if let (Some(failure), false) = (&outcome.failure, flight.failed) {
            self.delay(&flight.slot, now);
            flight.failed = true;
            if let Some(work) = self.report(flight.slot.clone(), failure, now) {
                let work = Work { ticket: self.ticket(), ..work };
                self.in_flight.insert(work.ticket, flight);
                return Some(work);
            }
        }
        if !flight.failed {
            self.failures.remove(&flight.slot);
            if let Some(at) = flight.recheck_at {
                self.set_timer(flight.slot.clone(), at);
            }
        }
        self.busy.remove(&flight.slot);
        self.held.insert(flight.slot, flight.awaits);
        self.moved = true;
        None
    }

    /// Plans what is ready. Call again after every input; `None` means there is nothing to do.
    pub fn poll_work(&mut self, now: Timestamp) -> Option<Work> {
        if !self.world.is_synced() {
            return None;
        }
        self.release_held();
        self.fire_timers(now);
        while self.in_flight.len() < self.max_in_flight {
            let (controller, key) = self.next_ready()?;
            let plan = self.controllers[controller].reconcile(&key, &self.world, now);
            if let Some(work) = self.launch((controller, key), plan) {
                return Some(work);
            }
        }
        None
    }

    /// When [`Self::poll_work`] has to be called even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn launch(&mut self, slot: Slot, plan: Plan) -> Option<Work> {
        if plan.writes.is_empty() {
            self.failures.remove(&slot);
            if let Some(at) = plan.recheck_at {
                self.set_timer(slot, at);
            }
            return None;
        }
        let ticket = self.ticket();
        let controller = self.controllers[slot.0].name();
        let key = slot.1.clone();
        self.busy.insert(slot.clone());
        let recheck_at = plan.recheck_at;
        let flight = Flight { slot, recheck_at, awaits: Vec::new(), failed: false };
        self.in_flight.insert(ticket, flight);
        Some(Work { ticket, controller, key, writes: plan.writes })
    }

    fn report(&self, slot: Slot, failure: &Failure, now: Timestamp) -> Option<Work> {
        let controller = &self.controllers[slot.0];
        let writes = controller.failed(&slot.1, &self.world, failure, now);
        let (name, key) = (controller.name(), slot.1);
        (!writes.is_empty()).then_some(Work { ticket: Ticket(0), controller: name, key, writes })
    }

    fn delay(&mut self, slot: &Slot, now: Timestamp) {
        let failures = self.failures.entry(slot.clone()).or_default();
        *failures += 1;
        let doublings = (*failures - 1).min(20);
        let delay = (FIRST_BACKOFF * (1 << doublings)).min(LAST_BACKOFF);
        self.set_timer(slot.clone(), now.checked_add(delay).unwrap_or(Timestamp::MAX));
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn wake(&mut self, applied: &Applied) {
        let change = applied.change();
        for place in 0..self.controllers.len() {
            for key in self.controllers[place].affected(&change, &self.world) {
                self.enqueue((place, key));
            }
        }
    }

    fn enqueue(&mut self, slot: Slot) {
        if self.busy.contains(&slot) || self.held.contains_key(&slot) {
            self.dirty.insert(slot);
        } else if self.queued.insert(slot.clone()) {
            self.ready[slot.0].push_back(slot.1);
        }
    }

    fn next_ready(&mut self) -> Option<Slot> {
        let n_queues = self.ready.len();
        for _ in 0..n_queues {
            let place = self.turn % n_queues;
            self.turn = (place + 1) % n_queues;
            if let Some(key) = self.ready[place].pop_front() {
                let slot = (place, key);
                self.queued.remove(&slot);
                self.clear_timer(&slot);
                return Some(slot);
            }
        }
        None
    }

    fn release_held(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        let world = &self.world;
        let shown: Vec<Slot> = self
            .held
            .iter()
            .filter(|(_, awaits)| awaits.iter().all(|it| is_shown(it, world)))
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in shown {
            self.held.remove(&slot);
            if self.dirty.remove(&slot) {
                self.enqueue(slot);
            }
        }
    }

    fn set_timer(&mut self, slot: Slot, at: Timestamp) {
        if let Some(old) = self.timer_of.insert(slot.clone(), at) {
            self.timers.remove(&(old, slot.clone()));
        }
        self.timers.insert((at, slot));
    }

    fn clear_timer(&mut self, slot: &Slot) {
        if let Some(at) = self.timer_of.remove(slot) {
            self.timers.remove(&(at, slot.clone()));
        }
    }

    fn fire_timers(&mut self, now: Timestamp) {
        while let Some((at, slot)) = self.timers.first().cloned() {
            if at > now {
                return;
            }
            self.clear_timer(&slot);
            self.enqueue(slot);
        }
    }
}

fn is_shown(awaited: &Await, world: &World) -> bool {
    match awaited {
        Await::Revision(kind, revision) => world.seen(*kind).is_none_or(|seen| seen >= *revision),
        Await::Gone(key, uid) => {
            world.find(key).is_none_or(|object| object.uid != *uid || object.is_deleting())
        }
    }
}

#[cfg(test)]
mod tests;
