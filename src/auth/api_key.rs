//! API keys of agents: their ids, and the secrets that are derived from them.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::DeriveValueType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The digits of an id: Crockford's base 32 in lower case, without letters that look like digits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Random digits of an id, 5 bits each: 80 bits, so that ids never meet.
const RANDOM_DIGITS: usize = 16;
/// Check digits: a mistyped id is taken for another one with a chance of 1 in 2^20.
const CHECK_DIGITS: usize = 4;

/// The public name of an API key: `ofk_`, 16 random digits and 4 check digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType,
)]
#[serde(transparent)]
pub struct KeyId(String);

/// A text that is no id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyIdError {
    #[error("key ids look like `ofk_` and 20 digits or lower-case letters")]
    Form,
    #[error("the key id's check digits are wrong: it was mistyped or cut")]
    Checksum,
}

impl KeyId {
    /// What every id of a key starts with.
    pub const PREFIX: &'static str = "ofk_";

    /// A new random id.
    #[expect(
        clippy::new_without_default,
        reason = "a default that differs each time would surprise"
    )]
    #[must_use]
    pub fn new() -> Self {
        let random: [u8; RANDOM_DIGITS] = rand::random();
        let digits: String = random
            .iter()
            .map(|byte| char::from(DIGITS[usize::from(byte % 32)]))
            .collect();
        let check = check_digits(&digits);
        Self(format!("{}{digits}{check}", Self::PREFIX))
    }

    /// As clients write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_digits(digits: &str) -> String {
    let digest = Sha256::digest(digits.as_bytes());
    digest
        .iter()
        .take(CHECK_DIGITS)
        .map(|byte| char::from(DIGITS[usize::from(byte % 32)]))
        .collect()
}

// Keys that count up are not for us; sea-orm asks for this of every primary key.
impl sea_orm::TryFromU64 for KeyId {
    fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
        Err(sea_orm::DbErr::ConvertFromU64("KeyId"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let digits = text
            .strip_prefix(Self::PREFIX)
            .filter(|digits| digits.len() == RANDOM_DIGITS + CHECK_DIGITS)
            .filter(|digits| digits.bytes().all(|digit| DIGITS.contains(&digit)))
            .ok_or(KeyIdError::Form)?;
        let (random, check) = digits.split_at(RANDOM_DIGITS);
        if check_digits(random) == check {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyIdError::Checksum)
        }
    }
}

/// Length of the derived part of a secret in bytes: as strong as the digest that signs.
pub const SECRET_BYTES: usize = 32;
/// Digits of base 64 that those bytes take, without padding.
const SECRET_DIGITS: usize = 43;
/// Check digits of 6 bits: a mistyped secret passes with a chance of 1 in 2^36.
const SECRET_CHECK_DIGITS: usize = 6;

/// What an agent signs with: `ofs_`, 32 bytes in base64url and 6 check digits. The key of the HMAC is this whole text
/// in ASCII, so that an agent has nothing to decode.
#[derive(Clone)]
pub struct AgentSecret(Zeroizing<String>);

/// A text that is no secret of a key. It doesn't say which text: a wrong secret is often a part of a right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgentSecretError {
    #[error("secrets look like `ofs_` and 49 letters, digits, `-` or `_`")]
    Form,
    #[error("the secret's check digits are wrong: it was mistyped or cut")]
    Checksum,
}

impl AgentSecret {
    /// What every secret starts with.
    pub const PREFIX: &'static str = "ofs_";

    /// The secret whose derived part is these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        let digits = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes));
        let check = secret_check_digits(&digits);
        Self(Zeroizing::new(format!(
            "{}{}{check}",
            Self::PREFIX,
            digits.as_str()
        )))
    }

    /// As the agent writes it, and the HMAC's key; never to be logged or stored.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The digest's label keeps these digits apart from any other use of the same text.
fn secret_check_digits(digits: &str) -> String {
    let digest = Sha256::new_with_prefix(b"orfeas/agent-secret-check/1")
        .chain_update(digits.as_bytes())
        .finalize();
    let mut check = URL_SAFE_NO_PAD.encode(digest);
    check.truncate(SECRET_CHECK_DIGITS);
    check
}

impl fmt::Debug for AgentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentSecret(hidden)")
    }
}

impl FromStr for AgentSecret {
    type Err = AgentSecretError;

    fn from_str(text: &str) -> Result<Self, AgentSecretError> {
        let digits = text
            .strip_prefix(Self::PREFIX)
            .filter(|digits| {
                digits.len() == SECRET_DIGITS + SECRET_CHECK_DIGITS && digits.is_ascii()
            })
            .ok_or(AgentSecretError::Form)?;
        let (digits, check) = digits.split_at(SECRET_DIGITS);
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !digits.bytes().chain(check.bytes()).all(is_digit) {
            return Err(AgentSecretError::Form);
        }
        if secret_check_digits(digits) == check {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(AgentSecretError::Checksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_secret_is_told() {
        let secret = AgentSecret::from_bytes(&rand::random());
        let text = secret.expose();
        assert_eq!(text.len(), 53);
        let parsed: AgentSecret = text.parse().expect("a secret");
        assert_eq!(parsed.expose(), text);
        assert_eq!(format!("{secret:?}"), "AgentSecret(hidden)");
        for place in AgentSecret::PREFIX.len()..text.len() {
            let mut wrong: Vec<u8> = text.into();
            wrong[place] = if wrong[place] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(wrong).expect("digits are text");
            let refused = wrong.parse::<AgentSecret>().expect_err("mistyped");
            assert_eq!(refused, AgentSecretError::Checksum, "{place}");
        }
        let id = KeyId::new();
        for text in [
            "",
            "ofs_",
            id.as_str(),
            &text[..52],
            &text.replace('s', "S"),
            &format!("{}é", &text[..51]),
        ] {
            let refused = text.parse::<AgentSecret>().expect_err("no secret");
            assert_eq!(refused, AgentSecretError::Form, "{text}");
        }
    }

    #[test]
    fn a_mistyped_id_is_told_from_a_wrong_one() {
        let id = KeyId::new();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(KeyId::new(), id);
        let mut wrong: Vec<u8> = id.as_str().into();
        let other = DIGITS.iter().find(|digit| **digit != wrong[10]);
        wrong[10] = *other.expect("there are 32");
        let wrong = String::from_utf8(wrong).expect("digits are text");
        assert_eq!(wrong.parse::<KeyId>(), Err(KeyIdError::Checksum));
        for text in ["", "ofk_", "ofs_0123456789abcdefghjk", &id.as_str()[..20]] {
            assert_eq!(text.parse::<KeyId>(), Err(KeyIdError::Form), "{text}");
        }
    }
}
