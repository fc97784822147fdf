//! What a caller holds of the engine while its conversion is on its way.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    error::EngineError,
    queue::{BatchStart, Queue},
};

/// A place in the queue for a GPU batch.
#[derive(Debug)]
pub struct Ticket {
    started: Option<oneshot::Receiver<Result<BatchStart, EngineError>>>,
    finished: oneshot::Receiver<Result<Codes, EngineError>>,
}

impl Ticket {
    pub(super) fn new(
        started: oneshot::Receiver<Result<BatchStart, EngineError>>,
        finished: oneshot::Receiver<Result<Codes, EngineError>>,
    ) -> Self {
        Self {
            started: Some(started),
            finished,
        }
    }

    /// Waits until the batch of this picture starts. May be dropped and called again until it has answered.
    ///
    /// # Errors
    /// What kept it from starting.
    ///
    /// # Panics
    /// If it has answered before.
    pub async fn started(&mut self) -> Result<BatchStart, EngineError> {
        let started = self.started.as_mut().expect("a batch starts once");
        let start = started.await.unwrap_or(Err(EngineError::Stopped));
        self.started = None;
        start
    }

    /// Waits for the codes.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn finished(self) -> Result<Codes, EngineError> {
        self.finished.await.unwrap_or(Err(EngineError::Stopped))
    }
}

/// What the model made of one picture; lies on its device until this is dropped.
pub struct Codes {
    pub(super) queue: Arc<Queue>,
    pub(super) device: usize,
    pub(super) model: usize,
    pub(super) id: u64,
}

impl Codes {
    pub(super) fn new(queue: Arc<Queue>, device: usize, model: usize, id: u64) -> Self {
        Self {
            queue,
            device,
            model,
            id,
        }
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes")
            .field("device", &self.device)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Codes {
    fn drop(&mut self) {
        self.queue
            .change(|state| state.devices[self.device].released.push(self.id));
    }
}

/// A conversion that will soon be enqueued. See [`super::engine::Engine::on_their_way`].
#[derive(Debug)]
pub struct OnItsWay {
    queue: Arc<Queue>,
}

impl OnItsWay {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        queue.lock().on_their_way += 1;
        Self { queue }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.queue.change(|state| state.on_their_way -= 1);
    }
}
