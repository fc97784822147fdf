//! The identity provider that the studio's sign-in page offers (OpenID Connect, authorization code with PKCE).
//!
//! The page does all of it by itself, as a public client: it holds no secret, and the server keeps no session. What it
//! must know comes from here; whose tokens count is [`crate::auth::jwt`]'s business.

use serde::Serialize;
use url::{Host, Url};

/// A provider as the page needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Where the provider describes itself, below `/.well-known/openid-configuration`; the tokens' `iss`.
    issuer: String,
    /// The studio's name there.
    client_id: String,
    /// What it asks for, separated by blanks.
    scopes: String,
    /// Whom the access token must be meant for.
    audience: Option<String>,
    #[serde(skip)]
    origin: String,
}

/// Why no provider can be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    #[error(
        "the studio signs in where ORFEAS_JWT_ISSUER says: set it to the provider's issuer URL"
    )]
    NoIssuer,
    #[error("the provider's tokens count only by its keys: set ORFEAS_JWT_JWKS to its `jwks_uri`")]
    NoKeys,
    #[error(
        "ORFEAS_JWT_ISSUER must be the provider's https:// URL, without a query (http:// on this machine alone)"
    )]
    Issuer,
    #[error("ORFEAS_JWT_SCOPES must hold `openid`")]
    Scopes,
}

impl Provider {
    /// The provider of an issuer.
    ///
    /// # Errors
    /// [`ProviderError`] when the issuer is no URL that a page may trust, or the scopes lack `openid`.
    pub fn new(
        issuer: &str,
        client_id: &str,
        scopes: &str,
        audience: Option<&str>,
    ) -> Result<Self, ProviderError> {
        let url: Url = issuer.parse().map_err(|_| ProviderError::Issuer)?;
        let is_here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_here;
        let is_bare = url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !is_safe || !is_bare {
            return Err(ProviderError::Issuer);
        }
        if !scopes.split(' ').any(|scope| scope == "openid") {
            return Err(ProviderError::Scopes);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            scopes: scopes.to_owned(),
            audience: audience.map(str::to_owned),
            origin: url.origin().ascii_serialization(),
        })
    }

    /// Where the page must be let connect to: scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_trusts_https_and_this_machine() {
        let origin = |issuer: &str| {
            Provider::new(issuer, "studio", "openid profile", None)
                .map(|provider| provider.origin().to_owned())
        };
        for (issuer, expected) in [
            ("https://id.example/realms/a", "https://id.example"),
            ("https://id.example:8443", "https://id.example:8443"),
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000"),
            ("http://localhost:4000/", "http://localhost:4000"),
            ("http://[::1]:4000", "http://[::1]:4000"),
        ] {
            assert_eq!(origin(issuer).as_deref(), Ok(expected));
        }
        // What would widen the page's policy, or let somebody on the way read the tokens.
        for issuer in [
            "http://id.example",
            "id.example",
            "ftp://id.example",
            "https://me:secret@id.example",
            "https://id.example/?a=1",
            "https://id.example; script-src *",
            "*",
            "",
        ] {
            assert_eq!(origin(issuer), Err(ProviderError::Issuer), "{issuer}");
        }
        let scopes = Provider::new("https://id.example", "studio", "profile", None);
        assert_eq!(scopes, Err(ProviderError::Scopes));
    }

    #[test]
    fn the_page_reads_what_it_needs() {
        let provider = Provider::new("https://id.example", "studio", "openid", Some("orfeas"));
        let told = serde_json::to_value(provider.expect("a provider")).expect("plain data");
        let expected = serde_json::json!({
            "issuer": "https://id.example", "clientId": "studio", "scopes": "openid", "audience": "orfeas",
        });
        assert_eq!(told, expected);
    }
}
