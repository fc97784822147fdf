//! Documents that clients name instead of sending them: automatic persisted queries, and trusted documents.

use std::path::Path;

use orfeas::config::{Role, Settings};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{
    Node, World,
    client::{Client, check_errors},
    events::Events,
};

const VIEWER: &str = "query Who { viewer { name } }";
const MODELS: &str = "query Models { models { name } }";
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn persisted(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash(text) } })
}

fn post(client: &Client, body: &Value) -> RequestBuilder {
    client
        .http
        .post(client.url())
        .bearer_auth(client.token.as_deref().unwrap())
        .json(body)
}

/// The status and the answer of a POST.
async fn send(client: &Client, body: Value) -> (u16, Value) {
    taken(post(client, &body)).await
}

async fn taken(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let answer: Value = response.json().await.unwrap();
    check_errors(&answer);
    (status, answer)
}

fn get(client: &Client, parameters: &[(&str, &str)]) -> RequestBuilder {
    let url = url::Url::parse_with_params(&client.url(), parameters).unwrap();
    client
        .http
        .get(url)
        .bearer_auth(client.token.as_deref().unwrap())
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or_default()
}

fn who() -> Value {
    json!({ "data": { "viewer": { "name": "alice" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_sent_once_and_then_named() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let by_hash = json!({ "extensions": persisted(VIEWER) });
    // What Apollo's and urql's clients look for, each in its place.
    let (status, answer) = send(&alice, by_hash.clone()).await;
    assert_eq!((status, code(&answer)), (200, "PERSISTED_QUERY_NOT_FOUND"));
    assert_eq!(answer["errors"][0]["message"], "PersistedQueryNotFound");
    let request = post(&alice, &by_hash).header("Accept", GRAPHQL_RESPONSE);
    assert_eq!(taken(request).await.0, 400);

    let whole = json!({ "query": VIEWER, "extensions": persisted(VIEWER) });
    assert_eq!(send(&alice, whole).await, (200, who()));
    // From now on, whichever way.
    assert_eq!(send(&alice, by_hash.clone()).await, (200, who()));
    let extensions = persisted(VIEWER).to_string();
    let by_get = get(&alice, &[("extensions", &extensions)]);
    assert_eq!(taken(by_get).await, (200, who()));
    let events = post(&alice, &by_hash).header("Accept", "text/event-stream");
    let answers = Events::of(events.send().await.unwrap()).answers().await;
    assert_eq!(answers, [who()]);
    let mut socket = alice.socket().await;
    socket
        .send(json!({ "id": "1", "type": "subscribe", "payload": by_hash }))
        .await;
    assert_eq!(socket.message().await["payload"], who());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_not_kept() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let aliases: String = (0..200)
        .map(|number| format!(" a{number}: models {{ name }}"))
        .collect();
    for (document, expected) in [
        ("{ viewer {".to_owned(), "GRAPHQL_PARSE_FAILED"),
        (
            "{ viewer { none } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (format!("{{ {aliases} }}"), "QUERY_TOO_COMPLEX"),
    ] {
        let whole = json!({ "query": document, "extensions": persisted(&document) });
        assert_eq!(code(&send(&alice, whole).await.1), expected);
        let named = json!({ "extensions": persisted(&document) });
        let (_, answer) = send(&alice, named).await;
        assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_FOUND", "{document}");
    }
    // Another's hash, and names that are none.
    for body in [
        json!({ "query": MODELS, "extensions": persisted(VIEWER) }),
        json!({ "query": MODELS, "documentId": "x" }),
        json!({ "extensions": { "persistedQuery": { "version": 2, "sha256Hash": hash(MODELS) } } }),
        json!({ "extensions": { "other": 7 } }),
    ] {
        let (status, answer) = send(&alice, body.clone()).await;
        assert_eq!((status, code(&answer)), (400, "INVALID_INPUT"), "{body}");
    }
    // A field's own error is none of the document's.
    let whole = json!({ "query": "{ nodes { id } }", "extensions": persisted("{ nodes { id } }") });
    assert_eq!(code(&send(&alice, whole).await.1), "FORBIDDEN");
    let named = json!({ "extensions": persisted("{ nodes { id } }") });
    assert_eq!(code(&send(&alice, named).await.1), "FORBIDDEN");
    // Strangers neither ask nor leave anything.
    let stranger = alice.http.post(alice.url());
    let request = stranger.json(&json!({ "query": MODELS, "extensions": persisted(MODELS) }));
    assert_eq!(taken(request).await.0, 401);
    let (_, answer) = send(&alice, json!({ "extensions": persisted(MODELS) })).await;
    assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_FOUND");
    node.app.stop().await;
}

async fn strict(world: &World, manifest: &Path) -> Node {
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_trusted_documents: Some(manifest.to_owned()),
        orfeas_trusted_documents_only: true,
        ..world.settings()
    };
    world.node_with(settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_s_documents_and_no_others() {
    let world = World::new().await;
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = folder.path().join("persisted-documents.json");
    std::fs::write(&manifest, json!({ "who-am-i": VIEWER }).to_string()).unwrap();
    let node = strict(&world, &manifest).await;
    let alice = node.client("alice");

    let id = "who-am-i";
    let by_hash = format!("sha256:{}", hash(VIEWER));
    for body in [
        json!({ "documentId": id }),
        json!({ "documentId": by_hash }),
        json!({ "extensions": persisted(VIEWER) }),
        json!({ "query": VIEWER }),
        json!({ "query": "query Who {\n  viewer {\n    name\n  }\n}\n" }),
    ] {
        assert_eq!(send(&alice, body.clone()).await, (200, who()), "{body}");
    }
    let by_get = get(&alice, &[("documentId", id)]);
    assert_eq!(taken(by_get).await, (200, who()));
    let events = get(&alice, &[("documentId", id)]).header("Accept", "text/event-stream");
    let answers = Events::of(events.send().await.unwrap()).answers().await;
    assert_eq!(answers, [who()]);
    let mut socket = alice.socket().await;
    socket
        .send(json!({ "id": "1", "type": "subscribe", "payload": { "documentId": id } }))
        .await;
    assert_eq!(socket.message().await["payload"], who());
    assert_eq!(socket.message().await["type"], "complete");
    socket
        .send(json!({ "id": "2", "type": "subscribe", "payload": { "query": MODELS } }))
        .await;
    let message = socket.message().await;
    assert_eq!(message["payload"][0]["extensions"]["code"], "FORBIDDEN");

    for (body, expected) in [
        (json!({ "query": MODELS }), "FORBIDDEN"),
        (
            json!({ "query": format!("{VIEWER} {MODELS}"), "operationName": "Models" }),
            "FORBIDDEN",
        ),
        (
            json!({ "query": MODELS, "extensions": persisted(MODELS) }),
            "FORBIDDEN",
        ),
        (
            json!({ "extensions": persisted(MODELS) }),
            "PERSISTED_QUERY_NOT_FOUND",
        ),
        (
            json!({ "documentId": "no-such" }),
            "PERSISTED_QUERY_NOT_FOUND",
        ),
    ] {
        let (_, answer) = send(&alice, body.clone()).await;
        assert_eq!(code(&answer), expected, "{body}");
    }
    // The schema has a setting of its own, and admins are held to nothing.
    let (_, answer) = send(
        &alice,
        json!({ "query": "{ __schema { queryType { name } } }" }),
    )
    .await;
    assert_eq!(answer["data"]["__schema"]["queryType"]["name"], "Query");
    let root = node.admin();
    let sent = json!({ "query": MODELS, "extensions": persisted(MODELS) });
    let (_, answer) = send(&root, sent).await;
    assert!(answer["data"]["models"].is_array(), "{answer}");
    // What an admin has made the node keep is nobody else's to run.
    let (_, answer) = send(&alice, json!({ "extensions": persisted(MODELS) })).await;
    assert_eq!(code(&answer), "FORBIDDEN");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_the_schema_has_outgrown_stops_the_start() {
    let world = World::new().await;
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = folder.path().join("persisted-documents.json");
    let documents = json!({ "good": VIEWER, "outgrown": "{ viewer { none } }" });
    std::fs::write(&manifest, documents.to_string()).unwrap();
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_trusted_documents: Some(manifest),
        ..world.settings()
    };
    let Err(error) = world.try_node_with(settings).await else {
        panic!("it started");
    };
    let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        told.contains("ORFEAS_TRUSTED_DOCUMENTS")
            && told.contains("outgrown")
            && told.contains("none"),
        "{told}"
    );
}
