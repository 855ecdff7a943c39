//! A background load: a few applications with one endpoint each receive events at a steady rate. The case under test
//! must not affect them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::common::client::Destination;
use super::common::open_loop::{self, LoadResult};
use super::common::percentile_ms;
use super::common::receiver::Receiver;
use super::common::rest::Rest;
use super::plan::Plan;

const APPLICATIONS: usize = 20;
/// How long outstanding deliveries are waited for.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

pub struct BackgroundLoad {
    receiver: Receiver,
    destination: Arc<Destination>,
    rate: f64,
    payload: usize,
}

#[derive(Clone, Debug)]
pub struct BackgroundResult {
    pub p99_ms: f64,
    /// The longest response time of a POST, in milliseconds.
    pub longest_ms: f64,
    /// Not accepted, or not delivered within 30 s.
    pub lost: u64,
}

impl BackgroundLoad {
    /// Creates the applications and a receiver, and sends a few events as a warm-up.
    pub async fn start(plan: &Plan, rest: &Rest) -> BackgroundLoad {
        let receiver = Receiver::start(Instant::now()).await;
        let destination = Arc::new(rest.create_applications(APPLICATIONS, &[receiver.url(0)]).await);
        let others = BackgroundLoad { receiver, destination, rate: plan.rate, payload: plan.payload };
        others.run_for(Duration::from_secs(2)).await;
        others
    }

    /// Uses another server of the same store from now on.
    pub fn move_to(&mut self, rest: &Rest) {
        let destination = Destination { authority: rest.authority.clone(), ..(*self.destination).clone() };
        self.destination = Arc::new(destination);
    }

    pub async fn run_for(&self, span: Duration) -> BackgroundResult {
        self.run(span, Arc::new(AtomicBool::new(true))).await
    }

    /// Runs while `running` is true, for at most an hour.
    pub async fn run_while(&self, running: Arc<AtomicBool>) -> BackgroundResult {
        self.run(Duration::from_secs(3_600), running).await
    }

    async fn run(&self, most: Duration, running: Arc<AtomicBool>) -> BackgroundResult {
        self.receiver.take_times();
        let (before, began) = (self.receiver.count(), self.receiver.began());
        let destination = Arc::clone(&self.destination);
        let LoadResult { accepted, failed, longest } =
            open_loop::run_while(destination, self.rate, most, self.payload, began, running).await;
        let since = Instant::now();
        while self.receiver.count() - before < accepted && since.elapsed() < DELIVERY_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut times = self.receiver.take_times();
        let late = accepted.saturating_sub(times.len() as u64);
        // A missing event counts as slower than all others.
        times.resize(times.len() + (late + failed) as usize, u32::MAX);
        BackgroundResult {
            p99_ms: percentile_ms(&times, 0.99),
            longest_ms: longest.as_secs_f64() * 1_000.0,
            lost: late + failed,
        }
    }
}
