use super::*;

fn closed() -> Policy {
    Policy::new(Vec::new())
}

fn parsed(text: &str) -> Result<Target, EgressError> {
    Target::parse(text, &closed())
}

fn assert_not_public(text: &str) {
    let error = parsed(text).expect_err(text);
    assert!(matches!(error, EgressError::NotPublic), "{text}: {error:?}");
}

fn assert_refused(text: &str, expected: UrlError) {
    let error = parsed(text).expect_err(text);
    assert!(
        matches!(error, EgressError::Url(found) if found == expected),
        "{text}: {error:?}"
    );
}

#[test]
fn usual_addresses_are_taken() {
    for (text, shown) in [
        (
            "https://example.com/a/b.png?size=2#top",
            "https://example.com:443",
        ),
        ("https://example.com:443", "https://example.com:443"),
        ("https://EXAMPLE.com:8443/", "https://example.com:8443"),
        (
            "https://bücher.example/bild.png",
            "https://xn--bcher-kva.example:443",
        ),
        ("https://example.com./a.png", "https://example.com:443"),
        ("https://93.184.215.14/a.png", "https://93.184.215.14:443"),
        (
            "https://[2606:4700:4700::1111]/",
            "https://[2606:4700:4700::1111]:443",
        ),
    ] {
        let target = parsed(text).expect(text);
        assert_eq!(target.to_string(), shown);
        assert!(!target.as_str().contains('#'), "nobody gets the fragment");
    }
}

#[test]
fn a_target_shows_nothing_that_may_be_secret() {
    let target = parsed("https://example.com/geheim?token=geheim").expect("usual");
    assert!(!format!("{target} {target:?}").contains("geheim"));
    assert!(target.as_str().ends_with("/geheim?token=geheim"));
}

#[test]
fn an_inner_address_is_one_in_every_spelling() {
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.0.0.1..",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7F.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "00",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.16689662",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "[2001::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        assert_not_public(&format!("https://{host}/latest/meta-data/"));
        assert_not_public(&format!("https://{host}:8443/"));
    }
}

#[test]
fn what_is_no_address_of_a_server_is_refused() {
    for text in [
        "",
        "picture.png",
        "//example.com/a.png",
        "/etc/passwd",
        "https://",
        "https://#",
        "https://./",
        "https://exa mple.com/",
        " https://example.com/",
        "https://example.com/a b",
        "https://exam\tple.com/",
        "https://example.com/\r\nHost: other",
        "https://example.com\\@127.0.0.1/",
        "https:\\\\127.0.0.1/",
        "https://[fe80::1%25eth0]/",
        "https://[::1",
        "https://256.256.256.256/",
        "https://1.2.3.4.5/",
        "https://0x100000000/",
        "https://example.com:65536/",
        "https://exa<mple.com/",
    ] {
        assert_refused(text, UrlError::Unreadable);
    }
}

#[test]
fn only_https_is_spoken() {
    for text in [
        "http://example.com/",
        "http://127.0.0.1/",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:image/png;base64,AAAA",
        "unix:/run/docker.sock",
        "javascript:alert(1)",
    ] {
        assert_refused(text, UrlError::Scheme);
    }
}

#[test]
fn users_and_passwords_are_refused() {
    for text in [
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1%2f@example.com/",
    ] {
        assert_refused(text, UrlError::Credentials);
    }
}

#[test]
fn ports_of_other_services_are_refused() {
    for port in [0, 1, 22, 25, 53, 80, 110, 143, 389, 444, 587, 993, 1023] {
        assert_refused(&format!("https://example.com:{port}/"), UrlError::Port);
    }
    for port in [443, 1024, 8080, 8443, 65535] {
        parsed(&format!("https://example.com:{port}/")).expect("a web server's port");
    }
}

#[test]
fn long_addresses_are_refused_however_they_got_long() {
    let base = "https://example.com/";
    let fits = format!("{base}{}", "a".repeat(URL_BYTES_MAX - base.len()));
    parsed(&fits).expect("as long as it may be");
    assert_refused(&format!("{fits}a"), UrlError::TooLong);
    // Each of these is two bytes as it is written, six as it is sent.
    let grows = format!("{base}{}", "ä".repeat(900));
    assert_refused(&grows, UrlError::TooLong);
}

#[test]
fn allowed_networks_are_spoken_to_without_tls() {
    let policy = Policy::new(vec!["10.1.0.0/16".parse().expect("a network")]);
    let parsed = |text| Target::parse(text, &policy);
    assert_eq!(
        parsed("http://10.1.0.5:9000/a.png")
            .expect("allowed")
            .to_string(),
        "http://10.1.0.5:9000"
    );
    assert_eq!(
        parsed("http://10.1.0.5/").expect("allowed").to_string(),
        "http://10.1.0.5:80"
    );
    // A name is judged when it is called.
    parsed("http://pictures.internal/a.png").expect("may lie in the network");
    assert!(matches!(
        parsed("http://10.2.0.5/"),
        Err(EgressError::NotPublic)
    ));
    assert!(matches!(
        parsed("http://93.184.215.14/"),
        Err(EgressError::Url(UrlError::Scheme))
    ));
}

#[test]
fn redirects_are_held_to_the_same() {
    let from = parsed("https://example.com/a/b").expect("usual");
    let onward = |location: &str| {
        let location = HeaderValue::from_str(location).expect("a header's value");
        from.redirected(Some(&location), &closed())
    };
    for (location, expected) in [
        ("c.png", "https://example.com/a/c.png"),
        ("/c.png", "https://example.com/c.png"),
        ("//other.example/c.png", "https://other.example/c.png"),
        ("https://other.example:8443/", "https://other.example:8443/"),
        ("?again", "https://example.com/a/b?again"),
    ] {
        assert_eq!(onward(location).expect(location).as_str(), expected);
    }
    for location in ["https://169.254.169.254/", "//127.0.0.1/", "//[::1]:8443/"] {
        assert!(
            matches!(onward(location), Err(EgressError::NotPublic)),
            "{location}"
        );
    }
    for location in [
        "http://example.com/a/b",
        "file:///etc/passwd",
        "https://user@example.com/",
        "https://example.com:22/",
    ] {
        assert!(
            matches!(onward(location), Err(EgressError::Redirect(_))),
            "{location}"
        );
    }
    assert!(matches!(
        from.redirected(None, &closed()),
        Err(EgressError::Redirect(_))
    ));
}
