//! Users' tokens: JWT (RFC 7519), HS256 by the server's own key.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    keyring::{KeyUse, Keyring},
    principal::Principal,
};
use crate::conversion::{Owner, Priority};

/// The role that may do everything.
const ADMIN: &str = "admin";
/// Subjects become owners of rows; a name longer than this is no name.
const SUBJECT_BYTES_MAX: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    roles: Vec<String>,
}

/// Why a token does not count. What exactly was wrong is for the log, not for the caller.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid here")]
    Invalid(#[source] Option<jsonwebtoken::errors::Error>),
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: Vec<DecodingKey>,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens signed by a ring's keys.
    #[must_use]
    pub fn new(keyring: &Keyring) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        validation.validate_nbf = true;
        Self {
            signing: EncodingKey::from_secret(keyring.signing(KeyUse::Jwt).expose()),
            verifying: keyring
                .verifying(KeyUse::Jwt)
                .iter()
                .map(|key| DecodingKey::from_secret(key.expose()))
                .collect(),
            validation,
        }
    }

    /// A token for a person.
    ///
    /// # Panics
    /// Never: plain claims always have a JSON form and HMAC takes any key.
    #[must_use]
    pub fn issue(&self, subject: &str, roles: &[String], lifetime: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let claims = Claims {
            sub: subject.to_owned(),
            exp: (now + lifetime).unix_timestamp(),
            iat: Some(now.unix_timestamp()),
            roles: roles.to_vec(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .expect("HMAC signs any claims")
    }

    /// Who a token stands for.
    ///
    /// # Errors
    /// [`TokenError`] when it has expired, was not signed here, or lacks a claim.
    pub fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        let mut refused = TokenError::Invalid(None);
        for key in &self.verifying {
            match jsonwebtoken::decode::<Claims>(token, key, &self.validation) {
                Ok(data) => return principal(data.claims),
                Err(error)
                    if matches!(
                        error.kind(),
                        jsonwebtoken::errors::ErrorKind::ExpiredSignature
                    ) =>
                {
                    refused = TokenError::Expired;
                }
                Err(error) => {
                    if !matches!(refused, TokenError::Expired) {
                        refused = TokenError::Invalid(Some(error));
                    }
                }
            }
        }
        Err(refused)
    }
}

fn principal(claims: Claims) -> Result<Principal, TokenError> {
    let usable = !claims.sub.is_empty()
        && claims.sub.len() <= SUBJECT_BYTES_MAX
        && !claims.sub.chars().any(char::is_control);
    let expires_at = OffsetDateTime::from_unix_timestamp(claims.exp)
        .ok()
        .filter(|_| usable);
    Ok(Principal {
        owner: Owner::user(&claims.sub),
        admin: claims.roles.iter().any(|role| role == ADMIN),
        subject: claims.sub,
        priority: Priority::User,
        expires_at: expires_at.ok_or(TokenError::Invalid(None))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        text.parse().expect("valid")
    }

    #[test]
    fn tokens_hold_for_their_keys_and_their_time() {
        let old = ring(&format!("old:{}", "02".repeat(32)));
        let both = ring(&format!("new:{},old:{}", "01".repeat(32), "02".repeat(32)));
        let token = Tokens::new(&old).issue("alice", &["admin".into()], Duration::from_secs(60));
        let principal = Tokens::new(&both)
            .verify(&token)
            .expect("the old key still verifies");
        assert!(principal.admin && principal.owner == Owner::user("alice"));

        let stranger = Tokens::new(&ring(&format!("x:{}", "03".repeat(32))));
        assert!(matches!(
            stranger.verify(&token),
            Err(TokenError::Invalid(_))
        ));
        assert!(matches!(
            stranger.verify("rubbish"),
            Err(TokenError::Invalid(_))
        ));

        let past = Claims {
            sub: "a".into(),
            exp: 1_000,
            iat: None,
            roles: vec![],
        };
        let tokens = Tokens::new(&old);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &past, &tokens.signing)
            .expect("signs");
        assert!(matches!(
            Tokens::new(&both).verify(&token),
            Err(TokenError::Expired)
        ));
    }

    #[test]
    fn other_algorithms_and_missing_claims_are_refused() {
        let tokens = Tokens::new(&ring(&format!("k:{}", "01".repeat(32))));
        let claims = serde_json::json!({ "sub": "alice", "exp": 4_000_000_000_u64 });
        let sign = |algorithm, claims: &serde_json::Value| {
            jsonwebtoken::encode(&Header::new(algorithm), claims, &tokens.signing).expect("signs")
        };
        assert!(tokens.verify(&sign(Algorithm::HS256, &claims)).is_ok());
        assert!(
            tokens.verify(&sign(Algorithm::HS512, &claims)).is_err(),
            "the algorithm is pinned"
        );
        assert!(
            tokens
                .verify(&sign(
                    Algorithm::HS256,
                    &serde_json::json!({ "sub": "alice" })
                ))
                .is_err(),
            "exp is demanded"
        );
        assert!(
            tokens
                .verify(&sign(
                    Algorithm::HS256,
                    &serde_json::json!({ "sub": "", "exp": 4_000_000_000_u64 })
                ))
                .is_err()
        );
    }
}
