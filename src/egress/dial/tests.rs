//! Names with several addresses, some of them silent, and name servers that answer for one family only.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::domain::deliveries::attempt::{Failure, LocalFailure};
use crate::egress::dns::test_name_server::{A, AAAA, DnsReply, NXDOMAIN, client, post};
use crate::egress::test_receiver::receiver;
use crate::egress::{Egress, NotSent};

const HERE: &[&str] = &["127.0.0.0/8", "::1/128"];
/// An endpoint's default timeout.
const USUAL: Duration = Duration::from_secs(15);
/// Well below the default timeout, and enough for a busy machine.
const QUICK: Duration = Duration::from_secs(5);

/// A receiver that keeps connections open; returns its port and connection count.
fn patient(ip: Ipv4Addr, port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, port)).unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                while stream.read(&mut [0; 4_096]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (port, count)
}

/// An address that accepts no connection: a listener with a full queue, for as long as the result lives.
fn silent(ip: Ipv4Addr, port: u16) -> (TcpListener, Vec<std::net::TcpStream>) {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let address = SocketAddr::from((ip, port));
    rustix::net::bind(&socket, &address).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let mut taken = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        taken.push(stream);
    }
    (socket.into(), taken)
}

async fn delivered_within(egress: &Egress, url: &str, within: Duration) -> Duration {
    let start = Instant::now();
    let outcome = post(egress, url, USUAL).await.unwrap();
    assert!(outcome.delivered(), "{url}: {outcome:?}");
    assert!(start.elapsed() < within, "{url}: {:?}", start.elapsed());
    start.elapsed()
}

#[tokio::test]
async fn a_silent_address_delays_only_the_first_connection() {
    let (port, _) = receiver(Ipv4Addr::new(127, 0, 1, 3), 0);
    let dead = Ipv4Addr::new(127, 0, 1, 2);
    let _silent = silent(dead, port);
    let good = Ipv4Addr::new(127, 0, 1, 3);
    let (egress, _) = client(HERE, move |_, _| DnsReply::Addresses(vec![dead.into(), good.into()], 60));
    let url = format!("http://two.example.net:{port}/");
    let first = delivered_within(&egress, &url, QUICK).await;
    assert!(first >= ATTEMPT_DELAY, "the first has its time: {first:?}");
    let mut quickest = Duration::MAX;
    // Each delivery opens a new connection.
    for _ in 0..5 {
        quickest = quickest.min(delivered_within(&egress, &url, QUICK).await);
    }
    assert!(quickest < ATTEMPT_DELAY, "{quickest:?}");
}

#[tokio::test]
async fn many_silent_addresses_are_tried_a_few_at_a_time() {
    let (port, _) = receiver(Ipv4Addr::new(127, 0, 2, 100), 0);
    let dead: Vec<Ipv4Addr> = (1..=8).map(|last| Ipv4Addr::new(127, 0, 2, last)).collect();
    let _silent: Vec<_> = dead.iter().map(|ip| silent(*ip, port)).collect();
    let all: Vec<IpAddr> = dead.into_iter().chain([Ipv4Addr::new(127, 0, 2, 100)]).map(IpAddr::from).collect();
    let (egress, _) = client(HERE, move |_, _| DnsReply::Addresses(all.clone(), 60));
    delivered_within(&egress, &format!("http://many.example.net:{port}/"), QUICK).await;
}

#[tokio::test]
async fn a_refused_connection_moves_on_at_once() {
    let (port, _) = receiver(Ipv4Addr::new(127, 0, 3, 3), 0);
    let all: Vec<IpAddr> = vec![Ipv4Addr::new(127, 0, 3, 2).into(), Ipv4Addr::new(127, 0, 3, 3).into()];
    let mut quickest = Duration::MAX;
    // Each client starts without preferences.
    for _ in 0..5 {
        let all = all.clone();
        let (egress, _) = client(HERE, move |_, _| DnsReply::Addresses(all.clone(), 60));
        let url = format!("http://two.example.net:{port}/");
        quickest = quickest.min(delivered_within(&egress, &url, QUICK).await);
    }
    assert!(quickest < ATTEMPT_DELAY, "{quickest:?}");
}

#[tokio::test]
async fn a_family_without_an_answer_delays_nothing() {
    let (port, _) = receiver(Ipv4Addr::new(127, 0, 4, 1), 0);
    let (port6, _) = receiver(Ipv6Addr::LOCALHOST, 0);
    for (answered, ip, port) in
        [(A, IpAddr::from([127, 0, 4, 1]), port), (AAAA, IpAddr::from(Ipv6Addr::LOCALHOST), port6)]
    {
        let (egress, _) = client(HERE, move |_, kind| match kind == answered {
            true => DnsReply::Addresses(vec![ip], 60),
            false => DnsReply::Nothing,
        });
        delivered_within(&egress, &format!("http://half.example.net:{port}/"), Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn an_empty_family_waits_for_the_other_one() {
    let (port, _) = receiver(Ipv4Addr::new(127, 0, 5, 1), 0);
    let late = Duration::from_millis(300);
    for nothing in [DnsReply::Code(0), DnsReply::CodeFor(0, 60), DnsReply::Code(2)] {
        let (egress, _) = client(HERE, move |_, kind| match kind {
            A => DnsReply::Later(late, Box::new(DnsReply::Addresses(vec![[127, 0, 5, 1].into()], 60))),
            _ => nothing.clone(),
        });
        delivered_within(&egress, &format!("http://late.example.net:{port}/"), QUICK).await;
    }
}

#[tokio::test]
async fn late_addresses_join_the_attempts_and_pass_the_guard() {
    let (port, count) = receiver(Ipv4Addr::new(127, 0, 6, 1), 0);
    let _silent = silent(Ipv4Addr::new(127, 0, 6, 2), port);
    let answers = |kind| match kind {
        // Port closed on ::1.
        AAAA => DnsReply::Addresses(vec![Ipv6Addr::LOCALHOST.into()], 60),
        _ => {
            let addresses = vec![[127, 0, 6, 2].into(), [127, 0, 6, 1].into()];
            DnsReply::Later(Duration::from_millis(200), Box::new(DnsReply::Addresses(addresses, 60)))
        }
    };
    let url = format!("http://late.example.net:{port}/");
    let (egress, _) = client(HERE, move |_, kind| answers(kind));
    delivered_within(&egress, &url, QUICK).await;
    let before = count.load(Ordering::SeqCst);
    let (strict, _) = client(&["::1/128"], move |_, kind| answers(kind));
    let outcome = post(&strict, &url, USUAL).await.unwrap();
    assert_eq!(outcome.failure, Some(Failure::Refused), "{outcome:?}");
    // The reverse: the first answer is refused and the late one is allowed.
    let (late, _) = client(&["127.0.6.1/32"], move |_, kind| answers(kind));
    assert_eq!(count.load(Ordering::SeqCst), before, "no connection was made to what is refused");
    delivered_within(&late, &url, QUICK).await;
    let (none, _) = client(&[], move |_, kind| answers(kind));
    assert_eq!(post(&none, &url, USUAL).await.unwrap().failure, Some(Failure::Blocked));
    assert_eq!(count.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn silent_name_servers_fail_well_before_the_attempts_timeout() {
    let (egress, _) = client(HERE, |_, _| DnsReply::Nothing);
    let start = Instant::now();
    assert_eq!(post(&egress, "http://a.example.net:1/", USUAL).await, Err(NotSent(LocalFailure::Resolver)));
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn answers_are_cached_within_ttl_bounds() {
    for (reply, kept) in [
        (DnsReply::Addresses(vec![[127, 0, 0, 1].into()], 60), true),
        // A TTL of 0 is still cached briefly.
        (DnsReply::Addresses(vec![[127, 0, 0, 1].into()], 0), true),
        (DnsReply::CodeFor(3, 60), true),
        (NXDOMAIN, true),
        // SERVFAIL is not cached.
        (DnsReply::Code(2), false),
    ] {
        let (egress, asked) = client(HERE, move |_, _| reply.clone());
        let asked =
            || asked.lock().unwrap().iter().filter(|question| **question == ("kept.example.net".into(), A)).count();
        let url = "http://kept.example.net:1/";
        let _ = post(&egress, url, USUAL).await;
        let first = asked();
        let _ = post(&egress, url, USUAL).await;
        assert_eq!(asked() == first, kept);
    }
}

#[tokio::test]
async fn concurrent_attempts_are_bounded_and_the_first_error_is_returned() {
    let addresses: Vec<SocketAddr> = (1..=20).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    struct Running<'a>(&'a AtomicUsize);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let connect = |address: SocketAddr| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let running = Running(&now);
        async move {
            let _running = running;
            match address.port() {
                20 => Err::<(), _>(io::ErrorKind::ConnectionRefused.into()),
                _ => std::future::pending().await,
            }
        }
    };
    let late = async { Vec::new() };
    let tried = connect_staggered(addresses.clone(), late, Duration::from_millis(1), connect);
    // The last three addresses stay silent.
    assert!(tokio::time::timeout(Duration::from_millis(500), tried).await.is_err());
    assert_eq!((most.load(Ordering::SeqCst), now.load(Ordering::SeqCst)), (MAX_CONCURRENT, 0));
    let refused = |address: SocketAddr| async move {
        let kind = if address.port() == 1 { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::HostUnreachable };
        Err::<(), io::Error>(kind.into())
    };
    let Err(DialError(Some((0, _, error)))) =
        connect_staggered(addresses, async { Vec::new() }, ATTEMPT_DELAY, refused).await
    else {
        panic!("the error of the first");
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn families_alternate_and_preferences_are_bounded() {
    let v4 = |last| SocketAddr::from(([192, 0, 2, last], 443));
    let v6 = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443));
    assert_eq!(interleave_families(vec![v4(1), v4(2), v4(3), v6(1)]), [v4(1), v6(1), v4(2), v4(3)]);
    assert_eq!(interleave_families(vec![v6(1), v6(2), v4(1)]), [v6(1), v4(1), v6(2)]);
    assert_eq!(interleave_families((0..200).map(v4).collect()).len(), MAX_ADDRESSES);

    let (known, start) = (AddressPreference::default(), Instant::now());
    let order = |now| {
        let mut addresses = [v4(1), v4(2), v4(3)];
        known.prefer(&mut addresses, now);
        addresses
    };
    known.record(Some(v4(1)), v4(1), start);
    assert_eq!(order(start), [v4(1), v4(2), v4(3)], "the first answered: nothing to remember");
    known.record(Some(v4(1)), v4(3), start);
    assert_eq!(order(start), [v4(3), v4(1), v4(2)]);
    known.record(Some(v4(3)), v4(2), start);
    assert_eq!(order(start), [v4(2), v4(1), v4(3)], "the one that was remembered answers no more");
    assert_eq!(order(start + PREFERENCE_TTL), [v4(1), v4(2), v4(3)]);
    for port in 0..=MAX_PREFERENCES as u16 {
        known.record(None, SocketAddr::from(([192, 0, 2, 9], port)), start + Duration::from_secs(1));
    }
    assert_eq!(known.0.lock().unwrap().len(), MAX_PREFERENCES);
    assert_eq!(order(start + Duration::from_secs(1)), [v4(1), v4(2), v4(3)], "the oldest went");
}

#[tokio::test]
async fn steady_traffic_follows_a_receiver_that_moves() {
    let (old, new) = (Ipv4Addr::new(127, 0, 7, 1), Ipv4Addr::new(127, 0, 7, 2));
    let (port, before) = patient(old, 0);
    let (_, after) = patient(new, port);
    let moved = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&moved);
    let (egress, _) = client(HERE, move |_, _| {
        let ip = if asked.load(Ordering::SeqCst) { new } else { old };
        DnsReply::Addresses(vec![ip.into()], 1)
    });
    let url = format!("http://moves.example.net:{port}/");
    let start = Instant::now();
    delivered_within(&egress, &url, QUICK).await;
    moved.store(true, Ordering::SeqCst);
    while after.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < USUAL, "it still gets everything at the old address");
        // More often than the idle timeout.
        tokio::time::sleep(Duration::from_millis(100)).await;
        delivered_within(&egress, &url, QUICK).await;
    }
    assert!(before.load(Ordering::SeqCst) <= 4, "connections are used again meanwhile");
}
