//! Engines beside the one that all nodes share: over other model files, and with passes shared as a GPU shares them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use orfeas::{
    app,
    inference::{
        backend::{Answer, Backend, Beginning, Denoising, Opened, Portion, Rows, UnderWay},
        batcher::BatchLimits,
        device::{DeviceChoice, DeviceId},
        engine::{EncodeRequest, Engine, EngineOptions},
        error::EngineError,
        handle::Codes,
        measurements::Measurements,
        memory::{Lesson, MemoryNow},
        sampling::SamplingOptions,
        starting::OpenOptions,
        torch::{TorchBackend, devices},
    },
};

/// Passes as they were begun, by what shared them.
#[derive(Debug, Clone, Default)]
pub struct Passes {
    /// Pictures of each encode.
    pub encodes: Vec<usize>,
    /// Conversions of each query, and its points with their padding.
    pub queries: Vec<(usize, usize)>,
    /// Pictures of each matte.
    pub mattes: Vec<usize>,
}

/// libtorch on the processor, but for one word: it shares passes, as on a GPU. So what is true of shared passes can be
/// tried on any machine, with real models and their real errors.
struct Sharing {
    torch: TorchBackend,
    passes: Arc<Mutex<Passes>>,
    held: Arc<Held>,
}

/// The number of conversions whose query passes stand still.
#[derive(Debug, Default)]
struct Held {
    conversions: Mutex<Option<usize>>,
    changed: Condvar,
}

/// Query passes of so many conversions stand still, begun and noted, until this is dropped.
pub struct Hold(Arc<Held>);

impl Drop for Hold {
    fn drop(&mut self) {
        *self.0.conversions.lock().unwrap() = None;
        self.0.changed.notify_all();
    }
}

impl Backend for Sharing {
    type Codes = <TorchBackend as Backend>::Codes;

    fn encode(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<Self::Codes>>, EngineError> {
        self.passes.lock().unwrap().encodes.push(images.len());
        self.torch.encode(model, images)
    }

    fn begin(
        &mut self,
        model: usize,
        rows: &[Beginning<'_, Self::Codes>],
    ) -> Result<UnderWay<Rows<Self::Codes>>, EngineError> {
        self.torch.begin(model, rows)
    }

    fn denoise(
        &mut self,
        model: usize,
        rows: &[Denoising<'_, Self::Codes>],
    ) -> Result<UnderWay<Rows<Self::Codes>>, EngineError> {
        self.torch.denoise(model, rows)
    }

    fn query(
        &mut self,
        model: usize,
        portions: &[Portion<'_, Self::Codes>],
        row: usize,
    ) -> Result<UnderWay<Vec<Answer>>, EngineError> {
        let rows = portions
            .iter()
            .map(|portion| portion.points.len().div_ceil(row));
        let points = row * rows.sum::<usize>();
        let pass = (portions.len(), points);
        self.passes.lock().unwrap().queries.push(pass);
        let held = self.held.conversions.lock().unwrap();
        let stands = |held: &mut Option<usize>| *held == Some(portions.len());
        drop(self.held.changed.wait_while(held, stands).unwrap());
        self.torch.query(model, portions, row)
    }

    fn matte(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError> {
        self.passes.lock().unwrap().mattes.push(images.len());
        self.torch.matte(model, images)
    }

    fn points_per_pass(&self, model: usize) -> usize {
        self.torch.points_per_pass(model)
    }

    fn shares_passes(&self) -> bool {
        true
    }

    fn busy(&self) -> Option<Duration> {
        self.torch.busy()
    }

    fn memory(&self) -> Option<MemoryNow> {
        self.torch.memory()
    }

    fn learn(&mut self, model: usize, lesson: Lesson) {
        self.torch.learn(model, lesson);
    }
}

/// An engine and, where they are looked at, its passes.
pub struct Bench {
    pub engine: Engine,
    passes: Option<Arc<Mutex<Passes>>>,
    held: Arc<Held>,
}

/// What a test chooses of an engine.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    pub models_dir: PathBuf,
    pub model: &'static str,
    /// Where lessons are kept.
    pub measurements: Option<PathBuf>,
}

/// An idle device waits for everybody who is on their way, so that they share a batch on the slowest of machines.
pub fn patient() -> BatchLimits {
    BatchLimits {
        idle_wait_max: Duration::from_secs(60),
        wait_max: Duration::from_secs(60),
        ..BatchLimits::default()
    }
}

impl BenchOptions {
    pub fn new(models_dir: &Path, model: &'static str) -> Self {
        Self {
            models_dir: models_dir.to_owned(),
            model,
            measurements: None,
        }
    }

    fn engine_options(&self, device: DeviceChoice) -> EngineOptions {
        EngineOptions {
            models_dir: self.models_dir.clone(),
            default_model: Some(self.model.into()),
            device,
            limits: patient(),
            dynamic_scaling: false,
            cpu_threads: app::open::cpu_threads(),
            measurements: self.measurements.clone().map(Measurements::in_folder),
        }
    }

    /// The processor, with passes shared.
    pub fn sharing(&self) -> Bench {
        let passes = Arc::<Mutex<Passes>>::default();
        let held = Arc::<Held>::default();
        let (log, hold) = (Arc::clone(&passes), Arc::clone(&held));
        let open = move |options: OpenOptions| {
            let Opened {
                backend,
                id,
                name,
                staging,
                models,
                // Whoever shares passes has one lane.
                twin: _,
            } = TorchBackend::open(options)?;
            let backend = Sharing {
                torch: backend,
                passes: Arc::clone(&log),
                held: Arc::clone(&hold),
            };
            Ok(Opened {
                backend,
                id,
                name,
                staging,
                models,
                twin: None,
            })
        };
        let options = self.engine_options(DeviceChoice::Cpu);
        let engine = Engine::start_on(options, &[DeviceId::Cpu], open).unwrap();
        Bench {
            engine,
            passes: Some(passes),
            held,
        }
    }

    /// The machine's GPU, if it has one. CUDA is looked for once, before the first tensor, so tests that want it run apart
    /// from the others: `cargo test --test it on_a_gpu`.
    pub fn on_a_gpu(&self) -> Option<Bench> {
        let devices = devices::choose(&DeviceChoice::Auto).unwrap();
        if devices[0] == DeviceId::Cpu {
            return None;
        }
        let engine = Engine::start(self.engine_options(DeviceChoice::Auto)).unwrap();
        Some(Bench {
            engine,
            passes: None,
            held: Arc::default(),
        })
    }
}

impl Bench {
    /// What a picture of the bench's model is asked with.
    pub fn request(&self, image: Vec<f32>) -> EncodeRequest {
        EncodeRequest {
            model: self.engine.default_model().to_owned(),
            resolution: 32,
            rank: 0,
            sampling: SamplingOptions::default(),
            image: image.into(),
        }
    }

    /// Encodes pictures in one batch, as far as it may be so large.
    pub async fn encode(&self, images: &[Vec<f32>]) -> Vec<Result<Codes, EngineError>> {
        let coming = self.engine.on_their_way();
        let tickets: Vec<_> = images
            .iter()
            .map(|image| self.engine.enqueue(self.request(image.clone())).unwrap())
            .collect();
        drop(coming);
        futures_util::future::join_all(tickets.into_iter().map(|ticket| ticket.finished())).await
    }

    /// The passes so far; unknown of a GPU.
    pub fn log(&self) -> Option<Passes> {
        let passes = self.passes.as_ref()?;
        Some(passes.lock().unwrap().clone())
    }

    /// Holds query passes of so many conversions; a GPU's are not held.
    pub fn hold(&self, conversions: usize) -> Hold {
        *self.held.conversions.lock().unwrap() = Some(conversions);
        Hold(Arc::clone(&self.held))
    }

    pub fn images_max(&self) -> usize {
        self.engine.devices()[0].batch_images_max
    }
}
