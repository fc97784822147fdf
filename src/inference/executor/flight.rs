//! Passes under way, and what becomes of their results.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use metrics::{counter, histogram};
use tracing::{Span, error, field, info_span, warn};

use super::{
    super::{
        backend::{Answer, Backend, Portion, Rows, UnderWay},
        error::{EngineError, Operation},
        memory::Lesson,
        queue::{EncodeJob, MatteJob},
    },
    Executor, POINTS_FITTING_MIN,
    asking::Part,
    running::RunningId,
};

/// A pass on the device and whom it is for.
#[derive(Debug)]
pub(super) enum Flight<C> {
    Encode(Pass<Vec<EncodeJob>, Rows<C>>),
    Query(Pass<Vec<Part>, Vec<Answer>>),
    Matte(Pass<Vec<MatteJob>, Vec<Vec<f32>>>),
    Step(Operation, Pass<Vec<RunningId>, Rows<C>>),
}

/// What a pass was begun with.
#[derive(Debug)]
pub(super) struct Pass<J, T> {
    pub(super) model: usize,
    pub(super) jobs: J,
    pub(super) began: Instant,
    pub(super) span: Span,
    pub(super) under_way: UnderWay<T>,
}

impl<C: 'static> Flight<C> {
    /// Whether it has a place beside the long ones.
    pub(super) fn is_short(&self) -> bool {
        match self {
            Self::Encode(_) => Operation::Encode,
            Self::Query(_) => Operation::Query,
            Self::Matte(_) => Operation::Matte,
            Self::Step(operation, _) => *operation,
        }
        .is_short()
    }

    /// The pass, if it encodes.
    pub(super) fn encode(&self) -> Option<&Pass<Vec<EncodeJob>, Rows<C>>> {
        match self {
            Self::Encode(pass) => Some(pass),
            _ => None,
        }
    }

    /// Whether nobody has to wait for it any more.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Encode(pass) => pass.under_way.is_over(),
            Self::Query(pass) => pass.under_way.is_over(),
            Self::Matte(pass) => pass.under_way.is_over(),
            Self::Step(_, pass) => pass.under_way.is_over(),
        }
    }
}

impl<B: Backend> Executor<B> {
    /// Begins to encode jobs of one model; if that fails, finds out at once whose fault it is.
    pub(super) fn begin_encode(&mut self, mut jobs: Vec<EncodeJob>) {
        jobs.retain(|job| !job.finished.is_closed());
        let Some(first) = jobs.first() else { return };
        let model = first.model;
        let span = info_span!(
            parent: None,
            "encode_pass",
            device = %self.id,
            images = jobs.len(),
            gpu.batch.id = field::Empty,
            gpu.batch.stop_reason = field::Empty,
        );
        // Of those of a batch that was halved, it is the same.
        if let Some((batch, stopped)) = first.batch {
            span.record("gpu.batch.id", field::display(batch));
            span.record("gpu.batch.stop_reason", stopped.label());
        }
        jobs.iter().for_each(|job| tie(&span, &job.span));
        let images: Vec<&[f32]> = jobs.iter().map(|job| &*job.image).collect();
        let began = Instant::now();
        let begun = self.guarded(&span, Operation::Encode, |backend| {
            backend.encode(model, &images)
        });
        match begun {
            Ok(under_way) => self.flights.push_back(Flight::Encode(Pass {
                model,
                jobs,
                began,
                span,
                under_way,
            })),
            Err(error) => self.divide_encode(model, jobs, error),
        }
    }

    fn land_encode(&mut self, jobs: Vec<EncodeJob>, codes: Rows<B::Codes>) {
        assert_eq!(
            jobs.len(),
            codes.len(),
            "a backend gives one row of codes for each image"
        );
        for (job, codes) in jobs.into_iter().zip(codes) {
            match codes {
                Ok(codes) => self.settle_encoded(job, codes),
                Err(error) => job.fail(error),
            }
        }
    }

    /// Begins the next pass of queries, shared where the device shares.
    pub(super) fn begin_query(&mut self) {
        self.queries.drop_abandoned();
        let Some(model) = self.queries.next_model() else {
            return;
        };
        let points_max = self.backend.points_per_pass(model).min(self.points_fitting);
        let Some(plan) = self.queries.plan(self.backend.shares_passes(), points_max) else {
            return;
        };
        let points: usize = plan.layout.taken.iter().sum();
        match self.fly(model, &plan.parts, plan.layout.row) {
            Ok(flight) => {
                counter!("orfeas_engine_query_points_total").increment(points as u64);
                counter!("orfeas_engine_query_padding_points_total")
                    .increment(plan.layout.padding() as u64);
                histogram!("orfeas_engine_query_conversions").record(plan.parts.len() as f64);
                self.queries.begin(&plan.parts);
                self.flights.push_back(Flight::Query(flight));
            }
            Err(error) => {
                // Earlier points of the same conversions may be under way, and are answered before these.
                while self.lost.is_none() && !self.flights.is_empty() {
                    self.land_first();
                }
                let is_short = matches!(error, EngineError::OutOfMemory { .. });
                let failed_before = self.out_of_memory_alone;
                self.separate(&plan.parts, error);
                // As in `divide`.
                if is_short && self.lost.is_none() && self.out_of_memory_alone == failed_before {
                    self.points_fitting = (points / 2).max(POINTS_FITTING_MIN);
                    self.backend
                        .learn(model, Lesson::Points(self.points_fitting));
                }
            }
        }
    }

    /// Gives a pass to the device.
    fn fly(
        &mut self,
        model: usize,
        parts: &[Part],
        row: usize,
    ) -> Result<Pass<Vec<Part>, Vec<Answer>>, EngineError> {
        let mut portions = Vec::with_capacity(parts.len());
        let points: usize = parts.iter().map(|part| part.points.len()).sum();
        let span = info_span!(
            parent: None,
            "query_pass",
            device = %self.id,
            conversions = parts.len(),
            points,
        );
        for part in parts {
            let job = &self.queries.get(part.query).expect("it was planned").job;
            tie(&span, &job.span);
            portions.push(Portion {
                // The caller holds its codes while it asks, and who asks no more was dropped before.
                codes: &self.codes[&job.codes],
                points: &job.points.as_points()[part.points.clone()],
                want: job.want,
            });
        }
        let began = Instant::now();
        let backend = &mut self.backend;
        let under_way = span
            .in_scope(|| catch_unwind(AssertUnwindSafe(|| backend.query(model, &portions, row))));
        let under_way = self.judge(under_way, Operation::Query)?;
        Ok(Pass {
            model,
            jobs: parts.to_vec(),
            began,
            span,
            under_way,
        })
    }

    /// A pass of queries failed: each part is asked alone, so that nobody fails for a neighbour.
    fn separate(&mut self, parts: &[Part], error: EngineError) {
        if let [part] = parts {
            return self.ask_less(part, error);
        }
        if let EngineError::DeviceLost { .. } = &error {
            for part in parts {
                self.queries.fail(part.query, error.clone());
            }
            return;
        }
        warn!(device = %self.id, conversions = parts.len(), error = %error, "A pass of queries failed and is asked again one by one");
        self.queries.drop_abandoned();
        for part in parts {
            self.ask_alone(part);
        }
    }

    /// Asks a part by itself and waits for it, unless its query has ended.
    fn ask_alone(&mut self, part: &Part) {
        let Some(model) = self.queries.get(part.query).map(|asking| asking.job.model) else {
            return;
        };
        if self.lost.is_some() {
            return; // everybody hears of it in a moment
        }
        match self.fly(model, std::slice::from_ref(part), part.points.len()) {
            Ok(flight) => {
                self.queries.begin(&flight.jobs);
                self.land(Flight::Query(flight));
            }
            Err(error) => self.ask_less(part, error),
        }
    }

    /// A part failed by itself: where it wanted too much memory its halves are asked, else its query has failed.
    fn ask_less(&mut self, part: &Part, error: EngineError) {
        let is_short = matches!(error, EngineError::OutOfMemory { .. });
        let Range { start, end } = part.points;
        if !is_short || end - start <= POINTS_FITTING_MIN {
            self.out_of_memory_alone += u64::from(is_short);
            return self.queries.fail(part.query, error);
        }
        warn!(device = %self.id, points = end - start, "A pass of queries did not fit and is halved");
        let middle = start + (end - start).div_ceil(2);
        for points in [start..middle, middle..end] {
            self.ask_alone(&Part {
                query: part.query,
                points,
            });
        }
    }

    /// Begins to tell objects from their backgrounds.
    pub(super) fn begin_matte(&mut self, mut jobs: Vec<MatteJob>) {
        jobs.retain(|job| !job.reply.is_closed());
        let Some(first) = jobs.first() else { return };
        let model = first.model;
        let span = info_span!(parent: None, "matte_pass", device = %self.id, images = jobs.len());
        jobs.iter().for_each(|job| tie(&span, &job.span));
        let images: Vec<&[f32]> = jobs.iter().map(|job| &*job.image).collect();
        let began = Instant::now();
        let begun = self.guarded(&span, Operation::Matte, |backend| {
            backend.matte(model, &images)
        });
        match begun {
            Ok(under_way) => self.flights.push_back(Flight::Matte(Pass {
                model,
                jobs,
                began,
                span,
                under_way,
            })),
            Err(error) => self.divide_matte(model, jobs, error),
        }
    }

    /// Waits for the pass that was begun first.
    pub(super) fn land_first(&mut self) {
        self.land_at(0);
    }

    /// Waits for the pass at this place in the order of their beginning, if there is one.
    pub(super) fn land_at(&mut self, place: usize) {
        if let Some(flight) = self.flights.remove(place) {
            self.land(flight);
        }
    }

    pub(super) fn land(&mut self, flight: Flight<B::Codes>) {
        match flight {
            Flight::Encode(pass) => {
                let began = pass.began;
                let (model, jobs, landed) = self.landed(pass, Operation::Encode);
                let alone =
                    self.queue.lock().devices[self.device].ceilings[model].encode_time(jobs.len());
                self.pace.over(began, alone, Instant::now());
                match landed {
                    Ok(codes) => self.land_encode(jobs, codes),
                    Err(error) => self.divide_encode(model, jobs, error),
                }
            }
            Flight::Query(pass) => {
                let (_, parts, landed) = self.landed(pass, Operation::Query);
                match landed {
                    Ok(answers) => {
                        for (part, answer) in parts.iter().zip(answers) {
                            self.queries.deliver(part, answer);
                        }
                    }
                    Err(error) => self.separate(&parts, error),
                }
            }
            Flight::Matte(pass) => {
                let (model, jobs, landed) = self.landed(pass, Operation::Matte);
                match landed {
                    Ok(mattes) => land_mattes(jobs, mattes),
                    Err(error) => self.divide_matte(model, jobs, error),
                }
            }
            Flight::Step(operation, pass) => {
                let began = pass.began;
                let (model, ids, landed) = self.landed(pass, operation);
                self.pace.over(began, None, Instant::now());
                match landed {
                    Ok(rows) => self.land_step(ids, rows),
                    Err(error) => self.divide_step(model, ids, error),
                }
            }
        }
    }

    fn landed<J, T: 'static>(
        &mut self,
        pass: Pass<J, T>,
        operation: Operation,
    ) -> (usize, J, Result<T, EngineError>) {
        let Pass {
            model,
            jobs,
            began,
            span,
            under_way,
        } = pass;
        let landed = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| under_way.land())));
        let landed = self.judge(landed, operation);
        histogram!("orfeas_engine_seconds", "op" => operation.label()).record(began.elapsed());
        (model, jobs, landed)
    }

    /// Calls the backend; see [`Self::judge`].
    fn guarded<R>(
        &mut self,
        span: &Span,
        operation: Operation,
        call: impl FnOnce(&mut B) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        // A backend changes nothing of its own in a pass, so it is whole after a panic.
        let result = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| call(&mut self.backend))));
        self.judge(result, operation)
    }

    /// Turns a panic into an error, and notes when the device is lost.
    pub(super) fn judge<R>(
        &mut self,
        result: std::thread::Result<Result<R, EngineError>>,
        operation: Operation,
    ) -> Result<R, EngineError> {
        let result = result.unwrap_or_else(|_| {
            error!(device = %self.id, operation = operation.label(), "The model's {operation} panicked");
            Err(EngineError::Panicked { device: self.id, operation })
        });
        if let Err(EngineError::DeviceLost { reason, .. }) = &result {
            self.lost = Some(reason.clone());
            // At once, so that nobody who hears of it can come back here.
            self.queue.lose(self.device, reason);
        }
        result
    }

    /// Fails whoever waits for a pass that will not land any more.
    pub(super) fn fail_flights(&mut self, error: &EngineError) {
        for flight in std::mem::take(&mut self.flights) {
            match flight {
                Flight::Encode(pass) => pass
                    .jobs
                    .into_iter()
                    .for_each(|job| job.fail(error.clone())),
                Flight::Query(pass) => {
                    for part in pass.jobs {
                        self.queries.fail(part.query, error.clone());
                    }
                }
                Flight::Step(_, pass) => {
                    for id in pass.jobs {
                        self.running.fail(id, error.clone());
                    }
                }
                Flight::Matte(pass) => pass
                    .jobs
                    .into_iter()
                    .for_each(|job| job.fail(error.clone())),
            }
        }
    }
}

/// Links a pass and a conversion that it is for, both ways: a pass is nobody's child, since it is for many.
pub(super) fn tie(pass: &Span, conversion: &Span) {
    pass.follows_from(conversion);
    conversion.follows_from(pass);
}

fn land_mattes(jobs: Vec<MatteJob>, mattes: Vec<Vec<f32>>) {
    for (job, alpha) in jobs.into_iter().zip(mattes) {
        let result = match alpha.iter().all(|value| value.is_finite()) {
            true => Ok(alpha),
            false => Err(EngineError::NonFinite {
                operation: Operation::Matte,
            }),
        };
        // A waiter that is gone is no concern of the engine's.
        drop(job.reply.send(result));
    }
}
