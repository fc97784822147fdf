//! Requests by key, operation and code. Each label has a bounded set of values, whatever clients send.
//!
//! The series of keys are kept here, those of all others by the exporter: it forgets none, and keys come and go for
//! years. Here a key that loses its name is off the page at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    auth::{api_key::KeyId, principal::Principal},
    graphql::{error::ErrorCode, operation::Operation},
};

/// Keys that a node's metrics name, as is promised: a dozen series each are few for Prometheus.
const NAMED_MAX: usize = 100;
/// Keys without a name that are counted, in a tenth of a megabyte. Whoever sends more than a thousandth of what such
/// keys send is found among them.
const WAITING_MAX: usize = 1000;
/// After so long what was counted is halved, so that it tells of the last hours.
const HALVED_EVERY: Duration = Duration::from_secs(60 * 60);
/// A name is taken by who has sent twice as many requests as its holder and so many more: keys that are about as busy,
/// or as idle, as each other would pass it to and fro.
const AHEAD: u64 = 10;

const PEOPLE: &str = "people";
const NOBODY: &str = "nobody";
const OTHER: &str = "other";

/// What the exporter writes before the first of the family's series, which must lie together.
const FAMILY: &str = "# TYPE orfeas_requests_total counter\n";

/// An operation and a code.
type Labels = (&'static str, &'static str);

/// Counts what becomes of requests; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Keys>>);

impl Tally {
    /// One request more. `who` is `None` where nobody known stands behind it, `code` where it went well.
    pub fn count(
        &self,
        who: Option<&Principal>,
        operation: Option<&Operation>,
        code: Option<ErrorCode>,
    ) {
        let labels = (
            operation.and_then(Operation::root_field).unwrap_or(OTHER),
            code.map_or("OK", ErrorCode::as_str),
        );
        match who.map(Principal::key) {
            None => increase(NOBODY, labels, 1),
            Some(None) => increase(PEOPLE, labels, 1),
            Some(Some(key)) => self.count_key(key, labels, Instant::now()),
        }
    }

    /// A page of the exporter's with the keys' series among those of their family.
    #[must_use]
    pub fn complete(&self, mut page: String) -> String {
        // The family is there from the start: it has zeroes.
        let at = page.find(FAMILY).map_or(page.len(), |at| at + FAMILY.len());
        page.insert_str(at, &self.lines());
        page
    }

    fn count_key(&self, key: &KeyId, labels: Labels, now: Instant) {
        let mut keys = self.lock();
        let given_up = keys.note(key, now);
        match keys.named.get_mut(key) {
            Some(named) => named.counts.entry(labels).or_default().total += 1,
            None => increase(OTHER, labels, 1),
        }
        drop(keys);
        for (labels, count) in given_up.into_iter().flat_map(|named| named.counts) {
            increase(OTHER, labels, count.unseen());
        }
    }

    /// The keys' series. Ids, operations and codes have no character that would have to be escaped.
    fn lines(&self) -> String {
        let mut lines = String::new();
        let mut keys = self.lock();
        for (key, named) in &mut keys.named {
            for ((operation, code), count) in &mut named.counts {
                let shown = count.show();
                lines.push_str(&format!(
                    "orfeas_requests_total{{key=\"{key}\",operation=\"{operation}\",code=\"{code}\"}} {shown}\n"
                ));
            }
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts for callers who aren't named one by one.
fn increase(caller: &'static str, (operation, code): Labels, by: u64) {
    metrics::counter!(
        "orfeas_requests_total",
        "key" => caller,
        "operation" => operation,
        "code" => code,
    )
    .increment(by);
}

/// Who is how busy.
#[derive(Debug, Default)]
struct Keys {
    /// At most [`NAMED_MAX`].
    named: HashMap<KeyId, Named>,
    /// Recent requests of keys without a name, at least 1: as many as there were or fewer. At most [`WAITING_MAX`].
    waiting: HashMap<KeyId, u64>,
    /// `None` before the first request.
    halved_at: Option<Instant>,
}

/// What a key with a name has sent.
#[derive(Debug)]
struct Named {
    /// Of late, by which names are given.
    recent: u64,
    /// Since it has the name.
    counts: BTreeMap<Labels, Count>,
}

/// A series of a key.
#[derive(Debug, Default)]
struct Count {
    total: u64,
    /// What the last page had of it.
    shown: Option<u64>,
}

impl Count {
    /// What a page shows. That is 0 at first: the increase of a series that is born at 1 is 0.
    fn show(&mut self) -> u64 {
        let shown = self.shown.map_or(0, |_| self.total);
        self.shown = Some(shown);
        shown
    }

    /// What no page has shown.
    fn unseen(&self) -> u64 {
        self.total - self.shown.unwrap_or(0)
    }
}

impl Keys {
    /// One request more of a key, which may win it a name. Returns what was counted of the key that has lost its own.
    fn note(&mut self, key: &KeyId, now: Instant) -> Option<Named> {
        self.halve(now);
        if let Some(named) = self.named.get_mut(key) {
            named.recent += 1;
            return None;
        }
        let recent = self.wait(key);
        let mut given_up = None;
        if self.named.len() >= NAMED_MAX {
            let (quietest, named) = self.named.iter().min_by_key(|(_, named)| named.recent)?;
            if recent < 2 * named.recent + AHEAD {
                return None;
            }
            let quietest = quietest.clone();
            given_up = self.named.remove(&quietest);
        }
        self.waiting.remove(key);
        let counts = BTreeMap::new();
        self.named.insert(key.clone(), Named { recent, counts });
        given_up
    }

    /// One request more of a key without a name; returns how many it has sent of late, or fewer.
    ///
    /// When there is no room, one is taken from each key that is there (Misra and Gries): no key loses more than a
    /// thousandth of all those requests, and each that is taken away was put there, so that it costs next to nothing.
    fn wait(&mut self, key: &KeyId) -> u64 {
        if let Some(recent) = self.waiting.get_mut(key) {
            *recent += 1;
            return *recent;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(key.clone(), 1);
            return 1;
        }
        self.waiting.retain(|_, recent| {
            *recent -= 1;
            *recent > 0
        });
        0
    }

    /// Lets what is long ago count less. Hours without a request are none: names outlast a quiet night.
    fn halve(&mut self, now: Instant) {
        let halved_at = self.halved_at.get_or_insert(now);
        if now.saturating_duration_since(*halved_at) < HALVED_EVERY {
            return;
        }
        *halved_at = now;
        for named in self.named.values_mut() {
            named.recent /= 2;
        }
        self.waiting.retain(|_, recent| {
            *recent /= 2;
            *recent > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

    use super::*;
    use crate::telemetry::zeroes;

    /// Of those that begin at 0 for all callers.
    const LABELS: Labels = ("submitBatch", "OK");

    /// A tally with its exporter.
    struct Page {
        tally: Tally,
        recorder: PrometheusRecorder,
        now: Instant,
    }

    impl Page {
        fn new() -> Self {
            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, zeroes::begin);
            Self {
                tally: Tally::default(),
                recorder,
                now: Instant::now(),
            }
        }

        /// Requests of a key; after each, nothing is larger than it may be.
        fn ask(&self, key: &KeyId, times: u64) {
            for _ in 0..times {
                metrics::with_local_recorder(&self.recorder, || {
                    self.tally.count_key(key, LABELS, self.now);
                });
                let keys = self.tally.lock();
                assert!(keys.named.len() <= NAMED_MAX && keys.waiting.len() <= WAITING_MAX);
            }
        }

        fn text(&self) -> String {
            self.tally.complete(self.recorder.handle().render())
        }

        /// The family's series with their values.
        fn series(&self) -> BTreeMap<String, u64> {
            let page = self.text();
            let (_, rest) = page.split_once(FAMILY).expect("zeroes have begun it");
            let series: BTreeMap<String, u64> = rest
                .lines()
                .take_while(|line| !line.is_empty())
                .map(|line| {
                    let (name, value) = line.rsplit_once(' ').expect("it has a value");
                    assert!(name.starts_with("orfeas_requests_total{"), "{line}");
                    (name.to_owned(), value.parse().expect("a number"))
                })
                .collect();
            let all = page.matches("\norfeas_requests_total{").count();
            assert_eq!(series.len(), all, "they lie together, each once");
            series
        }

        fn names(&self) -> BTreeSet<String> {
            names_in(&self.series())
        }

        fn has(&self, key: &KeyId) -> bool {
            self.names().contains(key.as_str())
        }
    }

    /// The keys that series name.
    fn names_in(series: &BTreeMap<String, u64>) -> BTreeSet<String> {
        let names: BTreeSet<String> = series
            .keys()
            .filter_map(|name| name.split('"').nth(1))
            .filter(|name| name.starts_with(KeyId::PREFIX))
            .map(str::to_owned)
            .collect();
        assert!(names.len() <= NAMED_MAX);
        names
    }

    fn keys(count: usize) -> Vec<KeyId> {
        (0..count).map(|_| KeyId::new()).collect()
    }

    #[test]
    fn the_busiest_key_is_named_however_late_it_comes() {
        let page = Page::new();
        for key in keys(NAMED_MAX) {
            page.ask(&key, 1);
        }
        assert_eq!(page.names().len(), NAMED_MAX);
        let late = KeyId::new();
        page.ask(&late, 2 + AHEAD - 1);
        assert!(!page.has(&late), "a name isn't lost to chance");
        page.ask(&late, 1);
        let line = |value: u64| {
            format!(
                "orfeas_requests_total{{key=\"{late}\",operation=\"submitBatch\",code=\"OK\"}} {value}\n"
            )
        };
        assert!(page.text().contains(&line(0)), "a series begins at 0");
        assert!(page.text().contains(&line(1)));
        assert_eq!(page.names().len(), NAMED_MAX);

        // So many others wait that there is no room to count it at first.
        for key in keys(WAITING_MAX) {
            page.ask(&key, 1);
        }
        assert_eq!(page.tally.lock().waiting.len(), WAITING_MAX);
        let later = KeyId::new();
        page.ask(&later, 1 + 2 + AHEAD);
        assert!(page.has(&later) && page.has(&late));
    }

    #[test]
    fn a_name_stays_until_another_key_is_much_busier() {
        let mut page = Page::new();
        let keys = keys(NAMED_MAX + 20);
        let first: BTreeSet<String> = keys.iter().take(NAMED_MAX).map(KeyId::to_string).collect();
        for _ in 0..8 {
            for key in &keys {
                page.ask(key, 10);
            }
            page.now += HALVED_EVERY;
        }
        assert_eq!(page.names(), first, "all are as busy");
        for _ in 0..4 {
            for key in &keys[1..] {
                page.ask(key, 10);
            }
            page.now += HALVED_EVERY;
        }
        let names = page.names();
        assert!(!names.contains(keys[0].as_str()), "it sends nothing more");
        assert_eq!(first.difference(&names).count(), 1);
        assert_eq!(names.len(), NAMED_MAX);
    }

    #[test]
    fn no_request_is_lost_or_counted_twice_when_names_change() {
        let page = Page::new();
        let keys = keys(NAMED_MAX + 50);
        let mut last = page.series();
        let mut seen = names_in(&last);
        let (mut asked, mut increased) = (0, 0);
        for round in 0..12 {
            // Others are busy each time, and nobody is in the last two rounds.
            for (number, key) in keys.iter().enumerate().filter(|_| round < 10) {
                let is_busy = (number + 37 * round) % keys.len() < 20;
                let times = if is_busy { 60 } else { 1 };
                page.ask(key, times);
                asked += times;
            }
            let series = page.series();
            for (name, value) in &series {
                // As Prometheus does: a new series has no increase yet, and one that falls has begun again at 0.
                increased += match last.get(name) {
                    Some(before) => value.checked_sub(*before).unwrap_or(*value),
                    None => 0,
                };
            }
            seen.extend(names_in(&series));
            last = series;
        }
        assert_eq!(increased, asked);
        assert!(seen.len() > NAMED_MAX, "names have changed");
    }
}
