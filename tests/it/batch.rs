//! Batches of conversions.

use serde_json::json;

use crate::harness::{World, pictures};

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_picture_does_not_fail_the_others() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let (batch, items) = alice
        .submit_batch(
            &[pictures::CHAIR, b"no picture", pictures::TRUCK],
            json!({ "resolution": 32 }),
        )
        .await;
    assert_eq!(items[1]["error"]["code"], "INVALID_IMAGE", "{items:#?}");
    assert_eq!(items[1]["error"]["field"], "images.1");
    assert!(items[0]["conversion"]["id"].is_string() && items[2]["conversion"]["id"].is_string());
    let query = "subscription ($id: ID!) { batchProgress(id: $id) { sequence progress counts { succeeded queued running }
        conversions { conversionId status stage } } }";
    let events = alice
        .socket()
        .await
        .events(query, json!({ "id": batch }))
        .await;
    let last = &events.last().unwrap()["batchProgress"];
    assert_eq!(
        (
            last["counts"]["succeeded"].as_i64(),
            last["progress"].as_f64()
        ),
        (Some(2), Some(1.0)),
        "{events:#?}"
    );
    node.app.stop().await;
}
