//! From a request's headers to a caller.

use axum::http::{HeaderMap, StatusCode, header};

use super::HttpState;
use crate::{
    auth::{jwt::TokenError, principal::Principal},
    graphql::error::{ApiError, ErrorCode},
};

/// Who sent a request.
///
/// # Errors
/// `UNAUTHENTICATED` when the header is missing or its token does not count.
pub fn authenticate(state: &HttpState, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    principal(state, header)
}

/// Who stands behind the value of an `Authorization` header.
///
/// # Errors
/// `UNAUTHENTICATED`, as for [`authenticate`].
pub fn principal(state: &HttpState, authorization: Option<&str>) -> Result<Principal, ApiError> {
    let refuse = |message| ApiError::new(ErrorCode::Unauthenticated, message);
    let Some(value) = authorization else {
        return Err(refuse(
            "Sign in first: send `Authorization: Bearer <token>`.",
        ));
    };
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => {
            return Err(refuse(
                "This kind of authorization is not known here: send `Authorization: Bearer <token>`.",
            ));
        }
    };
    state.0.tokens.verify(token).map_err(|error| match error {
        TokenError::Expired => refuse("Your token has expired: sign in again."),
        TokenError::Invalid(cause) => {
            tracing::debug!(?cause, "A token was refused");
            refuse("Your token is not valid here: sign in again.")
        }
    })
}

/// The status of a refusal before execution.
#[must_use]
pub fn status(error: &ApiError) -> StatusCode {
    match error.code {
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    }
}
