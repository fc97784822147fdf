//! Who may see and do what.

use std::collections::{BTreeMap, BTreeSet};

use async_graphql::parser::{
    parse_schema,
    types::{TypeKind, TypeSystemDefinition},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use orfeas::auth::{
    jwt::Tokens,
    keyring::{KeyUse, Keyring},
};
use serde_json::json;

use crate::harness::{MASTER_KEYS, World, client::Client, client::SUBMIT, pictures};

fn signed(keyring: &Keyring, claims: &serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(keyring.signing(KeyUse::Jwt).expose());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_token_that_counts() {
    let world = World::new().await;
    let node = world.api_node().await;
    let ours: Keyring = MASTER_KEYS.parse().unwrap();
    let theirs: Keyring = format!("x:{}", "ab".repeat(32)).parse().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let unsigned = format!(
        "{}.{}.",
        STANDARD.encode(r#"{"alg":"none"}"#),
        STANDARD.encode(r#"{"sub":"alice","exp":4000000000}"#)
    );
    let headers = [
        None,
        Some("Bearer rubbish".to_owned()),
        Some("Basic YWxpY2U6c2VjcmV0".to_owned()),
        Some("Bearer".to_owned()),
        Some(format!("Bearer {unsigned}")),
        Some(format!(
            "Bearer {}",
            signed(&ours, &json!({ "sub": "alice", "exp": 1_000 }))
        )),
        Some(format!(
            "Bearer {}",
            Tokens::new(&theirs).issue("alice", &["admin".to_owned()], hour)
        )),
    ];
    let client = Client::new(node.app.api.unwrap(), None);
    for header in headers {
        let requests = [
            client
                .http
                .post(client.url())
                .json(&json!({ "query": "{ viewer { name } }" })),
            client.http.get(client.url() + "?query={viewer{name}}"),
        ];
        for mut request in requests {
            if let Some(header) = &header {
                request = request.header("Authorization", header);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{header:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(
                body["errors"][0]["extensions"]["code"], "UNAUTHENTICATED",
                "{body}"
            );
            assert_eq!(body["errors"][0]["extensions"]["retryable"], false);
            assert!(body.get("data").is_none(), "{body}");
        }
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_is_not_there() {
    let world = World::new().await;
    let node = world.api_node().await;
    let (alice, bob, root) = (node.client("alice"), node.client("bob"), node.admin());
    let (batch, items) = alice
        .submit_batch(&[pictures::CHAIR], json!({ "resolution": 32 }))
        .await;
    let id = items[0]["conversion"]["id"].as_str().unwrap();
    let source = alice.conversion(id).await["source"]["id"].clone();
    let ids = json!({ "conversion": id, "batch": batch, "source": source });

    let look = "query ($conversion: ID!, $batch: ID!, $source: ID!) {
        conversion(id: $conversion) { id } batch(id: $batch) { id }
        a: node(id: $conversion) { id } b: node(id: $batch) { id } c: node(id: $source) { id }
        conversions { nodes { id } } }";
    let seen = bob.run(look, ids.clone()).await;
    for name in ["conversion", "batch", "a", "b", "c"] {
        assert!(seen[name].is_null(), "{seen:#}");
    }
    assert_eq!(seen["conversions"]["nodes"], json!([]));
    for who in [&alice, &root] {
        let seen = who.run(look, ids.clone()).await;
        for (name, key) in [
            ("conversion", "conversion"),
            ("batch", "batch"),
            ("a", "conversion"),
            ("b", "batch"),
            ("c", "source"),
        ] {
            assert_eq!(seen[name]["id"], ids[key], "{seen:#}");
        }
        assert_eq!(seen["conversions"]["nodes"][0]["id"], id);
    }

    let attempts = [
        (
            "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }",
            id,
        ),
        (
            "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }",
            id,
        ),
        (
            "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }",
            id,
        ),
        (
            "mutation ($id: ID!) { cancelBatch(id: $id) { batch { id } } }",
            batch.as_str(),
        ),
    ];
    for (mutation, id) in attempts {
        let before = bob.refusal(mutation, json!({ "id": id })).await;
        assert_eq!(before, "NOT_FOUND", "{mutation}");
        // The same words for what never was, or the difference would tell.
        let never = id.replace(|digit: char| digit.is_ascii_digit(), "0");
        assert_eq!(
            bob.send(mutation, json!({ "id": id })).await["errors"][0]["message"],
            bob.send(mutation, json!({ "id": never })).await["errors"][0]["message"]
        );
    }
    let input = json!({ "input": { "image": { "assetId": ids["source"] } } });
    assert_eq!(bob.refusal(SUBMIT, input).await, "NOT_FOUND");
    for (query, id) in [
        (
            "subscription ($id: ID!) { conversionProgress(id: $id) { sequence } }",
            id,
        ),
        (
            "subscription ($id: ID!) { batchProgress(id: $id) { sequence } }",
            batch.as_str(),
        ),
    ] {
        let refusal = bob.socket().await.refusal(query, json!({ "id": id })).await;
        assert_eq!(refusal, "NOT_FOUND");
    }
    assert_eq!(
        alice.conversion(id).await["status"],
        "QUEUED",
        "nothing has happened to it"
    );
    let canceled = root.run(attempts[0].0, json!({ "id": id })).await;
    assert_eq!(canceled["cancelConversion"]["conversion"]["id"], id);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_fields_are_for_operators() {
    let world = World::new().await;
    let node = world.api_node().await;
    let (alice, root) = (node.client("alice"), node.admin());
    for query in [
        "{ nodes { id } }",
        "mutation { pauseQueue { paused } }",
        "mutation { resumeQueue { paused } }",
    ] {
        assert_eq!(
            alice.refusal(query, json!({})).await,
            "FORBIDDEN",
            "{query}"
        );
        root.run(query, json!({})).await;
    }
    let query = "subscription { queueStatus { paused queued } }";
    assert_eq!(
        alice.socket().await.refusal(query, json!({})).await,
        "FORBIDDEN"
    );
    let mut socket = root.socket().await;
    socket.subscribe(query, json!({})).await;
    assert_eq!(
        socket.event().await.unwrap()["queueStatus"],
        json!({ "paused": false, "queued": 0 })
    );
    node.app.stop().await;
}

/// The object types of the schema, each with its fields.
fn objects() -> BTreeMap<String, Vec<String>> {
    let document = parse_schema(orfeas::graphql::sdl()).unwrap();
    let mut found = BTreeMap::new();
    for definition in document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else {
            continue;
        };
        if let TypeKind::Object(object) = definition.node.kind {
            let fields = object.fields.iter();
            let names = fields.map(|field| field.node.name.node.to_string());
            found.insert(definition.node.name.node.to_string(), names.collect());
        }
    }
    found
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        if letter.is_uppercase() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
        snake
    })
}

#[test]
fn every_root_field_has_a_guard() {
    let objects = objects();
    let mutation = concat!(
        include_str!("../../src/graphql/mutation.rs"),
        include_str!("../../src/graphql/keys.rs"),
        include_str!("../../src/graphql/webhooks.rs")
    );
    let roots = [
        ("Query", include_str!("../../src/graphql/query.rs")),
        ("Mutation", mutation),
        (
            "Subscription",
            include_str!("../../src/graphql/subscription.rs"),
        ),
    ];
    let mut unguarded = BTreeSet::new();
    let mut count = 0;
    for (root, source) in roots {
        for field in &objects[root] {
            count += 1;
            let function = format!("    async fn {}(", snake(field));
            let (before, _) = source
                .split_once(&function)
                .unwrap_or_else(|| panic!("{root}.{field} is not where this test looks for it"));
            // What stands between the end of the field before and this one's name.
            let attributes = before
                .rsplit_once("\n    }\n")
                .map_or(before, |(_, own)| own);
            if !attributes.contains("guard = \"Require(Permission::") {
                unguarded.insert(field.as_str());
            }
        }
    }
    assert!(count >= 25, "only {count} root fields were found");
    assert_eq!(
        unguarded,
        BTreeSet::from(["models", "viewer"]),
        "a root field takes a permission, or is named here on purpose"
    );
}

/// Fields below the roots have no guard of their own: what they show belongs to a row that a root field has let the caller
/// see. A new one fails this test until somebody has thought about that and has written it into the list.
#[test]
fn every_field_without_a_guard_is_known() {
    let below = objects()
        .into_iter()
        .filter(|(name, _)| !["Query", "Mutation", "Subscription"].contains(&name.as_str()));
    let found: BTreeSet<String> = below
        .flat_map(|(name, fields)| {
            fields
                .into_iter()
                .map(move |field| format!("{name}.{field}"))
        })
        .collect();
    let known: BTreeSet<String> = include_str!("access/unguarded.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        found.symmetric_difference(&known).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "new or gone: is what it shows the caller's own, whichever way it is reached? Then write it into unguarded.txt"
    );
}
