//! How an endpoint's [responsiveness](Responsiveness) limits its lane.

use std::time::Duration;

use super::{Lane, QUEUE, Reach};
use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;

/// How many deliveries of each kind wait in memory for a silent endpoint: it will not need more soon.
const SILENT_QUEUE: usize = 8;

impl Lane {
    /// How many of each kind wait in memory at most.
    pub(super) fn most_queued(&self) -> usize {
        if self.kind == Responsiveness::Silent { SILENT_QUEUE } else { QUEUE }
    }

    /// How its endpoint answers at `now`.
    pub fn responsiveness(&self, now: Duration) -> Responsiveness {
        self.answers.responsiveness(self.in_flight > 0, self.breaker.unreachable(), now)
    }

    /// When the mere passing of time changes something of it next: how its endpoint answers, or that it counts as behind. `None`: nothing,
    /// before an event does. It may have passed already.
    pub fn next_change(&self) -> Option<Duration> {
        let behind = self.behind_until.filter(|until| *until != Duration::MAX);
        self.answers.next_change(self.in_flight > 0, self.kind).into_iter().chain(behind).min()
    }

    /// Forgets what is queued beyond what a silent one needs: it waits in the store. Gives back how many payload bytes that frees.
    pub fn trim(&mut self) -> usize {
        let (mut bytes, before) = (0, self.held.len());
        for queue in [&mut self.fresh, &mut self.retries] {
            for work in queue.drain(SILENT_QUEUE.min(queue.len())..) {
                bytes += work.message.size();
                self.held.remove(&work.message.id);
            }
        }
        // A payload may be of no bytes at all.
        if self.held.len() < before {
            self.reach = Reach::Unread;
            self.floors.forget();
            self.look(Time::ZERO);
        }
        bytes
    }
}
