//! How the [responsiveness](Responsiveness) of an endpoint limits its lane.

use std::time::Duration;

use super::{Lane, QUEUE, SequenceCoverage};
use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;

/// The most deliveries of each kind queued for a silent endpoint. It will not need more soon.
const SILENT_QUEUE: usize = 8;

impl Lane {
    /// The most deliveries of each kind that may be queued.
    pub(super) fn queue_limit(&self) -> usize {
        if self.kind == Responsiveness::Silent { SILENT_QUEUE } else { QUEUE }
    }

    /// The kind of the endpoint at `now`.
    pub fn responsiveness(&self, now: Duration) -> Responsiveness {
        self.responses.responsiveness(self.in_flight > 0, self.breaker.unreachable(), now)
    }

    /// When time alone changes the kind or ends the backlogged state. `None`: only an event does. May lie in the past.
    pub fn next_change(&self) -> Option<Duration> {
        let behind = self.backlogged_until.filter(|until| *until != Duration::MAX);
        self.responses.next_change(self.in_flight > 0, self.kind).into_iter().chain(behind).min()
    }

    /// Drops queued deliveries beyond those a silent endpoint needs; they wait in the store. Returns the payload
    /// bytes freed.
    pub fn trim(&mut self) -> usize {
        let (mut bytes, before) = (0, self.held.len());
        for queue in [&mut self.fresh, &mut self.retries] {
            for delivery in queue.drain(SILENT_QUEUE.min(queue.len())..) {
                bytes += delivery.message.size();
                self.held.remove(&delivery.message.id);
            }
        }
        // Payloads may be empty, so `bytes` does not tell.
        if self.held.len() < before {
            self.coverage = SequenceCoverage::Unknown;
            self.watermarks.forget();
            self.schedule_read(Time::ZERO);
        }
        bytes
    }
}
