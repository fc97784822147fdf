use super::*;

mod properties;

const IDLE: Situation = Situation {
    device_idle: true,
    on_their_way: 0,
};
const BUSY: Situation = Situation {
    device_idle: false,
    on_their_way: 0,
};

fn coming(on_their_way: usize) -> Situation {
    Situation {
        device_idle: true,
        on_their_way,
    }
}

fn limits() -> BatchLimits {
    let count = |count: usize| NonZeroUsize::new(count).unwrap();
    BatchLimits {
        images_max: count(4),
        images_aim: count(2),
        wait_max: Duration::from_millis(5000),
        idle_wait_max: Duration::from_millis(20),
        pending_max: count(16),
    }
}

fn key(model: &str, resolution: u32) -> BatchKey {
    BatchKey {
        model: model.into(),
        resolution: ResolutionClass::of(resolution),
    }
}

/// A waiting conversion: its name, key letter, rank, and when it arrived in milliseconds.
type Waiting = (char, char, i64, u64);

fn batcher(start: Instant, waiting: &[Waiting]) -> Batcher<char> {
    let mut batcher = Batcher::default();
    for &(name, key_letter, rank, arrived_ms) in waiting {
        let arrived = start + Duration::from_millis(arrived_ms);
        let pending = Pending {
            key: key(&key_letter.to_string(), 128),
            rank,
            arrived,
            payload: name,
        };
        batcher.push(pending, &limits()).unwrap();
    }
    batcher
}

/// A decision as text: `run abc, aim_reached`, `wait 20 ms` or `wait`.
fn decide(start: Instant, waiting: &[Waiting], situation: Situation, now_ms: u64) -> String {
    let now = start + Duration::from_millis(now_ms);
    match batcher(start, waiting).decide(&limits(), situation, now) {
        Decision::Run(Batch { items, stopped }) => {
            let names: String = items.iter().map(|pending| pending.payload).collect();
            format!("run {names}, {}", stopped.label())
        }
        Decision::Wait { until: Some(until) } => {
            format!("wait until {} ms", (until - start).as_millis())
        }
        Decision::Wait { until: None } => "wait".to_owned(),
    }
}

#[test]
fn decisions() {
    let start = Instant::now();
    let table: &[(&str, &[Waiting], Situation, u64, &str)] = &[
        ("nobody waits", &[], IDLE, 0, "wait"),
        (
            "an idle device runs one at once",
            &[('a', 'k', 0, 0)],
            IDLE,
            0,
            "run a, nothing_on_its_way",
        ),
        (
            "and all there are",
            &[('a', 'k', 0, 0), ('b', 'k', 1, 0)],
            IDLE,
            0,
            "run ab, nothing_on_its_way",
        ),
        (
            "it waits for those in PREPARE",
            &[('a', 'k', 0, 0)],
            coming(1),
            0,
            "wait until 20 ms",
        ),
        (
            "no longer than 20 ms",
            &[('a', 'k', 0, 0)],
            coming(1),
            20,
            "run a, idle_wait_max",
        ),
        (
            "from the first's arrival",
            &[('a', 'k', 5, 0), ('b', 'k', 0, 15)],
            coming(1),
            20,
            "run ba, idle_wait_max",
        ),
        (
            "a full batch waits for nobody",
            &[
                ('a', 'k', 0, 0),
                ('b', 'k', 0, 0),
                ('c', 'k', 0, 0),
                ('d', 'k', 0, 0),
                ('e', 'k', 0, 0),
            ],
            coming(3),
            0,
            "run abcd, images_max",
        ),
        (
            "a busy device lets one wait for a second",
            &[('a', 'k', 0, 0)],
            BUSY,
            4999,
            "wait until 5000 ms",
        ),
        (
            "but not for ever",
            &[('a', 'k', 0, 0)],
            BUSY,
            5000,
            "run a, wait_max",
        ),
        (
            "two are enough for a busy device",
            &[('a', 'k', 0, 0), ('b', 'k', 0, 1)],
            BUSY,
            1,
            "run ab, aim_reached",
        ),
        (
            "another model is no company",
            &[('a', 'k', 0, 0), ('b', 'l', 0, 1)],
            BUSY,
            1,
            "wait until 5000 ms",
        ),
        (
            "nor on an idle device",
            &[('a', 'k', 0, 0), ('b', 'l', 0, 1)],
            IDLE,
            1,
            "run a, nothing_on_its_way",
        ),
        (
            "agents go first",
            &[('u', 'k', 100, 0), ('a', 'k', -100, 5)],
            IDLE,
            5,
            "run au, nothing_on_its_way",
        ),
        (
            "and choose the model",
            &[('u', 'k', 100, 0), ('a', 'l', -100, 5)],
            IDLE,
            5,
            "run a, nothing_on_its_way",
        ),
        (
            "the best-ranked fill the batch",
            &[
                ('u', 'k', 9, 0),
                ('v', 'k', 8, 0),
                ('a', 'k', 1, 1),
                ('b', 'k', 2, 1),
                ('c', 'k', 3, 1),
            ],
            BUSY,
            1,
            "run abcv, images_max",
        ),
        (
            "an overdue one leads whatever its rank",
            &[('u', 'k', 9, 0), ('a', 'l', 0, 100), ('b', 'l', 0, 100)],
            BUSY,
            5000,
            "run u, wait_max",
        ),
        (
            "and takes its company along",
            &[('u', 'k', 9, 0), ('a', 'k', 0, 4000)],
            BUSY,
            5000,
            "run ua, wait_max",
        ),
        (
            "the one overdue for longest first",
            &[('u', 'k', 0, 10), ('v', 'l', 9, 0)],
            BUSY,
            5010,
            "run v, wait_max",
        ),
        (
            "the wait ends when the first gets overdue, whoever leads now",
            &[('u', 'k', 9, 0), ('a', 'l', 0, 100)],
            BUSY,
            100,
            "wait until 5000 ms",
        ),
        (
            "equal ranks go by arrival",
            &[('b', 'k', 0, 1), ('a', 'k', 0, 0)],
            IDLE,
            1,
            "run ab, nothing_on_its_way",
        ),
    ];
    for (what, waiting, situation, now_ms, expected) in table {
        assert_eq!(
            decide(start, waiting, *situation, *now_ms),
            *expected,
            "{what}"
        );
    }
}

#[test]
fn those_who_stay_keep_their_places() {
    let start = Instant::now();
    let mut batcher = batcher(
        start,
        &[
            ('a', 'k', 0, 0),
            ('x', 'l', 1, 0),
            ('b', 'k', 2, 0),
            ('y', 'l', 3, 0),
        ],
    );
    assert!(matches!(
        batcher.decide(&limits(), IDLE, start),
        Decision::Run(_)
    ));
    let rest: String = batcher
        .drain()
        .into_iter()
        .map(|pending| pending.payload)
        .collect();
    assert_eq!(rest, "xy");
    assert!(batcher.is_empty());
}

#[test]
fn a_full_queue_hands_back_what_it_refuses() {
    let start = Instant::now();
    let limits = BatchLimits {
        pending_max: NonZeroUsize::new(1).unwrap(),
        ..limits()
    };
    let pending = |name| Pending {
        key: key("k", 64),
        rank: 0,
        arrived: start,
        payload: name,
    };
    let mut batcher = Batcher::default();
    batcher.push(pending('a'), &limits).unwrap();
    let Full(refused) = batcher.push(pending('b'), &limits).unwrap_err();
    assert_eq!(refused.payload, 'b');
    batcher.retain(|&name| name != 'a');
    batcher.push(pending('b'), &limits).unwrap();
    assert_eq!(batcher.len(), 1);
}

#[test]
fn limits_may_change_between_decisions() {
    let start = Instant::now();
    let mut batcher = batcher(
        start,
        &[('a', 'k', 0, 0), ('b', 'k', 1, 0), ('c', 'k', 2, 0)],
    );
    let smaller = BatchLimits {
        images_max: NonZeroUsize::MIN,
        ..limits()
    };
    let Decision::Run(batch) = batcher.decide(&smaller, BUSY, start) else {
        panic!("one is a full batch")
    };
    assert_eq!(
        (batch.items.len(), batch.stopped),
        (1, StopReason::ImagesMax)
    );
    let Decision::Run(batch) = batcher.decide(&limits(), BUSY, start) else {
        panic!("two are the aim")
    };
    assert_eq!(
        (batch.items.len(), batch.stopped),
        (2, StopReason::AimReached)
    );
}

#[test]
fn resolution_classes_are_octaves() {
    let class = ResolutionClass::of;
    assert_eq!(class(65), class(128));
    assert_ne!(class(64), class(65));
    assert_ne!(class(128), class(129));
    assert_eq!(class(257), class(512));
    assert_eq!(class(0), class(1));
}
