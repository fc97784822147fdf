//! A device's thread between its spawning and the moment that the engine lets it work.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use super::{
    backend::{Backend, Opened},
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
            let backend = match open(options) {
                Ok(Opened {
                    backend,
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
                        models,
                    })));
                    backend
                }
                Err(error) => return drop(report_sender.send(Err(error))),
            };
            if let Ok((queue, device)) = gone.recv() {
                Executor::new(backend, device, id, queue).run();
            }
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

    /// Lets the thread serve `queue.devices[device]`.
    #[must_use]
    pub fn go(self, queue: &Arc<Queue>, device: usize) -> JoinHandle<()> {
        // The thread waits for this and nothing else; if it is gone, joining it tells.
        drop(self.go.send((Arc::clone(queue), device)));
        self.thread
    }
}
