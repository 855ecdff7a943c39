//! The lanes by endpoint. The table has no iterator, so nothing in the event loop can walk over all lanes. Changes to
//! many lanes go through an index ([`indexes`](super::indexes)).

#[cfg(test)]
use std::cell::Cell;
use std::collections::HashMap;

use crate::domain::EndpointId;
use crate::engine::core::lane::Lane;

#[derive(Default)]
pub(super) struct LaneTable {
    /// Boxed: growing the map moves pointers instead of lanes of some hundred bytes.
    lanes: HashMap<EndpointId, Box<Lane>>,
    /// The number of lane lookups, including those through an index.
    #[cfg(test)]
    lookups: Cell<u64>,
}

impl LaneTable {
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn contains_key(&self, id: &EndpointId) -> bool {
        self.count_lookups(1);
        self.lanes.contains_key(id)
    }

    pub(super) fn get(&self, id: &EndpointId) -> Option<&Lane> {
        self.count_lookups(1);
        self.lanes.get(id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &EndpointId) -> Option<&mut Lane> {
        self.count_lookups(1);
        self.lanes.get_mut(id).map(Box::as_mut)
    }

    pub(super) fn insert(&mut self, id: EndpointId, lane: Lane) {
        self.count_lookups(1);
        self.lanes.insert(id, Box::new(lane));
    }

    pub(super) fn remove(&mut self, id: &EndpointId) -> Option<Box<Lane>> {
        self.count_lookups(1);
        self.lanes.remove(id)
    }

    /// Counts lanes listed from an index.
    #[cfg(test)]
    pub(super) fn count_lookups(&self, lanes: usize) {
        self.lookups.set(self.lookups.get() + lanes as u64);
    }

    #[cfg(not(test))]
    pub(super) fn count_lookups(&self, _: usize) {}

    #[cfg(test)]
    pub(super) fn lookups(&self) -> u64 {
        self.lookups.get()
    }

    /// All lanes, for tests only.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&EndpointId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (id, lane.as_ref()))
    }
}

#[cfg(test)]
impl std::ops::Index<&EndpointId> for LaneTable {
    type Output = Lane;

    fn index(&self, id: &EndpointId) -> &Lane {
        &self.lanes[id]
    }
}
