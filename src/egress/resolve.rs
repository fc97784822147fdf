//! From names to addresses that may be called.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolving};
use tokio::sync::Semaphore;

use super::{
    policy::{Objection, Policy},
    target::Scheme,
};

/// Lookups of the system's resolver at a time. Each holds a thread, and one that nobody answers holds it for long.
const LOOKUPS_AT_ONCE: usize = 32;
/// Addresses of a host that are tried. All are checked.
const TRIED_MAX: usize = 8;

/// Who knows the addresses of names.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of a host. It is asked once for each connection.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's own resolver.
#[derive(Debug)]
pub struct SystemResolver {
    slots: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        let slots = self.slots.clone();
        Box::pin(async move {
            let slot = slots
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let lookup = move || {
                // Given back when the lookup ends, not when its caller stops waiting.
                let _slot = slot;
                let addresses = (host.as_str(), 0).to_socket_addrs()?;
                Ok(addresses.map(|address| address.ip()).collect())
            };
            tokio::task::spawn_blocking(lookup).await?
        })
    }
}

/// Why a host is not called.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the host's addresses are not to be called")]
    Objection(Objection),
    #[error("the host has no known address")]
    Unknown(#[source] io::Error),
}

/// A resolver whose answers are checked. The HTTP client connects to what it is given here and asks nobody else, so
/// what was checked is what is called, whatever the name stands for a moment later.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) policy: Policy,
    pub(super) scheme: Scheme,
    pub(super) resolver: Arc<dyn Resolve>,
}

impl reqwest::dns::Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.resolver.resolve(name.as_str());
        let (policy, scheme) = (self.policy.clone(), self.scheme);
        Box::pin(async move {
            let addresses = lookup.await.map_err(Refused::Unknown)?;
            if addresses.is_empty() {
                return Err(Refused::Unknown(io::ErrorKind::NotFound.into()).into());
            }
            policy
                .judge(scheme, &addresses)
                .map_err(Refused::Objection)?;
            let tried = addresses.into_iter().take(TRIED_MAX);
            // The client puts the address's own port in for 0.
            let tried: Addrs = Box::new(tried.map(|address| SocketAddr::new(address, 0)));
            Ok(tried)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let known = SystemResolver::default().resolve("localhost").await;
        let known = known.expect("every system has it");
        assert!(!known.is_empty() && known.iter().all(IpAddr::is_loopback));
    }
}
