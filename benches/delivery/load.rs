//! The loads: closed (each connection posts its next message after a response) and open (messages at fixed times).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Plan;
use super::common::client::Destination;
use super::common::closed_loop;
use super::common::meter::{Meter, Usage};
use super::common::open_loop::{self, LoadResult};
use super::common::percentile_ms;
use super::common::receiver::Receiver;

/// The messages to post.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As fast as responses arrive.
    Closed {
        /// Endpoints per message.
        fan_out: usize,
    },
    /// Messages per second, regardless of responses.
    Open { rate: f64 },
}

impl Load {
    /// Deliveries per message.
    pub fn fan_out(self) -> usize {
        match self {
            Load::Closed { fan_out } => fan_out,
            Load::Open { .. } => 1,
        }
    }

    /// Number of applications, so the total of endpoints is the same at every fan-out.
    pub fn applications(self, plan: Plan) -> usize {
        (plan.applications / self.fan_out()).max(1)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed { fan_out } => write!(f, "fan-out {fan_out}"),
            Load::Open { rate } => write!(f, "{rate:.0} events/s"),
        }
    }
}

/// Results of one run; `None` if unknown for that server.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    pub accepted_per_second: f64,
    pub delivered_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// CPU time per delivery of the sender, and of its database server.
    pub cpu_us: Option<f64>,
    pub database_cpu_us: Option<f64>,
    /// Per delivery.
    pub written_bytes: Option<f64>,
    pub rows: Option<f64>,
    pub index_entries: Option<f64>,
    /// Peak resident memory of the sender, in bytes.
    pub memory: Option<f64>,
    pub refused: u64,
    pub lost: u64,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {:>6.0}/s, delivered {:>6.0}/s, p50 {:.1} ms, p99 {:.1} ms",
            self.accepted_per_second, self.delivered_per_second, self.p50_ms, self.p99_ms,
        )?;
        if let Some(cpu) = self.cpu_us {
            write!(f, ", CPU per delivery {cpu:.0} µs, database {:.0} µs", self.database_cpu_us.unwrap_or(0.0))?;
        }
        if self.refused + self.lost > 0 {
            write!(f, ", REFUSED {}, LOST {}", self.refused, self.lost)?;
        }
        Ok(())
    }
}

/// Posts for the plan's duration, then waits for outstanding deliveries.
pub async fn measure(
    plan: Plan,
    load: Load,
    destination: Destination,
    receiver: &Receiver,
    meter: &Meter,
) -> Measurement {
    let destination = Arc::new(destination);
    // One second of warm-up opens connections and fills caches.
    let warm = post(plan, load, &destination, receiver.began(), Duration::from_secs(1)).await;
    receiver.wait_for(warm.accepted * load.fan_out() as u64).await;
    let warm_delivered = receiver.count();
    receiver.take_times();
    let before = meter.read().await;
    let start = Instant::now();
    let posted = post(plan, load, &destination, receiver.began(), Duration::from_secs_f64(plan.seconds)).await;
    let posting = start.elapsed().as_secs_f64();
    let expected = posted.accepted * load.fan_out() as u64;
    let last = receiver.wait_for(warm_delivered + expected).await;
    let delivered = receiver.count() - warm_delivered;
    let after = meter.read().await;
    let per_delivery = |sum: Option<f64>| sum.map(|sum| sum / delivered.max(1) as f64);
    let spent: Usage = meter.spent(&before, &after).await;
    let times = receiver.take_times();
    Measurement {
        accepted_per_second: posted.accepted as f64 / posting,
        delivered_per_second: delivered as f64 / last.duration_since(start).as_secs_f64(),
        p50_ms: percentile_ms(&times, 0.5),
        p99_ms: percentile_ms(&times, 0.99),
        cpu_us: per_delivery(spent.cpu_us),
        database_cpu_us: per_delivery(spent.database_cpu_us),
        written_bytes: per_delivery(spent.written_bytes),
        rows: per_delivery(spent.rows),
        index_entries: per_delivery(spent.index_entries),
        memory: spent.memory,
        refused: posted.failed + warm.failed,
        lost: expected.saturating_sub(delivered),
    }
}

async fn post(plan: Plan, load: Load, destination: &Arc<Destination>, began: Instant, span: Duration) -> LoadResult {
    match load {
        Load::Closed { .. } => closed_loop::run_for(destination, plan.connections, plan.payload, began, span).await,
        Load::Open { rate } => open_loop::run(Arc::clone(destination), rate, span, plan.payload, began).await,
    }
}
