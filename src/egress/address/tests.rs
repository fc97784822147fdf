use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn assert_public(text: &str, expected: bool) {
    assert_eq!(is_public(address(text)), expected, "{text}");
}

#[test]
fn special_blocks_of_ipv4_end_where_the_registry_says() {
    // Block by block: the last address before, the first and the last within, the first behind. `None` where the
    // neighbour is special, too, or there is none.
    let blocks: [(Option<&str>, &str, &str, Option<&str>); 18] = [
        (None, "0.0.0.0", "0.255.255.255", Some("1.0.0.0")),
        (
            Some("9.255.255.255"),
            "10.0.0.0",
            "10.255.255.255",
            Some("11.0.0.0"),
        ),
        (
            Some("100.63.255.255"),
            "100.64.0.0",
            "100.127.255.255",
            Some("100.128.0.0"),
        ),
        (
            Some("126.255.255.255"),
            "127.0.0.0",
            "127.255.255.255",
            Some("128.0.0.0"),
        ),
        (
            Some("168.63.129.15"),
            "168.63.129.16",
            "168.63.129.16",
            Some("168.63.129.17"),
        ),
        (
            Some("169.253.255.255"),
            "169.254.0.0",
            "169.254.255.255",
            Some("169.255.0.0"),
        ),
        (
            Some("172.15.255.255"),
            "172.16.0.0",
            "172.31.255.255",
            Some("172.32.0.0"),
        ),
        (
            Some("191.255.255.255"),
            "192.0.0.0",
            "192.0.0.255",
            Some("192.0.1.0"),
        ),
        (
            Some("192.0.1.255"),
            "192.0.2.0",
            "192.0.2.255",
            Some("192.0.3.0"),
        ),
        (
            Some("192.31.195.255"),
            "192.31.196.0",
            "192.31.196.255",
            Some("192.31.197.0"),
        ),
        (
            Some("192.52.192.255"),
            "192.52.193.0",
            "192.52.193.255",
            Some("192.52.194.0"),
        ),
        (
            Some("192.88.98.255"),
            "192.88.99.0",
            "192.88.99.255",
            Some("192.88.100.0"),
        ),
        (
            Some("192.167.255.255"),
            "192.168.0.0",
            "192.168.255.255",
            Some("192.169.0.0"),
        ),
        (
            Some("192.175.47.255"),
            "192.175.48.0",
            "192.175.48.255",
            Some("192.175.49.0"),
        ),
        (
            Some("198.17.255.255"),
            "198.18.0.0",
            "198.19.255.255",
            Some("198.20.0.0"),
        ),
        (
            Some("198.51.99.255"),
            "198.51.100.0",
            "198.51.100.255",
            Some("198.51.101.0"),
        ),
        (
            Some("203.0.112.255"),
            "203.0.113.0",
            "203.0.113.255",
            Some("203.0.114.0"),
        ),
        (
            Some("223.255.255.255"),
            "224.0.0.0",
            "255.255.255.255",
            None,
        ),
    ];
    for (before, first, last, behind) in blocks {
        assert_public(first, false);
        assert_public(last, false);
        for neighbour in [before, behind].into_iter().flatten() {
            assert_public(neighbour, true);
        }
    }
}

#[test]
fn special_blocks_of_ipv6_end_where_the_registry_says() {
    let ones = "ffff:ffff:ffff:ffff";
    // First and last of each block within 2000::/3, and what lies on both sides.
    let blocks: [(&str, &str, &str, &str); 5] = [
        ("2000:ffff::", "2001::", "2001:1ff::", "2001:200::"),
        ("2001:db7::", "2001:db8::", "2001:db8:ffff::", "2001:db9::"),
        ("2001:ffff::", "2002::", "2002:ffff::", "2003::"),
        (
            "2620:4f:7fff::",
            "2620:4f:8000::",
            "2620:4f:8000::",
            "2620:4f:8001::",
        ),
        ("3ffe:ffff::", "3fff::", "3fff:fff::", "3fff:1000::"),
    ];
    for (before, first, last, behind) in blocks {
        assert_public(before, true);
        assert_public(first, false);
        assert_public(&format!("{last}{ones}"), false);
        assert_public(behind, true);
    }
}

#[test]
fn beyond_what_ipv6_has_given_out_nothing_is_public() {
    for (text, what) in [
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "IPv4-compatible loopback"),
        ("::808:808", "IPv4-compatible, whatever it holds"),
        ("::ffff:127.0.0.1", "IPv4-mapped loopback"),
        ("::ffff:8.8.8.8", "IPv4-mapped, whatever it holds"),
        ("::ffff:0:8.8.8.8", "IPv4-translated (SIIT)"),
        ("64:ff9b::a9fe:a9fe", "NAT64 of a metadata address"),
        ("64:ff9b::8.8.8.8", "NAT64, whatever it holds"),
        ("64:ff9b:1::1", "local NAT64"),
        ("100::1", "discard"),
        ("100:0:0:1::1", "dummy prefix"),
        ("200::1", "reserved"),
        (
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "the last before 2000::/3",
        ),
        ("4000::", "the first behind it"),
        ("5f00::1", "SRv6"),
        ("fc00::1", "unique local"),
        ("fd00:ec2::254", "metadata of AWS"),
        ("fd20:ce::254", "metadata of Google"),
        ("fe80::1", "link-local"),
        ("fe80::a9fe:a9fe", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "the last"),
    ] {
        assert!(!is_public(address(text)), "{text}: {what}");
    }
}

#[test]
fn tunnels_within_what_is_given_out_are_refused_whatever_they_lead_to() {
    for (text, what) in [
        ("2001::1", "Teredo"),
        (
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "Teredo of a real client",
        ),
        ("2001:2::1", "benchmarking"),
        ("2001:4:112::1", "AS112"),
        ("2001:10::1", "ORCHID"),
        ("2001:20::1", "ORCHIDv2"),
        ("2001:30::1", "DRIP"),
        ("2002:7f00:1::1", "6to4 of loopback"),
        ("2002:a9fe:a9fe::", "6to4 of a metadata address"),
        ("2002:808:808::1", "6to4, whatever it holds"),
    ] {
        assert!(!is_public(address(text)), "{text}: {what}");
    }
}

#[test]
fn metadata_services_are_no_public_servers() {
    for text in [
        "169.254.169.254", // most clouds
        "169.254.170.2",   // credentials of AWS's containers
        "169.254.0.23",    // Tencent
        "169.254.42.42",   // Scaleway
        "100.100.100.200", // Alibaba
        "192.0.0.192",     // Oracle, the older one
        "168.63.129.16",   // Azure's wire server
        "fd00:ec2::254",   // AWS
        "fd20:ce::254",    // Google
    ] {
        assert_public(text, false);
    }
}

#[test]
fn servers_of_the_public_are_public() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.215.14",
        "100.0.0.1",
        "172.64.0.1",
        "185.199.108.133",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2400:cb00::1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "2c0f:fb50::1",
    ] {
        assert_public(text, true);
    }
}
