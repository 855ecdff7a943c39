//! Concurrency shares: how many requests may be in flight, in all and to each kind of endpoint.

use std::collections::BTreeSet;

use super::Responsiveness;
use crate::domain::EndpointId;

/// Requests in flight by kind, and the lanes that wait for their kind's share.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    in_flight: usize,
    by_kind: [usize; 3],
    /// Lanes that wait because too much is in flight to their kind, by their tickets: once that changes, one of them is looked at again.
    waiting: [BTreeSet<(u64, EndpointId)>; 3],
    tickets: u64,
}

impl Shares {
    /// At most `most` requests at once, and at least one.
    pub fn new(most: usize) -> Shares {
        Shares { most: most.max(1), in_flight: 0, by_kind: [0; 3], waiting: Default::default(), tickets: 0 }
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

    /// A lane waits for its kind's share: its ticket.
    pub fn wait(&mut self, id: EndpointId, kind: Responsiveness) -> u64 {
        self.tickets += 1;
        self.waiting[kind as usize].insert((self.tickets, id));
        self.tickets
    }

    /// A lane does not wait there any more.
    pub fn leave(&mut self, id: EndpointId, (kind, ticket): (Responsiveness, u64)) {
        self.waiting[kind as usize].remove(&(ticket, id));
    }

    /// The lane of this kind that has waited longest, if there is room for it. It does not wait any more.
    pub fn next(&mut self, kind: Responsiveness) -> Option<EndpointId> {
        if self.full(kind) {
            return None;
        }
        self.waiting[kind as usize].pop_first().map(|(_, id)| id)
    }

    /// For tests: what is in flight by kind, and whether a lane waits with this ticket; how many do.
    #[cfg(test)]
    pub fn counts(&self) -> ([usize; 3], usize) {
        (self.by_kind, self.waiting.iter().map(BTreeSet::len).sum())
    }

    #[cfg(test)]
    pub fn waits(&self, id: EndpointId, (kind, ticket): (Responsiveness, u64)) -> bool {
        self.waiting[kind as usize].contains(&(ticket, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_and_unknown_endpoints_leave_a_quarter_to_those_that_answer() {
        let mut shares = Shares::new(16);
        let id = EndpointId(uuid::Uuid::nil());
        (0..8).for_each(|_| shares.began(Responsiveness::Silent));
        assert!(shares.full(Responsiveness::Silent) && !shares.full(Responsiveness::Unknown));
        shares.wait(id, Responsiveness::Silent);
        assert_eq!(shares.next(Responsiveness::Silent), None);
        (0..4).for_each(|_| shares.began(Responsiveness::Unknown));
        assert!(shares.full(Responsiveness::Unknown) && !shares.full(Responsiveness::Responsive));
        shares.ended(Some(Responsiveness::Silent));
        assert_eq!(shares.next(Responsiveness::Silent), Some(id));
        shares.moved(Responsiveness::Silent, Responsiveness::Responsive, 7);
        assert_eq!((shares.in_flight(), shares.counts()), (11, ([7, 4, 0], 0)));
    }
}
