//! The thread that owns a device: takes work from the queue, one pass at a time, until the engine stops.
//!
//! Order of service: passes of running conversions first, so that they finish and make room; but
//! after `PASSES_BEFORE_ENCODE` of them, or when somebody has waited too long, an encode that is
//! ready goes next.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tracing::{debug, error, info_span, warn};

use super::{
    backend::{Backend, FieldValues, Want},
    batcher::{Batch, Decision},
    device::DeviceId,
    error::{EngineError, Operation},
    handle::Codes,
    queue::{BatchStart, EncodeJob, Job, MatteJob, QueryJob, Queue},
};

/// Passes of running conversions between two encodes that are ready. A pass and an encode cost
/// about the same, so encodes get at least a fifth of the device and cannot starve.
const PASSES_BEFORE_ENCODE: u32 = 4;

/// Where a pass of this many points does not fit, a smaller one will not help: it needs a few MB.
const POINTS_FITTING_MIN: usize = 4096;

/// How often the device's free memory is looked at: NVML answers in well under a millisecond, and
/// other programs on a card come and go in seconds.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// One device's thread.
#[derive(Debug)]
pub struct Executor<B: Backend> {
    backend: B,
    /// Its place in the queue.
    device: usize,
    id: DeviceId,
    queue: Arc<Queue>,
    /// Codes that somebody holds.
    codes: HashMap<u64, B::Codes>,
    codes_made: u64,
    /// What is left of a batch that is encoded one by one.
    rows: VecDeque<EncodeJob>,
    /// Passes since an encode was ready to run.
    passes: u32,
    /// What out-of-memory events have taught of passes; it only falls.
    points_fitting: usize,
    memory_seen: Option<Instant>,
    lost: Option<String>,
}

/// What to do next.
enum Step {
    Batch(Batch<EncodeJob>),
    Row(EncodeJob),
    Job(Job),
}

/// Takes the device out of service if its thread panics outside of a pass, so that nobody waits for it.
struct OutOfService {
    queue: Arc<Queue>,
    device: usize,
}

impl Drop for OutOfService {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.lose(self.device, "its thread panicked");
        }
    }
}

impl<B: Backend> Executor<B> {
    /// The owner of `backend`, which serves `queue.devices[device]`.
    pub fn new(backend: B, device: usize, id: DeviceId, queue: Arc<Queue>) -> Self {
        Self {
            backend,
            device,
            id,
            queue,
            codes: HashMap::new(),
            codes_made: 0,
            rows: VecDeque::new(),
            passes: 0,
            points_fitting: usize::MAX,
            memory_seen: None,
            lost: None,
        }
    }

    /// Works until the engine stops and nothing of what it had accepted is left, or the device is lost.
    pub fn run(mut self) {
        let _out_of_service = OutOfService {
            queue: Arc::clone(&self.queue),
            device: self.device,
        };
        while let Some(step) = self.next_step() {
            match step {
                Step::Batch(batch) => self.start_batch(batch),
                Step::Row(job) => self.encode(vec![job]),
                Step::Job(Job::Query(job)) => self.query_pass(job),
                Step::Job(Job::Matte(job)) => self.matte(job),
            }
            if let Some(reason) = self.lost.take() {
                self.give_up(&reason);
                return;
            }
        }
        debug!(device = %self.id, "The executor of {} has stopped", self.id);
    }

    /// Waits for the next thing to do; `None` once the engine has stopped and all is done.
    fn next_step(&mut self) -> Option<Step> {
        self.look_at_memory();
        let queue = Arc::clone(&self.queue);
        let mut state = queue.lock();
        loop {
            let now = Instant::now();
            for released in std::mem::take(&mut state.devices[self.device].released) {
                self.codes.remove(&released);
            }
            state.devices[self.device].codes = self.codes.len();
            let idle = state.devices[self.device].jobs.is_empty();
            if self.rows.is_empty() && state.encodes.is_empty() {
                self.passes = 0;
            }
            let overdue = state.encodes.is_overdue(state.limits.wait_max, now);
            let mut wait_until = None;
            if idle || overdue || self.passes >= PASSES_BEFORE_ENCODE {
                if let Some(row) = self.rows.pop_front() {
                    self.passes = 0;
                    return Some(Step::Row(row));
                }
                match state.decide(self.device, idle, now) {
                    Decision::Run(batch) => {
                        self.passes = 0;
                        return Some(Step::Batch(batch));
                    }
                    Decision::Wait { until } => wait_until = until,
                }
            }
            if let Some(job) = state.devices[self.device].jobs.pop_front() {
                self.passes += 1;
                return Some(Step::Job(job));
            }
            if state.stopping && state.encodes.is_empty() {
                return None;
            }
            state = queue.wait(state, wait_until);
        }
    }

    /// Tells everybody in a batch that it starts, then encodes it: together, or row by row with
    /// passes of others in between where that costs nothing and keeps rows exact.
    fn start_batch(&mut self, batch: Batch<EncodeJob>) {
        let Batch { items, stopped } = batch;
        let now = Instant::now();
        let images = items.len();
        histogram!("orfeas_gpu_batch_images").record(images as f64);
        counter!("orfeas_gpu_batches_total", "stop_reason" => stopped.label()).increment(1);
        let mut jobs = Vec::with_capacity(images);
        for pending in items {
            let waited = now.saturating_duration_since(pending.arrived);
            histogram!("orfeas_gpu_batch_wait_seconds").record(waited);
            let mut job = pending.payload;
            if let Some(started) = job.started.take() {
                // Whoever does not care when its batch starts has dropped the other end.
                let _ = started.send(Ok(BatchStart {
                    images,
                    stopped,
                    waited,
                }));
            }
            jobs.push(job);
        }
        debug!(device = %self.id, images, stopped = stopped.label(), "A batch of {images} starts on {}", self.id);
        if self.backend.encodes_together() {
            self.encode(jobs);
        } else {
            self.rows.extend(jobs);
        }
    }

    /// Encodes jobs of one model in one pass. If that fails, finds out by halving whose fault it is,
    /// so that nobody fails for a neighbour.
    fn encode(&mut self, jobs: Vec<EncodeJob>) {
        let mut groups = vec![jobs];
        while let Some(mut group) = groups.pop() {
            group.retain(|job| !job.finished.is_closed());
            let Some(first) = group.first() else { continue };
            let model = first.model;
            let span = info_span!("encode", device = %self.id, images = group.len());
            group.iter().for_each(|job| {
                span.follows_from(&job.span);
            });
            let images: Vec<&[f32]> = group.iter().map(|job| job.image.as_slice()).collect();
            let result = span.in_scope(|| {
                self.guarded(Operation::Encode, |backend| backend.encode(model, &images))
            });
            match result {
                Ok(codes) => self.deliver(group, codes, model),
                Err(error) if group.len() == 1 || self.lost.is_some() => {
                    group.into_iter().for_each(|job| job.fail(error.clone()));
                }
                Err(error) => {
                    warn!(device = %self.id, images = group.len(), error = %error, "A batch failed and is halved");
                    if matches!(error, EngineError::OutOfMemory { .. }) {
                        let images = group.len();
                        self.queue.lock().devices[self.device].ceilings[model].lower_below(images);
                    }
                    let rest = group.split_off(group.len().div_ceil(2));
                    groups.push(rest);
                    groups.push(group);
                }
            }
        }
    }

    fn deliver(&mut self, jobs: Vec<EncodeJob>, codes: Vec<B::Codes>, model: usize) {
        assert_eq!(
            jobs.len(),
            codes.len(),
            "a backend gives one row of codes for each image"
        );
        for (job, codes) in jobs.into_iter().zip(codes) {
            let id = self.codes_made;
            self.codes_made += 1;
            self.codes.insert(id, codes);
            // If the waiter is gone, dropping the handle releases the codes.
            drop(job.finished.send(Ok(Codes::new(
                Arc::clone(&self.queue),
                self.device,
                model,
                id,
            ))));
        }
    }

    /// One pass of a query; what is left goes to the end of the line.
    fn query_pass(&mut self, mut job: QueryJob) {
        // Whoever cancelled between two passes gets no further one.
        if job.reply.is_closed() {
            return;
        }
        // The caller holds its codes while it asks, so without them it has gone since.
        let Some(codes) = self.codes.remove(&job.codes) else {
            return;
        };
        let done = job.values.logits.len();
        let points_max = self
            .backend
            .points_per_pass(job.model)
            .min(self.points_fitting);
        let end = job.points.len().min(done + points_max);
        let span = info_span!(parent: &job.span, "query", device = %self.id, points = end - done);
        let result = span.in_scope(|| {
            let (points, values) = (&job.points[done..end], &mut job.values);
            self.guarded(Operation::Query, |backend| {
                backend.query(job.model, &codes, points, job.want, values)
            })
        });
        self.codes.insert(job.codes, codes);
        match result.and_then(|()| check_values(&job, done, end)) {
            Ok(()) => counter!("orfeas_engine_query_points_total").increment((end - done) as u64),
            Err(EngineError::OutOfMemory { .. }) if end - done > POINTS_FITTING_MIN => {
                self.points_fitting = (end - done) / 2;
                warn!(device = %self.id, points = end - done, "A pass of a query did not fit and is halved");
                job.values.logits.truncate(done);
                job.values.rgb.truncate(done);
            }
            // A waiter that is gone is no concern of the engine's.
            Err(error) => return drop(job.reply.send(Err(error))),
        }
        if job.values.logits.len() == job.points.len() {
            drop(job.reply.send(Ok(job.values)));
        } else {
            self.queue.lock().devices[self.device]
                .jobs
                .push_back(Job::Query(job));
        }
    }

    fn matte(&mut self, job: MatteJob) {
        if job.reply.is_closed() {
            return;
        }
        let span = info_span!(parent: &job.span, "matte", device = %self.id);
        let result = span
            .in_scope(|| {
                self.guarded(Operation::Matte, |backend| {
                    backend.matte(job.model, &job.image)
                })
            })
            .and_then(|alpha| match alpha.iter().all(|value| value.is_finite()) {
                true => Ok(alpha),
                false => Err(EngineError::NonFinite {
                    operation: Operation::Matte,
                }),
            });
        // A waiter that is gone is no concern of the engine's.
        drop(job.reply.send(result));
    }

    /// Calls the backend: times it, turns a panic into an error, and notes when the device is lost.
    fn guarded<R>(
        &mut self,
        operation: Operation,
        call: impl FnOnce(&mut B) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let began = Instant::now();
        // A backend changes nothing of its own in a pass, so it is whole after a panic.
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut self.backend))).unwrap_or_else(|_| {
            error!(device = %self.id, operation = operation.label(), "The model's {operation} panicked");
            Err(EngineError::Panicked { device: self.id, operation })
        });
        histogram!("orfeas_engine_seconds", "op" => operation.label()).record(began.elapsed());
        if let Err(EngineError::DeviceLost { reason, .. }) = &result {
            self.lost = Some(reason.clone());
        }
        result
    }

    fn look_at_memory(&mut self) {
        if self
            .memory_seen
            .is_some_and(|seen| seen.elapsed() < MEMORY_INTERVAL)
        {
            return;
        }
        self.memory_seen = Some(Instant::now());
        if let Some(memory) = self.backend.memory() {
            let queue = &mut self.queue.lock().devices[self.device];
            queue.memory = Some(memory);
            queue
                .ceilings
                .iter_mut()
                .for_each(|ceiling| ceiling.see(memory));
        }
    }

    /// The device is lost: everybody on it hears so and may start again elsewhere.
    fn give_up(&mut self, reason: &str) {
        error!(device = %self.id, reason, "{} is lost; its conversions must start again", self.id);
        let error = EngineError::DeviceLost {
            device: self.id,
            reason: reason.to_owned(),
        };
        self.rows.drain(..).for_each(|job| job.fail(error.clone()));
        self.queue.lose(self.device, reason);
    }
}

/// Checks what a pass has appended.
fn check_values(job: &QueryJob, done: usize, end: usize) -> Result<(), EngineError> {
    let FieldValues { logits, rgb } = &job.values;
    assert_eq!(
        logits.len(),
        end,
        "a backend gives one logit for each point"
    );
    let colors = match job.want {
        Want::Logits => 0..0,
        Want::LogitsAndColors => done..end,
    };
    assert_eq!(
        rgb.len(),
        colors.end,
        "a backend gives the colours asked for"
    );
    let finite = logits[done..].iter().all(|value| value.is_finite())
        && rgb[colors]
            .as_flattened()
            .iter()
            .all(|value| value.is_finite());
    if finite {
        Ok(())
    } else {
        Err(EngineError::NonFinite {
            operation: Operation::Query,
        })
    }
}

#[cfg(test)]
mod tests;
