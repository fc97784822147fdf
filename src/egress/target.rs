//! Addresses as clients write them.

use std::fmt;

use reqwest::header::HeaderValue;
use url::{Host, Url};

use super::{EgressError, policy::Policy};

/// Longer ones are no address of a picture or a webhook; signed links of stores have some 500 bytes, 2,000 at most.
pub const URL_BYTES_MAX: usize = 2048;
/// Ports up to here belong to services that the system starts: mail, name servers, shells. Above, anybody may have
/// put a web server.
const SYSTEM_PORTS_MAX: u16 = 1023;

/// Why an address can't be called, whatever is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the address has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("the address is no URL like https://example.com/picture.png")]
    Unreadable,
    #[error("the address must begin with https://")]
    Scheme,
    #[error("the address must not hold a user or password: what fetches it is not you")]
    Credentials,
    #[error(
        "the address names a port of another service: use the usual one, or one above {SYSTEM_PORTS_MAX}"
    )]
    Port,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Https,
    /// Whoever is on the way may read and change everything; to the operator's networks alone.
    Http,
}

impl Scheme {
    /// As URLs have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    fn usual_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// An address that may be called, as far as its text tells. `Display` and `Debug` show scheme, host and port alone:
/// the rest may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    scheme: Scheme,
}

impl Target {
    /// The whole address, as it is called.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn parse(text: &str, policy: &Policy) -> Result<Self, EgressError> {
        let url = readable(text)
            .and_then(|text| Url::parse(text).map_err(|_| UrlError::Unreadable))
            .map_err(EgressError::Url)?;
        Self::checked(url, policy)
    }

    /// Where an answer sends us on to.
    pub(super) fn redirected(
        &self,
        location: Option<&HeaderValue>,
        policy: &Policy,
    ) -> Result<Self, EgressError> {
        let url = location
            .and_then(|location| location.to_str().ok())
            .ok_or(UrlError::Unreadable)
            .and_then(readable)
            .and_then(|location| self.url.join(location).map_err(|_| UrlError::Unreadable))
            .map_err(EgressError::Redirect)?;
        Self::checked(url, policy).map_err(|error| match error {
            EgressError::Url(error) => EgressError::Redirect(error),
            other => other,
        })
    }

    fn checked(mut url: Url, policy: &Policy) -> Result<Self, EgressError> {
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(UrlError::Scheme.into()),
        };
        if !policy.knows(scheme) {
            return Err(UrlError::Scheme.into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials.into());
        }
        // The parser drops a scheme's own port.
        if url.port().is_some_and(|port| port <= SYSTEM_PORTS_MAX) {
            return Err(UrlError::Port.into());
        }
        // A name with a dot at its end is the same name; certificates are for the one without.
        if let Some(Host::Domain(name)) = url.host()
            && let Some(bare) = name.strip_suffix('.')
        {
            let bare = bare.to_owned();
            url.set_host(Some(&bare))
                .map_err(|_| UrlError::Unreadable)?;
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(UrlError::Unreadable.into()),
        };
        // A name is judged by its addresses when it is called; an address is asked of no resolver.
        if let Some(address) = literal {
            policy.judge(scheme, &[address])?;
        }
        url.set_fragment(None);
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(UrlError::TooLong.into());
        }
        Ok(Self { url, scheme })
    }
}

/// Text without what URL parsers skip or read as something else: blanks, line ends, backslashes.
fn readable(text: &str) -> Result<&str, UrlError> {
    if text.len() > URL_BYTES_MAX {
        return Err(UrlError::TooLong);
    }
    let is_odd = |byte: u8| byte.is_ascii_control() || byte == b' ' || byte == b'\\';
    if text.bytes().any(is_odd) {
        return Err(UrlError::Unreadable);
    }
    Ok(text)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().unwrap_or(self.scheme.usual_port());
        write!(f, "{}://{host}:{port}", self.scheme.as_str())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests;
