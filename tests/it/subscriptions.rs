//! Live progress loses nothing, and its sockets keep to the protocol.

use std::time::{Duration, Instant};

use orfeas::conversion::{BatchId, ConversionId};
use rand::RngExt;
use serde_json::{Value, json};

use crate::harness::{World, client::Client, pictures};

mod crowd;
mod cuts;
mod drafts;

const FOLLOW: &str = "subscription ($id: ID!, $after: Int) {
    conversionProgress(id: $id, after: $after) { sequence status stage progress } }";
const FOLLOW_BATCH: &str = "subscription ($id: ID!, $after: Int) { batchProgress(id: $id, after: $after) {
    sequence progress counts { queued running succeeded failed canceled } conversions { conversionId sequence status stage } } }";
const PAUSE: &str = "mutation { pauseQueue { paused } }";
const RESUME: &str = "mutation { resumeQueue { paused } }";

fn is_terminal(state: &Value) -> bool {
    ["SUCCEEDED", "FAILED", "CANCELED"].contains(&state["status"].as_str().unwrap())
}

/// Sequence, status and stage, as the API writes them.
type Step = (i64, String, Option<String>);

fn step(state: &Value) -> Step {
    (
        state["sequence"].as_i64().unwrap(),
        state["status"].as_str().unwrap().to_owned(),
        state["stage"].as_str().map(str::to_owned),
    )
}

/// What the event table holds of a conversion.
async fn table(world: &World, id: &str) -> Vec<Step> {
    let id: ConversionId = id.parse().unwrap();
    let pool = sqlx::PgPool::connect(&world.database_url).await.unwrap();
    let rows: Vec<(i32, String, Option<String>)> = sqlx::query_as(
        "SELECT sequence, upper(status), upper(stage) FROM conversion_event WHERE conversion_id = $1 ORDER BY sequence",
    )
    .bind(id.0)
    .fetch_all(&pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(sequence, status, stage)| (sequence.into(), status, stage))
        .collect()
}

async fn follow(client: &Client, id: &str, after: Option<i64>) -> Vec<Value> {
    let events = client
        .socket()
        .await
        .events(FOLLOW, json!({ "id": id, "after": after }))
        .await;
    events
        .into_iter()
        .map(|mut event| event["conversionProgress"].take())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_with_the_state_now_and_resumes_after_any_transition() {
    let world = World::new().await;
    let node = world.node().await;
    let (alice, root) = (node.client("alice"), node.admin());
    root.run(PAUSE, json!({})).await;
    let id = alice
        .submit(pictures::CHEST, json!({ "resolution": 64 }))
        .await;
    let mut socket = alice.socket().await;
    socket.subscribe(FOLLOW, json!({ "id": id })).await;
    let first = socket.event().await.unwrap()["conversionProgress"].take();
    assert_eq!(
        first,
        json!({ "sequence": 1, "status": "QUEUED", "stage": null, "progress": 0.0 })
    );
    root.run(RESUME, json!({})).await;
    let mut live = vec![first];
    while let Some(mut event) = socket.event().await {
        live.push(event["conversionProgress"].take());
    }
    let stored = table(&world, &id).await;
    let last = stored.len() as i64;
    assert!(last >= 8, "queued, six stages, succeeded: {stored:?}");
    let mut transitions: Vec<Step> = live.iter().map(step).collect();
    transitions.dedup();
    assert_eq!(transitions, stored);
    for after in 0..=last + 1 {
        let steps: Vec<Step> = follow(&alice, &id, Some(after))
            .await
            .iter()
            .map(step)
            .collect();
        let rest: Vec<Step> = stored
            .iter()
            .filter(|step| step.0 > after)
            .cloned()
            .collect();
        assert_eq!(steps, rest, "after {after}");
    }
    let now = follow(&alice, &id, None).await;
    assert_eq!(
        now.iter().map(step).collect::<Vec<_>>(),
        stored[stored.len() - 1..]
    );
    assert_eq!(now[0]["progress"], 1.0);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_resumes_after_any_transition() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let (batch, items) = alice
        .submit_batch(
            &[pictures::CHAIR, pictures::CHEST, pictures::HOUSE],
            json!({ "resolution": 32 }),
        )
        .await;
    let events = |after: Option<i64>| {
        let (alice, batch) = (alice.clone(), batch.clone());
        async move {
            let events = alice
                .socket()
                .await
                .events(FOLLOW_BATCH, json!({ "id": batch, "after": after }))
                .await;
            events
                .into_iter()
                .map(|mut event| event["batchProgress"].take())
                .collect::<Vec<_>>()
        }
    };
    let live = events(None).await;
    assert_eq!(live[0]["conversions"].as_array().unwrap().len(), 3);
    assert!(
        live.iter()
            .map(|event| event["sequence"].as_i64().unwrap())
            .is_sorted()
    );
    assert_eq!(live.last().unwrap()["counts"]["succeeded"], 3, "{live:#?}");
    assert_eq!(live.last().unwrap()["progress"], 1.0);

    let pool = sqlx::PgPool::connect(&world.database_url).await.unwrap();
    let rows: Vec<(i32, uuid::Uuid, i32)> = sqlx::query_as(
        "SELECT batch_sequence, conversion_id, sequence FROM conversion_event WHERE batch_id = $1 ORDER BY batch_sequence",
    )
    .bind(batch.parse::<BatchId>().unwrap().0)
    .fetch_all(&pool)
    .await
    .unwrap();
    let stored: Vec<(i64, String, i64)> = rows
        .into_iter()
        .map(|(number, id, sequence)| {
            (number.into(), ConversionId(id).to_string(), sequence.into())
        })
        .collect();
    let last = stored.len() as i64;
    assert_eq!(
        stored.iter().map(|event| event.0).collect::<Vec<_>>(),
        (1..=last).collect::<Vec<_>>()
    );
    for after in [0, 1, 2, last / 2, last - 1, last, last + 1] {
        let resumed: Vec<(i64, String, i64)> = events(Some(after))
            .await
            .iter()
            .map(|event| {
                let one = &event["conversions"][0];
                assert_eq!(event["conversions"].as_array().unwrap().len(), 1);
                (
                    event["sequence"].as_i64().unwrap(),
                    one["conversionId"].as_str().unwrap().to_owned(),
                    one["sequence"].as_i64().unwrap(),
                )
            })
            .collect();
        let rest: Vec<_> = stored
            .iter()
            .filter(|event| event.0 > after)
            .cloned()
            .collect();
        assert_eq!(resumed, rest, "after {after}");
    }
    // What is deleted leaves gaps in the numbers, and no one waiting for them.
    let delete = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
    alice
        .run(delete, json!({ "id": items[2]["conversion"]["id"] }))
        .await;
    let gone = items[2]["conversion"]["id"].as_str().unwrap();
    let left: Vec<i64> = stored
        .iter()
        .filter(|event| event.1 != gone)
        .map(|event| event.0)
        .collect();
    let resumed = events(Some(0)).await;
    assert_eq!(
        resumed
            .iter()
            .map(|event| event["sequence"].as_i64().unwrap())
            .collect::<Vec<_>>(),
        left
    );
    node.app.stop().await;
}

/// Follows a conversion over sockets that are cut again and again; every event, and how many cuts there were.
async fn follow_with_cuts(client: Client, id: String, cuts: u32) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    for cut in 0..=cuts {
        let after = seen
            .last()
            .map_or(0, |state| state["sequence"].as_i64().unwrap());
        let mut socket = client.socket().await;
        socket
            .subscribe(FOLLOW, json!({ "id": id, "after": after }))
            .await;
        let wait = rand::rng().random_range(5..400);
        let end = if cut < cuts {
            Instant::now() + Duration::from_millis(wait)
        } else {
            Instant::now() + Duration::from_secs(120)
        };
        // The socket is dropped without a word when the time is over.
        while let Ok(Some(mut event)) = tokio::time::timeout_at(end.into(), socket.event()).await {
            seen.push(event["conversionProgress"].take());
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_cuts_lose_nothing_and_repeat_nothing() {
    let world = World::new().await;
    let node = world.node().await;
    let (alice, root) = (node.client("alice"), node.admin());
    root.run(PAUSE, json!({})).await;
    let mut followers = Vec::new();
    for picture in [
        pictures::CHAIR,
        pictures::CHEST,
        pictures::DINNER,
        pictures::HOUSE,
        pictures::TRUCK,
        pictures::CHAIR,
    ] {
        let id = alice.submit(picture, json!({ "resolution": 64 })).await;
        followers.push((
            id.clone(),
            tokio::spawn(follow_with_cuts(alice.clone(), id, 5)),
        ));
    }
    root.run(RESUME, json!({})).await;
    for (id, follower) in followers {
        let seen = follower.await.unwrap();
        // A percentage repeats the transition that it follows; nothing else is ever said twice.
        let mut transitions: Vec<Step> = Vec::new();
        for state in &seen {
            let step = step(state);
            match transitions.last() {
                Some(last) if last.0 == step.0 => {
                    assert_eq!(*last, step);
                    assert_eq!(
                        step.1, "RUNNING",
                        "only running conversions have percentages: {seen:#?}"
                    );
                }
                _ => transitions.push(step),
            }
        }
        assert_eq!(transitions, table(&world, &id).await, "{seen:#?}");
        assert_eq!(seen.iter().filter(|state| is_terminal(state)).count(), 1);
        assert_progress(&seen);
    }
    node.app.stop().await;
}

/// Within an attempt progress never falls; success is all of it.
fn assert_progress(states: &[Value]) {
    let running = states.iter().filter(|state| state["status"] == "RUNNING");
    let progress: Vec<f64> = running
        .map(|state| state["progress"].as_f64().unwrap())
        .collect();
    assert!(progress.is_sorted(), "{progress:?}");
    if let Some(last) = states.last().filter(|state| state["status"] == "SUCCEEDED") {
        assert_eq!(last["progress"], 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn percentages_come_ten_a_second_at_most() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::HOUSE, json!({ "resolution": 192 }))
        .await;
    let mut socket = alice.socket().await;
    socket.subscribe(FOLLOW, json!({ "id": id })).await;
    let mut states: Vec<Value> = Vec::new();
    let mut times = Vec::new();
    while let Some(mut event) = socket.event().await {
        let state = event["conversionProgress"].take();
        if states
            .last()
            .is_some_and(|last| last["sequence"] == state["sequence"])
        {
            times.push(Instant::now());
        }
        states.push(state);
    }
    assert!(
        states
            .last()
            .is_some_and(|last| last["status"] == "SUCCEEDED"),
        "{states:#?}"
    );
    assert!(!times.is_empty(), "no percentage came: {states:#?}");
    assert_progress(&states);
    for (index, time) in times.iter().enumerate() {
        let within = times[index..]
            .iter()
            .take_while(|other| other.duration_since(*time) < Duration::from_secs(1));
        // Two more for the way that messages bunch on a busy machine.
        assert!(within.count() <= 12, "{times:?}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_what_is_deleted_is_not_kept_waiting() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let (batch, items) = alice.submit_batch(&[pictures::CHAIR], json!({})).await;
    let id = items[0]["conversion"]["id"].as_str().unwrap();
    let (mut one, mut all) = (alice.socket().await, alice.socket().await);
    one.subscribe(FOLLOW, json!({ "id": id })).await;
    all.subscribe(FOLLOW_BATCH, json!({ "id": batch })).await;
    assert!(one.event().await.is_some() && all.event().await.is_some());
    alice
        .run(
            "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }",
            json!({ "id": id }),
        )
        .await;
    // At the next look of its own, which is at most ten seconds off.
    let ends = tokio::time::timeout(Duration::from_secs(20), async {
        (one.event().await, all.event().await)
    });
    assert_eq!(ends.await.expect("both end"), (None, None));
    node.app.stop().await;
}
