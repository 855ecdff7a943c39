//! Names of the operator's network, names whose addresses change, and mixed answers, with a canary that must never be
//! reached.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv6Addr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::*;
use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::egress::dns::test_name_server::{AAAA, DnsReply, LocalNames, NXDOMAIN, client, client_in, post, server};
use crate::egress::test_receiver::receiver;

const PATIENCE: Duration = Duration::from_secs(5);
/// Opened in some tests; the canary is in neither.
const OPENED: [u8; 4] = [127, 0, 21, 1];
const CANARY: [u8; 4] = [127, 0, 21, 66];

/// The customer's view of an outcome, without the time.
fn told(outcome: &Outcome) -> (Option<Failure>, Option<u16>, String) {
    (outcome.failure, outcome.status, outcome.detail.clone())
}

#[tokio::test]
async fn names_of_the_operators_network_count_for_allowed_addresses_only() {
    let (port, canary) = receiver(CANARY, 0);
    let (_, opened) = receiver(OPENED, port);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        hosts.path(),
        "127.0.21.66 vault vault.example.net\n127.0.21.1 hooks hooks.example.net\n127.0.21.66 public.example.org\n",
    )
    .unwrap();
    let (name_server, asked) = server(|name, kind| match name {
        "db.corp.example" => DnsReply::Addresses(vec![CANARY.into()], 60),
        "queue.corp.example" | "queue.dev.corp.example" => DnsReply::Addresses(vec![OPENED.into()], 60),
        // Public by its address; the search domain is not asked for by customers.
        "www.corp.example" => DnsReply::Addresses(vec![[198, 41, 0, 4].into()], 60),
        "mixed.corp.example" if kind == AAAA => DnsReply::Addresses(vec![Ipv6Addr::LOCALHOST.into()], 60),
        "mixed.corp.example" => DnsReply::Addresses(vec![CANARY.into(), OPENED.into()], 60),
        "public.example.org" => DnsReply::Addresses(vec![OPENED.into()], 60),
        _ => NXDOMAIN,
    });
    let names = || LocalNames {
        hosts: Some(hosts.path().to_owned()),
        search: vec![Name::from_ascii("corp.example.").unwrap()],
        ..LocalNames::default()
    };
    let (closed, open) = (client_in(names(), name_server, &[]), client_in(names(), name_server, &["127.0.21.1/32"]));
    let unknown = told(&post(&closed, &format!("http://nosuch:{port}/"), PATIENCE).await.unwrap());
    assert_eq!(unknown, (Some(Failure::Dns), None, "the name does not exist in DNS".to_owned()));
    for host in ["vault", "vault.example.net", "VAULT", "hooks", "hooks.example.net", "db", "queue", "www", "mixed"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(told(&post(&closed, &url, PATIENCE).await.unwrap()), unknown, "{url}");
        assert_eq!(closed.vet_text(&url).await, Ok(()), "{url}: saved like a name that does not exist");
    }
    assert!(!asked.lock().unwrap().iter().any(|(name, _)| name.ends_with("corp.example")), "search domains were asked");

    for host in ["vault", "vault.example.net", "db", "www", "hooks."] {
        let (url, dotted) = (format!("http://{host}:{port}/"), host == "hooks.");
        let outcome = told(&post(&open, &url, PATIENCE).await.unwrap());
        // A final dot makes a name absolute; the hosts file knows it all the same, as libc's does.
        assert_eq!(outcome == unknown, !dotted, "{url}: {outcome:?}");
        assert_eq!(open.vet_text(&url).await, Ok(()), "{url}");
    }
    for host in ["hooks", "hooks.example.net", "queue", "queue.dev", "mixed", "public.example.org"] {
        let url = format!("http://{host}:{port}/");
        let before = opened.load(Ordering::SeqCst);
        assert!(post(&open, &url, PATIENCE).await.unwrap().delivered(), "{url}");
        assert_eq!(opened.load(Ordering::SeqCst), before + 1, "{url}");
        assert_eq!(open.vet_text(&url).await, Ok(()), "{url}");
    }
    assert_eq!(told(&post(&open, &format!("http://queue.:{port}/"), PATIENCE).await.unwrap()), unknown);
    assert_eq!(canary.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_changed_hosts_file_takes_effect() {
    let (port, opened) = receiver(OPENED, 0);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let (name_server, _) = server(|_, _| NXDOMAIN);
    let names = LocalNames { hosts: Some(hosts.path().to_owned()), ..LocalNames::default() };
    let egress = client_in(names, name_server, &["127.0.21.1/32"]);
    let url = format!("http://hooks:{port}/");
    assert_eq!(post(&egress, &url, PATIENCE).await.unwrap().failure, Some(Failure::Dns));
    fs::write(hosts.path(), "127.0.21.1 hooks\n").unwrap();
    let start = Instant::now();
    while !post(&egress, &url, PATIENCE).await.unwrap().delivered() {
        assert!(start.elapsed() < PATIENCE, "the file is not read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

/// A name that is public when an endpoint is saved and leads to the canary afterwards, in every order of answers.
#[tokio::test]
async fn rebinding_and_mixed_answers_never_reach_the_canary() {
    let (port, canary) = receiver(CANARY, 0);
    let (_, opened) = receiver(OPENED, port);
    let (_, canary6) = receiver(Ipv6Addr::LOCALHOST, port);
    let mapped: IpAddr = "::ffff:127.0.21.66".parse().unwrap();
    let nat64: IpAddr = "64:ff9b::127.0.21.66".parse().unwrap();
    let ours: Vec<IpAddr> = vec![CANARY.into(), Ipv6Addr::LOCALHOST.into(), mapped, nat64];
    let asked = Mutex::new(HashMap::<String, usize>::new());
    let refused = ours.clone();
    let (egress, log) = client(&["127.0.21.1/32"], move |name, _| {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(name.to_owned()).or_default();
        *times += 1;
        let (kind, n) = name.trim_end_matches(".example").split_once('-').unwrap_or((name, ""));
        let bad = refused[n.parse::<usize>().unwrap_or(0) % refused.len()];
        let addresses = match kind {
            // Changes with every second query: each family has one per lookup.
            "flips" => vec![if *times / 2 % 2 == 1 { bad } else { OPENED.into() }],
            "bad" => vec![bad],
            "first" => vec![bad, OPENED.into()],
            "last" => vec![OPENED.into(), bad],
            "many" => [vec![bad; 10], vec![OPENED.into()], vec![bad; 10]].concat(),
            _ => Vec::new(),
        };
        // Kept for a second.
        DnsReply::Addresses(addresses, 0)
    });
    let mut reached = 0;
    let mut attempt = async |kind: &str, n: usize| {
        let url = format!("http://{kind}-{n}.example:{port}/");
        let vetted = egress.vet_text(&url).await.err().map(|refused| refused.to_string()).unwrap_or_default();
        assert!(!vetted.contains("127.") && !vetted.contains("::") && !vetted.contains("loopback"), "{vetted}");
        let outcome = post(&egress, &url, PATIENCE).await.unwrap();
        match outcome.failure {
            None => reached += 1,
            Some(Failure::Blocked) => assert_eq!(outcome.detail, "the name resolves to a blocked address", "{url}"),
            Some(failure) => assert_eq!(failure, Failure::Dns, "{url}: {outcome:?}"),
        }
        outcome.failure
    };
    for n in 0..ours.len() {
        assert_eq!(attempt("bad", n).await, Some(Failure::Blocked));
        for kind in ["first", "last", "many"] {
            assert_eq!(attempt(kind, n).await, None, "{kind}-{n}: one address is allowed");
        }
    }
    let queries = |n: usize| {
        let name = format!("flips-{n}.example");
        log.lock().unwrap().iter().filter(|(asked, _)| *asked == name).count()
    };
    // Until each of them has led to both addresses, twice.
    let start = Instant::now();
    while (0..ours.len()).any(|n| queries(n) < 8) {
        assert!(start.elapsed() < PATIENCE * 4, "names are cached for longer than a second");
        for n in 0..ours.len() {
            attempt("flips", n).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(opened.load(Ordering::SeqCst), reached, "every delivery went to the address that is allowed");
    assert_eq!((canary.load(Ordering::SeqCst), canary6.load(Ordering::SeqCst)), (0, 0), "the canary was reached");
}
