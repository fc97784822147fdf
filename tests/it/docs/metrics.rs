//! The table of metrics holds what nodes expose, and nothing else.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::PrometheusBuilder;
#[cfg(feature = "torch")]
use orfeas::app::{App, AppOptions};
use orfeas::telemetry::zeroes;
#[cfg(feature = "torch")]
use serde_json::json;

use super::read;
use crate::harness::{self, fetched::checkout};
#[cfg(feature = "torch")]
use crate::harness::{
    Node, PROGRAM, World,
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

/// What a source records by name: `counter!("…"` and its like.
fn recorded_in(source: &str) -> BTreeSet<String> {
    let kinds = ["counter!(", "gauge!(", "histogram!("];
    let uses = kinds.into_iter().flat_map(|kind| {
        let found = source.match_indices(kind);
        found.map(move |(at, _)| source.split_at(at + kind.len()))
    });
    uses.filter(|(before, _)| {
        !kinds
            .iter()
            .any(|kind| before.ends_with(&format!("describe_{kind}")))
    })
    .filter_map(|(_, after)| after.trim_start().strip_prefix('"')?.split('"').next())
    .map(str::to_owned)
    .collect()
}

/// What all sources record by name.
fn recorded() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![checkout().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(recorded_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    names
}

/// The page of a process to which nothing has happened.
pub(super) fn page_at_the_start() -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, zeroes::begin);
    recorder.handle().render()
}

/// The series of a page, without their values.
fn series(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
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

#[test]
fn the_table_has_what_the_sources_record_and_nothing_else() {
    let (told, recorded) = (documented(), recorded());
    let untold: Vec<_> = recorded.difference(&told).collect();
    assert!(
        untold.is_empty(),
        "docs/OPERATIONS.md has no row of {untold:?}"
    );
    let gone: Vec<_> = told.difference(&recorded).collect();
    assert!(
        gone.is_empty(),
        "docs/OPERATIONS.md tells of metrics that nothing records: {gone:?}"
    );
}

#[test]
fn names_are_found_as_sources_write_them() {
    let source = r#"describe_gauge!("a", "b"); metrics::counter!(
        "c", "d" => "e"); Counted::new(gauge!("f")); counter!(NAME)"#;
    assert_eq!(Vec::from_iter(recorded_in(source)), ["c", "f"]);
}

#[test]
fn a_process_begins_with_the_counters_that_alerts_ask_for() {
    let (begun, process) = (page_at_the_start(), harness::metrics().render());
    let (begun, process) = (series(&begun), series(&process));
    let missing: Vec<_> = begun.difference(&process).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What a page must have after those requests, and that no counter has labels that it didn't begin with.
#[cfg(feature = "torch")]
fn check_labels(page: &str) {
    for line in [
        r#"orfeas_requests_total{key="people",operation="submitConversion",code="OK"}"#,
        r#"orfeas_requests_total{key="people",operation="submitConversion",code="INVALID_IMAGE"}"#,
        r#"orfeas_requests_total{key="people",operation="other",code="GRAPHQL_VALIDATION_FAILED"}"#,
        r#"orfeas_requests_total{key="nobody",operation="other",code="UNAUTHENTICATED"}"#,
    ] {
        assert!(page.contains(line), "{line} is not exposed:\n{page}");
    }
    let begun = page_at_the_start();
    let (names, begun) = (exposed(&begun), series(&begun));
    let late: Vec<_> = series(page)
        .into_iter()
        .filter(|one| {
            let name = one.split('{').next().unwrap_or_default();
            // Keys and codes aren't all known beforehand.
            name != "orfeas_requests_total" && names.contains(name) && !begun.contains(one)
        })
        .collect();
    assert!(late.is_empty(), "src/telemetry/zeroes.rs lacks {late:?}");
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
    check_labels(&page);
    node.app.stop().await;
}
