//! Conversions of an iterative model that share their steps, on the CPU as a GPU does it: tried on a tiny model.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    super::super::{
        backend::{Beginning, Denoising, Opened, Portion, Rows, UnderWay},
        memory::{Lesson, MemoryNow},
        sampling::Sampling,
        starting::OpenOptions,
    },
    *,
};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/models/stepping"
);
/// How far a logit may move by the company of its row; the field's slope is 20 a unit of length.
const MOVE_MAX: f32 = 1e-4;
/// The manifest's largest batch.
const ROWS: usize = 4;

/// A picture of a ball in the model's 16 x 16 pixels.
fn picture(radius: f32) -> Vec<f32> {
    let mut planes = vec![0.5; 3 * 16 * 16];
    for (at, value) in planes.iter_mut().enumerate() {
        let unit = |at: usize| (at as f32 + 0.5) / 8.0 - 1.0;
        if unit(at / 16 % 16).hypot(unit(at % 16)) < radius {
            *value = 0.9 - 0.2 * (at / 256) as f32;
        }
    }
    planes
}

fn sampling(at: usize) -> Sampling {
    Sampling {
        steps: [2, 9, 5][at % 3],
        guidance: 0.5 + at as f32,
        seed: at as i64,
    }
}

#[test]
fn rows_at_different_steps_share_passes_and_are_what_they_are_alone() {
    let mut backend = TorchBackend::on(DeviceId::Cpu, None).unwrap();
    let served = Catalog::find(Path::new(FIXTURE)).unwrap().served();
    assert_eq!(backend.load(&served[0]).unwrap(), 0);
    let samplings: Vec<_> = (0..3).map(sampling).collect();
    let codes: Vec<_> = [0.5, 0.7, 0.9]
        .iter()
        .map(|&radius| {
            let rows = backend.encode(0, &[&picture(radius)]).unwrap().land();
            rows.unwrap().remove(0).unwrap()
        })
        .collect();
    let shared = |codes: &[Tensor]| codes.iter().map(Tensor::shallow_clone).collect();
    let alone: Vec<_> = (0..3)
        .map(|at| {
            let codes = shared(&codes[at..=at]);
            let latents = backend.denoised(0, codes, &samplings[at..=at], 0);
            latents.unwrap().remove(0)
        })
        .collect();
    // Once as many rows as there are, and once filled up to a size that is warm.
    for warm in [vec![], vec![1, ROWS]] {
        backend.loaded_mut(0).warm_steps = warm;
        let together = backend.denoised(0, shared(&codes), &samplings, 1).unwrap();
        for (alone, together) in alone.iter().zip(&together) {
            assert_eq!(alone.size(), together.size());
            let moved = (alone - together).abs().max().double_value(&[]);
            assert!(moved < f64::from(MOVE_MAX), "{moved}");
        }
    }
    let first = (&alone[0] - &alone[1]).abs().max().double_value(&[]);
    assert!(first > 0.01, "they differ among themselves");
}

/// libtorch on the CPU, made to share passes as a GPU does; counts its steps.
#[derive(Debug)]
struct Sharing {
    inner: TorchBackend,
    steps: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
}

impl Backend for Sharing {
    type Codes = Tensor;

    fn encode(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.inner.encode(model, images)
    }

    fn begin(
        &mut self,
        model: usize,
        rows: &[Beginning<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.inner.begin(model, rows)
    }

    fn denoise(
        &mut self,
        model: usize,
        rows: &[Denoising<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows.len(), Ordering::Relaxed);
        self.inner.denoise(model, rows)
    }

    fn query(
        &mut self,
        model: usize,
        portions: &[Portion<'_, Tensor>],
        row: usize,
    ) -> Result<UnderWay<Vec<Answer>>, EngineError> {
        self.inner.query(model, portions, row)
    }

    fn matte(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError> {
        self.inner.matte(model, images)
    }

    fn points_per_pass(&self, model: usize) -> usize {
        self.inner.points_per_pass(model)
    }

    fn shares_passes(&self) -> bool {
        true
    }

    fn busy(&self) -> Option<Duration> {
        self.inner.busy()
    }

    fn memory(&self) -> Option<MemoryNow> {
        self.inner.memory()
    }

    fn learn(&mut self, model: usize, lesson: Lesson) {
        self.inner.learn(model, lesson);
    }
}

struct Bench {
    engine: Engine,
    steps: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
}

fn bench() -> Bench {
    let (steps, rows) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let open = {
        let (steps, rows) = (Arc::clone(&steps), Arc::clone(&rows));
        move |options: OpenOptions| {
            let opened = TorchBackend::open(options)?;
            Ok(Opened {
                backend: Sharing {
                    inner: opened.backend,
                    steps: Arc::clone(&steps),
                    rows: Arc::clone(&rows),
                },
                id: opened.id,
                name: opened.name,
                staging: opened.staging,
                twin: None,
                models: opened.models,
            })
        }
    };
    let options = EngineOptions {
        default_model: None,
        ..options(Path::new(FIXTURE), DeviceChoice::Cpu)
    };
    let engine = Engine::start_on(options, &[DeviceId::Cpu], open).unwrap();
    Bench {
        engine,
        steps,
        rows,
    }
}

impl Bench {
    async fn convert(engine: Engine, radius: f32, steps: u32, seed: u32) -> Codes {
        let request = EncodeRequest {
            model: "stepping".into(),
            sampling: SamplingOptions {
                steps: Some(steps),
                guidance: None,
                seed,
            },
            ..request(picture(radius))
        };
        engine.enqueue(request).unwrap().finished().await.unwrap()
    }

    async fn field(&self, codes: &Codes) -> Vec<f32> {
        let asked = self.engine.query(codes, cloud(1, 500), Want::Logits);
        asked.await.unwrap().logits
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_flight_each_conversion_is_what_it_is_alone() {
    let bench = bench();
    let asked: Vec<_> = (0..12_u32)
        .map(|at| (0.4 + 0.04 * at as f32, [3, 20, 64, 11][at as usize % 4], at))
        .collect();
    let mut alone = Vec::new();
    for &(radius, steps, seed) in &asked {
        let codes = Bench::convert(bench.engine.clone(), radius, steps, seed).await;
        alone.push(bench.field(&codes).await);
    }
    let (steps, rows) = (bench.steps.swap(0, Ordering::Relaxed), &bench.rows);
    assert_eq!(steps, rows.swap(0, Ordering::Relaxed), "alone is alone");
    let together: Vec<_> = asked
        .iter()
        .map(|&(radius, steps, seed)| {
            tokio::spawn(Bench::convert(bench.engine.clone(), radius, steps, seed))
        })
        .collect();
    for (task, alone) in together.into_iter().zip(&alone) {
        let codes = task.await.unwrap();
        for (one, other) in bench.field(&codes).await.iter().zip(alone) {
            assert!((one - other).abs() <= MOVE_MAX, "{one} and {other}");
        }
    }
    let (passes, rows) = (
        bench.steps.load(Ordering::Relaxed),
        rows.load(Ordering::Relaxed),
    );
    assert_eq!(rows, steps, "nobody has more steps than alone");
    assert!(passes < rows, "nobody shared a step, so nothing was shown");
}

/// Whole batches are made by their caller: four start together, and the next four when all have ended.
///
/// `cargo test --release --lib in_flight_against_whole_batches -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement for docs/PERFORMANCE.md"]
async fn in_flight_against_whole_batches() {
    const CONVERSIONS: u32 = 200;
    let bench = bench();
    let steps = |number: u32| [8, 16, 32, 64, 12, 48, 24, 56][number as usize % 8];
    for in_flight in [false, true, false, true] {
        bench.steps.store(0, Ordering::Relaxed);
        bench.rows.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        let mut took = Vec::new();
        for number in 0..CONVERSIONS {
            let may_start = |running: usize| match in_flight {
                true => running < ROWS,
                false => running == 0 || !number.is_multiple_of(ROWS as u32),
            };
            while !may_start(running.len()) {
                took.push(running.join_next().await.unwrap().unwrap());
            }
            let engine = bench.engine.clone();
            running.spawn(async move {
                let began = Instant::now();
                Bench::convert(engine, 0.6, steps(number), number).await;
                began.elapsed().as_secs_f64() * 1000.0
            });
        }
        took.extend(running.join_all().await);
        took.sort_by(f64::total_cmp);
        let seconds = began.elapsed().as_secs_f64();
        let (passes, rows) = (
            bench.steps.load(Ordering::Relaxed),
            bench.rows.load(Ordering::Relaxed),
        );
        println!(
            "{}: {:.0} conversions a second, {passes} steps of {:.2} conversions, p50 {:.1} ms, p95 {:.1} ms",
            if in_flight {
                "in flight"
            } else {
                "whole batches"
            },
            f64::from(CONVERSIONS) / seconds,
            rows as f64 / passes as f64,
            took[took.len() / 2],
            took[took.len() * 95 / 100],
        );
    }
}
