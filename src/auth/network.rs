//! Networks as settings and keys name them.

use std::net::IpAddr;

use ipnet::IpNet;

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write them like 10.0.0.0/8 or 192.0.2.7, separated by commas")]
pub struct NetworkError(String);

/// A network in CIDR notation, or a single address.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| NetworkError(text.to_owned()))
}

/// Networks, separated by commas; none for an empty text.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, NetworkError> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(parse_network).collect()
}
