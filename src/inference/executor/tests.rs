//! The engine over a scripted device: what a real one does rarely is asked for here.

use super::*;

mod failures;
mod linking;
mod memory;
mod script;
mod sharing;
mod stepping;

use script::*;

#[tokio::test]
async fn those_who_arrive_while_the_device_works_go_together() {
    let bench = bench(&[GPU]);
    let (gate, first) = occupy(&bench).await;
    let tickets: Vec<_> = (1..=3)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    assert_eq!(bench.engine.pending(), 3);
    drop(gate);
    first.finished().await.unwrap();
    for (mut ticket, value) in tickets.into_iter().zip(1..) {
        let start = ticket.started().await.unwrap();
        assert_eq!(
            (start.images, start.stopped),
            (3, StopReason::NothingOnItsWay)
        );
        let codes = ticket.finished().await.unwrap();
        let values = bench
            .engine
            .query(&codes, points(3), Want::Logits)
            .await
            .unwrap();
        let value = value as f32;
        assert_eq!(values.logits, [value, value + 1.0, value + 2.0]);
        assert!(values.rgb.is_empty());
    }
    assert_eq!(
        *bench.scripts[0].encoded.lock().unwrap(),
        [vec![0.0], vec![1.0, 2.0, 3.0]]
    );
}

#[tokio::test]
async fn an_idle_device_waits_for_one_on_its_way_and_no_longer() {
    let bench = bench(&[GPU]);
    // Long enough for the next three lines on a machine that is busy with other things.
    let patient = BatchLimits {
        idle_wait_max: Duration::from_secs(60),
        ..limits()
    };
    bench.engine.set_limits(patient);
    let coming = bench.engine.on_their_way();
    let mut first = bench.engine.enqueue(request(1.0)).unwrap();
    let mut second = bench.engine.enqueue(request(2.0)).unwrap();
    drop(coming);
    assert_eq!(first.started().await.unwrap().images, 2);
    assert_eq!(
        second.started().await.unwrap().stopped,
        StopReason::NothingOnItsWay
    );

    bench.engine.set_limits(limits());
    let _never_comes = bench.engine.on_their_way();
    let mut alone = bench.engine.enqueue(request(3.0)).unwrap();
    let start = alone.started().await.unwrap();
    assert_eq!((start.images, start.stopped), (1, StopReason::IdleWaitMax));
    assert!(
        start.waited >= Duration::from_millis(20) && start.waited < Duration::from_secs(2),
        "{start:?}"
    );
}

#[tokio::test]
async fn long_queries_are_cut_and_share_the_device() {
    let bench = bench(&[GPU]);
    let codes = bench
        .engine
        .enqueue(request(1.0))
        .unwrap()
        .finished()
        .await
        .unwrap();
    let gate = bench.scripts[0].close_gate();
    let long = bench.engine.query(
        &codes,
        points(2 * POINTS_PER_PASS + 88),
        Want::LogitsAndColors,
    );
    let short = bench.engine.query(&codes, points(10), Want::Logits);
    let open = async {
        // Both are in the queue before the first pass ends.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (long, short, ()) = tokio::join!(long, short, open);
    let long = long.unwrap();
    assert_eq!(short.unwrap().logits.len(), 10);
    assert_eq!(
        (long.logits.len(), long.rgb.len()),
        (2 * POINTS_PER_PASS + 88, 2 * POINTS_PER_PASS + 88)
    );
    assert!(
        long.logits
            .iter()
            .enumerate()
            .all(|(at, &logit)| logit == 1.0 + at as f32),
        "order is kept"
    );
    {
        // The short one was there at the first pass or at the second, and is in that.
        let passes = bench.scripts[0].passes.lock().unwrap();
        assert!(
            passes[..2].iter().any(|pass| pass.contains(&10)),
            "{passes:?}"
        );
        let points: usize = passes.iter().flatten().sum();
        assert_eq!(points, 2 * POINTS_PER_PASS + 98);
    }
    let none = bench
        .engine
        .query(&codes, Vec::new(), Want::Logits)
        .await
        .unwrap();
    assert_eq!(none, FieldValues::default());
}

/// How many passes of 40 of one query came before each encode, of which two are asked for in the midst of the first pass.
async fn encoded_among_endless_queries(device: DeviceId, stopped: StopReason) -> Vec<usize> {
    let bench = bench(&[device]);
    let codes = bench
        .engine
        .enqueue(request(1.0))
        .unwrap()
        .finished()
        .await
        .unwrap();
    let gate = bench.scripts[0].close_gate();
    let endless = bench
        .engine
        .query(&codes, points(POINTS_PER_PASS * 40), Want::Logits);
    let encodes = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let tickets: Vec<_> = (2..4)
            .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
            .collect();
        drop(gate);
        for mut ticket in tickets {
            assert_eq!(ticket.started().await.unwrap().stopped, stopped);
            ticket.finished().await.unwrap();
        }
    };
    let (endless, ()) = tokio::join!(endless, encodes);
    assert_eq!(endless.unwrap().logits.len(), POINTS_PER_PASS * 40);
    bench.scripts[0].encoded_after.lock().unwrap().clone()
}

#[tokio::test]
async fn encodes_get_their_share_among_endless_queries() {
    // The decision and then each of its rows wait for as many passes.
    let share = PASSES_BEFORE_ENCODE as usize;
    let encoded = encoded_among_endless_queries(DeviceId::Cpu, StopReason::AimReached).await;
    assert_eq!(encoded, [0, 2 * share, 3 * share], "of 40 passes");
}

#[tokio::test]
async fn beside_queries_an_encode_waits_for_nothing() {
    let encoded = encoded_among_endless_queries(GPU, StopReason::NothingOnItsWay).await;
    assert_eq!(encoded, [0, 1], "of 40 passes");
}

#[tokio::test]
async fn two_devices_work_at_once_and_codes_stay_where_they_are() {
    let bench = bench(&[DeviceId::Cuda(0), DeviceId::Cuda(1)]);
    let gates: Vec<_> = bench
        .scripts
        .iter()
        .map(|script| script.close_gate())
        .collect();
    let mut first = bench.engine.enqueue(request(1.0)).unwrap();
    first.started().await.unwrap();
    // The one device is held in its pass: only the other can start this.
    let mut second = bench.engine.enqueue(request(2.0)).unwrap();
    second.started().await.unwrap();
    drop(gates);
    let (first, second) = (
        first.finished().await.unwrap(),
        second.finished().await.unwrap(),
    );
    for (codes, value) in [(&first, 1.0), (&second, 2.0)] {
        assert_eq!(
            bench
                .engine
                .query(codes, points(1), Want::Logits)
                .await
                .unwrap()
                .logits,
            [value]
        );
    }
    assert!(
        bench
            .scripts
            .iter()
            .all(|script| script.passes.lock().unwrap().len() == 1)
    );
}

#[tokio::test]
async fn limits_change_while_the_engine_runs() {
    let bench = bench(&[GPU]);
    let (gate, _first) = occupy(&bench).await;
    bench.engine.set_limits(BatchLimits {
        images_max: NonZeroUsize::MIN,
        ..limits()
    });
    let mut tickets: Vec<_> = (0..3)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    drop(gate);
    for ticket in &mut tickets {
        assert_eq!(ticket.started().await.unwrap().images, 1);
    }
}

#[tokio::test]
async fn a_device_that_encodes_one_by_one_serves_queries_in_between() {
    let bench = bench(&[DeviceId::Cpu]);
    let (gate, first) = occupy(&bench).await;
    let tickets: Vec<_> = (1..=3)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    for _ in 0..2 {
        gate.send(()).unwrap();
    }
    first.finished().await.unwrap();
    let mut tickets = tickets.into_iter();
    // The second word was for the first of the batch: it is done while its neighbours still wait.
    let codes = tickets.next().unwrap().finished().await.unwrap();
    let query = bench.engine.query(&codes, points(1), Want::Logits);
    let open = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        gate.send(()).unwrap();
        gate.send(()).unwrap();
    };
    let (values, ()) = tokio::join!(query, open);
    // Two words were for the query and the second row, in whichever order; the third row still waits
    // for its own.
    assert_eq!(values.unwrap().logits, [1.0]);
    drop(gate);
    for mut ticket in tickets {
        assert_eq!(
            ticket.started().await.unwrap().images,
            3,
            "they were one batch all the same"
        );
        ticket.finished().await.unwrap();
    }
}

/// Waits until so many encodes have begun.
async fn until_encoding(bench: &Bench, count: usize) {
    let encoded = || bench.scripts[0].encoded.lock().unwrap().len();
    let begun = async {
        while encoded() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let begun = tokio::time::timeout(Duration::from_secs(20), begun).await;
    begun.unwrap_or_else(|_| panic!("{} encodes have begun instead of {count}", encoded()));
}

#[tokio::test]
async fn two_lanes_encode_at_once_and_share_the_rows_of_a_batch() {
    let bench = two_lanes();
    let gate = bench.scripts[0].close_gate();
    let mut tickets = Vec::new();
    // One by one, so that each lane has begun one.
    for value in [1.0, 2.0] {
        let mut ticket = bench.engine.enqueue(request(value)).unwrap();
        ticket.started().await.unwrap();
        tickets.push(ticket);
    }
    until_encoding(&bench, 2).await;
    // A batch: the lane that begins it is held in its first row, so that it is the other one that takes the second.
    for value in [3.0, 4.0] {
        tickets.push(bench.engine.enqueue(request(value)).unwrap());
    }
    for _ in 0..2 {
        gate.send(()).unwrap();
    }
    until_encoding(&bench, 4).await;
    assert_eq!(bench.engine.devices().len(), 1, "they are one device");
    drop(gate);
    for (mut ticket, images) in tickets.into_iter().zip([1, 1, 2, 2]) {
        if images > 1 {
            assert_eq!(ticket.started().await.unwrap().images, images);
        }
        let codes = ticket.finished().await.unwrap();
        let values = bench.engine.query(&codes, points(1), Want::Logits);
        values.await.unwrap();
    }
}
