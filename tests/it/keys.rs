//! Keys from their making to their end, and what each may do.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use orfeas::config::{Role, Settings};
use serde_json::{Value, json};

use crate::harness::{
    World,
    agent::Agent,
    client::{Client, SUBMIT, SUBMIT_BATCH, submission},
    pictures,
    seed::{scalar, sql},
};

mod ring;

const WHO: &str = "{ viewer { owner permissions quota { requestsPerMinute requestsRemaining conversionsAtOnce conversionsActive
    conversionsPerDay conversionsToday imagesPerBatch } } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_listed_changed_rotated_and_revoked() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.api_node(), world.api_node());
    let admin = one.admin();
    let wishes = json!({ "name": "robot", "permissions": ["READ"], "requestsPerMinute": 600, "conversionsAtOnce": 3, "imagesPerBatch": 2 });
    let agent = Agent::new(&admin, wishes).await;
    let far = agent.at(other.app.api.unwrap());
    let viewer = far.run(WHO, json!({})).await;
    assert_eq!(viewer["viewer"]["permissions"], json!(["READ"]));
    let mut quota = viewer["viewer"]["quota"].clone();
    // The request itself, unless a tenth of a second has passed since it was charged.
    let remaining = quota["requestsRemaining"].take();
    assert!(
        [59, 60].contains(&remaining.as_i64().unwrap()),
        "{remaining}"
    );
    assert_eq!(
        quota,
        json!({ "requestsPerMinute": 600, "requestsRemaining": null, "conversionsAtOnce": 3, "conversionsActive": 0,
            "conversionsPerDay": 10_000, "conversionsToday": 0, "imagesPerBatch": 2 })
    );

    let list = "{ apiKeys(first: 5) { nodes { id name permissions generation revokedAt lastUsedAt createdBy quotas { requestsPerMinute } } } }";
    let listed = admin.run(list, json!({})).await;
    let listed = &listed["apiKeys"]["nodes"];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], agent.key.as_str());
    assert_eq!(listed[0]["createdBy"], "user:root");
    assert!(listed[0]["lastUsedAt"].is_string(), "{listed:#}");
    assert!(
        !listed.to_string().contains("ofs_"),
        "no secret is ever shown again"
    );

    // A change ends what was let in before it, and is in force at once, on the other node too, whose copy is fresh.
    let mut before = far.socket().await;
    let change = "mutation ($input: UpdateApiKeyInput!) { updateApiKey(input: $input) { apiKey { permissions quotas { conversionsAtOnce } } } }";
    let changed = admin
        .run(change, json!({ "input": { "id": agent.key, "permissions": ["READ", "SUBMIT"], "conversionsAtOnce": null } }))
        .await;
    assert_eq!(
        changed["updateApiKey"]["apiKey"]["quotas"]["conversionsAtOnce"],
        Value::Null
    );
    let viewer = far.run(WHO, json!({})).await;
    assert_eq!(viewer["viewer"]["permissions"], json!(["SUBMIT", "READ"]));
    assert_eq!(before.closed().await, Some(4403));

    // Both secrets work for the grace period, then the new one alone.
    let rotate = "mutation ($id: ID!) { rotateApiKey(id: $id) { secret apiKey { generation previousSecretWorksUntil } } }";
    let rotated = admin.run(rotate, json!({ "id": agent.key })).await;
    assert_eq!(rotated["rotateApiKey"]["apiKey"]["generation"], 2);
    let new = Agent {
        secret: rotated["rotateApiKey"]["secret"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        ..far.clone()
    };
    // The far node has a copy of the key without the new secret; it hears of the change.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for agent in [&new, &far, &agent] {
        agent.run(WHO, json!({})).await;
    }
    let database = world.database().await;
    sql(
        &database,
        "UPDATE api_key SET previous_until = now() - interval '1 second'",
    )
    .await;
    assert_eq!(
        far.refusal(WHO, json!({})).await,
        (401, "UNAUTHENTICATED".into())
    );
    new.run(WHO, json!({})).await;

    // Over a connection programs ask and follow; they change nothing there.
    let mut socket = new.socket().await;
    let events = socket.events("{ viewer { owner } }", json!({})).await;
    assert_eq!(events[0]["viewer"]["owner"], format!("key:{}", agent.key));
    let refusal = socket
        .refusal(
            "mutation { cancelConversion(id: \"x\") { conversion { id } } }",
            json!({}),
        )
        .await;
    assert_eq!(refusal, "FORBIDDEN");

    // Revoked: at once over HTTP, and a connection is closed within a second.
    let revoke = "mutation ($id: ID!) { revokeApiKey(id: $id) { apiKey { revokedAt } } }";
    let revoked = admin.run(revoke, json!({ "id": agent.key })).await;
    assert!(revoked["revokeApiKey"]["apiKey"]["revokedAt"].is_string());
    let since = Instant::now();
    assert_eq!(
        new.refusal(WHO, json!({})).await,
        (401, "UNAUTHENTICATED".into())
    );
    assert_eq!(socket.closed().await, Some(4403));
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
    for mutation in [rotate, revoke] {
        admin.send(mutation, json!({ "id": agent.key })).await;
    }
    assert_eq!(
        admin.refusal(rotate, json!({ "id": agent.key })).await,
        "NOT_FOUND"
    );
    assert_eq!(new.refusal(WHO, json!({})).await.0, 401, "for good");
    check_audit(&admin, &agent).await;
    one.app.stop().await;
    other.app.stop().await;
}

/// All of it is in the audit log, with what it was about.
async fn check_audit(admin: &Client, agent: &Agent) {
    let query = "query ($filter: AuditFilter) { auditEvents(first: 50, filter: $filter) {
        nodes { operation outcome actor address details { name value } } } }";
    let filter = json!({ "filter": { "kind": ["MUTATION"] } });
    let events = admin.run(query, filter).await;
    let events = events["auditEvents"]["nodes"].as_array().unwrap();
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    for (operation, outcome) in [
        ("createApiKey", "OK"),
        ("updateApiKey", "OK"),
        ("rotateApiKey", "OK"),
        ("revokeApiKey", "OK"),
        ("rotateApiKey", "NOT_FOUND"),
    ] {
        let found = events.iter().any(|event| {
            text(event, "operation") == operation && text(event, "outcome") == outcome
        });
        assert!(found, "{operation} {outcome}: {events:#?}");
    }
    let mut created = events
        .iter()
        .filter(|event| event["operation"] == "createApiKey");
    let created = created.next().unwrap();
    assert_eq!(created["actor"], "user:root");
    assert_eq!(created["address"], "127.0.0.1");
    let key = json!({ "name": "key", "value": agent.key });
    assert!(
        created["details"].as_array().unwrap().contains(&key),
        "{created:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_it_was_given() {
    let world = World::new().await;
    let node = world.api_node().await;
    let admin = node.admin();
    let id = json!({ "id": "cnv_00000000000000000000000000000000" });
    let picture = submission(pictures::CHAIR, json!({ "resolution": 32 }));
    let batch = json!({ "input": { "images": [{ "base64": STANDARD.encode(pictures::CHAIR) }], "options": { "resolution": 32 } } });
    let actions = [
        ("SUBMIT", SUBMIT, picture),
        ("BATCH", SUBMIT_BATCH, batch),
        (
            "READ",
            "query ($id: ID!) { conversion(id: $id) { id } }",
            id.clone(),
        ),
        (
            "CANCEL",
            "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }",
            id,
        ),
        ("ADMIN", "{ apiKeys { nodes { id } } }", json!({})),
    ];
    for permission in ["SUBMIT", "BATCH", "READ", "CANCEL", "ADMIN"] {
        let agent = Agent::new(
            &admin,
            json!({ "permissions": [permission], "requestsPerMinute": 1000 }),
        )
        .await;
        for (needed, document, variables) in &actions {
            let (_, answer) = agent.ask(document, variables.clone()).await;
            let code = answer["errors"][0]["extensions"]["code"]
                .as_str()
                .unwrap_or("OK");
            let may = *needed == permission || permission == "ADMIN";
            assert_eq!(code != "FORBIDDEN", may, "{permission} {needed}: {code}");
        }
    }
    let alice = node.client("alice");
    for document in [
        "mutation { createApiKey(input: { name: \"x\" }) { secret } }",
        "mutation { revokeApiKey(id: \"x\") { apiKey { id } } }",
        "{ apiKeys { nodes { id } } }",
        "{ auditEvents { nodes { id } } }",
    ] {
        assert_eq!(
            alice.refusal(document, json!({})).await,
            "FORBIDDEN",
            "{document}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_wishes_are_refused_by_name() {
    let world = World::new().await;
    let node = world.api_node().await;
    let admin = node.admin();
    let create = crate::harness::agent::CREATE;
    for (field, input) in [
        ("name", json!({ "name": " " })),
        ("permissions", json!({ "name": "x", "permissions": [] })),
        (
            "requestsPerMinute",
            json!({ "name": "x", "requestsPerMinute": 0 }),
        ),
        (
            "conversionsAtOnce",
            json!({ "name": "x", "conversionsAtOnce": 0 }),
        ),
        (
            "imagesPerBatch",
            json!({ "name": "x", "imagesPerBatch": 257 }),
        ),
        (
            "allowedNetworks",
            json!({ "name": "x", "allowedNetworks": ["10.0.0.0/40"] }),
        ),
        (
            "allowedNetworks",
            json!({ "name": "x", "allowedNetworks": [] }),
        ),
        (
            "expiresAt",
            json!({ "name": "x", "expiresAt": "2020-01-01T00:00:00Z" }),
        ),
    ] {
        let answer = admin.send(create, json!({ "input": input })).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], "INVALID_INPUT", "{answer:#}");
        assert_eq!(extensions["field"], field, "{answer:#}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_held_to_its_networks_and_its_end() {
    let world = World::new().await;
    let node = world.api_node().await;
    let admin = node.admin();
    let home = Agent::new(&admin, json!({ "allowedNetworks": ["127.0.0.0/8", "::1"] })).await;
    home.run(WHO, json!({})).await;
    let away = Agent::new(&admin, json!({ "allowedNetworks": ["192.0.2.0/24"] })).await;
    assert_eq!(
        away.refusal(WHO, json!({})).await,
        (403, "FORBIDDEN".into())
    );
    let soon = (time::OffsetDateTime::now_utc() + Duration::from_secs(3600))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let ending = Agent::new(&admin, json!({ "expiresAt": soon })).await;
    ending.run(WHO, json!({})).await;
    let database = world.database().await;
    sql(
        &database,
        "UPDATE api_key SET expires_at = now() WHERE expires_at IS NOT NULL",
    )
    .await;
    assert_eq!(
        ending.refusal(WHO, json!({})).await,
        (401, "UNAUTHENTICATED".into())
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_again() {
    let world = World::new().await;
    let node = world.api_node().await;
    // One at a time, every five seconds.
    let agent = Agent::new(&node.admin(), json!({ "requestsPerMinute": 12 })).await;
    agent.run(WHO, json!({})).await;
    let response = agent.send(agent.post(WHO, json!({}))).await;
    assert_eq!(response.status(), 429);
    let header: u64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        response.headers()["ratelimit"]
            .to_str()
            .unwrap()
            .contains("r=0")
    );
    let body: Value = response.json().await.unwrap();
    let extensions = &body["errors"][0]["extensions"];
    assert_eq!(
        (
            extensions["code"].as_str(),
            extensions["retryable"].as_bool()
        ),
        (Some("RATE_LIMITED"), Some(true))
    );
    assert_eq!(extensions["retryAfterSeconds"], header);
    assert!((1..=5).contains(&header));
    tokio::time::sleep(Duration::from_secs(header)).await;
    agent.run(WHO, json!({})).await;

    // People are counted by what they submit, refused before anything is executed.
    let few = world
        .node_with(Settings {
            orfeas_role: Role::Api,
            user_max_requests_per_minute: 2,
            ..world.settings()
        })
        .await;
    let bob = few.client("bob");
    for _ in 0..2 {
        bob.submit(pictures::CHAIR, json!({ "resolution": 32 }))
            .await;
    }
    let request = bob
        .http
        .post(bob.url())
        .bearer_auth(bob.token.as_ref().unwrap());
    let body = json!({ "query": SUBMIT, "variables": submission(pictures::CHAIR, json!({})) });
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 429);
    bob.run("{ viewer { name } }", json!({})).await;
    few.app.stop().await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_conversions_are_told_and_kept() {
    let world = World::new().await;
    let node = world.api_node().await;
    let admin = node.admin();
    let wishes = json!({ "conversionsAtOnce": 2, "conversionsPerDay": 3, "imagesPerBatch": 2, "requestsPerMinute": 1000 });
    let agent = Agent::new(&admin, wishes).await;
    let batch = |count: usize| {
        let image = json!({ "base64": STANDARD.encode(pictures::CHAIR) });
        json!({ "input": { "images": vec![image; count], "options": { "resolution": 32 } } })
    };
    let refused = async |count: usize| {
        let (status, answer) = agent.ask(SUBMIT_BATCH, batch(count)).await;
        let extensions = answer["errors"][0]["extensions"].clone();
        assert_eq!(
            (status, extensions["code"].as_str()),
            (200, Some("QUOTA_EXCEEDED")),
            "{answer:#}"
        );
        extensions
    };
    assert_eq!(refused(3).await["field"], "images");
    let data = agent.run(SUBMIT_BATCH, batch(2)).await;
    let ids: Vec<String> = data["submitBatch"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["conversion"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(refused(1).await["retryAfterSeconds"].is_u64());
    // Run, so that its cancelling gives nothing back.
    let database = world.database().await;
    sql(&database, "UPDATE conversion SET attempt = attempt + 1, status = 'running', stage = 'mesh', started_at = now(),
        node_id = gen_random_uuid(), lease_until = now() + interval '1 hour'").await;
    for id in &ids {
        let cancel = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }";
        agent.run(cancel, json!({ "id": id })).await;
    }
    sql(&database, "UPDATE conversion SET status = 'canceled', stage = NULL, node_id = NULL, lease_until = NULL, finished_at = now()").await;
    let seen = agent
        .run(
            "query ($id: ID!) { conversion(id: $id) { status progress } }",
            json!({ "id": ids[0] }),
        )
        .await;
    let progress = seen["conversion"]["progress"].as_f64().unwrap();
    assert!(
        (0.84..0.86).contains(&progress),
        "as far as it had come: {progress}"
    );
    agent.run(SUBMIT_BATCH, batch(1)).await;
    let day_is_over = refused(1).await;
    assert!(day_is_over["retryAfterSeconds"].as_u64().unwrap() <= 86_400);
    let viewer = agent.run(WHO, json!({})).await;
    assert_eq!(viewer["viewer"]["quota"]["conversionsToday"], 3);
    assert_eq!(viewer["viewer"]["quota"]["conversionsActive"], 1);
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM conversion").await,
        3
    );
    node.app.stop().await;
}
