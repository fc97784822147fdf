//! Errors as clients see them: a code, a sentence that tells what to do, and whether trying again may help.

use async_graphql::{ErrorExtensionValues, ErrorExtensions};
use tracing::error;

use super::cost::CostError;
use crate::{
    conversion::{IdError, options::OptionError},
    db::{DatabaseError, backlog::Full, quotas::Exceeded},
    decoder::error::DecodeError,
    error_chain::chain,
    image::error::{ImageError, ImageErrorCode},
    storage::StorageError,
};

/// The codes of the contract that this server answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, async_graphql::Enum)]
pub enum ErrorCode {
    /// Nobody is signed in, or the token or signature doesn't count (any more).
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// There is no such thing, or it isn't the caller's.
    NotFound,
    /// An argument can't be used; `field` names it.
    InvalidInput,
    /// The picture is damaged, or not what it says it is.
    InvalidImage,
    /// The picture has too many bytes or pixels.
    ImageTooLarge,
    /// The picture is of a kind that isn't read: use PNG, JPEG or WebP that doesn't move.
    UnsupportedImage,
    /// The idempotency key was used for another input in the last 24 hours.
    IdempotencyConflict,
    /// Too many requests a minute; `retryAfterSeconds` says when one is let in again.
    RateLimited,
    /// A quota of conversions, of images in a batch or of stored bytes is used up.
    QuotaExceeded,
    /// The document asks for too much at once.
    QueryTooComplex,
    /// Nobody has sent the document of this hash lately: send it along.
    PersistedQueryNotFound,
    /// The picture's URL gave none; `retryable` says whether that may pass.
    ImageFetchFailed,
    /// The server can't take it on now; try again a little later.
    Overloaded,
    /// The model isn't on this server, or no node that computes has it.
    ModelUnavailable,
    /// No mesh could be made of this picture.
    ConversionFailed,
    /// The document is no GraphQL.
    GraphqlParseFailed,
    /// The document doesn't fit the schema.
    GraphqlValidationFailed,
    /// The server had a problem of its own; the log has the cause under the request's id.
    Internal,
}

impl ErrorCode {
    const ALL: [Self; 19] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::InvalidInput,
        Self::InvalidImage,
        Self::ImageTooLarge,
        Self::UnsupportedImage,
        Self::IdempotencyConflict,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::QueryTooComplex,
        Self::PersistedQueryNotFound,
        Self::ImageFetchFailed,
        Self::Overloaded,
        Self::ModelUnavailable,
        Self::ConversionFailed,
        Self::GraphqlParseFailed,
        Self::GraphqlValidationFailed,
        Self::Internal,
    ];

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
            Self::RateLimited => "RATE_LIMITED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::ImageFetchFailed => "IMAGE_FETCH_FAILED",
            Self::Overloaded => "OVERLOADED",
            Self::ModelUnavailable => "MODEL_UNAVAILABLE",
            Self::ConversionFailed => "CONVERSION_FAILED",
            Self::GraphqlParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::GraphqlValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::Internal => "INTERNAL",
        }
    }

    /// The code of the first error of an answer; `None` for an answer without errors.
    #[must_use]
    pub fn of(response: &async_graphql::Response) -> Option<Self> {
        let error = response.errors.first()?;
        let code = error
            .extensions
            .as_ref()
            .and_then(|values| values.get("code"));
        let known = Self::ALL
            .into_iter()
            .find(|known| matches!(code, Some(async_graphql::Value::String(text)) if text == known.as_str()));
        // An extension gives every error a code; one without would be a mistake of ours.
        Some(known.unwrap_or(Self::Internal))
    }

    /// Whether the same request may succeed later, where nothing else is known.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::QuotaExceeded | Self::Overloaded | Self::Internal
        )
    }
}

/// An error on its way to a client. The cause stays here: it is logged where the error is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
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
            retryable: code.is_retryable(),
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

    /// The same error, worth another try after so many seconds, rounded up.
    #[must_use]
    pub fn retry_after(mut self, seconds: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        let whole = seconds.ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
        self.retry_after_seconds = Some(whole);
        self
    }

    /// Names the input field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the input field, unless a nearer one is named already.
    #[must_use]
    pub fn or_at(self, field: impl Into<String>) -> Self {
        if self.field.is_some() {
            self
        } else {
            self.at(field)
        }
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

    /// The longest wait that an answer's errors tell of, in seconds.
    #[must_use]
    pub fn retry_after_of(response: &async_graphql::Response) -> Option<u32> {
        let told = |error: &async_graphql::ServerError| {
            let values = error.extensions.as_ref()?;
            match values.get("retryAfterSeconds")? {
                async_graphql::Value::Number(seconds) => u32::try_from(seconds.as_u64()?).ok(),
                _ => None,
            }
        };
        response.errors.iter().filter_map(told).max()
    }

    /// Puts code, retryability and field where clients look for them.
    pub fn extend(&self, values: &mut ErrorExtensionValues) {
        values.set("code", self.code.as_str());
        values.set("retryable", self.retryable);
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

/// What a client waits that was refused because the server can't keep anything now: mending that takes somebody a while.
const MENDED_SECONDS: f64 = 30.0;

/// The server can't keep what it is sent. The cause goes to the log.
fn unkept(cause: &(dyn std::error::Error + 'static), message: &str) -> ApiError {
    error!(cause = %chain(cause), "Nothing can be kept now");
    ApiError::new(ErrorCode::Overloaded, message).retry_after(MENDED_SECONDS)
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        if error.is_refusing_writes() {
            return unkept(
                &error,
                "The server can read but not write at the moment: nothing was changed. Try again later.",
            );
        }
        Self::internal(&error)
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        let Full {
            depth,
            retry_after_seconds,
        } = full;
        let error =
            Self::new(ErrorCode::Overloaded, String::new()).retry_after(retry_after_seconds);
        let message = format!(
            "The queue is full: {depth} conversions wait. Nothing was taken; try again in {} s.",
            error.retry_after_seconds.unwrap_or_default()
        );
        Self { message, ..error }
    }
}

impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            // When one of them ends can't be known; they take seconds.
            Exceeded::AtOnce { allowed, used } => Self::new(
                ErrorCode::QuotaExceeded,
                format!("You may have {allowed} conversions queued and running at a time, and have {used}: wait until some have ended."),
            )
            .retry_after(5.0),
            Exceeded::PerDay { allowed, used, left } => Self::new(
                ErrorCode::QuotaExceeded,
                format!("You may submit {allowed} conversions a day of UTC, and have submitted {used} today: go on tomorrow, or ask for a larger quota."),
            )
            .retry_after(left.as_secs_f64()),
            // Nothing frees them but the owner, or time.
            Exceeded::Stored { allowed, used, added } => Self::new(
                ErrorCode::QuotaExceeded,
                format!("Your pictures and meshes may take {allowed} bytes, and take {used}; this would add {added} and what is made of it: delete conversions that you no longer need (deleteConversion), or ask for a larger quota."),
            ),
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if matches!(
            error,
            StorageError::Write { .. } | StorageError::Full | StorageError::Silent
        ) {
            return unkept(
                &error,
                "The server can't keep pictures at the moment: nothing was taken. Try again later.",
            );
        }
        Self::internal(&error)
    }
}

impl From<CostError> for ApiError {
    fn from(error: CostError) -> Self {
        let code = match error {
            CostError::TooMuch { .. } => ErrorCode::QueryTooComplex,
            CostError::Cycle { .. } => ErrorCode::GraphqlValidationFailed,
            CostError::OpenString { .. } => ErrorCode::GraphqlParseFailed,
        };
        Self::new(code, error.to_string())
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
            // Logged where it was stopped.
            DecodeError::Forbidden { .. } => Self::new(ErrorCode::InvalidImage, error.to_string()),
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
