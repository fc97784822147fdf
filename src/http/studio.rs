//! The pages: the studio at `/`, the console at `/console`, and what they are made of at `/web/`.
//!
//! `web/dist` travels in the binary. The pages are the same for everybody and hold no secrets; what they show comes from
//! the API, which asks who calls. How one may sign in is told at `/sign-in.json`.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::Write,
    sync::{Arc, LazyLock, OnceLock},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use rust_embed::Embed;

use self::provider::Provider;
use super::{HttpState, assets::is_known};

pub mod provider;

/// What `npm run build` in `web` leaves. A debug build reads the folder when it runs, so that a page can be changed
/// without compiling.
#[derive(Embed)]
#[folder = "web/dist/"]
struct Dist;

/// Everything from this server, no inline script or style, no plug-in, no frame. Where one signs in may be asked, too.
const STUDIO_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'{provider}; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The console's editor (Monaco) writes style sheets for its themes and attributes for its lines, starts workers, and
/// makes HTML; none of that works by nonces.
const CONSOLE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
    connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Of the files, only a worker heeds it: what a page loads goes by the page's policy.
const ASSET_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'";

/// A page is asked for anew each time, and answered by its ETag alone when it is the same.
const PAGE_CACHE: &str = "no-cache";
/// The names of the other files carry a hash of what is in them.
const ASSET_CACHE: &str = "public, max-age=31536000, immutable";

/// Below this, compressing costs more than it saves.
const GZIP_BYTES_MIN: usize = 1024;

/// What differs between servers: who signs people in.
#[derive(Debug, Clone)]
pub struct Pages {
    studio_policy: HeaderValue,
    sign_in: Arc<str>,
}

impl Pages {
    /// The pages of a server, with an identity provider that people may sign in at, if there is one.
    #[must_use]
    pub fn new(provider: Option<&Provider>) -> Self {
        let connect = provider.map(|provider| format!(" {}", provider.origin()));
        let policy = STUDIO_POLICY.replace("{provider}", &connect.unwrap_or_default());
        let sign_in = serde_json::json!({ "provider": provider });
        Self {
            studio_policy: HeaderValue::from_str(&policy).expect("an origin is plain ASCII"),
            sign_in: sign_in.to_string().into(),
        }
    }
}

static FILES: LazyLock<HashMap<String, File>> = LazyLock::new(|| {
    let names = Dist::iter();
    names
        .filter_map(|name| {
            let file = Dist::get(&name)?;
            Some((name.to_string(), File::new(&name, file)))
        })
        .collect()
});

/// A file of the bundle.
struct File {
    media_type: &'static str,
    etag: HeaderValue,
    bytes: Bytes,
    /// Made once, for the first who wants it; `None` where it is no smaller.
    gzip: OnceLock<Option<Bytes>>,
}

impl File {
    fn new(name: &str, file: rust_embed::EmbeddedFile) -> Self {
        let digest = file.metadata.sha256_hash();
        let hex = hex::encode(&digest[..16]);
        Self {
            media_type: media_type(name),
            // Weak: the compressed form goes by the same tag.
            etag: HeaderValue::from_str(&format!("W/\"{hex}\"")).expect("hex is ASCII"),
            bytes: match file.data {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => bytes.into(),
            },
            gzip: OnceLock::new(),
        }
    }

    fn gzip(&self) -> Option<Bytes> {
        let is_text =
            !self.media_type.starts_with("font/") && !self.media_type.starts_with("image/png");
        if !is_text || self.bytes.len() < GZIP_BYTES_MIN {
            return None;
        }
        self.gzip.get_or_init(|| compressed(&self.bytes)).clone()
    }

    fn respond(&self, asked: &HeaderMap, cache: &'static str) -> Response {
        let fixed = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
            (
                header::VARY,
                HeaderValue::from_static("accept, accept-encoding"),
            ),
        ];
        if self.etag.to_str().is_ok_and(|etag| is_known(asked, etag)) {
            return (StatusCode::NOT_MODIFIED, fixed).into_response();
        }
        let packed = accepts_gzip(asked).then(|| self.gzip()).flatten();
        let kind = [(header::CONTENT_TYPE, self.media_type)];
        match packed {
            Some(packed) => {
                let encoding = [(header::CONTENT_ENCODING, "gzip")];
                (fixed, kind, encoding, Body::from(packed)).into_response()
            }
            None => (fixed, kind, Body::from(self.bytes.clone())).into_response(),
        }
    }
}

fn compressed(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}

/// Whether a client takes gzip: named, and not with a weight of zero.
fn accepts_gzip(asked: &HeaderMap) -> bool {
    let offers = asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    offers.into_iter().any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let is_named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_named
            && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// By the ending of a name. What the build leaves has no others: a unit test looks.
fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ttf" => "font/ttf",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The pages' routes. All that isn't named here is left to the API.
pub fn routes() -> Router<HttpState> {
    let studio = get(
        |State(state): State<HttpState>, headers: HeaderMap| async move {
            page("index.html", &headers, &state.0.pages.studio_policy)
        },
    );
    let console = get(|headers: HeaderMap| async move {
        let policy = HeaderValue::from_static(CONSOLE_POLICY);
        page("console.html", &headers, &policy)
    });
    Router::new()
        .route("/", get(index))
        .route("/conversions/{id}", studio.clone())
        .route("/admin", studio.clone())
        // Where the identity provider sends people back to.
        .route("/signed-in", studio)
        .route("/sign-in.json", get(sign_in))
        .route("/console", console)
        .route("/web/{*name}", get(asset))
}

/// `GET /`: the studio for whoever asks for a page, and a few words for whoever doesn't.
async fn index(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let wants_page = accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    if wants_page {
        return page("index.html", &headers, &state.0.pages.studio_policy);
    }
    let text = concat!(
        "orfeas ",
        env!("CARGO_PKG_VERSION"),
        ": pictures in, meshes out.\n\n",
        "GET  /           the studio, in a browser\n",
        "GET  /console    GraphiQL, in a browser\n",
        "POST /graphql    GraphQL; Authorization: Bearer <token>\n",
        "GET  /graphql    queries, and subscriptions over WebSocket (graphql-transport-ws) or as server-sent events\n",
        "GET  /healthz    alive\n",
        "GET  /readyz     ready for work, or why not\n",
    );
    ([(header::VARY, "accept")], text).into_response()
}

/// `GET /sign-in.json`: how one may sign in, besides by a token.
async fn sign_in(State(state): State<HttpState>) -> Response {
    let fields = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, PAGE_CACHE),
    ];
    let told = (fields, state.0.pages.sign_in.to_string()).into_response();
    guarded(told, &HeaderValue::from_static(ASSET_POLICY))
}

fn page(name: &str, headers: &HeaderMap, policy: &HeaderValue) -> Response {
    match FILES.get(name) {
        Some(file) => guarded(file.respond(headers, PAGE_CACHE), policy),
        None => missing(),
    }
}

/// `GET /web/{name}`.
async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.get(&format!("web/{name}")) {
        Some(file) => guarded(
            file.respond(&headers, ASSET_CACHE),
            &HeaderValue::from_static(ASSET_POLICY),
        ),
        None => missing(),
    }
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, "There is no such page.\n").into_response()
}

fn guarded(mut response: Response, policy: &HeaderValue) -> Response {
    let fields = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Addresses of the pages name conversions.
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_bundle_has_a_type_and_a_place() {
        for (name, file) in FILES.iter() {
            assert_ne!(file.media_type, "application/octet-stream", "{name}");
            let is_page = matches!(name.as_str(), "index.html" | "console.html");
            assert!(
                is_page || name.starts_with("web/"),
                "{name} would never be served"
            );
        }
        for name in ["index.html", "console.html"] {
            let text = String::from_utf8_lossy(&FILES[name].bytes).into_owned();
            assert!(
                text.contains("src=\"/web/"),
                "{name} loads its script from /web/"
            );
            let inline = [
                "<style", "style=\"", "<script>", "onload=", "http://", "https://",
            ];
            let found = inline.iter().find(|word| text.contains(**word));
            assert_eq!(found, None, "{name} would break its own policy");
        }
    }

    #[test]
    fn a_provider_may_be_asked_and_nobody_else() {
        let provider = Provider::new("https://id.example/realms/a", "studio", "openid", None);
        let policy = |provider: Option<&Provider>| {
            let pages = Pages::new(provider);
            let text = pages.studio_policy.to_str().map(str::to_owned);
            text.expect("ASCII")
        };
        let (with, without) = (policy(provider.as_ref().ok()), policy(None));
        assert!(without.contains("connect-src 'self'; "), "{without}");
        assert!(
            with.contains("connect-src 'self' https://id.example; "),
            "{with}"
        );
        assert_eq!(with.replace(" https://id.example", ""), without);
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let accepts = |value: &'static str| {
            let field = (header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts_gzip(&HeaderMap::from_iter([field]))
        };
        assert!(accepts("gzip") && accepts("br, GZIP;q=0.5") && accepts("deflate, gzip, br, zstd"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts("gzipped") && !accepts(""));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
