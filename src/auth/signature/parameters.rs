//! The parameters of a signature: when it was made, by which key, and its nonce.

use sfv::{BareItem, Parameters as Values};
use time::OffsetDateTime;

use super::{NONCE_BYTES_MAX, NONCE_BYTES_MIN, WINDOW, error::SignatureError};
use crate::auth::api_key::KeyId;

/// The one algorithm.
const ALGORITHM: &str = "hmac-sha256";

/// The parameters of a signature, checked one by one and not yet against the clock.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    /// Seconds since 1970.
    pub(super) created: i64,
    pub(super) expires: Option<i64>,
    pub(super) nonce: String,
    pub(super) key_id: KeyId,
}

impl Parameters {
    pub(super) fn parse(values: &Values) -> Result<Self, SignatureError> {
        let (mut created, mut expires, mut nonce, mut key_id) = (None, None, None, None);
        for (name, value) in values {
            match name.as_str() {
                "created" => created = Some(integer("created", value)?),
                "expires" => expires = Some(integer("expires", value)?),
                "nonce" => nonce = Some(text("nonce", value)?),
                "keyid" => key_id = Some(text("keyid", value)?),
                "alg" => match text("alg", value)? {
                    ALGORITHM => {}
                    found => {
                        return Err(SignatureError::Algorithm {
                            found: found.chars().take(64).collect(),
                        });
                    }
                },
                "tag" => drop(text("tag", value)?),
                name => {
                    return Err(SignatureError::UnknownParameter {
                        name: name.chars().take(64).collect(),
                    });
                }
            }
        }
        let missing = |name| SignatureError::MissingParameter { name };
        let parameters = Self {
            created: created.ok_or(missing("created"))?,
            expires,
            nonce: nonce.ok_or(missing("nonce"))?.to_owned(),
            key_id: key_id
                .ok_or(missing("keyid"))?
                .parse()
                .map_err(SignatureError::KeyId)?,
        };
        let found = parameters.nonce.len();
        if !(NONCE_BYTES_MIN..=NONCE_BYTES_MAX).contains(&found) {
            return Err(SignatureError::Nonce { found });
        }
        match expires {
            Some(expires) if expires <= parameters.created => Err(SignatureError::ExpiresFirst {
                created: parameters.created,
                expires,
            }),
            _ => Ok(parameters),
        }
    }

    pub(super) fn check_fresh(&self, now: OffsetDateTime) -> Result<(), SignatureError> {
        let now = now.unix_timestamp();
        // Structured integers have at most 15 digits, so differences never overflow.
        let age = now - self.created;
        let window = WINDOW.as_secs().cast_signed();
        if age > window {
            return Err(SignatureError::TooOld { seconds: age });
        }
        if age < -window {
            return Err(SignatureError::TooNew { seconds: -age });
        }
        match self.expires {
            Some(expires) if expires < now => Err(SignatureError::Expired {
                seconds: now - expires,
            }),
            _ => Ok(()),
        }
    }
}

fn integer(name: &'static str, value: &BareItem) -> Result<i64, SignatureError> {
    match value {
        BareItem::Integer(seconds) => Ok(i64::from(*seconds)),
        _ => Err(SignatureError::Parameter {
            name,
            form: "an integer: seconds since 1970, without quotes",
        }),
    }
}

fn text<'a>(name: &'static str, value: &'a BareItem) -> Result<&'a str, SignatureError> {
    match value {
        BareItem::String(text) => Ok(text.as_str()),
        _ => Err(SignatureError::Parameter {
            name,
            form: "a string in quotes",
        }),
    }
}
