//! The sub-protocol `graphql-transport-ws`, message by message.

use std::time::{Duration, Instant};

use orfeas::config::{Role, Settings};
use serde_json::{Value, json};

use crate::harness::{Node, World, pictures, socket::Socket};

const FOLLOW: &str = "subscription ($id: ID!) { conversionProgress(id: $id) { sequence } }";
const WATCH: &str = "subscription { queueStatus { paused } }";

fn token(node: &Node, lifetime: Duration) -> String {
    node.app.tokens.issue("alice", &[], lifetime)
}

fn subscribe(id: &str, query: &str) -> Value {
    json!({ "id": id, "type": "subscribe", "payload": { "query": query } })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_too_early_or_wrongly_closes_the_connection() {
    let world = World::new().await;
    let node = world.api_node().await;
    let api = node.app.api.unwrap();
    let text = |value: Value| value.to_string();
    for (what, message, code) in [
        ("no JSON", "rubbish".to_owned(), 4400),
        ("no object", "[]".to_owned(), 4400),
        ("no message", text(json!({ "type": "no-such" })), 4400),
        (
            "a server's message",
            text(json!({ "type": "connection_ack" })),
            4400,
        ),
        (
            "a ping with text",
            text(json!({ "type": "ping", "payload": "text" })),
            4400,
        ),
        (
            "an operation before signing in",
            text(subscribe("1", FOLLOW)),
            4401,
        ),
        ("no token", text(json!({ "type": "connection_init" })), 4403),
        (
            "a bad token",
            text(
                json!({ "type": "connection_init", "payload": { "authorization": "Bearer rubbish" } }),
            ),
            4403,
        ),
        (
            "a heavy message",
            format!("\"{}\"", "x".repeat((1 << 20) - 1)),
            1009,
        ),
    ] {
        let mut socket = Socket::connect(api).await;
        socket.send_text(&message).await;
        assert_eq!(socket.closed().await, Some(code), "{what}");
    }
    let token = token(&node, Duration::from_secs(60));
    for (what, message, code) in [
        (
            "signed in twice",
            json!({ "type": "connection_init" }),
            4429,
        ),
        (
            "no id",
            json!({ "type": "subscribe", "payload": { "query": WATCH } }),
            4400,
        ),
        ("an empty id", subscribe("", WATCH), 4400),
        (
            "no document",
            json!({ "id": "1", "type": "subscribe", "payload": {} }),
            4400,
        ),
        (
            "no payload",
            json!({ "id": "1", "type": "subscribe" }),
            4400,
        ),
        (
            "complete without an id",
            json!({ "type": "complete" }),
            4400,
        ),
    ] {
        let mut socket = Socket::open(api, Some(&token)).await;
        socket.send(message).await;
        assert_eq!(socket.closed().await, Some(code), "{what}");
    }
    let mut socket = Socket::connect(api).await;
    socket.send_binary(&[0xff, 0x00]).await;
    assert_eq!(socket.closed().await, Some(4400), "bytes that are no JSON");
    for (protocol, is_taken) in [
        ("graphql-ws-of-tomorrow", false),
        // The older protocol has no place for tokens that expire.
        ("graphql-ws", false),
        ("graphql-transport-ws", true),
    ] {
        assert_eq!(
            Socket::is_taken(api, protocol).await,
            is_taken,
            "{protocol}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_in_use_until_its_operation_ends() {
    let world = World::new().await;
    let node = world.api_node().await;
    let mut socket = node.admin().socket().await;
    socket.send(subscribe("a", WATCH)).await;
    assert_eq!(socket.message().await["type"], "next");
    socket.send(json!({ "id": "a", "type": "complete" })).await;
    // Free at once, and the end of the first is not echoed.
    socket.send(subscribe("a", WATCH)).await;
    assert_eq!(socket.message().await["type"], "next");
    // What nobody knows may be completed.
    socket
        .send(json!({ "id": "none", "type": "complete" }))
        .await;
    for _ in 0..20 {
        socket.send(subscribe("b", "{ viewer { name } }")).await;
        let (next, complete) = (socket.message().await, socket.message().await);
        assert_eq!(next["payload"]["data"]["viewer"]["name"], "root");
        assert_eq!(complete, json!({ "id": "b", "type": "complete" }));
    }
    socket.send(subscribe("a", WATCH)).await;
    assert_eq!(socket.closed().await, Some(4409));
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_is_an_error_and_the_connection_goes_on() {
    let world = World::new().await;
    let node = world.api_node().await;
    let mut socket = node.client("alice").socket().await;
    let aliases: String = (0..200)
        .map(|n| format!(" a{n}: models {{ name }}"))
        .collect();
    for (document, code) in [
        ("{ viewer {".to_owned(), "GRAPHQL_PARSE_FAILED"),
        (
            "{ viewer { none } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "{ ...A } fragment A on Query { ...A }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "query A { viewer { name } } query B { viewer { name } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (format!("{{ {aliases} }}"), "QUERY_TOO_COMPLEX"),
    ] {
        socket.send(subscribe("1", &document)).await;
        let message = socket.message().await;
        assert_eq!(
            (&message["type"], &message["id"]),
            (&json!("error"), &json!("1")),
            "{message}"
        );
        let errors = message["payload"].as_array().unwrap();
        assert_eq!(errors[0]["extensions"]["code"], code, "{message}");
    }
    // A field's own error is an answer.
    socket.send(subscribe("1", "{ nodes { id } }")).await;
    let message = socket.message().await;
    assert_eq!(message["type"], "next");
    assert_eq!(
        message["payload"]["errors"][0]["extensions"]["code"],
        "FORBIDDEN"
    );
    assert_eq!(socket.message().await["type"], "complete");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_operation_runs_over_the_socket() {
    let world = World::new().await;
    let node = world.api_node().await;
    let root = node.admin();
    let mut socket = root.socket().await;
    for (document, field) in [
        ("{ queue { paused } }", "queue"),
        ("mutation { pauseQueue { paused } }", "pauseQueue"),
    ] {
        socket.send(subscribe("1", document)).await;
        let next = socket.message().await;
        assert!(
            next["payload"]["data"][field]["paused"].is_boolean(),
            "{next}"
        );
        assert_eq!(
            socket.message().await,
            json!({ "id": "1", "type": "complete" })
        );
    }
    // A stream that ends by itself says so, once.
    let id = root.submit(pictures::CHAIR, json!({})).await;
    root.run(
        "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }",
        json!({ "id": id }),
    )
    .await;
    assert_eq!(socket.events(FOLLOW, json!({ "id": id })).await.len(), 1);
    socket.send(json!({ "type": "pong" })).await;
    for payload in [json!({}), json!({ "at": 7 })] {
        socket
            .send(json!({ "type": "ping", "payload": payload }))
            .await;
        assert_eq!(
            socket.message().await,
            json!({ "type": "pong", "payload": payload }),
            "nothing else came"
        );
    }
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.message().await, json!({ "type": "pong" }));
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_hundred_operations() {
    let world = World::new().await;
    let node = world.api_node().await;
    let mut socket = node.admin().socket().await;
    for number in 0..100 {
        socket.send(subscribe(&format!("s{number}"), WATCH)).await;
    }
    for _ in 0..100 {
        assert_eq!(socket.message().await["type"], "next");
    }
    socket.send(subscribe("more", WATCH)).await;
    let message = socket.message().await;
    assert_eq!(
        (&message["type"], &message["id"]),
        (&json!("error"), &json!("more")),
        "{message}"
    );
    assert_eq!(message["payload"][0]["extensions"]["code"], "OVERLOADED");
    socket.send(json!({ "id": "s7", "type": "complete" })).await;
    socket.send(subscribe("more", WATCH)).await;
    assert_eq!(
        socket.message().await["type"],
        "next",
        "there is room again"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_open_no_socket() {
    let world = World::new().await;
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_cors_origins: Some("https://studio.example".into()),
        ..world.settings()
    };
    let node = world.node_with(settings).await;
    let api = node.app.api.unwrap();
    for (origin, status) in [
        ("https://elsewhere.example", 403),
        ("null", 403),
        ("https://studio.example", 101),
        (&format!("http://{api}"), 101),
    ] {
        assert_eq!(Socket::status_from(api, origin).await, status, "{origin}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_socket_is_closed() {
    let world = World::new().await;
    let node = world.api_node().await;
    let opened = Instant::now();
    let mut socket = Socket::connect(node.app.api.unwrap()).await;
    assert_eq!(socket.closed().await, Some(4408));
    assert!(
        (9..20).contains(&opened.elapsed().as_secs()),
        "{:?}",
        opened.elapsed()
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_lives_as_long_as_its_token() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let token = token(&node, Duration::from_secs(3));
    let mut socket = Socket::open(node.app.api.unwrap(), Some(&token)).await;
    socket.subscribe(FOLLOW, json!({ "id": id })).await;
    assert!(socket.event().await.is_some());
    let before = Instant::now();
    assert_eq!(socket.closed().await, Some(4403));
    assert!(before.elapsed() < Duration::from_secs(6));
    node.app.stop().await;
}
