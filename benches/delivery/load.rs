//! The load: many connections, each posting one message after the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Plan;
use super::receiver::{Receiver, STAMP, head};

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub accepted_per_second: f64,
    pub delivered_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// User and system time of the sending process per delivery, and of its database server.
    pub cpu_us: f64,
    pub database_cpu_us: f64,
    pub refused: u64,
    pub lost: u64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {:>6.0}/s, delivered {:>6.0}/s, p50 {:.1} ms, p99 {:.1} ms, CPU per delivery {:.0} µs, database {:.0} µs",
            self.accepted_per_second,
            self.delivered_per_second,
            self.p50_ms,
            self.p99_ms,
            self.cpu_us,
            self.database_cpu_us
        )?;
        if self.refused + self.lost > 0 {
            write!(f, ", REFUSED {}, LOST {}", self.refused, self.lost)?;
        }
        Ok(())
    }
}

/// Where messages go: a port, a token, the applications' ids.
pub struct Door {
    pub port: u16,
    pub token: String,
    pub applications: Vec<String>,
}

/// Posts for as long as the plan says, then waits for what is on its way. `cpu` reads the processes' time so far: sender, database.
pub async fn post(
    plan: Plan,
    door: Door,
    receiver: &Receiver,
    began: Instant,
    cpu: impl Fn() -> (f64, f64),
) -> Measured {
    let door = Arc::new(door);
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // A second without counting: connections are made, caches fill.
    connections(plan, &door, began, Duration::from_secs(1), &accepted, &refused).await;
    receiver.wait_for(accepted.load(Ordering::Relaxed)).await;
    let (warm_accepted, warm_delivered, cpu_before) = (accepted.load(Ordering::Relaxed), receiver.count(), cpu());
    let start = Instant::now();
    connections(plan, &door, began, Duration::from_secs_f64(plan.seconds), &accepted, &refused).await;
    let posting = start.elapsed().as_secs_f64();
    let count = accepted.load(Ordering::Relaxed) - warm_accepted;
    let last = receiver.wait_for(warm_delivered + count).await;
    let delivered = receiver.count() - warm_delivered;
    let cpu_after = cpu();
    let per = |micros: f64| micros / delivered.max(1) as f64;
    let [p50_ms, p99_ms] = receiver.percentiles([0.5, 0.99]);
    Measured {
        accepted_per_second: count as f64 / posting,
        delivered_per_second: delivered as f64 / last.duration_since(start).as_secs_f64(),
        p50_ms,
        p99_ms,
        cpu_us: per(cpu_after.0 - cpu_before.0),
        database_cpu_us: per(cpu_after.1 - cpu_before.1),
        refused: refused.load(Ordering::Relaxed),
        lost: count.saturating_sub(delivered),
    }
}

async fn connections(
    plan: Plan,
    door: &Arc<Door>,
    began: Instant,
    span: Duration,
    accepted: &Arc<AtomicU64>,
    refused: &Arc<AtomicU64>,
) {
    let until = Instant::now() + span;
    let mut clients = Vec::new();
    for number in 0..plan.connections {
        let (door, accepted, refused) = (door.clone(), accepted.clone(), refused.clone());
        clients.push(tokio::spawn(async move {
            let application = door.applications[number % door.applications.len()].clone();
            let mut client = Client::connect(plan, &door, &application).await;
            while Instant::now() < until {
                let counter = if client.post(began).await { &accepted } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for client in clients {
        client.await.expect("a client ends");
    }
}

/// One connection, with its request made once but for the time in it.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    stamp_at: usize,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(plan: Plan, door: &Door, application: &str) -> Client {
        let stamp = std::str::from_utf8(STAMP).expect("text");
        let fill = "x".repeat(plan.payload.saturating_sub(stamp.len() + 24));
        let payload = format!("{stamp}{:>12}\",\"fill\":\"{fill}\"}}", 0);
        let body = format!("{{\"eventType\":\"bench.event\",\"payload\":{payload}}}");
        let request = format!(
            "POST /api/v1/app/{application}/msg/ HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            door.port,
            door.token,
            body.len()
        );
        let stamp_at = request.find(stamp).expect("a stamp") + stamp.len();
        let stream = TcpStream::connect(("127.0.0.1", door.port)).await.expect("a connection");
        let _ = stream.set_nodelay(true);
        Client { stream, request: request.into_bytes(), stamp_at, buffer: vec![0; 8 * 1024] }
    }

    /// Posts one message; whether it was accepted.
    async fn post(&mut self, began: Instant) -> bool {
        let stamp = format!("{:>12}", began.elapsed().as_micros());
        self.request[self.stamp_at..self.stamp_at + 12].copy_from_slice(stamp.as_bytes());
        self.stream.write_all(&self.request).await.expect("to write");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("to read");
            assert!(read > 0, "the server hung up");
            filled += read;
            if head(&self.buffer[..filled]).is_some_and(|(head, length)| filled >= head + length) {
                return self.buffer.starts_with(b"HTTP/1.1 202");
            }
        }
    }
}
