//! Downloads that break off are gone on with, and come compressed where that helps.

use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::{Response, StatusCode, header};
use serde_json::json;

use crate::harness::{World, client::Client, pictures};

/// A request for a file with further fields.
async fn get(client: &Client, url: &str, fields: &[(header::HeaderName, &str)]) -> Response {
    let request = client.http.get(url);
    let request = fields.iter().fold(request, |request, (name, value)| {
        request.header(name, *value)
    });
    request.send().await.unwrap()
}

fn field(response: &Response, name: header::HeaderName) -> String {
    let value = response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_broke_off_is_gone_on_with() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let query = "query ($id: ID!) { conversion(id: $id) { source { url } } }";
    let data = alice.run(query, json!({ "id": id })).await;
    let url = data["conversion"]["source"]["url"].as_str().unwrap();
    let all = pictures::CHAIR;
    let whole = get(&alice, url, &[]).await;
    assert_eq!(field(&whole, header::ACCEPT_RANGES), "bytes");
    let etag = field(&whole, header::ETAG);
    assert!(etag.starts_with('"'), "{etag}");

    // In three pieces, as a browser does after a break.
    let third = all.len() / 3;
    let mut pieces = Vec::new();
    for range in [
        format!("bytes=0-{}", third - 1),
        format!("bytes={third}-{}", 2 * third - 1),
        format!("bytes={}-", 2 * third),
    ] {
        let fields = [
            (header::RANGE, range.as_str()),
            (header::IF_RANGE, etag.as_str()),
        ];
        let piece = get(&alice, url, &fields).await;
        assert_eq!(piece.status(), StatusCode::PARTIAL_CONTENT);
        let (from, to) = (pieces.len(), field(&piece, header::CONTENT_LENGTH));
        let last = from + to.parse::<usize>().unwrap() - 1;
        let told = format!("bytes {from}-{last}/{}", all.len());
        assert_eq!(field(&piece, header::CONTENT_RANGE), told);
        pieces.extend_from_slice(&piece.bytes().await.unwrap());
    }
    assert_eq!(pieces, all);

    // What was begun is another file by now: all of it.
    let other = [
        (header::RANGE, "bytes=5-"),
        (header::IF_RANGE, "\"another\""),
    ];
    let anew = get(&alice, url, &other).await;
    assert_eq!(anew.status(), StatusCode::OK);
    assert_eq!(anew.bytes().await.unwrap(), all);
    let beyond = get(&alice, url, &[(header::RANGE, "bytes=99999999-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        field(&beyond, header::CONTENT_RANGE),
        format!("bytes */{}", all.len())
    );
    for known in [etag.as_str(), "*", &format!("\"x\", W/{etag}")] {
        let unchanged = get(&alice, url, &[(header::IF_NONE_MATCH, known)]).await;
        assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED, "{known}");
    }
    let head = alice.http.head(url).send().await.unwrap();
    assert_eq!(field(&head, header::CONTENT_LENGTH), all.len().to_string());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gains_by_it_comes_compressed() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let options = json!({ "resolution": 48, "formats": ["GLB", "OBJ", "STL", "PLY"] });
    let id = alice.submit(pictures::HOUSE, options).await;
    let ended = alice.ended(&id).await;
    for output in ended["outputs"].as_array().unwrap() {
        let (format, url) = (
            output["format"].as_str().unwrap(),
            output["url"].as_str().unwrap(),
        );
        let plain = alice.download(url).await;
        let gzip = || (header::ACCEPT_ENCODING, "gzip");
        let packed = get(&alice, url, &[gzip()]).await;
        if ["GLB", "PLY"].contains(&format) {
            assert_eq!(field(&packed, header::CONTENT_ENCODING), "", "{format}");
            continue;
        }
        assert_eq!(field(&packed, header::CONTENT_ENCODING), "gzip", "{format}");
        let etag = field(&packed, header::ETAG);
        assert!(
            etag.starts_with("W/"),
            "its bytes are not the file's: {etag}"
        );
        let bytes = packed.bytes().await.unwrap();
        assert!(
            10 * bytes.len() < 7 * plain.len(),
            "{format}: {} of {}",
            bytes.len(),
            plain.len()
        );
        let mut unpacked = Vec::new();
        GzDecoder::new(&bytes[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == plain, "{format} comes out as another file");
        // A part is one of the plain bytes, and never follows what began compressed.
        let part = get(&alice, url, &[gzip(), (header::RANGE, "bytes=10-19")]).await;
        assert_eq!(field(&part, header::CONTENT_ENCODING), "");
        assert_eq!(part.bytes().await.unwrap(), plain[10..20]);
        let fields = [
            gzip(),
            (header::RANGE, "bytes=10-"),
            (header::IF_RANGE, etag.as_str()),
        ];
        assert_eq!(get(&alice, url, &fields).await.status(), StatusCode::OK);
    }
    node.app.stop().await;
}
