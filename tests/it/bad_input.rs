//! Whatever is sent, the answer is a mesh or a code that tells what is wrong.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{SUBMIT, SUBMIT_BATCH, check_text, submission},
    pictures,
};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

/// CRC-32 as PNG chunks have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

/// A PNG whose header claims another size.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = pictures::CHAIR.to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pictures_are_refused_at_the_door() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let jpeg = fixture("rgb.jpg");
    let mut heavy = pictures::CHAIR.to_vec();
    heavy.resize((20 << 20) + 1, 0);
    let mut damaged = pictures::CHAIR.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xa5);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "INVALID_IMAGE"),
        ("text", b"no picture at all".to_vec(), "INVALID_IMAGE"),
        (
            "noise",
            (0..=255).rev().cycle().take(5000).collect(),
            "INVALID_IMAGE",
        ),
        (
            "half a PNG",
            pictures::CHAIR[..middle].to_vec(),
            "INVALID_IMAGE",
        ),
        (
            "a PNG's signature",
            pictures::CHAIR[..8].to_vec(),
            "INVALID_IMAGE",
        ),
        (
            "half a JPEG",
            jpeg[..jpeg.len() / 2].to_vec(),
            "INVALID_IMAGE",
        ),
        ("a damaged PNG", damaged, "INVALID_IMAGE"),
        ("GIF", fixture("other.gif"), "UNSUPPORTED_IMAGE"),
        ("SVG", fixture("other.svg"), "UNSUPPORTED_IMAGE"),
        ("PDF", fixture("other.pdf"), "UNSUPPORTED_IMAGE"),
        ("TIFF", fixture("other.tiff"), "UNSUPPORTED_IMAGE"),
        ("animated PNG", fixture("animated.png"), "UNSUPPORTED_IMAGE"),
        (
            "animated WebP",
            fixture("animated.webp"),
            "UNSUPPORTED_IMAGE",
        ),
        ("many pixels", claiming(30_000, 30_000), "IMAGE_TOO_LARGE"),
        (
            "all pixels",
            claiming(0x7fff_ffff, 0x7fff_ffff),
            "IMAGE_TOO_LARGE",
        ),
        ("over 20 MiB", heavy, "IMAGE_TOO_LARGE"),
    ];
    for (what, bytes, code) in &cases {
        let answer = alice.send(SUBMIT, submission(bytes, json!({}))).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], *code, "{what}: {answer:#}");
        assert_eq!(extensions["field"], "image", "{what}");
        assert_eq!(extensions["retryable"], false, "{what}");
    }
    for text in ["%%%", "data:image/png,plain", "iVBORw0KGgo"] {
        let variables = json!({ "input": { "image": { "base64": text } } });
        assert_eq!(
            alice.refusal(SUBMIT, variables).await,
            "INVALID_IMAGE",
            "{text}"
        );
    }
    let listed = alice
        .run("{ conversions { nodes { id } } }", json!({}))
        .await;
    assert_eq!(
        listed["conversions"]["nodes"],
        json!([]),
        "nothing was kept"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_pictures_are_converted() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let names = [
        "cmyk.jpg",
        "ycck.jpg",
        "rgb16.png",
        "rgba16.png",
        "grey.png",
        "grey16.png",
        "grey-alpha16.png",
        "grey.jpg",
        "orientation-6.jpg",
        "orientation-8.webp",
        "progressive.jpg",
        "bilevel.png",
        "palette-alpha.png",
        "lossy-alpha.webp",
    ];
    let files: Vec<Vec<u8>> = names.iter().map(|name| fixture(name)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (_, items) = alice
        .submit_batch(&files, json!({ "resolution": 32 }))
        .await;
    let mut succeeded = 0;
    for (name, item) in names.iter().zip(&items) {
        assert!(item["error"].is_null(), "{name}: {item}");
        let ended = alice
            .ended(item["conversion"]["id"].as_str().unwrap())
            .await;
        match ended["status"].as_str().unwrap() {
            "SUCCEEDED" => succeeded += 1,
            // Four patches of colour need not look like an object.
            "FAILED" => assert_eq!(
                ended["error"]["code"], "CONVERSION_FAILED",
                "{name}: {ended:#}"
            ),
            other => panic!("{name} ended {other}"),
        }
    }
    assert!(succeeded > 0, "not one became a mesh");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_with_nothing_in_it_fails_with_a_reason() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(&pictures::empty(), json!({ "resolution": 32 }))
        .await;
    let ended = alice.ended(&id).await;
    assert_eq!(ended["status"], "FAILED", "{ended:#}");
    assert_eq!(ended["error"]["code"], "CONVERSION_FAILED");
    assert_eq!(ended["error"]["retryable"], false);
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(message.contains("nothing in the picture"), "{message}");
    check_text(message);
    assert_eq!(ended["outputs"], json!([]));
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_out_of_range_are_named() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let cases = [
        (
            json!({ "resolution": 31 }),
            "INVALID_INPUT",
            "options.resolution",
        ),
        (
            json!({ "resolution": 513 }),
            "INVALID_INPUT",
            "options.resolution",
        ),
        (
            json!({ "targetTriangles": 3 }),
            "INVALID_INPUT",
            "options.targetTriangles",
        ),
        (json!({ "sizeMm": 0.5 }), "INVALID_INPUT", "options.sizeMm"),
        (json!({ "sizeMm": 1e9 }), "INVALID_INPUT", "options.sizeMm"),
        (json!({ "formats": [] }), "INVALID_INPUT", "options.formats"),
        (
            json!({ "texture": "BAKED", "textureSize": 255 }),
            "INVALID_INPUT",
            "options.textureSize",
        ),
        (
            json!({ "textureSize": 1024 }),
            "INVALID_INPUT",
            "options.textureSize",
        ),
        (
            json!({ "texture": "BAKED", "targetTriangles": 100_001 }),
            "INVALID_INPUT",
            "options.targetTriangles",
        ),
        (
            json!({ "minSilhouetteAgreement": -0.1 }),
            "INVALID_INPUT",
            "options.minSilhouetteAgreement",
        ),
        (
            json!({ "model": "no-such" }),
            "MODEL_UNAVAILABLE",
            "options.model",
        ),
    ];
    for (options, code, field) in cases {
        let one = alice
            .send(SUBMIT, submission(pictures::CHAIR, options.clone()))
            .await;
        let images = json!([{ "base64": STANDARD.encode(pictures::CHAIR) }]);
        let many = alice
            .send(
                SUBMIT_BATCH,
                json!({ "input": { "images": images, "options": options } }),
            )
            .await;
        for answer in [one, many] {
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!(
                (extensions["code"].as_str(), extensions["field"].as_str()),
                (Some(code), Some(field)),
                "{options}: {answer:#}"
            );
        }
    }
    for options in [json!({ "resolution": -1 }), json!({ "resolution": 1.5 })] {
        let answer = alice
            .send(SUBMIT, submission(pictures::CHAIR, options))
            .await;
        let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap();
        assert!(
            ["INVALID_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&code),
            "{answer:#}"
        );
    }
    for count in [0, 17] {
        let images: Vec<Value> = (0..count).map(|_| json!({ "base64": "" })).collect();
        let answer = alice
            .send(SUBMIT_BATCH, json!({ "input": { "images": images } }))
            .await;
        assert_eq!(
            answer["errors"][0]["extensions"]["field"], "images",
            "{answer:#}"
        );
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_have_codes() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let deep = format!(
        "{{ {} id {} }}",
        "node(id: 1) { ... on Conversion { batch { conversions { ".repeat(9),
        "} } } }".repeat(9)
    );
    let cases = [
        ("{ viewer { ", "GRAPHQL_PARSE_FAILED"),
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{ viewer { noSuchField } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ conversion { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer }", "GRAPHQL_VALIDATION_FAILED"),
        // The document is sound; what is missing is input.
        ("query ($id: ID!) { conversion(id: $id) { id } }", "INVALID_INPUT"),
        ("subscription { queueStatus { paused } }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "mutation { submitConversion(input: { image: { base64: \"\", assetId: 1 } }) { conversion { id } } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("{ a: conversions(first: 100) { nodes { id status stage progress owner attempts sequence batch { id } model
            options { formats } source { id url } preview { id url } outputs { url bytes } quality { volume } timings { meshMs }
            error { code } createdAt startedAt finishedAt expiresAt retryOf cancelRequested queuePosition etaSeconds priority } }
          b: conversions(first: 100) { nodes { id status stage progress owner attempts sequence batch { id } model
            options { formats } source { id url } preview { id url } outputs { url bytes } quality { volume } timings { meshMs }
            error { code } createdAt startedAt finishedAt expiresAt retryOf cancelRequested queuePosition etaSeconds priority } }
          c: conversions(first: 100) { nodes { id status stage progress owner attempts sequence batch { id } model
            options { formats } source { id url } preview { id url } outputs { url bytes } quality { volume } timings { meshMs }
            error { code } createdAt startedAt finishedAt expiresAt retryOf cancelRequested queuePosition etaSeconds priority } } }",
            "QUERY_TOO_COMPLEX"),
    ];
    for (document, code) in cases {
        let answer = alice.send(document, json!({})).await;
        assert_eq!(
            answer["errors"][0]["extensions"]["code"], code,
            "{document}: {answer:#}"
        );
    }
    // Nested without an end: refused by whichever limit it meets first, but refused.
    let code = alice.refusal(&deep, json!({})).await;
    assert!(
        [
            "QUERY_TOO_COMPLEX",
            "GRAPHQL_VALIDATION_FAILED",
            "GRAPHQL_PARSE_FAILED"
        ]
        .contains(&code.as_str()),
        "{code}"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_failures_tell_nothing() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let pool = sqlx::PgPool::connect(&world.database_url).await.unwrap();
    sqlx::raw_sql("ALTER TABLE conversion RENAME TO elsewhere")
        .execute(&pool)
        .await
        .unwrap();
    // The harness looks into every error for what must not be there.
    let answer = alice
        .send("{ conversions { nodes { id } } }", json!({}))
        .await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "INTERNAL", "{answer:#}");
    assert_eq!(extensions["retryable"], true);
    assert!(extensions["retryAfterSeconds"].is_u64());
    let submitted = alice
        .refusal(SUBMIT, submission(pictures::CHAIR, json!({})))
        .await;
    assert_eq!(submitted, "INTERNAL");
    let kept = crate::mutations::files(&world.assets.join("sources"));
    assert_eq!(kept, Vec::<String>::new(), "a picture without a row stayed");
    node.app.stop().await;
}
