//! Calling addresses that strangers name: what servers answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use orfeas::egress::{EgressError, GetLimits};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{ALLOWED, LIMITS, get, here, refusal};
use crate::harness::elsewhere::{
    Elsewhere, NEVER, Names, Script, answer, egress, ok, redirect, status,
};

#[tokio::test]
async fn bodies_are_as_long_as_they_may_be() {
    let allowed = usize::try_from(LIMITS.bytes_max).unwrap();
    let exact = vec![7; allowed];
    let over = vec![7; allowed + 1];
    let sent = (exact.clone(), over);
    let server = Elsewhere::plain("127.0.0.1:0", move |path| {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let bare = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let announced = |bytes: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes()
        };
        match path {
            "/exact" => ok(&sent.0),
            "/over" => ok(&sent.1),
            "/unannounced" => Script::Sends([bare, sent.0.clone()].concat()),
            "/endless" => Script::Repeats(bare, vec![0; 1 << 16], Duration::ZERO),
            "/chunks" => {
                let chunk = [b"10000\r\n".as_slice(), &[0; 1 << 16], b"\r\n"].concat();
                Script::Repeats(chunked, chunk, Duration::ZERO)
            }
            // Nothing of it ever comes: whoever waits for it waits in vain.
            "/announced" => Script::Stalls(announced(1 << 40)),
            "/short" => Script::Sends([announced(10), b"short".to_vec()].concat()),
            "/long" => Script::Sends([announced(4), b"longer".to_vec()].concat()),
            "/cut" => Script::Sends([chunked, b"10\r\nshort".to_vec()].concat()),
            "/senseless" => Script::Sends([chunked, b"no length\r\n".to_vec()].concat()),
            "/two" => Script::Sends(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
            ),
            "/headers" => Script::Repeats(
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(100),
                Duration::ZERO,
            ),
            "/header" => Script::Repeats(
                b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
                vec![b'y'; 1 << 16],
                Duration::ZERO,
            ),
            "/ssh" => Script::Sends(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
            _ => Script::Sends(Vec::new()),
        }
    })
    .await;
    let egress = egress(ALLOWED, &here());
    let url = |path: &str| server.url("http", "here.example", path);
    for path in ["/exact", "/unannounced"] {
        assert_eq!(get(&egress, &url(path)).await.unwrap(), exact, "{path}");
    }
    assert_eq!(get(&egress, &url("/long")).await.unwrap(), "long");
    for path in ["/over", "/endless", "/chunks", "/announced"] {
        let error = refusal(&egress, &url(path)).await;
        assert!(
            matches!(error, EgressError::TooLarge { .. }),
            "{path}: {error:?}"
        );
    }
    for path in [
        "/short",
        "/cut",
        "/senseless",
        "/two",
        "/headers",
        "/header",
        "/ssh",
        "/",
    ] {
        let error = refusal(&egress, &url(path)).await;
        assert!(matches!(error, EgressError::Broken(_)), "{path}: {error:?}");
        assert!(error.is_passing());
    }
}

#[tokio::test]
async fn compressed_answers_are_not_unpacked() {
    // A megabyte of nothing in a kilobyte.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &vec![0; 1 << 20]).unwrap();
    let bomb = packed.finish().unwrap();
    let size = bomb.len();
    let server = Elsewhere::plain("127.0.0.1:0", move |path| match path {
        "/unsaid" => ok(&bomb),
        "/identity" => answer("200 OK", &[("Content-Encoding", "identity")], &bomb),
        encoding => answer("200 OK", &[("Content-Encoding", &encoding[1..])], &bomb),
    })
    .await;
    let egress = egress(ALLOWED, &here());
    let url = |path: &str| server.url("http", "here.example", path);
    for path in [
        "/gzip",
        "/br",
        "/deflate",
        "/zstd",
        "/x-gzip",
        "/identity,gzip",
    ] {
        let error = refusal(&egress, &url(path)).await;
        assert!(
            matches!(error, EgressError::Compressed),
            "{path}: {error:?}"
        );
    }
    for path in ["/unsaid", "/identity"] {
        assert_eq!(get(&egress, &url(path)).await.unwrap().len(), size);
    }
}

#[tokio::test]
async fn whoever_is_slow_is_left_in_time() {
    let pause = Duration::from_millis(5);
    let server = Elsewhere::plain("127.0.0.1:0", move |path| match path {
        "/head" => Script::Repeats(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b"y".to_vec(), pause),
        "/body" => Script::Repeats(
            b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n".to_vec(),
            b"y".to_vec(),
            pause,
        ),
        "/continue" => Script::Repeats(
            Vec::new(),
            b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(),
            pause,
        ),
        _ => Script::Stalls(Vec::new()),
    })
    .await;
    let egress = egress(ALLOWED, &here());
    let deadline = Duration::from_millis(300);
    let limits = GetLimits { deadline, ..LIMITS };
    for url in [
        server.url("http", "here.example", "/head"),
        server.url("http", "here.example", "/body"),
        server.url("http", "here.example", "/continue"),
        server.url("http", "here.example", "/nothing"),
        // It waits for the answer to its greeting.
        server.url("https", "here.example", "/"),
        format!("https://{NEVER}/"),
    ] {
        let target = egress.check(&url).unwrap();
        let begun = Instant::now();
        let error = egress.get(&target, limits).await.unwrap_err();
        let took = begun.elapsed();
        assert!(
            matches!(error, EgressError::TimedOut(_)),
            "{url}: {error:?}"
        );
        assert!(error.is_passing());
        assert!(took >= deadline && took < deadline * 20, "{url}: {took:?}");
    }
}

#[tokio::test]
async fn other_answers_than_yes_are_told() {
    let server = Elsewhere::plain("127.0.0.1:0", |path| match path {
        "/503" => answer("503 Busy", &[("Retry-After", "7")], b"later"),
        "/429" => answer("429 Slow Down", &[], b""),
        "/204" => Script::Sends(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/206" => answer("206 Partial Content", &[], b"pic"),
        "/304" => Script::Sends(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
        _ => status("404 Not Found"),
    })
    .await;
    let egress = egress(ALLOWED, &here());
    for (path, code, passing, patience) in [
        ("/503", 503, true, Some(Duration::from_secs(7))),
        ("/429", 429, true, None),
        ("/204", 204, false, None),
        ("/206", 206, false, None),
        ("/304", 304, false, None),
        ("/404", 404, false, None),
    ] {
        let error = refusal(&egress, &server.url("http", "here.example", path)).await;
        assert_eq!(error.is_passing(), passing, "{path}");
        let EgressError::Status {
            status,
            retry_after,
        } = error
        else {
            panic!("{path}: {error:?}");
        };
        assert_eq!((status, retry_after), (code, patience));
    }
}

#[tokio::test]
async fn a_port_without_a_server_is_told() {
    let gone = Elsewhere::plain("127.0.0.1:0", |_| status("404 Not Found")).await;
    let url = gone.url("http", "here.example", "/");
    drop(gone);
    let egress = egress(ALLOWED, &here());
    // The listener's task ends a moment after its handle.
    for _ in 0..100 {
        if let EgressError::Connect(error) = refusal(&egress, &url).await {
            let told = format!("{error:?} {error}");
            assert!(!told.contains("here.example"), "not for the log: {told}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it still answers");
}

#[tokio::test]
async fn a_post_is_answered_and_goes_nowhere_else() {
    let server = Elsewhere::plain("127.0.0.1:0", |path| match path {
        "/moved" => redirect("/hook"),
        "/later" => answer("503 Busy", &[("Retry-After", "9")], b"later"),
        "/long" => ok(&[b'x'; 10_000]),
        "/drips" => Script::Repeats(
            b"HTTP/1.1 202 Accepted\r\n\r\n".to_vec(),
            b"y".to_vec(),
            Duration::from_millis(5),
        ),
        "/stalls" => Script::Stalls(Vec::new()),
        _ => ok(b"thanks"),
    })
    .await;
    let names = Names::new(&[
        ("here.example", &[&["127.0.0.1"]]),
        ("inside.example", &[&["10.0.0.1"]]),
    ]);
    let egress = egress(ALLOWED, &names);
    let post = async |path: &str, time_max: Duration| {
        let target = egress
            .check(&server.url("http", "here.example", path))
            .unwrap();
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        let body = Bytes::from_static(b"{\"id\":1}");
        egress.post(&target, headers, body, time_max).await
    };
    let (enough, little) = (Duration::from_secs(30), Duration::from_millis(300));

    let answer = post("/hook", enough).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, b"thanks".as_slice()));
    let request = server.requests()[0].to_lowercase();
    assert!(request.starts_with("post /hook http/1.1\r\n"), "{request}");
    assert!(
        request.contains("\r\ncontent-type: application/json\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n{\"id\":1}"), "{request}");

    assert_eq!(post("/moved", enough).await.unwrap().status, 302);
    assert_eq!(
        server.requests().len(),
        2,
        "a body goes where it was meant to"
    );
    let answer = post("/later", enough).await.unwrap();
    assert_eq!(answer.retry_after, Some(Duration::from_secs(9)));
    let answer = post("/long", enough).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 4096));
    let answer = post("/drips", little).await.unwrap();
    assert_eq!(answer.status, 202, "the head was there in time");
    let error = post("/stalls", little).await.unwrap_err();
    assert!(matches!(error, EgressError::TimedOut(_)), "{error:?}");

    let target = egress.check("https://inside.example/hook").unwrap();
    let error = egress
        .post(&target, HeaderMap::new(), Bytes::new(), enough)
        .await
        .unwrap_err();
    assert!(matches!(error, EgressError::NotPublic), "{error:?}");
}
