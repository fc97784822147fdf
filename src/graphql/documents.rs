//! Where a request's document comes from: it is sent, or named by a client that has sent it before (automatic persisted
//! queries) or has had it registered (trusted documents).

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_graphql::Request;

use self::{
    asked::{Asked, PersistedQuery},
    hash::DocumentHash,
    persisted::Persisted,
    trusted::{ManifestError, Trusted},
};
use super::error::{ApiError, ErrorCode};

pub mod asked;
pub mod fingerprint;
pub mod hash;
pub mod own;
pub mod persisted;
pub mod trusted;

/// What a server does with documents.
#[derive(Debug, Clone, Default)]
pub struct DocumentOptions {
    /// The manifest of the operator's documents.
    pub manifest: Option<PathBuf>,
    /// Whether everybody but admins is held to trusted documents.
    pub trusted_only: bool,
}

/// The documents that a node knows; cheap to clone.
#[derive(Debug, Clone)]
pub struct Documents {
    trusted: Arc<Trusted>,
    trusted_only: bool,
    persisted: Arc<Mutex<Persisted>>,
}

/// A request with its document.
#[derive(Debug)]
pub struct Found {
    pub request: Request,
    /// Whether it may run where only trusted documents do.
    pub may_run: bool,
    /// To be kept when the document turns out to be valid.
    pub keep: Option<Keep>,
}

/// A document under the hash that its client gave, and that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    hash: DocumentHash,
    text: Arc<str>,
}

/// What clients of the protocol look for: some by the code, some by this very text.
const NOT_FOUND: &str = "PersistedQueryNotFound";

impl Documents {
    /// The studio's documents and, where there is a manifest, the operator's, each held against the schema.
    ///
    /// # Errors
    /// [`ManifestError`] with the document at fault.
    pub async fn open(options: DocumentOptions) -> Result<Self, ManifestError> {
        let DocumentOptions {
            manifest,
            trusted_only,
        } = options;
        let mut trusted = Trusted::default();
        for text in own::documents() {
            trusted.insert(None, &text);
        }
        if let Some(path) = manifest {
            for (id, text) in trusted::read(&path)? {
                trusted::check(&id, &text).await?;
                trusted.insert(Some(id), &text);
            }
        }
        Ok(Self {
            trusted: Arc::new(trusted),
            trusted_only,
            persisted: Arc::default(),
        })
    }

    /// Finds the document of a request.
    ///
    /// # Errors
    /// `PERSISTED_QUERY_NOT_FOUND` for a name that is not known, `INVALID_INPUT` for one that makes no sense.
    pub fn find(&self, asked: Asked) -> Result<Found, ApiError> {
        let Asked {
            request,
            document_id,
        } = asked;
        let persisted = match request.extensions.0.get("persistedQuery") {
            None | Some(async_graphql::Value::Null) => None,
            Some(value) => Some(PersistedQuery::of(value)?),
        };
        match (document_id, persisted) {
            (None, None) => Ok(self.sent(request, None)),
            (None, Some(PersistedQuery { hash })) => self.by_hash(request, hash),
            (Some(id), None) if request.query.is_empty() => self.by_id(request, &id),
            (Some(_), _) => Err(ApiError::invalid(
                "documentId",
                "Send one of `query`, `documentId` and `extensions.persistedQuery`, so that it is clear what is to run.",
            )),
        }
    }

    /// Keeps a document that was found valid, for those who will only name it.
    pub fn keep(&self, keep: Keep) {
        self.persisted().insert(keep.hash, keep.text);
    }

    fn by_id(&self, request: Request, id: &str) -> Result<Found, ApiError> {
        if let Some(text) = self.trusted.by_id(id) {
            return Ok(named(request, &text, true));
        }
        let hash = id.strip_prefix("sha256:").and_then(DocumentHash::parse);
        let text = hash.and_then(|hash| self.persisted().find(&hash));
        match text {
            Some(text) => Ok(self.sent(with(request, &text), None)),
            None => Err(ApiError::new(
                ErrorCode::PersistedQueryNotFound,
                "This server has no document of this id: send the document as `query`, or have its operator register it.",
            )
            .at("documentId")),
        }
    }

    /// By the protocol of automatic persisted queries.
    fn by_hash(&self, request: Request, hash: DocumentHash) -> Result<Found, ApiError> {
        if !request.query.is_empty() {
            if DocumentHash::of(&request.query) != hash {
                return Err(ApiError::invalid(
                    "extensions.persistedQuery.sha256Hash",
                    "The hash is not the SHA-256 of `query`: hash exactly the bytes that you send.",
                ));
            }
            let is_known = self.persisted().find(&hash).is_some();
            let keep = (!is_known).then(|| Keep {
                hash,
                text: request.query.as_str().into(),
            });
            return Ok(self.sent(request, keep));
        }
        if let Some(text) = self.trusted.by_hash(&hash) {
            return Ok(named(request, &text, true));
        }
        let text = self.persisted().find(&hash);
        let text =
            text.ok_or_else(|| ApiError::new(ErrorCode::PersistedQueryNotFound, NOT_FOUND))?;
        Ok(self.sent(with(request, &text), None))
    }

    /// A document that anybody may have written.
    fn sent(&self, request: Request, keep: Option<Keep>) -> Found {
        if !self.trusted_only {
            return Found {
                request,
                may_run: true,
                keep,
            };
        }
        // The registered text runs, not the one that was sent: then it doesn't matter who reads which bytes how.
        match self.trusted.recognise(&request.query) {
            Some(text) => Found {
                keep,
                ..named(request, &text, true)
            },
            None => Found {
                request,
                may_run: false,
                keep,
            },
        }
    }

    /// The sections that hold it can't panic halfway.
    fn persisted(&self) -> std::sync::MutexGuard<'_, Persisted> {
        self.persisted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn with(mut request: Request, text: &str) -> Request {
    text.clone_into(&mut request.query);
    request
}

fn named(request: Request, text: &str, may_run: bool) -> Found {
    Found {
        request: with(request, text),
        may_run,
        keep: None,
    }
}

#[cfg(test)]
mod tests;
