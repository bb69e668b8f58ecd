//! One priority level: its seats, and the queues before them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hub_api::object;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::limits::{FLOW_SEATS, FLOW_WAIT};

/// What an object says of a level.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) name: String,
    pub(super) uid: String,
    /// Zero if it is exempt.
    pub(super) shares: u64,
    exempt: bool,
    queuing: Option<Queuing>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Queuing {
    queues: usize,
    hand: usize,
    length: usize,
}

impl Limits {
    pub(super) fn parse(object: &Value) -> Self {
        let spec = &object["spec"];
        let limited = &spec["limited"];
        let number = |value: &Value, otherwise: u64| value.as_u64().unwrap_or(otherwise);
        let size = |value: &Value, otherwise: u64| {
            usize::try_from(number(value, otherwise)).unwrap_or(usize::MAX).max(1)
        };
        let response = &limited["limitResponse"];
        let queuing = (response["type"] == "Queue").then(|| {
            let queuing = &response["queuing"];
            Queuing {
                queues: size(&queuing["queues"], 64),
                hand: size(&queuing["handSize"], 8),
                length: size(&queuing["queueLengthLimit"], 50),
            }
        });
        let exempt = spec["type"] == "Exempt";
        Self {
            name: object::name(object).to_owned(),
            uid: object::uid(object).to_owned(),
            shares: if exempt { 0 } else { number(&limited["nominalConcurrencyShares"], 30) },
            exempt,
            queuing,
        }
    }
}

/// Seats and queues, which outlive a change of their number.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) uid: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    exempt: bool,
    seats: usize,
    taken: usize,
    queuing: Option<Queuing>,
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    n_waiting: usize,
    /// The queue whose turn it is.
    next: usize,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// The seats are taken, and nobody may wait.
    ConcurrencyLimit,
    /// All queues of its flow are full.
    QueueFull,
    /// It waited too long.
    TimeOut,
}

/// A seat of a level, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Option<Arc<Level>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(level) = self.0.take() {
            level.leave();
        }
    }
}

impl Level {
    pub(super) fn new(uid: String) -> Self {
        Self { uid, state: Mutex::default() }
    }

    /// Takes new limits; `all_shares` are those of all levels together.
    pub(super) fn set(self: &Arc<Self>, limits: &Limits, all_shares: u64) {
        let mut state = self.lock();
        let share = FLOW_SEATS.saturating_mul(limits.shares).div_ceil(all_shares.max(1));
        state.exempt = limits.exempt;
        state.seats = usize::try_from(share).unwrap_or(usize::MAX);
        if state.queuing != limits.queuing {
            state.queuing = limits.queuing;
            let wanted = limits.queuing.map_or(0, |it| it.queues);
            let wanted = wanted.max(usize::from(state.n_waiting > 0));
            let old = mem::take(&mut state.queues);
            state.queues.resize_with(wanted, VecDeque::new);
            // Who waits goes on waiting, wherever that is now.
            let n = state.queues.len();
            for (index, sender) in old.into_iter().flatten().enumerate() {
                if let Some(queue) = state.queues.get_mut(index % n.max(1)) {
                    queue.push_back(sender);
                }
            }
        }
        self.seat_those_who_wait(&mut state);
    }

    /// Waits for a seat. `None` where none is needed.
    pub(super) async fn enter(self: &Arc<Self>, flow: u64) -> Result<Option<Seat>, Refused> {
        let waiting = {
            let mut state = self.lock();
            if state.exempt {
                return Ok(None);
            }
            if state.taken < state.seats && state.n_waiting == 0 {
                state.taken += 1;
                return Ok(Some(Seat(Some(self.clone()))));
            }
            state.queue(flow)?
        };
        match tokio::time::timeout(FLOW_WAIT, waiting).await {
            Ok(Ok(seat)) => Ok(Some(seat)),
            Ok(Err(_)) | Err(_) => Err(Refused::TimeOut),
        }
    }

    fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        state.taken = state.taken.saturating_sub(1);
        self.seat_those_who_wait(&mut state);
    }

    /// Queues take turns: a full one waits for as many turns as an empty one.
    fn seat_those_who_wait(self: &Arc<Self>, state: &mut State) {
        while state.taken < state.seats
            && let Some(sender) = state.next_in_turn()
        {
            state.taken += 1;
            if let Err(mut seat) = sender.send(Seat(Some(self.clone()))) {
                // It waits no more. The state is locked: the seat must not give itself back.
                seat.0 = None;
                state.taken -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, flow: u64) -> Result<oneshot::Receiver<Seat>, Refused> {
        let Some(queuing) = self.queuing else { return Err(Refused::ConcurrencyLimit) };
        let mut best: Option<(usize, usize)> = None;
        for index in deal(flow, queuing.queues, queuing.hand) {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let before = queue.len();
            queue.retain(|it| !it.is_closed());
            self.n_waiting -= before - queue.len();
            if best.is_none_or(|(_, length)| queue.len() < length) {
                best = Some((index, queue.len()));
            }
        }
        let (index, length) = best.ok_or(Refused::QueueFull)?;
        if length >= queuing.length {
            return Err(Refused::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(queue) = self.queues.get_mut(index) {
            queue.push_back(sender);
            self.n_waiting += 1;
        }
        Ok(receiver)
    }

    fn next_in_turn(&mut self) -> Option<oneshot::Sender<Seat>> {
        let n = self.queues.len();
        for step in 0..n {
            let index = (self.next + step) % n;
            if let Some(sender) = self.queues.get_mut(index).and_then(VecDeque::pop_front) {
                self.next = (index + 1) % n;
                self.n_waiting -= 1;
                return Some(sender);
            }
        }
        None
    }
}

/// A hand of different cards out of a deck, the same for one hash: two flows seldom have the same hand.
fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut cards: Vec<usize> = Vec::new();
    for n_dealt in 0..hand.min(deck) {
        let left = u64::try_from(deck - n_dealt).unwrap_or(u64::MAX);
        let mut card = usize::try_from(hash % left).unwrap_or(0);
        hash /= left;
        // Counted among those that were not dealt.
        let mut dealt = cards.clone();
        dealt.sort_unstable();
        for other in dealt {
            card += usize::from(card >= other);
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_has_different_cards_of_the_deck() {
        for hash in [0, 1, 77, u64::MAX, 0x1234_5678_9abc_def0] {
            let mut cards = deal(hash, 64, 6);
            assert!(cards.iter().all(|it| *it < 64));
            cards.sort_unstable();
            cards.dedup();
            assert_eq!(cards.len(), 6);
        }
        let mut whole = deal(5, 4, 9);
        whole.sort_unstable();
        assert_eq!(whole, [0, 1, 2, 3]);
    }
}
