//! Submitting again what may have been submitted before.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use image::{Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{SUBMIT, SUBMIT_BATCH},
    pictures,
    seed::{scalar, until},
};

/// A picture that is quick to check.
fn small(red: u8) -> Vec<u8> {
    pictures::png(&RgbaImage::from_pixel(16, 16, Rgba([red, 90, 30, 255])))
}

fn single(key: &str, picture: &[u8], options: Value) -> Value {
    json!({ "input": {
        "image": { "base64": STANDARD.encode(picture) }, "options": options, "idempotencyKey": key } })
}

fn batch(key: &str, pictures: &[Vec<u8>]) -> Value {
    let images: Vec<_> = pictures
        .iter()
        .map(|picture| json!({ "base64": STANDARD.encode(picture) }))
        .collect();
    json!({ "input": { "images": images, "idempotencyKey": key } })
}

fn conversion_id(data: &Value) -> String {
    let id = data["submitConversion"]["conversion"]["id"].as_str();
    id.unwrap().to_owned()
}

fn sources_stored(world: &World) -> usize {
    std::fs::read_dir(world.assets.join("sources"))
        .unwrap()
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_a_hundred_times_at_once_is_one_conversion() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.api_node(), world.api_node());
    let clients = [one.client("alice"), other.client("alice")];
    let variables = single("order 1", &small(200), json!({ "resolution": 32 }));
    let answers =
        join_all((0..100).map(|turn| clients[turn % 2].run(SUBMIT, variables.clone()))).await;
    let ids: BTreeSet<String> = answers.iter().map(conversion_id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let database = world.database().await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM conversion").await,
        1
    );
    assert_eq!(
        scalar(&database, "SELECT sum(conversions)::bigint FROM usage_day").await,
        1,
        "and one charge"
    );
    assert_eq!(scalar(&database, "SELECT count(*) FROM asset").await, 1);
    assert_eq!(
        sources_stored(&world),
        1,
        "what was stored for nothing is removed"
    );
    one.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_input_of_one_owner() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let first = single("order 1", &small(1), json!({ "resolution": 32 }));
    let id = conversion_id(&alice.run(SUBMIT, first.clone()).await);
    for (what, other) in [
        (
            "picture",
            single("order 1", &small(2), json!({ "resolution": 32 })),
        ),
        (
            "options",
            single("order 1", &small(1), json!({ "resolution": 33 })),
        ),
    ] {
        let code = alice.refusal(SUBMIT, other).await;
        assert_eq!(code, "IDEMPOTENCY_CONFLICT", "another {what}");
    }
    let code = alice
        .refusal(SUBMIT_BATCH, batch("order 1", &[small(1)]))
        .await;
    assert_eq!(code, "IDEMPOTENCY_CONFLICT", "a batch is no single");
    assert_eq!(id, conversion_id(&alice.run(SUBMIT, first.clone()).await));

    let bobs = conversion_id(&node.client("bob").run(SUBMIT, first.clone()).await);
    assert_ne!(id, bobs, "keys belong to their owner");

    // The stored picture is the same input as the sent one.
    let asset = alice.conversion(&id).await["source"]["id"].take();
    let stored = json!({ "input": { "image": { "assetId": asset }, "options": { "resolution": 32 }, "idempotencyKey": "order 1" } });
    assert_eq!(id, conversion_id(&alice.run(SUBMIT, stored).await));

    for key in ["", &"k".repeat(201)] {
        let code = alice
            .refusal(SUBMIT, single(key, &small(1), json!({})))
            .await;
        assert_eq!(code, "INVALID_INPUT", "{} bytes", key.len());
    }

    // After 24 hours the key is free again.
    let database = world.database().await;
    crate::harness::seed::sql(
        &database,
        "UPDATE idempotency SET created_at = created_at - interval '24 hours 1 second' WHERE owner = 'user:alice'",
    )
    .await;
    let later = conversion_id(
        &alice
            .run(SUBMIT, single("order 1", &small(2), json!({})))
            .await,
    );
    assert_ne!(id, later);
    let code = alice.refusal(SUBMIT, first).await;
    assert_eq!(code, "IDEMPOTENCY_CONFLICT", "the later one has it now");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_is_the_same_batch() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let pictures = [small(1), b"no picture".to_vec(), small(3)];
    let variables = batch("order 1", &pictures);
    let answers = join_all((0..12).map(|_| alice.run(SUBMIT_BATCH, variables.clone()))).await;
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    let items = &answers[0]["submitBatch"]["items"];
    assert_eq!(
        items[1]["error"]["code"], "INVALID_IMAGE",
        "the bad picture is still told of: {items:#}"
    );
    let database = world.database().await;
    for (table, count) in [("batch", 1), ("conversion", 2), ("asset", 2)] {
        let found = scalar(&database, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(found, count, "{table}");
    }
    assert_eq!(sources_stored(&world), 2);
    let other = batch("order 1", &[small(3), b"no picture".to_vec(), small(1)]);
    assert_eq!(
        alice.refusal(SUBMIT_BATCH, other).await,
        "IDEMPOTENCY_CONFLICT",
        "the order counts"
    );

    // One of them is deleted: the others keep their places.
    let delete = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
    alice
        .run(delete, json!({ "id": items[0]["conversion"]["id"] }))
        .await;
    let again = alice.run(SUBMIT_BATCH, variables).await;
    let left = &again["submitBatch"]["items"];
    assert_eq!(left[0]["conversion"], Value::Null, "{left:#}");
    assert_eq!(left[2]["conversion"]["id"], items[2]["conversion"]["id"]);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversion_is_not_made_again_by_its_key() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let variables = single("order 1", &small(1), json!({}));
    let id = conversion_id(&alice.run(SUBMIT, variables.clone()).await);
    alice
        .run(
            "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }",
            json!({ "id": id }),
        )
        .await;
    assert_eq!(alice.refusal(SUBMIT, variables).await, "NOT_FOUND");
    assert_eq!(
        scalar(&world.database().await, "SELECT count(*) FROM conversion").await,
        0
    );
    let patience = std::time::Duration::from_secs(20);
    until("no bytes stay behind", patience, async || {
        sources_stored(&world) == 0
    })
    .await;
    let other = single("order 2", &small(1), json!({}));
    conversion_id(&alice.run(SUBMIT, other).await);
    node.app.stop().await;
}
