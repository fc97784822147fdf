//! The client's side: the fields that sign a request.

use std::{fmt, str::FromStr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::Mac;
use time::OffsetDateTime;
use url::Url;

use super::{NONCE_BYTES_MAX, NONCE_BYTES_MIN, SIGNATURE, SIGNATURE_INPUT, keyed};
use crate::auth::{
    api_key::{AgentSecret, KeyId},
    digest::{CONTENT_DIGEST, content_digest},
};

/// The label under which a signature is sent; any would do.
const LABEL: &str = "orfeas";
/// Random bytes of a nonce: no two requests of a key ever meet.
const NONCE_RANDOM_BYTES: usize = 18;

/// What makes a request unlike every other one of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

/// A text that can't be a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a nonce has {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} printable ASCII characters, no quotes or backslashes among them"
)]
pub struct NonceError;

impl Nonce {
    /// A new random nonce.
    #[expect(
        clippy::new_without_default,
        reason = "a default that differs each time would surprise"
    )]
    #[must_use]
    pub fn new() -> Self {
        let random: [u8; NONCE_RANDOM_BYTES] = rand::random();
        Self(URL_SAFE_NO_PAD.encode(random))
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if (NONCE_BYTES_MIN..=NONCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NonceError)
        }
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that is to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned<'a> {
    pub method: &'a Method,
    pub url: &'a Url,
    /// `None` for a request without a body.
    pub body: Option<&'a [u8]>,
    pub created: OffsetDateTime,
    pub nonce: Nonce,
}

/// The fields to send with a request: `Content-Digest` if it has a body, `Signature-Input` and `Signature`, in this
/// order of their names. They cover the method, the path, the query if there is one, and the digest.
///
/// # Panics
/// Never: all that goes into the fields is visible ASCII.
#[must_use]
pub fn sign(request: Unsigned<'_>, key_id: &KeyId, secret: &AgentSecret) -> HeaderMap {
    let Unsigned {
        method,
        url,
        body,
        created,
        nonce,
    } = request;
    let mut headers = HeaderMap::new();
    let mut covered = vec![
        ("@method", method.as_str().to_owned()),
        ("@path", url.path().to_owned()),
    ];
    if let Some(query) = url.query().filter(|query| !query.is_empty()) {
        covered.push(("@query", format!("?{query}")));
    }
    if let Some(body) = body {
        let digest = content_digest(body);
        let text = digest.to_str().expect("base 64 is text").to_owned();
        covered.push((CONTENT_DIGEST_NAME, text));
        headers.insert(CONTENT_DIGEST, digest);
    }
    let names: Vec<String> = covered
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let parameters = format!(
        "({});created={};nonce=\"{nonce}\";keyid=\"{key_id}\";alg=\"hmac-sha256\"",
        names.join(" "),
        created.unix_timestamp(),
    );
    let mut base = String::new();
    for (name, value) in &covered {
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    let mac = keyed(secret.expose().as_bytes(), base.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut insert = |name: HeaderName, value: String| {
        let value = HeaderValue::try_from(value).expect("all parts are visible ASCII");
        headers.insert(name, value);
    };
    insert(SIGNATURE_INPUT, format!("{LABEL}={parameters}"));
    insert(SIGNATURE, format!("{LABEL}=:{signature}:"));
    headers
}

/// [`CONTENT_DIGEST`] as a component's name.
const CONTENT_DIGEST_NAME: &str = "content-digest";
