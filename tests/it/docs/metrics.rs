//! The table of metrics holds what nodes expose, and nothing else.

use std::collections::BTreeSet;

#[cfg(feature = "torch")]
use orfeas::app::{App, AppOptions};
#[cfg(feature = "torch")]
use serde_json::json;

use super::read;
#[cfg(feature = "torch")]
use crate::harness::{
    self, Node, PROGRAM, World,
    client::{SUBMIT, SUBMIT_BATCH, submission},
    pictures,
};

/// The names in the first column of the table of metrics.
pub(super) fn documented() -> BTreeSet<String> {
    let text = read("docs/OPERATIONS.md");
    let (_, rest) = text.split_once("| metric | |\n").unwrap();
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Names in quotes that begin like a metric's.
fn named_in(source: &str) -> BTreeSet<String> {
    let quoted = source.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| text.starts_with("orfeas_") || text.starts_with("process_"))
        .filter(|text| !text.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// The families of Prometheus' text, with their types.
#[cfg(feature = "torch")]
fn exposed(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_has_what_is_described_and_nothing_that_is_gone() {
    let described = named_in(&read("src/telemetry.rs"));
    assert!(described.len() > 40, "{described:?}");
    let told = documented();
    let untold: Vec<_> = described.difference(&told).collect();
    assert!(
        untold.is_empty(),
        "docs/OPERATIONS.md has no row of {untold:?}"
    );
    let gone: Vec<_> = told.difference(&described).collect();
    assert!(
        gone.is_empty(),
        "docs/OPERATIONS.md tells of metrics that src/telemetry.rs doesn't describe: {gone:?}"
    );
}

#[cfg(feature = "torch")]
#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_node_exposes_is_in_the_table() {
    let world = World::new().await;
    let metrics = harness::metrics();
    let settings = world.settings();
    let engine = harness::engine(&settings).await;
    let options = AppOptions {
        settings,
        program: PROGRAM.into(),
        engine: Some(engine),
        egress: None,
        metrics: Some(metrics),
    };
    let node = Node {
        app: App::start(options).await.unwrap(),
    };
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    assert_eq!(alice.ended(&id).await["status"], "SUCCEEDED");
    let refused = submission(b"no picture", json!({}));
    assert_eq!(alice.refusal(SUBMIT, refused).await, "INVALID_IMAGE");
    let none = json!({ "input": { "images": [{ "base64": "AAAA" }] } });
    alice.run(SUBMIT_BATCH, none).await;
    // A root field of its own name would make a label of its own.
    alice.refusal("{ anything { goes } }", json!({})).await;
    let stranger = harness::client::Client::new(node.app.api.unwrap(), None);
    stranger.refusal("{ viewer { name } }", json!({})).await;

    let url = format!("http://{}/metrics", node.app.metrics.unwrap());
    let mut page = String::new();
    harness::seed::until(
        "the figures of each second and of each heartbeat are there",
        std::time::Duration::from_secs(15),
        async || {
            page = reqwest::get(&url).await.unwrap().text().await.unwrap();
            page.contains("orfeas_database_connections")
                && page.contains("orfeas_queue_conversions")
        },
    )
    .await;
    let (told, exposed) = (documented(), exposed(&page));
    let untold: Vec<_> = exposed.difference(&told).collect();
    assert!(
        untold.is_empty(),
        "docs/OPERATIONS.md has no row of {untold:?}"
    );
    for name in [
        "orfeas_requests_total",
        "orfeas_submitted_batch_images",
        "orfeas_storage_seconds",
        "orfeas_storage_bytes_total",
        "orfeas_storage_free_bytes",
        "orfeas_database_wait_seconds",
        "orfeas_queue_oldest_seconds",
        "orfeas_queue_waiting_conversions",
        "orfeas_device_batch_images_max",
        "orfeas_conversion_seconds",
        "orfeas_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(exposed.contains(name), "{name} is not exposed:\n{page}");
    }
    for line in [
        r#"orfeas_requests_total{key="people",operation="submitConversion",code="OK"}"#,
        r#"orfeas_requests_total{key="people",operation="submitConversion",code="INVALID_IMAGE"}"#,
        r#"orfeas_requests_total{key="people",operation="other",code="GRAPHQL_VALIDATION_FAILED"}"#,
        r#"orfeas_requests_total{key="nobody",operation="other",code="UNAUTHENTICATED"}"#,
    ] {
        assert!(page.contains(line), "{line} is not exposed:\n{page}");
    }
    node.app.stop().await;
}
