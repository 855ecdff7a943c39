//! Test support: a DNS server with scripted replies, and clients that use it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use http::HeaderMap;
use url::Url;

use super::resolver::Resolver;
use crate::domain::Time;
use crate::domain::address::AddressPolicy;
use crate::domain::deliveries::attempt::Outcome;
use crate::egress::guard::Guard;
use crate::egress::{Egress, EgressProxy, NotSent, Post};

/// The reply to a query.
#[derive(Clone)]
pub enum DnsReply {
    Nothing,
    /// A response code without records.
    Code(u8),
    /// A response code with a SOA record, which sets the seconds to cache it.
    CodeFor(u8, u8),
    /// The addresses of the requested family, with a TTL in seconds.
    Addresses(Vec<IpAddr>, u8),
    /// A delayed reply.
    Later(Duration, Box<DnsReply>),
}

pub const OK: DnsReply = DnsReply::Code(0);
pub const SERVFAIL: DnsReply = DnsReply::Code(2);
pub const NXDOMAIN: DnsReply = DnsReply::Code(3);
/// DNS record types.
pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// Maximum age of the tests' connections.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The queries so far: the lower-case name (empty for the root) and the record type.
pub type QueryLog = Arc<Mutex<Vec<(String, u16)>>>;

/// Starts a name server and returns a client that may connect to `allow`, with the query log. The server's thread ends
/// with the test process.
pub fn client(allow: &[&str], answer: impl Fn(&str, u16) -> DnsReply + Send + 'static) -> (Egress, QueryLog) {
    let (port, asked) = server(answer);
    (client_of(port, allow), asked)
}

/// Starts a name server and returns its port and query log.
pub fn server(answer: impl Fn(&str, u16) -> DnsReply + Send + 'static) -> (u16, QueryLog) {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let port = socket.local_addr().unwrap().port();
    let asked = QueryLog::default();
    let noted = asked.clone();
    thread::spawn(move || {
        let mut question = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let question = question[..length].to_vec();
            let (name, kind) = read(&question);
            noted.lock().unwrap().push((name.clone(), kind));
            let mut reply = answer(&name, kind);
            let mut wait = Duration::ZERO;
            while let DnsReply::Later(longer, then) = reply {
                wait += longer;
                reply = *then;
            }
            let socket = Arc::clone(&socket);
            let send = move || {
                if let Some(response) = response(&question, kind, &reply) {
                    let _ = socket.send_to(&response, from);
                }
            };
            if wait.is_zero() {
                send();
            } else {
                thread::spawn(move || {
                    thread::sleep(wait);
                    send();
                });
            }
        }
    });
    (port, asked)
}

/// A client that uses the name server on `port`.
pub fn client_of(port: u16, allow: &[&str]) -> Egress {
    configured(Vec::new(), move || Some((port, None)), allow)
}

/// A client whose name server port and timeout come from `read`, which runs again when `files` change. `None` means no
/// name server.
pub fn configured(
    files: Vec<PathBuf>,
    read: impl Fn() -> Option<(u16, Option<Duration>)> + Send + Sync + 'static,
    allow: &[&str],
) -> Egress {
    let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
    guarded(files, read, Guard::new(Arc::new(AddressPolicy { allow, https_only: false })))
}

/// Like [`configured`], with a guard instead of a list of networks.
pub fn guarded(
    files: Vec<PathBuf>,
    read: impl Fn() -> Option<(u16, Option<Duration>)> + Send + Sync + 'static,
    guard: Guard,
) -> Egress {
    guarded_through(None, files, read, guard)
}

/// Like [`guarded`], through `proxy` if there is one.
pub fn guarded_through(
    proxy: Option<EgressProxy>,
    files: Vec<PathBuf>,
    read: impl Fn() -> Option<(u16, Option<Duration>)> + Send + Sync + 'static,
    guard: Guard,
) -> Egress {
    built(proxy, LocalNames { files, ..LocalNames::default() }, read, guard)
}

/// The names of a test's own network, and the files that are watched.
#[derive(Default)]
pub struct LocalNames {
    pub files: Vec<PathBuf>,
    pub hosts: Option<PathBuf>,
    /// Search domains.
    pub search: Vec<Name>,
}

/// A client that uses the name server on `port` in a network with names of its own.
pub fn client_in(names: LocalNames, port: u16, allow: &[&str]) -> Egress {
    let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
    built(None, names, move || Some((port, None)), Guard::new(Arc::new(AddressPolicy { allow, https_only: false })))
}

fn built(
    proxy: Option<EgressProxy>,
    names: LocalNames,
    read: impl Fn() -> Option<(u16, Option<Duration>)> + Send + Sync + 'static,
    guard: Guard,
) -> Egress {
    let LocalNames { files, hosts, search } = names;
    let builder = move || {
        let (port, patience) = read().unzip();
        let servers = port.map(|port| {
            let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
            server.connections[0].port = port;
            server
        });
        let config = ResolverConfig::from_parts(None, search.clone(), servers.into_iter().collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        if let Some(patience) = patience.flatten() {
            builder.options_mut().timeout = patience;
        }
        builder
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    Egress::with_resolver(Resolver::with_builder(files, hosts, builder, guard).unwrap(), proxy, MAX_AGE).unwrap()
}

/// Sends an empty POST to `url`.
pub async fn post(egress: &Egress, url: &str, timeout: Duration) -> Result<Outcome, NotSent> {
    let url = Url::parse(url).unwrap();
    egress
        .post(Post {
            url: &url,
            headers: HeaderMap::new(),
            exact_case: &[],
            body: Bytes::new(),
            timeout,
            now: Time::ZERO,
        })
        .await
}

fn read(question: &[u8]) -> (String, u16) {
    let (mut labels, mut name) = (&question[12..], Vec::new());
    while let Some((length, rest)) = labels.split_first().filter(|(length, _)| **length > 0) {
        let (label, rest) = rest.split_at(usize::from(*length));
        name.push(String::from_utf8_lossy(label).to_lowercase());
        labels = rest;
    }
    (name.join("."), u16::from_be_bytes([labels[1], labels[2]]))
}

fn response(question: &[u8], kind: u16, reply: &DnsReply) -> Option<Vec<u8>> {
    let (code, mut answers, mut authorities) =
        (if let DnsReply::Code(code) | DnsReply::CodeFor(code, _) = reply { *code } else { 0 }, Vec::new(), Vec::new());
    // Records refer to the name in the query, in class IN.
    let record = |kind: u16, seconds: u8, data: &[u8]| {
        let mut record = vec![0xc0, 12, 0, kind as u8, 0, 1, 0, 0, 0, seconds, 0, data.len() as u8];
        record.extend_from_slice(data);
        record
    };
    match reply {
        DnsReply::Nothing | DnsReply::Later(..) => return None,
        DnsReply::Code(_) => {}
        // A SOA record: two root names, four numbers, and the negative TTL.
        DnsReply::CodeFor(_, seconds) => {
            let mut data = vec![0; 22];
            data[21] = *seconds;
            authorities.push(record(6, *seconds, &data));
        }
        DnsReply::Addresses(addresses, seconds) => {
            for address in addresses {
                match address {
                    IpAddr::V4(ip) if kind == A => answers.push(record(kind, *seconds, &ip.octets())),
                    IpAddr::V6(ip) if kind == AAAA => answers.push(record(kind, *seconds, &ip.octets())),
                    _ => {}
                }
            }
        }
    }
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let mut response = question[..end].to_vec();
    // A response with recursion, this code, one question and no additional records.
    response[2] |= 0x80;
    response[3] = 0x80 | code;
    response[6..12].copy_from_slice(&[0, answers.len() as u8, 0, authorities.len() as u8, 0, 0]);
    response.extend(answers.concat());
    response.extend(authorities.concat());
    Some(response)
}
