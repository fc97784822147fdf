//! HTTP to addresses that clients name: pictures to fetch, webhooks to call.
//!
//! Whoever names an address must not reach through this server what only it can reach. So an address is checked as
//! text ([`target`]), its host is resolved once for each connection, what the resolver says is checked as a whole
//! ([`resolve`], [`address`]), and the connection goes to what was checked, not to the name. Redirects are followed here, not by
//! the HTTP client, so that each passes the same checks.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use ipnet::IpNet;
use reqwest::{
    Certificate, Client, Method, StatusCode,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION},
    redirect::Policy as RedirectPolicy,
};
use tokio::time::{Instant, timeout, timeout_at};

pub mod address;
pub mod answer;
pub mod error;
pub mod policy;
pub mod resolve;
pub mod target;

pub use answer::Answer;
pub use error::EgressError;
pub use resolve::{Resolve, SystemResolver};
pub use target::Target;

use policy::Policy;
use resolve::Guarded;
use target::Scheme;

/// Redirects that a GET follows. Short links and stores that redirect to a mirror take one or two.
pub const REDIRECTS_MAX: u32 = 3;
/// How long making a connection may take, TLS included, over all addresses of a host.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What servers see of who is asking.
const USER_AGENT: &str = concat!("orfeas/", env!("CARGO_PKG_VERSION"));

/// Where to, and by whose word.
#[derive(Debug, Clone)]
pub struct EgressOptions {
    /// Networks that are let through though they aren't public. `http://` is allowed to them, too.
    pub allowed: Vec<IpNet>,
    /// Who knows the addresses of names.
    pub resolver: Arc<dyn Resolve>,
}

impl Default for EgressOptions {
    /// Public addresses alone, by the system's resolver.
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            resolver: Arc::new(SystemResolver::default()),
        }
    }
}

/// What a GET may cost.
#[derive(Debug, Clone, Copy)]
pub struct GetLimits {
    /// Bytes of the body.
    pub bytes_max: u64,
    /// From the first lookup to the last byte, redirects included.
    pub deadline: Duration,
}

/// HTTP to addresses that clients name: only to public ones, unless the operator allows a network.
///
/// Cheap to clone. There is no pool: each request resolves, checks and connects anew, since a connection that is kept
/// would outlive what was checked.
#[derive(Debug, Clone)]
pub struct Egress {
    policy: Policy,
    resolver: Arc<dyn Resolve>,
    authorities: Vec<Certificate>,
    clients: Arc<OnceLock<Clients>>,
}

/// `None` where none could be made; the log says why.
#[derive(Debug)]
struct Clients {
    https: Option<Client>,
    http: Option<Client>,
}

impl Egress {
    /// Makes nothing yet: the system's root certificates are read at the first request.
    #[must_use]
    pub fn new(options: EgressOptions) -> Self {
        let EgressOptions { allowed, resolver } = options;
        Self {
            policy: Policy::new(allowed),
            resolver,
            authorities: Vec::new(),
            clients: Arc::default(),
        }
    }

    /// The same, trusting servers whose certificates come from this authority as well.
    #[must_use]
    pub fn trusting(mut self, authority: Certificate) -> Self {
        self.authorities.push(authority);
        self.clients = Arc::default();
        self
    }

    /// Checks what can be checked without asking anybody: scheme, credentials, host, port, length, and addresses that
    /// are written as such.
    ///
    /// # Errors
    /// [`EgressError::Url`] and [`EgressError::NotPublic`].
    pub fn check(&self, url: &str) -> Result<Target, EgressError> {
        Target::parse(url, &self.policy)
    }

    /// Fetches what is there: the body of an answer with status 200, after at most [`REDIRECTS_MAX`] redirects.
    ///
    /// # Errors
    /// [`EgressError`]; whatever it is, at most `bytes_max` bytes were kept and no more than `deadline` has passed.
    pub async fn get(&self, target: &Target, limits: GetLimits) -> Result<Bytes, EgressError> {
        let GetLimits {
            bytes_max,
            deadline,
        } = limits;
        timeout(deadline, self.follow(target, bytes_max))
            .await
            .unwrap_or(Err(EgressError::TimedOut(deadline)))
    }

    async fn follow(&self, target: &Target, bytes_max: u64) -> Result<Bytes, EgressError> {
        let mut target = target.clone();
        for _ in 0..=REDIRECTS_MAX {
            let headers = HeaderMap::new();
            let response = self.send(Method::GET, &target, headers, Bytes::new());
            let response = response.await?;
            target = match response.status() {
                StatusCode::OK => return answer::body(response, bytes_max).await,
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    target.redirected(response.headers().get(LOCATION), &self.policy)?
                }
                status => {
                    return Err(EgressError::Status {
                        status: status.as_u16(),
                        retry_after: answer::retry_after(response.headers()),
                    });
                }
            };
        }
        Err(EgressError::Redirects)
    }

    /// Sends a body and says what was answered. A redirect is an answer like others and is not followed: the body was
    /// meant for the address that was named.
    ///
    /// # Errors
    /// [`EgressError`] if no answer came within `time_max`.
    pub async fn post(
        &self,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
        time_max: Duration,
    ) -> Result<Answer, EgressError> {
        let ends = Instant::now() + time_max;
        let response = timeout_at(ends, self.send(Method::POST, target, headers, body))
            .await
            .map_err(|_| EgressError::TimedOut(time_max))??;
        Ok(Answer::read(response, ends).await)
    }

    async fn send(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Response, EgressError> {
        let clients = self.clients.get_or_init(|| self.make_clients());
        let client = match target.scheme() {
            Scheme::Https => clients.https.as_ref(),
            Scheme::Http => clients.http.as_ref(),
        };
        let mut request = client
            .ok_or(EgressError::NoClient)?
            .request(method, target.url().clone())
            .headers(headers)
            // A compressed answer would have to be unpacked before its length is known.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !body.is_empty() {
            request = request.body(body);
        }
        request.send().await.map_err(EgressError::of)
    }

    fn make_clients(&self) -> Clients {
        Clients {
            https: self.make_client(Scheme::Https),
            http: self.make_client(Scheme::Http),
        }
    }

    fn make_client(&self, scheme: Scheme) -> Option<Client> {
        let guarded = Guarded {
            policy: self.policy.clone(),
            scheme,
            resolver: self.resolver.clone(),
        };
        let builder = Client::builder()
            .dns_resolver(guarded)
            // A proxy of the environment would resolve names by itself.
            .no_proxy()
            .redirect(RedirectPolicy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_MAX)
            .pool_max_idle_per_host(0)
            .http1_only()
            // Another crate may have switched these on for all.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        let builder = match scheme {
            Scheme::Https => builder
                .https_only(true)
                .tls_certs_merge(self.authorities.iter().cloned()),
            // No certificate is ever looked at, so none is read.
            Scheme::Http => builder.tls_certs_only([]),
        };
        builder
            .build()
            .inspect_err(|error| {
                let cause = crate::error_chain::chain(error);
                tracing::error!(%cause, scheme = scheme.as_str(), "Nothing can be fetched: no HTTP client could be made");
            })
            .ok()
    }
}
