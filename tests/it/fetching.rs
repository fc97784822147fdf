//! Pictures that are named by a URL, through the API.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use orfeas::config::Settings;
use serde_json::{Value, json};

use crate::harness::{
    Node, World,
    client::{Client, SUBMIT, SUBMIT_BATCH, check_text},
    elsewhere::{
        CERTIFIED, Elsewhere, NEVER, Names, Script, answer, authority, egress, ok, redirect, status,
    },
    pictures::{self, CHAIR, CHEST},
    process::NodeProcess,
    seed::{scalar, until},
};

/// Pictures of the tests are smaller than this.
const BYTES_MAX: usize = 200_000;

/// A node that may call 127.0.0.1, and knows some names of it and of what lies inside.
async fn node(world: &World, fetch_timeout_seconds: f64) -> Node {
    let names = Names::new(&[
        (CERTIFIED, &[&["127.0.0.1"]]),
        ("inside.example", &[&["10.0.0.1"]]),
        ("mixed.example", &[&["127.0.0.1", "169.254.169.254"]]),
    ]);
    let settings = Settings {
        orfeas_fetch_timeout_seconds: fetch_timeout_seconds,
        orfeas_max_upload_bytes: BYTES_MAX as u64,
        ..world.settings()
    };
    let egress = egress(&["127.0.0.1/32"], &names).trusting(authority());
    world.node_calling(egress, settings).await
}

fn single(url: &str) -> Value {
    json!({ "input": { "image": { "url": url } } })
}

fn with_key(mut variables: Value, key: &str) -> Value {
    variables["input"]["idempotencyKey"] = json!(key);
    variables
}

fn batch(urls: &[String]) -> Value {
    let images: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    json!({ "input": { "images": images } })
}

fn id_of(data: &Value) -> String {
    let id = data["submitConversion"]["conversion"]["id"].as_str();
    id.unwrap_or_else(|| panic!("{data:#}")).to_owned()
}

/// Code, whether to try again, and the sentence.
async fn refusal(client: &Client, url: &str) -> (String, bool, String) {
    let answer = client.send(SUBMIT, single(url)).await;
    let error = &answer["errors"][0];
    assert_eq!(error["extensions"]["field"], "image", "{answer:#}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&error["extensions"]["code"]),
        error["extensions"]["retryable"].as_bool().unwrap(),
        text(&error["message"]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_fetched_kept_and_queued() {
    let world = World::new().await;
    let node = node(&world, 60.0).await;
    let alice = node.client("alice");
    let server = Elsewhere::secure("127.0.0.1:0", |path| match path {
        "/moved" => redirect("/chair.png"),
        _ => ok(CHAIR),
    })
    .await;
    for path in ["/chair.png", "/moved"] {
        let data = alice
            .run(SUBMIT, single(&server.url("https", CERTIFIED, path)))
            .await;
        let conversion = alice.conversion(&id_of(&data)).await;
        assert_eq!(conversion["status"], "QUEUED");
        assert_eq!(conversion["source"]["mediaType"], "image/png");
    }
    let sources = std::fs::read_dir(world.assets.join("sources")).unwrap();
    for source in sources {
        assert_eq!(std::fs::read(source.unwrap().path()).unwrap(), CHAIR);
    }
    let database = world.database().await;
    let charged = "SELECT sum(conversions)::bigint FROM usage_day";
    assert_eq!(scalar(&database, charged).await, 2, "like every picture");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_can_not_be_had_is_refused_in_words() {
    let world = World::new().await;
    let node = node(&world, 60.0).await;
    let alice = node.client("alice");
    let server = Elsewhere::secure("127.0.0.1:0", |path| match path {
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/inside" => redirect("https://inside.example/"),
        "/loop" => redirect("/loop"),
        "/large" => Script::Repeats(
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            vec![0; 1 << 16],
            Duration::ZERO,
        ),
        "/announced" => {
            Script::Stalls(b"HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n".to_vec())
        }
        "/page" => ok(b"<!doctype html><title>Sign in</title>"),
        "/empty" => ok(b""),
        "/cut" => ok(&CHAIR[..CHAIR.len() / 2]),
        "/packed" => answer("200 OK", &[("Content-Encoding", "gzip")], b"\x1f\x8b"),
        "/busy" => status("503 Busy"),
        _ => status("404 Not Found"),
    })
    .await;
    let (_, _, inner) = refusal(&alice, "https://10.0.0.1/chair.png").await;
    assert_eq!(
        inner,
        "The picture could not be fetched: there is no public server of this name or address."
    );
    let here = |path: &str| server.url("https", CERTIFIED, path);
    for (url, code, retryable) in [
        // All of these read the same: names and addresses can't be tried out.
        ("https://10.0.0.1/".to_owned(), "IMAGE_FETCH_FAILED", false),
        (
            "https://[::ffff:a9fe:a9fe]/".to_owned(),
            "IMAGE_FETCH_FAILED",
            false,
        ),
        (
            "https://inside.example/".to_owned(),
            "IMAGE_FETCH_FAILED",
            false,
        ),
        (
            "https://mixed.example/".to_owned(),
            "IMAGE_FETCH_FAILED",
            false,
        ),
        (
            "https://unknown.example/".to_owned(),
            "IMAGE_FETCH_FAILED",
            false,
        ),
        (here("/metadata"), "IMAGE_FETCH_FAILED", false),
        (here("/inside"), "IMAGE_FETCH_FAILED", false),
    ] {
        let refused = refusal(&alice, &url).await;
        assert_eq!(
            refused,
            (code.to_owned(), retryable, inner.clone()),
            "{url}"
        );
    }
    for (url, code, retryable) in [
        (here("/loop"), "IMAGE_FETCH_FAILED", false),
        (here("/404"), "IMAGE_FETCH_FAILED", false),
        (here("/packed"), "IMAGE_FETCH_FAILED", false),
        (here("/busy"), "IMAGE_FETCH_FAILED", true),
        // Nothing listens there.
        (
            "https://127.0.0.1:1024/".to_owned(),
            "IMAGE_FETCH_FAILED",
            true,
        ),
        (here("/large"), "IMAGE_TOO_LARGE", false),
        (here("/announced"), "IMAGE_TOO_LARGE", false),
        (here("/page"), "INVALID_IMAGE", false),
        (here("/empty"), "INVALID_IMAGE", false),
        (here("/cut"), "INVALID_IMAGE", false),
        (
            "http://public.example/".to_owned(),
            "IMAGE_FETCH_FAILED",
            false,
        ),
        ("ftp://pictures.example/".to_owned(), "INVALID_INPUT", false),
        (
            "https://user@pictures.example/".to_owned(),
            "INVALID_INPUT",
            false,
        ),
        (
            "https://pictures.example:25/".to_owned(),
            "INVALID_INPUT",
            false,
        ),
        ("chair.png".to_owned(), "INVALID_INPUT", false),
        (String::new(), "INVALID_INPUT", false),
    ] {
        let (found, again, message) = refusal(&alice, &url).await;
        assert_eq!((&*found, again), (code, retryable), "{url}: {message}");
        assert!(!message.contains("127.0.0.1"), "{message}");
    }
    let database = world.database().await;
    for table in ["conversion", "asset"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(scalar(&database, &count).await, 0, "{table}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_nobody_for_ever_and_takes_what_it_gets() {
    let world = World::new().await;
    let node = node(&world, 2.0).await;
    let alice = node.client("alice");
    let server = Elsewhere::secure("127.0.0.1:0", |path| match path {
        "/chair.png" => ok(CHAIR),
        "/chest.png" => ok(CHEST),
        "/drips" => Script::Repeats(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(),
            CHAIR[..1].to_vec(),
            Duration::from_millis(5),
        ),
        "/stalls" => Script::Stalls(Vec::new()),
        _ => status("404 Not Found"),
    })
    .await;
    let here = |path: &str| server.url("https", CERTIFIED, path);
    let mut variables = batch(&[
        here("/chair.png"),
        "https://10.0.0.1/".to_owned(),
        here("/drips"),
        here("/stalls"),
        format!("https://{NEVER}/"),
        here("/404"),
        here("/chest.png"),
    ]);
    let images = variables["input"]["images"].as_array_mut().unwrap();
    images.push(json!({ "base64": STANDARD.encode(pictures::empty()) }));
    let query = SUBMIT_BATCH.replace("code message field", "code message field retryable");
    let data = alice.run(&query, variables).await;
    let items = data["submitBatch"]["items"].as_array().unwrap();
    let slow = ("IMAGE_FETCH_FAILED", true);
    let refused = ("IMAGE_FETCH_FAILED", false);
    let expected = [
        None,
        Some(refused),
        Some(slow),
        Some(slow),
        Some(slow),
        Some(refused),
        None,
        None,
    ];
    for (index, (item, expected)) in items.iter().zip(expected).enumerate() {
        let error = &item["error"];
        let found = error["code"]
            .as_str()
            .map(|code| (code, error["retryable"].as_bool().unwrap()));
        assert_eq!(found, expected, "{item:#}");
        assert_eq!(item["conversion"].is_null(), expected.is_some(), "{item:#}");
        if expected.is_some() {
            assert_eq!(error["field"], format!("images.{index}"));
            check_text(error["message"].as_str().unwrap());
        }
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_submission_fetches_nothing() {
    let world = World::new().await;
    let node = node(&world, 60.0).await;
    let alice = node.client("alice");
    let turn = AtomicUsize::new(0);
    // Another picture each time, and after two none at all.
    let server = Elsewhere::secure("127.0.0.1:0", move |path| {
        if path == "/gone" {
            return status("404 Not Found");
        }
        match turn.fetch_add(1, Ordering::Relaxed) {
            0 => ok(CHAIR),
            1 => ok(CHEST),
            _ => status("410 Gone"),
        }
    })
    .await;
    let url = server.url("https", CERTIFIED, "/changing.png");
    let order = with_key(single(&url), "order 1");
    let id = id_of(&alice.run(SUBMIT, order.clone()).await);
    assert_eq!(id, id_of(&alice.run(SUBMIT, order.clone()).await));
    assert_eq!(server.connections(), 1);

    let other = with_key(single(&format!("{url}?size=2")), "order 1");
    let code = alice.refusal(SUBMIT, other).await;
    assert_eq!(
        code, "IDEMPOTENCY_CONFLICT",
        "another address is another picture"
    );
    assert_eq!(server.connections(), 1, "and it isn't fetched to say so");

    // What could not be had the first time stays out: the batch is what it was.
    let gone = server.url("https", CERTIFIED, "/gone");
    let order = with_key(batch(&[url, gone]), "order 2");
    let first = alice.run(SUBMIT_BATCH, order.clone()).await;
    let items = &first["submitBatch"]["items"];
    assert_eq!(items[1]["error"]["code"], "IMAGE_FETCH_FAILED", "{first:#}");
    assert_eq!(server.connections(), 3);
    let again = alice.run(SUBMIT_BATCH, order).await;
    let repeated = &again["submitBatch"]["items"];
    assert_eq!(
        repeated[0]["conversion"]["id"],
        items[0]["conversion"]["id"]
    );
    assert_eq!(repeated[1]["error"]["code"], "NOT_FOUND", "{again:#}");
    assert_eq!(server.connections(), 3);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_waits_for_no_server() {
    let world = World::new().await;
    let node = node(&world, 120.0).await;
    let alice = node.client("alice");
    let server = Elsewhere::secure("127.0.0.1:0", |_| Script::Stalls(Vec::new())).await;
    let url = server.url("https", CERTIFIED, "/");
    let asking = tokio::spawn(async move { alice.send(SUBMIT, single(&url)).await });
    let patience = Duration::from_secs(60);
    until("the picture is being fetched", patience, async || {
        !server.requests().is_empty()
    })
    .await;
    node.app.stop().await;
    let answer = asking.await.unwrap();
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "OVERLOADED", "{answer:#}");
    assert_eq!(extensions["retryable"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxies_are_not_asked() {
    let world = World::new().await;
    let server = Elsewhere::plain("127.0.0.1:0", |_| ok(CHAIR)).await;
    let proxy = Elsewhere::plain("127.0.0.1:0", |_| ok(CHEST)).await;
    let proxy_url = format!("http://{}", proxy.address);
    let process = NodeProcess::start_api(
        &world,
        &[
            ("ORFEAS_EGRESS_ALLOW", "127.0.0.1, ::1"),
            ("http_proxy", &proxy_url),
            ("https_proxy", &proxy_url),
            ("all_proxy", &proxy_url),
        ],
    );
    let alice = world.client(process.api, "alice");
    // By the system's own resolver.
    let url = server.url("http", "localhost", "/chair.png");
    let id = id_of(&alice.run(SUBMIT, single(&url)).await);
    assert_eq!(alice.conversion(&id).await["status"], "QUEUED");
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
}
