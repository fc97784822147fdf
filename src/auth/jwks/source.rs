//! Where a key set comes from: a file, or an identity provider's server.

use std::{fmt, io, path::PathBuf, time::Duration};

use reqwest::redirect::{Attempt, Policy};
use tokio::io::AsyncReadExt;
use url::Url;

use super::key_set::{KeySet, KeySetError};

/// A key is 0.5 to 3 KB, most of it certificates; this holds the 64 keys that a set may have.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long the provider may take for its whole answer.
pub const FETCH_MAX: Duration = Duration::from_secs(10);
/// Redirects within the provider's own host.
const REDIRECTS_MAX: usize = 3;

/// Why a key set could not be had.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error(
        "ORFEAS_JWT_JWKS must be a file's path, or a file://, http:// or https:// URL without a password"
    )]
    Location,
    #[error("the identity provider's keys can't be read from {location} (ORFEAS_JWT_JWKS)")]
    Read { location: String, source: io::Error },
    #[error("the identity provider's keys can't be fetched from {location} (ORFEAS_JWT_JWKS)")]
    Fetch {
        location: String,
        source: reqwest::Error,
    },
    #[error(
        "{location} (ORFEAS_JWT_JWKS) answered {status} instead of the identity provider's keys"
    )]
    Status {
        location: String,
        status: reqwest::StatusCode,
    },
    #[error("{location} (ORFEAS_JWT_JWKS) holds more than {BODY_BYTES_MAX} bytes")]
    TooLong { location: String },
    #[error("{location} (ORFEAS_JWT_JWKS) holds no usable key set")]
    KeySet {
        location: String,
        source: KeySetError,
    },
    #[error("no client for ORFEAS_JWT_JWKS could be made")]
    Client(#[source] reqwest::Error),
}

/// A place that a key set is read from, again and again.
#[derive(Debug, Clone)]
pub enum Source {
    File(PathBuf),
    Server { url: Url, client: reqwest::Client },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // Without a query string, which may hold somebody's secret.
            Self::Server { url, .. } => {
                write!(f, "{}{}", url.origin().ascii_serialization(), url.path())
            }
        }
    }
}

impl Source {
    /// The source that a setting names.
    ///
    /// # Errors
    /// [`JwksError::Location`] and [`JwksError::Client`].
    pub fn new(location: &str) -> Result<Self, JwksError> {
        if !location.contains("://") {
            return Ok(Self::File(PathBuf::from(location)));
        }
        let url = Url::parse(location).map_err(|_| JwksError::Location)?;
        match url.scheme() {
            "file" => url
                .to_file_path()
                .map(Self::File)
                .map_err(|()| JwksError::Location),
            "http" | "https" if url.username().is_empty() && url.password().is_none() => {
                let client = reqwest::Client::builder()
                    .timeout(FETCH_MAX)
                    .redirect(Policy::custom(follow))
                    .build()
                    .map_err(JwksError::Client)?;
                Ok(Self::Server { url, client })
            }
            _ => Err(JwksError::Location),
        }
    }

    /// Whether somebody on the way could swap the keys.
    #[must_use]
    pub fn is_unprotected(&self) -> bool {
        let Self::Server { url, .. } = self else {
            return false;
        };
        let is_loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        url.scheme() == "http" && !is_loopback
    }

    /// The set as it is there now.
    ///
    /// # Errors
    /// [`JwksError`].
    pub async fn load(&self) -> Result<KeySet, JwksError> {
        let text = match self {
            Self::File(path) => {
                let mut text = Vec::new();
                let read = async {
                    let file = tokio::fs::File::open(path).await?;
                    // One byte more than allowed tells a longer file.
                    file.take(BODY_BYTES_MAX as u64 + 1)
                        .read_to_end(&mut text)
                        .await
                };
                read.await.map_err(|source| JwksError::Read {
                    location: self.to_string(),
                    source,
                })?;
                text
            }
            Self::Server { url, client } => self.fetch(client, url.clone()).await?,
        };
        if text.len() > BODY_BYTES_MAX {
            return Err(self.too_long());
        }
        KeySet::parse(&text).map_err(|source| JwksError::KeySet {
            location: self.to_string(),
            source,
        })
    }

    async fn fetch(&self, client: &reqwest::Client, url: Url) -> Result<Vec<u8>, JwksError> {
        let failed = |source: reqwest::Error| JwksError::Fetch {
            location: self.to_string(),
            source: source.without_url(),
        };
        let mut response = client
            .get(url)
            .header(
                reqwest::header::ACCEPT,
                "application/jwk-set+json, application/json",
            )
            .send()
            .await
            .map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(JwksError::Status {
                location: self.to_string(),
                status: response.status(),
            });
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if text.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(self.too_long());
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }

    fn too_long(&self) -> JwksError {
        JwksError::TooLong {
            location: self.to_string(),
        }
    }
}

/// Follows a redirect within the origin that the operator named, and no other: whoever can bend an answer must not
/// send us to a server of theirs, or to one inside our network.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let previous = attempt.previous();
    if previous.len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    let is_at_home = previous
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if is_at_home {
        attempt.follow()
    } else {
        attempt.error("a redirect to another host")
    }
}
