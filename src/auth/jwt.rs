//! People's tokens: JWT (RFC 7519), HS256 by the server's own keys, or RS256, ES256 and EdDSA by the keys of an
//! identity provider.
//!
//! The algorithm is the key's, never the header's choice: HS256 is tried with the server's own keys alone, and a key of
//! the provider's set with the one algorithm of its kind.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    jwks::{Jwks, key_set::Selection},
    keyring::{KeyUse, Keyring},
};

#[cfg(test)]
mod tests;

/// The role that may do everything.
const ADMIN: &str = "admin";
/// Subjects become owners of rows; a name longer than this is no name.
const SUBJECT_BYTES_MAX: usize = 200;
/// How far the clocks of an identity provider may be from ours. Clocks that are set by NTP are far closer.
const FOREIGN_LEEWAY: Duration = Duration::from_secs(30);

/// What we write into a token.
#[derive(Serialize)]
struct IssuedClaims<'a> {
    sub: &'a str,
    exp: i64,
    iat: i64,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// What we read of a token, besides what the library checks.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970; RFC 7519 allows fractions.
    exp: f64,
    /// An array of strings; anything else gives no role.
    #[serde(default)]
    roles: serde_json::Value,
}

/// Why a token does not count. What exactly was wrong is for the log, not for the caller.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    #[error("no key that is known here fits the token")]
    NoKey,
    #[error("the token's subject or its time is unusable")]
    Claims,
    #[error("the token is not valid here")]
    Invalid(#[source] jsonwebtoken::errors::Error),
}

impl From<jsonwebtoken::errors::Error> for TokenError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            _ => Self::Invalid(error),
        }
    }
}

/// A person, as a token that counts describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`, usable as an owner's name.
    ///
    /// The identity provider's subjects and those of `orfeas token` share one name space: `alice` of the one owns what
    /// `alice` of the other has submitted. Whoever issues tokens by hand beside a provider picks names that it does not.
    pub subject: String,
    /// Whether it has the role `admin`.
    pub admin: bool,
    /// When it stops counting, leeway included.
    pub expires_at: OffsetDateTime,
}

/// Who issues tokens, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parties {
    /// `iss`; unset: not looked at.
    pub issuer: Option<String>,
    /// `aud`; unset: not looked at.
    pub audience: Option<String>,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: Vec<DecodingKey>,
    parties: Parties,
    provider: Option<Jwks>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("parties", &self.parties)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens signed by a ring's keys.
    #[must_use]
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            signing: EncodingKey::from_secret(keyring.signing(KeyUse::Jwt).expose()),
            verifying: keyring
                .verifying(KeyUse::Jwt)
                .iter()
                .map(|key| DecodingKey::from_secret(key.expose()))
                .collect(),
            parties: Parties::default(),
            provider: None,
        }
    }

    /// The same, naming and demanding these parties. Our own tokens carry them from now on; those issued before, without
    /// them, still count, because nobody else has our keys.
    #[must_use]
    pub fn between(mut self, parties: Parties) -> Self {
        self.parties = parties;
        self
    }

    /// The same, taking tokens of an identity provider as well.
    #[must_use]
    pub fn trusting(mut self, provider: Jwks) -> Self {
        self.provider = Some(provider);
        self
    }

    /// A token for a person.
    ///
    /// # Panics
    /// Never: plain claims always have a JSON form and HMAC takes any key.
    #[must_use]
    pub fn issue(&self, subject: &str, roles: &[String], lifetime: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let claims = IssuedClaims {
            sub: subject,
            exp: (now + lifetime).unix_timestamp(),
            iat: now.unix_timestamp(),
            roles,
            iss: self.parties.issuer.as_deref(),
            aud: self.parties.audience.as_deref(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .expect("HMAC signs any claims")
    }

    /// Who a token stands for. Waits only when an identity provider's key is not known yet, and then for one refresh.
    ///
    /// # Errors
    /// [`TokenError`] when it has expired, was not signed by a key that counts, or lacks a claim.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: extensions that must be understood, and none is.
            return Err(TokenError::NoKey);
        }
        if header.alg == Algorithm::HS256 {
            return self.verify_own(token);
        }
        let provider = self.provider.as_ref().ok_or(TokenError::NoKey)?;
        if let Some(result) = self.verify_foreign(provider, token, &header) {
            return result;
        }
        provider.refresh().await;
        self.verify_foreign(provider, token, &header)
            .unwrap_or(Err(TokenError::NoKey))
    }

    fn verify_own(&self, token: &str) -> Result<Identity, TokenError> {
        let validation = self.validation(Algorithm::HS256, Duration::ZERO);
        let mut refused = TokenError::NoKey;
        for key in &self.verifying {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(data) => return identity(data.claims, Duration::ZERO),
                // Of several keys' verdicts the one of the key that signed it tells most.
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                    if matches!(refused, TokenError::NoKey) {
                        refused = error.into();
                    }
                }
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    /// `None` when a newer set of keys may know better.
    fn verify_foreign(
        &self,
        provider: &Jwks,
        token: &str,
        header: &Header,
    ) -> Option<Result<Identity, TokenError>> {
        let keys = provider.keys();
        let key = match keys.select(header.kid.as_deref(), header.alg) {
            Selection::Key(key) => key,
            Selection::Unfit => return Some(Err(TokenError::NoKey)),
            Selection::Unknown => return None,
        };
        let mut validation = self.validation(header.alg, FOREIGN_LEEWAY);
        let demanded = [("iss", &validation.iss), ("aud", &validation.aud)];
        let demanded: Vec<_> = demanded
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name.to_owned())
            .collect();
        validation.required_spec_claims.extend(demanded);
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation);
        Some(
            decoded
                .map_err(TokenError::from)
                .and_then(|data| identity(data.claims, FOREIGN_LEEWAY)),
        )
    }

    fn validation(&self, algorithm: Algorithm, leeway: Duration) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = leeway.as_secs();
        validation.validate_nbf = true;
        // The library refuses any `aud` when it is told of none.
        validation.validate_aud = self.parties.audience.is_some();
        validation.iss = self.parties.issuer.clone().map(|issuer| [issuer].into());
        validation.aud = self
            .parties
            .audience
            .clone()
            .map(|audience| [audience].into());
        validation
    }
}

fn identity(claims: Claims, leeway: Duration) -> Result<Identity, TokenError> {
    let Claims { sub, exp, roles } = claims;
    let is_name =
        !sub.is_empty() && sub.len() <= SUBJECT_BYTES_MAX && !sub.chars().any(char::is_control);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fractions of a second don't matter, and what is out of range is refused below"
    )]
    let expires_at = OffsetDateTime::from_unix_timestamp(exp as i64)
        .ok()
        .and_then(|at| at.checked_add(leeway.try_into().ok()?))
        .filter(|_| is_name)
        .ok_or(TokenError::Claims)?;
    let roles: Vec<String> = serde_json::from_value(roles).unwrap_or_default();
    Ok(Identity {
        admin: roles.iter().any(|role| role == ADMIN),
        subject: sub,
        expires_at,
    })
}
