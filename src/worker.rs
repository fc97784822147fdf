//! The part of a node that computes: it claims conversions, runs them, and sees to it that none is left behind.
//!
//! Postgres is the truth. A claim is a lease; every later write names the attempt, so that a node which was thought
//! dead and comes back changes nothing.

use std::{num::NonZeroUsize, sync::Arc, thread, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use crate::{
    conversion::NodeId,
    crash::{self, Point},
    db::{Database, entities::conversion::Model, listen::Hub, nodes::HEARTBEAT},
    error_chain::chain,
    pipeline::Tools,
    storage::Storage,
};

use self::{active::Active, progress::Progress, stages::StageWriter};

pub mod active;
pub mod progress;
mod record;
pub mod run;
mod span;
pub mod stages;

/// How the queue is looked at when nothing is heard: notifications may be lost, the queue may not.
const POLL: Duration = Duration::from_secs(1);
/// How often dead nodes' conversions are looked for; within 10 s of a lease's end they must be back.
const RESCUE_EVERY: Duration = Duration::from_secs(2);
/// Within this all nodes that live have renewed their leases once the database works again.
const RENEWED_BY: Duration = Duration::from_secs(10);
/// How long running conversions may go on after the node was asked to stop, before they are handed back.
const GRACE: Duration = Duration::from_secs(20);

/// How long after that the attempts have to come to a boundary and hand themselves back.
const BOUNDARY_MAX: Duration = Duration::from_secs(4);

/// What a worker is made of.
#[derive(Debug, Clone)]
pub struct Worker {
    pub node: NodeId,
    pub database: Database,
    pub storage: Storage,
    pub hub: Hub,
    pub tools: Tools,
    active: Active,
    progress: Progress,
    stages: StageWriter,
    cores: usize,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(node: NodeId, database: Database, storage: Storage, hub: Hub, tools: Tools) -> Self {
        Self {
            node,
            stages: StageWriter::new(database.clone()),
            cores: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            database,
            storage,
            hub,
            tools,
            active: Active::default(),
            progress: Progress::default(),
        }
    }

    /// Works until `stop`; then claims nothing more, gives what runs 20 s to end, and hands the rest back.
    pub async fn run(self, stop: CancellationToken) {
        let end = CancellationToken::new();
        let mut helpers = JoinSet::new();
        helpers.spawn(self.clone().renew(end.clone()));
        helpers.spawn(self.clone().rescue(end.clone()));
        helpers.spawn(self.clone().hear_cancels(end.clone()));
        helpers.spawn(
            self.progress
                .clone()
                .publish(self.database.clone(), end.clone()),
        );
        let mut runs = JoinSet::new();
        self.claim(&mut runs, &stop).await;
        info!(
            conversions = runs.len(),
            "No more claims; finishing what runs"
        );
        if tokio::time::timeout(GRACE, join_all(&mut runs))
            .await
            .is_err()
        {
            self.active.stop_all();
            if tokio::time::timeout(BOUNDARY_MAX, join_all(&mut runs))
                .await
                .is_err()
            {
                self.abandon(&mut runs).await;
            }
        }
        end.cancel();
        while helpers.join_next().await.is_some() {}
    }

    /// Hands back, over their heads, the attempts that came to no boundary: the store hangs, or a step takes long.
    async fn abandon(&self, runs: &mut JoinSet<()>) {
        for attempt in self.active.attempts() {
            warn!(conversion.id = %attempt.conversion, "Handing back conversion {} in the middle of a stage", attempt.conversion);
            if let Err(error) = self.database.hand_back(attempt).await {
                warn!(cause = %chain(&error), "Could not hand back a conversion; its lease will run out");
            }
        }
        runs.shutdown().await;
    }

    /// Claims as much as the engine will soon take, and not more: what waits here could run on another node.
    async fn claim(&self, runs: &mut JoinSet<()>, stop: &CancellationToken) {
        let models: Vec<String> = self
            .tools
            .engine
            .models()
            .into_iter()
            .filter(|model| model.refused.is_none())
            .map(|model| model.name)
            .collect();
        // A slot is held from the claim until the model has encoded the picture: one batch runs, one is prepared.
        let ahead = Arc::new(Semaphore::new(0));
        let mut slots_made = 0;
        // Fields, surfaces and files of conversions past that point take memory: a bound on them, too.
        let memory = Arc::new(Semaphore::new(CONVERSIONS_MAX));
        loop {
            let mut woken = std::pin::pin!(self.hub.queue().notified());
            woken.as_mut().enable(); // before the query, so that no wake is lost
            if !self.tools.engine.can_compute() {
                // What it held has gone back to the queue. A device that is lost comes back with a new process.
                error!("No device is left: this node claims nothing more until it is restarted");
                return stop.cancelled().await;
            }
            if self.storage.trouble().is_some() {
                // What would be made could not be kept. The log says why.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(POLL) => {}
                }
                while runs.try_join_next().is_some() {}
                continue;
            }
            let slots = self.tools.engine.images_ahead();
            slots_made = if slots >= slots_made {
                ahead.add_permits(slots - slots_made);
                slots
            } else {
                // Those in use are taken away when they are given back.
                slots_made - ahead.forget_permits(slots_made - slots)
            };
            let free = ahead.available_permits().min(memory.available_permits());
            let wait = match self.claim_some(free, &models).await {
                Ok(rows) => {
                    // Fewer than there was room for: the queue has no more, and whoever adds to it will wake this.
                    let wait = if rows.len() < free {
                        POLL
                    } else {
                        Duration::ZERO
                    };
                    for row in rows {
                        let slot = run::Slot::take(&ahead, &memory);
                        let span = span::of_attempt(&row, self.node);
                        runs.spawn(self.clone().run_one(row, slot).instrument(span));
                    }
                    wait
                }
                Err(error) => {
                    warn!(cause = %chain(&error), "Could not claim conversions; trying again");
                    POLL
                }
            };
            while runs.try_join_next().is_some() {}
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    if free == 0 {
                        // Nothing can be claimed until a slot is free, whatever is queued.
                        drop(ahead.acquire().await);
                        drop(memory.acquire().await);
                    } else {
                        tokio::select! { () = woken => {}, () = tokio::time::sleep(wait) => {} }
                    }
                } => {}
            }
        }
    }

    async fn claim_some(
        &self,
        free: usize,
        models: &[String],
    ) -> Result<Vec<Model>, crate::db::DatabaseError> {
        if free == 0 {
            return Ok(Vec::new());
        }
        let rows = self
            .database
            .claim(self.node, models, u32::try_from(free).unwrap_or(u32::MAX))
            .await?;
        if !rows.is_empty() {
            crash::point(Point::Claimed);
            metrics::counter!("orfeas_claimed_total").increment(rows.len() as u64);
        }
        Ok(rows)
    }

    async fn renew(self, end: CancellationToken) {
        let mut tick = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {}
            }
            let attempts = self.active.attempts();
            if !attempts.is_empty()
                && let Err(error) = self.database.renew_leases(self.node, &attempts).await
            {
                warn!(cause = %chain(&error), "Could not renew leases; trying again");
            }
        }
    }

    async fn rescue(self, end: CancellationToken) {
        let mut tick = tokio::time::interval(RESCUE_EVERY);
        // After an outage all leases have run out, and those who hold them are there: they renew them first.
        let mut silent_until: Option<Instant> = None;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {}
            }
            if !matches!(self.database.is_read_only().await, Ok(false)) {
                silent_until = Some(Instant::now() + RENEWED_BY);
            }
            if silent_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            match self.database.rescue().await {
                Ok(rows) => {
                    for row in rows {
                        metrics::counter!("orfeas_rescued_total").increment(1);
                        warn!(request.id = row.request_id, conversion.id = %row.id, status = row.status.as_str(), "Took back conversion {} from a node that fell silent", row.id);
                    }
                }
                Err(error) => {
                    warn!(cause = %chain(&error), "Could not look for dead nodes' conversions; trying again")
                }
            }
        }
    }

    async fn hear_cancels(self, end: CancellationToken) {
        let mut cancels = self.hub.cancels();
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                heard = cancels.recv() => match heard {
                    Ok(id) => self.active.cancel(id),
                    // Those missed are seen at the next stage's boundary, where the row is asked.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                        error!("The notification hub is gone");
                        return;
                    }
                },
            }
        }
    }
}

async fn join_all(runs: &mut JoinSet<()>) {
    while runs.join_next().await.is_some() {}
}

/// Conversions that a node has in hand at once, in any stage.
const CONVERSIONS_MAX: usize = 256;
