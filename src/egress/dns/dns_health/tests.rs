//! Name servers that answer, refuse or stay silent: the receiver's failure or this machine's.

use std::net::{Ipv4Addr, UdpSocket};

use super::*;
use crate::domain::deliveries::attempt::{Failure, LocalFailure, Outcome};
use crate::egress::dns::test_name_server::{self as server, DnsReply, NXDOMAIN, OK, QueryLog, SERVFAIL};
use crate::egress::{Egress, NotSent};

const HERE: &[&str] = &["127.0.0.0/8"];

fn client(answer: impl Fn(&str) -> DnsReply + Send + 'static) -> (Egress, QueryLog) {
    server::client(HERE, move |name, _| answer(name))
}

/// Number of queries for the root.
fn probes(asked: &QueryLog) -> usize {
    asked.lock().unwrap().iter().filter(|(name, _)| name.is_empty()).count()
}

fn address() -> DnsReply {
    DnsReply::Addresses(vec![Ipv4Addr::LOCALHOST.into()], 60)
}

/// Posts to a closed port.
async fn post(egress: &Egress, host: &str) -> Result<Outcome, NotSent> {
    server::post(egress, &format!("http://{host}:1/"), Duration::from_secs(1)).await
}

async fn failure(egress: &Egress, host: &str) -> Option<Failure> {
    post(egress, host).await.expect("an attempt that counts").failure
}

const OURS: NotSent = NotSent(LocalFailure::Resolver);

#[tokio::test]
async fn a_name_with_broken_name_servers_is_a_failure_of_its_receiver() {
    let (egress, asked) = client(|name| match name {
        "broken.example.net" => SERVFAIL,
        "silent.example.net" => DnsReply::Nothing,
        "missing.example.net" => NXDOMAIN,
        "well.example.net" => address(),
        _ => OK,
    });
    assert_eq!(failure(&egress, "well.example.net").await, Some(Failure::Refused));
    assert_eq!(failure(&egress, "missing.example.net").await, Some(Failure::Dns));
    assert_eq!(failure(&egress, "empty.example.net").await, Some(Failure::Dns));
    assert_eq!(probes(&asked), 0, "an answer is an answer");
    assert_eq!(failure(&egress, "broken.example.net").await, Some(Failure::Dns));
    assert_eq!(failure(&egress, "silent.example.net").await, Some(Failure::Timeout));
    assert!(probes(&asked) > 0);
}

#[tokio::test]
async fn name_servers_that_fail_for_every_name_are_a_local_failure() {
    let (egress, asked) = client(|_| SERVFAIL);
    for _ in 0..20 {
        assert_eq!(post(&egress, "a.example.net").await, Err(OURS));
    }
    assert!((1..20).contains(&probes(&asked)), "one probe holds for a while");
}

#[tokio::test]
async fn silent_name_servers_are_a_local_failure_even_after_a_timeout() {
    let (egress, _) = client(|_| DnsReply::Nothing);
    assert_eq!(post(&egress, "a.example.net").await, Err(OURS));
}

#[tokio::test]
async fn an_unreachable_name_server_is_a_local_failure() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(post(&server::client_of(free, HERE), "a.example.net").await, Err(OURS));
}

#[tokio::test]
async fn a_recently_resolved_name_proves_that_name_servers_work() {
    let (egress, _) = client(|name| match name {
        "well.example.net" => address(),
        _ => SERVFAIL,
    });
    assert_eq!(post(&egress, "broken.example.net").await, Err(OURS), "nothing is known to work");
    assert_eq!(failure(&egress, "well.example.net").await, Some(Failure::Refused));
    tokio::time::sleep(PROBE_TTL).await;
    assert_eq!(failure(&egress, "broken.example.net").await, Some(Failure::Dns));
}

#[tokio::test]
async fn a_changed_dns_configuration_is_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let (first, _) = server::server(|_, _| address());
    let (second, _) = server::server(|_, _| NXDOMAIN);
    let read = file.clone();
    let port = move || Some((std::fs::read_to_string(&read).ok()?.parse().ok()?, None));
    let egress = server::configured(vec![file.clone()], port, HERE);
    assert_eq!(post(&egress, "a.example.net").await, Err(OURS), "there is no network yet");
    for (port, wanted) in [(first, Failure::Refused), (second, Failure::Dns), (first, Failure::Refused)] {
        // Replaced by rename, as network daemons do it.
        let draft = folder.path().join("draft");
        std::fs::write(&draft, port.to_string()).unwrap();
        std::fs::rename(&draft, &file).unwrap();
        let start = Instant::now();
        while post(&egress, "a.example.net").await.map(|outcome| outcome.failure) != Ok(Some(wanted)) {
            assert!(start.elapsed() < Duration::from_secs(20), "{wanted:?} is noticed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_zero_timeout_in_resolv_conf_is_raised() {
    let (port, _) = server::server(|_, _| address());
    let egress = server::configured(Vec::new(), move || Some((port, Some(Duration::ZERO))), HERE);
    assert_eq!(failure(&egress, "a.example.net").await, Some(Failure::Refused), "`timeout:0` in resolv.conf");
}
