//! Permissions on fields.

use async_graphql::{Context, Guard, Result};

use super::error::{ApiError, ErrorCode};
use crate::auth::principal::{Permission, Principal};

/// Lets only callers with a permission through.
#[derive(Debug, Clone, Copy)]
pub struct Require(pub Permission);

impl Guard for Require {
    async fn check(&self, context: &Context<'_>) -> Result<()> {
        let principal = principal(context)?;
        if principal.may(self.0) {
            return Ok(());
        }
        let message = format!(
            "This takes the permission `{}`, which you don't have.",
            self.0.as_str()
        );
        Err(ApiError::new(ErrorCode::Forbidden, message).into())
    }
}

/// The caller of this request.
///
/// # Errors
/// `UNAUTHENTICATED` when the transport let nobody in.
pub fn principal<'a>(context: &Context<'a>) -> Result<&'a Principal, ApiError> {
    context.data_opt::<Principal>().ok_or_else(|| {
        ApiError::new(
            ErrorCode::Unauthenticated,
            "Sign in first: send `Authorization: Bearer <token>`.",
        )
    })
}
