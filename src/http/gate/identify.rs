//! Who sent a request.

use std::time::Instant;

use axum::http::{header, request::Parts};
use time::OffsetDateTime;

use super::{
    Agent, Caller, Gate, Origin,
    refusal::{Refusal, check_network, unauthenticated, unsigned},
};
use crate::{
    auth::{
        jwt::TokenError,
        principal::Principal,
        signature::{self, Message, SignedRequest, error::SignatureError},
    },
    error_chain::chain,
    graphql::error::ApiError,
    http::key_cache::{CachedKey, KeyCache},
};

const SIGN_IN: &str =
    "Sign in first: send `Authorization: Bearer <token>`, or sign the request with an API key.";

impl Gate {
    /// Who sent a request, as its head tells. A refusal is in the audit log.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when nobody stands behind it, `FORBIDDEN` from where the key may not be used, `INTERNAL` when
    /// the key must be read and can't.
    pub async fn identify(
        &self,
        origin: &Origin,
        parts: &Parts,
        has_body: bool,
    ) -> Result<Caller, Refusal> {
        let started = Instant::now();
        let caller = if signature::is_signed(&parts.headers) {
            let agent = self.agent(origin, parts, has_body).await;
            agent.map(|agent| Caller::Agent(Box::new(agent)))
        } else {
            let header = parts.headers.get(header::AUTHORIZATION);
            let person = self
                .person(header.and_then(|value| value.to_str().ok()))
                .await;
            person.map(Caller::Person).map_err(|error| {
                self.note(self.refusal(origin, &error));
                error.into()
            })
        };
        metrics::histogram!("orfeas_admission_seconds", "step" => "identify")
            .record(started.elapsed());
        caller.inspect_err(|refusal: &Refusal| {
            self.tally.count(None, None, Some(refusal.error.code));
        })
    }

    /// The person behind the value of an `Authorization` header.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is missing or does not count.
    pub async fn person(&self, authorization: Option<&str>) -> Result<Principal, ApiError> {
        let Some(value) = authorization else {
            return Err(unauthenticated(SIGN_IN));
        };
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(unauthenticated(
                    "This kind of authorization is not known here: send `Authorization: Bearer <token>`.",
                ));
            }
        };
        let identity = self
            .tokens
            .verify(token)
            .await
            .map_err(|error| match error {
                TokenError::Expired => unauthenticated("Your token has expired: sign in again."),
                error => {
                    tracing::debug!(cause = %chain(&error), "A token was refused");
                    unauthenticated("Your token is not valid here: sign in again.")
                }
            })?;
        Ok(Principal::user(identity, self.user_quotas))
    }

    async fn agent(
        &self,
        origin: &Origin,
        parts: &Parts,
        has_body: bool,
    ) -> Result<Agent, Refusal> {
        let Some(keys) = &self.keys else {
            return Err(unauthenticated("This server lets no programs in: send a token.").into());
        };
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(self
                .refuse_claimed(
                    origin,
                    &parts.headers,
                    keys,
                    unauthenticated("Send a token or a signature, not both: which of them should count would be open."),
                )
                .await);
        }
        let message = Message {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            has_body,
            public_url: self.public_url.as_ref(),
        };
        let checked = SignedRequest::parse(message).and_then(|signed| {
            signed.check_fresh(OffsetDateTime::now_utc())?;
            Ok(signed)
        });
        let signed = match checked {
            Ok(signed) => signed,
            Err(error) => {
                let error = unsigned(&error);
                return Err(self
                    .refuse_claimed(origin, &parts.headers, keys, error)
                    .await);
            }
        };
        // An unknown key takes the same way as a wrong signature, and as long.
        let mut key = keys.find(signed.key_id()).await.map_err(ApiError::from)?;
        let mut signing = signed_by(&signed, key.as_deref(), keys);
        if signing.is_none()
            && let Some(newer) = keys
                .find_newer(signed.key_id())
                .await
                .map_err(ApiError::from)?
        {
            signing = signed_by(&signed, Some(&newer), keys);
            key = Some(newer);
        }
        let Some(key) = key else {
            let error = unsigned(&SignatureError::Mismatch);
            self.note(self.refusal(origin, &error));
            return Err(error.into());
        };
        let Some(generation) = signing else {
            let error = unsigned(&SignatureError::Mismatch);
            let event = self.refusal(origin, &error).claiming(key.row.id.clone());
            self.note(event);
            return Err(error.into());
        };
        check_network(origin, &key).inspect_err(|refusal| {
            let event = self.refusal(origin, &refusal.error);
            self.note(event.by(&key.principal()));
        })?;
        Ok(Agent {
            key,
            generation,
            signed,
        })
    }
}

/// Which of a key's secrets signed a request; of an unknown key's none, after the same work.
fn signed_by(signed: &SignedRequest, key: Option<&CachedKey>, keys: &KeyCache) -> Option<i32> {
    match key {
        Some(key) => key.signing_generation(signed),
        None => {
            let _: bool = signed.verify(std::slice::from_ref(&keys.nobodys_secret()));
            None
        }
    }
}
