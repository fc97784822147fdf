//! What GraphQL itself can be abused for, and browsers.

use std::time::{Duration, Instant};

use orfeas::{
    config::{Role, Settings},
    http::serve::HEAD_MAX,
};
use reqwest::{Method, multipart::Form};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{World, client::Client};

/// Fragments each of which spreads the one before twice: 2^30 selections.
fn doubling() -> String {
    let fragments: String = (1..=30)
        .map(|level| {
            format!(
                " fragment F{level} on Query {{ ...F{0} ...F{0} }}",
                level - 1
            )
        })
        .collect();
    format!("{{ ...F30 }} fragment F0 on Query {{ __typename }}{fragments}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_doubling_documents_leave_health_quick() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let attackers = (0..20).map(|_| {
        let alice = alice.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                assert_eq!(
                    alice.refusal(&doubling(), json!({})).await,
                    "QUERY_TOO_COMPLEX"
                );
            }
        })
    });
    let attackers: Vec<_> = attackers.collect();
    let health = format!("http://{}/healthz", node.app.api.unwrap());
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while asked < 5 || !attackers.iter().all(tokio::task::JoinHandle::is_finished) {
        let started = Instant::now();
        assert_eq!(alice.http.get(&health).send().await.unwrap().status(), 200);
        slowest = slowest.max(started.elapsed());
        asked += 1;
    }
    for attacker in attackers {
        attacker.await.unwrap();
    }
    // One of them, walked by the library, would hold a core for ten seconds.
    assert!(slowest < Duration::from_secs(3), "{slowest:?} of {asked}");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dribbles_the_head_of_a_request_is_closed() {
    let world = World::new().await;
    let node = world.api_node().await;
    let mut stream = TcpStream::connect(node.app.api.unwrap()).await.unwrap();
    let began = Instant::now();
    let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ";
    stream.write_all(head).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dribbling = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let mut answer = Vec::new();
    // Reset, where it sent more than was read.
    let _ = reading.read_to_end(&mut answer).await;
    let took = began.elapsed();
    assert!(took < HEAD_MAX + Duration::from_secs(20), "{took:?}");
    assert!(took >= HEAD_MAX - Duration::from_secs(1), "{took:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    dribbling.abort();
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_was_counted() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let aliases: String = (0..10_000).map(|n| format!(" a{n}:models")).collect();
    let answer = alice.send(&format!("{{{aliases}}}"), json!({})).await;
    assert!(answer.get("data").is_none(), "{answer}");
    let error = &answer["errors"][0];
    assert_eq!(error["extensions"]["code"], "QUERY_TOO_COMPLEX");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("5001 tokens") && message.contains("5000 are allowed"),
        "{message}"
    );
    // Brackets that would overflow the parser's stack.
    for open in ["{a", "{a(b:[", "{a(b:{c:"] {
        let code = alice.refusal(&open.repeat(20_000), json!({})).await;
        assert_eq!(code, "QUERY_TOO_COMPLEX", "{open}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_can_be_told_to_admins_alone() {
    let world = World::new().await;
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_introspection: false,
        ..world.settings()
    };
    let node = world.node_with(settings).await;
    let (alice, root) = (node.client("alice"), node.admin());
    for query in [
        "{ __schema { queryType { name } } }",
        "{ viewer { name } t: __type(name: \"Query\") { name } }",
        "{ ...A } fragment A on Query { ... { __schema { types { name } } } }",
    ] {
        assert_eq!(
            alice.refusal(query, json!({})).await,
            "FORBIDDEN",
            "{query}"
        );
        assert_eq!(
            alice.socket().await.refusal(query, json!({})).await,
            "FORBIDDEN",
            "{query}"
        );
        root.run(query, json!({})).await;
    }
    alice
        .run("{ __typename viewer { __typename name } }", json!({}))
        .await;
    let answer = alice.send("{ viewer { nam } }", json!({})).await;
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(
        !message.contains("name"),
        "a suggestion tells the schema: {message}"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_pages_are_refused_before_they_are_read() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let nobody = Client::new(alice.api, None);
    let form = || {
        let operations = json!({ "query": "{ viewer { name } }" }).to_string();
        Form::new().text("operations", operations).text("map", "{}")
    };
    for (client, header, status) in [
        (&nobody, None, 400),
        (&nobody, Some("1"), 401),
        (&alice, None, 200),
    ] {
        let mut request = client.http.post(client.url()).multipart(form());
        if let Some(token) = &client.token {
            request = request.bearer_auth(token);
        }
        if let Some(value) = header {
            request = request.header("GraphQL-Preflight", value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{header:?}");
        let body: Value = response.json().await.unwrap();
        if status == 400 {
            assert_eq!(body["errors"][0]["extensions"]["code"], "INVALID_INPUT");
            assert!(
                body["errors"][0]["message"]
                    .as_str()
                    .unwrap()
                    .contains("GraphQL-Preflight: 1")
            );
        }
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/graphql",
    ] {
        let request = alice.http.post(alice.url()).header("Content-Type", kind);
        let request = request.bearer_auth(alice.token.as_deref().unwrap());
        assert_eq!(
            request
                .body("{ viewer { name } }")
                .send()
                .await
                .unwrap()
                .status(),
            415,
            "{kind}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_origins_that_were_set_may_call() {
    let world = World::new().await;
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_cors_origins: Some("https://studio.example, http://localhost:5173".into()),
        ..world.settings()
    };
    let node = world.node_with(settings).await;
    let alice = node.client("alice");
    for (origin, is_allowed) in [
        ("https://studio.example", true),
        ("http://localhost:5173", true),
        ("https://elsewhere.example", false),
    ] {
        let preflight = alice
            .http
            .request(Method::OPTIONS, alice.url())
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header(
                "Access-Control-Request-Headers",
                "authorization,content-type,signature",
            );
        let asked = alice
            .http
            .post(alice.url())
            .header("Origin", origin)
            .bearer_auth(alice.token.as_deref().unwrap())
            .json(&json!({ "query": "{ viewer { name } }" }));
        let (preflight, asked) = (preflight.send().await.unwrap(), asked.send().await.unwrap());
        for response in [&preflight, &asked] {
            let allowed = response.headers().get("access-control-allow-origin");
            assert_eq!(
                allowed.is_some_and(|value| value == origin),
                is_allowed,
                "{origin}"
            );
            assert!(
                !response
                    .headers()
                    .contains_key("access-control-allow-credentials")
            );
        }
        let allowed = preflight.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap();
        for header in [
            "authorization",
            "signature-input",
            "content-digest",
            "graphql-preflight",
        ] {
            assert!(allowed.contains(header), "{header} in {allowed}");
        }
        let shown = asked.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap();
        assert!(
            shown.contains("ratelimit-policy") && shown.contains("x-request-id"),
            "{shown}"
        );
    }
    let wrong = Settings {
        orfeas_cors_origins: Some("*".into()),
        ..world.settings()
    };
    let error = wrong.cors_origins().unwrap_err().to_string();
    assert!(error.contains("ORFEAS_CORS_ORIGINS"), "{error}");
    node.app.stop().await;
}
