//! The handle through which requests leave their events.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, info, warn};

use super::{
    backlog::{Backlog, BacklogLimits, Waiting, stored_now},
    event::AuditEvent,
};
use crate::{
    conversion::NodeId,
    db::{Database, DatabaseError, together::Together},
    error_chain::chain,
};

/// Events in one statement.
const WRITE_MAX: usize = 1_000;
/// How long a node that stops tries to write what waits.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Options of [`Auditor::new`].
#[derive(Debug, Clone, Copy)]
pub struct AuditorOptions {
    /// How often refusals are written.
    pub write_every: Duration,
    /// Over what time refusals are counted together.
    pub window: Duration,
    /// How long to wait after a failure to write.
    pub retry_after: Duration,
    pub limits: BacklogLimits,
}

impl Default for AuditorOptions {
    fn default() -> Self {
        Self {
            // Late enough to write many at once, early enough that an admin sees what was refused just now.
            write_every: Duration::from_millis(200),
            window: Duration::from_secs(60),
            retry_after: Duration::from_secs(2),
            limits: BacklogLimits::default(),
        }
    }
}

/// Writes events of one node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Auditor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    node: NodeId,
    options: AuditorOptions,
    backlog: Mutex<Backlog>,
    storing: Together<AuditEvent>,
    recording: TaskTracker,
}

impl Auditor {
    /// A handle; somebody must [`Auditor::run`] it.
    #[must_use]
    pub fn new(database: Database, node: NodeId, options: AuditorOptions) -> Self {
        Self(Arc::new(Inner {
            database,
            node,
            options,
            backlog: Mutex::new(Backlog::new(options.limits)),
            storing: Together::default(),
            recording: TaskTracker::new(),
        }))
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        // Nothing panics while holding it; if it did, the counts would still be sound.
        self.0
            .backlog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an event and returns when it is stored. Goes on when the caller is dropped, and later when the database
    /// is away: what was done must be in the log.
    pub async fn record(&self, mut event: AuditEvent) {
        event.node = Some(self.0.node);
        let this = self.clone();
        let recorded = async move { this.store(event).await };
        let recorded = self.0.recording.spawn(recorded.in_current_span());
        // It neither panics nor is called off; if the runtime ends, so does this.
        let _ = recorded.await;
    }

    /// Stores an event, with those that others record while a statement is under way.
    async fn store(&self, event: AuditEvent) {
        let since = Instant::now();
        let store_all = async |events: &[AuditEvent]| {
            let stored = self.0.database.insert_audit(events).await;
            if let Err(error) = &stored {
                warn!(cause = %chain(error), "Could not store audit events; they are kept for another try");
            }
            vec![stored.is_ok(); events.len()]
        };
        if !self.0.storing.ask(event.clone(), store_all).await {
            self.keep(Waiting { event, since });
        }
    }

    fn keep(&self, waiting: Waiting) {
        let AuditEvent {
            id,
            kind,
            ref actor,
            outcome,
            ..
        } = waiting.event;
        let actor = actor.clone();
        if !self.backlog().keep(waiting) {
            metrics::counter!("orfeas_audit_lost_total").increment(1);
            error!(
                audit.id = %id, audit.kind = kind.as_str(), audit.actor = ?actor, audit.outcome = outcome.as_str(),
                "Too many audit events wait for the database: this one is here alone"
            );
        }
        self.report_unwritten();
    }

    /// Takes note of a refusal; it is stored soon, alone or in a count. Refusals that name neither a caller nor a key
    /// are always counted.
    pub fn refused(&self, event: AuditEvent) {
        self.backlog().refuse(event, Instant::now());
    }

    fn report_unwritten(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of requests, far below 2^52"
        )]
        metrics::gauge!("orfeas_audit_unwritten").set(self.backlog().waiting() as f64);
    }

    /// Writes what was refused until `stop`; then what is being recorded, and the rest with it.
    pub async fn run(&self, stop: CancellationToken) {
        let AuditorOptions {
            write_every,
            window,
            retry_after,
            limits: _,
        } = self.0.options;
        let mut tick = interval(write_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut window_began = Instant::now();
        let mut is_writing = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            if window_began.elapsed() >= window {
                window_began = Instant::now();
                self.backlog().begin_window();
                // While the database is away they go on as counts, which need no room.
                if is_writing {
                    self.backlog().settle_counts(Instant::now());
                }
            }
            // What is given up on here is written by the flush.
            let written = tokio::select! {
                () = stop.cancelled() => break,
                written = self.write() => written,
            };
            if written.is_ok() != is_writing {
                is_writing = written.is_ok();
                self.report_turn(written.err());
            }
            if is_writing {
                metrics::gauge!("orfeas_audit_unwritten").set(0.0);
                continue;
            }
            self.report_unwritten();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(retry_after) => {}
            }
        }
        self.flush().await;
    }

    /// Says once that events can't be stored, and once that they are again.
    fn report_turn(&self, failure: Option<DatabaseError>) {
        match failure {
            None => info!("Audit events are stored again"),
            Some(error) => {
                let waiting = self.backlog().waiting();
                warn!(
                    cause = %chain(&error), waiting,
                    "Audit events can't be stored; they are kept, and counted together when they become many"
                );
            }
        }
    }

    /// Writes the events that wait; those that could not be written wait on.
    async fn write(&self) -> Result<(), DatabaseError> {
        loop {
            let taken = self.backlog().take(WRITE_MAX);
            if taken.is_empty() {
                return Ok(());
            }
            // Events that are given up on in the middle go back to the others.
            let mut taken = Taken {
                auditor: self,
                events: taken,
            };
            let mut events = stored_now(&taken.events, Instant::now());
            for event in &mut events {
                event.node = Some(self.0.node);
            }
            self.0.database.insert_audit(&events).await?;
            taken.events.clear();
        }
    }

    async fn flush(&self) {
        self.0.recording.close();
        let written = timeout(FLUSH_MAX, async {
            self.0.recording.wait().await;
            loop {
                self.backlog().settle_counts(Instant::now());
                if let Err(error) = self.write().await {
                    warn!(cause = %chain(&error), "Could not store the last audit events");
                    return;
                }
                if self.backlog().waiting() == 0 {
                    return;
                }
            }
        });
        let in_time = written.await.is_ok();
        let lost = self.backlog().waiting() + self.0.recording.len() as u64;
        if lost > 0 {
            metrics::counter!("orfeas_audit_lost_total").increment(lost);
            error!(
                lost,
                in_time, "The node stops, and these audit events could not be stored"
            );
        }
    }
}

/// Events on their way to the database.
struct Taken<'a> {
    auditor: &'a Auditor,
    events: Vec<Waiting>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let events = std::mem::take(&mut self.events);
        self.auditor.backlog().give_back(events);
    }
}
