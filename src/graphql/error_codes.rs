//! Gives a code to errors that the GraphQL library itself makes, so that every error has one.

use std::sync::Arc;

use async_graphql::futures_util::stream::BoxStream;
use async_graphql::{
    Response, ServerError,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextRequest, NextSubscribe},
};
use futures_util::StreamExt;

use super::error::ErrorCode;

/// Adds the extension to a schema.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCodes;

impl ExtensionFactory for ErrorCodes {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for ErrorCodes {
    async fn request(&self, context: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        with_codes(next.run(context).await)
    }

    fn subscribe<'s>(
        &self,
        context: &ExtensionContext<'_>,
        stream: BoxStream<'s, Response>,
        next: NextSubscribe<'_>,
    ) -> BoxStream<'s, Response> {
        next.run(context, stream).map(with_codes).boxed()
    }
}

fn with_codes(mut response: Response) -> Response {
    for error in &mut response.errors {
        let code = default_code(error).as_str();
        let extensions = error.extensions.get_or_insert_default();
        if extensions.get("code").is_none() {
            extensions.set("code", code);
            extensions.set("retryable", false);
        }
    }
    response
}

/// Errors without a path were found before anything ran; those with one, while reading arguments.
fn default_code(error: &ServerError) -> ErrorCode {
    if !error.path.is_empty() {
        ErrorCode::InvalidInput
    } else if error.message.trim_start().starts_with("--> ") {
        ErrorCode::GraphqlParseFailed
    } else {
        ErrorCode::GraphqlValidationFailed
    }
}
