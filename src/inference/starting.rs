//! A device's threads between their spawning and the moment that the engine lets them work.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use super::{
    backend::{Backend, Opened, Twin},
    catalog::ServedModel,
    device::DeviceId,
    error::EngineError,
    executor::Executor,
    manifest::ModelError,
    measurements::Measurements,
    memory::Measured,
    queue::Queue,
    staging::Staging,
};

/// What a device needs to open: which one, and the models to load.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    pub id: DeviceId,
    pub models: Arc<[ServedModel]>,
    /// Largest batch to warm up, unless the model's own maximum is smaller.
    pub images_max: usize,
    /// Threads of one pass on the CPU; half of the cores if `None`.
    pub cpu_threads: Option<usize>,
    /// Where measurements are kept; each start measures anew if `None`.
    pub measurements: Option<Measurements>,
}

/// A device as it stands once opened: what of an [`Opened`] may leave its thread.
#[derive(Debug)]
pub struct OpenReport {
    pub id: DeviceId,
    pub name: String,
    pub staging: Staging,
    /// Executors that the device will have: as many places in the queue.
    pub lanes: usize,
    pub models: Vec<Result<Measured, ModelError>>,
}

/// A thread that opens its device and waits to be let go. If it never is, it ends.
#[derive(Debug)]
pub struct Starting {
    id: DeviceId,
    report: mpsc::Receiver<Result<OpenReport, EngineError>>,
    go: mpsc::SyncSender<(Arc<Queue>, usize)>,
    thread: JoinHandle<()>,
}

impl Starting {
    /// Spawns the thread. The device is opened there, since it belongs to the thread from the first moment.
    ///
    /// # Errors
    /// [`EngineError::Thread`].
    pub fn spawn<B, F>(options: OpenOptions, open: F) -> Result<Self, EngineError>
    where
        B: Backend + 'static,
        F: FnOnce(OpenOptions) -> Result<Opened<B>, EngineError> + Send + 'static,
    {
        let id = options.id;
        let (report_sender, report) = mpsc::sync_channel(1);
        let (go, gone) = mpsc::sync_channel::<(Arc<Queue>, usize)>(1);
        let body = move || {
            let (backend, twin) = match open(options) {
                Ok(Opened {
                    backend,
                    twin,
                    id,
                    staging,
                    name,
                    models,
                }) => {
                    // Nobody listens if another device has failed; then `gone` ends this thread too.
                    drop(report_sender.send(Ok(OpenReport {
                        id,
                        name,
                        staging,
                        lanes: 1 + usize::from(twin.is_some()),
                        models,
                    })));
                    (backend, twin)
                }
                Err(error) => return drop(report_sender.send(Err(error))),
            };
            let Ok((queue, device)) = gone.recv() else {
                return;
            };
            thread::scope(|scope| {
                if let Some(twin) = twin {
                    let queue = Arc::clone(&queue);
                    scope.spawn(move || serve_twin(twin, device + 1, id, &queue));
                }
                Executor::new(backend, device, id, queue).run();
            });
        };
        let thread = thread::Builder::new()
            .name(format!("engine-{id}"))
            .spawn(body)
            .map_err(|source| EngineError::Thread {
                device: id,
                source: Arc::new(source),
            })?;
        Ok(Self {
            id,
            report,
            go,
            thread,
        })
    }

    /// Waits until the device is open.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn report(&self) -> Result<OpenReport, EngineError> {
        let panicked = || EngineError::DeviceLost {
            device: self.id,
            reason: "loading the models panicked".into(),
            took_part: false,
        };
        self.report.recv().map_err(|_| panicked())?
    }

    /// Lets the thread serve `queue.devices[device]`, and its second lane the place after it.
    #[must_use]
    pub fn go(self, queue: &Arc<Queue>, device: usize) -> JoinHandle<()> {
        // The thread waits for this and nothing else; if it is gone, joining it tells.
        drop(self.go.send((Arc::clone(queue), device)));
        self.thread
    }
}

/// The second lane of a device, on a thread of its own.
fn serve_twin<B: Backend>(twin: Twin<B>, device: usize, id: DeviceId, queue: &Arc<Queue>) {
    match twin.make() {
        Ok(backend) => Executor::new(backend, device, id, Arc::clone(queue)).run(),
        Err(error) => queue.lose(device, &error.to_string()),
    }
}
