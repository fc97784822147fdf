//! The state machine: what the server does to a row, step by step.

use std::time::Duration;

use orfeas::{
    conversion::{AfterFailure, ConversionId, FAILURES_MAX, Failure, NodeId, Stage, Status},
    db::{
        Database, DatabaseError,
        conversions::{Attempt, Canceled, Entered},
        entities::conversion::Model,
    },
};
use sea_orm::Iterable;

use crate::harness::{
    World,
    seed::{self, attempt, sql},
};

mod refused;

const AT_ONCE: AfterFailure = AfterFailure::Retry {
    delay: Duration::ZERO,
};

fn failure() -> Failure {
    Failure {
        code: "CONVERSION_FAILED",
        message: "There is nothing in the picture.".into(),
        retryable: false,
    }
}

async fn database() -> Database {
    let database = World::new().await.database().await;
    database.migrate().await.unwrap();
    database
}

/// Follows one conversion; after each step there must be exactly one event more, or none.
struct Trail {
    database: Database,
    node: NodeId,
    id: ConversionId,
    steps: usize,
}

impl Trail {
    async fn new(database: &Database, batch: bool) -> Self {
        let row = seed::submit_one(database, batch).await;
        let mut trail = Self {
            database: database.clone(),
            node: NodeId::new(),
            id: row.id,
            steps: 0,
        };
        let stored = trail.step(Status::Queued, None, 0).await;
        assert_eq!(stored.sequence, row.sequence);
        trail
    }

    async fn step(&mut self, status: Status, stage: Option<Stage>, attempt: i16) -> Model {
        self.steps += 1;
        let row = self.no_step().await;
        assert_eq!(
            (row.status, row.stage, row.attempt),
            (status, stage, attempt)
        );
        row
    }

    async fn no_step(&self) -> Model {
        let events = seed::events(&self.database, self.id).await;
        assert_eq!(events.len(), self.steps, "{events:#?}");
        seed::check_all(&self.database).await;
        seed::row(&self.database, self.id).await
    }

    async fn claim(&mut self, number: i16) -> Attempt {
        let claimed = self
            .database
            .claim(self.node, &seed::models(), 1)
            .await
            .unwrap();
        assert_eq!(claimed.len(), 1);
        let row = self
            .step(Status::Running, Some(Stage::Prepare), number)
            .await;
        assert_eq!(claimed[0], row);
        assert_eq!(row.node_id, Some(self.node));
        attempt(&row)
    }

    async fn rescue(&self) -> usize {
        seed::end_leases(&self.database).await;
        self.database.rescue().await.unwrap().len()
    }

    /// Nothing can be done to it any more, by whatever attempt.
    async fn is_settled(&self) {
        let before = self.no_step().await;
        assert!(before.status.is_terminal());
        assert!(before.finished_at.is_some() && before.lease_until.is_none());
        for number in 0..=before.attempt + 1 {
            let attempt = Attempt {
                conversion: self.id,
                number,
            };
            is_lost(&self.database, attempt, &before).await;
        }
        assert_eq!(
            self.database.cancel(self.id).await.unwrap(),
            Canceled::AlreadyEnded
        );
        assert_eq!(self.no_step().await, before);
    }
}

/// Every write of an attempt that does not hold the row is refused, and the row stays as it is.
async fn is_lost(database: &Database, attempt: Attempt, before: &Model) {
    let lost = |result: Result<(), DatabaseError>, what: &str| {
        assert!(
            matches!(result, Err(DatabaseError::Lost)),
            "{what} of {attempt:?}: {result:?}"
        );
    };
    for stage in Stage::iter() {
        let entered = database.enter_stage(attempt, stage).await;
        lost(entered.map(drop), "enter_stage");
    }
    let files = vec![seed::mesh(&Model {
        attempt: attempt.number,
        ..before.clone()
    })];
    let succeeded = database.succeed(&seed::success(attempt, files)).await;
    lost(succeeded.map(drop), "succeed");
    for after in [AT_ONCE, AfterFailure::Fail] {
        lost(database.fail(attempt, &failure(), after).await, "fail");
    }
    lost(database.cancel_attempt(attempt).await, "cancel_attempt");
    // Handing back what one doesn't hold is no error, and does nothing.
    database.hand_back(attempt).await.unwrap();
    database
        .renew_leases(NodeId::new(), &[attempt])
        .await
        .unwrap();
    assert_eq!(&seed::row(database, before.id).await, before);
    let files = database.assets_of(&[before.id]).await.unwrap();
    assert!(
        files
            .iter()
            .all(|file| file.attempt == Some(before.attempt)),
        "{files:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_goes_through_its_stages_to_success() {
    let database = database().await;
    for batch in [false, true] {
        let mut trail = Trail::new(&database, batch).await;
        let attempt = trail.claim(1).await;
        for stage in Stage::iter().skip(1) {
            let entered = database.enter_stage(attempt, stage).await.unwrap();
            assert_eq!(entered, Entered::Yes);
            trail.step(Status::Running, Some(stage), 1).await;
        }
        // To enter the stage that it is in renews the lease and is no news.
        sql(
            &database,
            "UPDATE conversion SET lease_until = now() WHERE status = 'running'",
        )
        .await;
        let before = trail.no_step().await;
        database.enter_stage(attempt, Stage::Export).await.unwrap();
        let after = trail.no_step().await;
        assert!(after.lease_until > before.lease_until);

        let file = seed::mesh(&before);
        let done = database
            .succeed(&seed::success(attempt, vec![file.clone()]))
            .await;
        assert_eq!(done.unwrap(), Entered::Yes);
        let row = trail.step(Status::Succeeded, None, 1).await;
        assert_eq!((row.failures, row.timings), (0, Some(seed::timings())));
        let files = database.assets_of(&[row.id]).await.unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].id, file.id);
        trail.is_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_retried_or_final() {
    let database = database().await;
    for batch in [false, true] {
        let mut trail = Trail::new(&database, batch).await;
        let first = trail.claim(1).await;
        let later = AfterFailure::Retry {
            delay: Duration::from_secs(4),
        };
        database.fail(first, &failure(), later).await.unwrap();
        let row = trail.step(Status::Queued, None, 1).await;
        assert_eq!((row.failures, row.error_code), (1, None));
        let wait = row.run_at - time::OffsetDateTime::now_utc();
        assert!((3.0..=4.0).contains(&wait.as_seconds_f64()), "{wait}");
        let claimed = database.claim(trail.node, &seed::models(), 1).await;
        assert_eq!(claimed.unwrap(), [], "not before its time");
        sql(&database, "UPDATE conversion SET run_at = now()").await;

        let second = trail.claim(2).await;
        is_lost(&database, first, &trail.no_step().await).await;
        database
            .fail(second, &failure(), AfterFailure::Fail)
            .await
            .unwrap();
        let row = trail.step(Status::Failed, None, 2).await;
        assert_eq!(row.failures, 2);
        assert_eq!(row.error_code.as_deref(), Some("CONVERSION_FAILED"));
        assert_eq!(row.error_message, Some(failure().message));
        assert_eq!(row.error_retryable, Some(false));
        trail.is_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_cancelled_at_once_and_what_runs_at_its_next_boundary() {
    let database = database().await;
    for batch in [false, true] {
        let mut waiting = Trail::new(&database, batch).await;
        assert_eq!(database.cancel(waiting.id).await.unwrap(), Canceled::Now);
        waiting.step(Status::Canceled, None, 0).await;
        waiting.is_settled().await;

        let mut running = Trail::new(&database, batch).await;
        let attempt = running.claim(1).await;
        let refused = database.cancel_attempt(attempt).await;
        assert!(
            matches!(refused, Err(DatabaseError::Lost)),
            "nobody asked for it: {refused:?}"
        );
        for _ in 0..2 {
            let asked = database.cancel(running.id).await.unwrap();
            assert_eq!(asked, Canceled::Requested);
            running.no_step().await;
        }
        let entered = database.enter_stage(attempt, Stage::Encode).await.unwrap();
        assert_eq!(entered, Entered::CancelRequested);
        let files = vec![seed::mesh(&running.no_step().await)];
        let done = database.succeed(&seed::success(attempt, files)).await;
        assert_eq!(done.unwrap(), Entered::CancelRequested);
        running.no_step().await;
        assert_eq!(database.assets_of(&[running.id]).await.unwrap(), []);
        database.cancel_attempt(attempt).await.unwrap();
        running.step(Status::Canceled, None, 1).await;
        running.is_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_to_the_queue_stays_cancelled() {
    let database = database().await;
    for hand_back in [true, false] {
        let mut trail = Trail::new(&database, true).await;
        let attempt = trail.claim(1).await;
        database.cancel(trail.id).await.unwrap();
        if hand_back {
            database.hand_back(attempt).await.unwrap();
        } else {
            database.fail(attempt, &failure(), AT_ONCE).await.unwrap();
        }
        let row = trail.step(Status::Canceled, None, 1).await;
        assert_eq!(row.error_code, None);
        trail.is_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handing_back_counts_no_failure() {
    let database = database().await;
    for batch in [false, true] {
        let mut trail = Trail::new(&database, batch).await;
        for number in 1..=5 {
            let attempt = trail.claim(number).await;
            database.enter_stage(attempt, Stage::Encode).await.unwrap();
            trail
                .step(Status::Running, Some(Stage::Encode), number)
                .await;
            database.hand_back(attempt).await.unwrap();
            let row = trail.step(Status::Queued, None, number).await;
            assert_eq!(row.failures, 0);
            is_lost(&database, attempt, &row).await;
        }
        // Out of the way of the next one.
        database.cancel(trail.id).await.unwrap();
        trail.step(Status::Canceled, None, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_held_is_rescued_a_few_times() {
    let database = database().await;
    for batch in [false, true] {
        let mut trail = Trail::new(&database, batch).await;
        for number in 1..FAILURES_MAX {
            let old = trail.claim(number).await;
            assert_eq!(
                database.rescue().await.unwrap(),
                [],
                "a lease that holds is left alone"
            );
            assert_eq!(trail.rescue().await, 1);
            let row = trail.step(Status::Queued, None, number).await;
            assert_eq!((row.failures, row.node_id), (number, None));
            is_lost(&database, old, &row).await;
            assert_eq!(trail.rescue().await, 0);
        }
        trail.claim(FAILURES_MAX).await;
        assert_eq!(trail.rescue().await, 1);
        let row = trail.step(Status::Failed, None, FAILURES_MAX).await;
        assert_eq!(row.error_code.as_deref(), Some("INTERNAL"));
        assert_eq!(row.error_retryable, Some(true));
        trail.is_settled().await;

        let mut canceled = Trail::new(&database, batch).await;
        canceled.claim(1).await;
        database.cancel(canceled.id).await.unwrap();
        assert_eq!(canceled.rescue().await, 1);
        canceled.step(Status::Canceled, None, 1).await;
        canceled.is_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_writer_changes_nothing() {
    let database = database().await;
    let mut trail = Trail::new(&database, true).await;
    let late = trail.claim(1).await;
    trail.rescue().await;
    trail.step(Status::Queued, None, 1).await;
    let held = trail.claim(2).await;
    let row = trail.no_step().await;
    is_lost(&database, late, &row).await;
    // Nor does the node that holds the row now renew it in the name of the old attempt.
    database.renew_leases(trail.node, &[late]).await.unwrap();
    assert_eq!(trail.no_step().await, row);
    database.renew_leases(NodeId::new(), &[held]).await.unwrap();
    assert_eq!(trail.no_step().await, row);
    database.renew_leases(trail.node, &[held]).await.unwrap();
    assert!(trail.no_step().await.lease_until > row.lease_until);
    // Nobody but the attempt that holds it can be asked to end it, either.
    database.cancel(trail.id).await.unwrap();
    is_lost(&database, late, &trail.no_step().await).await;
}
