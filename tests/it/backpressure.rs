//! What a node does when more comes than it can take: the bounded queue, a store and a database that take nothing.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use orfeas::{
    config::{Role, Settings},
    conversion::Priority,
    db::Database,
};
use serde_json::{Value, json};

use crate::harness::{
    Node, World,
    agent::Agent,
    client::{Client, SUBMIT, SUBMIT_BATCH, submission},
    pictures,
    seed::{self, scalar, sql, until},
};

#[cfg(feature = "torch")]
mod database;
mod store;

/// Longer than a node's look at the queue is away.
const LOOK: Duration = Duration::from_secs(5);

/// A node that serves, where so many conversions may wait.
async fn node_with_room(world: &World, queue_max: u32, age_max: u32) -> Node {
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_queue_max: queue_max,
        orfeas_queue_age_max: age_max,
        ..world.settings()
    };
    world.node_with(settings).await
}

fn keyed(key: &str) -> Value {
    json!({ "input": { "image": { "base64": STANDARD.encode(pictures::CHAIR) }, "idempotencyKey": key } })
}

/// The status of health, and its words.
async fn ready(client: &Client) -> (u16, String) {
    let url = format!("http://{}/readyz", client.api);
    let response = client.http.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The extensions of the first error, and what the header says.
async fn refusal(client: &Client, query: &str, variables: Value) -> (Value, Option<u64>) {
    let response = client
        .http
        .post(client.url())
        .bearer_auth(client.token.as_deref().unwrap())
        .json(&json!({ "query": query, "variables": variables }))
        .send()
        .await
        .unwrap();
    let header = response.headers().get("retry-after");
    let header = header.map(|value| value.to_str().unwrap().parse().unwrap());
    let mut answer: Value = response.json().await.unwrap();
    crate::harness::client::check_errors(&answer);
    (answer["errors"][0]["extensions"].take(), header)
}

/// How many files lie in a folder and below.
fn files(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

async fn conversions(database: &Database) -> i64 {
    scalar(database, "SELECT count(*) FROM conversion").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_takes_no_more_stores_nothing_and_says_when() {
    let world = World::new().await;
    let node = node_with_room(&world, 3, 0).await;
    let (alice, database) = (node.client("alice"), world.database().await);
    let first = alice.run(SUBMIT, keyed("first")).await;
    let (_, items) = alice
        .submit_batch(&[pictures::CHAIR, pictures::CHAIR], json!({}))
        .await;
    assert_eq!(items.len(), 2);
    let stored = files(&world.assets.join("sources"));
    assert_eq!(stored, 3);

    let single = submission(pictures::CHAIR, json!({}));
    let batch = json!({ "input": { "images": [{ "base64": STANDARD.encode(pictures::CHAIR) }] } });
    for (query, variables) in [
        (SUBMIT, single.clone()),
        (SUBMIT_BATCH, batch),
        (SUBMIT, keyed("another")),
    ] {
        let (extensions, header) = refusal(&alice, query, variables).await;
        assert_eq!(extensions["code"], "OVERLOADED");
        assert_eq!(extensions["retryable"], true);
        let seconds = extensions["retryAfterSeconds"].as_u64().unwrap();
        assert!((1..=3600).contains(&seconds), "{seconds}");
        assert_eq!(header, Some(seconds));
    }
    // Whoever asks.
    let (extensions, _) = refusal(&node.admin(), SUBMIT, single.clone()).await;
    assert_eq!(extensions["code"], "OVERLOADED");
    let agent = Agent::new(&node.admin(), json!({})).await;
    let response = agent.send(agent.post(SUBMIT, single.clone())).await;
    assert!(response.headers().contains_key("retry-after"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "OVERLOADED");
    // A picture that was sent along before is not read either.
    let broken = submission(b"no picture", json!({}));
    let (extensions, _) = refusal(&alice, SUBMIT, broken).await;
    assert_eq!(extensions["code"], "OVERLOADED");

    assert_eq!(files(&world.assets.join("sources")), stored);
    assert_eq!(conversions(&database).await, 3);
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM idempotency").await,
        1
    );
    // What was let in before is answered.
    let again = alice.run(SUBMIT, keyed("first")).await;
    assert_eq!(
        again["submitConversion"]["conversion"]["id"],
        first["submitConversion"]["conversion"]["id"]
    );
    assert_eq!(conversions(&database).await, 3);

    let id = &first["submitConversion"]["conversion"]["id"];
    let retry = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }";
    let cancel = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { status } } }";
    alice.run(cancel, json!({ "id": id })).await;
    until("there is room again", LOOK, async || {
        alice.send(retry, json!({ "id": id })).await["errors"].is_null()
    })
    .await;
    let (extensions, _) = refusal(&alice, retry, json!({ "id": id })).await;
    assert_eq!(
        extensions["code"], "OVERLOADED",
        "a retry takes room as well"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_one_node_gets_in_to_the_last_place_and_not_beyond() {
    let world = World::new().await;
    let node = node_with_room(&world, 10, 0).await;
    let clients: Vec<Client> = (0..30).map(|n| node.client(&format!("p{n}"))).collect();
    let sent = clients.iter().map(|client| async {
        let answer = client
            .send(SUBMIT, submission(pictures::CHAIR, json!({})))
            .await;
        answer["errors"].is_null()
    });
    let let_in = futures_util::future::join_all(sent).await;
    assert_eq!(let_in.iter().filter(|is_in| **is_in).count(), 10);
    assert_eq!(conversions(&world.database().await).await, 10);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_learn_of_each_other_within_seconds_and_go_beyond_by_no_more_than_that() {
    let world = World::new().await;
    let one = node_with_room(&world, 4, 0).await;
    let other = node_with_room(&world, 4, 0).await;
    let (alice, bob) = (one.client("alice"), other.client("bob"));
    for _ in 0..4 {
        alice.submit(pictures::CHAIR, json!({})).await;
    }
    let mut beyond = 0;
    until("the other node knows", LOOK, async || {
        let answer = bob
            .send(SUBMIT, submission(pictures::CHAIR, json!({})))
            .await;
        beyond += u32::from(answer["errors"].is_null());
        !answer["errors"].is_null()
    })
    .await;
    assert!(beyond <= 4, "a node by itself lets in four: {beyond}");
    for client in [&alice, &bob] {
        let single = submission(pictures::CHAIR, json!({}));
        assert_eq!(client.refusal(SUBMIT, single).await, "OVERLOADED");
    }
    // A node that starts knows before the first client comes.
    let third = node_with_room(&world, 4, 0).await;
    let single = submission(pictures::CHAIR, json!({}));
    let code = third.client("carol").refusal(SUBMIT, single).await;
    assert_eq!(code, "OVERLOADED");
    for node in [one, other, third] {
        node.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_has_waited_too_long_takes_no_more() {
    let world = World::new().await;
    let node = node_with_room(&world, 100, 60).await;
    let (alice, database) = (node.client("alice"), world.database().await);
    alice.submit(pictures::CHAIR, json!({})).await;
    alice.submit(pictures::CHAIR, json!({})).await;
    sql(
        &database,
        "UPDATE conversion SET run_at = now() - interval '61 seconds'",
    )
    .await;
    let single = submission(pictures::CHAIR, json!({}));
    until("the age is seen", LOOK, async || {
        !alice.send(SUBMIT, single.clone()).await["errors"].is_null()
    })
    .await;
    let (extensions, _) = refusal(&alice, SUBMIT, single.clone()).await;
    assert_eq!(extensions["code"], "OVERLOADED");
    sql(&database, "UPDATE conversion SET run_at = now()").await;
    until("it is young again", LOOK, async || {
        alice.send(SUBMIT, single.clone()).await["errors"].is_null()
    })
    .await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figure_tells_depth_age_and_pace_at_the_same_cost_however_much_waits() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    assert_eq!(database.queue_figure(10).await.unwrap().depth, 0);
    let submission = seed::submission("alice", Priority::User, true, 12);
    seed::submit(&database, submission).await;
    let node = orfeas::conversion::NodeId::new();
    for row in database.claim(node, &seed::models(), 4).await.unwrap() {
        let success = seed::success(seed::attempt(&row), vec![seed::mesh(&row)]);
        database.succeed(&success).await.unwrap();
    }
    let figure = database.queue_figure(10).await.unwrap();
    assert_eq!((figure.depth, figure.ended), (8, 4));
    assert!(figure.oldest_seconds.is_some_and(|age| age < 10.0));
    let by_priority = (figure.oldest_user_seconds, figure.oldest_agent_seconds);
    assert_eq!(by_priority, (figure.oldest_seconds, Some(0.0)));
    // Four in the ten seconds that are looked at when nothing has waited longer.
    assert!((figure.seconds_each().unwrap() - 2.5).abs() < 1e-6);

    // Many, most of them beyond the bound.
    sql(
        &database,
        "INSERT INTO conversion (id, owner, priority, source_asset_id, model, options, rank)
         SELECT new_id(), 'user:many', 'user', source_asset_id, model, options, rank + n * interval '1 second'
         FROM (SELECT * FROM conversion LIMIT 1) one, generate_series(1, 20000) n",
    )
    .await;
    sql(&database, "ANALYZE conversion").await;
    let began = std::time::Instant::now();
    let figure = database.queue_figure(10_000).await.unwrap();
    println!("10 000 of 20 000 counted in {:?}", began.elapsed());
    assert_eq!(figure.depth, 11_000, "counted up to the bound and some");
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN SELECT run_at FROM conversion WHERE status = 'queued' ORDER BY rank, id LIMIT 11000",
    )
    .fetch_all(seed::pool(&database))
    .await
    .unwrap();
    assert!(
        plan.iter().any(|line| line.contains("conversion_claim")),
        "{plan:?}"
    );
}
