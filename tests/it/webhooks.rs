//! Webhooks: told in order, signed, tried again, shared by nodes, and to nobody inside.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{Rgba, RgbaImage};
use orfeas::{
    config::Settings,
    conversion::{
        NodeId, Priority,
        webhook::{Event, Hook},
    },
    db::{Database, entities::conversion::Model, submissions::Submission},
    webhook::payload::DOCUMENT,
};
use serde_json::{Value, json};

use self::receiver::{Answer, Receiver, Told};
use crate::harness::{
    Node, World,
    client::{Client, SUBMIT},
    pictures,
    seed::{self, scalar, sql, until},
};

mod keys;
pub mod receiver;
mod refused;
mod retries;
mod sharing;

const PATIENCE: Duration = Duration::from_secs(60);
const CANCEL: &str = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { status } } }";
const REDELIVER: &str =
    "mutation ($id: ID!) { redeliverWebhook(id: $id) { delivery { id status attempts } } }";
const LOG: &str = "query ($first: Int, $after: String, $filter: WebhookDeliveryFilter) {
    webhookDeliveries(first: $first, after: $after, filter: $filter) { pageInfo { hasNextPage endCursor }
        nodes { id event conversionId batchId url host owner status attempts lastStatusCode lastError nextAttemptAt createdAt deliveredAt } } }";

/// Where the receivers are.
const NETWORK: &str = "127.0.0.0/8";

/// Settings of nodes that may call this machine.
fn calling(world: &World) -> Settings {
    Settings {
        orfeas_egress_allow: Some(NETWORK.into()),
        orfeas_role: orfeas::config::Role::Api,
        ..world.settings()
    }
}

async fn node(world: &World) -> Node {
    world.node_with(calling(world)).await
}

/// A picture that is quick to check.
fn picture(red: u8) -> String {
    let picture = RgbaImage::from_pixel(16, 16, Rgba([red, 90, 30, 255]));
    STANDARD.encode(pictures::png(&picture))
}

async fn submit(client: &Client, red: u8, hook: Value) -> String {
    let input = json!({ "input": { "image": { "base64": picture(red) }, "webhook": hook } });
    let data = client.run(SUBMIT, input).await;
    let id = data["submitConversion"]["conversion"]["id"].as_str();
    id.unwrap().to_owned()
}

async fn secret(client: &Client) -> String {
    let data = client.run("{ viewer { webhookSecret } }", json!({})).await;
    data["viewer"]["webhookSecret"].as_str().unwrap().to_owned()
}

/// The log as its owner sees it, newest first.
async fn log(client: &Client, filter: Value) -> Vec<Value> {
    let data = client
        .run(LOG, json!({ "first": 50, "filter": filter }))
        .await;
    data["webhookDeliveries"]["nodes"]
        .as_array()
        .unwrap()
        .clone()
}

/// A submission of a person with a hook, behind the API.
fn hooked(owner: &str, batch: bool, count: i32, hook: &Hook) -> Submission {
    Submission {
        webhook: Some(hook.clone()),
        ..seed::submission(owner, Priority::User, batch, count)
    }
}

async fn claim(database: &Database, count: u32) -> Vec<Model> {
    let claimed = database
        .claim(NodeId::new(), &seed::models(), count)
        .await
        .unwrap();
    assert_eq!(claimed.len(), count as usize);
    claimed
}

async fn succeed(database: &Database, row: &Model) {
    database
        .succeed(
            seed::attempt(row),
            vec![seed::mesh(row)],
            seed::timings(),
            seed::quality(),
        )
        .await
        .unwrap();
}

/// Conversions that have succeeded at once, with a hook each.
async fn succeeded(database: &Database, owner: &str, count: u32, hook: &Hook) {
    for _ in 0..count {
        seed::submit(database, hooked(owner, false, 1, hook)).await;
    }
    for row in claim(database, count).await {
        succeed(database, &row).await;
    }
}

/// Lets nothing that waits for its next attempt have it, until [`due_now`].
async fn hold(database: &Database) {
    sql(
        database,
        "UPDATE webhook_delivery SET next_attempt_at = now() + interval '1 hour' WHERE status = 'pending' AND node_id IS NULL",
    )
    .await;
}

/// Lets everything that waits for its next attempt have it now.
async fn due_now(database: &Database) {
    sql(
        database,
        "UPDATE webhook_delivery SET next_attempt_at = now() WHERE status = 'pending' AND node_id IS NULL",
    )
    .await;
    sql(database, "SELECT pg_notify('orfeas_webhook', '')").await;
}

/// Waits until no attempt is under way and so many deliveries are in this state.
async fn until_status(database: &Database, status: &str, count: i64) {
    let query = format!(
        "SELECT CASE WHEN bool_or(node_id IS NOT NULL) THEN -1 ELSE count(*) FILTER (WHERE status = '{status}') END
         FROM webhook_delivery"
    );
    until(&format!("{count} {status}"), PATIENCE, async || {
        scalar(database, &query).await == count
    })
    .await;
}

/// Without what differs from one moment to another: when links end.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                *field = match field.as_str() {
                    Some(url) if name == "url" => json!(url.split('?').next()),
                    _ => settled(field.take()),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = settled(item.take());
            }
        }
        _ => {}
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_as_graphql_tells_it_and_signed() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::content().await;
    let alice = node.client("alice");
    let id = submit(&alice, 1, receiver.input("/hook?token=t#part")).await;
    succeed(&database, &claim(&database, 1).await[0]).await;

    let told = receiver.until_told(1).await.remove(0);
    assert_eq!(told.event(), "conversion.succeeded");
    assert_eq!(told.path, "/hook");
    assert_eq!(told.header("content-type"), "application/json");
    let owns = secret(&alice).await;
    assert_eq!(told.signed_by(&owns), [true]);
    assert_eq!(told.signed_by(&secret(&node.client("bob")).await), [false]);
    let asked = json!({ "query": DOCUMENT, "operationName": "ConversionWebhook", "variables": { "id": id } });
    let answer = alice.http.post(alice.url()).json(&asked);
    let answer = answer.bearer_auth(alice.token.as_ref().unwrap());
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    let conversion = &answer["data"]["conversion"];
    assert_eq!(
        settled(told.body["data"].clone()),
        settled(conversion.clone())
    );
    assert_eq!(told.body["data"]["status"], "SUCCEEDED");
    assert_eq!(told.body["timestamp"], conversion["finishedAt"]);
    let link = told.body["data"]["outputs"][0]["url"].as_str().unwrap();
    assert!(
        link.contains("/assets/ast_") && link.contains("signature="),
        "{link}"
    );

    until_status(&database, "delivered", 1).await;
    let logged = log(&alice, json!({ "conversion": id })).await;
    assert_eq!(logged.len(), 1);
    let logged = &logged[0];
    assert_eq!(logged["id"], told.id());
    assert_eq!(logged["event"], "CONVERSION_SUCCEEDED");
    assert_eq!(logged["url"], receiver.url("/hook?token=t"));
    assert_eq!(logged["host"], receiver.address.to_string());
    assert_eq!(
        (
            &logged["status"],
            &logged["attempts"],
            &logged["lastStatusCode"]
        ),
        (&json!("DELIVERED"), &json!(1), &json!(204))
    );
    assert!(logged["lastError"].is_null() && logged["nextAttemptAt"].is_null());
    assert!(logged["deliveredAt"].is_string());
    node.app.stop().await;
}

/// The places of what was told, by event and what it is about.
fn place(told: &[Told], event: &str, about: &str) -> usize {
    let is_it = |told: &Told| told.event() == event && told.about() == about;
    told.iter()
        .position(is_it)
        .unwrap_or_else(|| panic!("{event} of {about} was not told"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_first_is_told_first() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    // The first two attempts fail: those at the beginnings.
    let receiver =
        Receiver::start(|_, before| Answer::Status(if before < 2 { 500 } else { 200 })).await;
    let events: Vec<Event> = [Event::ConversionStarted]
        .into_iter()
        .chain(Event::ENDS)
        .collect();
    let hook = receiver.hook("/", &events);
    let rows = seed::submit(&database, hooked("alice", true, 2, &hook)).await;
    let batch = rows.batch.unwrap().id.to_string();
    let claimed = claim(&database, 2).await;
    receiver.until_told(2).await;
    until_status(&database, "pending", 2).await;
    hold(&database).await;
    succeed(&database, &claimed[0]).await;
    // The other goes back to the queue and is taken up anew: it has started already.
    database
        .hand_back(seed::attempt(&claimed[1]))
        .await
        .unwrap();
    claim(&database, 1).await;
    database.cancel(claimed[1].id).await.unwrap();
    let again = orfeas::db::conversions::Attempt {
        conversion: claimed[1].id,
        number: 2,
    };
    database.cancel_attempt(again).await.unwrap();
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM webhook_delivery WHERE status = 'pending' AND attempts = 0"
        )
        .await,
        3,
        "two ends and the batch's wait behind what failed"
    );
    due_now(&database).await;
    let told = receiver.until_told(7).await;
    until_status(&database, "delivered", 5).await;
    let ids: Vec<String> = claimed.iter().map(|row| row.id.to_string()).collect();
    let done = &told[2..];
    for (id, end) in ids
        .iter()
        .zip(["conversion.succeeded", "conversion.canceled"])
    {
        assert!(place(done, "conversion.started", id) < place(done, end, id));
        let first = &told[place(&told, "conversion.started", id)];
        assert_eq!(
            first.id(),
            done[place(done, "conversion.started", id)].id(),
            "one id over all attempts"
        );
    }
    let last = &done[4];
    assert_eq!(
        (last.event(), last.about()),
        ("batch.finished", batch.as_str())
    );
    assert_eq!(last.body["data"]["counts"]["succeeded"], 1);
    assert_eq!(
        last.body["data"]["conversions"][0]["outputs"][0]["format"],
        "GLB"
    );
    let alice = node.client("alice");
    assert_eq!(log(&alice, json!({ "batch": batch })).await.len(), 5);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversion_is_told_no_more_and_may_end_its_batch() {
    let world = World::new().await;
    let database = world.database().await;
    let receiver = Receiver::content().await;
    let node = node(&world).await;
    let alice = node.client("alice");
    let hook = receiver.hook("/", &Event::ENDS);
    let rows = seed::submit(&database, hooked("alice", true, 2, &hook)).await;
    let batch = rows.batch.unwrap().id.to_string();
    let claimed = claim(&database, 1).await;
    succeed(&database, &claimed[0]).await;
    receiver.until_told(1).await;
    let waiting = rows
        .conversions
        .iter()
        .find(|row| row.id != claimed[0].id)
        .unwrap();
    let delete = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
    alice
        .run(delete, json!({ "id": waiting.id.to_string() }))
        .await;
    let told = receiver.until_told(2).await;
    assert_eq!(
        (told[1].event(), told[1].about()),
        ("batch.finished", batch.as_str())
    );
    until_status(&database, "delivered", 2).await;
    // Deleting what had ended tells nobody anything, and takes its line of the log along, and the batch's with its last one.
    alice
        .run(delete, json!({ "id": claimed[0].id.to_string() }))
        .await;
    assert_eq!(log(&alice, json!({})).await.len(), 0);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_belongs_to_its_submission() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::content().await;
    let alice = node.client("alice");

    // The same key with another hook is another submission.
    let input = |path: &str| {
        json!({ "input": { "image": { "base64": picture(7) }, "idempotencyKey": "one",
            "webhook": { "url": receiver.url(path), "events": ["CONVERSION_CANCELED", "CONVERSION_CANCELED"] } } })
    };
    let first = alice.run(SUBMIT, input("/a")).await;
    let again = alice.run(SUBMIT, input("/a")).await;
    assert_eq!(first, again);
    assert_eq!(
        alice.refusal(SUBMIT, input("/b")).await,
        "IDEMPOTENCY_CONFLICT"
    );

    // Told of what was asked for, and of no more; a retry is told to the same.
    let id = first["submitConversion"]["conversion"]["id"].clone();
    alice.run(CANCEL, json!({ "id": id })).await;
    let retry = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }";
    let retried =
        alice.run(retry, json!({ "id": id })).await["retryConversion"]["conversion"]["id"].clone();
    succeed(&database, &claim(&database, 1).await[0]).await;
    let again =
        alice.run(retry, json!({ "id": retried })).await["retryConversion"]["conversion"]["id"]
            .clone();
    alice.run(CANCEL, json!({ "id": again })).await;
    let told = receiver.until_told(2).await;
    let mut about = [told[0].about(), told[1].about()];
    about.sort_unstable();
    let mut canceled = [id.as_str().unwrap(), again.as_str().unwrap()];
    canceled.sort_unstable();
    assert_eq!(about, canceled);
    assert!(
        told.iter()
            .all(|told| told.path == "/a" && told.event() == "conversion.canceled")
    );
    until_status(&database, "delivered", 2).await;
    node.app.stop().await;
}
