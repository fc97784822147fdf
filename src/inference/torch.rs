//! The models in libtorch: the sole user of `tch`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tch::{CModule, NoGradGuard, TchError, Tensor};
use tracing::info;

use super::{
    backend::{Answer, Backend, Beginning, Denoising, Opened, Portion, Rows, Twin, UnderWay},
    catalog::ServedModel,
    contract::{Check, Finding, Verdict},
    cuda::MemoryWatch,
    device::DeviceId,
    error::{EngineError, Operation},
    manifest::{DevicePlan, Manifest, ModelError},
    measurements::{Measurements, Subject},
    memory::{Lesson, Measured, MemoryNow},
    starting::OpenOptions,
};
use crate::error_chain::chain;

pub use self::limits::measure_limits;
use self::transfer::Transfers;

mod busy;
pub mod check;
mod denoise;
pub mod devices;
mod launcher;
mod limits;
mod load;
mod message;
mod pass;
mod transfer;
mod warm_up;

/// One device and the models on it.
pub struct TorchBackend {
    id: DeviceId,
    /// The maker's name for the device.
    name: String,
    transfers: Transfers,
    measurements: Option<Measurements>,
    /// By the engine's numbers; `None` where a model was refused. Shared with the device's other lane.
    models: Vec<Option<Arc<Loaded>>>,
    watch: Option<MemoryWatch>,
    /// Gradients are off for the thread as long as this lives.
    _no_grad: NoGradGuard,
}

impl fmt::Debug for TorchBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorchBackend")
            .field("id", &self.id)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

/// A model on a device.
#[derive(Debug)]
struct Loaded {
    module: CModule,
    manifest: Arc<Manifest>,
    plan: DevicePlan,
    /// Batch sizes that run without choosing kernels first, ascending.
    warm: Vec<usize>,
    /// The same of denoising steps.
    warm_steps: Vec<usize>,
    /// What lessons about it are kept under; `None` until it is warmed up.
    subject: Option<Subject>,
}

impl TorchBackend {
    /// Loads every model onto the device, holds it to its contract, and warms it up: on a GPU with
    /// each batch size, measuring it. Called on the thread that will own the device.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`] if the device cannot be used at all; a model that cannot be is refused by itself.
    pub fn open(options: OpenOptions) -> Result<Opened<Self>, EngineError> {
        let OpenOptions {
            id,
            models: served,
            images_max,
            cpu_threads,
            measurements,
        } = options;
        let mut backend = Self::on(id, cpu_threads)?;
        backend.measurements = measurements;
        let models = served
            .iter()
            .map(|model| backend.admit(model, images_max))
            .collect();
        Ok(Opened {
            id,
            name: backend.name.clone(),
            staging: backend.transfers.staging(),
            twin: backend.twin(cpu_threads),
            backend,
            models,
        })
    }

    /// A CPU's second lane: beside another conversion, a pass on two cores left a quarter of them idle.
    fn twin(&self, cpu_threads: Option<usize>) -> Option<Twin<Self>> {
        if self.id != DeviceId::Cpu || load::cores() < 2 {
            return None;
        }
        let (models, measurements) = (self.models.clone(), self.measurements.clone());
        Some(Twin::new(move || {
            Ok(Self {
                models,
                measurements,
                ..Self::on(DeviceId::Cpu, cpu_threads)?
            })
        }))
    }

    /// Loads one model and tries every promise of its contract.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`] if the device cannot be used at all.
    pub fn examine(
        id: DeviceId,
        served: &ServedModel,
        cpu_threads: Option<usize>,
    ) -> Result<Vec<Finding>, EngineError> {
        let mut backend = Self::on(id, cpu_threads)?;
        let load = |verdict| Finding {
            check: Check::Load,
            verdict,
        };
        Ok(match backend.load(served) {
            Err(error) => vec![load(Verdict::Broken(chain(&error)))],
            Ok(number) => {
                let dtype = backend.loaded(number).plan.dtype;
                let dtype = format!("{dtype:?}").to_lowercase();
                let kept = load(Verdict::Kept(format!("as {dtype} onto {}", backend.name)));
                let findings = check::findings(&mut backend, number, &served.manifest);
                std::iter::once(kept).chain(findings).collect()
            }
        })
    }

    /// A device without models. Called on the thread that will own it.
    fn on(id: DeviceId, cpu_threads: Option<usize>) -> Result<Self, EngineError> {
        load::prepare_threads(cpu_threads);
        let watch = match id {
            DeviceId::Cpu => None,
            DeviceId::Cuda(ordinal) => MemoryWatch::new(ordinal),
        };
        let name = match id {
            DeviceId::Cpu => "CPU".to_owned(),
            DeviceId::Cuda(_) => watch
                .as_ref()
                .and_then(MemoryWatch::name)
                .unwrap_or_else(|| id.to_string()),
        };
        Ok(Self {
            id,
            name,
            transfers: Transfers::new(id)?,
            measurements: None,
            models: Vec::new(),
            watch,
            _no_grad: tch::no_grad_guard(),
        })
    }

    /// Loads the next model: its number. One that can't be loaded has a number, too.
    fn load(&mut self, served: &ServedModel) -> Result<usize, ModelError> {
        let plan = match self.id {
            DeviceId::Cpu => served.manifest.cpu.clone(),
            DeviceId::Cuda(_) => served.manifest.cuda.clone(),
        };
        let number = self.models.len();
        self.models.push(None);
        let module = load::load(served, &plan, self.transfers.device)?;
        self.models[number] = Some(Arc::new(Loaded {
            module,
            manifest: Arc::clone(&served.manifest),
            plan,
            warm: Vec::new(),
            warm_steps: Vec::new(),
            subject: None,
        }));
        Ok(number)
    }

    /// Loads, checks and warms up the next model.
    fn admit(&mut self, served: &ServedModel, images_max: usize) -> Result<Measured, ModelError> {
        let began = Instant::now();
        let number = self.load(served)?;
        let loaded_ms = began.elapsed().as_millis() as u64;
        // From here on, memory goes into passes.
        let free_loaded = self.memory().map(|memory| memory.free_bytes);
        let measured = check::holds_its_contract(self, number, &served.manifest).and_then(|()| {
            let images_max = images_max.min(served.manifest.batch.images_max);
            self.warm_up(number, &served.manifest, images_max, free_loaded)
        });
        if measured.is_err() {
            self.models[number] = None;
        }
        let measured = measured?;
        let warm_ms = began.elapsed().as_millis() as u64 - loaded_ms;
        info!(model = %served.name, device = %self.id, loaded_ms, warm_ms, "Model {} is ready on {}", served.name, self.id);
        Ok(measured)
    }

    /// A model that is warmed up.
    fn loaded_mut(&mut self, model: usize) -> &mut Loaded {
        let loaded = self.models[model].as_mut().and_then(Arc::get_mut);
        loaded.expect("only a loaded model is warmed up, and none that is shared")
    }

    /// Bounds query passes by what was found to pay.
    fn limit_points(&mut self, model: usize, points: Option<usize>) {
        if let Some(points) = points {
            let plan = &mut self.loaded_mut(model).plan;
            plan.points_per_pass = plan.points_per_pass.min(points);
        }
    }

    fn loaded(&self, model: usize) -> &Arc<Loaded> {
        self.models[model]
            .as_ref()
            .expect("the engine asks only for models that every device has admitted")
    }

    fn failed(&self, operation: Operation) -> impl Fn(TchError) -> EngineError + Copy + use<> {
        message::failed(self.id, operation)
    }
}

impl Backend for TorchBackend {
    type Codes = Tensor;

    fn encode(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.begin_encode(model, images)
    }

    fn begin(
        &mut self,
        model: usize,
        rows: &[Beginning<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.begin_latents(model, rows)
    }

    fn denoise(
        &mut self,
        model: usize,
        rows: &[Denoising<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        self.begin_step(model, rows)
    }

    fn query(
        &mut self,
        model: usize,
        portions: &[Portion<'_, Tensor>],
        row: usize,
    ) -> Result<UnderWay<Vec<Answer>>, EngineError> {
        self.begin_query(model, portions, row)
    }

    fn matte(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError> {
        self.begin_matte(model, images)
    }

    fn points_per_pass(&self, model: usize) -> usize {
        self.loaded(model).plan.points_per_pass
    }

    fn shares_passes(&self) -> bool {
        // On a CPU two rows at once gain 7% and differ from one by one by up to 2e-4.
        self.transfers.device.is_cuda()
    }

    fn busy(&self) -> Option<Duration> {
        self.transfers.busy()
    }

    fn memory(&self) -> Option<MemoryNow> {
        self.watch.as_ref()?.now()
    }

    fn learn(&mut self, model: usize, lesson: Lesson) {
        if let (Some(kept), Some(subject)) = (&self.measurements, &self.loaded(model).subject) {
            kept.learn(subject, lesson);
        }
    }
}

#[cfg(test)]
mod tests;
