//! Requests through scripted HTTP and SOCKS5 proxies. Names have public addresses; the proxies lead every tunnel to a
//! receiver on loopback and note what was asked of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::domain::address::AddressPolicy;
use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::egress::dns::test_name_server::{A, DnsReply, guarded_through, post, server};
use crate::egress::guard::Guard;
use crate::egress::{Egress, NotSent};

const USUAL: Duration = Duration::from_secs(10);
const PUBLIC: &str = "8.8.8.8";

/// A proxy's reply to a request for a tunnel.
#[derive(Clone, Copy)]
enum Reply {
    Tunnel,
    /// The receiver cannot be reached.
    Unreachable,
    /// The connection is closed in the middle.
    Close,
}

/// A proxy: its port, and the targets and credentials that it was given.
struct TestProxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TestProxy {
    fn targets(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A receiver that answers every request with 200; returns its port and the heads of its requests.
fn receiver() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&heads);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            noted.lock().unwrap().push(read_head(&mut stream));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, heads)
}

/// The head of a request, or the first byte of a TLS handshake.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n")
        && head.first() != Some(&0x16)
        && stream.read(&mut byte).is_ok_and(|read| read > 0)
    {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn read_bytes<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn pipe(client: TcpStream, receiver: u16) {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, receiver)).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut from, mut to) = (upstream, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// Starts a proxy that handles each connection with `serve`.
fn proxy(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + 'static) -> TestProxy {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, &noted)));
    TestProxy { port, asked }
}

/// An HTTP proxy; with `credentials`, it demands this `Proxy-Authorization`.
fn http_proxy(receiver: u16, credentials: Option<&'static str>, reply: Reply) -> TestProxy {
    proxy(move |mut stream, asked| {
        let head = read_head(&mut stream);
        asked.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
        let authorized = credentials.is_none_or(|wanted| head.contains(&format!("Proxy-Authorization: {wanted}\r\n")));
        let answer = match reply {
            _ if !authorized => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            Reply::Tunnel => "HTTP/1.1 200 Connection established\r\n\r\n",
            Reply::Unreachable => "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
            Reply::Close => "HTTP/1.1 2",
        };
        stream.write_all(answer.as_bytes()).unwrap();
        if authorized && matches!(reply, Reply::Tunnel) {
            pipe(stream, receiver);
        }
    })
}

/// A SOCKS5 proxy; with `credentials`, it demands this user and password, joined by a colon.
fn socks_proxy(receiver: u16, credentials: Option<&'static str>, reply: Reply) -> TestProxy {
    proxy(move |mut stream, asked| {
        let [_, methods] = read_bytes(&mut stream);
        for _ in 0..methods {
            let [_] = read_bytes(&mut stream);
        }
        stream.write_all(&[5, if credentials.is_some() { 2 } else { 0 }]).unwrap();
        if let Some(wanted) = credentials {
            let [_, length] = read_bytes(&mut stream);
            let mut given = String::new();
            (0..length).for_each(|_| given.push(read_bytes::<1>(&mut stream)[0].into()));
            let [length] = read_bytes(&mut stream);
            given.push(':');
            (0..length).for_each(|_| given.push(read_bytes::<1>(&mut stream)[0].into()));
            stream.write_all(&[1, u8::from(given != wanted)]).unwrap();
            if given != wanted {
                return;
            }
        }
        let [_, command, _, kind] = read_bytes(&mut stream);
        let target = match kind {
            1 => Ipv4Addr::from(read_bytes::<4>(&mut stream)).to_string(),
            4 => format!("[{}]", std::net::Ipv6Addr::from(read_bytes::<16>(&mut stream))),
            _ => "a name".to_owned(),
        };
        let port = u16::from_be_bytes(read_bytes(&mut stream));
        asked.lock().unwrap().push(format!("{command} {target}:{port}"));
        match reply {
            Reply::Tunnel => {
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                pipe(stream, receiver);
            }
            Reply::Unreachable => stream.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap(),
            Reply::Close => stream.write_all(&[5]).unwrap(),
        }
    })
}

/// A client behind the proxy at `url`, for which `PUBLIC` is the address of every name but `private.example`.
fn client(url: &str, bypass: &str, allow: &[&str]) -> Egress {
    let (port, _) = server(|name, kind| match kind {
        A if name == "private.example" => DnsReply::Addresses(vec![[10, 1, 2, 3].into()], 1),
        A if name == "here.example" => DnsReply::Addresses(vec![[127, 0, 0, 1].into()], 1),
        A => DnsReply::Addresses(vec![PUBLIC.parse().unwrap()], 1),
        _ => DnsReply::Code(0),
    });
    let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
    let guard = Guard::new(Arc::new(AddressPolicy { allow, https_only: false }));
    let proxy = EgressProxy::new(url, bypass).unwrap();
    guarded_through(Some(proxy), Vec::new(), move || Some((port, None)), guard)
}

async fn told(egress: &Egress, url: &str) -> (Option<Failure>, String) {
    let Outcome { failure, detail, .. } = post(egress, url, USUAL).await.unwrap();
    (failure, detail)
}

/// A proxy of each protocol, with its scheme and how it notes a request for a tunnel to `PUBLIC`.
fn both(receiver: u16, reply: Reply) -> [(TestProxy, &'static str, &'static str); 2] {
    [
        (http_proxy(receiver, None, reply), "http", "CONNECT 8.8.8.8:8081 HTTP/1.1"),
        (socks_proxy(receiver, None, reply), "socks5", "1 8.8.8.8:8081"),
    ]
}

#[tokio::test]
async fn tunnels_lead_to_checked_addresses_and_carry_the_name() {
    let (port, heads) = receiver();
    for (proxy, scheme, target) in both(port, Reply::Tunnel) {
        let egress = client(&format!("{scheme}://127.0.0.1:{}", proxy.port), "", &[]);
        assert_eq!(told(&egress, "http://a.example:8081/x").await, (None, String::new()), "{scheme}");
        assert_eq!(told(&egress, "http://8.8.8.8:8081/x").await, (None, String::new()), "{scheme}");
        assert_eq!(proxy.targets(), [target, target]);
        let heads = std::mem::take(&mut *heads.lock().unwrap());
        assert!(heads.iter().all(|head| head.starts_with("POST /x HTTP/1.1\r\n")), "{heads:?}");
        assert!(heads[0].contains("Host: a.example:8081\r\n") && !heads[0].contains("Proxy-"), "{heads:?}");
    }
}

#[tokio::test]
async fn refused_addresses_never_reach_the_proxy() {
    let (port, _) = receiver();
    for (proxy, scheme, _) in both(port, Reply::Tunnel) {
        let egress = client(&format!("{scheme}://127.0.0.1:{}", proxy.port), "", &[]);
        let addresses = ["private.example", "here.example", "10.1.2.3", "[::1]", "169.254.169.254"];
        for host in addresses {
            assert_eq!(
                told(&egress, &format!("http://{host}:8081/")).await.0,
                Some(Failure::Blocked),
                "{scheme} {host}"
            );
        }
        assert_eq!(proxy.targets(), [""; 0], "{scheme}");
    }
}

#[tokio::test]
async fn an_unreachable_receiver_counts_and_an_unusable_proxy_does_not() {
    let (port, _) = receiver();
    let sentence = "the proxy could not connect to the host".to_owned();
    for reply in [Reply::Unreachable, Reply::Close] {
        for (proxy, scheme, _) in both(port, reply) {
            let egress = client(&format!("{scheme}://127.0.0.1:{}", proxy.port), "", &[]);
            let expected = (Some(Failure::Unreachable), sentence.clone());
            assert_eq!(told(&egress, "http://a.example:8081/").await, expected, "{scheme}");
        }
    }
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let plain = http_proxy(port, None, Reply::Tunnel).port;
    for url in [
        format!("http://127.0.0.1:{closed}"),
        format!("socks5://127.0.0.1:{closed}"),
        // It does not speak TLS.
        format!("https://127.0.0.1:{plain}"),
    ] {
        let result = post(&client(&url, "", &[]), "http://a.example:8081/", USUAL).await;
        assert_eq!(result, Err(NotSent(LocalFailure::Proxy)), "{url}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_rejected_ones_are_ours_to_mend() {
    let (port, _) = receiver();
    let http = http_proxy(port, Some("Basic YTpiQGM="), Reply::Tunnel).port;
    let socks = socks_proxy(port, Some("a:b@c"), Reply::Tunnel).port;
    for (scheme, proxy) in [("http", http), ("socks5", socks)] {
        for (credentials, accepted) in [("a:b%40c", true), ("a:wrong", false)] {
            let url = format!("{scheme}://{credentials}@127.0.0.1:{proxy}");
            let result = post(&client(&url, "", &[]), "http://a.example:8081/", USUAL).await;
            match accepted {
                true => assert!(result.unwrap().delivered(), "{scheme}"),
                false => assert_eq!(result, Err(NotSent(LocalFailure::Proxy)), "{scheme}"),
            }
        }
    }
}

#[tokio::test]
async fn tls_runs_inside_the_tunnel() {
    let (port, heads) = receiver();
    for (proxy, scheme, _) in both(port, Reply::Tunnel) {
        let egress = client(&format!("{scheme}://127.0.0.1:{}", proxy.port), "", &[]);
        let (failure, _) = told(&egress, "https://a.example/").await;
        assert_eq!(failure, Some(Failure::Tls), "the receiver does not speak TLS");
        assert!(proxy.targets()[0].contains("8.8.8.8:443"), "{scheme}");
        let heads = std::mem::take(&mut *heads.lock().unwrap());
        assert!(heads.iter().all(|head| !head.contains("POST")), "nothing is sent in the clear: {heads:?}");
    }
}

#[tokio::test]
async fn hosts_of_the_bypass_list_are_reached_directly() {
    let (port, _) = receiver();
    let proxy = http_proxy(port, None, Reply::Tunnel);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let loopback = &["127.0.0.0/8"];
    for (bypass, direct) in [
        ("", false),
        ("other.example, 10.0.0.0/8", false),
        ("example", true),
        (".here.example", true),
        ("127.0.0.0/24", true),
        ("127.0.0.1", true),
    ] {
        let egress = client(&url, bypass, loopback);
        assert_eq!(told(&egress, &format!("http://here.example:{port}/")).await.0, None, "{bypass:?}");
        assert_eq!(proxy.targets().is_empty(), direct, "{bypass:?}");
    }
}

#[test]
fn the_setting_is_checked_and_never_shown() {
    for bad in ["", "proxy:3128", "ftp://a", "http://", "http://a/b", "http://a?b", "socks5h://a", "socks5://user@a"] {
        assert!(EgressProxy::new(bad, "").is_err(), "{bad}");
    }
    let long = format!("socks5://{}:b@a", "a".repeat(256));
    assert!(EgressProxy::new(&long, "").is_err());
    let proxy = EgressProxy::new("https://user:hidden@a.example:3128/", "").unwrap();
    assert!(!format!("{proxy:?}").contains("hidden"));
    let invalid = EgressProxy::new("http://user:hidden@a/b", "").unwrap_err();
    assert!(!invalid.contains("hidden"), "{invalid}");
}
