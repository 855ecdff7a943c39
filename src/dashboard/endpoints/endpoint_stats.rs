//! Success rates and response times of endpoints.

use std::collections::HashMap;
use std::time::Duration;

use crate::dashboard::components::format::{count, took};
use crate::domain::{EndpointId, Time};
use crate::store::query::counts::ChartRange;
use crate::store::recording::rollups::{Counts, LATENCY_BOUNDS_MS};
use crate::store::{Store, StoreError, Tenant};

/// The counts of endpoints over the 24 hours before `now`.
///
/// # Errors
/// The store is unavailable.
pub async fn counts(
    store: &Store,
    tenant: &Tenant,
    endpoints: &[EndpointId],
    now: Time,
) -> Result<HashMap<EndpointId, Counts>, StoreError> {
    store.endpoint_counts(tenant, endpoints, ChartRange::Day, now).await
}

/// The success rate, such as `98.7 %`. Rounded down, so `100 %` means no failures. `None`: no attempts.
pub fn rate(counts: &Counts) -> Option<String> {
    let all = counts.attempts();
    if all == 0 {
        return None;
    }
    if counts.failed == 0 {
        return Some("100 %".to_owned());
    }
    let share = (counts.delivered as f64 / all as f64 * 1_000.0).floor() / 10.0;
    Some(format!("{share:.1} %"))
}

/// The minimum number of attempts for a meaningful p95 and p99.
const SAMPLE_P95: i64 = 20;
const SAMPLE_P99: i64 = 100;

/// Response times of receivers. All pages use this type, so their numbers agree. Estimated from a histogram (see
/// [`Counts::quantile`]); `None`: too few attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTimes {
    pub p50: Duration,
    pub p95: Option<Duration>,
    pub p99: Option<Duration>,
}

impl ResponseTimes {
    /// `None`: no attempts.
    pub fn of(counts: &Counts) -> Option<ResponseTimes> {
        let sample: i64 = counts.latency.iter().sum();
        let quantile = |share, least| counts.quantile(share).filter(|_| sample >= least);
        Some(ResponseTimes { p50: quantile(0.5, 1)?, p95: quantile(0.95, SAMPLE_P95), p99: quantile(0.99, SAMPLE_P99) })
    }

    /// p50, p95 and p99.
    pub fn all(&self) -> [Option<Duration>; 3] {
        [Some(self.p50), self.p95, self.p99]
    }

    /// `p50 37 ms · p95 48 ms`.
    pub fn text(&self) -> String {
        let named = ["p50", "p95", "p99"].into_iter().zip(self.all());
        named.filter_map(|(name, time)| Some(format!("{name} {}", about(time?)))).collect::<Vec<_>>().join(" · ")
    }
}

/// A duration as in [`took`]. Above its last bound, the histogram has no estimate.
pub fn about(value: Duration) -> String {
    let last = Duration::from_millis(LATENCY_BOUNDS_MS[LATENCY_BOUNDS_MS.len() - 1]);
    if value >= last { format!("{} s or more", last.as_secs()) } else { took(value) }
}

/// The deliveries of an endpoint in one line of a table.
pub struct DeliveryStats {
    /// The success rate; `None`: no attempts.
    pub rate: Option<String>,
    pub counts: String,
    /// The p95 of the response times; `None`: too few attempts.
    pub p95: Option<String>,
}

impl DeliveryStats {
    pub fn of(counts: &Counts) -> DeliveryStats {
        let p95 = ResponseTimes::of(counts).and_then(|times| times.p95).map(about);
        DeliveryStats { rate: rate(counts), counts: in_words(counts), p95 }
    }
}

/// `1,204 delivered, 3 failed`.
pub fn in_words(counts: &Counts) -> String {
    format!("{} delivered, {} failed", count(counts.delivered), count(counts.failed))
}

#[cfg(test)]
mod tests {
    use crate::dashboard::endpoints::endpoint_stats::*;

    #[test]
    fn rates_are_rounded_down() {
        let mut counts = Counts::default();
        assert_eq!((rate(&counts), ResponseTimes::of(&counts)), (None, None));
        (counts.delivered, counts.failed) = (9_999, 1);
        assert_eq!(rate(&counts).unwrap(), "99.9 %");
        counts.failed = 0;
        assert_eq!(rate(&counts).unwrap(), "100 %");
    }

    #[test]
    fn quantiles_need_a_sample() {
        let mut counts = Counts::default();
        let said = |counts: &Counts| ResponseTimes::of(counts).unwrap().text();
        counts.latency[3] = 3;
        assert_eq!(said(&counts), "p50 37 ms");
        counts.latency[3] = 20;
        assert_eq!(said(&counts), "p50 37 ms · p95 48 ms");
        counts.latency[3] = 99;
        counts.latency[11] = 1;
        assert_eq!(said(&counts), "p50 37 ms · p95 48 ms · p99 50 ms");
        counts.latency[11] = 9;
        assert_eq!(said(&counts), "p50 38 ms · p95 15 s or more · p99 15 s or more");
    }
}
