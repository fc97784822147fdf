//! Conversions end, and some time later they go.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use orfeas::{
    config::Settings,
    conversion::{NodeId, Owner, Priority},
    db::{
        Database,
        entities::conversion::Model,
        retention::Expired,
        submissions::{Admitted, NewConversion, Source, Submission},
    },
    retention::expiry::expire,
};
use serde_json::json;
use sqlx::AssertSqlSafe;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Place};
use crate::harness::seed::{self, scalar, sql, until};

const DAY: Duration = Duration::from_secs(86_400);

async fn expire_all(database: &Database, days: u32) -> u64 {
    expire(database, days * DAY, &CancellationToken::new())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_goes_and_what_is_needed_stays() {
    let place = Place::new().await;
    let database = &place.database;
    let old = place.succeeded("alice", true, 2).await;
    let young = place.succeeded("bob", false, 1).await;
    // By the picture of an old one, and not yet ended.
    let source = database
        .asset(old[0].source_asset_id)
        .await
        .unwrap()
        .unwrap();
    let needed = Submission {
        items: vec![NewConversion {
            source: Source::Existing(source),
            index: 0,
        }],
        retry_of: Some(old[0].id),
        ..seed::submission("alice", Priority::User, false, 1)
    };
    let needed = seed::submit(database, needed).await.conversions.remove(0);
    // Called off and failed ones go as well.
    let ended = seed::submit_one(database, false).await;
    database.cancel(ended.id).await.unwrap();
    let ended = seed::row(database, ended.id).await;
    place.age(&old, 8).await;
    place.age(std::slice::from_ref(&ended), 8).await;
    place.age(&young, 6).await;

    assert_eq!(expire_all(database, 9).await, 0);
    assert_eq!(expire_all(database, 7).await, 3);
    let left: HashSet<_> = seed::all_rows(database)
        .await
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(left, HashSet::from([young[0].id, needed.id]));
    assert_eq!(place.count("batch").await, 0);
    place.check_counts().await;
    while place.eraser().step().await.unwrap().erased > 0 {}
    let (picture, mesh) = (needed.source_asset_id, young[0].id);
    let stored = place.stored();
    assert_eq!(stored.len(), 4, "{stored:?}");
    assert!(stored.contains(&format!("sources/{picture}")), "{stored:?}");
    assert!(
        stored.contains(&format!("conversions/{mesh}/1/mesh.glb")),
        "{stored:?}"
    );
    // And can be converted.
    let claimed = database
        .claim(NodeId::new(), &seed::models(), 1)
        .await
        .unwrap();
    assert_eq!(claimed[0].id, needed.id);
    assert!(
        place
            .storage
            .get(&format!("sources/{picture}"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_lets_go_of_what_its_setting_says_and_tells_when() {
    let place = Place::new().await;
    let rows = place.succeeded("alice", false, 1).await;
    let other = place.succeeded("alice", false, 1).await;
    place.age(&rows, 3).await;
    let ask = "query ($id: ID!) { conversion(id: $id) { finishedAt expiresAt } }";
    let keeping = place.world.api_node().await;
    let id = json!({ "id": rows[0].id.to_string() });
    let alice = keeping.client("alice");
    let shown = alice.run(ask, id.clone()).await["conversion"].take();
    assert!(shown["expiresAt"].is_null(), "{shown:#}");
    keeping.app.stop().await;

    let settings = Settings {
        orfeas_retention: Some("48h".into()),
        orfeas_role: orfeas::config::Role::Api,
        ..place.world.settings()
    };
    let node = place.world.node_with(settings).await;
    let alice = node.client("alice");
    until("it is gone", PATIENCE, async || {
        alice.run(ask, id.clone()).await["conversion"].is_null()
    })
    .await;
    until("its bytes are gone", PATIENCE, async || {
        place.stored().len() == 3
    })
    .await;
    let shown = alice
        .run(ask, json!({ "id": other[0].id.to_string() }))
        .await["conversion"]
        .take();
    let time = |name: &str| OffsetDateTime::parse(shown[name].as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!(
        time("expiresAt") - time("finishedAt"),
        time::Duration::days(2)
    );
    node.app.stop().await;
}

/// Submits, claims, ends, retries and deletes until it is told to stop.
async fn live(database: Database, turn: usize, stop: CancellationToken) {
    let owner = format!("user {turn}");
    while !stop.is_cancelled() {
        let batch = rand::random_bool(0.5);
        let submission = seed::submission(&owner, Priority::User, batch, if batch { 3 } else { 1 });
        seed::submit(&database, submission).await;
        let claimed = database
            .claim(NodeId::new(), &seed::models(), 3)
            .await
            .unwrap();
        for row in &claimed {
            let ended = database
                .succeed(&seed::success(seed::attempt(row), vec![seed::mesh(row)]))
                .await;
            ended.unwrap();
        }
        // Of all there are, also those that are about to go.
        for row in some_ended(&database).await {
            if rand::random_bool(0.5) {
                database.delete_conversion(None, row.id).await.unwrap();
            } else if let Some(source) = database.asset(row.source_asset_id).await.unwrap() {
                let mut again = seed::submission(row.owner.as_str(), Priority::User, true, 2);
                again.owner = row.owner.clone();
                again.items[1].source = Source::Existing(source);
                again.retry_of = Some(row.id);
                let admitted = database.submit(again).await.unwrap();
                assert!(
                    matches!(admitted, Admitted::New(_) | Admitted::Gone),
                    "{admitted:?}"
                );
            }
        }
    }
}

async fn some_ended(database: &Database) -> Vec<Model> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar(
        "SELECT id FROM conversion WHERE finished_at IS NOT NULL ORDER BY random() LIMIT 2",
    )
    .fetch_all(seed::pool(database))
    .await
    .unwrap();
    let rows = seed::all_rows(database).await;
    rows.into_iter()
        .filter(|row| ids.contains(&row.id.0))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_sweep_at_once_share_the_work_and_stop_nobody() {
    let place = Place::new().await;
    let stop = CancellationToken::new();
    let others = join_all((0..3).map(|_| place.world.database())).await;
    let mut living = Vec::new();
    for (turn, database) in others.iter().enumerate() {
        living.push(tokio::spawn(live(database.clone(), turn, stop.clone())));
    }
    // Whatever has ended has ended long ago, and two nodes see to it.
    let sweeping: Vec<_> = (0..2)
        .map(|_| {
            let (database, stop) = (place.database.clone(), stop.clone());
            tokio::spawn(async move {
                let mut total = 0;
                while !stop.is_cancelled() {
                    sql(
                        &database,
                        "UPDATE conversion SET finished_at = now() - interval '8 days' WHERE id IN (
                             SELECT id FROM conversion WHERE finished_at > now() - interval '7 days'
                             ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED)",
                    )
                    .await;
                    total += expire_all(&database, 7).await;
                }
                total
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(8)).await;
    stop.cancel();
    for living in living {
        living.await.unwrap();
    }
    let mut swept = 0;
    for sweeping in sweeping {
        swept += sweeping.await.unwrap();
    }
    assert!(swept > 20, "{swept}");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(scalar(&place.database, deadlocks).await, 0);
    place.check_counts().await;
    let dangling = scalar(
        &place.database,
        "SELECT (SELECT count(*) FROM asset WHERE kind = 'source'
                 AND NOT EXISTS (SELECT FROM conversion WHERE source_asset_id = asset.id))
             + (SELECT count(*) FROM batch WHERE NOT EXISTS (SELECT FROM conversion WHERE batch_id = batch.id))
             + (SELECT count(*) FROM asset JOIN erasure USING (storage_key))",
    )
    .await;
    assert_eq!(dangling, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_removes_each_conversion_once_whoever_takes_it() {
    let place = Place::new().await;
    let mut old = Vec::new();
    for _ in 0..5 {
        old.extend(place.succeeded("alice", true, 100).await);
    }
    let young = place.succeeded("alice", false, 1).await;
    place.age(&old, 8).await;
    let nodes = join_all((0..3).map(|_| place.world.database())).await;
    let mut total = 0;
    while total < 500 {
        let steps = join_all(
            nodes
                .iter()
                .map(|node| node.expire_conversions(7 * DAY, 40)),
        )
        .await;
        for step in steps {
            if let Expired::Erased(count) = step.unwrap() {
                total += count;
            }
        }
    }
    assert_eq!(total, 500);
    assert_eq!(place.count("conversion").await, 1);
    assert_eq!(seed::all_rows(&place.database).await[0].id, young[0].id);
    assert_eq!(place.count("erasure").await, 500 * 4);
    assert_eq!(expire_all(&place.database, 7).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_by_a_key_stays_refused_after_its_conversion_went() {
    let place = Place::new().await;
    let with_key = || Submission {
        idempotency: Some(orfeas::db::submissions::Idempotency {
            key: "order 1".into(),
            fingerprint: [7; 32],
        }),
        ..seed::submission("alice", Priority::User, true, 1)
    };
    let row = seed::submit(&place.database, with_key())
        .await
        .conversions
        .remove(0);
    let owner = Owner::user("alice");
    place
        .database
        .delete_conversion(Some(&owner), row.id)
        .await
        .unwrap();
    let again = place.database.submit(with_key()).await.unwrap();
    let Admitted::Before(rows) = again else {
        panic!("{again:?}");
    };
    assert!(rows.batch.is_none() && rows.conversions.is_empty());
    // Until the day is over.
    sql(
        &place.database,
        "UPDATE idempotency SET created_at = now() - interval '25 hours'",
    )
    .await;
    seed::submit(&place.database, with_key()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reads_only_what_has_expired() {
    let place = Place::new().await;
    let made = place.succeeded("alice", false, 1).await;
    // Many that ended lately, as rows alone.
    sql(
        &place.database,
        "ALTER TABLE conversion DISABLE TRIGGER USER",
    )
    .await;
    let copy = format!(
        "INSERT INTO conversion (id, owner, priority, source_asset_id, model, options, status, rank, timings, quality,
             attempt, started_at, finished_at)
         SELECT gen_random_uuid(), owner, priority, source_asset_id, model, options, status, rank, timings, quality,
             attempt, started_at, now() - n * interval '1 second'
         FROM conversion, generate_series(1, 20000) n WHERE id = '{}'",
        made[0].id.0
    );
    sql(&place.database, &copy).await;
    sql(
        &place.database,
        "ALTER TABLE conversion ENABLE TRIGGER USER",
    )
    .await;
    sql(&place.database, "UPDATE conversion SET finished_at = now() - interval '8 days' WHERE id IN (SELECT id FROM conversion LIMIT 3)").await;
    sql(&place.database, "ANALYZE conversion").await;
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) SELECT id FROM conversion
             WHERE finished_at < now() - make_interval(secs => 604800) ORDER BY finished_at LIMIT 100",
    ))
    .fetch_all(seed::pool(&place.database))
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(
        plan.contains("Index Scan using conversion_finished"),
        "{plan}"
    );
    assert!(
        plan.contains("rows=3.00") || plan.contains("rows=3 "),
        "{plan}"
    );
    assert!(!plan.contains("Rows Removed"), "{plan}");
    assert_eq!(expire_all(&place.database, 7).await, 3);
}
