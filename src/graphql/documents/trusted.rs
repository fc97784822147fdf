//! Documents that an operator has registered: a manifest, read and held against the schema when the server starts.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_graphql::Request;
use serde::Deserialize;

use super::{fingerprint::Fingerprint, hash::DocumentHash};
use crate::graphql::cost::{CostLimits, scan::scan};

/// A manifest of ten thousand documents has about 20 MB.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// No operation can have this name, so none is executed when documents are checked.
const NO_OPERATION: &str = "-";

/// Why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path} can't be read")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} has {bytes} bytes, and {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error(
        "{path} is no manifest: it should be {{\"<id>\": \"<document>\"}}, as graphql-codegen and Relay write it, or Apollo's"
    )]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the id {id} stands for two documents")]
    Twice { id: String },
    #[error("the document {id} can't be used with this server's schema: {reason}")]
    Document { id: String, reason: String },
}

/// The registered documents.
#[derive(Debug, Default)]
pub struct Trusted {
    by_id: HashMap<String, Arc<str>>,
    by_hash: HashMap<DocumentHash, Arc<str>>,
    by_fingerprint: HashMap<Fingerprint, Arc<str>>,
}

impl Trusted {
    /// Registers a document, under its hash and under an id of its own, if it has one.
    pub fn insert(&mut self, id: Option<String>, text: &str) {
        let text: Arc<str> = text.into();
        self.by_hash.insert(DocumentHash::of(&text), text.clone());
        if let Some(fingerprint) = Fingerprint::of(&text) {
            self.by_fingerprint.insert(fingerprint, text.clone());
        }
        if let Some(id) = id {
            self.by_id.insert(id, text);
        }
    }

    /// The document that a request names: by its own id, or by `sha256:` and the hash of its text or an id that is one.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<str>> {
        let found = self.by_id.get(id).cloned();
        found.or_else(|| {
            let hash = id.strip_prefix("sha256:")?;
            let by_id = self.by_id.get(hash).cloned();
            by_id.or_else(|| self.by_hash(&DocumentHash::parse(hash)?))
        })
    }

    /// The document of a hash.
    #[must_use]
    pub fn by_hash(&self, hash: &DocumentHash) -> Option<Arc<str>> {
        self.by_hash.get(hash).cloned()
    }

    /// The registered text of a document, however it is printed.
    #[must_use]
    pub fn recognise(&self, text: &str) -> Option<Arc<str>> {
        self.by_fingerprint.get(&Fingerprint::of(text)?).cloned()
    }
}

/// What tools write: one of two shapes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    /// `generate-persisted-query-manifest` of Apollo.
    Apollo { operations: Vec<ApolloOperation> },
    /// The client preset of graphql-codegen, and Relay's compiler.
    Plain(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct ApolloOperation {
    id: String,
    body: String,
}

/// Reads a manifest: ids and documents.
///
/// # Errors
/// [`ManifestError`], but for [`ManifestError::Document`].
pub fn read(path: &Path) -> Result<Vec<(String, String)>, ManifestError> {
    let failed = |source| ManifestError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    let text = std::fs::read(path).map_err(failed)?;
    let manifest = serde_json::from_slice(&text).map_err(|source| ManifestError::Format {
        path: path.to_owned(),
        source,
    })?;
    match manifest {
        Manifest::Plain(documents) => Ok(documents.into_iter().collect()),
        Manifest::Apollo { operations } => {
            let mut documents = BTreeMap::new();
            for ApolloOperation { id, body } in operations {
                if documents.get(&id).is_some_and(|known| *known != body) {
                    return Err(ManifestError::Twice { id });
                }
                documents.insert(id, body);
            }
            Ok(documents.into_iter().collect())
        }
    }
}

/// Holds a document against the schema.
///
/// # Errors
/// [`ManifestError::Document`] with what is wrong with it.
pub async fn check(id: &str, text: &str) -> Result<(), ManifestError> {
    let refuse = |reason: String| {
        Err(ManifestError::Document {
            id: id.to_owned(),
            reason,
        })
    };
    if let Err(error) = scan(text, &CostLimits::default()) {
        return refuse(error.to_string());
    }
    let schema = crate::graphql::bare();
    let request = Request::new(text).operation_name(NO_OPERATION);
    let response = schema.execute(request).await;
    // Which operation is meant is asked when all else is well.
    let expected = format!("Unknown operation named \"{NO_OPERATION}\"");
    match response.errors.into_iter().next() {
        Some(error) if error.message == expected => Ok(()),
        Some(error) => refuse(error.message),
        None => refuse("it has no operation".into()),
    }
}
