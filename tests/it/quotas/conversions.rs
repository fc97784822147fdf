//! Conversions at a time and a day.

use std::time::Duration;

use futures_util::future::join_all;
use orfeas::{
    auth::principal::Quotas,
    conversion::{AfterFailure, Failure, NodeId, Owner, Priority, Status},
    db::{
        Database,
        quotas::Exceeded,
        submissions::{Admitted, Submission},
    },
};

use super::{NO_LIMITS, database, databases};
use crate::harness::seed::{self, attempt, scalar, sql, submission};

fn limited(owner: &str, count: i32, quotas: Quotas) -> Submission {
    Submission {
        quotas: Some(quotas),
        ..submission(owner, Priority::User, count > 1, count)
    }
}

async fn usage(database: &Database, owner: &str) -> (i64, i64) {
    let usage = database.usage(&Owner::user(owner)).await.unwrap();
    (usage.active, usage.today)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conversions_at_a_time_are_exact_and_come_back() {
    let nodes = databases(3).await;
    let quotas = Quotas {
        conversions_at_once: Some(10),
        ..NO_LIMITS
    };
    let submitted =
        join_all((0..60).map(|turn| nodes[turn % 3].submit(limited("alice", 1, quotas)))).await;
    let admitted = submitted
        .iter()
        .filter(|outcome| matches!(outcome, Ok(Admitted::New(_))));
    assert_eq!(admitted.count(), 10, "{submitted:?}");
    let refused = submitted.iter().filter(|outcome| {
        matches!(
            outcome,
            Ok(Admitted::Exceeded(Exceeded::AtOnce {
                allowed: 10,
                used: 10
            }))
        )
    });
    assert_eq!(refused.count(), 50);
    assert_eq!(
        usage(&nodes[0], "alice").await,
        (10, 10),
        "who is refused is not charged"
    );

    // Another's is another's, and a batch goes in whole or not at all.
    assert!(matches!(
        nodes[0].submit(limited("bob", 11, quotas)).await.unwrap(),
        Admitted::Exceeded(Exceeded::AtOnce {
            allowed: 10,
            used: 0
        })
    ));
    assert!(matches!(
        nodes[0].submit(limited("bob", 10, quotas)).await.unwrap(),
        Admitted::New(_)
    ));

    // Running counts, ended does not.
    let claimed = nodes[0]
        .claim(NodeId::new(), &seed::models(), 5)
        .await
        .unwrap();
    let mine: Vec<_> = claimed
        .iter()
        .filter(|row| row.owner == Owner::user("alice"))
        .collect();
    let full = nodes[1].submit(limited("alice", 1, quotas)).await.unwrap();
    assert!(matches!(full, Admitted::Exceeded(_)));
    for row in &mine {
        let mesh = vec![seed::mesh(row)];
        nodes[0]
            .succeed(&seed::success(attempt(row), mesh))
            .await
            .unwrap();
    }
    let freed = mine.len();
    assert!(freed > 0, "alice's go first or among the first");
    for _ in 0..freed {
        assert!(matches!(
            nodes[2].submit(limited("alice", 1, quotas)).await.unwrap(),
            Admitted::New(_)
        ));
    }
    assert!(matches!(
        nodes[2].submit(limited("alice", 1, quotas)).await.unwrap(),
        Admitted::Exceeded(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_the_owners_doing_is_given_back() {
    let database = database().await;
    let quotas = Quotas {
        conversions_per_day: Some(6),
        ..NO_LIMITS
    };
    let rows = match database.submit(limited("alice", 6, quotas)).await.unwrap() {
        Admitted::New(rows) => rows.conversions,
        other => panic!("{other:?}"),
    };
    let refused = database.submit(limited("alice", 1, quotas)).await.unwrap();
    let Admitted::Exceeded(Exceeded::PerDay {
        allowed: 6,
        used: 6,
        left,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert!(
        left > Duration::ZERO && left <= Duration::from_secs(86_400),
        "{left:?}"
    );

    // Cancelled before it ran, and deleted before it ran: given back.
    database.cancel(rows[5].id).await.unwrap();
    assert_eq!(usage(&database, "alice").await, (5, 5));
    let owner = Owner::user("alice");
    let is_gone = database.delete_conversion(Some(&owner), rows[4].id).await;
    assert!(is_gone.unwrap());
    assert_eq!(usage(&database, "alice").await, (4, 4));
    // Deleted after it was cancelled: given back once.
    let is_gone = database.delete_conversion(Some(&owner), rows[5].id).await;
    assert!(is_gone.unwrap());
    assert_eq!(usage(&database, "alice").await, (4, 4));

    let claimed = database
        .claim(NodeId::new(), &seed::models(), 4)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 4);
    let fail = async |index: usize, code| {
        let failure = Failure {
            code,
            message: "It failed.".into(),
            retryable: false,
        };
        database
            .fail(attempt(&claimed[index]), &failure, AfterFailure::Fail)
            .await
            .unwrap();
    };
    fail(0, "CONVERSION_FAILED").await;
    assert_eq!(
        usage(&database, "alice").await,
        (3, 4),
        "an empty picture is the owner's"
    );
    fail(1, "INTERNAL").await;
    assert_eq!(usage(&database, "alice").await, (2, 3), "our fault");
    // Called off while it ran: that took its time.
    database.cancel(claimed[2].id).await.unwrap();
    database.cancel_attempt(attempt(&claimed[2])).await.unwrap();
    assert_eq!(usage(&database, "alice").await, (1, 3));
    // Back to the queue and cancelled there: it has run, too.
    database
        .fail(
            attempt(&claimed[3]),
            &Failure {
                code: "INTERNAL",
                message: "It failed.".into(),
                retryable: true,
            },
            AfterFailure::Retry {
                delay: Duration::ZERO,
            },
        )
        .await
        .unwrap();
    database.cancel(claimed[3].id).await.unwrap();
    assert_eq!(usage(&database, "alice").await, (0, 3));
    // Ended ones may go; what they cost stays.
    for row in &claimed {
        let is_gone = database.delete_conversion(Some(&owner), row.id).await;
        assert!(is_gone.unwrap());
    }
    assert_eq!(usage(&database, "alice").await, (0, 3));
    assert!(matches!(
        database.submit(limited("alice", 4, quotas)).await.unwrap(),
        Admitted::Exceeded(_)
    ));
    assert!(matches!(
        database.submit(limited("alice", 3, quotas)).await.unwrap(),
        Admitted::New(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_dies_half_way_charges_nothing() {
    let database = database().await;
    let quotas = Quotas {
        conversions_at_once: Some(2),
        conversions_per_day: Some(2),
        ..NO_LIMITS
    };
    // The trigger that records the rows is made to hang; the connection is cut while it does.
    sql(
        &database,
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$",
    )
    .await;
    sql(
        &database,
        "CREATE TRIGGER hang AFTER INSERT ON conversion EXECUTE FUNCTION hang()",
    )
    .await;
    let hanging = {
        let database = database.clone();
        tokio::spawn(async move { database.submit(limited("alice", 2, quotas)).await })
    };
    seed::until("the submission hangs", Duration::from_secs(10), async || {
        scalar(&database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await > 0
    })
    .await;
    scalar(
        &database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
    )
    .await;
    hanging.await.unwrap().unwrap_err();
    sql(&database, "DROP TRIGGER hang ON conversion").await;
    assert_eq!(usage(&database, "alice").await, (0, 0));
    assert!(matches!(
        database.submit(limited("alice", 2, quotas)).await.unwrap(),
        Admitted::New(_)
    ));
    assert_eq!(usage(&database, "alice").await, (2, 2));
    let statuses = seed::all_rows(&database).await;
    assert!(statuses.iter().all(|row| row.status == Status::Queued) && statuses.len() == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_submits_and_who_deletes_what_waits_do_not_stop_each_other() {
    let nodes = databases(2).await;
    let owner = Owner::user("alice");
    let come_and_go = async |turn: usize| {
        let node = &nodes[turn % 2];
        for _ in 0..30 {
            let rows = match node.submit(limited("alice", 1, NO_LIMITS)).await.unwrap() {
                Admitted::New(rows) => rows.conversions,
                other => panic!("{other:?}"),
            };
            let deleted = node.delete_conversion(Some(&owner), rows[0].id).await;
            assert!(deleted.unwrap());
        }
    };
    join_all((0..8).map(come_and_go)).await;
    assert_eq!(usage(&nodes[0], "alice").await, (0, 0));
}
