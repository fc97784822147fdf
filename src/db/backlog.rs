//! How much waits, as one node knows it: what a submission is held against before anything of it is stored.
//!
//! The figure is read every second by one statement; what this node has let in since is added to it. So a submission
//! costs no query, and a node by itself lets in no conversion too many. Of several nodes, each may let in what the others
//! have let in since its figure was read: together they go beyond the bound by what all but one of them take in a second.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sea_orm::FromQueryResult;

use super::{Database, DatabaseError};

/// What may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogLimits {
    /// Conversions that may wait.
    pub depth_max: u64,
    /// How long the one that has waited longest may have waited before no more are let in.
    pub age_max: Option<Duration>,
}

/// Beyond the bound so many are counted, so that it is known how far beyond it is.
const DEPTH_BEYOND: u64 = 1_000;

/// What a client is told to wait where nothing says when there will be room: no conversion has ended for a long time.
const WAIT_UNKNOWN_SECONDS: f64 = 300.0;
/// Within these it is told in any case.
const WAIT_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=3600.0;
/// Nobody is told less than the truth, and up to so much of it more: those who were refused together shall not come back
/// together.
const JITTER_MAX: f64 = 0.25;
/// While the queue has not waited for so long, the time of a conversion says more than how many have ended since.
const PACE_WINDOW_MIN_SECONDS: f64 = 10.0;

/// The queue as the database has it.
#[derive(Debug, Clone, Default, PartialEq, FromQueryResult)]
pub struct Figure {
    /// Conversions waiting; counted up to a bound.
    pub depth: i64,
    /// Those of them that agents have submitted.
    pub depth_agent: i64,
    /// Conversions that nodes have in hand.
    pub running: i64,
    /// For how long the one that has waited longest has done so.
    pub oldest_seconds: Option<f64>,
    /// The same of those that agents have submitted.
    pub oldest_agent_seconds: Option<f64>,
    /// The same of those that people have submitted.
    pub oldest_user_seconds: Option<f64>,
    /// Conversions that ended lately while others waited.
    pub ended: i64,
    /// Since when they are counted.
    pub ended_over_seconds: f64,
    /// Mean time from claim to success of the last ones.
    pub mean_run_seconds: Option<f64>,
}

impl Figure {
    /// How long it takes until one more has left the queue, at the pace measured; `None` when nothing leaves it.
    #[must_use]
    pub fn seconds_each(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "at most some hundreds")]
        if self.ended > 0 {
            return Some(self.ended_over_seconds / self.ended as f64);
        }
        // Silence for several times as long as one takes is an answer, too.
        let mean = self.mean_run_seconds?;
        (self.ended_over_seconds < (3.0 * mean).max(60.0)).then_some(mean)
    }
}

/// There is no room.
#[derive(Debug, Clone, PartialEq)]
pub struct Full {
    /// Conversions that wait.
    pub depth: u64,
    /// When there will be room at the pace measured.
    pub retry_after_seconds: f64,
}

/// What this node knows of the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backlog {
    limits: BacklogLimits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    figure: Figure,
    /// Let in, and not yet in the database.
    on_their_way: u64,
    /// In the database since the statement of the figure began, or a moment before.
    stored: u64,
}

/// Room for conversions that are being submitted; dropped, it is free again.
#[derive(Debug)]
pub struct Room {
    state: Arc<Mutex<State>>,
    count: u64,
}

/// The sections that hold it can't panic halfway.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backlog {
    /// Of an empty queue, until it is looked at.
    #[must_use]
    pub fn new(limits: BacklogLimits) -> Self {
        Self {
            limits,
            state: Arc::default(),
        }
    }

    /// Reads the figure anew. One at a time.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails; the figure stays as it was.
    pub async fn refresh(&self, database: &Database) -> Result<Figure, DatabaseError> {
        // What is stored from here on may or may not be in the figure: it is counted once too often rather than not at all.
        let stored = lock(&self.state).stored;
        let figure = database.queue_figure(self.limits.depth_max).await?;
        let mut state = lock(&self.state);
        state.stored -= stored;
        state.figure = figure.clone();
        Ok(figure)
    }

    /// Takes room for so many conversions.
    ///
    /// # Errors
    /// [`Full`], with when there will be room.
    pub fn take(&self, count: usize) -> Result<Room, Full> {
        let count = count as u64;
        let mut state = lock(&self.state);
        let waiting = u64::try_from(state.figure.depth).unwrap_or_default()
            + state.on_their_way
            + state.stored;
        if let Some(seconds) = self.wait_for_room(&state.figure, waiting, count) {
            let jitter = 1.0 + JITTER_MAX * rand::random::<f64>();
            return Err(Full {
                depth: waiting,
                retry_after_seconds: (seconds.max(*WAIT_SECONDS.start()) * jitter)
                    .min(*WAIT_SECONDS.end()),
            });
        }
        state.on_their_way += count;
        Ok(Room {
            state: Arc::clone(&self.state),
            count,
        })
    }

    /// Seconds until `count` more may come; `None` if they may now.
    fn wait_for_room(&self, figure: &Figure, waiting: u64, count: u64) -> Option<f64> {
        let over = (waiting + count).saturating_sub(self.limits.depth_max);
        let aged = match (self.limits.age_max, figure.oldest_seconds) {
            (Some(age_max), Some(oldest)) if oldest > age_max.as_secs_f64() => Some(age_max),
            _ => None,
        };
        if over == 0 && aged.is_none() {
            return None;
        }
        let Some(each) = figure.seconds_each() else {
            return Some(WAIT_UNKNOWN_SECONDS);
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^52")]
        let (over, waiting) = (over as f64, waiting as f64);
        // Whoever comes last waits for all: young enough again when so many are left as end within the time.
        let aged = aged.map_or(0.0, |age_max| {
            (waiting * each - age_max.as_secs_f64()).max(each)
        });
        Some((over * each).max(aged))
    }
}

impl Room {
    /// So many conversions are in the database now; what room is left is free again.
    pub fn stored(mut self, count: usize) {
        let mut state = lock(&self.state);
        state.on_their_way -= self.count;
        state.stored += count as u64;
        self.count = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.state).on_their_way -= self.count;
    }
}

impl Database {
    /// Depth and pace of the queue, at the same cost however long it is: its bound and some are counted.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn queue_figure(&self, depth_max: u64) -> Result<Figure, DatabaseError> {
        let counted = i64::try_from(depth_max.saturating_add(DEPTH_BEYOND)).unwrap_or(i64::MAX);
        let figure = self
            .one(
                // Ordered as the claim's index is, so that nothing but its first entries is read.
                "WITH waiting AS MATERIALIZED (
                     SELECT count(*) AS depth, count(*) FILTER (WHERE priority = 'agent') AS depth_agent,
                         extract(epoch FROM now() - least(min(run_at), now()))::float8 AS oldest,
                         extract(epoch FROM now() - least(min(run_at) FILTER (WHERE priority = 'agent'), now()))::float8
                             AS oldest_agent,
                         extract(epoch FROM now() - least(min(run_at) FILTER (WHERE priority = 'user'), now()))::float8
                             AS oldest_user FROM (
                         SELECT run_at, priority FROM conversion WHERE status = 'queued' ORDER BY rank, id LIMIT $1) first),
                 pace AS MATERIALIZED (SELECT least(greatest(oldest, $2), 600) AS seconds FROM waiting),
                 recent AS MATERIALIZED (
                     SELECT finished_at, started_at FROM conversion WHERE status = 'succeeded'
                     ORDER BY finished_at DESC LIMIT 200),
                 lately AS MATERIALIZED (
                     SELECT finished_at FROM recent, pace WHERE finished_at > now() - make_interval(secs => seconds))
                 SELECT depth, depth_agent, (SELECT count(*) FROM conversion WHERE status = 'running') AS running,
                     oldest AS oldest_seconds, oldest_agent AS oldest_agent_seconds, oldest_user AS oldest_user_seconds,
                     (SELECT count(*) FROM lately) AS ended,
                     -- Where the list was too short for the time, the time is that of the list.
                     coalesce((SELECT extract(epoch FROM now() - min(finished_at))::float8 FROM lately HAVING count(*) = 200),
                         coalesce(seconds, $2)) AS ended_over_seconds,
                     (SELECT avg(extract(epoch FROM finished_at - started_at))::float8 FROM recent) AS mean_run_seconds
                 FROM waiting, pace",
                [counted.into(), PACE_WINDOW_MIN_SECONDS.into()],
            )
            .await?;
        Ok(figure.expect("an aggregate without grouping yields one row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(depth_max: u64, age_max: Option<u64>, figure: Figure) -> Backlog {
        let backlog = Backlog::new(BacklogLimits {
            depth_max,
            age_max: age_max.map(Duration::from_secs),
        });
        lock(&backlog.state).figure = figure;
        backlog
    }

    fn waiting(depth: i64, oldest: f64, ended: i64, over: f64) -> Figure {
        Figure {
            depth,
            oldest_seconds: Some(oldest),
            ended,
            ended_over_seconds: over,
            mean_run_seconds: Some(2.0),
            ..Figure::default()
        }
    }

    /// The wait that is told lies between the true one and a quarter more.
    fn assert_wait(full: &Full, seconds: f64) {
        let told = full.retry_after_seconds;
        assert!(
            (seconds..=seconds * (1.0 + JITTER_MAX)).contains(&told),
            "{told} instead of {seconds}"
        );
    }

    #[test]
    fn room_is_what_the_figure_and_those_let_in_since_leave() {
        let backlog = backlog(5, None, waiting(2, 1.0, 10, 10.0));
        let two = backlog.take(2).expect("four of five");
        let full = backlog.take(2).expect_err("six of five");
        assert_eq!(full.depth, 4);
        assert_wait(&full, 1.0);
        two.stored(1);
        let rest = backlog.take(2).expect("of two one came");
        drop(rest);
        let _rest = backlog.take(2).expect("what was dropped is free");
        assert_eq!(lock(&backlog.state).stored, 1);
    }

    #[test]
    fn the_wait_is_what_the_pace_makes_it() {
        // Two a second: three over the bound leave in a second and a half.
        let full = backlog(100, None, waiting(100, 30.0, 60, 30.0)).take(3);
        assert_wait(&full.expect_err("full"), 1.5);
        // One in a minute.
        let full = backlog(100, None, waiting(100, 60.0, 1, 60.0)).take(10);
        assert_wait(&full.expect_err("full"), 600.0);
        let full = backlog(100, None, waiting(100, 600.0, 1, 600.0)).take(100);
        assert_eq!(full.expect_err("full").retry_after_seconds, 3600.0);
        // It has just begun: by the time of a conversion.
        let full = backlog(100, None, waiting(100, 1.0, 0, 10.0)).take(4);
        assert_wait(&full.expect_err("full"), 8.0);
        // Nothing has ended for minutes: nobody knows.
        let full = backlog(100, None, waiting(100, 300.0, 0, 300.0)).take(1);
        assert_wait(&full.expect_err("full"), WAIT_UNKNOWN_SECONDS);
    }

    #[test]
    fn a_queue_that_has_waited_too_long_takes_no_more() {
        // 40 wait, two a second leave: the last one's wait is 20 s, and 10 s later 10 s.
        let aged = waiting(40, 11.0, 20, 10.0);
        assert!(backlog(100, None, aged.clone()).take(1).is_ok());
        assert!(backlog(100, Some(12), aged.clone()).take(1).is_ok());
        let full = backlog(100, Some(10), aged).take(1).expect_err("too old");
        assert_wait(&full, 10.0);
    }

    #[test]
    fn who_was_refused_together_does_not_come_back_together() {
        let backlog = backlog(1, None, waiting(1, 60.0, 1, 60.0));
        let waits: Vec<f64> = (0..20)
            .map(|_| backlog.take(1).expect_err("full").retry_after_seconds)
            .collect();
        let spread = waits.iter().fold(0.0, |a: f64, b| a.max(*b))
            - waits.iter().fold(f64::INFINITY, |a, b| a.min(*b));
        assert!(spread > 1.0, "{waits:?}");
    }
}
