//! The models in libtorch: the sole user of `tch`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tch::{CModule, Device, IValue, Kind, NoGradGuard, TchError, Tensor};
use tracing::{info, warn};

use super::{
    backend::{Backend, FieldValues, Opened, Want},
    catalog::ServedModel,
    contract::{Check, Finding, Verdict},
    cuda::MemoryWatch,
    device::DeviceId,
    error::{EngineError, Operation},
    manifest::{DevicePlan, Manifest, ModelError},
    memory::{Measured, Measurement, MemoryNow},
    starting::OpenOptions,
};
use crate::error_chain::chain;

pub mod check;
pub mod devices;
mod load;
mod message;

/// One device and the models on it.
pub struct TorchBackend {
    id: DeviceId,
    device: Device,
    /// By the engine's numbers; `None` where a model was refused.
    models: Vec<Option<Loaded>>,
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
}

impl TorchBackend {
    /// Loads every model onto the device, holds it to its contract, and warms it up: on a GPU with
    /// each batch size, measuring it. Called on the thread that will own the device.
    ///
    /// # Errors
    /// None today: a model that cannot be used is refused by itself.
    pub fn open(options: OpenOptions) -> Result<Opened<Self>, EngineError> {
        let OpenOptions {
            id,
            models: served,
            images_max,
            cpu_threads,
        } = options;
        let (mut backend, name) = Self::on(id, cpu_threads);
        let models = served
            .iter()
            .map(|model| backend.admit(model, images_max))
            .collect();
        Ok(Opened {
            backend,
            id,
            name,
            models,
        })
    }

    /// Loads one model and tries every promise of its contract.
    #[must_use]
    pub fn examine(id: DeviceId, served: &ServedModel, cpu_threads: Option<usize>) -> Vec<Finding> {
        let (mut backend, name) = Self::on(id, cpu_threads);
        let load = |verdict| Finding {
            check: Check::Load,
            verdict,
        };
        match backend.load(served) {
            Err(error) => vec![load(Verdict::Broken(chain(&error)))],
            Ok(number) => {
                let dtype = backend.loaded(number).plan.dtype;
                let dtype = format!("{dtype:?}").to_lowercase();
                let kept = load(Verdict::Kept(format!("as {dtype} onto {name}")));
                let findings = check::findings(&mut backend, number, &served.manifest);
                std::iter::once(kept).chain(findings).collect()
            }
        }
    }

    /// A device without models, and the maker's name for it. Called on the thread that will own it.
    fn on(id: DeviceId, cpu_threads: Option<usize>) -> (Self, String) {
        load::prepare_threads(cpu_threads);
        let device = match id {
            DeviceId::Cpu => Device::Cpu,
            DeviceId::Cuda(ordinal) => Device::Cuda(ordinal),
        };
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
        let backend = Self {
            id,
            device,
            models: Vec::new(),
            watch,
            _no_grad: tch::no_grad_guard(),
        };
        (backend, name)
    }

    /// Loads the next model: its number. One that can't be loaded has a number, too.
    fn load(&mut self, served: &ServedModel) -> Result<usize, ModelError> {
        let plan = match self.id {
            DeviceId::Cpu => served.manifest.cpu.clone(),
            DeviceId::Cuda(_) => served.manifest.cuda.clone(),
        };
        let number = self.models.len();
        self.models.push(None);
        let module = load::load(served, &plan, self.device)?;
        self.models[number] = Some(Loaded {
            module,
            manifest: Arc::clone(&served.manifest),
            plan,
        });
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

    /// Runs each batch size until it is warm and measures it. On a CPU the check of the contract has
    /// warmed the only size there is, and there is nothing to choose by measurement.
    fn warm_up(
        &mut self,
        model: usize,
        manifest: &Manifest,
        images_max: usize,
        free_loaded: Option<u64>,
    ) -> Result<Measured, ModelError> {
        let mut measured = Measured::default();
        if !self.encodes_together() {
            return Ok(measured);
        }
        let pictures: Vec<_> = (0..images_max)
            .map(|seed| check::inputs::noise(seed as u64, manifest.input.values()))
            .collect();
        for images in 1..=images_max {
            let batch: Vec<&[f32]> = pictures[..images].iter().map(Vec::as_slice).collect();
            // The first run chooses kernels and takes memory; the second is what will be usual.
            match self
                .encode(model, &batch)
                .and_then(|_| self.timed_encode(model, &batch))
            {
                Ok(encode) => {
                    let taken = |now: MemoryNow| Some(free_loaded?.saturating_sub(now.free_bytes));
                    let bytes = self.memory().and_then(taken).unwrap_or(0);
                    measured.push(Measurement {
                        images,
                        encode,
                        bytes,
                    });
                }
                Err(EngineError::OutOfMemory { .. }) if images > 1 => {
                    warn!(device = %self.id, images, "A batch of {images} does not fit on {}", self.id);
                    break;
                }
                Err(error) => {
                    return Err(ModelError::Contract {
                        reason: format!("a batch of {images} failed: {error}"),
                    });
                }
            }
        }
        Ok(measured)
    }

    fn timed_encode(&mut self, model: usize, images: &[&[f32]]) -> Result<Duration, EngineError> {
        let began = Instant::now();
        // Looking for NaNs waits for the result, so this is the whole time.
        self.encode(model, images)?;
        Ok(began.elapsed())
    }

    fn loaded(&self, model: usize) -> &Loaded {
        self.models[model]
            .as_ref()
            .expect("the engine asks only for models that every device has admitted")
    }

    fn failed(&self, operation: Operation) -> impl Fn(TchError) -> EngineError + use<> {
        let device = self.id;
        move |error| message::classify(&error.to_string(), device, operation)
    }

    /// Pictures of one model as a tensor on the device.
    fn images(&self, model: usize, images: &[&[f32]]) -> Result<Tensor, TchError> {
        let input = &self.loaded(model).manifest.input;
        let size = [
            images.len() as i64,
            3,
            i64::from(input.height),
            i64::from(input.width),
        ];
        let flat = match images {
            [image] => Tensor::f_from_slice(image)?,
            _ => Tensor::f_from_slice(&images.concat())?,
        };
        flat.f_view(size)?.f_to_device(self.device)
    }

    fn encode_rows(
        &self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<Option<Vec<Tensor>>, TchError> {
        let codes = self
            .loaded(model)
            .module
            .method_ts("encode", &[self.images(model, images)?])?;
        if codes.dim() < 2 || codes.size()[0] != images.len() as i64 {
            let message = format!(
                "encode gave codes of shape {:?} for {} images",
                codes.size(),
                images.len()
            );
            return Err(TchError::Shape(message));
        }
        if codes.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Ok(None);
        }
        if images.len() == 1 {
            return Ok(Some(vec![codes]));
        }
        // Copies, so that a row's memory is free when its conversion ends and not when its whole batch has.
        let row = |at| {
            let view = codes.f_narrow(0, at, 1)?;
            let mut row = view.f_empty_like()?;
            row.f_copy_(&view)?;
            Ok(row)
        };
        (0..images.len() as i64)
            .map(row)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// What `query` gives for rows of codes and as many rows of points, its shapes checked.
    fn ask(
        &self,
        model: usize,
        codes: &Tensor,
        points: &Tensor,
    ) -> Result<(Tensor, Tensor), TchError> {
        let (rows, count, _) = points.size3()?;
        let arguments = [
            IValue::Tensor(codes.shallow_clone()),
            IValue::Tensor(points.f_to_device(self.device)?),
        ];
        let answer = self.loaded(model).module.method_is("query", &arguments)?;
        let (logits, rgb) = match answer {
            IValue::Tuple(pair) => match <[IValue; 2]>::try_from(pair) {
                Ok([IValue::Tensor(logits), IValue::Tensor(rgb)]) => (logits, rgb),
                _ => return Err(TchError::Shape("query gave no pair of tensors".into())),
            },
            _ => return Err(TchError::Shape("query gave no pair".into())),
        };
        if logits.size() != [rows, count] || rgb.size() != [rows, count, 3] {
            let message = format!(
                "query gave {:?} and {:?} for {rows} rows of {count} points",
                logits.size(),
                rgb.size()
            );
            return Err(TchError::Shape(message));
        }
        Ok((logits, rgb))
    }

    fn query_points(
        &self,
        model: usize,
        codes: &Tensor,
        points: &[[f32; 3]],
        want: Want,
        values: &mut FieldValues,
    ) -> Result<(), TchError> {
        let count = points.len() as i64;
        let points = Tensor::f_from_slice(points.as_flattened())?.f_view([1, count, 3])?;
        let (logits, rgb) = self.ask(model, codes, &points)?;
        let done = values.logits.len();
        values.logits.resize(done + count as usize, 0.0);
        copy_out(&logits, &mut values.logits[done..])?;
        if want == Want::LogitsAndColors {
            let done = values.rgb.len();
            values.rgb.resize(done + count as usize, [0.0; 3]);
            copy_out(&rgb, values.rgb[done..].as_flattened_mut())?;
        }
        Ok(())
    }

    fn matte_of(&self, model: usize, image: &[f32]) -> Result<Vec<f32>, TchError> {
        let loaded = self.loaded(model);
        let alpha = loaded
            .module
            .method_ts("matte", &[self.images(model, &[image])?])?;
        let input = &loaded.manifest.input;
        if alpha.size() != [1, 1, i64::from(input.height), i64::from(input.width)] {
            return Err(TchError::Shape(format!(
                "matte gave alpha of shape {:?}",
                alpha.size()
            )));
        }
        let mut values = vec![0.0; input.pixels()];
        copy_out(&alpha, &mut values)?;
        Ok(values)
    }
}

impl Backend for TorchBackend {
    type Codes = Tensor;

    fn encode(&mut self, model: usize, images: &[&[f32]]) -> Result<Vec<Tensor>, EngineError> {
        let rows = self
            .encode_rows(model, images)
            .map_err(self.failed(Operation::Encode))?;
        rows.ok_or(EngineError::NonFinite {
            operation: Operation::Encode,
        })
    }

    fn query(
        &mut self,
        model: usize,
        codes: &Tensor,
        points: &[[f32; 3]],
        want: Want,
        values: &mut FieldValues,
    ) -> Result<(), EngineError> {
        self.query_points(model, codes, points, want, values)
            .map_err(self.failed(Operation::Query))
    }

    fn matte(&mut self, model: usize, image: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.matte_of(model, image)
            .map_err(self.failed(Operation::Matte))
    }

    fn points_per_pass(&self, model: usize) -> usize {
        self.loaded(model).plan.points_per_pass
    }

    fn encodes_together(&self) -> bool {
        // On a CPU two rows at once gain 7% and differ from one by one by up to 2e-4.
        self.device.is_cuda()
    }

    fn memory(&self) -> Option<MemoryNow> {
        self.watch.as_ref()?.now()
    }
}

/// Copies a tensor's values out of the device.
fn copy_out(tensor: &Tensor, values: &mut [f32]) -> Result<(), TchError> {
    let tensor = tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?;
    let count = values.len();
    tensor.f_copy_data(values, count)
}

#[cfg(test)]
mod tests;
