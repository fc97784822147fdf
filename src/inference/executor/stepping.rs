//! Passes of denoising: all that stand in line share one, each at a step of its own.
//!
//! One pass at a time, also where two may be under way: whoever comes while it is computed joins the next one, and does
//! not run beside it in passes of its own from then on. The other place is for what others ask.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use metrics::histogram;
use tracing::info_span;

use super::{
    super::{
        backend::{Backend, Rows},
        queue::EncodeJob,
    },
    Executor,
    flight::{Flight, Pass, tie},
    running::{self, RunningId},
};

impl<B: Backend> Executor<B> {
    /// Whether a pass of denoising could begin now.
    pub(super) fn may_step(&self) -> bool {
        let mut flights = self.flights.iter();
        !self.running.is_line_empty() && !flights.any(|flight| matches!(flight, Flight::Step(..)))
    }

    /// Begins the next pass of denoising.
    pub(super) fn begin_next_step(&mut self) {
        self.running.drop_abandoned();
        let Some(model) = self.running.next_model() else {
            return;
        };
        let rows_max = if self.backend.shares_passes() {
            self.queue.lock().rows_max(self.device, model)
        } else {
            1
        };
        let ids = self.running.plan(model, rows_max);
        self.running.depart(&ids);
        self.begin_step(ids);
    }

    /// Begins a pass of denoising of some of one plan; if that fails, finds out at once whose fault it is.
    pub(super) fn begin_step(&mut self, ids: Vec<RunningId>) {
        let span =
            info_span!(parent: None, "denoise_pass", device = %self.id, conversions = ids.len());
        let (model, origins) = self.running.origins(&ids);
        for origin in origins {
            tie(&span, origin);
        }
        let rows = self.running.rows(&ids);
        let operation = rows.operation();
        let began = Instant::now();
        let backend = &mut self.backend;
        let call = || match &rows {
            running::Rows::Begin(rows) => backend.begin(model, rows),
            running::Rows::Denoise(rows) => backend.denoise(model, rows),
        };
        // A backend changes nothing of its own in a pass, so it is whole after a panic.
        let under_way = span.in_scope(|| catch_unwind(AssertUnwindSafe(call)));
        match self.judge(under_way, operation) {
            Ok(under_way) => {
                histogram!("orfeas_engine_denoise_conversions", "op" => operation.label())
                    .record(ids.len() as f64);
                let pass = Pass {
                    model,
                    jobs: ids,
                    began,
                    span,
                    under_way,
                };
                self.flights.push_back(Flight::Step(operation, pass));
            }
            Err(error) => self.divide_step(model, ids, error),
        }
    }

    /// Takes in what a pass of denoising gave: some go on, some have come to their end, some have failed by themselves.
    pub(super) fn land_step(&mut self, ids: Vec<RunningId>, rows: Rows<B::Codes>) {
        assert_eq!(
            ids.len(),
            rows.len(),
            "a backend gives one row of latents for each conversion"
        );
        for (id, latents) in ids.into_iter().zip(rows) {
            match latents {
                Err(error) => self.running.fail(id, error),
                Ok(latents) => {
                    if let Some(done) = self.running.advance(id, latents) {
                        let codes = self.keep(done.model, done.latents);
                        // If the waiter is gone, dropping the handle releases the codes.
                        drop(done.finished.send(Ok(codes)));
                    }
                }
            }
        }
    }

    /// A picture is encoded: its conversion has its codes, or joins those that go step by step.
    pub(super) fn settle_encoded(&mut self, mut job: EncodeJob, codes: B::Codes) {
        match job.denoising.take() {
            Some(denoising) => self.running.join(job, denoising, codes),
            None => {
                let codes = self.keep(job.model, codes);
                // As above.
                drop(job.finished.send(Ok(codes)));
            }
        }
    }
}
