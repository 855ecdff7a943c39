//! Loads of endpoints: which endpoints wait to be loaded, which loads are under way, and which results are out of date.
//!
//! Endpoints are loaded in chunks, a few at a time, so that neither one load nor all of them together grow with the number of lanes.
//! A result is out of date when its application changed after the load began: its lanes may not have existed yet when the change was
//! signalled, and with a store of our own nothing else would tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::{AppId, EndpointId};
use crate::store::ingest::routing::LiveEndpoint;

/// How many endpoints one load covers at most.
const CHUNK: usize = 1_000;
/// How many loads are under way at once.
const AT_ONCE: usize = 2;
/// How many unknown endpoints may wait to be loaded (16 bytes each). Those beyond it are found by a later scan.
const WAITING: usize = 262_144;

/// Endpoints that are to be loaded as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub asked: Vec<EndpointId>,
    number: u64,
}

/// The loads under way, and what waits for its turn.
#[derive(Debug, Default)]
pub struct Loads {
    next: u64,
    waiting: BTreeSet<EndpointId>,
    /// The endpoints of each load under way.
    outstanding: BTreeMap<u64, HashSet<EndpointId>>,
    /// Applications that changed while something was being loaded: a load with a smaller number than this is out of date.
    changed: HashMap<AppId, u64>,
}

impl Loads {
    /// These endpoints have changed, or may have: each is loaded (again), also where a load of it is under way.
    pub fn add(&mut self, endpoints: impl IntoIterator<Item = EndpointId>) {
        self.waiting.extend(endpoints);
    }

    /// These endpoints are unknown. They are loaded unless they wait already, are being loaded, or too many wait.
    pub fn add_unknown(&mut self, endpoints: impl IntoIterator<Item = EndpointId>) {
        for id in endpoints {
            if self.waiting.len() >= WAITING {
                return;
            }
            if !self.outstanding.values().any(|asked| asked.contains(&id)) {
                self.waiting.insert(id);
            }
        }
    }

    /// The next load, if one may begin.
    pub fn begin(&mut self) -> Option<Load> {
        if self.waiting.is_empty() || self.outstanding.len() >= AT_ONCE {
            return None;
        }
        let mut asked = Vec::with_capacity(CHUNK.min(self.waiting.len()));
        while asked.len() < CHUNK {
            let Some(id) = self.waiting.pop_first() else { break };
            asked.push(id);
        }
        self.next += 1;
        self.outstanding.insert(self.next, asked.iter().copied().collect());
        Some(Load { asked, number: self.next })
    }

    /// Whether no endpoint waits to be loaded or is being loaded.
    pub fn idle(&self) -> bool {
        self.waiting.is_empty() && self.outstanding.is_empty()
    }

    /// An application has changed.
    pub fn changed(&mut self, app: AppId) {
        if !self.outstanding.is_empty() {
            self.changed.insert(app, self.next + 1);
        }
    }

    /// A load has ended. Those of `lives` that are out of date already will be loaded again.
    pub fn ended(&mut self, load: &Load, lives: &[Arc<LiveEndpoint>]) {
        let outdated = |app: &AppId| self.changed.get(app).is_some_and(|since| load.number < *since);
        let again = lives.iter().filter(|live| outdated(&live.endpoint.app_id)).map(|live| live.endpoint.id);
        self.waiting.extend(again);
        self.outstanding.remove(&load.number);
        let first = self.outstanding.keys().next().copied().unwrap_or(u64::MAX);
        self.changed.retain(|_, since| first < *since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u128>) -> Vec<EndpointId> {
        numbers.map(|number| EndpointId(uuid::Uuid::from_u128(number))).collect()
    }

    #[test]
    fn loads_go_in_chunks_and_a_few_at_a_time() {
        let mut loads = Loads::default();
        loads.add_unknown(ids(0..2_500));
        let first = loads.begin().unwrap();
        let second = loads.begin().unwrap();
        assert_eq!((first.asked.len(), second.asked.len()), (CHUNK, CHUNK));
        assert_eq!(loads.begin(), None, "two are under way");
        loads.add_unknown(ids(0..2_500));
        loads.ended(&first, &[]);
        assert_eq!(loads.begin().unwrap().asked, ids(2_000..2_500), "what is being loaded is not asked for again");
        loads.ended(&second, &[]);
        assert_eq!(loads.begin(), None);
    }

    #[test]
    fn a_change_while_an_endpoint_is_being_loaded_loads_it_again() {
        let mut loads = Loads::default();
        loads.add_unknown(ids(0..1));
        let load = loads.begin().unwrap();
        loads.add(ids(0..1));
        loads.ended(&load, &[]);
        assert_eq!(loads.begin().map(|load| load.asked), Some(ids(0..1)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut loads = Loads::default();
        loads.add_unknown(ids(0..WAITING as u128 + 10));
        assert_eq!(loads.waiting.len(), WAITING);
    }
}
