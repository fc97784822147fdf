//! A scripted device, and an engine over it.

pub(super) use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

pub(super) use super::super::{
    super::{
        backend::{
            Answer, Beginning, Denoising, FieldValues, Opened, Portion, Rows, Twin, UnderWay, Want,
        },
        batcher::{BatchLimits, StopReason},
        device::DeviceChoice,
        engine::{EncodeRequest, Engine, EngineOptions},
        error::Operation,
        handle::Ticket,
        manifest::{MANIFEST_FILE, ModelError},
        memory::{Lesson, Measured, Measurement, MemoryNow},
        sampling::SamplingOptions,
        staging::InPlace,
        starting::OpenOptions,
    },
    *,
};

use super::stepping::{StepScript, write_stepping_model};

pub(super) const SIDE: usize = 16;
pub(super) const POINTS_PER_PASS: usize = 16384;
/// Values of the first pixel that make the device misbehave.
pub(super) const NAN: f32 = 1001.0;
pub(super) const PANIC: f32 = 1002.0;
pub(super) const LOSE: f32 = 1003.0;
pub(super) const HUGE: f32 = 1004.0;
/// The same, when the field of such a picture is asked.
pub(super) const QUERY_NAN: f32 = 1005.0;
pub(super) const QUERY_PANIC: f32 = 1006.0;
pub(super) const LANDS_BADLY: f32 = 1007.0;
pub(super) const QUERY_HUGE: f32 = 1008.0;

/// What the test sees and decides of a scripted device.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Batches as they were encoded, by the images' first values.
    pub(super) encoded: Mutex<Vec<Vec<f32>>>,
    /// How many passes of queries came before each of them.
    pub(super) encoded_after: Mutex<Vec<usize>>,
    /// The passes of queries: how many points each conversion had in them.
    pub(super) passes: Mutex<Vec<Vec<usize>>>,
    /// What it does with conversions of the model `stepping`.
    pub(super) steps: StepScript,
    /// Sizes of the passes of mattes.
    pub(super) mattes: Mutex<Vec<usize>>,
    /// More images than this at a time are out of memory; 0 for no such bound.
    pub(super) images_fitting: AtomicUsize,
    /// Passes of more points than this are out of memory; 0 for no such bound.
    pub(super) points_fitting: AtomicUsize,
    /// What is to be kept for the next start.
    pub(super) lessons: Mutex<Vec<Lesson>>,
    /// Codes that lie on the device.
    pub(super) codes: Arc<AtomicUsize>,
    /// If there, each pass waits for a word.
    pub(super) gate: Mutex<Option<mpsc::Receiver<()>>>,
    /// Whether encodes that are begun stay under way.
    pub(super) is_slow: Arc<AtomicBool>,
}

impl Script {
    pub(super) fn wait_at_gate(&self) {
        if let Some(gate) = &*self.gate.lock().unwrap() {
            // A test that has dropped its end lets everything pass.
            let _ = gate.recv();
        }
    }

    pub(super) fn close_gate(&self) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel();
        *self.gate.lock().unwrap() = Some(gate);
        open
    }
}

pub(super) struct ScriptedCodes {
    pub(super) value: f32,
    pub(super) count: Arc<AtomicUsize>,
}

impl Drop for ScriptedCodes {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) struct ScriptedBackend {
    pub(super) script: Arc<Script>,
    pub(super) id: DeviceId,
    pub(super) together: bool,
}

impl Backend for ScriptedBackend {
    type Codes = ScriptedCodes;

    fn encode(
        &mut self,
        _model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<ScriptedCodes>>, EngineError> {
        let values: Vec<f32> = images.iter().map(|image| image[0]).collect();
        self.script.encoded.lock().unwrap().push(values.clone());
        let passes = self.script.passes.lock().unwrap().len();
        self.script.encoded_after.lock().unwrap().push(passes);
        self.script.note_encode();
        self.script.wait_at_gate();
        let (device, operation) = (self.id, Operation::Encode);
        let fitting = self.script.images_fitting.load(Ordering::SeqCst);
        if fitting > 0 && images.len() > fitting {
            return Err(EngineError::OutOfMemory { device, operation });
        }
        let count = Arc::clone(&self.script.codes);
        // A GPU's passes fail when they land, since another thread gives them to it.
        let land = move || {
            assert!(!values.contains(&PANIC), "a planned panic");
            if values.contains(&HUGE) {
                return Err(EngineError::OutOfMemory { device, operation });
            }
            if values.contains(&LOSE) {
                return Err(EngineError::DeviceLost {
                    device,
                    reason: "planned".into(),
                    took_part: true,
                });
            }
            if values.contains(&NAN) {
                return Err(EngineError::NonFinite { operation });
            }
            count.fetch_add(values.len(), Ordering::SeqCst);
            let codes = |value| {
                Ok(ScriptedCodes {
                    value,
                    count: Arc::clone(&count),
                })
            };
            Ok(values.into_iter().map(codes).collect())
        };
        let is_slow = Arc::clone(&self.script.is_slow);
        let is_over = move || !is_slow.load(Ordering::SeqCst);
        Ok(UnderWay::new(is_over, land))
    }

    fn begin(
        &mut self,
        _model: usize,
        rows: &[Beginning<'_, ScriptedCodes>],
    ) -> Result<UnderWay<Rows<ScriptedCodes>>, EngineError> {
        self.script.begin(rows)
    }

    fn denoise(
        &mut self,
        _model: usize,
        rows: &[Denoising<'_, ScriptedCodes>],
    ) -> Result<UnderWay<Rows<ScriptedCodes>>, EngineError> {
        self.script.denoise(self.id, rows)
    }

    fn query(
        &mut self,
        _model: usize,
        portions: &[Portion<'_, ScriptedCodes>],
        row: usize,
    ) -> Result<UnderWay<Vec<Answer>>, EngineError> {
        let points: usize = portions
            .iter()
            .map(|portion| portion.points.len().div_ceil(row) * row)
            .sum();
        let asked = portions
            .iter()
            .map(|portion| portion.points.len())
            .collect();
        self.script.passes.lock().unwrap().push(asked);
        self.script.wait_at_gate();
        let fitting = self.script.points_fitting.load(Ordering::SeqCst);
        assert!(points <= POINTS_PER_PASS, "{points} points in a pass");
        let operation = Operation::Query;
        let poisoned = |value: f32| portions.iter().any(|portion| portion.codes.value == value);
        if (fitting > 0 && points > fitting) || poisoned(QUERY_HUGE) {
            return Err(EngineError::OutOfMemory {
                device: self.id,
                operation,
            });
        }
        assert!(!poisoned(QUERY_PANIC), "a planned panic");
        let lands_badly = poisoned(LANDS_BADLY);
        let id = self.id;
        let values = portions.iter().map(|portion| FieldValues {
            logits: portion
                .points
                .iter()
                .map(|point| match portion.codes.value {
                    QUERY_NAN => f32::NAN,
                    value => value + point[0],
                })
                .collect(),
            rgb: match portion.want {
                Want::Logits => Vec::new(),
                Want::LogitsAndColors => portion.points.to_vec(),
            },
        });
        let answers = values.zip(portions).map(|(values, portion)| {
            Answer::new(portion.points.len(), portion.want, || Ok(values))
        });
        let answers = answers.collect();
        let is_over = || true;
        Ok(UnderWay::new(is_over, move || match lands_badly {
            true => Err(EngineError::Torch {
                device: id,
                operation,
                reason: "planned".into(),
            }),
            false => Ok(answers),
        }))
    }

    fn matte(
        &mut self,
        _model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError> {
        self.script.mattes.lock().unwrap().push(images.len());
        self.script.wait_at_gate();
        let fitting = self.script.images_fitting.load(Ordering::SeqCst);
        if fitting > 0 && images.len() > fitting {
            return Err(EngineError::OutOfMemory {
                device: self.id,
                operation: Operation::Matte,
            });
        }
        let mattes = images.iter().map(|image| image[..SIDE * SIDE].to_vec());
        Ok(UnderWay::landed(mattes.collect()))
    }

    fn points_per_pass(&self, _model: usize) -> usize {
        POINTS_PER_PASS
    }

    fn shares_passes(&self) -> bool {
        self.together
    }

    fn busy(&self) -> Option<Duration> {
        None
    }

    fn memory(&self) -> Option<MemoryNow> {
        None
    }

    fn learn(&mut self, _model: usize, lesson: Lesson) {
        self.script.lessons.lock().unwrap().push(lesson);
    }
}

/// A models folder with one small model in it, whose file is the text `abc`.
pub(super) fn write_model(models: &Path, name: &str) {
    let folder = models.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.pt"), "abc").unwrap();
    let manifest = format!(
        r#"
        name = "{name}"
        contract = "implicit-field/1"
        description = "scripted"
        licence = "CC0-1.0"
        matte = true
        file = {{ name = "model.pt", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }}
        input = {{ height = {SIDE}, width = {SIDE}, background = [0.5, 0.5, 0.5], fill = 0.9 }}
        field = {{ iso_level = 0.0 }}
        resolution = {{ default = 64, min = 32, max = 128 }}
        batch = {{ images_max = 16 }}
        cpu = {{ dtype = "float32", points_per_pass = {POINTS_PER_PASS} }}
        cuda = {{ dtype = "float32", points_per_pass = {POINTS_PER_PASS} }}
        "#
    );
    std::fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
}

pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) scripts: Vec<Arc<Script>>,
    pub(super) _models: tempfile::TempDir,
}

pub(super) fn limits() -> BatchLimits {
    let count = |count: usize| NonZeroUsize::new(count).unwrap();
    BatchLimits {
        images_max: count(4),
        pending_max: count(8),
        ..BatchLimits::default()
    }
}

pub(super) fn options(models: &Path) -> EngineOptions {
    EngineOptions {
        models_dir: models.to_owned(),
        default_model: None,
        device: DeviceChoice::Cpu,
        limits: limits(),
        dynamic_scaling: false,
        cpu_threads: None,
        measurements: None,
    }
}

/// An engine over `devices` scripted GPUs, or a scripted CPU.
pub(super) fn bench(devices: &[DeviceId]) -> Bench {
    bench_of(devices, false, &Measured::default())
}

/// An engine over a scripted GPU that is said to encode batches of any size in this time.
pub(super) fn measured(encode: Duration) -> Bench {
    let mut measured = Measured::default();
    measured.push(Measurement {
        images: limits().images_max.get(),
        encode,
        bytes: 0,
    });
    bench_of(&[GPU], false, &measured)
}

/// An engine over a scripted CPU with two lanes of one script.
pub(super) fn two_lanes() -> Bench {
    bench_of(&[DeviceId::Cpu], true, &Measured::default())
}

fn bench_of(devices: &[DeviceId], has_twin: bool, measured: &Measured) -> Bench {
    let models = tempfile::tempdir().unwrap();
    write_model(models.path(), "scripted");
    write_stepping_model(models.path());
    let scripts: Vec<_> = devices
        .iter()
        .map(|_| Arc::new(Script::default()))
        .collect();
    let open = {
        let (ids, scripts) = (devices.to_vec(), scripts.clone());
        let measured = measured.clone();
        move |options: OpenOptions| {
            let at = ids.iter().position(|id| *id == options.id).unwrap();
            let script = Arc::clone(&scripts[at]);
            let lane = move || ScriptedBackend {
                script: Arc::clone(&script),
                id: options.id,
                together: options.id != DeviceId::Cpu,
            };
            let models = options
                .models
                .iter()
                .map(|_| Ok(measured.clone()))
                .collect();
            Ok(Opened {
                backend: lane(),
                twin: has_twin.then(|| Twin::new(move || Ok(lane()))),
                id: options.id,
                name: "scripted".into(),
                staging: Arc::new(InPlace),
                models,
            })
        }
    };
    let engine = Engine::start_on(options(models.path()), devices, open).unwrap();
    Bench {
        engine,
        scripts,
        _models: models,
    }
}

pub(super) const GPU: DeviceId = DeviceId::Cuda(0);

pub(super) fn picture(value: f32) -> Vec<f32> {
    vec![value; 3 * SIDE * SIDE]
}

pub(super) fn request(value: f32) -> EncodeRequest {
    EncodeRequest {
        model: "scripted".into(),
        resolution: 64,
        rank: 0,
        sampling: SamplingOptions::default(),
        image: picture(value).into(),
    }
}

pub(super) fn points(count: usize) -> Vec<[f32; 3]> {
    (0..count).map(|at| [at as f32, 0.25, 0.5]).collect()
}

/// Keeps the device in a pass until the returned end speaks or is dropped; the pass is of value 0.
pub(super) async fn occupy(bench: &Bench) -> (mpsc::Sender<()>, Ticket) {
    let gate = bench.scripts[0].close_gate();
    let mut ticket = bench.engine.enqueue(request(0.0)).unwrap();
    ticket.started().await.unwrap();
    while bench.scripts[0].encoded.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (gate, ticket)
}
