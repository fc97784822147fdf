//! Stages that report by themselves.
//!
//! A stage is entered through [`Stages::enter`] and nowhere else; the work of a stage takes its [`StageGuard`] as an
//! argument, so it can't begin unreported, and dropping the guard measures it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Span, field, info_span};

use super::{Made, compute::Share};
use crate::{conversion::Stage, inference::queue::BatchStart};

/// Why a conversion is to stop where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupt {
    /// Its owner called it off.
    #[error("its owner called it off")]
    Canceled,
    /// The row belongs to another attempt now.
    #[error("another attempt has taken over")]
    Lost,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The stage could not be recorded.
    #[error("the database did not answer")]
    Unrecorded,
    /// The device that it was on is lost, through no fault of its own.
    #[error("its device is lost")]
    Displaced,
    /// The store gives or takes nothing now.
    #[error("the store can't be used")]
    Unstored,
}

/// Takes the file of a small picture.
pub type DraftSink = Box<dyn FnOnce(Vec<u8>) + Send>;

/// Takes files, from any thread.
pub type FileSink = Box<dyn Fn(Made) + Send + Sync>;

/// Where a conversion's progress goes.
pub trait Reporter: Sync {
    /// Records that a stage begins. That may still be under way when this returns, as long as the next stage waits for it.
    ///
    /// # Errors
    /// [`Interrupt`] when the conversion is not to go on.
    fn enter(&self, stage: Stage) -> impl Future<Output = Result<(), Interrupt>> + Send;

    /// Notes how far the present stage is, 0..=1. Cheap: called as often as there is news.
    fn fraction(&self, stage: Stage, value: f32);

    /// What takes a small WebP of the coarse shape, if somebody may want to see it: it costs milliseconds. It may be
    /// handed over at any later time, and never is where there is nothing to show.
    fn draft_sink(&self) -> Option<DraftSink> {
        None
    }

    /// The model has encoded the picture: another one may be prepared in its place.
    fn encoded(&self) {}

    /// What takes each file as soon as it is there, while others are made. If the conversion fails after that, they are not to
    /// be used.
    fn file_sink(&self) -> FileSink {
        Box::new(drop)
    }

    /// Whether the conversion is to stop between two steps of a stage.
    ///
    /// # Errors
    /// [`Interrupt`] when it is.
    fn check(&self) -> Result<(), Interrupt> {
        Ok(())
    }

    /// Waits until the conversion is to stop; for ever if it never is.
    fn interrupted(&self) -> impl Future<Output = Interrupt> + Send {
        std::future::pending()
    }
}

/// Tells nobody: for work that no one follows.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    async fn enter(&self, _stage: Stage) -> Result<(), Interrupt> {
        Ok(())
    }

    fn fraction(&self, _stage: Stage, _value: f32) {}
}

/// The stages of one conversion, each at most once, in order.
#[derive(Debug)]
pub struct Stages<'a, R> {
    reporter: &'a R,
    last: Option<Stage>,
    timings: Mutex<Vec<(Stage, Duration)>>,
}

impl<'a, R: Reporter> Stages<'a, R> {
    /// No stage entered yet.
    #[must_use]
    pub fn new(reporter: &'a R) -> Self {
        Self {
            reporter,
            last: None,
            timings: Mutex::default(),
        }
    }

    /// Enters the next stage; the one before must have ended, which the borrow sees to.
    ///
    /// # Errors
    /// [`Interrupt`] when the conversion is not to go on.
    ///
    /// # Panics
    /// If the stages go backwards.
    pub async fn enter(&mut self, stage: Stage) -> Result<StageGuard<'_, R>, Interrupt> {
        assert!(
            self.last.is_none_or(|last| last < stage),
            "stages follow each other in their order"
        );
        self.last = Some(stage);
        let started = Instant::now();
        let span = info_span!(
            "stage",
            stage = stage.as_str(),
            gpu.batch.id = field::Empty,
            gpu.batch.images = field::Empty,
            gpu.batch.stop_reason = field::Empty,
            gpu.batch.waited_ms = field::Empty,
            otel.name = stage.as_str(),
        );
        self.reporter.enter(stage).await?;
        // While its picture is encoded it waits for the device and for others.
        let share = (stage != Stage::Encode).then(Share::take);
        Ok(StageGuard {
            stages: self,
            stage,
            started,
            span,
            _share: share,
        })
    }

    /// Time in each stage that was entered, in order.
    #[must_use]
    pub fn into_timings(self) -> Vec<(Stage, Duration)> {
        self.timings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stage in progress.
#[derive(Debug)]
pub struct StageGuard<'a, R> {
    stages: &'a Stages<'a, R>,
    stage: Stage,
    started: Instant,
    span: Span,
    _share: Option<Share>,
}

impl<R: Reporter> StageGuard<'_, R> {
    /// Notes how far the stage is, 0..=1.
    pub fn fraction(&self, value: f32) {
        self.stages.reporter.fraction(self.stage, value);
    }

    /// What the stage's work is logged under, and is in a trace.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Notes the GPU batch that the conversion became part of.
    pub fn batched(&self, batch: &BatchStart) {
        let whole = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        self.span
            .record("gpu.batch.id", field::display(batch.id))
            .record("gpu.batch.images", batch.images)
            .record("gpu.batch.stop_reason", batch.stopped.label())
            .record("gpu.batch.waited_ms", whole(batch.waited.as_millis()));
    }

    /// What takes a small WebP of the coarse shape.
    #[must_use]
    pub fn draft_sink(&self) -> Option<DraftSink> {
        self.stages.reporter.draft_sink()
    }

    /// Notes that the picture is encoded.
    pub fn encoded(&self) {
        self.stages.reporter.encoded();
    }

    /// What takes each file as soon as it is there.
    #[must_use]
    pub fn file_sink(&self) -> FileSink {
        self.stages.reporter.file_sink()
    }

    /// Whether to stop between two steps.
    ///
    /// # Errors
    /// [`Interrupt`] when the conversion is not to go on.
    pub fn check(&self) -> Result<(), Interrupt> {
        self.stages.reporter.check()
    }

    /// Waits for the engine's answer, or until the conversion is to stop. Dropping what was asked ends it after the pass
    /// that it is in, so that whoever calls a conversion off doesn't pay for the passes behind that one.
    ///
    /// # Errors
    /// [`Interrupt`] when the conversion is not to go on.
    pub async fn unless_interrupted<T>(
        &self,
        asked: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            interrupt = self.stages.reporter.interrupted() => Err(interrupt),
            answer = asked => Ok(answer),
        }
    }
}

impl<R> Drop for StageGuard<'_, R> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        metrics::histogram!("orfeas_stage_seconds", "stage" => self.stage.as_str()).record(took);
        self.stages
            .timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((self.stage, took));
    }
}
