//! When the encode that a device computes will be over, so that the next batch is there by then, and not before.
//!
//! Until shortly before, more may come for the next batch; and of two encodes not all kernels fit into the driver's queue,
//! so that whoever launches them waits. Were it put together only when the device is through, the device would stand still
//! until its pictures and the first of its kernels are there.

use std::time::{Duration, Instant};

/// So long before the encode under way is over the next one is begun: on an H200 whose processors were busy 4 ms passed
/// from the one to the other's first kernel, and whoever decides may be in the midst of beginning queries.
const LEAD: Duration = Duration::from_millis(10);

/// How much the latest encode counts against those before it.
const LATEST: f64 = 0.25;

/// Encodes that took more than so many times what they take by themselves tell of something else than company.
const SLOWDOWN_MAX: f64 = 4.0;

/// How much longer encodes take lately than by themselves, since others are computed beside them.
#[derive(Debug)]
pub(super) struct Pace {
    slowdown: f64,
    /// When the long pass before was over.
    free: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            slowdown: 1.0,
            free: None,
        }
    }
}

impl Pace {
    /// Whether the next encode should be begun, the only one under way having been begun at `began`; by itself it takes
    /// `alone`.
    pub(super) fn is_ending(&self, began: Instant, alone: Duration, now: Instant) -> bool {
        let end = self.start(began) + alone.mul_f64(self.slowdown);
        now + LEAD >= end
    }

    /// Notes that a long pass that was begun at `began` is over; what it takes by itself, if that is known.
    pub(super) fn over(&mut self, began: Instant, alone: Option<Duration>, now: Instant) {
        if let Some(alone) = alone.filter(|alone| !alone.is_zero()) {
            let took = now.saturating_duration_since(self.start(began));
            let slowdown = took.div_duration_f64(alone).clamp(1.0, SLOWDOWN_MAX);
            self.slowdown += LATEST * (slowdown - self.slowdown);
        }
        self.free = Some(now);
    }

    /// When the device came to a pass: passes of a line are computed one after another.
    fn start(&self, began: Instant) -> Instant {
        self.free.map_or(began, |free| free.max(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Duration = Duration::from_millis(50);

    #[test]
    fn the_next_encode_is_begun_shortly_before_the_one_under_way_is_over() {
        let pace = Pace::default();
        let began = Instant::now();
        assert!(!pace.is_ending(began, ALONE, began + ALONE - LEAD * 2));
        assert!(pace.is_ending(began, ALONE, began + ALONE - LEAD));
        assert!(pace.is_ending(began, Duration::ZERO, began));
    }

    #[test]
    fn an_encode_is_computed_after_the_one_before_it_and_takes_as_long_as_those_did() {
        let mut pace = Pace::default();
        let mut began = Instant::now();
        for _ in 0..50 {
            // Begun in the midst of the one before, each takes twice its time.
            let over = pace.free.unwrap_or(began) + ALONE * 2;
            pace.over(began, Some(ALONE), over);
            began = over - ALONE / 2;
        }
        let free = pace.free.unwrap();
        assert!(!pace.is_ending(began, ALONE, free + ALONE * 2 - LEAD * 2));
        assert!(pace.is_ending(began, ALONE, free + ALONE * 2 - LEAD / 2));
        let slowdown = pace.slowdown;
        pace.over(began, None, free + ALONE);
        assert_eq!(pace.slowdown, slowdown, "nothing is known of such a pass");
        for _ in 0..50 {
            let free = pace.free.unwrap();
            pace.over(free, Some(ALONE), free + ALONE / 2);
        }
        assert!(pace.slowdown < 1.01, "by itself it is quickest");
    }
}
