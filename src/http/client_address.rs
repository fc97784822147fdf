//! Where a request comes from, with proxies between.

use std::{net::IpAddr, str::FromStr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::auth::network::{NetworkError, parse_networks};

/// The networks whose word on a client's address is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl FromStr for TrustedProxies {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        parse_networks(text).map(Self)
    }
}

impl TrustedProxies {
    /// The client behind a connection: its other end, unless that is a trusted proxy; then the last address in
    /// `X-Forwarded-For` that is none. What stands before it there was written by strangers.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        let mut told = lines.iter().rev().flat_map(|line| line.rsplit(','));
        while self.0.iter().any(|network| network.contains(&client)) {
            match told.next().map(|text| text.trim().parse::<IpAddr>()) {
                Some(Ok(before)) => client = before.to_canonical(),
                Some(Err(_)) | None => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.7".parse().expect("networks");
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header"));
        }
        proxies
            .client(peer.parse().expect("an address"), &headers)
            .to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("203.0.113.9", &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(client("::ffff:10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 192.0.2.7"]),
            "1.1.1.1",
            "the first was written by the client"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.2.2.2"]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert!("10.0.0.0/33".parse::<TrustedProxies>().is_err());
    }
}
