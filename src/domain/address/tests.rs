//! Which addresses and URLs are refused.

use proptest::prelude::*;

use super::*;
use crate::fuzzing::{fuzz, words};

fn why(ip: &str) -> Option<String> {
    public(ip.parse().unwrap()).err().map(|refused| refused.why)
}

#[test]
fn addresses_of_the_open_internet_pass() {
    let edges = "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
                 168.63.129.15 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 \
                 192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 \
                 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2000:: 2001:200::1 2001:4860:4860::8888 \
                 2606:4700::1111 2a00:1450::1 3ffe::1 3fff:1000:: 2606:4700::200:5efe:808:808";
    for ip in edges.split_whitespace() {
        assert_eq!(why(ip), None, "{ip}");
    }
}

#[test]
fn special_addresses_are_refused_by_name() {
    let table = [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "this network"),
        ("10.0.0.0", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.0", "shared (carrier-grade NAT)"),
        ("100.100.100.200", "shared (carrier-grade NAT)"),
        ("100.127.255.255", "shared (carrier-grade NAT)"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "cloud metadata"),
        ("169.254.169.254", "link-local (cloud metadata)"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "protocol assignments"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4"),
        ("192.168.255.255", "private"),
        ("198.18.0.0", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.254", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "IPv4-compatible"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "IPv4-mapped, stands for 127.0.0.1, loopback"),
        ("::ffff:a9fe:a9fe", "link-local (cloud metadata)"),
        ("::ffff:0:8.8.8.8", "reserved"),
        ("64:ff9b::10.0.0.1", "NAT64 for 10.0.0.1, private"),
        ("64:ff9b::a9fe:a9fe", "cloud metadata"),
        ("64:ff9b:1::8.8.8.8", "local NAT64"),
        ("64:ff9b:2::1", "reserved"),
        ("100::1", "discard-only"),
        ("200::1", "reserved"),
        ("1fff:ffff::1", "reserved"),
        ("2001::1", "Teredo"),
        ("2001:0:53aa:64c:0:0:f5ff:fffe", "Teredo"),
        ("2001:2::1", "benchmarking"),
        ("2001:10::1", "protocol assignments"),
        ("2001:20::1", "protocol assignments"),
        ("2001:1ff:ffff::1", "protocol assignments"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::1", "6to4"),
        ("2002:808:808::1", "6to4"),
        ("2606:4700::5efe:10.0.0.1", "ISATAP for 10.0.0.1, private"),
        ("2606:4700::200:5efe:127.0.0.1", "ISATAP for 127.0.0.1, loopback"),
        ("3fff::1", "documentation"),
        ("3fff:fff:ffff::1", "documentation"),
        ("4000::1", "reserved"),
        ("5f00::1", "segment routing"),
        ("fc00::1", "private (unique local)"),
        ("fd00:ec2::254", "private (unique local)"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
    ];
    for (ip, wanted) in table {
        let why = why(ip).unwrap_or_else(|| panic!("{ip} passed"));
        assert!(why.contains(wanted), "{ip} is {why}, wanted {wanted}");
    }
}

proptest! {
    #[test]
    fn a_mapped_address_is_judged_as_its_ipv4(ip in any::<u32>().prop_map(Ipv4Addr::from)) {
        let plain = public(ip.into()).is_ok();
        prop_assert_eq!(public(ip.to_ipv6_mapped().into()).is_ok(), plain);
        let [a, b, c, d] = ip.octets().map(u16::from);
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
        prop_assert_eq!(public(nat64.into()).is_ok(), plain);
    }

    #[test]
    fn outside_of_global_unicast_nothing_passes(ip in any::<u128>().prop_map(Ipv6Addr::from)) {
        let passes = public(ip.into()).is_ok();
        prop_assert!(!passes || GLOBAL_V6.contains(&ip) || NAT64.contains(&ip) || ip.to_ipv4_mapped().is_some());
    }
}

#[test]
fn the_operator_opens_exactly_what_was_named() {
    let policy =
        AddressPolicy { allow: vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()], https_only: false };
    for (ip, passes) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("::1", true),
        ("8.8.8.8", true),
        ("10.2.0.1", false),
        ("127.0.0.1", false),
        ("64:ff9b::10.1.2.3", false),
    ] {
        assert_eq!(policy.check(ip.parse().unwrap()).is_ok(), passes, "{ip}");
    }
}

#[test]
fn urls_are_judged_by_their_text() {
    let open = AddressPolicy::default();
    let strict = AddressPolicy { https_only: true, ..AddressPolicy::default() };
    let check_syntax = |policy: &AddressPolicy, url: &str| policy.check_url(&url.parse().unwrap());
    for url in ["https://example.com/x?y#z", "http://example.com:8080", "http://8.8.8.8/", "https://[2606:4700::1111]/"]
    {
        assert_eq!(check_syntax(&open, url), Ok(()), "{url}");
    }
    assert!(check_syntax(&strict, "https://example.com").is_ok());
    let table = [
        (&strict, "http://example.com/", "https://"),
        (&open, "ftp://example.com/", "https:// or http://"),
        (&open, "file:///etc/passwd", "https:// or http://"),
        (&open, "javascript:alert(1)", "https:// or http://"),
        (&open, "https://user@example.com/", "Authorization"),
        (&open, "https://:hush@example.com/", "Authorization"),
        (&open, "https://example.com:0/", "port 0"),
        (&open, "https://./", "name a host"),
        (&open, "http://127.0.0.1:1/", "loopback"),
        (&open, "http://2130706433/", "loopback"),
        (&open, "http://0x7f.1/", "loopback"),
        (&open, "http://0177.0.0.1/", "loopback"),
        (&open, "http://127.0.0.1./", "loopback"),
        (&open, "http://①②⑦.0.0.1/", "loopback"),
        (&open, "http://[::1]/", "loopback"),
        (&open, "http://[::ffff:127.0.0.1]/", "stands for 127.0.0.1"),
        (&open, "http://169.254.169.254/latest/meta-data", "cloud metadata"),
    ];
    for (policy, url, wanted) in table {
        let Err(invalid) = check_syntax(policy, url) else { panic!("{url} passed") };
        assert_eq!(invalid.field, "url");
        assert!(invalid.reason.contains(wanted) && !invalid.reason.contains("hush"), "{url}: {invalid}");
    }
    let refused = check_syntax(&open, "http://10.0.0.1/").unwrap_err().reason;
    assert_eq!(refused, "points to a blocked address: 10.0.0.1 is private. Use a public address");
}

/// An independent copy of the ranges of IANA's registry of special IPv4 addresses that are not public, and multicast.
const NOT_PUBLIC: [(u32, u32); 16] = [
    (0x0000_0000, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc000_0000, 24),
    (0xc000_0200, 24),
    (0xc058_6300, 24),
    (0xc0a8_0000, 16),
    (0xc612_0000, 15),
    (0xc633_6400, 24),
    (0xcb00_7100, 24),
    (0xe000_0000, 4),
    (0xf000_0000, 4),
    (0xffff_ffff, 32),
];

/// One of the spellings in which browsers and libc read an IPv4 address.
fn spelled(ip: u32, how: u8) -> String {
    let [a, b, c, d] = ip.to_be_bytes();
    let rest = ip & 0xffff;
    match how % 12 {
        0 => format!("{a}.{b}.{c}.{d}"),
        1 => format!("{ip}"),
        2 => format!("{ip:#x}"),
        3 => format!("0{ip:o}"),
        4 => format!("{a:#x}.{b:#X}.0{c:o}.{d}").replace("0X", "0x"),
        5 => format!("{a}.{b}.{rest}"),
        6 => format!("{a}.{}", ip & 0xff_ffff),
        7 => format!("{a}.{b}.{c}.{d}."),
        8 => format!("%3{}{}.{b}.{c}.{d}", a.to_string().as_bytes()[0] - b'0', &a.to_string()[1..]),
        9 => format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        10 => format!("{a}.{b}.{c}.{d}").replace('1', "\u{ff11}").replace('0', "\u{24ea}"),
        _ => format!("[::ffff:{:x}:{:x}]", ip >> 16, rest),
    }
}

/// A URL gets the verdict on its address, no matter how the address is spelled and what else the URL contains.
#[test]
fn fuzz_url_verdict() {
    let ip = prop_oneof![
        any::<u32>(),
        (0usize..16, any::<u32>()).prop_map(|(range, ip)| {
            let (base, bits) = NOT_PUBLIC[range];
            base | (ip & u32::MAX.checked_shr(bits).unwrap_or(0))
        })
    ];
    let around = ("(https?|HTTP)(://|:\\\\\\\\|:/|:)", any::<u8>(), "(|/|/a b|#x|\\?y=//1.1.1.1|:1|:65535/|\\\\)");
    let policy = AddressPolicy::default();
    fuzz("url_verdict", "(https?:)?.{0,60}", (ip, around), |text, (ip, (before, how, after))| {
        let spelling = format!("{before}{}{after}", spelled(*ip, *how));
        let url = Url::parse(&spelling);
        prop_assert!(url.is_ok(), "{spelling}");
        let public = !NOT_PUBLIC.iter().any(|&(base, bits)| (ip ^ base).checked_shr(32 - bits) == Some(0));
        let verdict = policy.check_url(&url.unwrap());
        // The oracle knows only the ranges in `NOT_PUBLIC`; the policy may refuse more.
        prop_assert!(public || verdict.is_err(), "{spelling} is let through");
        prop_assert_eq!(verdict.is_ok(), policy.check(Ipv4Addr::from(*ip).into()).is_ok(), "{}", spelling);
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return Ok(vec![error.to_string()]),
        };
        if let Err(invalid) = policy.check_url(&url) {
            return Ok(vec![words(&invalid.reason)]);
        }
        prop_assert!(["http", "https"].contains(&url.scheme()));
        prop_assert!(url.username().is_empty() && url.password().is_none() && url.port() != Some(0));
        // If the host is an address in any spelling, the parsed address must be public.
        let public = match url.host() {
            Some(Host::Ipv4(ip)) => policy.check(ip.into()).is_ok(),
            Some(Host::Ipv6(ip)) => policy.check(ip.into()).is_ok(),
            Some(Host::Domain(name)) => !name.is_empty(),
            None => false,
        };
        prop_assert!(public, "{}", text);
        Ok(vec![format!("allowed {} {}", url.scheme(), url.port().is_some())])
    });
}
