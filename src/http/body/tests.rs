use std::io::Read;

use axum::{body::Body, http::HeaderValue};
use futures_util::stream;

use super::*;
use crate::auth::digest::{CONTENT_DIGEST, content_digest};

const LIMITS: UploadLimits = UploadLimits {
    image_bytes_max: 300,
    images_max: 2,
};
const MULTIPART: &str = "multipart/form-data; boundary=cut";

/// A request whose body comes in pieces of seven bytes, without a declared length.
fn request(content_type: &str, body: &[u8]) -> axum::extract::Request {
    let pieces: Vec<io::Result<Bytes>> = body
        .chunks(7)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    axum::extract::Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from_stream(stream::iter(pieces)))
        .expect("valid")
}

fn digest_of(body: &[u8]) -> Option<ExpectedDigest> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DIGEST, content_digest(body));
    ExpectedDigest::of(&headers).expect("valid")
}

/// A request with one file, and what follows the last boundary.
fn multipart(file: &[u8], epilogue: &str) -> Vec<u8> {
    let operations = br#"{"query":"mutation($f: Upload!) { take(f: $f) }","variables":{"f":null}}"#;
    let sent = [
        ("name=\"operations\"", &operations[..]),
        ("name=\"map\"", br#"{"0":["variables.f"]}"#),
        ("name=\"0\"; filename=\"a.png\"", file),
    ];
    parts(&sent, epilogue)
}

fn parts(parts: &[(&str, &[u8])], epilogue: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, content) in parts {
        let start = format!("--cut\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        body.extend_from_slice(start.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--cut--\r\n");
    body.extend_from_slice(epilogue.as_bytes());
    body
}

async fn refusal(
    content_type: &str,
    body: &[u8],
    digest: Option<ExpectedDigest>,
) -> (u16, ErrorCode) {
    let read = read(LIMITS, request(content_type, body), digest).await;
    let (status, error) = read.expect_err("it must be refused");
    (status.as_u16(), error.code)
}

#[tokio::test]
async fn json_is_held_against_its_digest() {
    let body = br#"{"query":"{ viewer { name } }","operationName":null}"#;
    for digest in [None, digest_of(body)] {
        let (asked, facts) = read(LIMITS, request(JSON, body), digest)
            .await
            .expect("good");
        assert_eq!(asked.request.query, "{ viewer { name } }");
        assert_eq!(facts.bytes, body.len() as u64);
    }
    let unauthenticated = (401, ErrorCode::Unauthenticated);
    let mut other = *body;
    other[10] ^= 1;
    assert_eq!(
        refusal(JSON, &other, digest_of(body)).await,
        unauthenticated
    );
    let cut = &body[..body.len() - 1];
    assert_eq!(refusal(JSON, cut, digest_of(body)).await, unauthenticated);
    assert_eq!(
        refusal(JSON, cut, digest_of(cut)).await,
        (400, ErrorCode::InvalidInput)
    );
    assert_eq!(
        refusal(JSON, cut, None).await,
        (400, ErrorCode::InvalidInput)
    );
    assert_eq!(
        refusal(JSON, br#"[{"query":"{ a }"},{"query":"{ b }"}]"#, None).await,
        (400, ErrorCode::InvalidInput)
    );
    let lists = [b"[".repeat(60_000), b"]".repeat(60_000)].concat();
    let limits = UploadLimits {
        image_bytes_max: 1 << 20,
        ..LIMITS
    };
    let refused = read(limits, request(JSON, &lists), None).await;
    let (_, error) = refused.expect_err("it must be refused");
    assert!(error.message.contains("50000 values"), "{}", error.message);
    // White space is no part of the JSON, and yet of the body.
    let spaced = [&body[..], b" \n"].concat();
    assert_eq!(
        refusal(JSON, &spaced, digest_of(body)).await,
        unauthenticated
    );
    assert!(
        read(LIMITS, request(JSON, &spaced), digest_of(&spaced))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn files_are_held_against_the_digest_with_all_that_follows() {
    let file = b"picture \r\n--cu\0\xff";
    for epilogue in ["", "\r\nwhat no parser reads"] {
        let body = multipart(file, epilogue);
        let (mut asked, facts) = read(LIMITS, request(MULTIPART, &body), digest_of(&body))
            .await
            .expect("good");
        assert_eq!(facts.bytes, body.len() as u64, "read to the end");
        let mut content = Vec::new();
        let mut upload = asked.request.uploads.remove(0);
        upload.content.read_to_end(&mut content).expect("a file");
        assert_eq!(content, file);
    }
    let bare = multipart(file, "");
    let longer = multipart(file, "\r\nadded on the way");
    let changed = multipart(b"picture \r\n--cu\0\xfe", "");
    for other in [&longer, &changed] {
        assert_eq!(
            refusal(MULTIPART, other, digest_of(&bare)).await,
            (401, ErrorCode::Unauthenticated)
        );
        assert!(read(LIMITS, request(MULTIPART, other), None).await.is_ok());
    }
    // A parser that gives up early doesn't keep us from seeing that the body is another one.
    assert_eq!(
        refusal(MULTIPART, b"--cut\r\nrubbish", digest_of(&bare)).await,
        (401, ErrorCode::Unauthenticated)
    );
}

#[tokio::test]
async fn what_is_too_large_is_said_so() {
    let too_large = (413, ErrorCode::ImageTooLarge);
    let json_max = LIMITS.json_bytes_max();
    let padded = |bytes: usize| {
        let start = r#"{"query":"{ a }"}"#;
        format!("{start}{}", " ".repeat(bytes - start.len())).into_bytes()
    };
    let (fits, over) = (padded(json_max), padded(json_max + 1));
    for digest in [None, digest_of(&fits)] {
        assert!(read(LIMITS, request(JSON, &fits), digest).await.is_ok());
    }
    for digest in [None, digest_of(&over), digest_of(&fits)] {
        assert_eq!(refusal(JSON, &over, digest).await, too_large);
    }
    let heavy = multipart(&vec![0; LIMITS.multipart_bytes_max()], "");
    for digest in [None, digest_of(&heavy)] {
        assert_eq!(refusal(MULTIPART, &heavy, digest).await, too_large);
    }
    // After the last boundary, where only the digest's reader comes.
    let tail = multipart(b"p", &"t".repeat(LIMITS.multipart_bytes_max()));
    assert_eq!(refusal(MULTIPART, &tail, digest_of(&tail)).await, too_large);

    // Refused by what it declares, before a byte is read.
    let unread = stream::poll_fn(|_| -> Poll<Option<io::Result<Bytes>>> {
        panic!("nobody should read this")
    });
    let mut declared = request(JSON, b"");
    *declared.body_mut() = Body::from_stream(unread);
    let length = HeaderValue::from(json_max + 1);
    declared
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    let (status, _) = read(LIMITS, declared, None).await.expect_err("too large");
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn other_bodies_are_refused() {
    for content_type in ["text/plain", "application/graphql", "", "multipart/mixed"] {
        let (status, code) = refusal(content_type, b"{}", None).await;
        assert_eq!(
            (status, code),
            (415, ErrorCode::InvalidInput),
            "{content_type}"
        );
    }
    let broken = stream::iter([
        Ok(Bytes::from_static(b"{\"query\":")),
        Err(io::Error::other("the client is gone")),
    ]);
    let mut request = request(JSON, b"");
    *request.body_mut() = Body::from_stream(broken);
    let (status, error) = read(LIMITS, request, None).await.expect_err("broken");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        error.message.contains("the client is gone"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn parts_are_bounded_each_by_itself() {
    let limits = UploadLimits {
        image_bytes_max: 1 << 20,
        ..LIMITS
    };
    let good = &br#"{"query":"{ a }","variables":{"f":null,"g":null}}"#[..];
    let values = format!(
        "{{\"query\":\"{{ a }}\",\"variables\":{{\"x\":[{}0]}}}}",
        "0,".repeat(60_000)
    );
    let places = format!(
        "{{\"0\":[{}\"variables.f\"]}}",
        "\"variables.f\",".repeat(10)
    );
    fn operations(content: &[u8]) -> (&str, &[u8]) {
        ("name=\"operations\"", content)
    }
    fn map(content: &[u8]) -> (&str, &[u8]) {
        ("name=\"map\"", content)
    }
    let file = ("name=\"0\"; filename=\"a.png\"", &b"picture"[..]);
    let long = vec![b' '; 65 << 10];
    for (told, sent) in [
        (
            "50000 values",
            vec![operations(values.as_bytes()), map(b"{}")],
        ),
        (
            "at most 2 files",
            vec![operations(good), map(places.as_bytes()), file],
        ),
        ("more than 65536 bytes", vec![operations(good), map(&long)]),
        ("first, then `map`", vec![map(b"{}"), operations(good)]),
        ("first, then `map`", vec![operations(good), file]),
        (
            "was not sent",
            vec![operations(good), map(br#"{"7":["variables.f"]}"#), file],
        ),
        ("can't be read", vec![operations(b"{"), map(b"{}")]),
        ("Send one operation", vec![operations(b" []"), map(b"{}")]),
    ] {
        let body = parts(&sent, "");
        let refused = read(limits, request(MULTIPART, &body), digest_of(&body)).await;
        let (status, error) = refused.expect_err("it must be refused");
        assert_eq!(status.as_u16(), 400, "{told}");
        assert!(error.message.contains(told), "{told}: {}", error.message);
    }
    // One file for two places, and a part that nobody asked for.
    let twice = br#"{"0":["variables.f","variables.g"]}"#;
    let other = ("name=\"1\"; filename=\"b.png\"", &b"other"[..]);
    let body = parts(&[operations(good), map(twice), other, file], "");
    let (asked, _) = read(limits, request(MULTIPART, &body), None)
        .await
        .expect("good");
    assert_eq!(asked.request.uploads.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_slowly_is_answered_so() {
    // A byte a second: it never stands still, and never ends in time.
    let bytes = stream::unfold(0_u32, |sent| async move {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b" ")), sent + 1))
    });
    let request = axum::extract::Request::builder()
        .header(header::CONTENT_TYPE, JSON)
        .body(Body::from_stream(bytes))
        .expect("valid");
    let limits = UploadLimits {
        image_bytes_max: 1 << 20,
        images_max: 1,
    };
    let began = tokio::time::Instant::now();
    let (status, error) = read(limits, request, None).await.expect_err("too slow");
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(error.retryable);
    assert_eq!(began.elapsed(), BODY_MAX);
}
