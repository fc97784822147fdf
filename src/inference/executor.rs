//! The thread that owns a device: takes work from the queue, one pass at a time, until the engine stops.
//!
//! Where the device shares passes, it has two lines of work, each with the next pass begun while the one before is still
//! computed: encodes and denoising steps in the one, which take turns, and beside them the short passes, queries and
//! mattes. Conversions in the middle thus never wait for those that begin, and fill what these leave of the device.
//!
//! Elsewhere a lane has one pass at a time: those of running conversions first, so that they finish and make room; but
//! after `PASSES_BEFORE_ENCODE` of them, or when somebody has waited too long, an encode that is ready goes next.
//! Denoising steps take turns with all of these. A CPU has two such lanes, each an executor of its own: a pass has serial
//! parts, in which the other one's threads work.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tracing::{debug, error};
use uuid::Uuid;

use super::{
    backend::Backend,
    batcher::{Batch, Decision},
    device::DeviceId,
    error::EngineError,
    handle::Codes,
    queue::{BatchStart, Business, DeviceQueue, EncodeJob, Job, MatteJob, Queue},
};

use self::{asking::Queries, flight::Flight, pace::Pace, running::RunningSet};

mod asking;
mod flight;
mod halving;
mod pace;
mod running;
mod stepping;

/// Passes of running conversions between two encodes that are ready. A pass and an encode cost
/// about the same, so encodes get at least a fifth of the device and cannot starve.
const PASSES_BEFORE_ENCODE: u32 = 4;

/// Where a pass of this many points does not fit, a smaller one will not help: it needs a few MB.
const POINTS_FITTING_MIN: usize = 4096;

/// How often the device's free memory is looked at: NVML answers in well under a millisecond, and
/// other programs on a card come and go in seconds.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// Passes under way in each line of a device: one is computed, one waits for its turn. With more, whoever arrives
/// would wait longer and nothing would be gained.
const FLIGHTS_MAX: usize = 2;

/// How often is looked whether a long pass is over, while nothing else is to be done: a hundredth of what it takes.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

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
    queries: Queries,
    mattes: VecDeque<MatteJob>,
    /// Conversions of iterative models that are encoded.
    running: RunningSet<B::Codes>,
    /// Whether the last pass of running conversions was a denoising step.
    stepped: bool,
    /// In the order in which they were begun.
    flights: VecDeque<Flight<B::Codes>>,
    pace: Pace,
    /// Passes since an encode was ready to run.
    passes: u32,
    /// What out-of-memory events have taught of passes; it only falls.
    points_fitting: usize,
    /// Conversions that were out of memory by themselves.
    out_of_memory_alone: u64,
    memory_seen: Option<Instant>,
    lost: Option<String>,
}

/// What to do next.
enum Step {
    Batch(Batch<EncodeJob>),
    Row(EncodeJob),
    Query,
    Mattes,
    Denoise,
    /// The flight at this place; there is nothing to begin, or no more may be under way.
    Land(usize),
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
            queries: Queries::default(),
            mattes: VecDeque::new(),
            running: RunningSet::default(),
            stepped: false,
            flights: VecDeque::new(),
            pace: Pace::default(),
            passes: 0,
            points_fitting: usize::MAX,
            out_of_memory_alone: 0,
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
                Step::Row(job) => self.begin_encode(vec![job]),
                Step::Query => self.begin_query(),
                Step::Mattes => {
                    let mattes = self.next_mattes();
                    self.begin_matte(mattes);
                }
                Step::Denoise => self.begin_next_step(),
                Step::Land(place) => self.land_at(place),
            }
            if !self.backend.shares_passes() {
                self.land_first();
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
            let own = &mut state.devices[self.device];
            for released in std::mem::take(&mut own.released) {
                self.codes.remove(&released);
            }
            own.codes = self.codes.len() + self.running.len();
            own.busy = self.backend.busy();
            for job in std::mem::take(&mut own.jobs) {
                match job {
                    Job::Query(job) => self.queries.push(job),
                    Job::Matte(job) => self.mattes.push_back(job),
                }
            }
            own.in_hand = self.queries.line_len() + self.mattes.len();
            let shares = self.backend.shares_passes();
            let short = self.flights.iter().filter(|flight| flight.is_short());
            let short = short.count();
            let long = self.flights.len() - short;
            let no_passes = self.queries.is_line_empty() && self.mattes.is_empty();
            if state.rows.is_empty() && state.encodes.is_empty() {
                self.passes = 0;
            }
            let overdue = state.encodes.is_overdue(state.limits.wait_max, now);
            let mut wait_until = None;
            let may_step = self.may_step();
            let passes_before_encode = match (no_passes || shares, may_step) {
                (true, false) => 0,
                (true, true) => 1,
                (false, _) => PASSES_BEFORE_ENCODE,
            };
            if long < FLIGHTS_MAX
                && !self.encodes_for_a_while(&state.devices[self.device], now)
                && (overdue || self.passes >= passes_before_encode)
            {
                if let Some(row) = state.rows.pop_front() {
                    self.passes = 0;
                    return Some(Step::Row(row));
                }
                let business = Business {
                    idle: (no_passes || shares) && !may_step && long == 0,
                    denoising: self.running.len(),
                };
                match state.decide(self.device, business, now) {
                    Decision::Run(batch) => {
                        self.passes = 0;
                        return Some(Step::Batch(batch));
                    }
                    Decision::Wait { until } => wait_until = until,
                }
            }
            if long < FLIGHTS_MAX && may_step && (no_passes || shares || !self.stepped) {
                self.passes += 1;
                self.stepped = true;
                return Some(Step::Denoise);
            }
            if short < FLIGHTS_MAX && !no_passes {
                self.passes += u32::from(!shares);
                self.stepped = false;
                // Conversions that are prepared come before those that run: they are what the next batch is made of.
                return Some(if self.mattes.is_empty() {
                    Step::Query
                } else {
                    Step::Mattes
                });
            }
            if let Some(place) = self.next_to_land() {
                return Some(Step::Land(place));
            }
            if self.flights.is_empty() {
                if state.stopping && state.encodes.is_empty() {
                    return None;
                }
            } else {
                // A long pass: who comes in the meantime has room beside it.
                let look = now + LOOK_INTERVAL;
                wait_until = Some(wait_until.map_or(look, |until| until.min(look)));
            }
            state = queue.wait(state, wait_until);
        }
    }

    /// Whether an encode is under way that is not nearly over, as far as is known: a batch that was begun now would only wait,
    /// while more may come for it. Asked where no more than one is under way.
    fn encodes_for_a_while(&self, own: &DeviceQueue, now: Instant) -> bool {
        let encode = self.flights.iter().find_map(Flight::encode);
        encode.is_some_and(|pass| {
            let alone = own.ceilings[pass.model].encode_time(pass.jobs.len());
            !alone.is_some_and(|alone| self.pace.is_ending(pass.began, alone, now))
        })
    }

    /// The long pass that was begun first, if it is over, or else the short one: that is worth waiting for. Those of a line
    /// land in their order; looking at each of them, a later one could be over a moment after an earlier one wasn't.
    fn next_to_land(&self) -> Option<usize> {
        let first_of = |short| {
            let mut flights = self.flights.iter();
            flights.position(|flight| flight.is_short() == short)
        };
        let is_over = |&place: &usize| self.flights[place].is_over();
        first_of(false).filter(is_over).or_else(|| first_of(true))
    }

    /// Tells everybody in a batch that it starts, then encodes it: together, or row by row with
    /// passes of others in between where that costs nothing and keeps rows exact.
    fn start_batch(&mut self, batch: Batch<EncodeJob>) {
        let Batch { items, stopped } = batch;
        let now = Instant::now();
        let images = items.len();
        let id = Uuid::now_v7();
        histogram!("orfeas_gpu_batch_images").record(images as f64);
        counter!("orfeas_gpu_batches_total", "stop_reason" => stopped.label()).increment(1);
        let mut jobs = Vec::with_capacity(images);
        for pending in items {
            let waited = now.saturating_duration_since(pending.arrived);
            histogram!("orfeas_gpu_batch_wait_seconds").record(waited);
            let mut job = pending.payload;
            job.batch = Some((id, stopped));
            if let Some(started) = job.started.take() {
                // Whoever does not care when its batch starts has dropped the other end.
                let _ = started.send(Ok(BatchStart {
                    id,
                    images,
                    stopped,
                    waited,
                }));
            }
            jobs.push(job);
        }
        debug!(device = %self.id, gpu.batch.id = %id, images, stopped = stopped.label(), "A batch of {images} starts on {}", self.id);
        if self.backend.shares_passes() {
            self.begin_encode(jobs);
        } else {
            self.queue.change(|state| state.rows.extend(jobs));
        }
    }

    /// The mattes that go together: those of the first one's model, as many as an encode may have.
    fn next_mattes(&mut self) -> Vec<MatteJob> {
        let Some(model) = self.mattes.front().map(|job| job.model) else {
            return Vec::new();
        };
        let count = if self.backend.shares_passes() {
            self.queue.lock().images_max(self.device, model)
        } else {
            1
        };
        let (mut chosen, mut left) = (Vec::new(), VecDeque::new());
        for job in std::mem::take(&mut self.mattes) {
            if job.model == model && chosen.len() < count {
                chosen.push(job);
            } else {
                left.push_back(job);
            }
        }
        self.mattes = left;
        chosen
    }

    /// Keeps codes until nobody holds their handle any more.
    fn keep(&mut self, model: usize, codes: B::Codes) -> Codes {
        let id = self.codes_made;
        self.codes_made += 1;
        self.codes.insert(id, codes);
        Codes::new(Arc::clone(&self.queue), self.device, model, id)
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
                .chain(&mut queue.denoise_ceilings)
                .for_each(|ceiling| ceiling.see(memory));
        }
    }

    fn lost_because(&self, reason: &str, took_part: bool) -> EngineError {
        EngineError::DeviceLost {
            device: self.id,
            reason: reason.to_owned(),
            took_part,
        }
    }

    /// The device is lost: everybody on it hears so and may start again elsewhere.
    fn give_up(&mut self, reason: &str) {
        error!(device = %self.id, reason, "{} is lost; its conversions must start again", self.id);
        self.fail_flights(&self.lost_because(reason, true));
        let error = self.lost_because(reason, false);
        self.queries.fail_all(&error);
        self.running.fail_all(&error);
        self.mattes
            .drain(..)
            .for_each(|job| job.fail(error.clone()));
    }
}

#[cfg(test)]
mod tests;
