//! Several conversions in one pass, and passes one behind the other.

use super::script::*;

/// Encodes pictures of these values, one after another.
async fn encoded(bench: &Bench, values: &[f32]) -> Vec<super::super::Codes> {
    let mut codes = Vec::new();
    for &value in values {
        let ticket = bench.engine.enqueue(request(value)).unwrap();
        codes.push(ticket.finished().await.unwrap());
    }
    codes
}

/// Asks all of them at once while the device is kept in a pass, so that they are all there when it is done.
async fn ask_together(
    bench: &Bench,
    codes: &[super::super::Codes],
    count: usize,
) -> Vec<Result<FieldValues, EngineError>> {
    let (gate, first) = occupy(bench).await;
    let asked = codes
        .iter()
        .map(|codes| bench.engine.query(codes, points(count), Want::Logits));
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), open);
    first.finished().await.unwrap();
    answers
}

#[tokio::test]
async fn points_of_several_conversions_share_a_pass() {
    let bench = bench(&[GPU]);
    let values: Vec<f32> = (1..=5).map(|value| 100.0 * value as f32).collect();
    let codes = encoded(&bench, &values).await;
    let answers = ask_together(&bench, &codes, 3000).await;
    for (value, answer) in values.iter().zip(answers) {
        let logits = answer.unwrap().logits;
        assert!(
            logits
                .iter()
                .enumerate()
                .all(|(at, &logit)| logit == value + at as f32),
            "everybody has their own"
        );
    }
    assert_eq!(*bench.scripts[0].passes.lock().unwrap(), [[3000; 5]]);
}

#[tokio::test]
async fn a_processor_is_asked_one_conversion_at_a_time() {
    let bench = bench(&[DeviceId::Cpu]);
    let codes = encoded(&bench, &[1.0, 2.0, 3.0]).await;
    for answer in ask_together(&bench, &codes, 3000).await {
        answer.unwrap();
    }
    assert_eq!(*bench.scripts[0].passes.lock().unwrap(), [[3000]; 3]);
}

#[tokio::test]
async fn who_poisons_a_shared_pass_fails_alone() {
    for (poison, expected, passes) in [
        (QUERY_NAN, "NonFinite", 1),
        (QUERY_PANIC, "Panicked", 4),
        (LANDS_BADLY, "Torch", 4),
    ] {
        let bench = bench(&[GPU]);
        let codes = encoded(&bench, &[1.0, poison, 3.0]).await;
        let answers = ask_together(&bench, &codes, 3000).await;
        for at in [0, 2] {
            assert_eq!(answers[at].as_ref().unwrap().logits.len(), 3000);
        }
        let error = answers[1].as_ref().unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert_eq!(bench.scripts[0].passes.lock().unwrap().len(), passes);
    }
}

#[tokio::test]
async fn a_pass_that_lands_badly_keeps_the_order_of_those_behind_it() {
    let bench = bench(&[GPU]);
    let codes = encoded(&bench, &[5.0, LANDS_BADLY]).await;
    // So many points that a second pass is begun before the first has landed.
    let count = 2 * POINTS_PER_PASS;
    let answers = ask_together(&bench, &codes, count).await;
    let logits = &answers[0].as_ref().unwrap().logits;
    assert_eq!(logits.len(), count);
    assert!(
        logits
            .iter()
            .enumerate()
            .all(|(at, &logit)| logit == 5.0 + at as f32)
    );
    assert!(matches!(answers[1], Err(EngineError::Torch { .. })));
}

#[tokio::test]
async fn mattes_go_together() {
    let bench = bench(&[GPU]);
    let (gate, first) = occupy(&bench).await;
    let mattes = (1..=6).map(|value| bench.engine.matte("scripted", picture(value as f32)));
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (mattes, ()) = tokio::join!(futures_util::future::join_all(mattes), open);
    for (value, matte) in (1..=6).zip(mattes) {
        assert_eq!(matte.unwrap(), vec![value as f32; SIDE * SIDE]);
    }
    first.finished().await.unwrap();
    // At most as many as an encode may have.
    assert_eq!(*bench.scripts[0].mattes.lock().unwrap(), [4, 2]);
}

#[tokio::test]
async fn a_batch_behind_another_waits_for_company() {
    let bench = bench(&[GPU]);
    let (gate, _first) = occupy(&bench).await;
    let mut tickets: Vec<_> = (1..=6)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    drop(gate);
    let mut starts = Vec::new();
    for ticket in &mut tickets {
        starts.push(ticket.started().await.unwrap());
    }
    let start = |at: usize| (starts[at].images, starts[at].stopped);
    assert_eq!(start(0), (4, StopReason::ImagesMax));
    // Two are enough for a device that answers queries. Behind the four they could not start, so more might have joined.
    assert_eq!(start(5), (2, StopReason::NothingOnItsWay));
}

/// The batches that are begun once an encode that is said to take so long is under way and five more pictures wait, before
/// it is over and after.
async fn begun_behind_another(takes: Duration) -> [Vec<Vec<f32>>; 2] {
    let bench = measured(takes);
    let codes = encoded(&bench, &[1.0]).await;
    let script = &bench.scripts[0];
    script.is_slow.store(true, Ordering::SeqCst);
    let mut first = bench.engine.enqueue(request(2.0)).unwrap();
    first.started().await.unwrap();
    let others: Vec<_> = (3..=7)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    // Asked after them, this is begun after whatever the device begins at once.
    let asked = bench.engine.query(&codes[0], points(1), Want::Logits);
    asked.await.unwrap();
    let begun = || script.encoded.lock().unwrap()[1..].to_vec();
    let before = begun();
    script.is_slow.store(false, Ordering::SeqCst);
    for ticket in others {
        ticket.finished().await.unwrap();
    }
    first.finished().await.unwrap();
    [before, begun()]
}

#[tokio::test]
async fn a_batch_is_begun_when_the_encode_before_it_is_nearly_over_and_no_sooner() {
    let first = vec![2.0];
    let full = vec![3.0, 4.0, 5.0, 6.0];
    let [before, after] = begun_behind_another(Duration::from_secs(3600)).await;
    assert_eq!(before, std::slice::from_ref(&first), "more may come");
    assert_eq!(after, [first.clone(), full.clone(), vec![7.0]]);

    let [before, after] = begun_behind_another(Duration::from_nanos(1)).await;
    assert_eq!(before[0], first);
    assert_eq!(before.len(), 2, "the device must not stand still");
    assert_eq!(after.concat(), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}
