//! The HTTP client against receivers that behave, misbehave and attack: plain sockets on 127.0.0.1, each with a script
//! of what it does with a connection, so that what is on the wire is exactly what a test says.

mod receiver;
mod tls;
mod vectors;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use sendoff::domain::Time;
use sendoff::domain::address::AddressPolicy;
use sendoff::domain::deliveries::attempt::{Failure, Outcome, RESPONSE_BODY_LIMIT};
use sendoff::egress::{Egress, Post};
use url::Url;

use receiver::Receiver;

/// A client that may connect to this machine.
fn egress() -> Egress {
    Egress::new(AddressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false }).unwrap()
}

async fn post_within(egress: &Egress, url: &str, timeout: Duration) -> Outcome {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    let (url, body) = (Url::parse(url).unwrap(), Bytes::from_static(b"{\"a\":1}"));
    let now = Time::parse("2026-11-22T09:30:00Z").unwrap();
    egress.post(Post { url: &url, headers, exact_case: &[], body, timeout, now }).await.expect("nothing of ours fails")
}

async fn post(egress: &Egress, url: &str) -> Outcome {
    post_within(egress, url, Duration::from_secs(5)).await
}

async fn failure(egress: &Egress, url: &str) -> Option<Failure> {
    post(egress, url).await.failure
}

#[test]
fn a_client_can_be_made_outside_of_a_runtime() {
    egress();
}

#[tokio::test]
async fn a_2xx_delivers_and_the_wire_carries_what_was_given() {
    let receiver =
        Receiver::answering("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Odd: 1\r\nContent-Length: 2\r\n\r\nok");
    let outcome = post(&egress(), &receiver.url()).await;
    assert!(outcome.delivered() && outcome.detail.is_empty(), "{outcome:?}");
    assert_eq!((outcome.status, &outcome.response_body[..]), (Some(200), b"ok".as_slice()));
    let wanted = [("content-type", "text/plain"), ("content-length", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(outcome.response_headers, wanted);

    let request = &receiver.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!((lines.remove(0), body), ("POST /hook?a=1 HTTP/1.1", "{\"a\":1}"));
    lines.sort_unstable();
    let host = format!("Host: 127.0.0.1:{}", receiver.port);
    let agent = concat!("User-Agent: Sendoff/", env!("CARGO_PKG_VERSION"));
    let wanted =
        ["Accept: */*", "Content-Length: 7", "Content-Type: application/json", &host, agent, "webhook-id: msg_1"];
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn a_204_and_an_answer_after_100_continue_deliver() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    ] {
        let outcome = post(&egress(), &Receiver::answering(answer).url()).await;
        assert!(outcome.delivered() && outcome.response_body.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_failure_keeps_its_status_body_and_retry_after() {
    let receiver = Receiver::answering(b"HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 4\r\n\r\n\0\xffoh");
    let outcome = post(&egress(), &receiver.url()).await;
    assert_eq!((outcome.failure, outcome.status), (Some(Failure::Status), Some(503)));
    assert_eq!(outcome.retry_after, Some(Duration::from_secs(17)));
    assert_eq!(&outcome.response_body[..], b"\0\xffoh", "bytes, whatever they are");
    assert_eq!(outcome.detail, "the receiver answered 503 Service Unavailable");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let target = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url());
        let outcome = post(&egress(), &Receiver::answering(&answer).url()).await;
        assert_eq!((outcome.failure, outcome.status), (Some(Failure::Status), Some(status)));
        assert!(outcome.response_headers.iter().any(|(name, _)| name == "location"));
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_answer_that_ended() {
    let full = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{RESPONSE_BODY_LIMIT:x}\r\n{}\r\n0\r\n\r\n",
        "x".repeat(RESPONSE_BODY_LIMIT)
    );
    let chunked = "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", chunked, &full] {
        let (egress, receiver) = (egress(), Receiver::answering(answer));
        for _ in 0..5 {
            assert!(post(&egress, &receiver.url()).await.status.is_some());
            // The connection is handed back by a task of the client's.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((receiver.requests().len(), receiver.connections()), (5, 1));
    }
}

#[tokio::test]
async fn the_start_of_a_huge_body_is_kept_and_the_connection_is_closed() {
    for (status, delivered) in [(200, true), (500, false)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let receiver = Receiver::new(move |stream, receiver| {
            receiver.read_request(stream);
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 104857600\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            while stream.write_all(&[b'x'; 65_536]).is_ok() {
                counter.fetch_add(65_536, Ordering::SeqCst);
            }
        });
        let egress = egress();
        let outcome = post(&egress, &receiver.url()).await;
        assert_eq!((outcome.delivered(), outcome.response_body.len()), (delivered, RESPONSE_BODY_LIMIT));
        assert!(post(&egress, &receiver.url()).await.status.is_some());
        assert_eq!(receiver.connections(), 2, "the first is of no use any more");
        assert!(sent.load(Ordering::SeqCst) < 2 * 52_428_800, "both bodies were read to the end");
    }
}

#[tokio::test]
async fn hanging_receivers_end_at_the_deadline() {
    let deadline = Duration::from_millis(300);
    for beginning in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nx: "] {
        let receiver = Receiver::new(move |stream, receiver| {
            receiver.read_request(stream);
            stream.write_all(beginning.as_bytes()).unwrap();
            thread::sleep(Duration::from_secs(10));
        });
        let start = Instant::now();
        let outcome = post_within(&egress(), &receiver.url(), deadline).await;
        assert_eq!((outcome.failure, outcome.status), (Some(Failure::Timeout), None));
        assert_eq!(outcome.detail, "no answer within 0.3 s");
        assert!(outcome.duration >= deadline && start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_hangs_or_breaks_does_not_change_the_status() {
    for (status, hang) in [(200, true), (200, false), (500, true)] {
        let receiver = Receiver::new(move |stream, receiver| {
            receiver.read_request(stream);
            let beginning = format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nbegin");
            stream.write_all(beginning.as_bytes()).unwrap();
            thread::sleep(Duration::from_secs(if hang { 10 } else { 0 }));
        });
        let start = Instant::now();
        let outcome = post_within(&egress(), &receiver.url(), Duration::from_millis(300)).await;
        assert_eq!((outcome.delivered(), outcome.status), (status == 200, Some(status)));
        assert_eq!(&outcome.response_body[..], b"begin");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_closed_or_reset() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(failure(&egress(), &format!("http://127.0.0.1:{port}/")).await, Some(Failure::Refused));

    for beginning in ["", "HTTP/1.1 200 OK\r\nconte"] {
        let closing = Receiver::new(move |stream, receiver| {
            receiver.read_request(stream);
            stream.write_all(beginning.as_bytes()).unwrap();
        });
        assert_eq!(failure(&egress(), &closing.url()).await, Some(Failure::Closed), "{beginning:?}");
    }
    // A socket that is closed with bytes unread sends a reset.
    let resetting = Receiver::new(|stream, _| {
        stream.read_exact(&mut [0; 5]).unwrap();
        thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(failure(&egress(), &resetting.url()).await, Some(Failure::Closed));
}

#[tokio::test]
async fn requests_that_may_have_arrived_are_never_sent_again() {
    let receiver = Receiver::new(|stream, receiver| {
        receiver.read_request(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        // The second request on the connection is read and left without an answer.
        receiver.read_request(stream);
    });
    let egress = egress();
    assert_eq!(failure(&egress, &receiver.url()).await, None);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(failure(&egress, &receiver.url()).await, Some(Failure::Closed));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((receiver.requests().len(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn invalid_http_and_exceeded_limits_are_protocol_failures() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let huge = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(1_000_000));
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 banana\r\n\r\n", "\0\0\0\0\0\0\0\0\r\n\r\n", &many, &huge] {
        let outcome = post(&egress(), &Receiver::answering(answer).url()).await;
        assert_eq!(outcome.failure, Some(Failure::Protocol), "{:?}: {outcome:?}", &answer[..8]);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_fails_quickly_and_may_be_saved() {
    let start = Instant::now();
    let outcome = post(&egress(), "http://nosuch.invalid/").await;
    assert_eq!((outcome.failure, outcome.detail.as_str()), (Some(Failure::Dns), "the name does not exist in DNS"));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(egress().vet(&Url::parse("https://nosuch.invalid/").unwrap()).await, Ok(()));
}

#[tokio::test]
async fn urls_that_cannot_be_requested_are_neither_saved_nor_tried() {
    let (label, long) = ("x".repeat(64), format!("{}example", "abcdefgh.".repeat(28)));
    let hosts = ["{tenant}.example", "a\"b.example", "a`b.example", "a..example", &format!("{label}.example"), &long];
    for host in hosts {
        let url = format!("http://{host}/x");
        let invalid = egress().vet_text(&url).await.expect_err(&url);
        assert_eq!(invalid.field, "url", "{url}");
        if Url::parse(&url).is_ok() {
            assert_eq!(failure(&egress(), &url).await, Some(Failure::Request), "{url}");
        }
    }
    let (label, long) = ("x".repeat(63), format!("{}invalid", "abcdefgh.".repeat(27)));
    for host in ["a_b.invalid", "a-b.invalid.", "bücher.invalid", &format!("{label}.invalid"), &long] {
        let url = format!("http://{host}/%7Btenant%7D/{{tenant}}?q=`\"#f");
        assert_eq!(egress().vet_text(&url).await, Ok(()), "{url}");
        assert_eq!(failure(&egress(), &url).await, Some(Failure::Dns), "{url}");
    }
}

#[tokio::test]
async fn no_connection_is_made_to_a_refused_address() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let closed = Egress::new(AddressPolicy::default()).unwrap();
    let port = receiver.port;
    let hosts = [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "0",
    ];
    for host in hosts {
        let url = format!("http://{host}:{port}/");
        let outcome = post(&closed, &url).await;
        assert_eq!(outcome.failure, Some(Failure::Blocked), "{url}: {outcome:?}");
        let detail = &outcome.detail;
        assert!(detail.contains("the address is blocked") || detail.contains("a blocked address"), "{detail}");
        let invalid = closed.vet(&Url::parse(&url).unwrap()).await.unwrap_err();
        assert!(invalid.field == "url" && invalid.reason.contains("a blocked address"), "{url}: {invalid}");
        let told = format!("{detail} {}", invalid.reason);
        assert!(!told.contains("SENDOFF_"), "customers read it: {told}");
        // The address of a name is not told, only what the URL itself says.
        let name = host.to_ascii_lowercase().contains("localhost");
        assert!(!name || !(told.contains("127.0.0.1") || told.contains("::1") || told.contains("loopback")), "{told}");
    }
    assert_eq!(receiver.connections(), 0);

    // The same hosts with the address opened; `localhost` is ::1 as well, which stays closed.
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "localhost"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(failure(&egress(), &url).await, None, "{url}");
        assert_eq!(egress().vet(&Url::parse(&url).unwrap()).await, Ok(()), "{url}");
    }
    assert_eq!(failure(&egress(), &format!("http://[::1]:{port}/")).await, Some(Failure::Blocked));
}

#[tokio::test]
async fn a_stored_url_that_is_no_longer_allowed_is_not_sent_to() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let strict = Egress::new(AddressPolicy { https_only: true, allow: vec!["127.0.0.0/8".parse().unwrap()] }).unwrap();
    assert_eq!(failure(&strict, &receiver.url()).await, Some(Failure::Request));
    let with_password = receiver.url().replace("127.0.0.1", "user:hush@127.0.0.1");
    let outcome = post(&egress(), &with_password).await;
    assert!(outcome.failure == Some(Failure::Request) && !outcome.detail.contains("hush"), "{outcome:?}");
    assert_eq!(receiver.connections(), 0);
}
