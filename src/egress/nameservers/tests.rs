//! Name servers that answer, refuse and stay silent: whose failure is it?

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use http::HeaderMap;
use url::Url;

use super::*;
use crate::domain::Time;
use crate::domain::address::AddressPolicy;
use crate::domain::attempt::{Failure, Outcome, OwnFailure};
use crate::egress::resolver::Resolver;
use crate::egress::{Egress, NotMade, Post};

/// What a question is answered with.
#[derive(Clone, Copy)]
enum Reply {
    Nothing,
    /// A response code, without records.
    Code(u8),
    /// 127.0.0.1.
    Address,
}

const OK: Reply = Reply::Code(0);
const SERVFAIL: Reply = Reply::Code(2);
const NXDOMAIN: Reply = Reply::Code(3);

/// A name server on a port of its own, on a thread that ends with the test's process. Gives back a client that asks it, and how often
/// it was asked for the root.
fn client(answer: impl Fn(&str) -> Reply + Send + 'static) -> (Egress, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let probes = Arc::new(AtomicUsize::new(0));
    let counted = probes.clone();
    thread::spawn(move || {
        let mut question = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let name = name(&question[12..length]);
            counted.fetch_add(usize::from(name.is_empty()), Ordering::SeqCst);
            if let Some(reply) = response(&question[..length], answer(&name)) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    (asking(port), probes)
}

fn asking(port: u16) -> Egress {
    let builder = move || {
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        server.connections[0].port = port;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let policy = Arc::new(AddressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false });
    Egress::resolving(policy.clone(), Resolver::built(builder, policy).unwrap()).unwrap()
}

/// The name that is asked for, in lower case; empty for the root.
fn name(mut labels: &[u8]) -> String {
    let mut name = Vec::new();
    while let Some((length, rest)) = labels.split_first().filter(|(length, _)| **length > 0) {
        let (label, rest) = rest.split_at(usize::from(*length));
        name.push(String::from_utf8_lossy(label).to_lowercase());
        labels = rest;
    }
    name.join(".")
}

fn response(question: &[u8], reply: Reply) -> Option<Vec<u8>> {
    let (code, address) = match reply {
        Reply::Nothing => return None,
        Reply::Code(code) => (code, false),
        Reply::Address => (0, true),
    };
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let mut response = question[..end].to_vec();
    // A response, with recursion, with this code; one question, and neither authority nor extras.
    response[2] |= 0x80;
    response[3] = 0x80 | code;
    let is_a = question[end - 4..end - 2] == [0, 1];
    response[6..12].copy_from_slice(&[0, u8::from(address && is_a), 0, 0, 0, 0]);
    if address && is_a {
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(response)
}

/// Posts to a port on which nothing listens.
async fn post(egress: &Egress, host: &str) -> Result<Outcome, NotMade> {
    let url = Url::parse(&format!("http://{host}:1/")).unwrap();
    let timeout = Duration::from_secs(1);
    egress.post(Post { url: &url, headers: HeaderMap::new(), body: Bytes::new(), timeout, now: Time::ZERO }).await
}

async fn failure(egress: &Egress, host: &str) -> Option<Failure> {
    post(egress, host).await.expect("an attempt that counts").failure
}

const OURS: NotMade = NotMade(OwnFailure::Resolver);

#[tokio::test]
async fn a_name_whose_own_servers_fail_is_a_failure_of_its_receiver() {
    let (egress, probes) = client(|name| match name {
        "broken.example.net" => SERVFAIL,
        "silent.example.net" => Reply::Nothing,
        "missing.example.net" => NXDOMAIN,
        "well.example.net" => Reply::Address,
        _ => OK,
    });
    assert_eq!(failure(&egress, "well.example.net").await, Some(Failure::Refused));
    assert_eq!(failure(&egress, "missing.example.net").await, Some(Failure::Dns));
    assert_eq!(failure(&egress, "empty.example.net").await, Some(Failure::Dns));
    assert_eq!(probes.load(Ordering::SeqCst), 0, "an answer is an answer");
    assert_eq!(failure(&egress, "broken.example.net").await, Some(Failure::Dns));
    assert_eq!(failure(&egress, "silent.example.net").await, Some(Failure::Timeout));
    assert!(probes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn name_servers_that_fail_for_every_name_are_ours() {
    let (egress, probes) = client(|_| SERVFAIL);
    for _ in 0..20 {
        assert_eq!(post(&egress, "a.example.net").await, Err(OURS));
    }
    assert!((1..20).contains(&probes.load(Ordering::SeqCst)), "one probe holds for a while");
}

#[tokio::test]
async fn name_servers_that_stay_silent_are_ours_also_when_the_attempts_time_is_over_first() {
    let (egress, _) = client(|_| Reply::Nothing);
    assert_eq!(post(&egress, "a.example.net").await, Err(OURS));
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_ours() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(post(&asking(free), "a.example.net").await, Err(OURS));
}

#[tokio::test]
async fn where_the_root_is_not_answered_a_name_that_had_addresses_is_proof() {
    let (egress, _) = client(|name| match name {
        "well.example.net" => Reply::Address,
        _ => SERVFAIL,
    });
    assert_eq!(post(&egress, "broken.example.net").await, Err(OURS), "nothing is known to work");
    assert_eq!(failure(&egress, "well.example.net").await, Some(Failure::Refused));
    tokio::time::sleep(HOLDS).await;
    assert_eq!(failure(&egress, "broken.example.net").await, Some(Failure::Dns));
}
