//! A fair queue of endpoints: applications take turns, and so do the endpoints within each. An application with 100,000
//! waiting endpoints delays another by one turn, not by 100,000.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::domain::{AppId, EndpointId};

/// Identifies an entry of a [`FairQueue`]. Grows with each push.
pub type Ticket = u64;

/// Maximum applications that one [`FairQueue::pop_of`] passes over.
const SKIPS: usize = 64;

/// The queue. Push, pop and remove take logarithmic time at most.
#[derive(Debug, Default)]
pub struct FairQueue {
    /// The applications in the order of their turns. Each key of `waiting` is here exactly once.
    turns: VecDeque<AppId>,
    /// The waiting endpoints by application, oldest first. An empty set is dropped only at its turn, so an endpoint
    /// that queues again right after its own turn allocates nothing.
    waiting: HashMap<AppId, BTreeSet<(Ticket, EndpointId)>>,
    tickets: Ticket,
    len: usize,
}

impl FairQueue {
    /// The number of waiting endpoints.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no endpoint waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an endpoint behind the others of its application. It must not be in the queue.
    pub fn push(&mut self, app: AppId, id: EndpointId) -> Ticket {
        self.tickets += 1;
        let waiting = self.waiting.entry(app).or_insert_with(|| {
            self.turns.push_back(app);
            BTreeSet::new()
        });
        self.len += usize::from(waiting.insert((self.tickets, id)));
        self.tickets
    }

    /// Takes the oldest endpoint of the application whose turn it is.
    pub fn pop(&mut self) -> Option<EndpointId> {
        while let Some(app) = self.turns.pop_front() {
            if let Some(id) = self.take_turn(app) {
                return Some(id);
            }
        }
        None
    }

    /// Takes the oldest endpoint of the next application that `may` get a turn. The others keep their endpoints and
    /// lose this turn. `None`: none of the next [`SKIPS`] may.
    pub fn pop_of(&mut self, may: impl Fn(AppId) -> bool) -> Option<EndpointId> {
        for _ in 0..SKIPS.min(self.turns.len()) {
            let app = self.turns.pop_front()?;
            if !may(app) {
                self.turns.push_back(app);
            } else if let Some(id) = self.take_turn(app) {
                return Some(id);
            }
        }
        None
    }

    /// Takes the oldest endpoint of an application that is not in `turns`, and puts the application at their end.
    /// `None`: it has none and is dropped.
    fn take_turn(&mut self, app: AppId) -> Option<EndpointId> {
        let Some((_, id)) = self.waiting.get_mut(&app).and_then(BTreeSet::pop_first) else {
            self.waiting.remove(&app);
            return None;
        };
        self.turns.push_back(app);
        self.len -= 1;
        Some(id)
    }

    /// Removes an endpoint, if it is in the queue.
    pub fn remove(&mut self, app: AppId, id: EndpointId, ticket: Ticket) {
        if let Some(waiting) = self.waiting.get_mut(&app) {
            self.len -= usize::from(waiting.remove(&(ticket, id)));
        }
    }

    /// Whether the endpoint is queued with this ticket.
    #[cfg(test)]
    pub fn contains(&self, app: AppId, id: EndpointId, ticket: Ticket) -> bool {
        self.waiting.get(&app).is_some_and(|waiting| waiting.contains(&(ticket, id)))
    }

    /// All waiting endpoints.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.waiting.values().flatten().map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(number: u128) -> AppId {
        AppId(uuid::Uuid::from_u128(number))
    }

    fn endpoint(number: u128) -> EndpointId {
        EndpointId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn applications_take_turns_and_so_do_the_endpoints_of_each() {
        let mut queue = FairQueue::default();
        (1..=4).for_each(|number| _ = queue.push(app(1), endpoint(number)));
        queue.push(app(2), endpoint(5));
        let taken: Vec<u128> = (0..3).map(|_| queue.pop().unwrap().0.as_u128()).collect();
        assert_eq!(taken, [1, 5, 2], "the second application waits for one turn of the first");
        queue.push(app(1), endpoint(1));
        queue.push(app(3), endpoint(6));
        let rest: Vec<u128> = std::iter::from_fn(|| queue.pop()).map(|id| id.0.as_u128()).collect();
        assert_eq!(rest, [3, 6, 4, 1]);
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty(), "nothing remains: {queue:?}");
    }

    #[test]
    fn applications_without_a_turn_keep_their_endpoints() {
        let mut queue = FairQueue::default();
        (1..=SKIPS as u128 + 1).for_each(|number| _ = queue.push(app(number), endpoint(number)));
        assert_eq!(queue.pop_of(|one| one == app(3)), Some(endpoint(3)));
        assert_eq!(queue.pop_of(|one| one == app(3)), None, "all were passed over");
        assert_eq!((queue.len(), queue.pop_of(|_| true).is_some()), (SKIPS, true));

        let mut queue = FairQueue::default();
        let ticket = queue.push(app(1), endpoint(1));
        queue.push(app(2), endpoint(2));
        queue.remove(app(1), endpoint(1), ticket);
        assert_eq!(
            queue.pop_of(|one| one == app(1)),
            None,
            "an application with nothing left gives its turn to nobody"
        );
        assert_eq!((queue.pop(), queue.len()), (Some(endpoint(2)), 0));
    }

    #[test]
    fn a_removed_endpoint_is_not_popped_and_gives_no_extra_turn() {
        let mut queue = FairQueue::default();
        let ticket = queue.push(app(1), endpoint(1));
        queue.push(app(2), endpoint(2));
        queue.remove(app(1), endpoint(1), ticket);
        queue.remove(app(1), endpoint(1), ticket);
        queue.remove(app(7), endpoint(1), ticket);
        assert_eq!(queue.len(), 1);
        (3..=4).for_each(|number| _ = queue.push(app(1), endpoint(number)));
        let taken: Vec<u128> = std::iter::from_fn(|| queue.pop()).map(|id| id.0.as_u128()).collect();
        assert_eq!(taken, [3, 2, 4]);
    }
}
