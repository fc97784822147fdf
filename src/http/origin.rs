//! From which pages a browser may call the API.

use std::{fmt, str::FromStr, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it may send.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);

/// Origins that were set to be let in: scheme, host and port, as browsers write them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(Vec<String>);

/// A text that names no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin: write scheme, host and port alone, like https://studio.example or http://localhost:5173"
)]
pub struct OriginError(String);

impl FromStr for Origins {
    type Err = OriginError;

    /// Several are separated by commas.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

fn parse(text: &str) -> Result<String, OriginError> {
    let refuse = || OriginError(text.chars().take(200).collect());
    let url = url::Url::parse(text).map_err(|_| refuse())?;
    let is_bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !is_bare {
        return Err(refuse());
    }
    Ok(url.origin().ascii_serialization())
}

impl Origins {
    /// The answers to browsers' questions; `None` when no other origin is let in: then nothing is said.
    #[must_use]
    pub fn cors(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        let origins = self
            .0
            .iter()
            .map(|origin| HeaderValue::from_str(origin).expect("an origin is plain ASCII"));
        let sent = [
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            HeaderName::from_static("content-digest"),
            HeaderName::from_static("signature"),
            HeaderName::from_static("signature-input"),
            HeaderName::from_static("graphql-preflight"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ];
        let shown = [
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
        ];
        // No credentials: callers are known by headers that a page must set itself, never by cookies.
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(sent)
            .expose_headers(shown)
            .max_age(PREFLIGHT_AGE);
        Some(layer)
    }

    /// Whether a WebSocket may be opened. Browsers ask no permission for these, but say from where they come; programs
    /// say nothing. A page of the server itself names the host that the request went to.
    #[must_use]
    pub fn allow_socket(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str().unwrap_or_default().parse::<Self>() else {
            return false;
        };
        let [origin] = &*origin.0 else {
            return false;
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        self.0.contains(origin) || host.is_some_and(|host| is_of_host(origin, host))
    }
}

/// Behind a proxy that ends TLS the scheme isn't known here; the port that a scheme implies is left out by browsers.
fn is_of_host(origin: &str, host: &str) -> bool {
    let scheme = origin.split("://").next().unwrap_or_default();
    parse(&format!("{scheme}://{host}")).is_ok_and(|own| own == origin)
}

/// Whether a request can't come from a page of an origin that was not asked: browsers send multipart forms to
/// anybody without asking, but no header of another kind.
#[must_use]
pub fn has_preflight_header(headers: &HeaderMap) -> bool {
    let preflight = headers.get("graphql-preflight");
    preflight.is_some_and(|value| value == "1")
        || headers.contains_key(header::AUTHORIZATION)
        || headers.contains_key("signature")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_bare() {
        let origins: Origins = " https://Studio.example:443/, http://localhost:5173 ,"
            .parse()
            .expect("two origins");
        assert_eq!(
            origins.to_string(),
            "https://studio.example,http://localhost:5173"
        );
        assert_eq!("".parse(), Ok(Origins::default()));
        for text in [
            "*",
            "null",
            "studio.example",
            "https://a.example/path",
            "https://a.example?x",
            "https://me@a.example",
            "file:///a",
            "ftp://a.example",
        ] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
        assert!(Origins::default().cors().is_none() && origins.cors().is_some());
    }

    #[test]
    fn sockets_are_opened_from_where_one_may() {
        let origins: Origins = "https://studio.example".parse().expect("an origin");
        let allows = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).expect("ASCII"));
            if let Some(origin) = origin {
                headers.insert(
                    header::ORIGIN,
                    HeaderValue::from_str(origin).expect("ASCII"),
                );
            }
            origins.allow_socket(&headers)
        };
        for (origin, host, allowed) in [
            (None, "api.example", true),
            (Some("https://studio.example"), "api.example", true),
            (Some("https://api.example"), "api.example", true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("http://127.0.0.1:8081"), "127.0.0.1:8080", false),
            (
                Some("https://api.example.evil.example"),
                "api.example",
                false,
            ),
            (Some("https://elsewhere.example"), "api.example", false),
            (
                Some("https://studio.example,https://elsewhere.example"),
                "api.example",
                false,
            ),
            (Some("null"), "api.example", false),
            (Some(""), "api.example", false),
        ] {
            assert_eq!(allows(origin, host), allowed, "{origin:?} {host}");
        }
    }

    #[test]
    fn forms_of_strangers_are_told() {
        let has = |name: &'static str, value: &'static str| {
            has_preflight_header(&HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };
        assert!(
            has("graphql-preflight", "1")
                && has("authorization", "Bearer x")
                && has("signature", "a=:b:")
        );
        assert!(!has("graphql-preflight", "0") && !has("cookie", "a=b") && !has("accept", "*/*"));
    }
}
