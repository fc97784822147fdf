use proptest::prelude::*;

use super::*;
use crate::db::audit::event::Kind;

const LIMITED: &str = "RATE_LIMITED";

fn limits() -> BacklogLimits {
    BacklogLimits {
        told_max: 3,
        events_max: 50,
        callers_max: 4,
        counts_max: 6,
    }
}

fn refusal(key: Option<&KeyId>, code: &'static str) -> AuditEvent {
    let event = AuditEvent::refusal(Outcome::code(code));
    match key {
        Some(key) => event.claiming(key.clone()),
        None => event,
    }
}

/// All requests that the events stand for.
fn requests(events: &[Waiting]) -> u64 {
    let counts = events.iter().map(|waiting| waiting.event.count());
    counts.map(|count| u64::from(count.unsigned_abs())).sum()
}

#[test]
fn a_flood_of_one_key_becomes_a_few_events_and_one_count() {
    let (key, now) = (KeyId::new(), Instant::now());
    let mut backlog = Backlog::new(limits());
    for _ in 0..1_000 {
        backlog.refuse(refusal(Some(&key), LIMITED), now);
    }
    assert_eq!(backlog.waiting(), 1_000);
    backlog.settle_counts(now + Duration::from_secs(60));
    let events = backlog.take(100);
    assert_eq!((events.len(), requests(&events)), (4, 1_000));
    let last = &events[3].event;
    assert_eq!((last.kind, last.count()), (Kind::Refusals, 997));
    assert_eq!((last.key_id.as_ref(), &last.actor), (Some(&key), &None));
    assert_eq!(last.row()["details"]["seconds"], 60);

    // The next minute tells the first ones again.
    backlog.refuse(refusal(Some(&key), LIMITED), now);
    assert!(backlog.take(100).is_empty());
    backlog.begin_window();
    backlog.refuse(refusal(Some(&key), LIMITED), now);
    assert_eq!(backlog.take(100).len(), 1);
}

#[test]
fn unknown_callers_are_counted_by_outcome() {
    let now = Instant::now();
    let mut backlog = Backlog::new(limits());
    for code in ["UNAUTHENTICATED", "QUERY_TOO_COMPLEX", "UNAUTHENTICATED"] {
        backlog.refuse(refusal(None, code), now);
    }
    assert!(backlog.take(100).is_empty());
    backlog.settle_counts(now);
    let mut counts: Vec<_> = backlog
        .take(100)
        .iter()
        .map(|waiting| (waiting.event.outcome.as_str(), waiting.event.count()))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [("QUERY_TOO_COMPLEX", 1), ("UNAUTHENTICATED", 2)]);
}

#[test]
fn a_count_beyond_the_column_is_split() {
    let now = Instant::now();
    let mut backlog = Backlog::new(limits());
    let count = Count {
        requests: u64::from(i32::MAX.unsigned_abs()) + 5,
        since: now,
    };
    let place = (Caller::Unknown, Outcome::code(LIMITED));
    backlog.counts.insert(place, count);
    backlog.settle_counts(now);
    backlog.settle_counts(now);
    let counts: Vec<i32> = backlog
        .take(100)
        .iter()
        .map(|waiting| waiting.event.count())
        .collect();
    assert_eq!(counts, [i32::MAX, 5]);
}

#[test]
fn what_could_not_be_written_keeps_its_place_and_says_that_it_is_late() {
    let (key, now) = (KeyId::new(), Instant::now());
    let mut backlog = Backlog::new(limits());
    backlog.refuse(refusal(Some(&key), LIMITED), now);
    backlog.refuse(refusal(Some(&key), "FORBIDDEN"), now);
    let taken = backlog.take(1);
    backlog.give_back(taken.clone());
    let again = backlog.take(5);
    assert_eq!((again.len(), &again[..1]), (2, &taken[..]));
    let stored = stored_now(&again, now + Duration::from_secs(90));
    assert_eq!(stored[0].row()["details"]["lateSeconds"], 90);
    assert_eq!(
        stored_now(&again, now)[0].row()["details"],
        serde_json::json!({})
    );
}

#[test]
fn an_event_that_cant_be_counted_is_not_kept_beyond_the_bound() {
    let now = Instant::now();
    let mut backlog = Backlog::new(limits());
    let waiting = || Waiting {
        event: AuditEvent::command("keys create", Outcome::OK),
        since: now,
    };
    for _ in 0..50 {
        assert!(backlog.keep(waiting()));
    }
    assert!(!backlog.keep(waiting()));
    assert_eq!(backlog.waiting(), 50);
}

proptest! {
    /// Whatever comes, in whatever order, no request is lost and no bound is passed.
    #[test]
    fn every_refusal_is_in_some_count(steps in prop::collection::vec((0_usize..12, 0_usize..3, 0_u8..20), 0..400)) {
        let keys: Vec<KeyId> = (0..10).map(|_| KeyId::new()).collect();
        let codes = [LIMITED, "UNAUTHENTICATED", "FORBIDDEN"];
        let now = Instant::now();
        let mut backlog = Backlog::new(limits());
        let (mut refused, mut written) = (0, 0);
        for (key, code, step) in steps {
            backlog.refuse(refusal(keys.get(key), codes[code]), now);
            refused += 1;
            match step {
                0 => backlog.begin_window(),
                1 => backlog.settle_counts(now),
                2 => written += requests(&backlog.take(7)),
                3 => {
                    let taken = backlog.take(7);
                    backlog.give_back(taken);
                }
                _ => {}
            }
            prop_assert!(backlog.events.len() <= limits().events_max);
            // One for each outcome may come on top, in the unknown callers' name.
            prop_assert!(backlog.counts.len() <= limits().counts_max + codes.len());
            prop_assert!(backlog.told.len() <= limits().callers_max);
        }
        loop {
            backlog.settle_counts(now);
            let taken = backlog.take(7);
            if taken.is_empty() {
                break;
            }
            written += requests(&taken);
        }
        prop_assert_eq!(written, refused);
        prop_assert_eq!(backlog.waiting(), 0);
    }
}
