//! How long a device has worked, where passes overlap.

use std::rc::Rc;

use super::super::cuda::event::Event;

/// Time is counted from a moment this long ago at most, in seconds: the runtime tells times in single precision.
const ORIGIN_AGE_MAX: f64 = 100.0;

/// Passes that begin this much before the latest one ended are long over.
const SPANS_AGE_MAX: f64 = 10.0;

/// The device's time in passes that have landed.
#[derive(Debug)]
pub(super) struct Busy {
    origin: Rc<Event>,
    seconds: Covered,
}

impl Busy {
    /// Nothing yet; `origin` is behind the device.
    pub(super) fn since(origin: Event) -> Self {
        Self {
            origin: Rc::new(origin),
            seconds: Covered::default(),
        }
    }

    /// Seconds in which at least one pass was computed.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds.total
    }

    /// Counts a pass that has landed.
    ///
    /// # Errors
    /// What the runtime says.
    pub(super) fn add(&mut self, start: &Event, end: &Rc<Event>) -> Result<(), String> {
        let at = |event: &Event| Ok::<_, String>(event.since(&self.origin)?.as_secs_f64());
        let (from, to) = (at(start)?, at(end)?);
        self.seconds.add(from, to);
        if to > ORIGIN_AGE_MAX {
            self.origin = Rc::clone(end);
            self.seconds.shift(-to);
        }
        Ok(())
    }
}

/// The length of what spans cover together.
#[derive(Debug, Default)]
struct Covered {
    total: f64,
    /// The last of them, apart from each other and in order.
    spans: Vec<(f64, f64)>,
}

impl Covered {
    fn add(&mut self, from: f64, to: f64) {
        let (mut start, mut end) = (from, to);
        let mut before = 0.0;
        self.spans.retain(|&(from, to)| {
            let touches = from <= end && start <= to;
            if touches {
                before += to - from;
                start = start.min(from);
                end = end.max(to);
            }
            !touches
        });
        self.total += (end - start) - before;
        let place = self.spans.partition_point(|&(from, _)| from < start);
        self.spans.insert(place, (start, end));
        let latest = self.spans.last().map_or(end, |&(_, to)| to);
        self.spans.retain(|&(_, to)| to > latest - SPANS_AGE_MAX);
    }

    fn shift(&mut self, by: f64) {
        for (from, to) in &mut self.spans {
            *from += by;
            *to += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_counts_once_whatever_the_order() {
        let mut covered = Covered::default();
        for (from, to) in [(1.0, 2.0), (3.0, 4.0), (3.5, 4.5), (0.5, 6.0), (7.0, 8.0)] {
            covered.add(from, to);
        }
        assert_eq!(covered.total, 6.5);
        covered.shift(-8.0);
        covered.add(-1.0, 1.0);
        assert_eq!(covered.total, 7.5);
        covered.add(30.0, 31.0);
        assert_eq!(
            covered.spans,
            [(30.0, 31.0)],
            "what is long over is forgotten"
        );
        assert_eq!(covered.total, 8.5);
    }
}
