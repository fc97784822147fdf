//! A request as it was sent: an operation, and its document or what names it.

use async_graphql::{Request, Value, Variables};
use serde::Deserialize;

use super::hash::DocumentHash;
use crate::graphql::error::ApiError;

/// A request whose document need not be there yet.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Members")]
pub struct Asked {
    /// Without a document, `query` is empty.
    pub request: Request,
    pub document_id: Option<String>,
}

/// The members of a request. What is null is absent, and what is not known is left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    pub query: Option<String>,
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<Variables>,
    pub extensions: Option<async_graphql_value::Extensions>,
}

/// A request that doesn't say what is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has no document: send one as `query`, or name one by `documentId` or `extensions.persistedQuery`"
)]
pub struct NoDocument;

impl TryFrom<Members> for Asked {
    type Error = NoDocument;

    fn try_from(members: Members) -> Result<Self, NoDocument> {
        let Members {
            query,
            document_id,
            operation_name,
            variables,
            extensions,
        } = members;
        let extensions = extensions.unwrap_or_default();
        if query.is_none() && document_id.is_none() && !extensions.0.contains_key("persistedQuery")
        {
            return Err(NoDocument);
        }
        let mut request = Request::new(query.unwrap_or_default());
        request.operation_name = operation_name;
        request.variables = variables.unwrap_or_default();
        request.extensions = extensions;
        Ok(Self {
            request,
            document_id,
        })
    }
}

impl From<Request> for Asked {
    fn from(request: Request) -> Self {
        Self {
            request,
            document_id: None,
        }
    }
}

/// The extension of the protocol of automatic persisted queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PersistedQuery {
    pub(super) hash: DocumentHash,
}

impl PersistedQuery {
    /// Reads `{ "version": 1, "sha256Hash": "…" }`.
    pub(super) fn of(value: &Value) -> Result<Self, ApiError> {
        let invalid = || {
            ApiError::invalid(
                "extensions.persistedQuery",
                "A persisted query is named by { \"version\": 1, \"sha256Hash\": \"<64 hexadecimal digits>\" }.",
            )
        };
        let Value::Object(members) = value else {
            return Err(invalid());
        };
        let is_first = matches!(members.get("version"), Some(Value::Number(version)) if version.as_u64() == Some(1));
        match members.get("sha256Hash") {
            Some(Value::String(text)) if is_first => {
                let hash = DocumentHash::parse(text).ok_or_else(invalid)?;
                Ok(Self { hash })
            }
            _ => Err(invalid()),
        }
    }
}
