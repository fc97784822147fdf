//! Notifications are for speed: whatever becomes of them, nothing is lost.

use std::time::{Duration, Instant};

use orfeas::config::Settings;
use serde_json::{Value, json};

use crate::harness::{
    Node, World, pictures,
    proxy::Proxy,
    seed::{self, scalar, until},
};

const BATCH: &str = "subscription ($id: ID!) { batchProgress(id: $id) { sequence counts { succeeded queued running } } }";
const ONE: &str = "subscription ($id: ID!) { conversionProgress(id: $id) { sequence status } }";

/// The answer of `/readyz`.
async fn readiness(node: &Node) -> (u16, String) {
    let url = format!("http://{}/readyz", node.app.api.unwrap());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn is_ready(node: &Node) -> bool {
    readiness(node).await.0 == 200
}

/// The distinct numbers of the transitions that a subscription told of.
fn sequences(events: &[Value], field: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> = events
        .iter()
        .map(|event| event[field]["sequence"].as_i64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    numbers.dedup();
    numbers
}

fn assert_gapless(numbers: &[i64]) {
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a transition was lost: {numbers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_listen_connection_loses_no_transition() {
    let world = World::new().await;
    let node = world.node().await;
    let database = world.database().await;
    let alice = node.client("alice");
    let (batch, _) = alice
        .submit_batch(&pictures::ALL, json!({ "resolution": 64 }))
        .await;
    let cutter = tokio::spawn({
        let database = database.clone();
        async move {
            let mut cuts = 0;
            loop {
                cuts += scalar(
                    &database,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'LISTEN %'",
                )
                .await;
                if scalar(
                    &database,
                    "SELECT count(*) FROM conversion WHERE status IN ('queued', 'running')",
                )
                .await
                    == 0
                {
                    return cuts;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let events = alice
        .socket()
        .await
        .events(BATCH, json!({ "id": batch }))
        .await;
    let last = &events.last().unwrap()["batchProgress"];
    assert_eq!(last["counts"]["succeeded"], 5, "{last}");
    assert_gapless(&sequences(&events, "batchProgress"));
    let cuts = cutter.await.unwrap();
    assert!(cuts >= 1, "nothing was cut");
    until("it listens again", Duration::from_secs(10), async || {
        is_ready(&node).await
    })
    .await;
    seed::check_all(&database).await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fell_silent_is_noticed_and_replaced() {
    let world = World::new().await;
    let proxy = Proxy::new(&world.database_url).await;
    let node = world
        .node_with(Settings {
            database_url: Some(proxy.url.clone()),
            ..world.settings()
        })
        .await;
    until("it listens", Duration::from_secs(10), async || {
        is_ready(&node).await
    })
    .await;

    let cut = Instant::now();
    proxy.cut_listeners();
    until("it notices", Duration::from_secs(15), async || {
        !is_ready(&node).await
    })
    .await;
    let noticed = cut.elapsed();
    assert!(
        noticed > Duration::from_secs(4),
        "{noticed:?}: it was not silence that it noticed"
    );
    let (_, problem) = readiness(&node).await;
    assert!(problem.contains("no notifications are heard"), "{problem}");

    // Deaf as it is, it works: rows are polled.
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    let events = alice.socket().await.events(ONE, json!({ "id": id })).await;
    let last = &events.last().unwrap()["conversionProgress"];
    assert_eq!(last["status"], "SUCCEEDED", "{last}");
    assert_gapless(&sequences(&events, "conversionProgress"));
    assert!(!is_ready(&node).await, "new connections are cut, too");

    proxy.mend();
    until(
        "another connection replaces the dead ones",
        Duration::from_secs(15),
        async || is_ready(&node).await,
    )
    .await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_drops_everybody_fails_nothing() {
    let world = World::new().await;
    let node = world.node().await;
    let database = world.database().await;
    let alice = node.client("alice");
    let (batch, _) = alice
        .submit_batch(&pictures::ALL, json!({ "resolution": 64 }))
        .await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        scalar(
            &database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }
    // The subscription of before would have ended in an error; a new one takes up from there.
    let events = alice
        .socket()
        .await
        .events(BATCH, json!({ "id": batch }))
        .await;
    let last = &events.last().unwrap()["batchProgress"];
    assert_eq!(last["counts"]["succeeded"], 5, "{last}");
    seed::check_all(&database).await;
    node.app.stop().await;
}
