//! Signed requests, over HTTP, at a server that runs.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::harness::{
    World,
    agent::{Agent, Signed},
    seed::{scalar, until},
};

/// What is done to the header of a request that was signed.
type Change = Box<dyn Fn(&mut HeaderMap)>;

const WHO: &str = "{ viewer { owner name priority permissions } }";

async fn code(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    // What never reaches the API is answered in plain words.
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let code = body["errors"][0]["extensions"]["code"].as_str();
    (status, code.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_let_in_as_its_key() {
    let world = World::new().await;
    let node = world.api_node().await;
    let agent = Agent::new(&node.admin(), json!({ "name": "robot" })).await;
    let response = agent.send(agent.post(WHO, json!({}))).await;
    assert_eq!(response.status(), 200);
    let policy = response.headers()["ratelimit-policy"].to_str().unwrap();
    assert_eq!(policy, "\"requests\";q=100;w=60");
    let limit = response.headers()["ratelimit"].to_str().unwrap();
    assert!(limit.starts_with("\"requests\";r=9;t="), "{limit}");
    let body: Value = response.json().await.unwrap();
    let viewer = &body["data"]["viewer"];
    assert_eq!(viewer["owner"], format!("key:{}", agent.key));
    assert_eq!(viewer["name"], "robot");
    assert_eq!(viewer["priority"], "AGENT");
    assert_eq!(
        viewer["permissions"],
        json!(["SUBMIT", "BATCH", "READ", "CANCEL"])
    );

    // A query by GET, with the query string signed.
    let mut url = agent.url();
    url.query_pairs_mut()
        .append_pair("query", "{viewer{owner}}");
    let response = agent.send(agent.sign(Method::GET, url, None)).await;
    assert_eq!(response.status(), 200);

    // Where nobody lets programs in, none comes in.
    let closed = world
        .node_with(orfeas::config::Settings {
            orfeas_role: orfeas::config::Role::Api,
            enable_agent_api: false,
            ..world.settings()
        })
        .await;
    let refused = agent
        .at(closed.app.api.unwrap())
        .refusal(WHO, json!({}))
        .await;
    assert_eq!(refused, (401, "UNAUTHENTICATED".to_owned()));
    closed.app.stop().await;
    node.app.stop().await;
}

/// Every way to change one byte of a text, one bit each.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len()).map(|place| {
        let mut flipped = bytes.to_vec();
        flipped[place] ^= 1;
        flipped
    })
}

/// The request with a header's value changed, where the change leaves it a value.
fn with_header(signed: &Signed, name: &str, value: &[u8]) -> Option<Signed> {
    let mut changed = signed.clone();
    let name: axum::http::HeaderName = name.parse().unwrap();
    changed
        .headers
        .insert(name, HeaderValue::from_bytes(value).ok()?);
    Some(changed)
}

/// Each flip of every byte of everything that is signed.
fn forgeries(signed: &Signed) -> Vec<Signed> {
    let mut forged = Vec::new();
    for method in flips(signed.method.as_str().as_bytes()) {
        if let Ok(method) = Method::from_bytes(&method) {
            forged.push(Signed {
                method,
                ..signed.clone()
            });
        }
    }
    for path in flips(signed.url.path().as_bytes()) {
        if let Ok(path) = String::from_utf8(path) {
            let mut url = signed.url.clone();
            url.set_path(&path);
            if url.path() != signed.url.path() {
                forged.push(Signed {
                    url,
                    ..signed.clone()
                });
            }
        }
    }
    for query in flips(signed.url.query().unwrap_or_default().as_bytes()) {
        let mut url = signed.url.clone();
        url.set_query(Some(&String::from_utf8(query).unwrap()));
        if url.query() != signed.url.query() {
            forged.push(Signed {
                url,
                ..signed.clone()
            });
        }
    }
    for name in ["content-digest", "signature"] {
        if let Some(value) = signed.headers.get(name) {
            forged.extend(
                flips(value.as_bytes()).filter_map(|value| with_header(signed, name, &value)),
            );
        }
    }
    if let Some(body) = &signed.body {
        forged.extend(flips(body).map(|body| Signed {
            body: Some(body),
            ..signed.clone()
        }));
    }
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_byte_is_changed_nothing_is_executed() {
    let world = World::new().await;
    let node = world.api_node().await;
    let admin = node.admin();
    let wishes = json!({ "permissions": ["ADMIN"], "requestsPerMinute": 1_000_000 });
    let agent = Agent::new(&admin, wishes).await;
    let database = world.database().await;
    let paused = async || scalar(&database, "SELECT paused::int::int8 FROM queue_control").await;
    // If one of these got through, the queue would stand still.
    let mut url = agent.url();
    url.set_query(Some("trace=1"));
    let body = json!({ "query": "mutation { pauseQueue { paused } }" }).to_string();
    let good = agent.sign(Method::POST, url, Some(body.into()));
    let (mut tried, mut reached) = (0, 0);
    for forged in forgeries(&good) {
        tried += 1;
        // Paths and methods that lead elsewhere find nothing there.
        let at_graphql = forged.url.path() == "/graphql";
        let known_method = [Method::GET, Method::POST, Method::OPTIONS].contains(&forged.method);
        let (status, code) = code(agent.send(forged.clone()).await).await;
        if at_graphql && known_method {
            reached += 1;
            assert_eq!(
                (status, code.as_str()),
                (401, "UNAUTHENTICATED"),
                "{forged:?}"
            );
        } else {
            assert!(status == 404 || status == 405, "{status} {forged:?}");
        }
    }
    assert!(tried > 150 && reached > 140, "{tried} {reached}");
    assert_eq!(paused().await, 0, "one of them was executed");
    // Each left a trace: the first sixty one by one, the rest counted.
    let traces = "SELECT coalesce(sum(count), 0)::int8 FROM audit_event WHERE outcome = 'UNAUTHENTICATED' AND key_id IS NOT NULL";
    until(
        "every refusal is in the audit log",
        Duration::from_secs(70),
        async || scalar(&database, traces).await == reached,
    )
    .await;
    // What was not touched works, once.
    let response = agent.send(good.clone()).await;
    assert_eq!(response.status(), 200, "{:?}", response.text().await);
    assert_eq!(paused().await, 1);
    assert_eq!(
        code(agent.send(good).await).await,
        (401, "UNAUTHENTICATED".to_owned())
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_refused_at_every_node() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.api_node(), world.api_node());
    let agent = Agent::new(&one.admin(), json!({})).await;
    let signed = agent.post(WHO, json!({}));
    assert_eq!(agent.send(signed.clone()).await.status(), 200);
    let mut elsewhere = signed.clone();
    elsewhere
        .url
        .set_port(Some(other.app.api.unwrap().port()))
        .unwrap();
    for replay in [signed.clone(), elsewhere.clone(), elsewhere, signed] {
        assert_eq!(
            code(agent.send(replay).await).await,
            (401, "UNAUTHENTICATED".to_owned())
        );
    }
    one.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_may_be_five_minutes_off_and_no_more() {
    let world = World::new().await;
    let node = world.api_node().await;
    let agent = Agent::new(&node.admin(), json!({ "requestsPerMinute": 1000 })).await;
    let at = async |seconds: i64| {
        let created = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let body = json!({ "query": WHO }).to_string();
        let signed = agent.sign_at(created, Method::POST, agent.url(), Some(body.into()));
        agent.send(signed).await.status().as_u16()
    };
    for seconds in [-299, 0, 299] {
        assert_eq!(at(seconds).await, 200, "{seconds}");
    }
    // One second more than 301 ahead: `created` is in whole seconds, and one may pass on the way.
    for seconds in [-301, 302, -100_000, 100_000] {
        assert_eq!(at(seconds).await, 401, "{seconds}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_leave_something_open_are_refused() {
    let world = World::new().await;
    let node = world.api_node().await;
    let agent = Agent::new(&node.admin(), json!({ "requestsPerMinute": 1000 })).await;
    let refused = async |change: &dyn Fn(&mut HeaderMap)| {
        let mut signed = agent.post(WHO, json!({}));
        change(&mut signed.headers);
        code(agent.send(signed).await).await
    };
    let expected = (401, "UNAUTHENTICATED".to_owned());
    let input = |from: &'static str, to: &'static str| {
        move |headers: &mut HeaderMap| {
            let value = headers["signature-input"].to_str().unwrap();
            assert!(value.contains(from), "{value}");
            let value = value.replace(from, to);
            headers.insert("signature-input", value.parse().unwrap());
        }
    };
    let changes: Vec<(&str, Change)> = vec![
        (
            "no digest covered",
            Box::new(input(" \"content-digest\"", "")),
        ),
        ("no method covered", Box::new(input("\"@method\" ", ""))),
        ("no path covered", Box::new(input("\"@path\" ", ""))),
        (
            "an unknown component",
            Box::new(input("\"@path\"", "\"@path\" \"@moon\"")),
        ),
        (
            "another algorithm",
            Box::new(input("hmac-sha256", "hmac-sha512")),
        ),
        ("no nonce", Box::new(input(";nonce=", ";tag="))),
        ("no time", Box::new(input(";created=", ";expires="))),
        (
            "a mistyped key",
            Box::new(input(";keyid=\"ofk_", ";keyid=\"ofk_0")),
        ),
        (
            "half a signature",
            Box::new(|headers| drop(headers.remove("signature"))),
        ),
        (
            "the other half",
            Box::new(|headers| drop(headers.remove("signature-input"))),
        ),
        (
            "no digest",
            Box::new(|headers| drop(headers.remove("content-digest"))),
        ),
        (
            "two digests",
            Box::new(|headers| {
                let value = headers["content-digest"].clone();
                headers.append("content-digest", value);
            }),
        ),
        (
            "two signatures",
            Box::new(|headers| {
                let value = headers["signature"].clone();
                headers.append("signature", value);
            }),
        ),
        (
            "a token, too",
            Box::new(|headers| {
                headers.insert("authorization", "Bearer x".parse().unwrap());
            }),
        ),
    ];
    for (what, change) in changes {
        assert_eq!(refused(change.as_ref()).await, expected, "{what}");
    }
    node.app.stop().await;
}
