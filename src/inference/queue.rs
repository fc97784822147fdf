//! What callers and executors share: the waiting work of all devices under one lock, held only for moments.

use std::{
    collections::VecDeque,
    mem,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use tracing::Span;
use uuid::Uuid;

use super::{
    backend::{Answer, Want},
    batcher::{BatchLimits, Batcher, Decision, Pending, Situation, StopReason},
    device::DeviceId,
    error::EngineError,
    handle::Codes,
    memory::{Ceiling, Ceilings, MemoryNow},
    sampling::Sampling,
    staging::Staged,
};

/// The GPU batch that a conversion became part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchStart {
    /// Names the batch, on all nodes.
    pub id: Uuid,
    /// Images in the batch.
    pub images: usize,
    /// Why there are no more.
    pub stopped: StopReason,
    /// How long this conversion waited for it.
    pub waited: Duration,
}

/// An image to encode and whom to tell.
#[derive(Debug)]
pub struct EncodeJob {
    pub model: usize,
    pub image: Staged,
    /// If the model iterates: how, and who hears of each step done.
    pub denoising: Option<(Sampling, watch::Sender<u32>)>,
    pub started: Option<oneshot::Sender<Result<BatchStart, EngineError>>>,
    pub finished: oneshot::Sender<Result<Codes, EngineError>>,
    pub span: Span,
    /// Once it is part of one.
    pub batch: Option<(Uuid, StopReason)>,
}

impl EncodeJob {
    /// Tells the caller that it has failed, whatever it waits for.
    pub fn fail(self, error: EngineError) {
        // The waiter may be gone, which is no concern of the engine's.
        if let Some(started) = self.started {
            let _ = started.send(Err(error.clone()));
        }
        let _ = self.finished.send(Err(error));
    }
}

/// Points of one conversion to be asked of the field, in one pass or several.
#[derive(Debug)]
pub struct QueryJob {
    pub model: usize,
    pub codes: u64,
    /// x, y and z of one point after the other.
    pub points: Staged,
    pub want: Want,
    /// Those to the first points.
    pub answers: Vec<Answer>,
    pub reply: oneshot::Sender<Result<Vec<Answer>, EngineError>>,
    pub span: Span,
}

/// An image whose object is to be told from its background.
#[derive(Debug)]
pub struct MatteJob {
    pub model: usize,
    pub image: Staged,
    pub reply: oneshot::Sender<Result<Vec<f32>, EngineError>>,
    pub span: Span,
}

impl QueryJob {
    /// How many points it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.points.len() / 3
    }

    /// How many of them are answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answers.iter().map(Answer::points).sum()
    }
}

impl MatteJob {
    /// Tells the caller that it has failed.
    pub fn fail(self, error: EngineError) {
        // The waiter may be gone, which is no concern of the engine's.
        drop(self.reply.send(Err(error)));
    }
}

/// Work that is bound to one device.
#[derive(Debug)]
pub enum Job {
    Query(QueryJob),
    Matte(MatteJob),
}

impl Job {
    fn fail(self, error: EngineError) {
        // The waiter may be gone, which is no concern of the engine's.
        match self {
            Self::Query(job) => drop(job.reply.send(Err(error))),
            Self::Matte(job) => job.fail(error),
        }
    }
}

/// The share of the queue of a device's lane, and what is known of the device. Most devices have one lane.
#[derive(Debug)]
pub struct DeviceQueue {
    pub id: DeviceId,
    pub name: String,
    /// On their way to the executor, which takes them in whenever it looks.
    pub jobs: VecDeque<Job>,
    /// Jobs that the executor has taken in and not yet given to the device.
    pub in_hand: usize,
    /// Codes that nobody holds any more.
    pub released: Vec<u64>,
    /// Codes on the device.
    pub codes: usize,
    /// The device's time in passes that have landed, where it can be told.
    pub busy: Option<Duration>,
    /// For each model.
    pub ceilings: Vec<Ceiling>,
    /// For each model, of the rows of a denoising step.
    pub denoise_ceilings: Vec<Ceiling>,
    pub memory: Option<MemoryNow>,
    pub lost: Option<String>,
}

impl DeviceQueue {
    /// A device with no work yet.
    #[must_use]
    pub fn new(id: DeviceId, name: String, ceilings: Vec<Ceilings>) -> Self {
        let each = |Ceilings { encode, denoise }| (encode, denoise);
        let (ceilings, denoise_ceilings) = ceilings.into_iter().map(each).unzip();
        Self {
            id,
            name,
            jobs: VecDeque::new(),
            in_hand: 0,
            released: Vec::new(),
            codes: 0,
            busy: None,
            ceilings,
            denoise_ceilings,
            memory: None,
            lost: None,
        }
    }

    fn lost_error(&self) -> Option<EngineError> {
        let reason = self.lost.clone()?;
        Some(EngineError::DeviceLost {
            device: self.id,
            reason,
            took_part: false,
        })
    }
}

/// What a device does while its next batch is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Business {
    /// Nothing is under way, and nothing else could be begun.
    pub idle: bool,
    /// Conversions of iterative models between their first step and their last.
    pub denoising: usize,
}

/// All waiting work.
#[derive(Debug)]
pub struct State {
    /// Any device may take these: whichever is free first does.
    pub encodes: Batcher<EncodeJob>,
    /// What is left of batches that are encoded one by one: each lane takes the next.
    pub rows: VecDeque<EncodeJob>,
    pub devices: Vec<DeviceQueue>,
    pub limits: BatchLimits,
    pub dynamic_scaling: bool,
    /// Conversions in PREPARE.
    pub on_their_way: usize,
    pub stopping: bool,
}

impl State {
    /// What the batcher says to `device`, which may begin another pass now.
    pub fn decide(
        &mut self,
        device: usize,
        business: Business,
        now: Instant,
    ) -> Decision<EncodeJob> {
        // Whoever gave up must not count as company.
        self.encodes.retain(|job| !job.finished.is_closed());
        let mut limits = self.limits;
        let next = self.encodes.next(limits.wait_max, now);
        let next = next.map(|pending| (pending.payload.model, pending.payload.denoising.is_some()));
        if let Some((model, iterates)) = next {
            let images_max = self.images_max(device, model);
            limits.images_max = images_max.try_into().expect("a ceiling is at least 1");
            if iterates && business.denoising < self.rows_max(device, model) {
                // It finds its company in the steps, which have room for one more.
                limits.images_aim = NonZeroUsize::MIN;
            }
        }
        let situation = Situation {
            device_idle: business.idle,
            on_their_way: self.on_their_way,
        };
        self.encodes.decide(&limits, situation, now)
    }

    /// The largest batch of a model on a device now.
    #[must_use]
    pub fn images_max(&self, device: usize, model: usize) -> usize {
        self.devices[device].ceilings[model]
            .images_max(self.dynamic_scaling, self.limits.images_max.get())
    }

    /// The most conversions of a model that share a denoising step on a device now.
    #[must_use]
    pub fn rows_max(&self, device: usize, model: usize) -> usize {
        self.devices[device].denoise_ceilings[model]
            .images_max(self.dynamic_scaling, self.limits.images_max.get())
    }

    /// Whether any device still works.
    #[must_use]
    pub fn any_device(&self) -> bool {
        self.devices.iter().any(|device| device.lost.is_none())
    }

    fn refusal(&self) -> Option<EngineError> {
        if self.stopping {
            return Some(EngineError::Stopped);
        }
        if self.any_device() {
            None
        } else {
            self.devices.first().and_then(DeviceQueue::lost_error)
        }
    }
}

/// The queue with its lock and its bell.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// Rung whenever an executor that waits might find something to do.
    bell: Condvar,
}

impl Queue {
    /// A queue for `devices`.
    #[must_use]
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
        })
    }

    /// The state. A panic elsewhere leaves it whole, since every change is made in one step.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the bell rings or `until`.
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self
                .bell
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.bell
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    /// Changes the state and lets the executors look again.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.bell.notify_all();
        result
    }

    /// Puts an image into the batcher.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`], [`EngineError::Stopped`], or [`EngineError::DeviceLost`] if no device is left.
    pub fn push_encode(&self, pending: Pending<EncodeJob>) -> Result<(), EngineError> {
        self.change(|state| {
            if let Some(error) = state.refusal() {
                return Err(error);
            }
            let limits = state.limits;
            // Those whose callers left make room first.
            state.encodes.retain(|job| !job.finished.is_closed());
            let overloaded = |_| EngineError::Overloaded {
                pending_max: limits.pending_max.get(),
            };
            state.encodes.push(pending, &limits).map_err(overloaded)
        })
    }

    /// Gives a job to a device, the least loaded one if `device` is `None`.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] and [`EngineError::DeviceLost`].
    pub fn push_job(&self, device: Option<usize>, job: Job) -> Result<(), EngineError> {
        self.change(|state| {
            if let Some(error) = state.refusal() {
                return Err(error);
            }
            let working = state
                .devices
                .iter_mut()
                .filter(|queue| queue.lost.is_none());
            let queue = match device {
                Some(device) => &mut state.devices[device],
                None => working
                    .min_by_key(|queue| queue.jobs.len() + queue.in_hand)
                    .expect("a device is left, or it was refused"),
            };
            if let Some(error) = queue.lost_error() {
                return Err(error);
            }
            queue.jobs.push_back(job);
            Ok(())
        })
    }

    /// Takes a device out of service: its jobs fail, and so do waiting images once no device is left.
    pub fn lose(&self, device: usize, reason: &str) {
        let (jobs, encodes, error) = self.change(|state| {
            let queue = &mut state.devices[device];
            queue.lost = Some(reason.to_owned());
            queue.codes = 0;
            let error = EngineError::DeviceLost {
                device: queue.id,
                reason: reason.to_owned(),
                took_part: false,
            };
            let jobs = mem::take(&mut queue.jobs);
            let encodes = if state.any_device() {
                Vec::new()
            } else {
                let waiting = state.encodes.drain().into_iter();
                let waiting = waiting.map(|pending| pending.payload);
                mem::take(&mut state.rows)
                    .into_iter()
                    .chain(waiting)
                    .collect()
            };
            (jobs, encodes, error)
        });
        jobs.into_iter().for_each(|job| job.fail(error.clone()));
        encodes.into_iter().for_each(|job| job.fail(error.clone()));
    }

    /// Refuses new work and hands waiting images back; jobs of running conversions are still served.
    pub fn stop(&self) {
        let waiting = self.change(|state| {
            state.stopping = true;
            state.encodes.drain()
        });
        waiting
            .into_iter()
            .for_each(|pending| pending.payload.fail(EngineError::Stopped));
    }
}
