//! Why a request goes no further, and what its sender is told.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::Origin;
use crate::{
    auth::signature::error::SignatureError,
    db::quotas::{Admission, Rate},
    graphql::error::{ApiError, ErrorCode},
    http::{answer, key_cache::CachedKey, rate_headers},
};

/// Why a request goes no further.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: ApiError,
    pub rate: Option<Rate>,
}

impl From<(StatusCode, ApiError)> for Refusal {
    fn from((status, error): (StatusCode, ApiError)) -> Self {
        Self {
            status,
            error,
            rate: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = answer::refusal(self.status, &self.error);
        if let Some(rate) = &self.rate {
            rate_headers::add(response.headers_mut(), rate);
        }
        response
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let status = match error.code {
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Internal | ErrorCode::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::ImageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            error,
            rate: None,
        }
    }
}

pub(super) fn unauthenticated(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, message)
}

/// The sentence of a signature's error, as a sentence.
pub(super) fn unsigned(error: &SignatureError) -> ApiError {
    let text = crate::error_chain::chain(error).to_string();
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    unauthenticated(format!(
        "{}{}.",
        first.collect::<String>(),
        letters.as_str()
    ))
}

pub(super) fn limited(rate: Rate, what: &str) -> Refusal {
    let seconds = rate.retry.unwrap_or_default();
    let message = format!(
        "You may make {} {what} a minute: wait, then try again.",
        rate.allowed
    );
    Refusal {
        rate: Some(rate),
        ..ApiError::new(ErrorCode::RateLimited, message)
            .retry_after(seconds)
            .into()
    }
}

/// Whether a key may be used from where a request comes from.
pub(super) fn check_network(origin: &Origin, key: &CachedKey) -> Result<(), Refusal> {
    if origin
        .address
        .is_none_or(|address| key.is_allowed_from(address))
    {
        return Ok(());
    }
    let message = "This key may not be used from your address.";
    Err(ApiError::new(ErrorCode::Forbidden, message).into())
}

/// The key's version and what is left, or why the key or its use does not count.
pub(super) fn verdict(admission: Admission) -> Result<(i32, Rate), Refusal> {
    let refuse = |message: &str| Err(unauthenticated(message).into());
    match admission {
        Admission::Admitted { version, rate } => Ok((version, rate)),
        Admission::Limited { rate } => Err(limited(rate, "requests")),
        Admission::Replayed => refuse(
            "The signature's nonce was used before: sign each request anew, with a nonce of its own.",
        ),
        Admission::Revoked => refuse("The key has been revoked: ask for a new one."),
        Admission::Expired => refuse("The key has expired: ask for a new one."),
        Admission::Superseded => refuse(
            "The secret has been replaced and its grace period is over: sign with the new one.",
        ),
    }
}
