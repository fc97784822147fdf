//! The handle through which conversions reach the devices.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{Span, info};

use super::{
    backend::{Backend, FieldValues, Opened, Want},
    batcher::{BatchKey, BatchLimits, Batcher, Pending, ResolutionClass},
    catalog::{Catalog, ModelInfo, ServedModel},
    device::{DeviceChoice, DeviceId},
    error::EngineError,
    handle::{Answers, Codes, OnItsWay, Steps, Ticket},
    manifest::Manifest,
    measurements::Measurements,
    queue::{DeviceQueue, EncodeJob, Job, MatteJob, QueryJob, Queue, State},
    sampling::SamplingOptions,
    staging::{InPlace, Staged, Staging},
    starting::{OpenOptions, OpenReport, Starting},
};

mod devices;

/// Queries and mattes that may wait for the devices at a time; callers beyond wait their turn. A
/// conversion has one at a time, and far fewer conversions run at a time on a node.
const JOBS_PENDING_MAX: usize = 256;

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub models_dir: PathBuf,
    /// The model of conversions that name none; the first usable one by name if `None`.
    pub default_model: Option<String>,
    pub device: DeviceChoice,
    pub limits: BatchLimits,
    /// Whether measurements may raise a batch above `limits.images_max`, to the model's own maximum.
    pub dynamic_scaling: bool,
    /// Threads of one pass on the CPU; half of the cores if `None`.
    pub cpu_threads: Option<usize>,
    /// Where what is measured of models on GPUs is kept between starts; each start measures anew if `None`.
    pub measurements: Option<Measurements>,
}

/// One picture to encode.
#[derive(Debug, Clone)]
pub struct EncodeRequest {
    pub model: String,
    /// Field samples along the longest axis that the conversion will ask for.
    pub resolution: u32,
    /// The smaller goes first.
    pub rank: i64,
    /// For iterative models.
    pub sampling: SamplingOptions,
    /// Planes of `3 * height * width` sRGB values in 0..1, of the manifest's size. See [`Engine::stage`].
    pub image: Staged,
}

/// A cheap handle to the models and the threads that own them. The threads end when
/// [`Engine::stop`] is called, or when the last handle is dropped.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    catalog: Catalog,
    job_slots: Semaphore,
    /// Of any of the devices: each reads what is laid for another.
    staging: Staging,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Finds the devices, loads and checks every model on each, and measures them. Blocks for
    /// seconds: call it off the async threads.
    ///
    /// # Errors
    /// [`EngineError::NoDevice`], [`EngineError::Models`], [`EngineError::NoModel`], and
    /// [`EngineError::ModelUnavailable`] if it is the default model that cannot be served. Other
    /// models that break their contract are only left out, see [`Engine::models`].
    #[cfg(feature = "torch")]
    pub fn start(options: EngineOptions) -> Result<Self, EngineError> {
        use super::torch::{TorchBackend, devices};
        // Before anything touches a tensor: libtorch looks for CUDA once.
        let devices = devices::choose(&options.device)?;
        Self::start_on(options, &devices, TorchBackend::open)
    }

    /// Without libtorch there is no engine.
    ///
    /// # Errors
    /// Always [`EngineError::NoTorch`].
    #[cfg(not(feature = "torch"))]
    pub fn start(_options: EngineOptions) -> Result<Self, EngineError> {
        Err(EngineError::NoTorch)
    }

    /// Starts an executor for each lane of each of `devices`, opened on its own thread by `open`.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_on<B, F>(
        options: EngineOptions,
        devices: &[DeviceId],
        open: F,
    ) -> Result<Self, EngineError>
    where
        B: Backend + 'static,
        F: Fn(OpenOptions) -> Result<Opened<B>, EngineError> + Clone + Send + 'static,
    {
        let EngineOptions {
            models_dir,
            default_model,
            device: _,
            limits,
            dynamic_scaling,
            cpu_threads,
            measurements,
        } = options;
        let began = Instant::now();
        let mut catalog = Catalog::find(&models_dir)?;
        let images_max = if dynamic_scaling {
            usize::MAX
        } else {
            limits.images_max.get()
        };
        let mut starting = Vec::new();
        for &id in devices {
            let options = OpenOptions {
                id,
                models: catalog.served(),
                images_max,
                cpu_threads,
                measurements: measurements.clone(),
            };
            starting.push(Starting::spawn(options, open.clone())?);
        }
        let (mut queues, mut places) = (Vec::new(), Vec::new());
        let mut staging: Staging = Arc::new(InPlace);
        for device in &starting {
            let OpenReport {
                id,
                name,
                staging: of_device,
                lanes,
                models,
            } = device.report()?;
            staging = of_device;
            let ceilings = catalog.take_in(models);
            places.push(queues.len());
            let lane = || DeviceQueue::new(id, name.clone(), ceilings.clone());
            queues.extend(std::iter::repeat_with(lane).take(lanes));
        }
        catalog.choose_default(default_model.as_deref())?;
        let queue = Queue::new(State {
            encodes: Batcher::default(),
            rows: VecDeque::new(),
            devices: queues,
            limits,
            dynamic_scaling,
            on_their_way: 0,
            stopping: false,
        });
        let threads = starting
            .into_iter()
            .zip(places)
            .map(|(device, place)| device.go(&queue, place))
            .collect();
        info!(
            duration_ms = began.elapsed().as_millis() as u64,
            "The engine serves on {} device(s)",
            devices.len()
        );
        let job_slots = Semaphore::new(JOBS_PENDING_MAX);
        Ok(Self {
            inner: Arc::new(Inner {
                queue,
                catalog,
                job_slots,
                staging,
                threads: Mutex::new(threads),
            }),
        })
    }

    /// Announces a conversion that is being prepared: an idle device waits a moment for it. Drop the
    /// guard once its image is enqueued, or when preparing it has failed.
    #[must_use]
    pub fn on_their_way(&self) -> OnItsWay {
        OnItsWay::new(Arc::clone(&self.inner.queue))
    }

    /// Puts a picture into the queue for a GPU batch. Dropping the ticket takes it out.
    ///
    /// # Errors
    /// [`EngineError::ModelUnavailable`], [`EngineError::ImageSize`], [`EngineError::Sampling`],
    /// [`EngineError::Overloaded`], [`EngineError::Stopped`] and [`EngineError::DeviceLost`].
    pub fn enqueue(&self, request: EncodeRequest) -> Result<Ticket, EngineError> {
        let EncodeRequest {
            model: name,
            resolution,
            rank,
            sampling,
            image,
        } = request;
        let (model, served) = self.inner.catalog.model(&name)?;
        check_image(served, &image)?;
        let limits = served.manifest.sampling();
        let sampling = limits.map(|limits| limits.settle(sampling)).transpose()?;
        let key = BatchKey {
            model: Arc::clone(&served.name),
            resolution: ResolutionClass::of(resolution),
        };
        let (started_sender, started) = oneshot::channel();
        let (finished_sender, finished) = oneshot::channel();
        let (denoising, steps) = sampling
            .map(|sampling| {
                let (sender, done) = watch::channel(0);
                let of = sampling.steps;
                ((sampling, sender), Steps { done, of })
            })
            .unzip();
        let job = EncodeJob {
            model,
            image,
            denoising,
            started: Some(started_sender),
            finished: finished_sender,
            span: Span::current(),
            batch: None,
        };
        self.inner.queue.push_encode(Pending {
            key,
            rank,
            arrived: Instant::now(),
            payload: job,
        })?;
        Ok(Ticket::new(started, steps, finished))
    }

    /// Lays the values of a picture or of points where the devices read them best. It copies them, so call it where there is
    /// time for that; values that are not laid so are taken all the same.
    #[must_use]
    pub fn stage(&self, values: &[f32]) -> Staged {
        self.stage_written(values.len(), |place| place.copy_from_slice(values))
    }

    /// The same for `count` values that `write` puts there.
    #[must_use]
    pub fn stage_written(&self, count: usize, mut write: impl FnMut(&mut [f32])) -> Staged {
        self.inner.staging.stage(count, &mut write)
    }

    /// The field's values at `points`, each coordinate in [-1, 1]: [`Engine::ask`], and the answer read at once.
    ///
    /// # Errors
    /// As [`Engine::ask`] and [`Answers::read`].
    pub async fn query(
        &self,
        codes: &Codes,
        points: Vec<[f32; 3]>,
        want: Want,
    ) -> Result<FieldValues, EngineError> {
        self.ask(codes, points.into(), want).await?.read()
    }

    /// Asks the field at `points`, x, y and z of each, in [-1, 1]. Passes have at most the manifest's points; dropping the
    /// future stops between two of them.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::DeviceLost`] means that the picture must be encoded again.
    pub async fn ask(
        &self,
        codes: &Codes,
        points: Staged,
        want: Want,
    ) -> Result<Answers, EngineError> {
        if points.is_empty() {
            return Ok(Answers::default());
        }
        let _slot = self
            .inner
            .job_slots
            .acquire()
            .await
            .map_err(|_| EngineError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let job = QueryJob {
            model: codes.model,
            codes: codes.id,
            points,
            want,
            answers: Vec::new(),
            reply,
            span: Span::current(),
        };
        codes.queue.push_job(Some(codes.device), Job::Query(job))?;
        let answers = answer.await.map_err(|_| EngineError::Stopped)??;
        Ok(Answers(answers))
    }

    /// The share of each pixel that belongs to the object: `height * width` values in 0..1.
    ///
    /// # Errors
    /// [`EngineError::NoMatte`] if the model cannot tell, else as [`Engine::enqueue`].
    pub async fn matte(
        &self,
        model: &str,
        image: impl Into<Staged>,
    ) -> Result<Vec<f32>, EngineError> {
        let image = image.into();
        let (index, served) = self.inner.catalog.model(model)?;
        if !served.manifest.matte {
            return Err(EngineError::NoMatte {
                model: model.to_owned(),
            });
        }
        check_image(served, &image)?;
        let _slot = self
            .inner
            .job_slots
            .acquire()
            .await
            .map_err(|_| EngineError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let job = MatteJob {
            model: index,
            image,
            reply,
            span: Span::current(),
        };
        self.inner.queue.push_job(None, Job::Matte(job))?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Every model found, in the order of names, with the reason where one is not served.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        self.inner.catalog.models()
    }

    /// The manifest of a model that is served.
    ///
    /// # Errors
    /// [`EngineError::ModelUnavailable`].
    pub fn manifest(&self, model: &str) -> Result<Arc<Manifest>, EngineError> {
        self.inner
            .catalog
            .model(model)
            .map(|(_, served)| Arc::clone(&served.manifest))
    }

    /// The name of the model that conversions get that name none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        self.inner.catalog.default_model()
    }

    /// Whether any device is left.
    #[must_use]
    pub fn can_compute(&self) -> bool {
        self.inner.queue.lock().any_device()
    }

    /// Images that wait for a GPU batch.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.queue.lock().encodes.len()
    }

    /// Sets new limits; they hold from the next decision on.
    pub fn set_limits(&self, limits: BatchLimits) {
        self.inner.queue.change(|state| state.limits = limits);
    }

    /// Hands back what has not begun as [`EngineError::Stopped`], finishes the passes that were asked
    /// for, and ends the threads. Conversions that shall finish must be waited for before.
    pub async fn stop(&self) {
        let inner = Arc::clone(&self.inner);
        inner.queue.stop();
        inner.job_slots.close();
        let join = move || {
            let threads =
                std::mem::take(&mut *inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
            // A thread that panicked has already taken its device out of service and said so.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        };
        // It can only fail if the runtime is going away too, and with it everybody who waits here.
        drop(tokio::task::spawn_blocking(join).await);
    }
}

fn check_image(served: &ServedModel, image: &[f32]) -> Result<(), EngineError> {
    let expected = served.manifest.input.values();
    if image.len() == expected {
        return Ok(());
    }
    Err(EngineError::ImageSize {
        model: served.name.to_string(),
        expected,
        actual: image.len(),
    })
}
