//! Signed requests: any head of a request, and a signature that counts for nothing but what was signed.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use orfeas::auth::{
    api_key::{AgentSecret, KeyId},
    signature::{
        Message, SignedRequest, claimed_key, is_signed,
        signer::{Nonce, Unsigned, sign},
    },
};
use time::OffsetDateTime;
use url::Url;

use super::{Target, plain};

const WORDS: [&[u8]; 20] = [
    b"signature-input: ",
    b"signature: ",
    b"content-digest: ",
    b"sig=(\"@method\" \"@path\")",
    b";created=",
    b";nonce=\"",
    b";keyid=\"",
    b";alg=\"hmac-sha256\"",
    b";expires=",
    b"\"@query\" ",
    b"\"@target-uri\" ",
    b"\"@authority\" ",
    b"\"@query-param\";name=\"x\" ",
    b";sf",
    b";bs",
    b";req",
    b":AAAA:",
    b"\n",
    b", ",
    b"?1",
];
const HOST: &str = "https://meshes.example";

/// A request's head as lines.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    fn read(input: &[u8]) -> Option<Self> {
        let mut lines = input.split(|&byte| byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let (method, uri) = first.split_once(' ')?;
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let value = line[colon + 1..].trim_ascii();
            headers.append(
                HeaderName::from_bytes(&line[..colon]).ok()?,
                HeaderValue::from_bytes(value).ok()?,
            );
        }
        Some(Self {
            method: method.parse().ok()?,
            uri: uri.parse().ok()?,
            headers,
        })
    }

    fn lines(method: &Method, target: &str, headers: &HeaderMap) -> Vec<u8> {
        let mut lines = format!("{method} {target}\nhost: meshes.example\n").into_bytes();
        for (name, value) in headers {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        lines
    }

    fn has_body(&self) -> bool {
        self.method == Method::POST
    }

    /// What a signature must cover. A digest of no body says nothing, and anybody may add one on the way.
    fn covered(&self) -> (&Method, &str, Option<&str>, Vec<&HeaderValue>) {
        let digest = self.headers.get_all("content-digest").iter();
        let digest = digest.filter(|_| self.has_body()).collect();
        (&self.method, self.uri.path(), self.uri.query(), digest)
    }
}

#[test]
fn any_head_is_read_and_no_signature_covers_another_request() {
    let secret = AgentSecret::from_bytes(&[7; 32]);
    let key_id = KeyId::new();
    let target = "/graphql?trace=1&x=%20y";
    let url: Url = format!("{HOST}{target}").parse().unwrap();
    let signed = |method: &Method, body: Option<&[u8]>| {
        let unsigned = Unsigned {
            method,
            url: &url,
            body,
            created: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(),
            nonce: Nonce::new(),
        };
        Head::lines(method, target, &sign(unsigned, &key_id, &secret))
    };
    let seeds = vec![
        signed(&Method::POST, Some(b"{\"query\":\"{ viewer { name } }\"}")),
        signed(&Method::GET, None),
    ];
    let originals: Vec<Head> = seeds.iter().filter_map(|seed| Head::read(seed)).collect();
    assert_eq!(originals.len(), 2);
    let public_url: Url = HOST.parse().unwrap();
    let fuzzed = Target {
        name: "signatures",
        seeds,
        words: &WORDS,
    };
    fuzzed.run(|input| {
        let Some(head) = Head::read(input) else {
            return Ok("no request".into());
        };
        let message = Message {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            has_body: head.has_body(),
            public_url: Some(&public_url),
        };
        let claimed = claimed_key(&head.headers);
        let request = match SignedRequest::parse(message) {
            Ok(request) => request,
            Err(error) => return Ok(plain(error)),
        };
        if !is_signed(&head.headers) || claimed.as_ref() != Some(request.key_id()) {
            return Err("it is read as signed by a key that it doesn't claim".into());
        }
        if !request.verify(std::slice::from_ref(&secret)) {
            return Ok("another signature".into());
        }
        let is_original = originals
            .iter()
            .any(|original| original.covered() == head.covered());
        if is_original {
            Ok("the signature counts".into())
        } else {
            Err(format!("the signature counts for {:?}", head.covered()))
        }
    });
}
