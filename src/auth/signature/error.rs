//! Why a signature does not count, as the agent's author reads it.

use super::{NONCE_BYTES_MAX, NONCE_BYTES_MIN, WINDOW};
use crate::auth::api_key::KeyIdError;

/// Why a request's signature does not count. Each sentence tells what to change; none holds a secret or what the
/// signature should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("send {absent} beside {present}: a signature needs both fields")]
    HalfSigned {
        absent: &'static str,
        present: &'static str,
    },
    #[error("{field} can't be read as a dictionary of RFC 9651 ({detail})")]
    Malformed { field: &'static str, detail: String },
    #[error("send one signature: {field} has {found}")]
    NotOne { field: &'static str, found: usize },
    #[error(
        "Signature has no member `{label}`, which Signature-Input describes: use one label for both"
    )]
    OtherLabel { label: String },
    #[error("the member `{label}` of {field} must be {form}")]
    Member {
        field: &'static str,
        label: String,
        form: &'static str,
    },
    #[error(
        "{field} was sent in {lines} lines: send one, since what signs and what checks may join them differently"
    )]
    DuplicatedField { field: String, lines: usize },
    #[error("the signature covers the field {field}, which the request does not have")]
    MissingField { field: String },
    #[error("the signature must cover {component}")]
    MissingComponent { component: &'static str },
    #[error("the signature covers {component}, which can't be covered here: leave it out")]
    UnknownComponent { component: String },
    #[error("the signature covers {component} twice")]
    DuplicatedComponent { component: String },
    #[error("the signature covers more than {components_max} components: leave some out")]
    TooManyComponents { components_max: usize },
    #[error(
        "the signature covers the query parameter {name}, which the request has {found} times instead of once"
    )]
    QueryParameter { name: String, found: usize },
    #[error(
        "the signature covers \"@target-uri\", and this server doesn't know its own (ORFEAS_PUBLIC_URL): cover \"@path\" and \"@query\" instead"
    )]
    NoPublicUrl,
    #[error("the signature covers \"@authority\", and the request names no host")]
    NoAuthority,
    #[error("the signature's parameter `{name}` is missing")]
    MissingParameter { name: &'static str },
    #[error("the signature's parameter `{name}` must be {form}")]
    Parameter {
        name: &'static str,
        form: &'static str,
    },
    #[error("the signature's parameter `{name}` is not known here: leave it out")]
    UnknownParameter { name: String },
    #[error("`alg` says `{found}`: sign by `hmac-sha256`, or leave it out")]
    Algorithm { found: String },
    #[error("`nonce` must have {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} characters, not {found}")]
    Nonce { found: usize },
    #[error(transparent)]
    KeyId(KeyIdError),
    #[error("`expires` ({expires}) must lie after `created` ({created})")]
    ExpiresFirst { created: i64, expires: i64 },
    #[error("the signature was made {seconds} s ago, and {} s are allowed: sign each request anew, and set your clock", WINDOW.as_secs())]
    TooOld { seconds: i64 },
    #[error("the signature was made {seconds} s in the future, and {} s are allowed: set your clock", WINDOW.as_secs())]
    TooNew { seconds: i64 },
    #[error("the signature expired {seconds} s ago, as its `expires` says: sign each request anew")]
    Expired { seconds: i64 },
    /// For whoever looks keys up: one sentence for an unknown key and for a wrong signature, so that it can't be
    /// found out which keys there are.
    #[error(
        "the signature doesn't match, or there is no such key: check the secret (the HMAC's key is its whole text, `ofs_` included) and that what you sign is what you send"
    )]
    Mismatch,
}
