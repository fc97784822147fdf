//! What did not arrive is tried again, for a day, and can be sent again on demand.

use super::*;

/// Seconds until the next attempt at the delivery to this path.
async fn wait_of(database: &Database, path: &str) -> i64 {
    scalar(
        database,
        &format!("SELECT round(extract(epoch FROM next_attempt_at - now()))::bigint FROM webhook_delivery WHERE url LIKE '%{path}'"),
    )
    .await
}

fn logged<'a>(log: &'a [Value], path: &str) -> &'a Value {
    let is_it = |line: &&Value| line["url"].as_str().unwrap().ends_with(path);
    log.iter().find(is_it).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_fails_is_repeated_as_the_receiver_wants() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::start(|told, before| match (told.path.as_str(), before) {
        ("/flaky", 0) => Answer::Status(500),
        ("/flaky", 1) => Answer::Elsewhere("/other"),
        ("/busy", 0) => Answer::Later(503, 3000),
        ("/gone", _) => Answer::Status(410),
        ("/never", _) => Answer::Status(404),
        _ => Answer::Status(200),
    })
    .await;
    for path in ["/flaky", "/busy", "/gone", "/never"] {
        succeeded(&database, "alice", 1, &receiver.hook(path, &Event::ENDS)).await;
    }
    receiver.until_told(4).await;
    until_status(&database, "pending", 3).await;
    // Told a moment ago, at the most a slow machine's minute.
    assert!(
        (2400..=3000).contains(&wait_of(&database, "/busy").await),
        "as asked"
    );
    assert!(
        wait_of(&database, "/flaky").await <= 5,
        "the first of the schedule"
    );
    hold(&database).await;
    let alice = node.client("alice");
    let first = log(&alice, json!({})).await;
    let gone = logged(&first, "/gone");
    assert_eq!(
        (&gone["status"], &gone["lastError"], &gone["lastStatusCode"]),
        (&json!("FAILED"), &json!("GONE"), &json!(410))
    );
    let flaky = logged(&first, "/flaky");
    assert_eq!(
        (
            &flaky["status"],
            &flaky["lastError"],
            &flaky["lastStatusCode"]
        ),
        (&json!("PENDING"), &json!("REFUSED"), &json!(500))
    );
    assert!(flaky["nextAttemptAt"].is_string());
    due_now(&database).await;
    receiver.until_told(7).await;
    until_status(&database, "delivered", 1).await;
    let second = log(&alice, json!({ "status": ["PENDING"] })).await;
    assert_eq!(second.len(), 2, "{second:#?}");
    assert_eq!(logged(&second, "/flaky")["lastError"], "REDIRECTED");
    assert!(
        (60..=300).contains(&wait_of(&database, "/flaky").await),
        "the second of the schedule"
    );

    // A day after its first attempt nothing is tried again.
    sql(
        &database,
        "UPDATE webhook_delivery SET give_up_at = now() WHERE url LIKE '%/never'",
    )
    .await;
    due_now(&database).await;
    let told = receiver.until_told(9).await;
    until_status(&database, "delivered", 2).await;
    until_status(&database, "failed", 2).await;
    assert!(
        told.iter().all(|told| told.path != "/other"),
        "redirections are not followed"
    );
    let owns = secret(&alice).await;
    for path in ["/flaky", "/busy", "/never"] {
        let attempts: Vec<&Told> = told.iter().filter(|told| told.path == path).collect();
        assert!(attempts.len() >= 2);
        assert!(
            attempts
                .iter()
                .all(|told| told.id() == attempts[0].id() && told.signed_by(&owns) == [true])
        );
        assert!(
            attempts
                .iter()
                .all(|told| told.body["timestamp"] == attempts[0].body["timestamp"])
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_sent_again_on_demand_and_forgotten_in_the_end() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver =
        Receiver::start(|_, before| Answer::Status(if before == 0 { 410 } else { 200 })).await;
    succeeded(&database, "alice", 1, &receiver.hook("/", &Event::ENDS)).await;
    until_status(&database, "failed", 1).await;
    let alice = node.client("alice");
    let id = log(&alice, json!({})).await[0]["id"].clone();
    for turn in 2..=3 {
        let again = alice.run(REDELIVER, json!({ "id": id })).await;
        assert_eq!(again["redeliverWebhook"]["delivery"]["id"], id);
        let told = receiver.until_told(turn).await;
        assert_eq!(told[turn - 1].id(), id.as_str().unwrap());
        until_status(&database, "delivered", 1).await;
        assert_eq!(log(&alice, json!({})).await[0]["attempts"], turn);
    }
    // What waits is not sent twice.
    sql(&database, "UPDATE webhook_delivery SET status = 'pending', delivered_at = NULL, next_attempt_at = now() + interval '1 hour'").await;
    assert_eq!(
        alice.refusal(REDELIVER, json!({ "id": id })).await,
        "NOT_FOUND"
    );
    sql(
        &database,
        "UPDATE webhook_delivery SET created_at = now() - interval '31 days'",
    )
    .await;
    database.forget_used().await.unwrap();
    assert_eq!(
        log(&alice, json!({})).await.len(),
        1,
        "what waits is never forgotten"
    );
    sql(&database, "UPDATE webhook_delivery SET status = 'failed', last_error = 'refused', next_attempt_at = NULL").await;
    database.forget_used().await.unwrap();
    assert_eq!(log(&alice, json!({})).await.len(), 0);
    node.app.stop().await;
}
