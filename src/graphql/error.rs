//! Errors as clients see them: a code, a sentence that tells what to do, and whether trying again may help.

use async_graphql::{ErrorExtensionValues, ErrorExtensions};
use tracing::error;

use crate::{
    conversion::{IdError, options::OptionError},
    db::DatabaseError,
    decoder::error::DecodeError,
    error_chain::chain,
    image::error::{ImageError, ImageErrorCode},
    storage::StorageError,
};

/// The codes of the contract that this server answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, async_graphql::Enum)]
pub enum ErrorCode {
    Unauthenticated,
    Forbidden,
    NotFound,
    InvalidInput,
    InvalidImage,
    ImageTooLarge,
    UnsupportedImage,
    IdempotencyConflict,
    Overloaded,
    ModelUnavailable,
    ConversionFailed,
    GraphqlParseFailed,
    GraphqlValidationFailed,
    Internal,
}

impl ErrorCode {
    /// As clients read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidInput => "INVALID_INPUT",
            Self::InvalidImage => "INVALID_IMAGE",
            Self::ImageTooLarge => "IMAGE_TOO_LARGE",
            Self::UnsupportedImage => "UNSUPPORTED_IMAGE",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::Overloaded => "OVERLOADED",
            Self::ModelUnavailable => "MODEL_UNAVAILABLE",
            Self::ConversionFailed => "CONVERSION_FAILED",
            Self::GraphqlParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::GraphqlValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::Internal => "INTERNAL",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Internal)
    }
}

/// An error on its way to a client. The cause stays here: it is logged where the error is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    /// The input field at fault, by its GraphQL path.
    pub field: Option<String>,
    pub retry_after_seconds: Option<u32>,
}

impl ApiError {
    /// An error with a code and a sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            retry_after_seconds: None,
        }
    }

    /// An input that can't be accepted.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, message).at(field)
    }

    /// No such thing, or not the caller's.
    #[must_use]
    pub fn not_found(kind: &str) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format!("There is no such {kind}, or it is not yours."),
        )
    }

    /// Names the input field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Our fault: the cause goes to the log, the client learns that it may try again.
    #[must_use]
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        error!(cause = %chain(cause), "A request failed for a reason of the server's own");
        Self {
            retry_after_seconds: Some(5),
            ..Self::new(
                ErrorCode::Internal,
                "The server could not do this. Try again later.",
            )
        }
    }

    /// Puts code, retryability and field where clients look for them.
    pub fn extend(&self, values: &mut ErrorExtensionValues) {
        values.set("code", self.code.as_str());
        values.set("retryable", self.code.is_retryable());
        if let Some(seconds) = self.retry_after_seconds {
            values.set("retryAfterSeconds", seconds);
        }
        if let Some(field) = &self.field {
            values.set("field", field.as_str());
        }
    }
}

impl From<ApiError> for async_graphql::Error {
    fn from(error: ApiError) -> Self {
        Self::new(error.message.clone()).extend_with(|_, values| error.extend(values))
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        Self::internal(&error)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::internal(&error)
    }
}

impl From<OptionError> for ApiError {
    fn from(error: OptionError) -> Self {
        Self::invalid(format!("options.{}", error.field), error.message)
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid("id", error.to_string())
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        let code = match error.code() {
            ImageErrorCode::Invalid => ErrorCode::InvalidImage,
            ImageErrorCode::TooLarge => ErrorCode::ImageTooLarge,
            ImageErrorCode::Unsupported => ErrorCode::UnsupportedImage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Image(error) => error.into(),
            DecodeError::Busy { .. } => Self {
                retry_after_seconds: Some(2),
                ..Self::new(
                    ErrorCode::Overloaded,
                    "The server is checking too many pictures at once. Try again.",
                )
            },
            error => Self::internal(&error),
        }
    }
}
