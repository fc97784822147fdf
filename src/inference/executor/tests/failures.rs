//! What goes wrong, and who hears of it.

use super::script::*;

#[tokio::test]
async fn a_poisoned_picture_fails_alone() {
    for (poison, expected, retryable) in [
        (NAN, "NonFinite", false),
        (PANIC, "Panicked", false),
        (HUGE, "OutOfMemory", true),
    ] {
        let bench = bench(&[GPU]);
        let (gate, first) = occupy(&bench).await;
        let tickets: Vec<_> = [1.0, poison, 2.0, 3.0]
            .iter()
            .map(|&value| bench.engine.enqueue(request(value)).unwrap())
            .collect();
        drop(gate);
        first.finished().await.unwrap();
        let mut results = Vec::new();
        for ticket in tickets {
            results.push(ticket.finished().await);
        }
        for at in [0, 2, 3] {
            let codes = results[at].as_ref().unwrap();
            bench
                .engine
                .query(codes, points(1), Want::Logits)
                .await
                .unwrap();
        }
        let error = results[1].as_ref().unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert_eq!(error.retryable(), retryable);
    }
}

#[tokio::test]
async fn out_of_memory_halves_the_batch_and_lowers_the_ceiling() {
    let bench = bench(&[GPU]);
    bench.scripts[0].images_fitting.store(2, Ordering::SeqCst);
    let (gate, first) = occupy(&bench).await;
    let tickets: Vec<_> = (1..=4)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    drop(gate);
    first.finished().await.unwrap();
    for ticket in tickets {
        ticket.finished().await.unwrap();
    }
    assert_eq!(
        *bench.scripts[0].encoded.lock().unwrap(),
        [
            vec![0.0],
            vec![1.0, 2.0, 3.0, 4.0],
            vec![1.0, 2.0],
            vec![3.0, 4.0]
        ]
    );
    // The last answer may be there before the lesson.
    bench.engine.stop().await;
    assert_eq!(bench.engine.devices()[0].batch_images_max, 2);
}

#[tokio::test]
async fn a_lost_device_sends_everybody_elsewhere() {
    let bench = bench(&[GPU]);
    let codes = bench
        .engine
        .enqueue(request(1.0))
        .unwrap()
        .finished()
        .await
        .unwrap();
    let (gate, first) = occupy(&bench).await;
    let doomed = bench.engine.enqueue(request(LOSE)).unwrap();
    let beside = bench.engine.enqueue(request(2.0)).unwrap();
    drop(gate);
    first.finished().await.unwrap();
    for ticket in [doomed, beside] {
        let error = ticket.finished().await.unwrap_err();
        assert!(
            matches!(error, EngineError::DeviceLost { .. }) && error.retryable(),
            "{error:?}"
        );
    }
    let query = bench.engine.query(&codes, points(1), Want::Logits).await;
    assert!(
        matches!(query, Err(EngineError::DeviceLost { .. })),
        "{query:?}"
    );
    assert!(matches!(
        bench.engine.enqueue(request(3.0)),
        Err(EngineError::DeviceLost { .. })
    ));
    assert_eq!(bench.engine.devices()[0].lost.as_deref(), Some("planned"));
    bench.engine.stop().await;
}

#[tokio::test]
async fn the_other_device_goes_on_when_one_is_lost() {
    let bench = bench(&[DeviceId::Cuda(0), DeviceId::Cuda(1)]);
    let lost = bench
        .engine
        .enqueue(request(LOSE))
        .unwrap()
        .finished()
        .await;
    assert!(matches!(lost, Err(EngineError::DeviceLost { .. })));
    for value in 1..5 {
        bench
            .engine
            .enqueue(request(value as f32))
            .unwrap()
            .finished()
            .await
            .unwrap();
    }
    assert_eq!(
        bench
            .engine
            .devices()
            .iter()
            .filter(|device| device.lost.is_some())
            .count(),
        1
    );
    assert_eq!(
        bench.engine.matte("scripted", picture(0.5)).await.unwrap(),
        vec![0.5; SIDE * SIDE]
    );
}

#[tokio::test]
async fn whoever_leaves_costs_no_pass_and_frees_what_it_had() {
    let bench = bench(&[GPU]);
    let (gate, first) = occupy(&bench).await;
    let left = bench.engine.enqueue(request(1.0)).unwrap();
    let stays = bench.engine.enqueue(request(2.0)).unwrap();
    drop(left);
    drop(gate);
    let codes = stays.finished().await.unwrap();
    assert_eq!(
        *bench.scripts[0].encoded.lock().unwrap(),
        [vec![0.0], vec![2.0]]
    );

    // A query that is dropped ends after the pass it is in.
    let gate = bench.scripts[0].close_gate();
    {
        let query = bench
            .engine
            .query(&codes, points(POINTS_PER_PASS * 10), Want::Logits);
        assert!(
            tokio::time::timeout(Duration::from_millis(50), query)
                .await
                .is_err()
        );
    }
    drop(gate);
    drop((codes, first.finished().await));
    bench.engine.matte("scripted", picture(0.0)).await.unwrap();
    assert_eq!(bench.scripts[0].passes.lock().unwrap().len(), 1);
    assert_eq!(bench.scripts[0].codes.load(Ordering::SeqCst), 0);
    assert_eq!(bench.engine.devices()[0].conversions, 0);
}

#[tokio::test]
async fn too_many_are_refused_and_may_come_again() {
    let bench = bench(&[GPU]);
    let (gate, _first) = occupy(&bench).await;
    let tickets: Vec<_> = (0..8)
        .map(|value| bench.engine.enqueue(request(value as f32)).unwrap())
        .collect();
    let error = bench.engine.enqueue(request(9.0)).unwrap_err();
    assert!(matches!(error, EngineError::Overloaded { pending_max: 8 }) && error.retryable());
    drop(tickets);
    let again = bench.engine.enqueue(request(9.0)).unwrap();
    drop(gate);
    again.finished().await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_passes_and_hands_back_the_rest() {
    let bench = bench(&[GPU]);
    let codes = bench
        .engine
        .enqueue(request(1.0))
        .unwrap()
        .finished()
        .await
        .unwrap();
    let (gate, running) = occupy(&bench).await;
    let waiting = bench.engine.enqueue(request(2.0)).unwrap();
    let engine = bench.engine.clone();
    let query = tokio::spawn({
        let engine = engine.clone();
        async move {
            engine
                .query(&codes, points(2 * POINTS_PER_PASS + 88), Want::Logits)
                .await
        }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stop = tokio::spawn(async move { engine.stop().await });
    assert!(matches!(
        waiting.finished().await,
        Err(EngineError::Stopped)
    ));
    assert!(!stop.is_finished(), "a pass is still running");
    drop(gate);
    running.finished().await.unwrap();
    assert_eq!(
        query.await.unwrap().unwrap().logits.len(),
        2 * POINTS_PER_PASS + 88,
        "passes that were asked for are finished"
    );
    stop.await.unwrap();
    assert!(matches!(
        bench.engine.enqueue(request(3.0)),
        Err(EngineError::Stopped)
    ));
    assert!(matches!(
        bench.engine.matte("scripted", picture(0.0)).await,
        Err(EngineError::Stopped)
    ));
    bench.engine.stop().await;
}

#[test]
fn requests_are_checked_before_they_wait() {
    let bench = bench(&[GPU]);
    let unknown = EncodeRequest {
        model: "other".into(),
        ..request(0.0)
    };
    assert!(matches!(
        bench.engine.enqueue(unknown),
        Err(EngineError::ModelUnavailable { source: None, .. })
    ));
    let small = EncodeRequest {
        image: vec![0.0; 7].into(),
        ..request(0.0)
    };
    let expected = 3 * SIDE * SIDE;
    match bench.engine.enqueue(small) {
        Err(EngineError::ImageSize {
            expected: values,
            actual: 7,
            ..
        }) => assert_eq!(values, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_models_are_reported_and_the_default_must_be_whole() {
    let models = tempfile::tempdir().unwrap();
    for name in ["bent", "changed", "whole"] {
        write_model(models.path(), name);
    }
    std::fs::write(models.path().join("changed/model.pt"), "abd").unwrap();
    let open = |options: OpenOptions| {
        let backend = ScriptedBackend {
            script: Arc::default(),
            id: options.id,
            together: true,
        };
        let admit = |name: &str| match name {
            "bent" => Err(ModelError::Contract {
                reason: "bent".into(),
            }),
            _ => Ok(Measured::default()),
        };
        let models = options
            .models
            .iter()
            .map(|model| admit(&model.name))
            .collect();
        Ok(Opened {
            backend,
            id: options.id,
            name: "scripted".into(),
            staging: Arc::new(InPlace),
            twin: None,
            models,
        })
    };
    let start = |default_model: Option<&str>| {
        let default_model = default_model.map(str::to_owned);
        Engine::start_on(
            EngineOptions {
                default_model,
                ..options(models.path())
            },
            &[GPU],
            open,
        )
    };
    let engine = start(None).unwrap();
    assert_eq!(engine.default_model(), "whole");
    let summary: Vec<_> = engine
        .models()
        .iter()
        .map(|model| (model.name.clone(), model.refused.is_none()))
        .collect();
    assert_eq!(
        summary,
        [
            ("bent".into(), false),
            ("changed".into(), false),
            ("whole".into(), true)
        ]
    );
    for (name, reason) in [
        ("bent", "breaks its contract"),
        ("changed", "has sha256"),
        ("none", ""),
    ] {
        match start(Some(name)) {
            Err(EngineError::ModelUnavailable { model, source }) => {
                assert_eq!(model, name);
                let source = source.map(|source| source.to_string()).unwrap_or_default();
                assert!(source.contains(reason), "{source}");
            }
            other => panic!("{other:?}"),
        }
    }
    std::fs::remove_dir_all(models.path().join("whole")).unwrap();
    match start(None) {
        Err(EngineError::NoModel { found, .. }) => {
            assert!(
                found.contains("bent: ") && found.contains("changed: "),
                "{found}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Engine::start_on(options(&models.path().join("nowhere")), &[GPU], open),
        Err(EngineError::Models { .. })
    ));
}

#[test]
fn a_device_that_cannot_be_opened_keeps_the_engine_from_starting() {
    let models = tempfile::tempdir().unwrap();
    write_model(models.path(), "scripted");
    let refuse = |options: OpenOptions| -> Result<Opened<ScriptedBackend>, EngineError> {
        Err(EngineError::DeviceLost {
            device: options.id,
            reason: "planned".into(),
            took_part: false,
        })
    };
    let started = Engine::start_on(options(models.path()), &[GPU], refuse);
    assert!(
        matches!(started, Err(EngineError::DeviceLost { .. })),
        "{started:?}"
    );
    let panics = |_: OpenOptions| -> Result<Opened<ScriptedBackend>, EngineError> {
        panic!("a planned panic")
    };
    let started = Engine::start_on(options(models.path()), &[GPU], panics);
    assert!(
        matches!(started, Err(EngineError::DeviceLost { .. })),
        "{started:?}"
    );
}

#[tokio::test]
async fn a_pass_that_does_not_fit_is_halved_and_nothing_is_lost() {
    let bench = bench(&[GPU]);
    bench.scripts[0]
        .points_fitting
        .store(10_000, Ordering::SeqCst);
    let codes = bench
        .engine
        .enqueue(request(1.0))
        .unwrap()
        .finished()
        .await
        .unwrap();
    let count = POINTS_PER_PASS + 100;
    let values = bench
        .engine
        .query(&codes, points(count), Want::LogitsAndColors)
        .await
        .unwrap();
    assert_eq!(values.rgb.len(), count);
    assert!(
        values
            .logits
            .iter()
            .enumerate()
            .all(|(at, &logit)| logit == 1.0 + at as f32)
    );
    let half = POINTS_PER_PASS / 2;
    assert_eq!(
        *bench.scripts[0].passes.lock().unwrap(),
        [[POINTS_PER_PASS], [half], [half], [100]]
    );

    // Where even a few points do not fit, the conversion fails and may be tried elsewhere.
    bench.scripts[0].points_fitting.store(1, Ordering::SeqCst);
    let error = bench
        .engine
        .query(&codes, points(count), Want::Logits)
        .await
        .unwrap_err();
    assert!(
        matches!(error, EngineError::OutOfMemory { .. }) && error.retryable(),
        "{error:?}"
    );
}
