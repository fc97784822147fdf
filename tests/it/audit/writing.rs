//! Many writers, several sealers, floods, an absent database, and the end of a node.

use std::time::Duration;

use futures_util::future::join_all;
use orfeas::{
    auth::api_key::KeyId,
    conversion::NodeId,
    db::{
        Database,
        audit::{
            self,
            event::{AuditEvent, Outcome},
            sealer::{Sealer, Sealing},
            writer::{Auditor, AuditorOptions},
        },
    },
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{check_clean, database, mutation, refusal, ring, seal};
use crate::harness::{
    World,
    seed::{pool, scalar, sql, until},
};

fn auditor(database: &Database) -> Auditor {
    let options = AuditorOptions {
        write_every: Duration::from_millis(20),
        window: Duration::from_secs(3600),
        retry_after: Duration::from_millis(50),
        ..AuditorOptions::default()
    };
    Auditor::new(database.clone(), NodeId::new(), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_sealers_don_t_wait_for_each_other() {
    let world = World::new().await;
    let databases = join_all((0..3).map(|_| world.database())).await;
    databases[0].migrate().await.unwrap();
    // A writer that is in the middle of its transaction all the while, with an id before all others.
    let mut late = pool(&databases[0]).begin().await.unwrap();
    sqlx::query("INSERT INTO audit_event (id, kind, outcome) VALUES ($1, 'command', 'OK')")
        .bind(Uuid::from_u128(1))
        .execute(&mut *late)
        .await
        .unwrap();

    let written = CancellationToken::new();
    let sealers = databases.iter().map(async |database| {
        while !written.is_cancelled() {
            database.seal_pending(&ring()).await.unwrap();
        }
    });
    let writers = async {
        let write = async |writer: usize| {
            for event in 0..40 {
                let event = mutation(&format!("person-{writer}-{event}"));
                databases[writer % 3].insert_audit(&[event]).await.unwrap();
            }
        };
        join_all((0..9).map(write)).await;
        written.cancel();
    };
    let both = async { tokio::join!(join_all(sealers), writers) };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("nobody waits for the open transaction");
    seal(&databases[0]).await;
    check_clean(&databases[0], 360).await;

    late.commit().await.unwrap();
    assert_eq!(
        databases[1].seal_pending(&ring()).await.unwrap(),
        Sealing::Done(1),
        "a late one is not passed over"
    );
    check_clean(&databases[0], 361).await;
    assert_eq!(
        scalar(&databases[0], "SELECT count(*) FROM audit_pending").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_seals_at_a_time() {
    let database = database().await;
    database.insert_audit(&[mutation("alice")]).await.unwrap();
    let mut other = pool(&database).begin().await.unwrap();
    // The lock that sealers take.
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(0x6f72_6661_7564_i64)
        .execute(&mut *other)
        .await
        .unwrap();
    let looked = database.seal_pending(&ring()).await.unwrap();
    assert_eq!(looked, Sealing::Elsewhere);
    assert_eq!(database.prune_audit(&ring(), 0).await.unwrap(), 0);
    other.rollback().await.unwrap();
    let looked = database.seal_pending(&ring()).await.unwrap();
    assert_eq!(looked, Sealing::Done(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_stored_twice_is_there_once() {
    let database = database().await;
    let event = mutation("alice");
    database
        .insert_audit(&[event.clone(), mutation("bob")])
        .await
        .unwrap();
    database
        .insert_audit(&[event, mutation("carol")])
        .await
        .unwrap();
    seal(&database).await;
    check_clean(&database, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_and_all_is_stored_and_sealed_at_the_end() {
    let database = database().await;
    let auditor = auditor(&database);
    let sealer = Sealer {
        database: database.clone(),
        keyring: ring(),
        retention_days: 30,
    };
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(audit::keep(auditor.clone(), sealer, stop.clone()));
    let (loud, quiet) = (KeyId::new(), KeyId::new());
    for _ in 0..500 {
        auditor.refused(refusal(&loud));
        auditor.refused(AuditEvent::refusal(Outcome::code("UNAUTHENTICATED")));
    }
    for _ in 0..3 {
        auditor.refused(refusal(&quiet));
    }
    auditor.record(mutation("alice")).await;
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM audit_event WHERE kind = 'mutation'"
        )
        .await,
        1,
        "stored before the answer"
    );
    // The single ones come soon, before any minute is over.
    until(
        "the refusals are stored",
        Duration::from_secs(10),
        async || {
            scalar(
                &database,
                "SELECT count(*) FROM audit_event WHERE kind = 'refusal'",
            )
            .await
                == 63
        },
    )
    .await;
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM audit_event WHERE kind = 'refusals'"
        )
        .await,
        0
    );
    stop.cancel();
    keeping.await.unwrap();
    let counted = format!(
        "SELECT sum(count) FROM audit_event WHERE kind = 'refusals' AND key_id = '{loud}' AND outcome = 'RATE_LIMITED'"
    );
    assert_eq!(scalar(&database, &counted).await, 440);
    assert_eq!(
        scalar(
            &database,
            "SELECT sum(count) FROM audit_event WHERE key_id IS NULL AND actor IS NULL AND outcome = 'UNAUTHENTICATED'"
        )
        .await,
        500
    );
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM audit_event WHERE node_id IS NULL"
        )
        .await,
        0
    );
    check_clean(&database, 66).await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM audit_pending").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_database_does_not_take_it() {
    let database = database().await;
    let auditor = auditor(&database);
    let stop = CancellationToken::new();
    let running = {
        let (auditor, stop) = (auditor.clone(), stop.clone());
        tokio::spawn(async move { auditor.run(stop).await })
    };
    sql(&database, "ALTER TABLE audit_event RENAME TO gone").await;
    let key = KeyId::new();
    for _ in 0..100 {
        auditor.refused(refusal(&key));
    }
    auditor.record(mutation("alice")).await;
    // Long enough for several tries, and for the events to be late.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    sql(&database, "ALTER TABLE gone RENAME TO audit_event").await;
    until(
        "what waited is stored",
        Duration::from_secs(10),
        async || scalar(&database, "SELECT count(*) FROM audit_event").await == 61,
    )
    .await;
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM audit_event WHERE (details ->> 'lateSeconds')::int >= 1"
        )
        .await,
        61
    );
    stop.cancel();
    running.await.unwrap();
    assert_eq!(
        scalar(&database, "SELECT sum(count) FROM audit_event").await,
        101
    );
    seal(&database).await;
    check_clean(&database, 62).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_take_its_event_along() {
    let database = database().await;
    let auditor = auditor(&database);
    // The handler is dropped while the statement waits for the table.
    let mut holder = pool(&database).begin().await.unwrap();
    sqlx::query("LOCK TABLE audit_event")
        .execute(&mut *holder)
        .await
        .unwrap();
    let recording = auditor.record(mutation("alice"));
    tokio::time::timeout(Duration::from_millis(200), recording)
        .await
        .expect_err("the table is locked");
    let stop = CancellationToken::new();
    stop.cancel();
    let stopping = {
        let auditor = auditor.clone();
        tokio::spawn(async move { auditor.run(stop).await })
    };
    holder.rollback().await.unwrap();
    stopping.await.unwrap();
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM audit_event").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_callers_are_called_their_events_are_stored() {
    let database = database().await;
    let odd = ["a\0b", &"x".repeat(5_000), "ä🦀\u{202e}", "{\"a\": 1}", " "];
    for name in odd {
        let event = mutation(name)
            .operation("a\nb\0")
            .request_id(&"\u{7f}r".repeat(200));
        database.insert_audit(&[event]).await.unwrap();
    }
    seal(&database).await;
    check_clean(&database, 5).await;
    assert_eq!(
        scalar(
            &database,
            "SELECT max(char_length(actor))::bigint FROM audit_event"
        )
        .await,
        300
    );
}
