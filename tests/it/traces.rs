//! Traces and request ids: from a client's request through the queue and the model's passes to the webhook, over two
//! nodes.

use std::{fs, path::Path, time::Duration};

use orfeas::{
    config::{Role, Settings},
    conversion::{NodeId, provenance::Provenance},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::collector::{Collector, Span};
use crate::{
    harness::{
        World,
        client::{Client, SUBMIT, submission},
        pictures,
        process::NodeProcess,
        seed::{self, until},
    },
    webhooks::receiver::Receiver,
};

mod collector;

const PATIENCE: Duration = Duration::from_secs(90);
/// Of the client's spans: a trace each, and the span in it that the request is sent from.
const TRACES: [&str; 2] = [
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "0af7651916cd43dd8448eb211c80319c",
];
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// Variables of nodes of these tests.
fn variables<'a>(name: &'a str, collector: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut variables = vec![
        ("ORFEAS_LOG", "info,orfeas=debug,tower_http=debug"),
        ("ORFEAS_LOG_JSON", "true"),
        ("ORFEAS_EGRESS_ALLOW", "127.0.0.0/8"),
        ("OTEL_SERVICE_NAME", name),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    variables.extend(collector.map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url)));
    variables
}

fn start(world: &World, role: Role, log: &Path, variables: &[(&str, &str)]) -> NodeProcess {
    let settings = Settings {
        orfeas_role: role,
        ..world.settings()
    };
    NodeProcess::start_with(settings, variables, fs::File::create(log).unwrap().into())
}

/// Stops a node in good order, so that it sends its last spans.
fn stop(mut node: NodeProcess) {
    node.signal(Signal::TERM);
    assert!(node.wait().success());
}

/// The lines of a log.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Submits a picture as part of a trace, and returns the conversion's id.
async fn submit(client: &Client, request: &str, trace: &str, receiver: &Receiver) -> String {
    let mut variables = submission(pictures::CHAIR, json!({ "resolution": 32 }));
    variables["input"]["webhook"] =
        json!({ "url": receiver.url("/hook"), "events": ["CONVERSION_SUCCEEDED"] });
    let answer = client
        .http
        .post(client.url())
        .bearer_auth(client.token.as_ref().unwrap())
        .header("x-request-id", request)
        .header("traceparent", format!("00-{trace}-{CLIENT_SPAN}-01"))
        .header("tracestate", "vendor=a")
        .json(&json!({ "query": SUBMIT, "variables": variables }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], request);
    let answer: Value = answer.json().await.unwrap();
    let id = answer["data"]["submitConversion"]["conversion"]["id"].as_str();
    id.unwrap_or_else(|| panic!("{answer:#}")).to_owned()
}

/// The one span of a trace with this name.
fn one<'a>(spans: &'a [Span], trace: &str, name: &str) -> &'a Span {
    let found: Vec<_> = spans
        .iter()
        .filter(|span| span.trace == trace && span.name == name)
        .collect();
    assert_eq!(found.len(), 1, "{name} in {:#?}", names(spans));
    found[0]
}

fn names(spans: &[Span]) -> Vec<(&str, &str)> {
    let names = spans.iter();
    names
        .map(|span| (span.trace.as_str(), span.name.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_client_to_the_passes_and_the_webhook() {
    let world = World::new().await;
    let database = world.database().await;
    let (collector, receiver) = (Collector::start().await, Receiver::content().await);
    let logs = tempfile::tempdir().unwrap();
    let (front_log, worker_log) = (logs.path().join("front"), logs.path().join("worker"));
    let url = collector.url();
    let front = start(
        &world,
        Role::Api,
        &front_log,
        &variables("front", Some(&url)),
    );
    let alice = world.client(front.api, "alice");
    let first = submit(&alice, "first-request", TRACES[0], &receiver).await;
    // A node that nobody hears of again has it: what the worker makes is a second attempt.
    let ghost = NodeId::new();
    assert_eq!(
        database
            .claim(ghost, &seed::models(), 1)
            .await
            .unwrap()
            .len(),
        1
    );
    seed::end_leases(&database).await;
    let second = submit(&alice, "second-request", TRACES[1], &receiver).await;
    let worker = start(
        &world,
        Role::Worker,
        &worker_log,
        &variables("worker", Some(&url)),
    );
    for id in [&first, &second] {
        assert_eq!(alice.ended(id).await["status"], "SUCCEEDED");
    }
    let told = receiver.until_told(2).await;
    stop(worker);
    stop(front);

    let spans = collector.spans();
    for (id, trace, attempt, request_id) in [
        (&first, TRACES[0], "2", "first-request"),
        (&second, TRACES[1], "1", "second-request"),
    ] {
        let request = one(&spans, trace, "mutation submitConversion");
        assert_eq!(request.parent, CLIENT_SPAN);
        assert_eq!(
            (request.service.as_str(), request.state.as_str()),
            ("front", "vendor=a")
        );
        assert_eq!(request.attributes["request.id"], request_id);
        assert_eq!(request.attributes["http.response.status_code"], "200");
        assert_eq!(request.kind as i32, 2, "a server's");

        let queued = one(&spans, trace, "queued");
        let attempts = one(&spans, trace, "attempt");
        for span in [queued, attempts] {
            assert_eq!(
                (span.parent.as_str(), span.service.as_str()),
                (request.id.as_str(), "worker")
            );
            assert_eq!(span.attributes["conversion.id"], *id);
            assert_eq!(span.attributes["attempt"], attempt);
        }
        assert!(
            queued.seconds > 0.0 && queued.seconds < 120.0,
            "{queued:#?}"
        );
        assert_eq!(attempts.attributes["outcome"], "succeeded");
        assert_eq!(attempts.attributes["request.id"], request_id);
        assert!(!attempts.failed && attempts.attributes["node.id"].starts_with("nod_"));
        let stages = [
            "prepare",
            "encode",
            "reconstruct",
            "mesh",
            "texture",
            "export",
        ];
        for stage in stages {
            assert_eq!(one(&spans, trace, stage).parent, attempts.id);
        }

        let batch = &one(&spans, trace, "encode").attributes["gpu.batch.id"];
        let is_of_batch = |span: &&Span| {
            span.name == "encode_pass" && span.attributes.get("gpu.batch.id") == Some(batch)
        };
        // On a CPU each picture of a batch has a pass of its own.
        let passes: Vec<_> = spans.iter().filter(is_of_batch).collect();
        let pass = passes.iter().find(|pass| pass.links.contains(&attempts.id));
        let pass = pass.unwrap_or_else(|| panic!("{passes:#?}"));
        assert!(attempts.links.contains(&pass.id), "{attempts:#?}");
        assert!(
            pass.parent.is_empty() && pass.trace != trace,
            "it is nobody's child"
        );
        assert!(!pass.attributes["gpu.batch.stop_reason"].is_empty());
        for stage in ["reconstruct", "texture"] {
            let stage = one(&spans, trace, stage);
            let queries: Vec<_> = spans
                .iter()
                .filter(|span| span.name == "query_pass" && span.links.contains(&stage.id))
                .collect();
            assert!(!queries.is_empty(), "{stage:#?}");
            assert!(queries.iter().all(|query| stage.links.contains(&query.id)));
        }

        let webhook = one(&spans, trace, "webhook");
        assert_eq!(webhook.parent, request.id);
        assert_eq!(webhook.attributes["http.response.status_code"], "204");
        let told = told.iter().find(|told| told.about() == id).unwrap();
        let expected = format!("00-{trace}-{}-01", webhook.id);
        assert_eq!(told.header("traceparent"), expected);

        let done = format!("Conversion {id} succeeded");
        let lines = lines(&worker_log);
        let done = lines.iter().find(|line| line["message"] == *done).unwrap();
        assert_eq!(done["request.id"], request_id);
        assert_eq!(done["conversion.id"], **id);
        assert_eq!(done["trace.id"], trace);
        assert_eq!(done["attempt"].to_string(), attempt);
    }
    let rescued = lines(&worker_log).into_iter().find(|line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("Took back"))
    });
    assert_eq!(rescued.unwrap()["request.id"], "first-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_over_a_socket_belongs_to_the_trace_that_its_first_message_names() {
    let world = World::new().await;
    let collector = Collector::start().await;
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("front");
    let url = collector.url();
    let front = start(&world, Role::Api, &log, &variables("front", Some(&url)));
    let alice = world.client(front.api, "alice");
    let mut socket = crate::harness::socket::Socket::connect(front.api).await;
    let payload = json!({
        "authorization": format!("Bearer {}", alice.token.as_ref().unwrap()),
        "traceparent": format!("00-{}-{CLIENT_SPAN}-01", TRACES[0]),
    });
    socket
        .send(json!({ "type": "connection_init", "payload": payload }))
        .await;
    socket.receive().await;
    socket
        .subscribe("query { viewer { name } }", json!({}))
        .await;
    socket.event().await.unwrap();
    drop(socket);
    stop(front);
    let spans = collector.spans();
    let operation = one(&spans, TRACES[0], "query viewer");
    assert_eq!(operation.parent, CLIENT_SPAN);
    let id = &operation.attributes["request.id"];
    let upgrade = spans.iter().find(|span| {
        span.attributes
            .get("http.response.status_code")
            .map(String::as_str)
            == Some("101")
    });
    assert_eq!(
        &upgrade.unwrap().attributes["request.id"],
        id,
        "the connection's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_collector_is_named_nothing_is_sent_and_lines_have_one_request_id() {
    let world = World::new().await;
    let (collector, receiver) = (Collector::start().await, Receiver::content().await);
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("node");
    let url = collector.url();
    let mut variables = variables("node", Some(&url));
    // A collector for something else than traces, and a switch that counts more than the address.
    variables.push(("OTEL_TRACES_EXPORTER", "none"));
    let node = start(&world, Role::All, &log, &variables);
    let alice = world.client(node.api, "alice");
    let id = submit(&alice, "the-request", TRACES[0], &receiver).await;
    assert_eq!(alice.ended(&id).await["status"], "SUCCEEDED");
    let told = receiver.until_told(1).await;
    stop(node);
    assert!(
        collector.spans().is_empty(),
        "{:#?}",
        names(&collector.spans())
    );
    // What the client named goes on all the same.
    let client = format!("00-{}-{CLIENT_SPAN}-01", TRACES[0]);
    assert_eq!(told[0].header("traceparent"), client);

    let lines = lines(&log);
    let of_id: Vec<_> = lines
        .iter()
        .filter(|line| line["conversion.id"] == *id)
        .collect();
    assert!(
        of_id
            .iter()
            .any(|line| line["span"] == "webhook" || line["span"] == "stage")
    );
    let of_request: Vec<_> = lines
        .iter()
        .filter(|line| line["span"] == "request")
        .collect();
    assert!(
        of_request
            .iter()
            .any(|line| line["target"].as_str().unwrap().starts_with("tower_http"))
    );
    for line in of_id {
        assert_eq!(line["request.id"], "the-request", "{line:#}");
        assert_eq!(line["trace.id"], TRACES[0], "{line:#}");
    }
    for line in of_request {
        let id = line["request.id"].as_str().unwrap();
        let is_ours = id == "the-request" || uuid::Uuid::try_parse(id).is_ok();
        assert!(is_ours, "{line:#}");
    }
    let is_exporters = |line: &Value| {
        line.as_object()
            .unwrap()
            .keys()
            .any(|key| key.starts_with("otel."))
    };
    assert!(!lines.iter().any(is_exporters));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nobody_anything_but_a_line_in_the_log() {
    let world = World::new().await;
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("front");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let front = start(&world, Role::Api, &log, &variables("front", Some(&closed)));
    let alice = world.client(front.api, "alice");
    alice.run("{ viewer { name } }", json!({})).await;
    until("it is told", PATIENCE, async || {
        let is_told = |line: &Value| line["message"] == "The collector takes no spans";
        lines(&log).iter().any(is_told)
    })
    .await;
    alice.run("{ viewer { name } }", json!({})).await;
    stop(front);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_takes_no_place_that_is_none_and_needs_none() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    // As a node of the version before inserts it.
    let row = seed::submit_one(&database, false).await;
    assert_eq!(row.provenance(), Provenance::default());
    let parent = format!("00-{}-{CLIENT_SPAN}-01", TRACES[0]);
    let long = "a".repeat(513);
    for (column, value, is_taken) in [
        ("trace_state", "vendor=a", false),
        ("trace_parent", "01-short", false),
        ("trace_parent", &parent.to_uppercase(), false),
        ("trace_parent", &parent, true),
        ("trace_state", &long, false),
        ("trace_state", "vendor=a", true),
        ("request_id", "", false),
        ("request_id", "r1", true),
    ] {
        let update = format!("UPDATE conversion SET {column} = '{value}'");
        let done = seed::try_sql(&database, &update).await;
        assert_eq!(done.is_ok(), is_taken, "{column} {value}: {done:?}");
    }
    let row = seed::row(&database, row.id).await;
    let Provenance { request_id, trace } = row.provenance();
    assert_eq!(request_id.as_deref(), Some("r1"));
    let trace = trace.unwrap();
    assert_eq!(
        (trace.parent(), trace.state()),
        (parent.as_str(), Some("vendor=a"))
    );
}
