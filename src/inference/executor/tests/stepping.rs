//! Conversions of an iterative model: who shares a step, who waits, who leaves.

use super::{super::super::handle::Codes, script::*};

/// Values of the first pixel that make a step go wrong, once the first is done.
const STEP_NAN: f32 = 2001.0;
const STEP_PANIC: f32 = 2002.0;

/// What one conversion had in a pass: its picture's value, the steps done before, and all its steps.
type Row = (f32, u32, u32);

/// What the test sees and decides of denoising.
#[derive(Debug, Default)]
pub(super) struct StepScript {
    passes: Mutex<Vec<Vec<Row>>>,
    /// How many of them came before each encode.
    encoded_after: Mutex<Vec<usize>>,
    /// More rows than this in a step are out of memory; 0 for no such bound.
    rows_fitting: AtomicUsize,
}

impl Script {
    fn codes(&self, value: f32) -> ScriptedCodes {
        self.codes.fetch_add(1, Ordering::SeqCst);
        let count = Arc::clone(&self.codes);
        ScriptedCodes { value, count }
    }

    pub(super) fn begin(
        &self,
        rows: &[Beginning<'_, ScriptedCodes>],
    ) -> Result<UnderWay<Rows<ScriptedCodes>>, EngineError> {
        let latents = |row: &Beginning<'_, ScriptedCodes>| Ok(self.codes(row.seed as f32));
        Ok(UnderWay::landed(rows.iter().map(latents).collect()))
    }

    /// Goes from the noise towards the picture's value, by an amount of the step's own.
    pub(super) fn denoise(
        &self,
        device: DeviceId,
        rows: &[Denoising<'_, ScriptedCodes>],
    ) -> Result<UnderWay<Rows<ScriptedCodes>>, EngineError> {
        let seen = rows
            .iter()
            .map(|row| (row.codes.value, row.step, row.sampling.steps));
        self.steps.passes.lock().unwrap().push(seen.collect());
        self.wait_at_gate();
        let fitting = self.steps.rows_fitting.load(Ordering::SeqCst);
        let operation = Operation::Denoise;
        if fitting > 0 && rows.len() > fitting {
            return Err(EngineError::OutOfMemory { device, operation });
        }
        let latents = |row: &Denoising<'_, ScriptedCodes>| {
            let value = row.codes.value;
            assert!(value != STEP_PANIC || row.step == 0, "a planned panic");
            if value == STEP_NAN && row.step > 0 {
                return Err(EngineError::NonFinite { operation });
            }
            let share = row.sampling.guidance / (row.step + row.sampling.steps) as f32;
            let latents = row.latents.value;
            Ok(self.codes(latents + (value - latents) * share))
        };
        Ok(UnderWay::landed(rows.iter().map(latents).collect()))
    }

    pub(super) fn note_encode(&self) {
        let passes = self.step_passes().len();
        self.steps.encoded_after.lock().unwrap().push(passes);
    }

    fn step_passes(&self) -> Vec<Vec<Row>> {
        self.steps.passes.lock().unwrap().clone()
    }
}

/// The scripted model with the second contract.
pub(super) fn write_stepping_model(models: &Path) {
    write_model(models, "stepping");
    let path = models.join("stepping").join(MANIFEST_FILE);
    let first = std::fs::read_to_string(&path).unwrap();
    let second = first.replace("implicit-field/1", "implicit-field/2");
    let steps = "steps = { default = 4, min = 1, max = 200 }\nguidance = { default = 2.0, min = 0.0, max = 4.0 }";
    std::fs::write(path, format!("{second}\n{steps}\n")).unwrap();
}

fn stepping(value: f32, steps: u32) -> EncodeRequest {
    EncodeRequest {
        model: "stepping".into(),
        sampling: SamplingOptions {
            steps: Some(steps),
            guidance: Some(1.0 + f64::from(steps) / 100.0),
            seed: value as u32,
        },
        ..request(value)
    }
}

fn submit(bench: &Bench, value: f32, steps: u32) -> Ticket {
    bench.engine.enqueue(stepping(value, steps)).unwrap()
}

/// The field's value where a conversion's latents alone decide.
async fn field(bench: &Bench, codes: &Codes) -> f32 {
    let asked = bench.engine.query(codes, points(1), Want::Logits);
    asked.await.unwrap().logits[0]
}

/// Steps whose rows are all that there is to denoise, each alone.
async fn alone(values_steps: &[(f32, u32)]) -> Vec<f32> {
    let bench = bench(&[GPU]);
    let mut fields = Vec::new();
    for &(value, steps) in values_steps {
        let codes = submit(&bench, value, steps).finished().await.unwrap();
        fields.push(field(&bench, &codes).await);
    }
    assert!(
        bench.scripts[0]
            .step_passes()
            .iter()
            .all(|pass| pass.len() == 1)
    );
    fields
}

#[tokio::test]
async fn in_flight_fewer_passes_are_needed_than_for_whole_batches() {
    let mixed: [u32; 8] = [10, 2, 10, 2, 10, 2, 10, 2];
    let asked: Vec<_> = (1..).map(|at| at as f32).zip(mixed).collect();
    let expected = alone(&asked).await;
    let bench = bench(&[GPU]);
    let (gate, first) = occupy(&bench).await;
    let tickets: Vec<_> = asked
        .iter()
        .map(|&(value, steps)| submit(&bench, value, steps))
        .collect();
    drop(gate);
    first.finished().await.unwrap();
    for (ticket, expected) in tickets.into_iter().zip(expected) {
        let codes = ticket.finished().await.unwrap();
        assert_eq!(field(&bench, &codes).await, expected, "as it is alone");
    }
    let passes = bench.scripts[0].step_passes();
    let rows: usize = passes.iter().map(Vec::len).sum();
    assert_eq!(rows, 48, "each conversion has its steps and no more");
    assert!(passes.iter().all(|pass| pass.len() <= 4), "{passes:?}");
    // A batch of four would stay together for its longest: twice ten passes.
    let whole_batches: u32 = mixed.chunks(4).filter_map(|batch| batch.iter().max()).sum();
    assert_eq!(whole_batches, 20);
    // Twelve would be full to the last; one or two more are left for how the first ones come together.
    assert!((12..=14).contains(&passes.len()), "{passes:?}");
}

#[tokio::test]
async fn whoever_comes_later_joins_the_next_step_and_leaves_when_done() {
    let bench = bench(&[GPU]);
    // A newcomer must not wait for company here.
    bench.engine.set_limits(BatchLimits {
        wait_max: Duration::from_secs(600),
        ..limits()
    });
    let gate = bench.scripts[0].close_gate();
    // The encode, and three steps.
    (0..4).for_each(|_| gate.send(()).unwrap());
    let long = submit(&bench, 1.0, 200);
    while bench.scripts[0].step_passes().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let short = submit(&bench, 2.0, 3);
    drop(gate);
    let short = short.finished().await.unwrap();
    let passes = bench.scripts[0].step_passes();
    let shared: Vec<_> = passes.iter().filter(|pass| pass.len() == 2).collect();
    assert_eq!(shared.len(), 3, "{passes:?}");
    assert!(
        shared.iter().all(|pass| pass[0].1 != pass[1].1),
        "each at a step of its own: {shared:?}"
    );
    let long = long.finished().await.unwrap();
    let fields = [field(&bench, &long).await, field(&bench, &short).await];
    assert_eq!(fields.to_vec(), alone(&[(1.0, 200), (2.0, 3)]).await);
}

#[tokio::test]
async fn a_step_that_goes_wrong_fails_one_conversion_alone() {
    for (poison, expected) in [(STEP_NAN, "NonFinite"), (STEP_PANIC, "Panicked")] {
        let bench = bench(&[GPU]);
        let (gate, first) = occupy(&bench).await;
        let tickets = [1.0, poison, 2.0].map(|value| submit(&bench, value, 5));
        drop(gate);
        first.finished().await.unwrap();
        let [one, poisoned, two] = tickets;
        let error = poisoned.finished().await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        for ticket in [one, two] {
            let codes = ticket.finished().await.unwrap();
            assert!(field(&bench, &codes).await.is_finite());
        }
    }
}

#[tokio::test]
async fn steps_that_do_not_fit_are_halved_and_nothing_is_done_twice() {
    let bench = bench(&[GPU]);
    let script = &bench.scripts[0];
    script.steps.rows_fitting.store(2, Ordering::SeqCst);
    let (gate, first) = occupy(&bench).await;
    let tickets = [1.0, 2.0, 3.0, 4.0].map(|value| submit(&bench, value, 3));
    drop(gate);
    first.finished().await.unwrap();
    for ticket in tickets {
        ticket.finished().await.unwrap();
    }
    let passes = script.step_passes();
    let sizes: Vec<_> = passes.iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 2, 2, 2, 2, 2, 2]);
    assert_eq!(
        bench.engine.devices()[0].batch_images_max,
        4,
        "pictures are encoded as before"
    );
}

#[tokio::test]
async fn who_is_not_waited_for_gets_no_further_step() {
    let bench = bench(&[GPU]);
    let script = &bench.scripts[0];
    let gate = script.close_gate();
    (0..3).for_each(|_| gate.send(()).unwrap());
    let mut leaving = submit(&bench, 1.0, 200);
    assert!(leaving.stepped().await.is_some(), "it is encoded");
    while script.step_passes().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(leaving);
    drop(gate);
    let staying = submit(&bench, 2.0, 2).finished().await.unwrap();
    let passes = script.step_passes();
    let steps = passes.iter().flatten().filter(|row| row.0 == 1.0).count();
    assert_eq!(steps, 3, "{passes:?}");
    assert_eq!(
        script.codes.load(Ordering::SeqCst),
        1,
        "its latents are gone"
    );
    drop(staying);
}

#[tokio::test]
async fn every_step_is_told() {
    let bench = bench(&[GPU]);
    let gate = bench.scripts[0].close_gate();
    gate.send(()).unwrap();
    let mut ticket = submit(&bench, 1.0, 4);
    let mut shares = Vec::new();
    while let Some(share) = ticket.stepped().await {
        shares.push(share);
        // The last one finds nobody at the gate.
        let _ = gate.send(());
    }
    assert_eq!(shares, [0.0, 0.25, 0.5, 0.75, 1.0]);
    ticket.finished().await.unwrap();
    let mut other = bench.engine.enqueue(request(1.0)).unwrap();
    assert_eq!(other.stepped().await, None, "this model has no steps");
}

#[tokio::test]
async fn queries_and_encodes_of_others_come_between_steps() {
    let bench = bench(&[GPU]);
    let script = &bench.scripts[0];
    let codes = bench.engine.enqueue(request(1.0)).unwrap();
    let codes = codes.finished().await.unwrap();
    let gate = script.close_gate();
    gate.send(()).unwrap();
    let endless = submit(&bench, 2.0, 200);
    while script.step_passes().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let long = bench
        .engine
        .query(&codes, points(4 * POINTS_PER_PASS), Want::Logits);
    let encode = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Two, which is what a batch aims at.
        let tickets = [3.0, 4.0].map(|value| bench.engine.enqueue(request(value)).unwrap());
        drop(gate);
        for ticket in tickets {
            ticket.finished().await.unwrap();
        }
    };
    let (long, ()) = tokio::join!(long, encode);
    assert_eq!(long.unwrap().logits.len(), 4 * POINTS_PER_PASS);
    endless.finished().await.unwrap();
    assert_eq!(script.step_passes().len(), 200);
    let encoded_after = script.steps.encoded_after.lock().unwrap().clone();
    assert_eq!(encoded_after[..2], [0, 0], "those that were there first");
    // Four passes between two encodes, about half of them steps, and what was under way.
    assert!(encoded_after[2] <= 5, "{encoded_after:?}");
}

#[tokio::test]
async fn a_processor_takes_one_at_a_time_in_turns() {
    let bench = bench(&[DeviceId::Cpu]);
    let (gate, first) = occupy(&bench).await;
    let tickets = [1.0, 2.0].map(|value| submit(&bench, value, 3));
    drop(gate);
    first.finished().await.unwrap();
    for ticket in tickets {
        ticket.finished().await.unwrap();
    }
    let passes = bench.scripts[0].step_passes();
    assert!(passes.iter().all(|pass| pass.len() == 1), "{passes:?}");
    let mut order: Vec<_> = passes.iter().map(|pass| pass[0].0).collect();
    // The first one may have had a step before the second was encoded.
    order.dedup();
    assert!(order.len() >= 5, "they take turns: {passes:?}");
}

#[tokio::test]
async fn a_lost_device_ends_its_steps() {
    let bench = bench(&[GPU]);
    let gate = bench.scripts[0].close_gate();
    gate.send(()).unwrap();
    let running = submit(&bench, 1.0, 200);
    while bench.scripts[0].step_passes().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let doomed = [LOSE, 2.0].map(|value| bench.engine.enqueue(request(value)).unwrap());
    drop(gate);
    for ticket in doomed.into_iter().chain([running]) {
        let error = ticket.finished().await.unwrap_err();
        assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_engine_that_stops_finishes_the_steps() {
    let bench = bench(&[GPU]);
    let mut running = submit(&bench, 1.0, 100);
    running.stepped().await.unwrap();
    bench.engine.stop().await;
    running.finished().await.unwrap();
    assert_eq!(bench.scripts[0].step_passes().len(), 100);
}

#[tokio::test]
async fn what_the_model_does_not_allow_is_refused_before_it_waits() {
    let bench = bench(&[GPU]);
    match bench.engine.enqueue(stepping(1.0, 201)) {
        Err(EngineError::Sampling(error)) => assert_eq!(
            error.to_string(),
            "steps must lie in 1..200 for this model, and 201 was asked"
        ),
        other => panic!("{other:?}"),
    }
    // Another model takes no notice.
    let plain = EncodeRequest {
        model: "scripted".into(),
        ..stepping(1.0, 201)
    };
    let ticket = bench.engine.enqueue(plain).unwrap();
    ticket.finished().await.unwrap();
}
