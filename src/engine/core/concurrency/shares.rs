//! Concurrency shares: how many requests may be in flight, in all and to each kind of endpoint.

use super::Responsiveness;
use super::fair_queue::{FairQueue, Ticket};
use crate::domain::{AppId, EndpointId};

/// Requests in flight by kind, and the lanes that wait for their kind's share.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    in_flight: usize,
    by_kind: [usize; 3],
    /// Lanes that wait because too much is in flight to their kind: once that changes, one of them is looked at again.
    waiting: [FairQueue; 3],
}

impl Shares {
    /// At most `most` requests at once, and at least one.
    pub fn new(most: usize) -> Shares {
        Shares { most: most.max(1), in_flight: 0, by_kind: [0; 3], waiting: Default::default() }
    }

    /// How many requests may be in flight at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many are.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing more may be in flight to endpoints of this kind.
    pub fn full(&self, kind: Responsiveness) -> bool {
        let (half, reserved) = ((self.most / 2).max(1), (self.most * 3 / 4).max(1));
        kind != Responsiveness::Responsive && (self.by_kind[kind as usize] >= half || self.in_flight >= reserved)
    }

    /// A request to an endpoint of this kind begins.
    pub fn began(&mut self, kind: Responsiveness) {
        self.in_flight += 1;
        self.by_kind[kind as usize] += 1;
    }

    /// One has ended. `None`: to an endpoint of which nothing is known any more.
    pub fn ended(&mut self, kind: Option<Responsiveness>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(kind) = kind {
            self.by_kind[kind as usize] -= 1;
        }
    }

    /// An endpoint with so many in flight is of another kind.
    pub fn moved(&mut self, before: Responsiveness, now: Responsiveness, in_flight: usize) {
        self.by_kind[before as usize] -= in_flight;
        self.by_kind[now as usize] += in_flight;
    }

    /// A lane of this application waits for its kind's share.
    pub fn wait(&mut self, app: AppId, id: EndpointId, kind: Responsiveness) -> Ticket {
        self.waiting[kind as usize].push(app, id)
    }

    /// A lane does not wait there any more.
    pub fn leave(&mut self, app: AppId, id: EndpointId, (kind, ticket): (Responsiveness, Ticket)) {
        self.waiting[kind as usize].remove(app, id, ticket);
    }

    /// The next lane of this kind, applications in turn, if there is room for it. It does not wait any more.
    pub fn next(&mut self, kind: Responsiveness) -> Option<EndpointId> {
        if self.full(kind) {
            return None;
        }
        self.waiting[kind as usize].pop()
    }

    /// For tests: what is in flight by kind, and whether a lane waits with this ticket; how many do.
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
    fn silent_and_unknown_endpoints_leave_a_quarter_to_those_that_answer() {
        let mut shares = Shares::new(16);
        let (app, id) = (AppId(uuid::Uuid::nil()), EndpointId(uuid::Uuid::nil()));
        (0..8).for_each(|_| shares.began(Responsiveness::Silent));
        assert!(shares.full(Responsiveness::Silent) && !shares.full(Responsiveness::Unknown));
        shares.wait(app, id, Responsiveness::Silent);
        assert_eq!(shares.next(Responsiveness::Silent), None);
        (0..4).for_each(|_| shares.began(Responsiveness::Unknown));
        assert!(shares.full(Responsiveness::Unknown) && !shares.full(Responsiveness::Responsive));
        shares.ended(Some(Responsiveness::Silent));
        assert_eq!(shares.next(Responsiveness::Silent), Some(id));
        shares.moved(Responsiveness::Silent, Responsiveness::Responsive, 7);
        assert_eq!((shares.in_flight(), shares.counts()), (11, ([7, 4, 0], 0)));
    }
}
