//! How endpoints do: their counts of the last 24 hours as lists and pages say them.

use std::collections::HashMap;
use std::time::Duration;

use super::show::count;
use crate::domain::{EndpointId, Time};
use crate::store::query::counts::Range;
use crate::store::recording::rollups::{Counts, LATENCY_BOUNDS_MS};
use crate::store::{Store, StoreError, Tenant};

/// The span that the numbers are about.
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What was counted at each of these endpoints in the 24 hours before `now`.
///
/// # Errors
/// The store is away.
pub async fn counts(
    store: &Store,
    tenant: &Tenant,
    endpoints: &[EndpointId],
    now: Time,
) -> Result<HashMap<EndpointId, Counts>, StoreError> {
    store.endpoint_counts(tenant, endpoints, Range::Day, now).await
}

/// `98.7 %` of the attempts arrived; `None`: there were none. All of them is `100 %`, and nothing less is.
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

/// Within which time `share` of the attempts were answered, as exact as the histogram is: `≤ 250 ms`.
pub fn within(counts: &Counts, share: f64) -> Option<String> {
    bound(counts, share, ("≤", ">"))
}

/// All of it as a sentence: `half within 50 ms, 95 % within 250 ms, 99 % over 15 s`.
pub fn latency(counts: &Counts) -> Option<String> {
    let within = |share| bound(counts, share, ("within", "over"));
    Some(format!("half {}, 95 % {}, 99 % {}", within(0.5)?, within(0.95)?, within(0.99)?))
}

/// The bound of the histogram's bucket that `share` of the attempts reach, after the word for below or above it.
fn bound(counts: &Counts, share: f64, (below, above): (&str, &str)) -> Option<String> {
    let all: i64 = counts.latency.iter().sum();
    let wanted = (all as f64 * share).ceil() as i64;
    let mut seen = 0;
    let place = counts.latency.iter().position(|bucket| {
        seen += bucket;
        seen >= wanted && seen > 0
    })?;
    Some(match LATENCY_BOUNDS_MS.get(place) {
        Some(ms) if *ms < 1_000 => format!("{below} {ms} ms"),
        Some(ms) => format!("{below} {} s", *ms as f64 / 1_000.0),
        None => format!("{above} 15 s"),
    })
}

/// `1,204 delivered, 3 failed`.
pub fn in_words(counts: &Counts) -> String {
    format!("{} delivered, {} failed", count(counts.delivered), count(counts.failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_latencies_are_not_prettier_than_they_are() {
        let mut counts = Counts::default();
        assert_eq!((rate(&counts), within(&counts, 0.95)), (None, None));
        (counts.delivered, counts.failed, counts.latency[3], counts.latency[11]) = (9_999, 1, 9_999, 1);
        assert_eq!((rate(&counts).unwrap(), within(&counts, 0.95).unwrap()), ("99.9 %".into(), "≤ 50 ms".into()));
        assert_eq!(within(&counts, 1.0).unwrap(), "> 15 s");
        counts.failed = 0;
        assert_eq!(rate(&counts).unwrap(), "100 %");
    }

    #[test]
    fn latency_is_as_exact_as_the_histogram() {
        let mut counts = Counts::default();
        assert_eq!(latency(&counts), None);
        counts.latency[1] = 90;
        counts.latency[5] = 8;
        counts.latency[11] = 2;
        assert_eq!(latency(&counts).unwrap(), "half within 10 ms, 95 % within 250 ms, 99 % over 15 s");
        counts.latency = [0; 12];
        counts.latency[8] = 1;
        assert_eq!(latency(&counts).unwrap(), "half within 2.5 s, 95 % within 2.5 s, 99 % within 2.5 s");
    }
}
