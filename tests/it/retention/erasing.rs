//! From the rows' end to the bytes' end, whatever happens in between.

use std::time::Duration;

use futures_util::future::join_all;
use orfeas::{conversion::Owner, retention::eraser::Step};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Place, erased};
use crate::harness::{
    World, pictures,
    seed::{self, scalar, sql, until},
};

async fn delete_all(place: &Place) {
    for row in seed::all_rows(&place.database).await {
        let owner = Owner::user("alice");
        assert!(
            place
                .database
                .delete_conversion(Some(&owner), row.id)
                .await
                .unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_between_rows_and_bytes_forgets_nothing() {
    let place = Place::new().await;
    place.succeeded("alice", false, 3).await;
    let before = place.stored();
    assert_eq!(before.len(), 9);
    // Nobody is there to erase.
    delete_all(&place).await;
    assert_eq!(place.stored(), before);
    // One claims it all and is gone.
    let claimed = place.database.claim_erasures(500).await.unwrap();
    assert_eq!(claimed.len(), 12, "nine files, three folders");
    assert_eq!(
        place.eraser().step().await.unwrap(),
        erased(0),
        "its lease holds"
    );
    sql(
        &place.database,
        "UPDATE erasure SET next_attempt_at = now()",
    )
    .await;
    // One deletes, and is gone before it has said so.
    let keys = claimed.into_iter().map(|erasure| erasure.storage_key);
    let some: Vec<String> = keys.take(5).collect();
    assert_eq!(place.storage.remove_all(some, PATIENCE).await.gone.len(), 5);
    // A task that is aborted wherever it is, again and again.
    for _ in 0..20 {
        let running = tokio::spawn(place.eraser().run(CancellationToken::new()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        sql(
            &place.database,
            "UPDATE erasure SET next_attempt_at = now()",
        )
        .await;
    }
    let node = place.world.api_node().await;
    until("all is erased", PATIENCE, async || {
        place.count("erasure").await == 0
    })
    .await;
    assert_eq!(place.stored(), Vec::<String>::new());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_is_asked_again_later() {
    let place = Place::new().await;
    place.succeeded("alice", false, 2).await;
    delete_all(&place).await;
    // What is below can't be reached; the rest can.
    let (folder, away) = (
        place.world.assets.join("conversions"),
        place.world.assets.join("away"),
    );
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, b"no folder").unwrap();
    let step = Step {
        erased: 2,
        failed: 6,
    };
    assert_eq!(place.eraser().step().await.unwrap(), step);
    assert_eq!(
        place.eraser().step().await.unwrap(),
        erased(0),
        "not at once"
    );
    let delay =
        "SELECT (extract(epoch FROM max(next_attempt_at) - now()) * 1000)::bigint FROM erasure";
    let first = scalar(&place.database, delay).await;
    assert!((1_000..=2_500).contains(&first), "{first}");
    for _ in 0..8 {
        sql(
            &place.database,
            "UPDATE erasure SET next_attempt_at = now()",
        )
        .await;
        assert_eq!(place.eraser().step().await.unwrap().failed, 6);
    }
    let last = scalar(&place.database, delay).await;
    assert!((200_000..=375_000).contains(&last), "bounded: {last}");

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    let node = place.world.api_node().await;
    sql(
        &place.database,
        "UPDATE erasure SET next_attempt_at = now() + interval '300 milliseconds'",
    )
    .await;
    until("all is erased", PATIENCE, async || {
        place.count("erasure").await == 0
    })
    .await;
    assert_eq!(place.stored(), Vec::<String>::new());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_erase_at_once_share_the_work() {
    let place = Place::new().await;
    for _ in 0..4 {
        place.succeeded("alice", true, 100).await;
    }
    delete_all(&place).await;
    assert_eq!(place.count("erasure").await, 1_600);
    let erasers = (0..4).map(|_| {
        let eraser = place.eraser();
        tokio::spawn(async move {
            let mut total = 0;
            loop {
                let step = eraser.step().await.unwrap();
                total += step.erased;
                if step == erased(0) {
                    return total;
                }
            }
        })
    });
    let totals: Vec<usize> = join_all(erasers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        totals.iter().sum::<usize>(),
        1_600,
        "each key once: {totals:?}"
    );
    assert_eq!(place.stored(), Vec::<String>::new());
    assert_eq!(place.count("erasure").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_has_stored_in_vain_is_erased() {
    let world = World::new().await;
    let node = world.node().await;
    let database = world.database().await;
    // Called off while the files are written.
    sql(
        &database,
        "CREATE FUNCTION call_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.stage = 'export' THEN NEW.cancel_requested_at := now(); END IF; RETURN NEW; END $$",
    )
    .await;
    sql(
        &database,
        "CREATE TRIGGER call_off BEFORE UPDATE ON conversion FOR EACH ROW EXECUTE FUNCTION call_off()",
    )
    .await;
    // Each insertion is written down, since the eraser is quick.
    sql(&database, "CREATE TABLE noted (storage_key text)").await;
    sql(
        &database,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO noted VALUES (NEW.storage_key); RETURN NEW; END $$",
    )
    .await;
    sql(
        &database,
        "CREATE TRIGGER note BEFORE INSERT ON erasure FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::CHEST, json!({ "resolution": 32 }))
        .await;
    assert_eq!(alice.ended(&id).await["status"], "CANCELED");
    let noted = format!("SELECT count(*) FROM noted WHERE storage_key = 'conversions/{id}/1/'");
    assert_eq!(scalar(&database, &noted).await, 1);
    until("its files are erased", PATIENCE, async || {
        super::stored(&world).len() == 1
    })
    .await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_an_asset_is_never_discarded() {
    let place = Place::new().await;
    let rows = place.succeeded("alice", false, 1).await;
    let attempt = seed::attempt(&rows[0]);
    let folder = format!("conversions/{}/{}", rows[0].id, attempt.number);
    place
        .database
        .discard_attempt(attempt, &folder)
        .await
        .unwrap();
    let keys = seed::mesh(&rows[0]).storage_key;
    assert_eq!(place.database.erase_keys(vec![keys]).await.unwrap(), 0);
    assert_eq!(place.count("erasure").await, 0);

    // Nor does what is to be erased become an asset.
    let submission = seed::submission("alice", orfeas::conversion::Priority::User, false, 1);
    let key = submission.items[0].source.asset().storage_key.clone();
    assert_eq!(place.database.erase_keys(vec![key]).await.unwrap(), 1);
    let refused = place.database.submit(submission).await.unwrap_err();
    let refused = orfeas::error_chain::chain(&refused).to_string();
    assert!(refused.contains("are to be erased"), "{refused}");
    let changed = seed::try_sql(&place.database, "UPDATE asset SET bytes = bytes + 1").await;
    assert!(changed.unwrap_err().to_string().contains("does not change"));
}
