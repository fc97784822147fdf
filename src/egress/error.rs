//! Why nothing came back.

use std::{error::Error, time::Duration};

use super::{REDIRECTS_MAX, policy::Objection, resolve::Refused, target::UrlError};

/// Why an address was not called, or gave no answer that counts.
///
/// Each sentence may be shown to whoever named the address. That a name is unknown and that it stands for an address
/// inside say the same, or names could be tried out; the log has the difference.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The host, or one of its addresses, is neither public nor allowed.
    #[error("there is no public server of this name or address")]
    NotPublic,
    /// The name has no address, or nobody could say.
    #[error("there is no public server of this name or address")]
    Lookup(#[source] reqwest::Error),
    #[error(
        "no connection came about: the server is not there, refuses, or has no certificate that holds"
    )]
    Connect(#[source] reqwest::Error),
    #[error("the server took more than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the server answered with status {status}")]
    Status {
        status: u16,
        /// As the server asked for.
        retry_after: Option<Duration>,
    },
    #[error("the answer has more than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("the answer is compressed, which was not asked for")]
    Compressed,
    #[error("the server redirects more than {REDIRECTS_MAX} times")]
    Redirects,
    #[error("the server redirects to what can't be called")]
    Redirect(#[source] UrlError),
    #[error("the answer broke off, or was no HTTP")]
    Broken(#[source] reqwest::Error),
    /// The system has no root certificates.
    #[error("this server can't call others at the moment")]
    NoClient,
}

impl EgressError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut(_) | Self::Broken(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Url(_)
            | Self::NotPublic
            | Self::Lookup(_)
            | Self::TooLarge { .. }
            | Self::Compressed
            | Self::Redirects
            | Self::Redirect(_)
            | Self::NoClient => false,
        }
    }

    /// What the HTTP client says, without the address, whose query may be somebody's secret.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        match Refused::within(&error) {
            Some(Refused::Objection(objection)) => (*objection).into(),
            Some(Refused::Unknown(_)) => Self::Lookup(error),
            None if error.is_connect() => Self::Connect(error),
            None => Self::Broken(error),
        }
    }
}

impl From<Objection> for EgressError {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::NotPublic => Self::NotPublic,
            Objection::NeedsHttps => Self::Url(UrlError::Scheme),
        }
    }
}

impl Refused {
    /// The refusal that an error of the HTTP client was made of.
    fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref() {
                return Some(refused);
            }
            cause = error.source();
        }
        None
    }
}
