use super::*;

fn assert_each(addresses: &[&str], public: bool) {
    for text in addresses {
        assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
    }
}

#[test]
fn refuses_every_ipv4_range_that_is_not_public_from_its_first_address_to_its_last() {
    let ranges = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("168.63.129.16", "168.63.129.16"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
    ];
    for (first, last) in ranges {
        let [first, last] = [first, last].map(|text| text.parse::<Ipv4Addr>().unwrap().to_bits());
        for bits in [first, first / 2 + last / 2, last] {
            assert!(!is_public(Ipv4Addr::from_bits(bits).into()), "{}", Ipv4Addr::from_bits(bits));
        }
        for bits in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            let neighbour = Ipv4Addr::from_bits(bits);
            assert!(is_public(neighbour.into()), "{neighbour}: next to the range, and public");
        }
    }
}

#[test]
fn takes_public_ipv4_addresses() {
    assert_each(
        &["1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "172.32.0.0", "192.0.1.1", "223.255.255.255"],
        true,
    );
}

#[test]
fn refuses_metadata_services_by_every_address_they_are_known_by() {
    assert_each(
        &["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"],
        false,
    );
    assert_each(&["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "fe80::a9fe:a9fe"], false);
}

#[test]
fn an_ipv6_address_that_carries_an_ipv4_one_is_what_that_one_is() {
    assert_each(&["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::808:808"], true);
    for inner in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "255.255.255.255"] {
        assert_each(&[&format!("::ffff:{inner}"), &format!("64:ff9b::{inner}")], false);
    }
}

#[test]
fn refuses_other_ways_to_carry_an_ipv4_address_whatever_they_carry() {
    assert_each(
        &[
            // v4-compatible, translated.
            "::8.8.8.8",
            "::127.0.0.1",
            "::ffff:0:8.8.8.8",
            // NAT64's local prefix, and near misses of its well-known one.
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            "64:ff9b::1:0:0",
            "64:ff9a::808:808",
            // 6to4, Teredo.
            "2002:0808:0808::1",
            "2002:7f00:1::",
            "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001::1",
            "2001:0:5ef5:79fb:0:0:f7f7:f7f7",
        ],
        false,
    );
}

#[test]
fn refuses_every_ipv6_range_that_is_not_public() {
    assert_each(
        &[
            "::",
            "::1",
            "::2",
            // Discard only.
            "100::",
            "100::ffff:ffff:ffff:ffff",
            // Protocol assignments: benchmarking, ORCHID and ORCHIDv2; the last of them.
            "2001:1::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            // Documentation.
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "3fff::1",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            // Outside global unicast: segment routing, unassigned.
            "4000::1",
            "5f00::1",
            "1fff:ffff::1",
            "9000::1",
            // Unique local.
            "fc00::",
            "fc00::1",
            "fd00::1",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            // Link-local, site-local, multicast.
            "fe80::1",
            "febf:ffff::1",
            "fec0::1",
            "feff::1",
            "ff00::",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ],
        false,
    );
}

#[test]
fn takes_public_ipv6_addresses() {
    assert_each(
        &[
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:800::200e",
            "3ffe::1",
            "3fff:1000::1",
        ],
        true,
    );
}
