//! What holds of every sequence of events.

use proptest::prelude::*;

use super::*;

/// What may happen to a batcher.
#[derive(Debug, Clone)]
enum Event {
    Arrive {
        key: u8,
        rank: i64,
    },
    Pass {
        millis: u64,
    },
    Ask {
        device_idle: bool,
        on_their_way: usize,
        images_max: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_u8, -3..3_i64).prop_map(|(key, rank)| Event::Arrive { key, rank }),
        prop_oneof![0..40_u64, 1000..6000_u64].prop_map(|millis| Event::Pass { millis }),
        (any::<bool>(), 0..3_usize, 1..6_usize).prop_map(
            |(device_idle, on_their_way, images_max)| Event::Ask {
                device_idle,
                on_their_way,
                images_max
            }
        ),
    ]
}

/// What must hold of a batch, given who waited (in order of arrival) when it was formed.
fn check_batch(
    batch: &Batch<usize>,
    before: &[(usize, BatchKey, i64, Instant)],
    limits: &BatchLimits,
    now: Instant,
) {
    let items = &batch.items;
    assert!(!items.is_empty() && items.len() <= limits.images_max.get());
    assert!(
        items.iter().all(|item| item.key == items[0].key),
        "keys are mixed"
    );
    let overdue_at = |arrived: Instant| arrived + limits.wait_max <= now;
    let late: Vec<_> = before
        .iter()
        .filter(|waiting| overdue_at(waiting.3))
        .collect();
    let lead = items[0].payload;
    match late.iter().map(|waiting| waiting.3).min() {
        Some(oldest) => assert_eq!(
            items[0].arrived, oldest,
            "the one overdue for longest leads"
        ),
        None => {
            let best = before.iter().map(|waiting| waiting.2).min().unwrap();
            assert_eq!(
                items[0].rank, best,
                "{lead} leads and is not the best-ranked"
            );
        }
    }
    // Nobody of the same key who stays would have had to go before one who goes.
    let went: Vec<_> = items.iter().map(|item| item.payload).collect();
    let stayed = before
        .iter()
        .filter(|waiting| waiting.1 == items[0].key && !went.contains(&waiting.0));
    for waiting in stayed {
        assert_eq!(
            items.len(),
            limits.images_max.get(),
            "there was room for {}",
            waiting.0
        );
        for item in items.iter().filter(|item| !overdue_at(item.arrived)) {
            assert!(
                !overdue_at(waiting.3),
                "{} was overdue and stayed",
                waiting.0
            );
            assert!(
                item.rank <= waiting.2,
                "{} went before {}",
                item.payload,
                waiting.0
            );
        }
    }
    if batch.stopped == StopReason::ImagesMax {
        assert_eq!(items.len(), limits.images_max.get());
    }
}

proptest! {
    #[test]
    fn nobody_is_lost_doubled_mixed_or_kept_waiting(events in prop::collection::vec(event(), 1..120)) {
        let start = Instant::now();
        let mut now = start;
        let mut batcher = Batcher::default();
        let mut waiting: Vec<(usize, BatchKey, i64, Instant)> = Vec::new();
        let (mut names, mut served) = (0, Vec::new());
        for event in events {
            match event {
                Event::Pass { millis } => now += Duration::from_millis(millis),
                Event::Arrive { key: letter, rank } => {
                    let key = key(&letter.to_string(), 128);
                    let pending = Pending { key: key.clone(), rank, arrived: now, payload: names };
                    let taken = batcher.push(pending, &limits()).is_ok();
                    prop_assert_eq!(taken, waiting.len() < limits().pending_max.get());
                    if taken {
                        waiting.push((names, key, rank, now));
                        names += 1;
                    }
                }
                Event::Ask { device_idle, on_their_way, images_max } => {
                    let limits = BatchLimits { images_max: NonZeroUsize::new(images_max).unwrap(), ..limits() };
                    let oldest = waiting.iter().map(|waiting| waiting.3).min();
                    match batcher.decide(&limits, Situation { device_idle, on_their_way }, now) {
                        Decision::Run(batch) => {
                            check_batch(&batch, &waiting, &limits, now);
                            for item in batch.items {
                                waiting.retain(|waiting| waiting.0 != item.payload);
                                served.push(item.payload);
                            }
                        }
                        Decision::Wait { until } => {
                            let Some(oldest) = oldest else {
                                prop_assert_eq!(until, None);
                                continue;
                            };
                            prop_assert!(oldest + limits.wait_max > now, "an overdue one was kept waiting");
                            let until = until.expect("somebody waits");
                            prop_assert!(until > now && until <= oldest + limits.wait_max);
                            if device_idle {
                                prop_assert!(on_their_way > 0, "an idle device waited for nobody");
                                prop_assert!(until <= now + limits.idle_wait_max);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(batcher.len(), waiting.len());
        }
        // A device that is free from now on serves everybody.
        while let Decision::Run(batch) = batcher.decide(&limits(), IDLE, now) {
            served.extend(batch.items.into_iter().map(|item| item.payload));
        }
        served.sort_unstable();
        prop_assert_eq!(served, (0..names).collect::<Vec<_>>());
    }
}
