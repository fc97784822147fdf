//! Signed requests: HTTP Message Signatures (RFC 9421) by `hmac-sha256`.
//!
//! The RFC leaves open what a signature must cover; here it is the method, the path and the query (or the target URI),
//! and the digest of the body if there is one. What is covered beyond that must be there and match. Where the RFC allows
//! several readings of one request (repeated fields, several signatures), the request is refused: a signature that can
//! be read in two ways protects nothing.

use std::{fmt, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, ListSerializer, Parser};
use sha2::{Digest, Sha256};
use subtle::Choice;
use time::OffsetDateTime;
use url::Url;

use super::{
    api_key::{AgentSecret, KeyId},
    digest::CONTENT_DIGEST,
};
use component::{Component, identifier};
use error::SignatureError;
use parameters::Parameters;

mod component;
pub mod error;
mod parameters;
pub mod signer;

/// How far a signature's `created` may lie from the server's clock, either way: the contract's figure. For twice as
/// long a nonce must be remembered.
pub const WINDOW: Duration = Duration::from_secs(300);
/// A nonce is longer than what a counter would give, so that nobody sends one.
const NONCE_BYTES_MIN: usize = 8;
/// Room for SHA-512 in hexadecimal digits; more says no more.
const NONCE_BYTES_MAX: usize = 128;
/// Eleven kinds of components exist; a request with more fields worth covering than this is none of ours.
const COMPONENTS_MAX: usize = 32;

const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// A request as it was received, without its body.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// Whether bytes follow the headers (`!body.is_end_stream()`).
    pub has_body: bool,
    /// What clients reach this server by: what `"@target-uri"` and `"@scheme"` are held against.
    pub public_url: Option<&'a Url>,
}

/// A signed request whose form is right; whether its signature is, [`verify`](Self::verify) tells.
#[derive(Clone)]
pub struct SignedRequest {
    base: Vec<u8>,
    signature: Vec<u8>,
    parameters: Parameters,
    covers_content_digest: bool,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The base may hold covered fields that are nobody else's business.
        f.debug_struct("SignedRequest")
            .field("key_id", &self.parameters.key_id)
            .field("created", &self.parameters.created)
            .finish_non_exhaustive()
    }
}

/// Whether a request carries a signature, or a part of one.
#[must_use]
pub fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE) || headers.contains_key(SIGNATURE_INPUT)
}

/// The key that a request claims to be signed by, however wrong the rest is; for the audit log alone.
#[must_use]
pub fn claimed_key(headers: &HeaderMap) -> Option<KeyId> {
    let inputs = dictionary(headers, &SIGNATURE_INPUT, INPUT_TITLE).ok()??;
    let (_, ListEntry::InnerList(covered)) = inputs.into_iter().next()? else {
        return None;
    };
    let BareItem::String(id) = covered.params.get("keyid")? else {
        return None;
    };
    id.as_str().parse().ok()
}

impl SignedRequest {
    /// Reads a request's signature, and checks that it covers what it must.
    ///
    /// # Errors
    /// [`SignatureError`] for anything but an age that is wrong or a signature that doesn't match.
    pub fn parse(message: Message<'_>) -> Result<Self, SignatureError> {
        let (covered, signature) = fields(message.headers)?;
        let parameters = Parameters::parse(&covered.params)?;
        let components = components(&covered)?;
        check_coverage(&components, &message)?;
        Ok(Self {
            base: base(&covered, &components, &message)?,
            signature,
            parameters,
            covers_content_digest: components.contains(&Component::Field(CONTENT_DIGEST)),
        })
    }

    /// Whether the signature's time is within [`WINDOW`] of the server's and it hasn't expired. To be asked again once
    /// a slow body is there.
    ///
    /// # Errors
    /// [`SignatureError::TooOld`], [`SignatureError::TooNew`], [`SignatureError::Expired`].
    pub fn check_fresh(&self, now: OffsetDateTime) -> Result<(), SignatureError> {
        self.parameters.check_fresh(now)
    }

    /// Whether one of the secrets made the signature. It takes as long whichever it is, and if none did.
    #[must_use]
    pub fn verify(&self, secrets: &[AgentSecret]) -> bool {
        let matches = secrets.iter().fold(Choice::from(0), |matches, secret| {
            let mac = keyed(secret.expose().as_bytes(), &self.base);
            let same = mac.verify_slice(&self.signature).is_ok();
            matches | Choice::from(u8::from(same))
        });
        matches.into()
    }

    /// The key that the request says it is signed by.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.parameters.key_id
    }

    /// When the request was signed, by the client's clock, in seconds since 1970.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.parameters.created
    }

    /// SHA-256 of the nonce: what is remembered of it, at a fixed length.
    #[must_use]
    pub fn nonce_hash(&self) -> [u8; 32] {
        Sha256::digest(self.parameters.nonce.as_bytes()).into()
    }

    /// Whether the body's digest is signed. It always is when there is a body.
    #[must_use]
    pub fn covers_content_digest(&self) -> bool {
        self.covers_content_digest
    }
}

/// The HMAC of a base, ready to be compared or written.
fn keyed(key: &[u8], base: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(base);
    mac
}

/// What the one signature covers, and its bytes.
fn fields(headers: &HeaderMap) -> Result<(InnerList, Vec<u8>), SignatureError> {
    let inputs = dictionary(headers, &SIGNATURE_INPUT, INPUT_TITLE)?;
    let signatures = dictionary(headers, &SIGNATURE, SIGNATURE_TITLE)?;
    let (inputs, mut signatures) = match (inputs, signatures) {
        (Some(inputs), Some(signatures)) => (inputs, signatures),
        (None, _) => {
            return Err(SignatureError::HalfSigned {
                absent: INPUT_TITLE,
                present: SIGNATURE_TITLE,
            });
        }
        (_, None) => {
            return Err(SignatureError::HalfSigned {
                absent: SIGNATURE_TITLE,
                present: INPUT_TITLE,
            });
        }
    };
    let (label, covered) = one(inputs, INPUT_TITLE)?;
    if signatures.len() != 1 {
        return Err(SignatureError::NotOne {
            field: SIGNATURE_TITLE,
            found: signatures.len(),
        });
    }
    let Some(signature) = signatures.swap_remove(label.as_str()) else {
        return Err(SignatureError::OtherLabel { label });
    };
    let member = |field, form| SignatureError::Member {
        field,
        label: label.clone(),
        form,
    };
    let ListEntry::InnerList(covered) = covered else {
        let form = "a list of components in parentheses, followed by parameters";
        return Err(member(INPUT_TITLE, form));
    };
    match signature {
        ListEntry::Item(Item {
            bare_item: BareItem::ByteSequence(bytes),
            ..
        }) if is_canonical(headers, &bytes) => Ok((covered, bytes)),
        _ => Err(member(
            SIGNATURE_TITLE,
            "base 64 between colons, padded, its last bits zero",
        )),
    }
}

/// Whether these bytes were written in the one way that base 64 has for them: parsers take texts whose unused last bits
/// are set, and then a changed request would count.
fn is_canonical(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let written = format!(":{}:", STANDARD.encode(bytes));
    headers
        .get(SIGNATURE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(&written))
}

const SIGNATURE_TITLE: &str = "Signature";
const INPUT_TITLE: &str = "Signature-Input";

fn dictionary(
    headers: &HeaderMap,
    name: &HeaderName,
    title: &'static str,
) -> Result<Option<Dictionary>, SignatureError> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    let value = match lines[..] {
        [] => return Ok(None),
        [value] => value,
        // Joined, a later line's label would overwrite an earlier one's, here and not everywhere.
        _ => {
            return Err(SignatureError::DuplicatedField {
                field: title.to_owned(),
                lines: lines.len(),
            });
        }
    };
    Parser::new(value.as_bytes())
        .parse()
        .map(Some)
        .map_err(|error| SignatureError::Malformed {
            field: title,
            detail: error.to_string(),
        })
}

fn one(dictionary: Dictionary, field: &'static str) -> Result<(String, ListEntry), SignatureError> {
    let found = dictionary.len();
    match dictionary.into_iter().next() {
        Some((label, entry)) if found == 1 => Ok((label.as_str().to_owned(), entry)),
        _ => Err(SignatureError::NotOne { field, found }),
    }
}

fn components(covered: &InnerList) -> Result<Vec<Component>, SignatureError> {
    let mut components = Vec::with_capacity(covered.items.len().min(COMPONENTS_MAX));
    for item in &covered.items {
        let component = Component::parse(item)?;
        if components.contains(&component) {
            return Err(SignatureError::DuplicatedComponent {
                component: identifier(item),
            });
        }
        // Asked for each one, so that no request makes us compare thousands.
        if components.len() == COMPONENTS_MAX {
            return Err(SignatureError::TooManyComponents {
                components_max: COMPONENTS_MAX,
            });
        }
        components.push(component);
    }
    Ok(components)
}

fn check_coverage(components: &[Component], message: &Message<'_>) -> Result<(), SignatureError> {
    let demand = |component: &'static str, covered: bool| {
        if covered {
            Ok(())
        } else {
            Err(SignatureError::MissingComponent { component })
        }
    };
    let covers = |component| components.contains(&component);
    demand("\"@method\"", covers(Component::Method))?;
    if !covers(Component::TargetUri) {
        let has_query = message.uri.query().is_some_and(|query| !query.is_empty());
        demand("\"@path\"", covers(Component::Path))?;
        demand("\"@query\"", covers(Component::Query) || !has_query)?;
    }
    let covers_digest = covers(Component::Field(CONTENT_DIGEST));
    demand("\"content-digest\"", covers_digest || !message.has_body)
}

/// The text that is signed (section 2.5 of the RFC): a line for each component, and the signature's parameters.
fn base(
    covered: &InnerList,
    components: &[Component],
    message: &Message<'_>,
) -> Result<Vec<u8>, SignatureError> {
    let mut base = Vec::new();
    for (item, component) in covered.items.iter().zip(components) {
        base.extend_from_slice(identifier(item).as_bytes());
        base.extend_from_slice(b": ");
        base.extend_from_slice(&component.value(message)?);
        base.push(b'\n');
    }
    let mut parameters = ListSerializer::new();
    parameters.members([&ListEntry::InnerList(covered.clone())]);
    let parameters = parameters.finish().expect("the list has one member");
    base.extend_from_slice(b"\"@signature-params\": ");
    base.extend_from_slice(parameters.as_bytes());
    Ok(base)
}

#[cfg(test)]
mod tests;
