//! The others: a few applications with an endpoint each, whose events come at a steady rate beside whatever a case does. They should not notice.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::common::client::Door;
use super::common::open_loop::{self, Posted};
use super::common::percentile_ms;
use super::common::receiver::Receiver;
use super::common::rest::Rest;
use super::plan::Plan;

const APPLICATIONS: usize = 20;
/// How long what is on its way is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Others {
    receiver: Receiver,
    door: Arc<Door>,
    rate: f64,
    payload: usize,
}

/// How others fared.
#[derive(Clone, Debug)]
pub struct Fared {
    pub p99_ms: f64,
    /// The longest that a POST was not answered, in milliseconds.
    pub longest_ms: f64,
    /// Not accepted, or not delivered within 30 s.
    pub lost: u64,
}

impl Others {
    /// Makes them, at a receiver of their own. They have been sent some events when this returns, so that caches are filled.
    pub async fn settle(plan: &Plan, rest: &Rest) -> Others {
        let receiver = Receiver::start(Instant::now()).await;
        let door = Arc::new(rest.furnish(APPLICATIONS, &[receiver.url(0)]).await);
        let others = Others { receiver, door, rate: plan.rate, payload: plan.payload };
        others.fare_for(Duration::from_secs(2)).await;
        others
    }

    /// The same beside another server of the same store, which this is about from now on.
    pub fn at(&mut self, rest: &Rest) {
        let door = Door { authority: rest.authority.clone(), ..(*self.door).clone() };
        self.door = Arc::new(door);
    }

    pub async fn fare_for(&self, span: Duration) -> Fared {
        self.fare(span, Arc::new(AtomicBool::new(true))).await
    }

    /// For as long as `going` is true, and for an hour at most.
    pub async fn fare_while(&self, going: Arc<AtomicBool>) -> Fared {
        self.fare(Duration::from_secs(3_600), going).await
    }

    async fn fare(&self, most: Duration, going: Arc<AtomicBool>) -> Fared {
        self.receiver.take_times();
        let (before, began) = (self.receiver.count(), self.receiver.began());
        let door = Arc::clone(&self.door);
        let Posted { accepted, failed, longest } =
            open_loop::run_while(door, self.rate, most, self.payload, began, going).await;
        let since = Instant::now();
        while self.receiver.count() - before < accepted && since.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut times = self.receiver.take_times();
        let late = accepted.saturating_sub(times.len() as u64);
        // What has not arrived is later than all that has.
        times.resize(times.len() + (late + failed) as usize, u32::MAX);
        Fared { p99_ms: percentile_ms(&times, 0.99), longest_ms: longest.as_secs_f64() * 1_000.0, lost: late + failed }
    }
}
