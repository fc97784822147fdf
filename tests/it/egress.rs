//! Calling addresses that strangers name: where they lead to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use orfeas::egress::{Egress, EgressError, EgressOptions, GetLimits};

use crate::harness::elsewhere::{
    CERTIFIED, Elsewhere, Names, Script, authority, egress, ok, redirect, status,
};

mod answers;

/// The one inner address that these tests allow.
const ALLOWED: &[&str] = &["127.0.0.1/32"];
const LIMITS: GetLimits = GetLimits {
    bytes_max: 100_000,
    deadline: Duration::from_secs(30),
};

fn here() -> Arc<Names> {
    Names::new(&[("here.example", &[&["127.0.0.1"]])])
}

async fn get(egress: &Egress, url: &str) -> Result<Bytes, EgressError> {
    egress.get(&egress.check(url)?, LIMITS).await
}

async fn refusal(egress: &Egress, url: &str) -> EgressError {
    match get(egress, url).await {
        Ok(body) => panic!("{url} gave {} bytes", body.len()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_is_asked_gives_nothing_away() {
    let keeps = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture";
    let server = Elsewhere::plain("127.0.0.1:0", |_| Script::Keeps(keeps.to_vec())).await;
    let names = here();
    let egress = egress(ALLOWED, &names);
    let url = server.url("http", "here.example", "/a.png?size=2#top");
    for turn in 1..=2 {
        assert_eq!(get(&egress, &url).await.unwrap(), "picture");
        assert_eq!(server.connections(), turn, "no connection is kept");
        assert_eq!(
            names.asked("here.example"),
            turn,
            "once for each connection"
        );
    }
    let request = server.requests()[0].to_lowercase();
    let mut lines: Vec<&str> = request.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "get /a.png?size=2 http/1.1");
    lines.sort_unstable();
    let host = format!("host: here.example:{}", server.address.port());
    let agent = format!("user-agent: orfeas/{}", env!("CARGO_PKG_VERSION"));
    let expected = ["accept-encoding: identity", "accept: */*", &host, &agent];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn over_tls_the_server_is_who_it_says() {
    let server = Elsewhere::secure("127.0.0.1:0", |_| ok(b"picture")).await;
    let plain = Elsewhere::plain("127.0.0.1:0", |_| ok(b"picture")).await;
    let names = Names::new(&[
        (CERTIFIED, &[&["127.0.0.1"]]),
        ("other.example", &[&["127.0.0.1"]]),
    ]);
    let strict = egress(ALLOWED, &names);
    let trusting = strict.clone().trusting(authority());
    let url = server.url("https", CERTIFIED, "/");
    assert_eq!(get(&trusting, &url).await.unwrap(), "picture");
    for (egress, url, what) in [
        (
            &trusting,
            server.url("https", "other.example", "/"),
            "another's certificate",
        ),
        (
            &trusting,
            server.url("https", "127.0.0.1", "/"),
            "no name at all",
        ),
        (&trusting, plain.url("https", CERTIFIED, "/"), "no TLS"),
        (&strict, url.clone(), "an authority that nobody knows"),
    ] {
        let error = refusal(egress, &url).await;
        assert!(
            matches!(error, EgressError::Connect(_)),
            "{what}: {error:?}"
        );
    }
    assert_eq!(server.requests().len(), 1, "the others were told nothing");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called() {
    let trap = Elsewhere::plain("127.0.0.2:0", |_| ok(b"secret")).await;
    let inner = [
        "127.0.0.2",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "168.63.129.16",
        "::",
        "::1",
        "::ffff:127.0.0.2",
        "::ffff:10.0.0.1",
        "::127.0.0.2",
        "64:ff9b::7f00:2",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:2::1",
        "2001:0:7f00:2::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
    ];
    // Alone, behind an address that may be called, and before it.
    let hosts: Vec<(String, Vec<&str>)> = inner
        .iter()
        .flat_map(|address| {
            [
                vec![*address],
                vec!["127.0.0.1", address],
                vec![address, "127.0.0.1"],
            ]
        })
        .enumerate()
        .map(|(number, answer)| (format!("inside-{number}.example"), answer))
        .collect();
    let answers: Vec<[&[&str]; 1]> = hosts
        .iter()
        .map(|(_, answer)| [answer.as_slice()])
        .collect();
    let known: Vec<(&str, &[&[&str]])> = hosts
        .iter()
        .zip(&answers)
        .map(|((host, _), answers)| (host.as_str(), answers.as_slice()))
        .collect();
    let egress = egress(ALLOWED, &Names::new(&known));
    for (host, answer) in &hosts {
        for scheme in ["http", "https"] {
            let error = refusal(&egress, &trap.url(scheme, host, "/")).await;
            assert!(
                matches!(error, EgressError::NotPublic),
                "{answer:?}: {error:?}"
            );
            assert!(!error.is_passing());
        }
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_changes_nothing() {
    let server = Elsewhere::plain("127.0.0.1:0", |path| match path {
        "/again" => redirect("/picture"),
        _ => ok(b"picture"),
    })
    .await;
    let port = server.address.port();
    let trap = Elsewhere::plain(&format!("127.0.0.2:{port}"), |_| ok(b"secret")).await;
    let rebinding: &[&[&str]] = &[&["127.0.0.1"], &["127.0.0.2"]];
    let names = Names::new(&[("turns.example", rebinding), ("hops.example", rebinding)]);
    let egress = egress(ALLOWED, &names);

    let url = server.url("http", "turns.example", "/picture");
    assert_eq!(get(&egress, &url).await.unwrap(), "picture");
    assert_eq!(names.asked("turns.example"), 1, "nobody asks a second time");
    let error = refusal(&egress, &url).await;
    assert!(matches!(error, EgressError::NotPublic), "{error:?}");

    // Between two hops there is time for it, too.
    let error = refusal(&egress, &server.url("http", "hops.example", "/again")).await;
    assert!(matches!(error, EgressError::NotPublic), "{error:?}");
    assert_eq!(names.asked("hops.example"), 2);
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn unknown_and_inner_names_read_the_same() {
    let names = Names::new(&[
        ("inside.example", &[&["10.0.0.1"]]),
        ("empty.example", &[&[]]),
    ]);
    let egress = egress(ALLOWED, &names);
    let inner = refusal(&egress, "https://inside.example/").await;
    assert!(matches!(inner, EgressError::NotPublic));
    for url in ["https://nowhere.example/", "https://empty.example/"] {
        let unknown = refusal(&egress, url).await;
        assert!(matches!(unknown, EgressError::Lookup(_)), "{unknown:?}");
        assert_eq!(unknown.to_string(), inner.to_string());
        assert_eq!(unknown.is_passing(), inner.is_passing());
    }
}

#[tokio::test]
async fn http_leads_to_allowed_networks_alone() {
    let names = Names::new(&[("public.example", &[&["93.184.215.14"]])]);
    for allowed in [&[][..], ALLOWED] {
        let egress = egress(allowed, &names);
        let error = refusal(&egress, "http://public.example/").await;
        assert!(matches!(error, EgressError::Url(_)), "{error:?}");
    }
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_they_may_lead() {
    let server = Elsewhere::plain("127.0.0.1:0", |path| match path {
        "/0" => ok(b"picture"),
        "/1" => redirect("0"),
        "/port" => redirect("http://here.example:22/"),
        "/loop" => redirect("/loop"),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/hex" => redirect("https://0xa9fea9fe/"),
        "/inside" => redirect("http://inside.example/"),
        "/file" => redirect("file:///etc/passwd"),
        "/user" => redirect("http://user@here.example/"),
        _ => status("302 Found"),
    })
    .await;
    let names = Names::new(&[
        ("here.example", &[&["127.0.0.1"]]),
        ("inside.example", &[&["10.0.0.1"]]),
    ]);
    let egress = egress(ALLOWED, &names);
    let url = |path: &str| server.url("http", "here.example", path);

    assert_eq!(get(&egress, &url("/1")).await.unwrap(), "picture");
    let before = server.requests().len();
    let error = refusal(&egress, &url("/loop")).await;
    assert!(matches!(error, EgressError::Redirects), "{error:?}");
    assert_eq!(
        server.requests().len() - before,
        4,
        "three redirects are followed"
    );
    for path in ["/metadata", "/hex", "/inside"] {
        let error = refusal(&egress, &url(path)).await;
        assert!(matches!(error, EgressError::NotPublic), "{path}: {error:?}");
    }
    for path in ["/file", "/user", "/port", "/nowhere"] {
        let error = refusal(&egress, &url(path)).await;
        assert!(
            matches!(error, EgressError::Redirect(_)),
            "{path}: {error:?}"
        );
    }
    let last = server.requests().into_iter().last().unwrap();
    assert!(!last.to_lowercase().contains("referer"), "{last}");

    let steps = Elsewhere::plain("127.0.0.1:0", |path| match path {
        "/0" => ok(b"picture"),
        other => redirect(&format!("/{}", other[1..].parse::<u32>().unwrap() - 1)),
    })
    .await;
    let url = |path: &str| steps.url("http", "here.example", path);
    assert_eq!(get(&egress, &url("/3")).await.unwrap(), "picture");
    let error = refusal(&egress, &url("/4")).await;
    assert!(matches!(error, EgressError::Redirects), "{error:?}");
}

#[tokio::test]
async fn the_systems_resolver_is_held_to_the_same() {
    let egress = Egress::new(EgressOptions::default());
    for url in ["https://localhost/", "https://localhost.:8443/"] {
        let error = refusal(&egress, url).await;
        assert!(matches!(error, EgressError::NotPublic), "{url}: {error:?}");
    }
}
