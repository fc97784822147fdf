//! `deleteConversion` really deletes.

use orfeas::conversion::{ConversionId, Owner};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{PATIENCE, Place, entries, stored};
use crate::harness::{
    World,
    client::{SUBMIT, SUBMIT_BATCH},
    pictures,
    seed::{self, scalar, until},
};

const DELETE: &str = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";

/// Where any of these texts occurs: the tables' names, one for each column and text. The audit log tells that it was deleted.
async fn mentions(database: &orfeas::db::Database, texts: &[String]) -> Vec<String> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name NOT LIKE 'audit%'",
    )
    .fetch_all(seed::pool(database))
    .await
    .unwrap();
    assert!(columns.len() > 100, "all tables are looked into");
    let mut found = Vec::new();
    for (table, column) in columns {
        for text in texts {
            let query = format!(
                "SELECT count(*) FROM \"{table}\" WHERE position($1 IN \"{column}\"::text) > 0"
            );
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
                .bind(text)
                .fetch_one(seed::pool(database))
                .await
                .unwrap();
            if count > 0 {
                found.push(format!("{table}.{column}: {text}"));
            }
        }
    }
    found
}

/// What a conversion is known by: ids in both forms, file names, the hash and the key of its picture.
fn traces(conversion: &Value) -> Vec<String> {
    let id = conversion["id"].as_str().unwrap();
    let asset = conversion["source"]["id"].as_str().unwrap();
    let mut traces = vec![
        conversion["source"]["sha256"].as_str().unwrap().to_owned(),
        conversion["outputs"][0]["sha256"]
            .as_str()
            .unwrap()
            .to_owned(),
        "hooked.example".to_owned(),
    ];
    for id in [id, asset] {
        let (_, hex) = id.split_once('_').unwrap();
        let dashed = uuid::Uuid::try_parse(hex).unwrap().to_string();
        traces.extend([hex.to_owned(), dashed]);
    }
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_was_deleted() {
    let world = World::new().await;
    let node = world.node().await;
    let database = world.database().await;
    let alice = node.client("alice");
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pictures::CHEST);
    let options = json!({ "resolution": 32 });
    let webhook = json!({ "url": "https://hooked.example/", "events": ["CONVERSION_SUCCEEDED", "BATCH_FINISHED"] });
    let single = json!({ "input": { "image": { "base64": text }, "options": options, "webhook": webhook,
        "idempotencyKey": "single" } });
    let batch = json!({ "input": { "images": [{ "base64": text }], "options": options, "webhook": webhook,
        "idempotencyKey": "batch" } });
    let one =
        alice.run(SUBMIT, single.clone()).await["submitConversion"]["conversion"]["id"].clone();
    let other =
        alice.run(SUBMIT_BATCH, batch.clone()).await["submitBatch"]["items"][0]["conversion"]["id"]
            .clone();
    let query = "query ($id: ID!) { conversion(id: $id) { id status source { id sha256 } outputs { sha256 } } }";
    for id in [&one, &other] {
        let id = id.as_str().unwrap();
        assert_eq!(alice.ended(id).await["status"], "SUCCEEDED");
    }
    assert_eq!(stored(&world).len(), 6);
    let mut texts = Vec::new();
    for id in [&one, &other] {
        let shown = alice.run(query, json!({ "id": id })).await["conversion"].take();
        let own = traces(&shown);
        let found = mentions(&database, &own).await;
        assert!(
            found.len() > 10,
            "the search finds what is there: {found:?}"
        );
        texts.extend(own);
    }
    for id in [&one, &other] {
        alice.run(DELETE, json!({ "id": id })).await;
    }
    // The rows at once, but for the keys that are yet to be erased.
    for table in [
        "conversion",
        "asset",
        "conversion_event",
        "batch",
        "webhook_delivery",
    ] {
        let left = scalar(&database, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 0, "{table}");
    }
    until("the bytes are erased", PATIENCE, async || {
        scalar(&database, "SELECT count(*) FROM erasure").await == 0
    })
    .await;
    assert_eq!(mentions(&database, &texts).await, Vec::<String>::new());
    assert_eq!(stored(&world), Vec::<String>::new());
    assert_eq!(
        entries(&world.assets.join("conversions")),
        Vec::<std::path::PathBuf>::new(),
        "nor a folder of its name"
    );
    let told = scalar(
        &database,
        "SELECT count(*) FROM audit_event WHERE operation = 'deleteConversion' AND outcome = 'OK'",
    )
    .await;
    assert_eq!(told, 2, "that it was deleted is not forgotten");

    // What was deleted is not made again by its key, nor taken for another submission.
    assert_eq!(alice.refusal(SUBMIT, single).await, "NOT_FOUND");
    assert_eq!(alice.refusal(SUBMIT_BATCH, batch).await, "NOT_FOUND");
    assert_eq!(
        alice.refusal(DELETE, json!({ "id": one })).await,
        "NOT_FOUND"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_go_when_it_is_told_and_not_when_it_is_polled() {
    let place = Place::new().await;
    let rows = place.succeeded("alice", false, 1).await;
    let node = place.world.api_node().await;
    let alice = node.client("alice");
    // Whoever only polls needs two seconds more often than not.
    let mut took = Vec::new();
    for row in rows.iter().chain(&place.succeeded("alice", true, 4).await) {
        let id = row.id.to_string();
        alice.run(DELETE, json!({ "id": id })).await;
        let since = std::time::Instant::now();
        until("its bytes are gone", PATIENCE, async || {
            !stored(&place.world).iter().any(|path| path.contains(&id))
        })
        .await;
        took.push(since.elapsed());
    }
    took.sort_unstable();
    assert!(took[2] < std::time::Duration::from_millis(500), "{took:?}");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_stays_with_others_and_a_batch_with_its_rest() {
    let place = Place::new().await;
    let database = &place.database;
    let rows = place.succeeded("alice", true, 2).await;
    let (first, second) = (&rows[0], &rows[1]);
    // Another one by the first one's picture.
    let mut retry = seed::submission("alice", orfeas::conversion::Priority::User, false, 1);
    let source = database
        .asset(first.source_asset_id)
        .await
        .unwrap()
        .unwrap();
    retry.items[0].source = orfeas::db::submissions::Source::Existing(source);
    retry.retry_of = Some(first.id);
    let retried = seed::submit(database, retry).await.conversions.remove(0);

    let delete = async |id: ConversionId| {
        let owner = Owner::user("alice");
        database.delete_conversion(Some(&owner), id).await.unwrap()
    };
    let bob = Owner::user("bob");
    assert!(
        !database
            .delete_conversion(Some(&bob), first.id)
            .await
            .unwrap()
    );
    assert!(delete(first.id).await);
    assert!(!delete(first.id).await, "once");
    assert_eq!(place.count("batch").await, 1);
    assert_eq!(place.count("asset WHERE kind = 'source'").await, 2);
    let left = seed::row(database, retried.id).await;
    assert_eq!(left.retry_of, None);

    // What runs stays.
    let running = database
        .claim(orfeas::conversion::NodeId::new(), &seed::models(), 1)
        .await
        .unwrap();
    assert_eq!(running[0].id, retried.id);
    assert!(!delete(retried.id).await);
    place.succeed(&running[0]).await;

    assert!(delete(second.id).await && delete(retried.id).await);
    for table in ["batch", "asset", "conversion"] {
        assert_eq!(place.count(table).await, 0, "{table}");
    }
    place.check_counts().await;
    // Three meshes and previews, two pictures, three folders.
    assert_eq!(place.eraser().step().await.unwrap(), super::erased(11));
    assert_eq!(place.stored(), Vec::<String>::new());
}
