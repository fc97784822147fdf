//! GraphQL over server-sent events, message by message.

use std::time::{Duration, Instant};

use axum::http::Method;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{
    World,
    agent::Agent,
    client::{Client, SUBMIT, check_errors, submission},
    events::Events,
    pictures,
    socket::Received,
};

const FOLLOW: &str = "subscription ($id: ID!, $after: Int) {
    conversionProgress(id: $id, after: $after) { sequence status } }";
const CANCEL: &str = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { status } } }";
const EVENTS: &str = "text/event-stream";

fn post(client: &Client, query: &str, variables: Value) -> RequestBuilder {
    client
        .http
        .post(client.url())
        .bearer_auth(client.token.as_deref().unwrap())
        .header("Accept", EVENTS)
        .json(&json!({ "query": query, "variables": variables }))
}

async fn open(client: &Client, query: &str, variables: Value) -> Events {
    // Events come one by one, whatever the client would unpack.
    let request = post(client, query, variables).header("Accept-Encoding", "gzip, br");
    Events::of(request.send().await.unwrap())
}

fn get(client: &Client, parameters: &[(&str, &str)]) -> RequestBuilder {
    let url = url::Url::parse_with_params(&client.url(), parameters).unwrap();
    client
        .http
        .get(url)
        .bearer_auth(client.token.as_deref().unwrap())
        .header("Accept", EVENTS)
}

/// The status and code of a refusal, which comes as JSON.
async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let media_type = response.headers()["content-type"].to_str().unwrap();
    assert!(media_type.starts_with("application/json"), "{media_type}");
    let body: Value = response.json().await.unwrap();
    check_errors(&body);
    let code = body["errors"][0]["extensions"]["code"].as_str().unwrap();
    (status, code.to_owned())
}

fn states(answers: &[Value]) -> Vec<(i64, &str)> {
    let states = answers.iter().map(|answer| {
        let state = &answer["data"]["conversionProgress"];
        (
            state["sequence"].as_i64().unwrap(),
            state["status"].as_str().unwrap(),
        )
    });
    states.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_is_followed_to_its_end_and_resumed() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let mut events = open(&alice, FOLLOW, json!({ "id": id })).await;
    let first = events.answer().await;
    assert_eq!(states(std::slice::from_ref(&first)), [(1, "QUEUED")]);
    alice.run(CANCEL, json!({ "id": id })).await;
    assert_eq!(states(&events.answers().await), [(2, "CANCELED")]);
    for (after, expected) in [
        (0, &[(1, "QUEUED"), (2, "CANCELED")][..]),
        (1, &[(2, "CANCELED")]),
        (2, &[]),
    ] {
        let mut resumed = open(&alice, FOLLOW, json!({ "id": id, "after": after })).await;
        assert_eq!(states(&resumed.answers().await), expected, "after {after}");
    }
    // By GET, too.
    let variables = json!({ "id": id }).to_string();
    let request = get(&alice, &[("query", FOLLOW), ("variables", &variables)]);
    let mut events = Events::of(request.send().await.unwrap());
    assert_eq!(states(&events.answers().await), [(2, "CANCELED")]);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_operation_has_its_events() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let answers = open(&alice, "{ viewer { name } }", json!({}))
        .await
        .answers()
        .await;
    assert_eq!(
        answers,
        [json!({ "data": { "viewer": { "name": "alice" } } })]
    );
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let answers = open(&alice, CANCEL, json!({ "id": id }))
        .await
        .answers()
        .await;
    assert_eq!(
        answers[0]["data"]["cancelConversion"]["conversion"]["status"],
        "CANCELED"
    );
    // What is wrong with a document is told as an event.
    for (document, code) in [
        ("{ viewer {", "GRAPHQL_PARSE_FAILED"),
        ("{ viewer { none } }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "{ ...A } fragment A on Query { ...A }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "subscription { conversionProgress(id: \"cnv_1\") { status } }",
            "NOT_FOUND",
        ),
        ("subscription { queueStatus { paused } }", "FORBIDDEN"),
        ("{ nodes { id } }", "FORBIDDEN"),
    ] {
        let answers = open(&alice, document, json!({})).await.answers().await;
        assert_eq!(answers.len(), 1, "{document}: {answers:?}");
        assert_eq!(
            answers[0]["errors"][0]["extensions"]["code"], code,
            "{document}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_gets_a_status() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let strangers = alice.http.post(alice.url()).header("Accept", EVENTS);
    let response = strangers.json(&json!({ "query": "{ viewer { name } }" }));
    assert_eq!(
        refusal(response.send().await.unwrap()).await,
        (401, "UNAUTHENTICATED".into())
    );
    let nothing = post(&alice, "", json!({})).json(&json!({ "qeury": "{ viewer { name } }" }));
    assert_eq!(
        refusal(nothing.send().await.unwrap()).await,
        (400, "INVALID_INPUT".into())
    );
    let mutation = get(&alice, &[("query", "mutation { pauseQueue { paused } }")]);
    assert_eq!(
        refusal(mutation.send().await.unwrap()).await,
        (405, "INVALID_INPUT".into())
    );
    // And who takes no events gets no subscription.
    for (accept, status) in [
        ("application/json", 200),
        ("application/graphql-response+json", 400),
    ] {
        let request = alice
            .http
            .post(alice.url())
            .bearer_auth(alice.token.as_deref().unwrap())
            .header("Accept", accept)
            .json(&json!({ "query": "subscription { queueStatus { paused } }" }));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{accept}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(
            body["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED",
            "{body}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lives_as_long_as_its_token() {
    let world = World::new().await;
    let node = world.api_node().await;
    let mut alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    alice.token = Some(node.app.tokens.issue("alice", &[], Duration::from_secs(3)));
    let mut events = open(&alice, FOLLOW, json!({ "id": id })).await;
    let opened = Instant::now();
    let answers = events.answers().await;
    assert!(opened.elapsed() < Duration::from_secs(15));
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(
        answers[1]["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    node.app.stop().await;
}

async fn signed(agent: &Agent, query: &str, variables: Value) -> Response {
    let body = json!({ "query": query, "variables": variables }).to_string();
    let mut signed = agent.sign(Method::POST, agent.url(), Some(body.into()));
    signed.headers.insert("accept", EVENTS.parse().unwrap());
    agent.send(signed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_sign_each_stream_and_are_charged_once_for_it() {
    let world = World::new().await;
    let node = world.api_node().await;
    // One request a minute: an operation that cost two would not be let in.
    let agent = Agent::new(&node.admin(), json!({ "requestsPerMinute": 1 })).await;
    let response = signed(&agent, "{ viewer { owner } }", json!({})).await;
    assert!(response.headers().contains_key("ratelimit"));
    let answers = Events::of(response).answers().await;
    assert!(
        answers[0]["data"]["viewer"]["owner"].is_string(),
        "{answers:?}"
    );
    let response = signed(&agent, "{ viewer { owner } }", json!({})).await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(refusal(response).await, (429, "RATE_LIMITED".into()));
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_s_streams_end() {
    let world = World::new().await;
    let (one, other) = (world.api_node().await, world.api_node().await);
    let agent = Agent::new(&one.admin(), json!({})).await;
    let submit = agent
        .run(SUBMIT, submission(pictures::CHAIR, json!({})))
        .await;
    let id = &submit["submitConversion"]["conversion"]["id"];
    let mut events = Events::of(signed(&agent, FOLLOW, json!({ "id": id })).await);
    assert!(events.answer().await.get("errors").is_none());
    other
        .admin()
        .run(
            "mutation ($id: ID!) { revokeApiKey(id: $id) { apiKey { revokedAt } } }",
            json!({ "id": agent.key.to_string() }),
        )
        .await;
    let answers = events.answers().await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        answers[0]["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    let response = signed(&agent, FOLLOW, json!({ "id": id })).await;
    assert_eq!(refusal(response).await, (401, "UNAUTHENTICATED".into()));
    one.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_lets_go_at_once() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let mut events = open(&alice, FOLLOW, json!({ "id": id })).await;
    events.answer().await;
    let mut socket = alice.socket().await;
    socket.subscribe(FOLLOW, json!({ "id": id })).await;
    assert!(socket.event().await.is_some());
    let followed = async {
        // It breaks off without having said that it is complete: so the client asks again, elsewhere.
        assert_eq!(events.event().await, None);
        match socket.receive().await {
            Received::Closed(code) => assert_eq!(code, Some(1012)),
            message @ Received::Message(_) => panic!("{message:?}"),
        }
    };
    tokio::join!(node.app.stop(), followed);
}
