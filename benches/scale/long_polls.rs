//! Idle long polls: their memory and CPU, and the time from the POST of a message to its arrival at the readers that
//! wait, where the same process accepted it and where another one did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::bench_store::{self, BenchStore, rest};
use super::common::client::{Destination, head};
use super::common::rest::Rest;
use super::common::{percentile_ms, process};
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Readers of one application.
const READERS: usize = 20;
/// Connections opened at a time, less than the listener's backlog.
const OPENING: usize = 200;
/// Seconds that a request waits.
const WAIT: u64 = 30;
/// Between two messages of the latency measurement.
const PAUSE: Duration = Duration::from_millis(100);
/// How long readers may take to be waiting, and messages to arrive.
const TIMEOUT: Duration = Duration::from_secs(120);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    // All readers come from one address, which would get half of the connections.
    let binary = || bench.binary().set("SENDOFF_TRUSTED_PROXIES", "127.0.0.1/32");
    let (server, _) = bench_store::start(binary());
    let other = (store == Kind::Postgres).then(|| bench_store::start(binary()).0);
    let api = rest(&server);
    let destination = Arc::new(api.create_applications(plan.polls.div_ceil(READERS).max(1), &[]).await);
    for app in &destination.applications {
        api.post(&format!("/app/{app}/destination/"), r#"{"type":"pollingEndpoint","uid":"bench"}"#.to_owned()).await;
    }
    let readers = Arc::new(Readers::default());
    let memory = || process::resident_bytes(server.pid()).unwrap_or_default();
    let before = memory();
    // Dropped before the server, so no reader sees the end of its connection.
    let mut polling = JoinSet::new();
    for number in 0..plan.polls {
        let app = destination.applications[number % destination.applications.len()].clone();
        polling.spawn(Arc::clone(&readers).poll(Arc::clone(&destination), app));
        if number % OPENING == OPENING - 1 {
            readers.wait_for(number + 1 - OPENING / 2).await;
        }
    }
    readers.wait_for(plan.polls).await;
    let of_one = (memory() - before) / plan.polls as f64;

    let (cpu, since) = (process::cpu_us(server.pid()), Instant::now());
    tokio::time::sleep(plan.span().max(Duration::from_secs(WAIT))).await;
    let idle = (process::cpu_us(server.pid()) - cpu) / since.elapsed().as_secs_f64() / 1e6 * 100.0;

    let mut checks = vec![
        Check::note("memory per poll", of_one / 1_024.0, " KiB"),
        Check::note("CPU of all, idle", idle, " % of a core"),
    ];
    for (who, api) in [("this process", Some(api)), ("another", other.as_ref().map(rest))] {
        let Some(api) = api else { continue };
        let times = readers.arrivals(plan, &api, &destination.applications).await;
        checks.push(Check::at_most(&format!("accepted by {who}: p99"), percentile_ms(&times, 0.99), 100.0, " ms"));
        checks.push(Check::note("p50", percentile_ms(&times, 0.5), " ms"));
    }
    let size = format!("{} long polls of {} applications", plan.polls, destination.applications.len());
    Row { case: Case::LongPolls.name(), store: store.name(), size, checks }
}

/// The readers, and the times of what arrived.
struct Readers {
    began: Instant,
    /// Readers whose first response has come, and whose second request was sent.
    waiting: AtomicUsize,
    /// Microseconds from the POST of a message to the end of the response with it.
    times: Mutex<Vec<u32>>,
}

impl Default for Readers {
    fn default() -> Readers {
        Readers { began: Instant::now(), waiting: AtomicUsize::new(0), times: Mutex::default() }
    }
}

impl Readers {
    /// Polls for ever, as one reader with its own position.
    async fn poll(self: Arc<Readers>, destination: Arc<Destination>, app: String) {
        let Destination { authority, token, .. } = &*destination;
        let mut stream = TcpStream::connect(authority).await.expect("a connection");
        let (mut iterator, mut buffer, mut requests) = (None::<String>, Vec::with_capacity(1_024), 0_u64);
        loop {
            let query = match &iterator {
                None => String::new(),
                Some(iterator) => format!("?wait={WAIT}&iterator={iterator}"),
            };
            let request = format!(
                "GET /api/v1/app/{app}/poller/bench{query} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("the request is taken");
            // The first request does not wait; the second one does.
            if requests == 1 {
                self.waiting.fetch_add(1, Ordering::Relaxed);
            }
            requests += 1;
            buffer.clear();
            let body = loop {
                if let Some((start, length)) = head(&buffer).filter(|(start, length)| buffer.len() >= start + length) {
                    assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
                    break String::from_utf8_lossy(&buffer[start..start + length]).into_owned();
                }
                assert!(
                    stream.read_buf(&mut buffer).await.expect("a response") > 0,
                    "the server closed the connection"
                );
            };
            // A reader that is late gets several messages at once.
            for text in body.split("\"payload\":{\"t\":").skip(1) {
                let sent: u64 = text.split('}').next().and_then(|text| text.parse().ok()).expect("a time");
                let took = self.began.elapsed().as_micros() as u64 - sent;
                self.times.lock().expect("no reader panics here").push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            iterator = Some(after(&body, "\"iterator\":\"", '"').expect("an iterator").to_owned());
        }
    }

    /// Waits until so many readers wait.
    async fn wait_for(&self, readers: usize) {
        let since = Instant::now();
        while self.waiting.load(Ordering::Relaxed) < readers {
            assert!(since.elapsed() < TIMEOUT, "{} of {readers} wait", self.waiting.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Posts messages to the applications in turn; the times until their readers have them, sorted.
    async fn arrivals(&self, plan: &Plan, api: &Rest, applications: &[String]) -> Vec<u32> {
        self.times.lock().expect("no reader panics here").clear();
        let messages = (plan.seconds / PAUSE.as_secs_f64()) as usize;
        for app in applications.iter().cycle().take(messages) {
            let sent = self.began.elapsed().as_micros();
            api.post(&format!("/app/{app}/msg/"), format!(r#"{{"eventType":"bench.event","payload":{{"t":{sent}}}}}"#))
                .await;
            tokio::time::sleep(PAUSE).await;
        }
        let (wanted, since) = (messages * (plan.polls / applications.len()), Instant::now());
        loop {
            let mut times = self.times.lock().expect("no reader panics here").clone();
            if times.len() >= wanted || since.elapsed() > TIMEOUT {
                // A message that never came counts as slower than all others.
                times.resize(times.len().max(wanted), u32::MAX);
                times.sort_unstable();
                return times;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The text between `before` and `end`.
fn after<'t>(text: &'t str, before: &str, end: char) -> Option<&'t str> {
    text.split_once(before)?.1.split(end).next()
}
