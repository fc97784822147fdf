//! Passes that failed are begun again in halves, so that nobody fails for a neighbour, and what a lack of memory teaches
//! is kept.

use tracing::warn;

use super::{
    super::{
        backend::Backend,
        error::EngineError,
        memory::{Ceiling, Lesson},
        queue::{DeviceQueue, EncodeJob, MatteJob},
    },
    Executor,
    running::RunningId,
};

/// How jobs of a kind are begun and failed, and what bounds how many share a pass.
struct Kind<B: Backend, J> {
    begin: fn(&mut Executor<B>, Vec<J>),
    fail: fn(&mut Executor<B>, J, EngineError),
    ceiling: fn(&mut DeviceQueue, usize) -> &mut Ceiling,
    lesson: fn(usize) -> Lesson,
}

fn of_images(device: &mut DeviceQueue, model: usize) -> &mut Ceiling {
    &mut device.ceilings[model]
}

fn of_steps(device: &mut DeviceQueue, model: usize) -> &mut Ceiling {
    &mut device.denoise_ceilings[model]
}

impl<B: Backend> Executor<B> {
    /// Pictures that failed to be encoded together.
    pub(super) fn divide_encode(&mut self, model: usize, jobs: Vec<EncodeJob>, error: EngineError) {
        let kind = Kind {
            begin: Self::begin_encode,
            fail: |_, job: EncodeJob, error| job.fail(error),
            ceiling: of_images,
            lesson: Lesson::Images,
        };
        self.divide(model, jobs, error, &kind);
    }

    /// Mattes that failed together.
    pub(super) fn divide_matte(&mut self, model: usize, jobs: Vec<MatteJob>, error: EngineError) {
        let kind = Kind {
            begin: Self::begin_matte,
            fail: |_, job: MatteJob, error| job.fail(error),
            ceiling: of_images,
            lesson: Lesson::Images,
        };
        self.divide(model, jobs, error, &kind);
    }

    /// Denoising steps that failed together. What went in is still there, so that nothing is done twice.
    pub(super) fn divide_step(&mut self, model: usize, ids: Vec<RunningId>, error: EngineError) {
        let kind = Kind {
            begin: Self::begin_step,
            fail: |executor, id, error| executor.running.fail(id, error),
            ceiling: of_steps,
            lesson: Lesson::Rows,
        };
        self.divide(model, ids, error, &kind);
    }

    /// One alone has failed for good, more are begun again in halves. Where they were too many for the memory, so many
    /// are not tried again; but if one of them doesn't even fit alone, the others' number was not at fault, and a single
    /// picture must not slow everybody down for good.
    fn divide<J>(&mut self, model: usize, jobs: Vec<J>, error: EngineError, kind: &Kind<B, J>) {
        let is_short = matches!(error, EngineError::OutOfMemory { .. });
        let count = jobs.len();
        if count == 1 || self.lost.is_some() {
            self.out_of_memory_alone += u64::from(is_short);
            for job in jobs {
                (kind.fail)(self, job, error.clone());
            }
            return;
        }
        warn!(device = %self.id, count, error = %error, "A pass failed and is halved");
        if is_short {
            (kind.ceiling)(&mut self.queue.lock().devices[self.device], model).ran_out();
        }
        let failed_before = self.out_of_memory_alone;
        self.in_halves(jobs, kind);
        if is_short && self.lost.is_none() && self.out_of_memory_alone == failed_before {
            let mut state = self.queue.lock();
            let lowered = (kind.ceiling)(&mut state.devices[self.device], model).lower_below(count);
            drop(state);
            if let Some(count) = lowered {
                self.backend.learn(model, (kind.lesson)(count));
            }
        }
    }

    /// Begins jobs again in two halves, and waits for each.
    fn in_halves<J>(&mut self, mut jobs: Vec<J>, kind: &Kind<B, J>) {
        let rest = jobs.split_off(jobs.len().div_ceil(2));
        for half in [jobs, rest] {
            if let Some(reason) = &self.lost {
                // They were in the pass that failed before it was halved.
                let error = self.lost_because(reason, true);
                for job in half {
                    (kind.fail)(self, job, error.clone());
                }
                continue;
            }
            let flights = self.flights.len();
            (kind.begin)(self, half);
            // What was begun before stays under way; results of these may wait for it.
            if self.flights.len() > flights
                && let Some(flight) = self.flights.pop_back()
            {
                self.land(flight);
            }
        }
    }
}
