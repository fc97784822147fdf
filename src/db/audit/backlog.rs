//! What waits to be written, and the counts of what is not told one by one. Pure, and bounded in every direction:
//! a flood costs memory for a few thousand events, and still every refusal is in some count.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::event::{AuditEvent, Outcome};
use crate::{auth::api_key::KeyId, conversion::Owner};

/// Bounds of a [`Backlog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogLimits {
    /// Refusals of one caller that are told one by one in a window; the others are counted.
    pub told_max: u32,
    /// Events that wait; more are counted.
    pub events_max: usize,
    /// Callers that are told apart in a window; others are counted as unknown ones.
    pub callers_max: usize,
    /// Counts that are kept apart; others are counted as unknown callers'.
    pub counts_max: usize,
}

impl Default for BacklogLimits {
    fn default() -> Self {
        Self {
            // One a second: a key that is refused more often says the same each time.
            told_max: 60,
            // About 5 MB.
            events_max: 10_000,
            callers_max: 10_000,
            counts_max: 10_000,
        }
    }
}

/// Whose refusals are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    Key(KeyId),
    /// Whoever claims to hold a key: ids are no secrets, and strangers must not use up what its holder's refusals have.
    Claimed(KeyId),
    Owner(Owner),
    Unknown,
}

impl Caller {
    fn of(event: &AuditEvent) -> Self {
        match (&event.key_id, &event.actor) {
            (Some(key), Some(_)) => Self::Key(key.clone()),
            (Some(key), None) => Self::Claimed(key.clone()),
            (None, Some(owner)) => Self::Owner(owner.clone()),
            (None, None) => Self::Unknown,
        }
    }

    fn name(self, event: &mut AuditEvent) {
        match self {
            // Not as the actor: whether the key's holder sent all of them is not known.
            Self::Key(key) | Self::Claimed(key) => event.key_id = Some(key),
            Self::Owner(owner) => event.actor = Some(owner),
            Self::Unknown => {}
        }
    }
}

/// An event that waits to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub event: AuditEvent,
    /// When it came.
    pub since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    requests: u64,
    since: Instant,
}

/// Events and counts that wait to be written.
#[derive(Debug)]
pub struct Backlog {
    limits: BacklogLimits,
    events: VecDeque<Waiting>,
    told: HashMap<Caller, u32>,
    counts: HashMap<(Caller, Outcome), Count>,
}

impl Backlog {
    /// An empty one.
    #[must_use]
    pub fn new(limits: BacklogLimits) -> Self {
        Self {
            limits,
            events: VecDeque::new(),
            told: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    /// Takes a refusal: as an event of its own while its caller has few, else in a count.
    pub fn refuse(&mut self, event: AuditEvent, now: Instant) {
        let caller = Caller::of(&event);
        let telling = caller != Caller::Unknown
            && (self.told.contains_key(&caller) || self.told.len() < self.limits.callers_max);
        if !telling {
            return self.count(Caller::Unknown, event.outcome, now);
        }
        let told = self.told.entry(caller.clone()).or_default();
        if *told < self.limits.told_max && self.events.len() < self.limits.events_max {
            *told += 1;
            self.events.push_back(Waiting { event, since: now });
        } else {
            self.count(caller, event.outcome, now);
        }
    }

    fn count(&mut self, caller: Caller, outcome: Outcome, now: Instant) {
        let mut place = (caller, outcome);
        if self.counts.len() >= self.limits.counts_max && !self.counts.contains_key(&place) {
            place.0 = Caller::Unknown;
        }
        let fresh = Count {
            requests: 0,
            since: now,
        };
        self.counts.entry(place).or_insert(fresh).requests += 1;
    }

    /// Takes an event that can't be counted; `false`, and nothing kept, when too many wait.
    #[must_use]
    pub fn keep(&mut self, waiting: Waiting) -> bool {
        let has_room = self.events.len() < self.limits.events_max;
        if has_room {
            self.events.push_back(waiting);
        }
        has_room
    }

    /// Begins a new window: callers are told one by one again.
    pub fn begin_window(&mut self) {
        self.told.clear();
    }

    /// Makes events of the counts, as many as there is room for.
    pub fn settle_counts(&mut self, now: Instant) {
        let room = self.limits.events_max.saturating_sub(self.events.len());
        let places: Vec<_> = self.counts.keys().take(room).cloned().collect();
        for place in places {
            let Some(count) = self.counts.remove(&place) else {
                continue;
            };
            let (caller, outcome) = place;
            // Split where the column ends: some days of the worst flood.
            let requests = i32::try_from(count.requests).unwrap_or(i32::MAX);
            let mut event = AuditEvent::refusals(outcome, requests);
            caller.clone().name(&mut event);
            let over = now.saturating_duration_since(count.since);
            *event.details_mut() = std::mem::take(event.details_mut()).counted_over(over);
            self.events.push_back(Waiting { event, since: now });
            let left = count.requests - u64::from(requests.unsigned_abs());
            if left > 0 {
                let rest = Count {
                    requests: left,
                    ..count
                };
                self.counts.insert((caller, outcome), rest);
            }
        }
    }

    /// The oldest events, at most so many; they no longer wait here.
    #[must_use]
    pub fn take(&mut self, count_max: usize) -> Vec<Waiting> {
        let count = count_max.min(self.events.len());
        self.events.drain(..count).collect()
    }

    /// Puts events back that [`Backlog::take`] gave and that could not be written.
    pub fn give_back(&mut self, events: Vec<Waiting>) {
        for waiting in events.into_iter().rev() {
            self.events.push_front(waiting);
        }
    }

    /// Events that wait, and requests that are counted.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let counted: u64 = self.counts.values().map(|count| count.requests).sum();
        self.events.len() as u64 + counted
    }
}

/// The events as they are stored now: late ones say so.
#[must_use]
pub fn stored_now(waiting: &[Waiting], now: Instant) -> Vec<AuditEvent> {
    let event = |waiting: &Waiting| {
        let mut event = waiting.event.clone();
        let late = now.saturating_duration_since(waiting.since);
        // In good order they wait a fraction of a second.
        if late >= Duration::from_secs(1) {
            *event.details_mut() = std::mem::take(event.details_mut()).late(late);
        }
        event
    };
    waiting.iter().map(event).collect()
}

#[cfg(test)]
mod tests;
