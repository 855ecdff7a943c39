//! Verdicts on URLs against an independent oracle (`tests/python/url_oracle.py`), which was written from the standards:
//! the vectors that are listed in `vectors.txt`, and generated ones. The addresses of names are checked elsewhere
//! (`src/egress/dns/resolver/tests.rs`, `rebinding.rs`).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::thread;

use sendoff::domain::address::{AddressPolicy, UrlError};
use url::{Host, Url};

use crate::support::python;

const LISTED: &str = include_str!("vectors.txt");
/// Of `make test`.
const SOME: usize = 20_000;
const MILLION: usize = 1_000_000;

/// The program's verdict, in the oracle's words.
fn verdict(text: &str) -> &'static str {
    let Ok(url) = Url::parse(text) else { return "invalid" };
    match (AddressPolicy::default().check_syntax(&url), url.host()) {
        (Err(UrlError::Address(_)), _) => "blocked",
        (Err(UrlError::Invalid(_)), _) | (_, None) => "invalid",
        (Ok(()), Some(Host::Domain(_))) => "name",
        (Ok(()), Some(Host::Ipv4(_) | Host::Ipv6(_))) => "public",
    }
}

/// The oracle's verdicts, in order.
fn oracle(urls: Vec<String>) -> Vec<String> {
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/url_oracle.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    let output = BufReader::new(child.stdout.take().unwrap());
    let writer = thread::spawn(move || {
        for url in urls {
            writeln!(input, "{}", serde_json::to_string(&url).unwrap()).unwrap();
        }
    });
    let verdicts: Vec<String> = output.lines().map(|line| line.unwrap()).collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    verdicts
}

/// Random numbers from a seed (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// First and last addresses of special ranges, and famous ones: the generator stays near them half of the time.
const EDGES_4: [u32; 40] = [
    0x0000_0000,
    0x00ff_ffff,
    0x0100_0000,
    0x0a00_0000,
    0x0aff_ffff,
    0x6440_0000,
    0x647f_ffff,
    0x6464_64c8,
    0x7f00_0000,
    0x7f00_0001,
    0x7fff_ffff,
    0x8000_0000,
    0xa83f_8110,
    0xa9fe_0000,
    0xa9fe_a9fe,
    0xa9fe_ffff,
    0xac10_0000,
    0xac1f_ffff,
    0xc000_0000,
    0xc000_00c0,
    0xc000_00ff,
    0xc000_0200,
    0xc000_02ff,
    0xc058_6300,
    0xc058_63ff,
    0xc0a8_0000,
    0xc0a8_ffff,
    0xc612_0000,
    0xc613_ffff,
    0xc633_6400,
    0xc633_64ff,
    0xcb00_7100,
    0xcb00_71ff,
    0xe000_0000,
    0xefff_ffff,
    0xf000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x0808_0808,
    0x0101_0101,
];
const EDGES_6: [&str; 34] = [
    "::",
    "::1",
    "::ffff:0:0",
    "::ffff:0:0:0",
    "64:ff9b::",
    "64:ff9b:1::",
    "100::",
    "1fff:ffff::",
    "2000::",
    "2001::",
    "2001:1::",
    "2001:2::",
    "2001:20::",
    "2001:1ff:ffff::",
    "2001:200::",
    "2001:4860:4860::8888",
    "2001:db8::",
    "2001:db9::",
    "2002::",
    "2002:7f00:1::",
    "2003::",
    "2606:4700::1111",
    "3ffe:ffff::",
    "3fff::",
    "3fff:fff:ffff::",
    "3fff:1000::",
    "4000::",
    "5f00::",
    "fc00::",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::",
    "ff02::1",
    "2606:4700::200:5efe:7f00:1",
];

fn v4(rng: &mut Rng) -> u32 {
    let near = EDGES_4[rng.below(EDGES_4.len())].wrapping_add(rng.below(5) as u32).wrapping_sub(2);
    if rng.chance(2) { near } else { rng.next() as u32 }
}

fn v6(rng: &mut Rng) -> Ipv6Addr {
    let near: Ipv6Addr = EDGES_6[rng.below(EDGES_6.len())].parse().unwrap();
    let near = u128::from(near);
    let inner = u128::from(v4(rng));
    Ipv6Addr::from(match rng.below(7) {
        0 => near,
        1 => near.wrapping_add(rng.below(5) as u128).wrapping_sub(2),
        // Embedded: in the last 32 bits, behind the interface id of ISATAP, and in the bits after a prefix.
        2 => (near & !0xffff_ffff) | inner,
        3 => (near >> 64 << 64) | (0x0200_5efe_0000_0000 * (rng.below(2) as u128)) | 0x5efe_0000_0000 | inner,
        4 => (near >> 112 << 112) | inner << 80 | u128::from(rng.next()),
        5 => (near >> 96 << 96) | u128::from(rng.next()),
        _ => u128::from(rng.next()) << 64 | u128::from(rng.next()),
    })
}

/// A number as a part of an IPv4 address may be written.
fn part(rng: &mut Rng, n: u32) -> String {
    match rng.below(8) {
        0 => format!("{n:#x}"),
        1 => format!("0X{n:X}"),
        2 => format!("0{n:o}"),
        3 => format!("000{n:o}"),
        4 => format!("0x0{n:x}"),
        _ => n.to_string(),
    }
}

fn spelled_4(rng: &mut Rng, ip: u32) -> String {
    let [a, b, c, d] = ip.to_be_bytes().map(u32::from);
    let parts = match rng.below(8) {
        0 => vec![ip],
        1 => vec![a, ip & 0xff_ffff],
        2 => vec![a, b, ip & 0xffff],
        _ => vec![a, b, c, d],
    };
    let plain = rng.chance(2);
    let parts: Vec<String> = parts.into_iter().map(|n| if plain { n.to_string() } else { part(rng, n) }).collect();
    let dot = match rng.below(12) {
        0 => "\u{3002}",
        1 => "\u{ff0e}",
        2 => "\u{ff61}",
        3 => "%2e",
        4 => "%2E",
        _ => ".",
    };
    let mut text = parts.join(dot);
    if rng.chance(12) {
        text.push_str(dot);
    }
    text.chars()
        .map(|c| match (c, rng.below(40)) {
            ('0'..='9', 0) => char::from_u32(0xff10 + c as u32 - 0x30).unwrap().to_string(),
            ('1'..='9', 1) => char::from_u32(0x2460 + c as u32 - 0x31).unwrap().to_string(),
            ('0'..='9' | 'a'..='f' | 'x', 2) => format!("%{:02x}", c as u32),
            (_, 3) if rng.chance(4) => format!("{c}\u{ad}"),
            _ => c.to_string(),
        })
        .collect()
}

fn spelled_6(rng: &mut Rng, ip: Ipv6Addr) -> String {
    let groups = ip.segments();
    let full = || groups.map(|group| format!("{group:x}")).join(":");
    let inner = Ipv4Addr::from(u128::from(ip) as u32);
    match rng.below(6) {
        0 => format!("[{}]", full()),
        1 => format!("[{}]", groups.map(|group| format!("{group:04X}")).join(":")),
        2 => {
            format!("[{}:{inner}]", groups[..6].iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":"))
        }
        3 => format!("[{ip}%25eth0]"),
        _ => format!("[{ip}]"),
    }
}

fn host(rng: &mut Rng) -> String {
    const NAMES: [&str; 15] = [
        "example.com",
        "localhost",
        "a.localhost",
        "metadata.google.internal",
        "EXAMPLE.com.",
        "127.0.0.1.example",
        "1.example",
        "0x7f.example",
        "a_b.example",
        ".",
        "..",
        "a..b",
        "[",
        "[]",
        "",
    ];
    match rng.below(8) {
        0 => rng.one(&NAMES).to_owned(),
        1 | 2 => {
            let ip = v6(rng);
            spelled_6(rng, ip)
        }
        // Parts that are no number, too many, too large.
        3 if rng.chance(4) => {
            let parts: Vec<String> = (0..1 + rng.below(6)).map(|_| (rng.next() % 600).to_string()).collect();
            parts.join(".")
        }
        3 if rng.chance(2) => format!("{}{}", v4(rng), rng.below(10)),
        _ => {
            let ip = v4(rng);
            spelled_4(rng, ip)
        }
    }
}

/// A URL, usually one that could be a URL.
fn generated(rng: &mut Rng) -> String {
    const USUAL: [&str; 2] = ["http://", "https://"];
    const SCHEMES: [&str; 14] = [
        "HTTP://",
        "hTTps://",
        "http:\\\\",
        "http:/",
        "http:",
        "http:////",
        "https:/\\/",
        " http://",
        "ht\ttp://",
        "ftp://",
        "file://",
        "//",
        "http//",
        "httpss://",
    ];
    const USERS: [&str; 7] = ["user@", "127.0.0.1@", "example.com:80@", ":@", "@", "a@b@", "%61@"];
    const PORTS: [&str; 12] = [
        ":80",
        ":443",
        ":0",
        ":00080",
        ":65535",
        ":65536",
        ":",
        ":8a",
        ":-1",
        ":99999999999999999999",
        ":8\n0",
        ":%38",
    ];
    const PATHS: [&str; 12] =
        ["", "/", "/a@b", "?a@b", "#a@b", "\\@127.0.0.1", "/\\x", "/%00", "?://127.0.0.1", "/a b", "/..//", "\t"];
    let scheme = if rng.chance(5) { rng.one(&SCHEMES) } else { rng.one(&USUAL) };
    let user = if rng.chance(12) { rng.one(&USERS) } else { "" };
    let port = if rng.chance(4) { rng.one(&PORTS) } else { "" };
    let mut text = format!("{scheme}{user}{}{port}{}", host(rng), rng.one(&PATHS));
    // Damage.
    while rng.chance(6) {
        const BITS: &str = "./:@#?[]%0x7\\ \t\n\r\0<>^|a_-,;'\"`{}~!$&()*+=\u{7f}\u{ad}\u{200b}\u{ff0f}";
        let at = text.char_indices().map(|(at, _)| at).nth(rng.below(text.chars().count().max(1))).unwrap_or(0);
        let bit = BITS.chars().nth(rng.below(BITS.chars().count())).unwrap_or('a');
        match rng.below(3) {
            0 => text.insert(at, bit),
            1 if !text.is_empty() => drop(text.remove(at)),
            _ => {
                let rest = text.split_off(at);
                text.push_str(&rest.chars().take(3).collect::<String>());
                text.push_str(&rest);
            }
        }
    }
    text
}

/// Compares the verdicts on generated URLs; prints how many there were of each.
fn compare(count: usize, seed: u64) {
    let mut rng = Rng(seed);
    let (mut counts, mut differences) = (std::collections::BTreeMap::<&str, usize>::new(), String::new());
    let mut left = count;
    while left > 0 {
        let urls: Vec<String> = (0..left.min(50_000)).map(|_| generated(&mut rng)).collect();
        left -= urls.len();
        let theirs = oracle(urls.clone());
        assert_eq!(theirs.len(), urls.len());
        for (url, theirs) in urls.iter().zip(&theirs) {
            let ours = verdict(url);
            *counts.entry(ours).or_default() += 1;
            if ours != theirs && differences.len() < 5_000 {
                let _ = writeln!(differences, "{url:?}: {ours}, the oracle: {theirs}");
            }
        }
    }
    println!("{count} URLs, seed {seed}: {counts:?}");
    assert_eq!(differences, "", "seed {seed}");
    for kind in ["invalid", "name", "public", "blocked"] {
        assert!(counts.get(kind).is_some_and(|n| n * 50 > count), "{kind}: {counts:?}");
    }
}

#[test]
fn listed_urls_have_the_verdict_that_the_list_says() {
    let listed = LISTED.lines().filter(|line| !line.starts_with('#'));
    let vectors: Vec<(&str, String)> = listed
        .map(|line| {
            let (verdict, url) = line.split_once(' ').unwrap();
            (verdict, serde_json::from_str(url).unwrap())
        })
        .collect();
    assert!(vectors.len() >= 3_000, "{}", vectors.len());
    let theirs = oracle(vectors.iter().map(|(_, url)| url.clone()).collect());
    let wrong: Vec<_> = vectors
        .iter()
        .zip(&theirs)
        .filter(|((listed, url), theirs)| verdict(url) != *listed || theirs != listed)
        .map(|((listed, url), theirs)| format!("{url:?} is {listed}; ours {}, the oracle {theirs}", verdict(url)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), vectors.len());
}

#[test]
fn generated_urls_get_the_verdict_of_an_independent_oracle() {
    compare(SOME, 17);
}

/// `make chaos` runs it.
#[test]
#[ignore = "takes minutes"]
fn a_million_generated_urls_get_the_verdict_of_an_independent_oracle() {
    compare(MILLION, 1_017);
}
