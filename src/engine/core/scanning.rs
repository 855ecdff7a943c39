//! Scans: asking the store which lanes have pending deliveries, one page at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{EndpointId, Time};
use crate::store::queue::pending_deliveries::PendingLane;

/// The scan interval: the longest time that a lost signal, or a message that another process accepted, can go
/// unnoticed. A store that no other process shares (`SCAN_OWN`) signals nearly everything.
pub const SCAN_SHARED: Duration = Duration::from_millis(250);
pub const SCAN_OWN: Duration = Duration::from_secs(2);
/// Maximum lanes in one page (about 60 bytes each).
pub const PAGE: usize = 1_000;
/// Scans take at most one tenth of the time.
const SHARE: u32 = 10;

/// The position of a scan: where its next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPosition {
    /// The slots to scan, each with the last endpoint already seen.
    after: BTreeMap<u8, EndpointId>,
    /// The due time of the oldest pending delivery in the pages so far.
    oldest: Option<Time>,
}

/// A page of a scan.
#[derive(Clone, Debug)]
pub struct ScanPage {
    pub lanes: Vec<PendingLane>,
    /// The position of the next page. `None`: this was the last one.
    pub next: Option<ScanPosition>,
    /// The due time of the oldest pending delivery in the pages so far.
    pub oldest: Option<Time>,
}

impl ScanPosition {
    /// The first page, for these slots.
    pub fn of(slots: Vec<u8>) -> ScanPosition {
        let nil = EndpointId(uuid::Uuid::nil());
        ScanPosition { after: slots.into_iter().map(|slot| (slot, nil)).collect(), oldest: None }
    }

    /// The slots to scan, each with the last endpoint already seen.
    pub fn places(&self) -> Vec<(u8, EndpointId)> {
        self.after.iter().map(|(slot, after)| (*slot, *after)).collect()
    }

    /// The page with these `lanes`; at most `most` were requested.
    pub fn page(mut self, lanes: Vec<PendingLane>, most: usize) -> ScanPage {
        for lane in &lanes {
            self.after.entry(lane.slot).and_modify(|after| *after = lane.endpoint.max(*after));
        }
        let due = lanes.iter().flat_map(|lane| [lane.fresh_due, lane.retry_due]).flatten();
        self.oldest = self.oldest.into_iter().chain(due).min();
        ScanPage { oldest: self.oldest, next: (lanes.len() >= most).then_some(self), lanes }
    }
}

/// The schedule of scans.
#[derive(Debug)]
pub struct ScanSchedule {
    every: Duration,
    /// The start of the current scan, if one is under way.
    since: Option<Duration>,
    /// The next page of the current scan, if not requested yet.
    next: Option<ScanPosition>,
    /// A scan was requested during the current one, which may have missed the reason.
    again: bool,
    at: Duration,
}

impl ScanSchedule {
    /// A scan per interval, the first one `now`.
    pub fn new(every: Duration, now: Duration) -> ScanSchedule {
        ScanSchedule { every, since: None, next: None, again: false, at: now }
    }

    /// Requests a scan as soon as possible.
    pub fn soon(&mut self, now: Duration) {
        match self.since {
            Some(_) => self.again = true,
            None => self.at = self.at.min(now),
        }
    }

    /// The time until the next scan or page is due.
    pub fn wait(&self, now: Duration) -> Duration {
        if self.next.is_some() { Duration::ZERO } else { self.at.saturating_sub(now) }
    }

    /// The page to request now, if one is due. A new scan covers `slots`.
    pub fn begin(&mut self, now: Duration, slots: impl FnOnce() -> Vec<u8>) -> Option<ScanPosition> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        if self.since.is_some() || now < self.at {
            return None;
        }
        self.since = Some(now);
        Some(ScanPosition::of(slots()))
    }

    /// A page arrived, followed by `next`. If nothing may be sent at the moment, the scan is dropped and started
    /// again later. Returns `true` if the scan is complete.
    pub fn page_arrived(&mut self, next: Option<ScanPosition>, paused: bool, now: Duration) -> bool {
        if next.is_some() && paused {
            (self.since, self.again, self.at) = (None, false, now);
            return false;
        }
        let ended = next.is_none();
        self.next = next;
        if ended {
            let took = self.since.map_or(Duration::ZERO, |began| now.saturating_sub(began));
            self.end(self.every.max(took * SHARE), now);
        }
        ended
    }

    /// The store was unavailable. The time that took does not count against [`SHARE`].
    pub fn failed(&mut self, now: Duration) {
        self.end(self.every, now);
    }

    fn end(&mut self, rest: Duration, now: Duration) {
        self.since = None;
        self.at = if std::mem::take(&mut self.again) { now } else { now + rest };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(slot: u8, number: u128) -> PendingLane {
        let endpoint = EndpointId(uuid::Uuid::from_u128(number));
        PendingLane { endpoint, slot, fresh_due: Some(Time::from_micros(number as i64)), retry_due: None }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn pages_follow_each_other_and_the_pause_counts_from_the_first() {
        let mut scanning = ScanSchedule::new(at(250), at(0));
        let first = scanning.begin(at(0), || vec![1, 2]).unwrap();
        assert_eq!(scanning.begin(at(1), || vec![1, 2]), None, "one at a time");
        let page = first.page(vec![lane(1, 7), lane(2, 5)], 2);
        assert!(!scanning.page_arrived(page.next, false, at(60)) && scanning.wait(at(60)).is_zero());
        let second = scanning.begin(at(60), Vec::new).unwrap();
        assert_eq!(
            second.places().iter().map(|(slot, id)| (*slot, id.0.as_u128())).collect::<Vec<_>>(),
            [(1, 7), (2, 5)]
        );
        let page = second.page(vec![lane(1, 9)], 2);
        assert_eq!((page.oldest, page.next.is_none()), (Some(Time::from_micros(5)), true));
        assert!(scanning.page_arrived(page.next, false, at(100)));
        assert_eq!(scanning.wait(at(100)), at(1_000), "ten times as long as it took");
        scanning.soon(at(200));
        assert!(scanning.begin(at(200), Vec::new).is_some());
    }

    #[test]
    fn an_interrupted_scan_starts_over() {
        let mut scanning = ScanSchedule::new(at(250), at(0));
        let page = scanning.begin(at(0), || vec![1]).unwrap().page(vec![lane(1, 7)], 1);
        assert!(!scanning.page_arrived(page.next, true, at(10)));
        assert_eq!(scanning.begin(at(60_000), || vec![3]), Some(ScanPosition::of(vec![3])));
        scanning.soon(at(60_000));
        scanning.failed(at(60_001));
        assert!(scanning.wait(at(60_001)).is_zero(), "a scan was requested meanwhile");
    }
}
