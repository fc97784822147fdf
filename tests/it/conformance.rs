//! What others think of this server: the audits of `graphql-http`, and the reference clients of both protocols.

use std::{net::SocketAddr, path::PathBuf, process::Output, time::Duration};

use async_graphql::{EmptySubscription, Object, Schema};
use axum::Router;
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command};

use crate::harness::{
    World,
    client::Client,
    fetched::{checkout, fetched, output_of},
    pictures,
};

const RUN_MAX: Duration = Duration::from_secs(120);

/// A script of `.tools/node`; `None` where its packages are missing.
fn script(name: &str, client: &Client) -> Option<Command> {
    let node: PathBuf = fetched(".deps/node/bin/node", "node")?;
    fetched(".deps/node/node_modules/graphql-sse", "node")?;
    let mut command = Command::new(node);
    command
        .arg(checkout().join(".tools/node").join(name))
        .env("ORFEAS_TOKEN", client.token.as_deref().unwrap());
    Some(command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Query;

#[Object]
impl Query {
    async fn hello(&self) -> &str {
        "hello"
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn greet(&self) -> &str {
        "hello"
    }
}

/// async-graphql's own handler for axum, as its documentation puts it up.
async fn stock() -> SocketAddr {
    let schema = Schema::build(Query, Mutation, EmptySubscription).finish();
    let service = async_graphql_axum::GraphQL::new(schema);
    let router = Router::new().route_service("/graphql", service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn every_audit_of_graphql_over_http_passes() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let Some(mut audit) = script("audit-graphql.mjs", &alice) else {
        return;
    };
    audit
        .arg("--json")
        .arg(format!("orfeas={}", alice.url()))
        .arg("yoga")
        .arg(format!(
            "async-graphql-axum=http://{}/graphql",
            stock().await
        ));
    let Output {
        status,
        stdout,
        stderr,
    } = output_of(audit, RUN_MAX).await;
    assert!(status.success(), "{}", text(&stderr));
    let found: Value = serde_json::from_slice(&stdout).unwrap();
    let audits = found["audits"].as_array().unwrap();
    assert_eq!(audits.len(), 61);
    for audit in audits {
        assert_eq!(audit["outcomes"]["orfeas"], "ok", "{audit}");
    }
    let table = found["table"].as_str().unwrap();
    let page = std::fs::read_to_string(checkout().join("docs/GRAPHQL.md")).unwrap();
    assert!(
        page.contains(table),
        "docs/GRAPHQL.md has another table than\n{table}"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_clients_follow_a_conversion() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    alice
        .run(
            "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }",
            json!({ "id": id }),
        )
        .await;
    let document = "subscription ($id: ID!) { conversionProgress(id: $id, after: 0) { status } }";
    for protocol in ["sse", "ws"] {
        let run = async |document: &str, variables: Value| {
            let mut follow = script("follow.mjs", &alice)?;
            follow
                .args([protocol, &alice.url(), document])
                .arg(variables.to_string());
            Some(output_of(follow, RUN_MAX).await)
        };
        let Some(followed) = run(document, json!({ "id": id })).await else {
            return;
        };
        assert!(followed.status.success(), "{protocol}: {followed:?}");
        let answers: Vec<Value> = text(&followed.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let statuses: Vec<&str> = answers
            .iter()
            .map(|answer| {
                answer["data"]["conversionProgress"]["status"]
                    .as_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(statuses, ["QUEUED", "CANCELED"], "{protocol}");

        let queried = run("{ viewer { name } }", json!({})).await.unwrap();
        assert_eq!(
            text(&queried.stdout).trim(),
            r#"{"data":{"viewer":{"name":"alice"}}}"#,
            "{protocol}"
        );
        let refused = run("{ viewer { none } }", json!({})).await.unwrap();
        let told = text(&refused.stdout) + &text(&refused.stderr);
        assert!(
            told.contains("GRAPHQL_VALIDATION_FAILED"),
            "{protocol}: {told}"
        );
    }
    node.app.stop().await;
}
