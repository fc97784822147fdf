//! Which waiting conversions share the next forward pass, and why no more of them: a pure decision
//! from the queue, the limits, the situation and the clock.
//!
//! The caller reserves the device first and asks then, so that whoever arrives meanwhile joins.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

/// Resolutions that cost about the same: the exponent of the next power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolutionClass(u32);

impl ResolutionClass {
    /// The class of a resolution in field samples along the longest axis.
    #[must_use]
    pub fn of(resolution: u32) -> Self {
        Self(resolution.max(1).next_power_of_two().ilog2())
    }
}

/// Conversions with equal keys may share a forward pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchKey {
    pub model: Arc<str>,
    pub resolution: ResolutionClass,
}

/// One conversion waiting for its forward pass.
#[derive(Debug)]
pub struct Pending<T> {
    pub key: BatchKey,
    /// The smaller goes first: agents' ranks are below users' of the same moment.
    pub rank: i64,
    pub arrived: Instant,
    pub payload: T,
}

/// What bounds a batch and the waiting for it. May differ from one decision to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest batch: the setting's, the model's or what memory allows.
    pub images_max: NonZeroUsize,
    /// How many a batch aims at while the device has other work.
    pub images_aim: NonZeroUsize,
    /// The longest that a conversion waits for company in any case.
    pub wait_max: Duration,
    /// The longest that an idle device waits for conversions on their way.
    pub idle_wait_max: Duration,
    /// The most that may wait here.
    pub pending_max: NonZeroUsize,
}

impl Default for BatchLimits {
    /// The defaults of `BATCH_SIZE_MAX`, `BATCH_SIZE_MIN`, `BATCH_TIMEOUT_SECONDS` and of the 20 ms in
    /// the contract; 64 waiting images of 192² pixels are 28 MB.
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).expect("the defaults are not zero");
        Self {
            images_max: count(8),
            images_aim: count(2),
            wait_max: Duration::from_secs(5),
            idle_wait_max: Duration::from_millis(20),
            pending_max: count(64),
        }
    }
}

/// How things stand around the device at the moment of deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The device has nothing else to do.
    pub device_idle: bool,
    /// Conversions that are being prepared and will be here soon.
    pub on_their_way: usize,
}

/// Why a batch has the size it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// No more fit: waiting could not make the batch larger.
    ImagesMax,
    /// The device is busy and enough have gathered for sharing to pay; more would only delay these.
    AimReached,
    /// The device is idle and nobody is coming: waiting would be for nothing.
    NothingOnItsWay,
    /// The device has been kept idle for those on their way as long as is allowed.
    IdleWaitMax,
    /// The one that waited longest may not wait any longer.
    WaitMax,
}

impl StopReason {
    /// The reason as a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ImagesMax => "images_max",
            Self::AimReached => "aim_reached",
            Self::NothingOnItsWay => "nothing_on_its_way",
            Self::IdleWaitMax => "idle_wait_max",
            Self::WaitMax => "wait_max",
        }
    }
}

/// Conversions that run together: all of one key, the best-ranked first.
#[derive(Debug)]
pub struct Batch<T> {
    pub items: Vec<Pending<T>>,
    pub stopped: StopReason,
}

/// What to do now.
#[derive(Debug)]
pub enum Decision<T> {
    /// Run these.
    Run(Batch<T>),
    /// Ask again when something changes, at `until` at the latest (never if `None`: nobody waits).
    Wait { until: Option<Instant> },
}

/// The queue is full; the refused one is handed back.
#[derive(Debug)]
pub struct Full<T>(pub Pending<T>);

/// The bounded queue of conversions that wait for a forward pass.
#[derive(Debug)]
pub struct Batcher<T> {
    /// In order of arrival. Linear scans: there are at most `pending_max` of them.
    pending: Vec<Pending<T>>,
}

impl<T> Default for Batcher<T> {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
        }
    }
}

impl<T> Batcher<T> {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes one more in.
    ///
    /// # Errors
    /// [`Full`] with the refused one if `pending_max` wait already.
    pub fn push(&mut self, pending: Pending<T>, limits: &BatchLimits) -> Result<(), Full<T>> {
        if self.pending.len() >= limits.pending_max.get() {
            return Err(Full(pending));
        }
        self.pending.push(pending);
        Ok(())
    }

    /// Drops those that `keep` says nobody waits for any more.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.pending.retain(|pending| keep(&pending.payload));
    }

    /// Everyone, in order of arrival; the queue is empty after it.
    pub fn drain(&mut self) -> Vec<Pending<T>> {
        std::mem::take(&mut self.pending)
    }

    /// Whether somebody has waited as long as is allowed.
    #[must_use]
    pub fn is_overdue(&self, wait_max: Duration, now: Instant) -> bool {
        self.pending
            .iter()
            .any(|pending| overdue(pending, wait_max, now))
    }

    /// Who leads the batch that runs next, whenever it does: lets the caller look up that model's
    /// own ceiling before it decides.
    #[must_use]
    pub fn next(&self, wait_max: Duration, now: Instant) -> Option<&Pending<T>> {
        self.lead(wait_max, now).map(|at| &self.pending[at])
    }

    /// Decides what a free device does now. Those that run leave the queue.
    pub fn decide(
        &mut self,
        limits: &BatchLimits,
        situation: Situation,
        now: Instant,
    ) -> Decision<T> {
        let Some(lead) = self.lead(limits.wait_max, now) else {
            return Decision::Wait { until: None };
        };
        let company = self.company(lead, limits, now);
        match self.stop_reason(lead, &company, limits, situation, now) {
            Ok(stopped) => Decision::Run(Batch {
                items: self.take(company),
                stopped,
            }),
            Err(until) => Decision::Wait { until: Some(until) },
        }
    }

    /// Why the batch runs now, or until when it waits.
    fn stop_reason(
        &self,
        lead: usize,
        company: &[usize],
        limits: &BatchLimits,
        situation: Situation,
        now: Instant,
    ) -> Result<StopReason, Instant> {
        if company.len() >= limits.images_max.get() {
            return Ok(StopReason::ImagesMax);
        }
        if overdue(&self.pending[lead], limits.wait_max, now) {
            return Ok(StopReason::WaitMax);
        }
        // Whoever gets overdue first leads from then on, whatever its key.
        let deadline = self
            .pending
            .iter()
            .map(|pending| pending.arrived + limits.wait_max)
            .min();
        let deadline = deadline.expect("the lead is pending");
        if !situation.device_idle {
            let reached = company.len() >= limits.images_aim.get();
            return if reached {
                Ok(StopReason::AimReached)
            } else {
                Err(deadline)
            };
        }
        if situation.on_their_way == 0 {
            return Ok(StopReason::NothingOnItsWay);
        }
        // Counted from the earliest arrival: one that waited while the device was busy has waited enough.
        let arrived = company.iter().map(|&at| self.pending[at].arrived).min();
        let idle_deadline = arrived.expect("the lead is in its own company") + limits.idle_wait_max;
        if idle_deadline <= now {
            Ok(StopReason::IdleWaitMax)
        } else {
            Err(idle_deadline.min(deadline))
        }
    }

    /// Who goes first: the one overdue for longest, else the best-ranked.
    fn lead(&self, wait_max: Duration, now: Instant) -> Option<usize> {
        (0..self.pending.len()).min_by_key(|&at| order(&self.pending[at], at, wait_max, now))
    }

    /// The lead and the best-ranked of its key, at most `images_max`.
    fn company(&self, lead: usize, limits: &BatchLimits, now: Instant) -> Vec<usize> {
        let key = &self.pending[lead].key;
        let mut company: Vec<_> = (0..self.pending.len())
            .filter(|&at| self.pending[at].key == *key)
            .collect();
        company.sort_by_key(|&at| order(&self.pending[at], at, limits.wait_max, now));
        company.truncate(limits.images_max.get());
        company
    }

    /// Removes the chosen, keeping both the order they were chosen in and that of those who stay.
    fn take(&mut self, chosen: Vec<usize>) -> Vec<Pending<T>> {
        let mut slots: Vec<_> = std::mem::take(&mut self.pending)
            .into_iter()
            .map(Some)
            .collect();
        let items = chosen
            .into_iter()
            .map(|at| slots[at].take().expect("nobody is chosen twice"))
            .collect();
        self.pending = slots.into_iter().flatten().collect();
        items
    }
}

fn overdue<T>(pending: &Pending<T>, wait_max: Duration, now: Instant) -> bool {
    pending.arrived + wait_max <= now
}

/// The overdue first, by arrival, since rank has made them wait long enough; then by rank; then by arrival.
fn order<T>(
    pending: &Pending<T>,
    at: usize,
    wait_max: Duration,
    now: Instant,
) -> (i64, Instant, usize) {
    let rank = if overdue(pending, wait_max, now) {
        i64::MIN
    } else {
        pending.rank
    };
    (rank, pending.arrived, at)
}

#[cfg(test)]
mod tests;
