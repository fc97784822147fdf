use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use time::OffsetDateTime;

use super::{
    signer::{Nonce, Unsigned, sign},
    *,
};

mod refusals;

/// A request in parts that a test can change one by one.
#[derive(Debug, Clone)]
struct Sent {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    has_body: bool,
    public_url: Option<Url>,
}

const CREATED: i64 = 1_800_000_000;
const BODY: &[u8] = br#"{"query":"{ viewer { name } }"}"#;

fn now() -> OffsetDateTime {
    at(0)
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(CREATED + seconds).expect("in range")
}

fn url(text: &str) -> Url {
    text.parse().expect("a URL")
}

impl Sent {
    /// A signed POST with a body and a query.
    fn signed(key_id: &KeyId, secret: &AgentSecret) -> Self {
        let url = url("https://meshes.example/graphql?trace=1&x=%20y");
        let unsigned = Unsigned {
            method: &Method::POST,
            url: &url,
            body: Some(BODY),
            created: now(),
            nonce: Nonce::new(),
        };
        let mut headers = sign(unsigned, key_id, secret);
        headers.insert("host", HeaderValue::from_static("meshes.example"));
        Self {
            method: Method::POST,
            uri: "/graphql?trace=1&x=%20y".parse().expect("a target"),
            headers,
            has_body: true,
            public_url: Some(self::url("https://meshes.example")),
        }
    }

    /// The same, with a signature over other components or with other parameters.
    fn resigned(mut self, covered: &str, parameters: &str, secret: &AgentSecret) -> Self {
        let input = format!("sig=({covered}){parameters}");
        self.set("signature-input", &input);
        self.set("signature", "sig=:AAAA:");
        // What would be signed, if it is anything that can be.
        let (covered, _) = fields(&self.headers).expect("well formed");
        let base = components(&covered)
            .and_then(|components| base(&covered, &components, &self.message()));
        if let Ok(base) = base {
            let mac = keyed(secret.expose().as_bytes(), &base).finalize();
            let signature = STANDARD.encode(mac.into_bytes());
            self.set("signature", &format!("sig=:{signature}:"));
        }
        self
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, value.parse().expect("a value"));
    }

    fn message(&self) -> Message<'_> {
        Message {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
            has_body: self.has_body,
            public_url: self.public_url.as_ref(),
        }
    }

    fn parse(&self) -> Result<SignedRequest, SignatureError> {
        SignedRequest::parse(self.message())
    }

    /// Whether it counts as signed by a key.
    fn counts(&self, key_id: &KeyId, secret: &AgentSecret) -> bool {
        self.parse().is_ok_and(|request| {
            request.key_id() == key_id && request.verify(std::slice::from_ref(secret))
        })
    }
}

fn key() -> (KeyId, AgentSecret) {
    (KeyId::new(), AgentSecret::from_bytes(&rand::random()))
}

/// Parameters that are all right.
fn parameters(key_id: &KeyId) -> String {
    format!(";created={CREATED};nonce=\"0123456789\";keyid=\"{key_id}\"")
}

/// The RFC's own example, appendix B.2.5: the base letter by letter, and the signature bit by bit.
#[test]
fn the_rfc_s_example_verifies() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-length", "18"),
        (
            "signature-input",
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        ),
        (
            "signature",
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
        ),
    ] {
        headers.insert(name, value.parse().expect("a value"));
    }
    let sent = Sent {
        method: Method::POST,
        uri: "/foo?param=Value&Pet=dog".parse().expect("a target"),
        headers,
        has_body: true,
        public_url: None,
    };
    let (covered, signature) = fields(&sent.headers).expect("well formed");
    let components = components(&covered).expect("known");
    let base = base(&covered, &components, &sent.message()).expect("all there");
    assert_eq!(
        String::from_utf8(base.clone()).expect("text"),
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
         \"@authority\": example.com\n\
         \"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\")\
         ;created=1618884473;keyid=\"test-shared-secret\""
    );
    let secret = STANDARD
        .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
        .expect("base 64");
    assert!(keyed(&secret, &base).verify_slice(&signature).is_ok());
    assert!(
        matches!(sent.parse(), Err(SignatureError::MissingParameter { .. })),
        "it covers too little for us"
    );
}

/// The values of the derived components that the RFC gives in its section 2.2.
#[test]
fn components_have_the_rfc_s_values() {
    let (id, secret) = key();
    let mut sent = Sent::signed(&id, &secret);
    let value = |sent: &Sent, item: &str| {
        let list: sfv::List = Parser::new(item).parse().expect("a list");
        let Some(ListEntry::Item(item)) = list.first() else {
            panic!("no item");
        };
        Component::parse(item)
            .and_then(|component| component.value(&sent.message()))
            .map(|value| String::from_utf8(value).expect("text"))
    };
    sent.public_url = Some(url("https://www.example.com:443/"));
    sent.set("host", "WWW.Example.COM:443");
    sent.uri = "/path?param=value&foo=bar&baz=bat%2Dman&qux=&with+space=a+b%20c&plus=%2B"
        .parse()
        .expect("a target");
    for (item, expected) in [
        (r#""@method""#, "POST"),
        (r#""@authority""#, "www.example.com"),
        (r#""@scheme""#, "https"),
        (r#""@path""#, "/path"),
        (r#""@query-param";name="baz""#, "bat-man"),
        (r#""@query-param";name="qux""#, ""),
        (r#""@query-param";name="with%20space""#, "a%20b%20c"),
        (r#""@query-param";name="plus""#, "%2B"),
        (r#""host""#, "WWW.Example.COM:443"),
    ] {
        assert_eq!(value(&sent, item).as_deref(), Ok(expected), "{item}");
    }
    let query = sent.uri.query().expect("there").to_owned();
    assert_eq!(value(&sent, r#""@query""#), Ok(format!("?{query}")));
    assert_eq!(
        value(&sent, r#""@request-target""#),
        Ok(format!("/path?{query}"))
    );
    assert_eq!(
        value(&sent, r#""@target-uri""#),
        Ok(format!("https://www.example.com/path?{query}"))
    );
    sent.uri = "/".parse().expect("a target");
    sent.public_url = Some(url("https://example.com/below/"));
    sent.set("x-field", "  padded\t");
    for (item, expected) in [
        (r#""@query""#, "?"),
        (r#""@path""#, "/"),
        (r#""@request-target""#, "/"),
        (r#""@target-uri""#, "https://example.com/below/"),
        (r#""x-field""#, "padded"),
    ] {
        assert_eq!(value(&sent, item).as_deref(), Ok(expected), "{item}");
    }
    sent.public_url = None;
    sent.set("host", "[::1]:80");
    assert_eq!(value(&sent, r#""@scheme""#).as_deref(), Ok("http"));
    assert_eq!(value(&sent, r#""@authority""#).as_deref(), Ok("[::1]"));
    sent.headers.remove("host");
    assert_eq!(
        value(&sent, r#""@authority""#),
        Err(SignatureError::NoAuthority)
    );
}

#[test]
fn every_byte_counts() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret);
    assert!(sent.counts(&id, &secret));
    assert!(sent.parse().expect("valid").covers_content_digest());

    for (name, value) in &sent.headers {
        if name == "host" {
            continue;
        }
        // Two bits: the last digit of 32 bytes in base 64 has as many that mean nothing, and may not be spelt otherwise.
        for (place, bit) in (0..value.len()).flat_map(|place| [(place, 1), (place, 2)]) {
            let mut bytes = value.as_bytes().to_vec();
            bytes[place] ^= bit;
            let Ok(changed) = HeaderValue::from_bytes(&bytes) else {
                continue;
            };
            let mut other = sent.clone();
            other.headers.insert(name.clone(), changed);
            assert!(!other.counts(&id, &secret), "{name}: byte {place}");
        }
        let mut other = sent.clone();
        other.headers.remove(name);
        assert!(!other.counts(&id, &secret), "without {name}");
    }
    let target = sent.uri.to_string();
    for place in 1..target.len() {
        let mut bytes = target.clone().into_bytes();
        bytes[place] ^= 1;
        let Some(uri) = String::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
        else {
            continue;
        };
        let other = Sent {
            uri,
            ..sent.clone()
        };
        assert!(!other.counts(&id, &secret), "{}", other.uri);
    }
    for method in [
        Method::PUT,
        Method::GET,
        Method::from_bytes(b"post").expect("a method"),
    ] {
        let other = Sent {
            method,
            ..sent.clone()
        };
        assert!(!other.counts(&id, &secret), "{}", other.method);
    }
}

#[test]
fn only_the_key_s_secrets_verify() {
    let (id, secret) = key();
    let (_, other) = key();
    let request = Sent::signed(&id, &secret).parse().expect("valid");
    assert!(request.verify(&[other.clone(), secret.clone()]));
    assert!(request.verify(&[secret, other.clone()]));
    assert!(!request.verify(&[other]));
    assert!(!request.verify(&[]));
    assert_eq!(request.created(), CREATED);
    let nonces: std::collections::HashSet<[u8; 32]> = (0..100)
        .map(|_| {
            let (id, secret) = key();
            Sent::signed(&id, &secret)
                .parse()
                .expect("valid")
                .nonce_hash()
        })
        .collect();
    assert_eq!(nonces.len(), 100, "each request has a nonce of its own");
}

#[test]
fn the_window_is_closed_at_both_ends() {
    let (id, secret) = key();
    let request = Sent::signed(&id, &secret).parse().expect("valid");
    for seconds in [-300, -299, 0, 299, 300] {
        assert_eq!(request.check_fresh(at(seconds)), Ok(()), "{seconds}");
    }
    assert_eq!(
        request.check_fresh(at(301)),
        Err(SignatureError::TooOld { seconds: 301 })
    );
    assert_eq!(
        request.check_fresh(at(-301)),
        Err(SignatureError::TooNew { seconds: 301 })
    );
    let brief = Sent::signed(&id, &secret)
        .resigned(
            r#""@method" "@path" "@query" "content-digest""#,
            &format!("{};expires={}", parameters(&id), CREATED + 10),
            &secret,
        )
        .parse()
        .expect("valid");
    assert_eq!(brief.check_fresh(at(10)), Ok(()));
    assert_eq!(
        brief.check_fresh(at(11)),
        Err(SignatureError::Expired { seconds: 1 })
    );
}

/// What clients may send beyond what our own sends.
#[test]
fn other_ways_to_sign_count() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret);
    let full = r#""@method" "@path" "@query" "content-digest""#;
    let rest = parameters(&id);
    for covered in [
        full,
        r#""content-digest" "@query" "@path" "@method""#,
        r#""@method" "@target-uri" "content-digest""#,
        r#""@method" "@target-uri" "@path" "@query" "@authority" "@scheme" "@request-target" "content-digest" "host""#,
        r#""@method" "@path" "@query" "@query-param";name="trace" "@query-param";name="x" "content-digest""#,
    ] {
        let other = sent.clone().resigned(covered, &rest, &secret);
        assert!(other.counts(&id, &secret), "{covered}");
    }
    for more in [
        ";alg=\"hmac-sha256\"",
        ";tag=\"my app\"",
        ";expires=1800000001",
    ] {
        let other = sent
            .clone()
            .resigned(full, &format!("{rest}{more}"), &secret);
        assert!(other.counts(&id, &secret), "{more}");
    }
    // Spaces where the grammar allows them are no part of what is signed.
    let mut spaced = sent.clone().resigned(full, &rest, &secret);
    let input = spaced.headers["signature-input"].to_str().expect("text");
    let input = format!(
        "  {} ",
        input.replace("\" \"", "\"   \"").replace(';', ";  ")
    );
    spaced.set("signature-input", &input);
    assert!(spaced.counts(&id, &secret), "{input}");

    let mut bare = sent.clone();
    bare.has_body = false;
    bare.uri = "/graphql".parse().expect("a target");
    for covered in [r#""@method" "@path""#, r#""@method" "@path" "@query""#] {
        let bare = bare.clone().resigned(covered, &rest, &secret);
        assert!(bare.counts(&id, &secret), "{covered}");
        assert!(!bare.parse().expect("valid").covers_content_digest());
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        method in "GET|POST|OPTIONS",
        path in "(/[a-zA-Z0-9._~!$&'()*+,;=:@%-]{0,12}){0,4}",
        query in proptest::option::of("[a-zA-Z0-9._~!$&()*+,;=:@/?-]{0,40}"),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
        bytes in any::<[u8; 32]>(),
        created in 0_i64..100_000_000_000,
        nonce in "[!#-\\[\\]-~]{8,128}",
    ) {
        let mut url = url("http://localhost:8080");
        url.set_path(&path);
        url.set_query(query.as_deref());
        let secret = AgentSecret::from_bytes(&bytes);
        let id = KeyId::new();
        let method: Method = method.parse().expect("a method");
        let created = OffsetDateTime::from_unix_timestamp(created).expect("in range");
        let nonce: Nonce = nonce.parse().expect("a nonce");
        let unsigned = Unsigned { method: &method, url: &url, body: body.as_deref(), created, nonce };
        let headers = sign(unsigned, &id, &secret);
        let target = &url[url::Position::BeforePath..];
        let sent = Sent {
            method,
            uri: target.parse().expect("a target"),
            headers,
            has_body: body.as_ref().is_some_and(|body| !body.is_empty()),
            public_url: None,
        };
        let request = sent.parse().expect("valid");
        prop_assert!(request.verify(&[secret]));
        prop_assert_eq!(request.check_fresh(created), Ok(()));
        prop_assert_eq!(request.covers_content_digest(), body.is_some());
        let mut hasher = match crate::auth::digest::ExpectedDigest::of(&sent.headers).expect("valid") {
            Some(digest) => digest.hasher(),
            None => return Ok(()),
        };
        hasher.update(&body.expect("it has a digest"));
        prop_assert!(hasher.verify());
    }

    /// No field, however odd, does more than be refused.
    #[test]
    fn rubbish_is_refused(input in "[ -~]{0,80}", signature in "[ -~]{0,80}") {
        let (id, secret) = key();
        let mut sent = Sent::signed(&id, &secret);
        sent.set("signature-input", &input);
        sent.set("signature", &signature);
        prop_assert!(!sent.counts(&id, &secret));
    }
}
