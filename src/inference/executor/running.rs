//! The conversions of iterative models that a device has between their encoding and their last step.
//!
//! They join when they are encoded and leave after their last step, whatever the others do: a pass takes whoever stands
//! in line, each at a step of its own. Who has taken part goes to the end of the line, so that no conversion waits for
//! more than one pass of each of the others, however many steps those have left.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{oneshot, watch};
use tracing::Span;

use super::super::{
    backend::{Beginning, Denoising},
    error::{EngineError, Operation},
    handle::Codes,
    queue::EncodeJob,
    sampling::Sampling,
};

/// Names a conversion among those that run.
pub(super) type RunningId = u64;

/// A conversion on its way from noise to an object.
#[derive(Debug)]
struct Running<C> {
    model: usize,
    codes: C,
    /// `None` until they are begun.
    latents: Option<C>,
    /// Steps done.
    step: u32,
    sampling: Sampling,
    stepped: watch::Sender<u32>,
    finished: oneshot::Sender<Result<Codes, EngineError>>,
    span: Span,
}

/// A conversion that has done its last step.
#[derive(Debug)]
pub(super) struct Done<C> {
    pub(super) model: usize,
    pub(super) latents: C,
    pub(super) finished: oneshot::Sender<Result<Codes, EngineError>>,
}

/// What a pass does.
#[derive(Debug)]
pub(super) enum Rows<'a, C> {
    Begin(Vec<Beginning<'a, C>>),
    Denoise(Vec<Denoising<'a, C>>),
}

impl<C> Rows<'_, C> {
    /// The method that does it.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Begin(_) => Operation::Begin,
            Self::Denoise(_) => Operation::Denoise,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct RunningSet<C> {
    all: HashMap<RunningId, Running<C>>,
    /// Those that are in no pass.
    line: VecDeque<RunningId>,
    made: RunningId,
}

impl<C> Default for RunningSet<C> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
            line: VecDeque::new(),
            made: 0,
        }
    }
}

impl<C> RunningSet<C> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody stands in line.
    pub(super) fn is_line_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Takes in a conversion whose picture is encoded.
    pub(super) fn join(
        &mut self,
        job: EncodeJob,
        (sampling, stepped): (Sampling, watch::Sender<u32>),
        codes: C,
    ) {
        let EncodeJob {
            model,
            finished,
            span,
            ..
        } = job;
        // From here on it is known to be encoded.
        stepped.send_replace(0);
        let id = self.made;
        self.made += 1;
        let running = Running {
            model,
            codes,
            latents: None,
            step: 0,
            sampling,
            stepped,
            finished,
            span,
        };
        self.all.insert(id, running);
        self.line.push_back(id);
    }

    /// Drops those in line that nobody waits for; they get no further step.
    pub(super) fn drop_abandoned(&mut self) {
        let Self { all, line, .. } = self;
        line.retain(|id| {
            let abandoned = all[id].finished.is_closed();
            if abandoned {
                all.remove(id);
            }
            !abandoned
        });
    }

    /// The model that the next pass is for: that of the one that has waited longest.
    pub(super) fn next_model(&self) -> Option<usize> {
        self.line.front().map(|id| self.all[id].model)
    }

    /// Plans the next pass of a model: at most `rows_max` of those in line. Where some of them have not begun these come
    /// first, to be there at the next step.
    pub(super) fn plan(&self, model: usize, rows_max: usize) -> Vec<RunningId> {
        let in_line = |begun: bool| {
            let of_pass = move |id: &RunningId| {
                let running = &self.all[id];
                running.model == model && running.latents.is_some() == begun
            };
            self.line.iter().copied().filter(of_pass).take(rows_max)
        };
        let fresh: Vec<_> = in_line(false).collect();
        if fresh.is_empty() {
            in_line(true).collect()
        } else {
            fresh
        }
    }

    /// Takes those of a pass out of the line.
    pub(super) fn depart(&mut self, ids: &[RunningId]) {
        self.line.retain(|id| !ids.contains(id));
    }

    /// The model of a pass, and where its conversions come from.
    ///
    /// # Panics
    /// If one of them has left, or there is none.
    pub(super) fn origins(&self, ids: &[RunningId]) -> (usize, Vec<&Span>) {
        let model = self.all[&ids[0]].model;
        (model, ids.iter().map(|id| &self.all[id].span).collect())
    }

    /// What a pass does.
    ///
    /// # Panics
    /// If one of them has left, or they are not of one plan.
    pub(super) fn rows<'a>(&'a self, ids: &[RunningId]) -> Rows<'a, C> {
        let running = ids.iter().map(|id| &self.all[id]);
        if self.all[&ids[0]].latents.is_none() {
            let row = |running: &'a Running<C>| Beginning {
                codes: &running.codes,
                seed: running.sampling.seed,
            };
            return Rows::Begin(running.map(row).collect());
        }
        let row = |running: &'a Running<C>| Denoising {
            latents: running
                .latents
                .as_ref()
                .expect("a plan has begun as a whole, or not at all"),
            codes: &running.codes,
            step: running.step,
            sampling: running.sampling,
        };
        Rows::Denoise(running.map(row).collect())
    }

    /// Takes in what a pass gave for one of its conversions, which is back in line after it, or has done its last step.
    pub(super) fn advance(&mut self, id: RunningId, latents: C) -> Option<Done<C>> {
        let running = self.all.get_mut(&id)?;
        if running.latents.replace(latents).is_some() {
            running.step += 1;
            running.stepped.send_replace(running.step);
        }
        if running.step < running.sampling.steps {
            self.line.push_back(id);
            return None;
        }
        let Running {
            model,
            latents,
            finished,
            ..
        } = self.all.remove(&id)?;
        Some(Done {
            model,
            latents: latents?,
            finished,
        })
    }

    /// Ends a conversion with an error.
    pub(super) fn fail(&mut self, id: RunningId, error: EngineError) {
        self.line.retain(|&other| other != id);
        if let Some(running) = self.all.remove(&id) {
            // A waiter that is gone is no concern of the engine's.
            drop(running.finished.send(Err(error)));
        }
    }

    /// Ends all of them.
    pub(super) fn fail_all(&mut self, error: &EngineError) {
        self.line.clear();
        for (_, running) in self.all.drain() {
            // As above.
            drop(running.finished.send(Err(error.clone())));
        }
    }
}
