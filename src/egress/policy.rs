//! Which addresses may be called.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
};

use ipnet::IpNet;

use super::{address::is_public, target::Scheme};

/// Why a host is not called, though it has addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// One of its addresses is neither public nor allowed.
    NotPublic,
    /// All are, and speaking `http://` to them is what isn't.
    NeedsHttps,
}

/// Public addresses, and the operator's networks.
#[derive(Debug, Clone)]
pub struct Policy {
    allowed: Arc<[IpNet]>,
}

impl Policy {
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Whether any address at all may be called over this scheme.
    #[must_use]
    pub fn knows(&self, scheme: Scheme) -> bool {
        scheme == Scheme::Https || !self.allowed.is_empty()
    }

    /// Whether a host that has these addresses may be called over this scheme. All count: a name that stands for a
    /// public and an inner address is a mistake or an attack, and calling the public one would hide it.
    ///
    /// # Errors
    /// [`Objection`].
    pub fn judge(&self, scheme: Scheme, addresses: &[IpAddr]) -> Result<(), Objection> {
        let all_over = |scheme| {
            addresses
                .iter()
                .all(|address| self.admits(scheme, *address))
        };
        if all_over(scheme) {
            Ok(())
        } else if all_over(Scheme::Https) {
            Err(Objection::NeedsHttps)
        } else {
            Err(Objection::NotPublic)
        }
    }

    fn admits(&self, scheme: Scheme, address: IpAddr) -> bool {
        let is_allowed = self
            .allowed
            .iter()
            .any(|network| network.contains(&address));
        is_allowed || (scheme == Scheme::Https && is_public(address) && !is_own(address))
    }
}

/// Whether an address is this machine's. A public one is no different from others, but what comes from the machine
/// itself passes its firewall.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent: the system only chooses the address to send from, which is the same for oneself alone.
    let chosen = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    chosen.is_ok_and(|chosen| chosen.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn judged(policy: &Policy, scheme: Scheme, addresses: &[&str]) -> Result<(), Objection> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| address(text)).collect();
        policy.judge(scheme, &addresses)
    }

    #[test]
    fn an_allowed_network_is_let_through_and_nothing_beside_it() {
        let policy = Policy::new(vec!["10.1.0.0/16".parse().expect("a network")]);
        for scheme in [Scheme::Http, Scheme::Https] {
            assert_eq!(judged(&policy, scheme, &["10.1.2.3"]), Ok(()));
            // In another form it is another address.
            for beside in ["10.2.2.3", "::ffff:10.1.2.3"] {
                let refused = judged(&policy, scheme, &[beside]);
                assert_eq!(refused, Err(Objection::NotPublic), "{beside}");
            }
        }
    }

    #[test]
    fn http_goes_to_allowed_networks_alone() {
        let policy = Policy::new(vec!["10.1.0.0/16".parse().expect("a network")]);
        let mixed = ["10.1.2.3", "93.184.215.14"];
        assert_eq!(judged(&policy, Scheme::Https, &mixed), Ok(()));
        assert_eq!(
            judged(&policy, Scheme::Http, &mixed),
            Err(Objection::NeedsHttps)
        );
    }

    #[test]
    fn one_inner_address_among_public_ones_refuses_the_host() {
        let policy = Policy::new(Vec::new());
        let public = ["93.184.215.14", "2606:2800:21f:cb07::1"];
        assert_eq!(judged(&policy, Scheme::Https, &public), Ok(()));
        for inner in ["10.0.0.1", "::1", "::ffff:93.184.215.14", "169.254.169.254"] {
            for mixed in [[public[0], public[1], inner], [inner, public[0], public[1]]] {
                let refused = judged(&policy, Scheme::Https, &mixed);
                assert_eq!(refused, Err(Objection::NotPublic), "{mixed:?}");
            }
        }
    }

    #[test]
    fn without_networks_there_is_no_http() {
        let policy = Policy::new(Vec::new());
        assert!(!policy.knows(Scheme::Http) && policy.knows(Scheme::Https));
    }

    #[test]
    fn the_machine_knows_its_own_addresses() {
        assert!(is_own(address("127.0.0.1")));
        assert!(!is_own(address("192.0.2.7")));
    }
}
