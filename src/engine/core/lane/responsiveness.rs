//! How the [responsiveness](Responsiveness) of an endpoint limits its lane.

use std::time::Duration;

use super::{Lane, QUEUE, SequenceCoverage};
use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;

/// Maximum deliveries of each kind queued for a silent endpoint. It needs no more until it responds.
const SILENT_QUEUE: usize = 8;

impl Lane {
    /// Maximum deliveries of each kind that may be queued.
    pub(super) fn queue_limit(&self) -> usize {
        if self.kind == Responsiveness::Silent { SILENT_QUEUE } else { QUEUE }
    }

    /// The kind of the endpoint at `now`.
    pub fn responsiveness(&self, now: Duration) -> Responsiveness {
        self.responses.responsiveness(self.in_flight > 0, self.breaker.unreachable(), now)
    }

    /// The time at which the kind changes or the backlogged state ends without an event. `None`: only an event changes
    /// them. May lie in the past.
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
        // Not decided by `bytes`: payloads may be empty.
        if self.held.len() < before {
            self.coverage = SequenceCoverage::Unknown;
            self.watermarks.forget();
            self.schedule_read(Time::ZERO);
        }
        bytes
    }
}
