//! What a caller holds of the engine while its conversion is on its way.

use std::{fmt, sync::Arc};

use tokio::sync::{oneshot, watch};

use super::{
    backend::{Answer, FieldValues},
    error::{EngineError, Operation},
    queue::{BatchStart, Queue},
};

/// A place in the queue for a GPU batch.
#[derive(Debug)]
pub struct Ticket {
    started: Option<oneshot::Receiver<Result<BatchStart, EngineError>>>,
    stepped: Option<Steps>,
    finished: oneshot::Receiver<Result<Codes, EngineError>>,
}

/// The denoising steps of a conversion.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) done: watch::Receiver<u32>,
    pub(super) of: u32,
}

impl Ticket {
    pub(super) fn new(
        started: oneshot::Receiver<Result<BatchStart, EngineError>>,
        stepped: Option<Steps>,
        finished: oneshot::Receiver<Result<Codes, EngineError>>,
    ) -> Self {
        Self {
            started: Some(started),
            stepped,
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

    /// Waits until more steps of an iterative model are done than at the last call: their share of all. `None` once there
    /// will be no more, which says nothing of whether all were done, and of a model that does not iterate.
    pub async fn stepped(&mut self) -> Option<f32> {
        let steps = self.stepped.as_mut()?;
        // The other end is dropped when the conversion leaves the steps.
        steps.done.changed().await.ok()?;
        let done = *steps.done.borrow_and_update();
        Some(done as f32 / steps.of as f32)
    }

    /// Waits for the codes: an iterative model's are its last latents.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn finished(self) -> Result<Codes, EngineError> {
        self.finished.await.unwrap_or(Err(EngineError::Stopped))
    }
}

/// The field's answers to one query, each to the points that went in a pass together; they lie where the device put them.
#[derive(Debug, Default)]
pub struct Answers(pub(super) Vec<Answer>);

impl Answers {
    /// Copies the values out, in the order of the points: for a thread that has time for it.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`] if a value is no finite number, and what copying them met.
    pub fn read(self) -> Result<FieldValues, EngineError> {
        let finite = |values: FieldValues| match values.is_finite() {
            true => Ok(values),
            false => Err(EngineError::NonFinite {
                operation: Operation::Query,
            }),
        };
        let read = |answer: Answer| answer.read().and_then(finite);
        let mut answers = self.0.into_iter().map(read);
        let mut all = answers.next().transpose()?.unwrap_or_default();
        for values in answers {
            let values = values?;
            all.logits.extend(values.logits);
            all.rgb.extend(values.rgb);
        }
        Ok(all)
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
