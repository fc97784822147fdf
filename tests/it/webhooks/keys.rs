//! A key's hook, and what a key's end means for what is told.

use super::*;
use crate::harness::agent::Agent;

const UPDATE: &str = "mutation ($input: UpdateApiKeyInput!) { updateApiKey(input: $input) { apiKey { webhook { url events } } } }";

async fn submit_one(agent: &Agent, database: &Database, hook: Option<Value>) -> Model {
    let mut input = json!({ "image": { "base64": picture(3) } });
    if let Some(hook) = hook {
        input["webhook"] = hook;
    }
    agent.run(SUBMIT, json!({ "input": input })).await;
    claim(database, 1).await.remove(0)
}

async fn secret_of(agent: &Agent) -> String {
    let data = agent.run("{ viewer { webhookSecret } }", json!({})).await;
    data["viewer"]["webhookSecret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_hook_is_told_what_has_none_of_its_own() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::content().await;
    let admin = node.admin();
    let agent = Agent::new(
        &admin,
        json!({ "webhook": receiver.input("/key"), "requestsPerMinute": 6000 }),
    )
    .await;

    let row = submit_one(&agent, &database, None).await;
    succeed(&database, &row).await;
    let own = submit_one(&agent, &database, Some(receiver.input("/own"))).await;
    succeed(&database, &own).await;
    let told = receiver.until_told(2).await;
    let by_path = |path: &str| told.iter().find(|told| told.path == path).unwrap();
    assert_eq!(by_path("/key").about(), row.id.to_string());
    assert_eq!(by_path("/own").about(), own.id.to_string());
    let before = secret_of(&agent).await;
    assert!(told.iter().all(|told| told.signed_by(&before) == [true]));
    assert_eq!(told[0].signed_by(&secret(&admin).await), [false]);

    // Until the time of grace is over, both the new secret and the one before check.
    let rotate = "mutation ($id: ID!) { rotateApiKey(id: $id) { secret } }";
    admin.run(rotate, json!({ "id": agent.key })).await;
    let after = secret_of(&agent).await;
    assert_ne!(before, after);
    let row = submit_one(&agent, &database, None).await;
    succeed(&database, &row).await;
    let both = receiver.until_told(3).await.remove(2);
    assert_eq!(both.signed_by(&after), [true, false]);
    assert_eq!(both.signed_by(&before), [false, true]);
    until_status(&database, "delivered", 3).await;

    // Another hook holds for what is under way; none tells nobody.
    let row = submit_one(&agent, &database, None).await;
    let moved = json!({ "id": agent.key, "webhook": { "url": receiver.url("/moved"), "events": ["CONVERSION_SUCCEEDED"] } });
    let moved = admin.run(UPDATE, json!({ "input": moved })).await;
    assert_eq!(
        moved["updateApiKey"]["apiKey"]["webhook"],
        json!({ "url": receiver.url("/moved"), "events": ["CONVERSION_SUCCEEDED"] })
    );
    succeed(&database, &row).await;
    assert_eq!(receiver.until_told(4).await[3].path, "/moved");
    let renamed = admin
        .run(
            UPDATE,
            json!({ "input": { "id": agent.key, "name": "renamed" } }),
        )
        .await;
    assert!(
        renamed["updateApiKey"]["apiKey"]["webhook"].is_object(),
        "what is not named stays"
    );
    let none = admin
        .run(
            UPDATE,
            json!({ "input": { "id": agent.key, "webhook": null } }),
        )
        .await;
    assert!(none["updateApiKey"]["apiKey"]["webhook"].is_null());
    let row = submit_one(&agent, &database, None).await;
    succeed(&database, &row).await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM webhook_delivery").await,
        4
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_told_for_a_key_that_has_ended() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::start(|_, _| Answer::Status(500)).await;
    let admin = node.admin();
    let agent = Agent::new(
        &admin,
        json!({ "webhook": receiver.input("/"), "requestsPerMinute": 6000 }),
    )
    .await;
    let row = submit_one(&agent, &database, Some(receiver.input("/"))).await;
    let other = submit_one(&agent, &database, None).await;
    succeed(&database, &row).await;
    receiver.until_told(1).await;
    until_status(&database, "pending", 1).await;
    let revoke = "mutation ($id: ID!) { revokeApiKey(id: $id) { apiKey { id } } }";
    admin.run(revoke, json!({ "id": agent.key })).await;
    succeed(&database, &other).await;
    due_now(&database).await;
    until_status(&database, "failed", 1).await;
    assert_eq!(receiver.told().len(), 1);
    let logged = log(&admin, json!({})).await;
    assert_eq!(logged.len(), 1, "its hook is none any more");
    assert_eq!(logged[0]["lastError"], "KEY_ENDED");
    node.app.stop().await;
}
