//! Readers that ask at a steady rate for what they already have: the CPU and the time of a 304.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench_store::{BenchStore, rest};
use super::common::client::head;
use super::common::meter::Meter;
use super::common::{percentile_ms, rest::Rest};
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Readers, each with its own application.
const READERS: usize = 50;
/// Messages in each application before the readers' positions.
const MESSAGES: usize = 20;

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    let (server, _) = bench.start();
    let api = rest(&server);
    let destination = api.create_applications(READERS, &[]).await;
    let mut readers = Vec::new();
    for app in &destination.applications {
        api.post(&format!("/app/{app}/destination/"), r#"{"type":"pollingEndpoint","uid":"bench"}"#.to_owned()).await;
        for number in 0..MESSAGES {
            let body = format!(r#"{{"eventType":"bench.event","payload":{{"n":{number}}}}}"#);
            api.post(&format!("/app/{app}/msg/"), body).await;
        }
        readers.push(Reader::at_the_end(&api, app).await);
    }
    let meter = match store {
        Kind::Sqlite => Meter::Sqlite { pid: server.pid() },
        Kind::Postgres => {
            let (url, postmaster) = (bench.url.clone(), bench.postgres().postmaster());
            Meter::Postgres { pid: server.pid(), url, postmaster }
        }
    };
    let (before, since) = (meter.read().await, Instant::now());
    let pause = Duration::from_secs_f64(READERS as f64 / plan.poll_rate);
    let polling = readers.into_iter().enumerate().map(|(number, reader)| {
        // Spread over the first interval.
        let start = tokio::time::Instant::now() + pause * number as u32 / READERS as u32;
        tokio::spawn(reader.poll(start, pause, plan.span()))
    });
    let (mut times, mut others) = (Vec::new(), 0);
    for reader in polling.collect::<Vec<_>>() {
        let (took, other) = reader.await.expect("a reader ends");
        times.extend(took);
        others += other;
    }
    let (seconds, usage) = (since.elapsed().as_secs_f64(), meter.spent(&before, &meter.read().await).await);
    times.sort_unstable();
    let share = |cpu: Option<f64>| cpu.unwrap_or_default() / seconds / 1e6 * 100.0;
    let mut checks = vec![
        Check::at_least("polls", times.len() as f64 / seconds, plan.poll_rate * 0.95, "/s"),
        Check::at_most("responses other than 304", others as f64, 0.0, ""),
        Check::note("CPU", share(usage.cpu_us), " % of a core"),
    ];
    if store == Kind::Postgres {
        checks.push(Check::note("CPU of PostgreSQL", share(usage.database_cpu_us), " % of a core"));
    }
    checks.push(Check::note("p50", percentile_ms(&times, 0.5), " ms"));
    checks.push(Check::note("p99", percentile_ms(&times, 0.99), " ms"));
    let size = format!("{} polls a second with If-None-Match, {READERS} readers", plan.poll_rate);
    Row { case: Case::ShortPolls.name(), store: store.name(), size, checks }
}

/// A reader that has everything, with its connection and the request that it repeats.
struct Reader {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Reader {
    async fn at_the_end(api: &Rest, app: &str) -> Reader {
        let page = api.get(&format!("/app/{app}/poller/bench?limit=250")).await;
        let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
        let iterator = page["iterator"].as_str().expect("an iterator");
        let request = |etag: &str| {
            format!(
                "GET /api/v1/app/{app}/poller/bench?iterator={iterator} HTTP/1.1\r\nhost: {}\r\n\
                 authorization: Bearer {}\r\nif-none-match: {etag}\r\n\r\n",
                api.authority, api.token
            )
            .into_bytes()
        };
        let mut stream = TcpStream::connect(&api.authority).await.expect("a connection");
        stream.set_nodelay(true).expect("a setting");
        let first = exchange(&mut stream, &request("\"none\"")).await;
        let etag = first.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag").to_owned();
        Reader { stream, request: request(&etag) }
    }

    /// Polls for `span`; the microseconds of each poll, and the number of responses other than 304.
    async fn poll(mut self, start: tokio::time::Instant, pause: Duration, span: Duration) -> (Vec<u32>, usize) {
        let (mut tick, mut times, mut others) = (tokio::time::interval_at(start, pause), Vec::new(), 0);
        while tick.tick().await < start + span {
            let began = Instant::now();
            let answer = exchange(&mut self.stream, &self.request).await;
            times.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
            others += usize::from(!answer.starts_with("HTTP/1.1 304"));
        }
        (times, others)
    }
}

/// Sends a request and returns the head of the response.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.expect("the request is taken");
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        if let Some((start, length)) = head(&buffer) {
            // A 304 has no body, whatever its length says.
            let length = if buffer.starts_with(b"HTTP/1.1 304") { 0 } else { length };
            if buffer.len() >= start + length {
                return String::from_utf8_lossy(&buffer[..start]).into_owned();
            }
        }
        assert!(stream.read_buf(&mut buffer).await.expect("a response") > 0, "the server closed the connection");
    }
}
