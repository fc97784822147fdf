//! What stands between a request and its execution: who calls, whether they may, and what it costs.
//!
//! An agent's request passes in this order: the key from this node's copies, the signature, the body's digest, and one
//! statement that rechecks the key, records the nonce and charges the quota. Whoever fails costs no more than a failure
//! must, and leaves a line in the audit log.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{extract::ConnectInfo, http::request::Parts};
use url::Url;

use super::{
    client_address::TrustedProxies,
    key_cache::{CachedKey, KeyCache},
    span,
};
use crate::{
    auth::{
        jwt::Tokens,
        principal::{Principal, Quotas},
        signature::SignedRequest,
    },
    conversion::provenance::TraceContext,
    db::{Database, api_keys::KeyState, audit::writer::Auditor, quotas::Rate},
};

mod admit;
mod identify;
mod note;
pub mod refusal;
pub mod tally;

/// The gate of one node.
#[derive(Debug)]
pub struct Gate {
    pub tokens: Tokens,
    pub user_quotas: Quotas,
    /// `None`: programs are not let in.
    pub keys: Option<Arc<KeyCache>>,
    /// How clients reach the server, where that is set.
    pub public_url: Option<Url>,
    pub proxies: TrustedProxies,
    pub database: Database,
    pub auditor: Auditor,
    pub tally: tally::Tally,
}

/// What is known of a request whoever sent it.
#[derive(Debug, Clone)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub request_id: String,
    /// The place in a trace that the client says the request belongs to.
    pub trace: Option<TraceContext>,
}

/// A caller whose token or signature counts.
#[derive(Debug)]
pub enum Caller {
    Person(Principal),
    Agent(Box<Agent>),
}

/// An agent whose signature is right. Whether the key still counts, [`Gate::admit`] tells.
#[derive(Debug)]
pub struct Agent {
    key: Arc<CachedKey>,
    /// Which of its secrets signed.
    generation: i32,
    signed: SignedRequest,
}

/// A caller who may go on.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub principal: Principal,
    /// Set for callers with keys.
    pub keyed: Option<Keyed>,
}

/// How the key of an admitted request stands.
#[derive(Debug, Clone, Copy)]
pub struct Keyed {
    /// Which of its secrets signed.
    pub generation: i32,
    /// The state of the key that the principal shows.
    pub version: i32,
    /// What is left of a minute's requests.
    pub rate: Rate,
}

impl Admitted {
    /// A person, or whoever has no key.
    #[must_use]
    pub fn person(principal: Principal) -> Self {
        Self {
            principal,
            keyed: None,
        }
    }

    /// What the key's connections are watched by.
    #[must_use]
    pub fn key_state(&self) -> Option<KeyState> {
        let (id, keyed) = self.principal.key().zip(self.keyed)?;
        Some(KeyState {
            id: id.clone(),
            generation: keyed.generation,
            version: keyed.version,
        })
    }
}

impl Caller {
    /// Whether the digest of the body is signed, and so must be held against it.
    #[must_use]
    pub fn has_signed_digest(&self) -> bool {
        matches!(self, Self::Agent(agent) if agent.signed.covers_content_digest())
    }

    pub(super) fn principal(&self) -> Principal {
        match self {
            Self::Person(principal) => principal.clone(),
            Self::Agent(agent) => agent.key.principal(),
        }
    }
}

impl Gate {
    /// Where a request comes from.
    #[must_use]
    pub fn origin(&self, parts: &Parts) -> Origin {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Origin {
            address: peer.map(|peer| self.proxies.client(peer.0.ip(), &parts.headers)),
            request_id: span::request_id(&parts.headers).to_owned(),
            trace: span::named_place(&parts.headers),
        }
    }
}
