//! Which addresses are the public's.
//!
//! The sources are IANA's registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890), the registries of
//! multicast and reserved space, and, in IPv6, that only 2000::/3 is given out at all. Blocks that the registries call
//! globally reachable are refused like the rest: they are for protocols, and nobody's web server lies there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address and prefix length of what is not public in IPv4.
const SPECIAL_V4: [([u8; 4], u32); 19] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared by a carrier's customers (CGNAT); some clouds' metadata
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // public by its number, and the wire server of every machine in Azure
    ([169, 254, 0, 0], 16),   // link-local; most clouds' metadata
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments; Oracle's older metadata
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 31, 196, 0], 24),  // AS112
    ([192, 52, 193, 0], 24),  // AMT
    ([192, 88, 99, 0], 24),   // relays of 6to4
    ([192, 168, 0, 0], 16),   // private
    ([192, 175, 48, 0], 24),  // AS112
    ([198, 18, 0, 0], 15),    // benchmarking
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved; broadcast
];

/// What IPv6 has given out. Everything else is refused with it: unspecified and loopback, IPv4 in IPv6 (::/96,
/// ::ffff:0:0/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard and dummy (100::/63), SRv6 (5f00::/16), unique
/// local (fc00::/7), link-local, site-local, multicast.
const GIVEN_OUT_V6: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What of it is special.
const SPECIAL_V6: [([u16; 8], u32); 5] = [
    // Protocol assignments: Teredo, ORCHID, benchmarking, AMT, AS112, DRIP.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),     // 6to4: an IPv4 address, whatever it is
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // documentation
];

/// Whether an address is one that everybody can reach: none that means something else from inside.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4
            .iter()
            .any(|&(first, length)| v4_within(address, first, length)),
        IpAddr::V6(address) => {
            v6_within(address, GIVEN_OUT_V6.0, GIVEN_OUT_V6.1)
                && !SPECIAL_V6
                    .iter()
                    .any(|&(first, length)| v6_within(address, first, length))
        }
    }
}

fn v4_within(address: Ipv4Addr, first: [u8; 4], length: u32) -> bool {
    let differing = u32::from(address) ^ u32::from_be_bytes(first);
    differing.leading_zeros() >= length
}

fn v6_within(address: Ipv6Addr, first: [u16; 8], length: u32) -> bool {
    let differing = u128::from(address) ^ u128::from(Ipv6Addr::from(first));
    differing.leading_zeros() >= length
}

#[cfg(test)]
mod tests;
