//! Pictures that are more, or other, than they say; and what is kept of those that are taken.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{Client, SUBMIT, submission},
    pictures,
};

const UPLOAD: &str = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) {
    conversion { id } } }";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

/// The answer to an upload under this name and type.
async fn upload(client: &Client, bytes: &[u8], name: &str, media_type: Option<&str>) -> Value {
    let mut part = Part::bytes(bytes.to_vec()).file_name(name.to_owned());
    if let Some(media_type) = media_type {
        part = part.mime_str(media_type).unwrap();
    }
    let operations =
        json!({ "query": UPLOAD, "variables": { "input": { "image": { "upload": null } } } });
    let form = Form::new()
        .text("operations", operations.to_string())
        .text(
            "map",
            json!({ "0": ["variables.input.image.upload"] }).to_string(),
        )
        .part("0", part);
    let request = client.http.post(client.url()).multipart(form);
    let request = request.bearer_auth(client.token.as_deref().unwrap());
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_what_their_names_and_types_say() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let chair = pictures::CHAIR;
    for (name, media_type) in [
        ("chair.png", Some("image/png")),
        ("chair", None),
        ("chair.bin", Some("application/octet-stream")),
    ] {
        let answer = upload(&alice, chair, name, media_type).await;
        assert!(answer.get("errors").is_none(), "{name}: {answer:#}");
    }
    for (name, media_type, told) in [
        ("chair.png", Some("image/jpeg"), "image/jpeg"),
        ("chair", Some("text/html"), "text/html"),
        ("chair.svg", None, ".svg"),
        ("chair.png.exe", Some("image/png"), ".exe"),
    ] {
        let answer = upload(&alice, chair, name, media_type).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], "INVALID_IMAGE", "{answer:#}");
        assert_eq!(error["extensions"]["field"], "image");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("this is a PNG") && message.contains(told),
            "{message}"
        );
    }
    let text = STANDARD.encode(chair);
    for (prefix, fits) in [
        ("data:image/png;base64,", true),
        ("data:image/png;charset=utf-8;base64,", true),
        ("data:;base64,", true),
        ("data:image/webp;base64,", false),
        ("data:image/svg+xml;base64,", false),
    ] {
        let input = json!({ "input": { "image": { "base64": format!("{prefix}{text}") } } });
        let answer = alice.send(SUBMIT, input).await;
        let code = &answer["errors"][0]["extensions"]["code"];
        let expected = if fits {
            Value::Null
        } else {
            "INVALID_IMAGE".into()
        };
        assert_eq!(*code, expected, "{prefix}: {answer:#}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_picture_and_something_else_is_refused() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("run.class", options).unwrap();
    let archive = archive.finish().unwrap().into_inner();
    for (appended, named) in [
        (&archive[..], "a ZIP archive"),
        (
            b"<html><script>alert(document.domain)</script>",
            "a web page",
        ),
        (b"%PDF-1.7", "a PDF"),
    ] {
        for picture in [
            pictures::CHAIR.to_vec(),
            fixture("rgb.jpg"),
            fixture("lossy.webp"),
        ] {
            let bytes = [&picture[..], appended].concat();
            let answer = alice.send(SUBMIT, submission(&bytes, json!({}))).await;
            let error = &answer["errors"][0];
            assert_eq!(error["extensions"]["code"], "INVALID_IMAGE", "{answer:#}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(named), "{message}");
        }
    }
    node.app.stop().await;
}

/// Where a picture was taken is in its metadata, and what else a phone knows is behind it: neither is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_picture_tells_besides_is_not_kept() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let turned = fixture("orientation-6.jpg");
    let comment = b"\xff\xfe\0\x1b52.5200 N, 13.4050 E, Ada".as_slice();
    let film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom 52.5200 N";
    let sent = [&turned[..2], comment, &turned[2..], film].concat();
    let id = alice.submit(&sent, json!({})).await;
    let query =
        "query ($id: ID!) { conversion(id: $id) { source { url bytes sha256 width height } } }";
    let source = alice.run(query, json!({ "id": id })).await["conversion"]["source"].take();
    let kept = alice.download(source["url"].as_str().unwrap()).await;
    assert!(sent.windows(7).any(|window| window == b"52.5200"));
    assert!(!kept.windows(7).any(|window| window == b"52.5200"));
    assert_eq!(source["bytes"], kept.len());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&kept);
    assert_eq!(source["sha256"], hex::encode(digest));
    // The way up is kept, by which it is shown and converted.
    let pixels = |bytes: &[u8]| {
        use image::ImageDecoder;
        let mut decoder = image::ImageReader::new(std::io::Cursor::new(bytes.to_vec()))
            .with_guessed_format()
            .unwrap()
            .into_decoder()
            .unwrap();
        let orientation = decoder.orientation().unwrap();
        let image = image::DynamicImage::from_decoder(decoder).unwrap();
        (orientation, image.into_bytes())
    };
    assert_eq!(pixels(&kept), pixels(&turned));
    // And on the disk lies nothing else.
    for file in crate::mutations::files(&world.assets.join("sources")) {
        let path = world.assets.join("sources").join(&file);
        assert_eq!(std::fs::read(path).unwrap(), kept, "{file}");
    }
    node.app.stop().await;
}
