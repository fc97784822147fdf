//! The queries that a device has in hand: those with points still to be given to a pass stand in line, and all of them
//! are kept until their last value is there.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use super::super::{
    backend::Answer,
    error::EngineError,
    packing::{Layout, layout},
    queue::QueryJob,
};

/// Conversions in a pass at most. More would share no better, and their order would not matter.
const PASS_CONVERSIONS_MAX: usize = 256;

/// Names a query among those in hand.
pub(super) type QueryId = u64;

/// A query in hand.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) job: QueryJob,
    /// Points given to passes so far.
    begun: usize,
}

/// What one query has in a pass.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) query: QueryId,
    pub(super) points: Range<usize>,
}

/// A pass as planned.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) layout: Layout,
}

/// The queries in hand.
#[derive(Debug, Default)]
pub(super) struct Queries {
    all: HashMap<QueryId, Asking>,
    line: VecDeque<QueryId>,
    made: QueryId,
}

impl Queries {
    /// Takes one in, at the end of the line.
    pub(super) fn push(&mut self, job: QueryJob) {
        let id = self.made;
        self.made += 1;
        self.all.insert(id, Asking { job, begun: 0 });
        self.line.push_back(id);
    }

    /// Drops those that nobody waits for; they get no further pass.
    pub(super) fn drop_abandoned(&mut self) {
        self.all.retain(|_, asking| !asking.job.reply.is_closed());
        self.line.retain(|id| self.all.contains_key(id));
    }

    /// Whether no query has points left to be given to a pass.
    pub(super) fn is_line_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// How many stand in line.
    pub(super) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// The model that the next pass is for.
    pub(super) fn next_model(&self) -> Option<usize> {
        self.line.front().map(|id| self.all[id].job.model)
    }

    /// Plans the next pass: of the first in line alone, or, `shared`, of all in line that ask the same model.
    pub(super) fn plan(&self, shared: bool, points_max: usize) -> Option<Plan> {
        let model = self.next_model()?;
        let count = if shared { PASS_CONVERSIONS_MAX } else { 1 };
        let chosen: Vec<_> = self
            .line
            .iter()
            .copied()
            .filter(|id| self.all[id].job.model == model)
            .take(count)
            .collect();
        let remaining: Vec<_> = chosen.iter().map(|id| self.all[id].left()).collect();
        let layout = layout(&remaining, points_max);
        let parts = chosen.iter().zip(&layout.taken);
        let parts = parts
            .filter(|(_, taken)| **taken > 0)
            .map(|(&query, &taken)| {
                let begun = self.all[&query].begun;
                Part {
                    query,
                    points: begun..begun + taken,
                }
            });
        Some(Plan {
            parts: parts.collect(),
            layout,
        })
    }

    /// Notes that a pass with these parts is under way. Those with points left go to the end of the line.
    pub(super) fn begin(&mut self, parts: &[Part]) {
        for part in parts {
            self.line.retain(|&id| id != part.query);
            if let Some(asking) = self.all.get_mut(&part.query) {
                // A part that is asked again may have later ones under way.
                asking.begun = asking.begun.max(part.points.end);
                if asking.left() > 0 {
                    self.line.push_back(part.query);
                }
            }
        }
    }

    /// A query, unless it has ended meanwhile.
    pub(super) fn get(&self, id: QueryId) -> Option<&Asking> {
        self.all.get(&id)
    }

    /// Takes in the answer to a part, which must be the next that its query lacks. Ends the query if it was the last.
    pub(super) fn deliver(&mut self, part: &Part, answer: Answer) {
        let Some(asking) = self.all.get_mut(&part.query) else {
            return;
        };
        let job = &mut asking.job;
        assert_eq!(
            job.answered(),
            part.points.start,
            "passes land in the order in which they began"
        );
        assert_eq!(
            answer.points(),
            part.points.len(),
            "a backend answers what it was asked"
        );
        job.answers.push(answer);
        if part.points.end == job.count()
            && let Some(asking) = self.all.remove(&part.query)
        {
            // A waiter that is gone is no concern of the engine's.
            drop(asking.job.reply.send(Ok(asking.job.answers)));
        }
    }

    /// Ends a query with an error.
    pub(super) fn fail(&mut self, id: QueryId, error: EngineError) {
        self.line.retain(|&other| other != id);
        if let Some(asking) = self.all.remove(&id) {
            // As above.
            drop(asking.job.reply.send(Err(error)));
        }
    }

    /// Ends all of them.
    pub(super) fn fail_all(&mut self, error: &EngineError) {
        self.line.clear();
        for (_, asking) in self.all.drain() {
            // As above.
            drop(asking.job.reply.send(Err(error.clone())));
        }
    }
}

impl Asking {
    fn left(&self) -> usize {
        self.job.count() - self.begun
    }
}
