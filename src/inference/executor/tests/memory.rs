//! What running out of memory teaches, and whom it costs.

use super::script::*;

/// Encodes pictures of these values in one batch.
async fn together(bench: &Bench, values: &[f32]) -> Vec<Result<super::super::Codes, EngineError>> {
    let (gate, first) = occupy(bench).await;
    let tickets: Vec<_> = values
        .iter()
        .map(|&value| bench.engine.enqueue(request(value)).unwrap())
        .collect();
    drop(gate);
    first.finished().await.unwrap();
    futures_util::future::join_all(tickets.into_iter().map(Ticket::finished)).await
}

/// What was learned. The last answer may be there before its lesson, so the engine must have stopped.
async fn lessons(bench: &Bench) -> Vec<Lesson> {
    bench.engine.stop().await;
    bench.scripts[0].lessons.lock().unwrap().clone()
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_remembered() {
    let bench = bench(&[GPU]);
    bench.scripts[0].images_fitting.store(2, Ordering::SeqCst);
    for codes in together(&bench, &[1.0, 2.0, 3.0, 4.0]).await {
        codes.unwrap();
    }
    assert_eq!(lessons(&bench).await, [Lesson::Images(2)]);
    assert_eq!(bench.engine.devices()[0].batch_images_max, 2);
}

#[tokio::test]
async fn a_picture_that_fits_nowhere_costs_the_others_nothing_for_good() {
    let bench = bench(&[GPU]);
    let codes = together(&bench, &[1.0, HUGE, 3.0, 4.0]).await;
    assert!(matches!(codes[1], Err(EngineError::OutOfMemory { .. })));
    assert!([0, 2, 3].iter().all(|&at| codes[at].is_ok()));
    assert_eq!(lessons(&bench).await, []);
    assert_eq!(bench.engine.devices()[0].batch_images_max, 4);
}

#[tokio::test]
async fn mattes_that_do_not_fit_are_halved_and_remembered_too() {
    let bench = bench(&[GPU]);
    let (gate, first) = occupy(&bench).await;
    bench.scripts[0].images_fitting.store(2, Ordering::SeqCst);
    let mattes = (1..=4).map(|value| bench.engine.matte("scripted", picture(value as f32)));
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (mattes, ()) = tokio::join!(futures_util::future::join_all(mattes), open);
    for (value, matte) in (1..=4).zip(mattes) {
        assert_eq!(matte.unwrap(), vec![value as f32; SIDE * SIDE]);
    }
    first.finished().await.unwrap();
    assert_eq!(*bench.scripts[0].mattes.lock().unwrap(), [4, 2, 2]);
    assert_eq!(lessons(&bench).await, [Lesson::Images(2)]);
    assert_eq!(bench.engine.devices()[0].batch_images_max, 2);
}

#[tokio::test]
async fn a_shared_pass_that_does_not_fit_is_asked_one_by_one_and_remembered() {
    let bench = bench(&[GPU]);
    bench.scripts[0]
        .points_fitting
        .store(10_000, Ordering::SeqCst);
    let codes = together(&bench, &[100.0, 200.0]).await;
    let (gate, first) = occupy(&bench).await;
    let asked = codes.iter().map(|codes| {
        bench
            .engine
            .query(codes.as_ref().unwrap(), points(8000), Want::Logits)
    });
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), open);
    first.finished().await.unwrap();
    for (value, answer) in [100.0, 200.0].iter().zip(answers) {
        let logits = answer.unwrap().logits;
        let right = |(at, &logit): (usize, &f32)| logit == value + at as f32;
        assert!(logits.len() == 8000 && logits.iter().enumerate().all(right));
    }
    assert_eq!(
        *bench.scripts[0].passes.lock().unwrap(),
        [vec![8000, 8000], vec![8000], vec![8000]]
    );
    assert_eq!(lessons(&bench).await, [Lesson::Points(8000)]);
}

#[tokio::test]
async fn a_conversion_whose_points_fit_nowhere_costs_the_others_nothing_for_good() {
    let bench = bench(&[GPU]);
    let codes = together(&bench, &[100.0, QUERY_HUGE, 300.0]).await;
    let (gate, first) = occupy(&bench).await;
    let asked = codes.iter().map(|codes| {
        bench
            .engine
            .query(codes.as_ref().unwrap(), points(5000), Want::Logits)
    });
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(gate);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), open);
    first.finished().await.unwrap();
    assert!(matches!(answers[1], Err(EngineError::OutOfMemory { .. })));
    assert!([0, 2].iter().all(|&at| answers[at].is_ok()));
    // A pass is as large as before.
    let whole = bench
        .engine
        .query(
            codes[0].as_ref().unwrap(),
            points(POINTS_PER_PASS),
            Want::Logits,
        )
        .await;
    whole.unwrap();
    assert_eq!(
        bench.scripts[0].passes.lock().unwrap().last(),
        Some(&vec![POINTS_PER_PASS])
    );
    assert_eq!(lessons(&bench).await, []);
}

#[tokio::test]
async fn a_pass_that_cannot_begin_waits_for_earlier_points_of_the_same_conversions() {
    for poison in [QUERY_PANIC, QUERY_HUGE] {
        let bench = bench(&[GPU]);
        let codes = together(&bench, &[5.0, poison]).await;
        let ask = |at: usize, count| {
            let codes = codes[at].as_ref().unwrap();
            bench.engine.query(codes, points(count), Want::Logits)
        };
        let gate = bench.scripts[0].close_gate();
        let late = async {
            // The other's first pass waits at the gate; this one joins the second.
            while bench.scripts[0].passes.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ask(1, 100).await
        };
        let open = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(gate);
        };
        let (long, late, ()) = tokio::join!(ask(0, 3 * POINTS_PER_PASS), late, open);
        let logits = long.unwrap().logits;
        let right = |(at, &logit): (usize, &f32)| logit == 5.0 + at as f32;
        assert!(logits.len() == 3 * POINTS_PER_PASS && logits.iter().enumerate().all(right));
        assert!(late.is_err());
        assert!(bench.engine.devices()[0].lost.is_none());
    }
}
