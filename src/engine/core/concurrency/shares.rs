//! Concurrency shares: the limits on requests in flight, in total and per kind of endpoint.

use super::Responsiveness;
use super::fair_queue::{FairQueue, Ticket};
use crate::domain::{AppId, EndpointId};

/// Requests in flight by kind, and the lanes that wait for a share.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    in_flight: usize,
    by_kind: [usize; 3],
    /// Lanes that wait because their kind's share is used up. One is retried whenever it shrinks.
    waiting: [FairQueue; 3],
}

impl Shares {
    /// At most `most` requests at once, at least one.
    pub fn new(most: usize) -> Shares {
        Shares { most: most.max(1), in_flight: 0, by_kind: [0; 3], waiting: Default::default() }
    }

    /// The limit on requests in flight.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the share of this kind is used up.
    pub fn full(&self, kind: Responsiveness) -> bool {
        let (half, reserved) = ((self.most / 2).max(1), (self.most * 3 / 4).max(1));
        kind != Responsiveness::Responsive && (self.by_kind[kind as usize] >= half || self.in_flight >= reserved)
    }

    /// Counts a request that starts.
    pub fn start(&mut self, kind: Responsiveness) {
        self.in_flight += 1;
        self.by_kind[kind as usize] += 1;
    }

    /// Counts a request that ended. `None`: its lane no longer exists.
    pub fn end(&mut self, kind: Option<Responsiveness>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(kind) = kind {
            self.by_kind[kind as usize] -= 1;
        }
    }

    /// Moves an endpoint with this many requests in flight to another kind.
    pub fn reclassify(&mut self, before: Responsiveness, now: Responsiveness, in_flight: usize) {
        self.by_kind[before as usize] -= in_flight;
        self.by_kind[now as usize] += in_flight;
    }

    /// Queues a lane for a share of its kind.
    pub fn wait(&mut self, app: AppId, id: EndpointId, kind: Responsiveness) -> Ticket {
        self.waiting[kind as usize].push(app, id)
    }

    /// Removes a lane from that queue.
    pub fn leave(&mut self, app: AppId, id: EndpointId, (kind, ticket): (Responsiveness, Ticket)) {
        self.waiting[kind as usize].remove(app, id, ticket);
    }

    /// Takes the next lane of this kind, of an application that may send, if the share has room. Applications take
    /// turns.
    pub fn next(&mut self, kind: Responsiveness, may_send: impl Fn(AppId) -> bool) -> Option<EndpointId> {
        if self.full(kind) {
            return None;
        }
        self.waiting[kind as usize].pop_of(may_send)
    }

    /// The requests in flight by kind, and the number of waiting lanes.
    #[cfg(test)]
    pub fn counts(&self) -> ([usize; 3], usize) {
        (self.by_kind, self.waiting.iter().map(FairQueue::len).sum())
    }

    #[cfg(test)]
    pub fn waits(&self, app: AppId, id: EndpointId, (kind, ticket): (Responsiveness, Ticket)) -> bool {
        self.waiting[kind as usize].contains(app, id, ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_and_unknown_endpoints_leave_a_quarter_to_responsive_ones() {
        let mut shares = Shares::new(16);
        let (app, id) = (AppId(uuid::Uuid::nil()), EndpointId(uuid::Uuid::nil()));
        (0..8).for_each(|_| shares.start(Responsiveness::Silent));
        assert!(shares.full(Responsiveness::Silent) && !shares.full(Responsiveness::Unknown));
        shares.wait(app, id, Responsiveness::Silent);
        assert_eq!(shares.next(Responsiveness::Silent, |_| true), None);
        (0..4).for_each(|_| shares.start(Responsiveness::Unknown));
        assert!(shares.full(Responsiveness::Unknown) && !shares.full(Responsiveness::Responsive));
        shares.end(Some(Responsiveness::Silent));
        assert_eq!(shares.next(Responsiveness::Silent, |_| true), Some(id));
        shares.reclassify(Responsiveness::Silent, Responsiveness::Responsive, 7);
        assert_eq!((shares.in_flight(), shares.counts()), (11, ([7, 4, 0], 0)));
    }
}
