//! Loads of endpoint rows: which endpoints wait for one, which loads are under way, and which results are stale.
//!
//! Loads run in chunks, a few at a time, so their cost does not grow with the number of lanes. A change that concerns
//! many lanes (an application changed, a signal was lost) is an [`EndpointGroup`], reloaded chunk by chunk; its
//! endpoints are never listed all at once.
//!
//! A result is stale if its application changed after the load began. The change was signalled before the lane
//! existed, and a store that no other process shares signals it only once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::domain::{AppId, EndpointId};
use crate::store::ingest::message_routing::LiveEndpoint;

/// Maximum endpoints in one load.
const CHUNK: usize = 1_000;
/// Maximum endpoints of changed applications in a load while other endpoints wait, so neither group starves.
const CHANGED: usize = CHUNK / 2;
/// Maximum concurrent loads.
const AT_ONCE: usize = 2;
/// Maximum endpoints that wait for a first load (16 bytes each). The same limit applies to those that wait for a retry.
/// A later scan finds unknown endpoints beyond this.
const WAITING: usize = 262_144;

/// A group of endpoints with a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointGroup {
    /// The endpoints of one application.
    App(AppId),
    /// The endpoints of one slot.
    Slot(u8),
}

/// Endpoints to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointLoad {
    pub endpoints: Vec<EndpointId>,
    number: u64,
}

/// The progress of reloading a group.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    after: Option<EndpointId>,
    /// The group changed meanwhile. It is reloaded once more after this pass, so a pass always reaches its end.
    again: bool,
}

/// Groups to reload, longest waiting first.
#[derive(Debug, Default)]
struct ReloadQueue {
    cursors: BTreeMap<EndpointGroup, Cursor>,
    order: VecDeque<EndpointGroup>,
}

impl ReloadQueue {
    /// Adds a group. If a pass is under way, it continues, followed by another pass if `again`.
    fn add(&mut self, part: EndpointGroup, again: bool) {
        match self.cursors.get_mut(&part) {
            Some(cursor) => cursor.again |= again && cursor.after.is_some(),
            None => {
                self.cursors.insert(part, Cursor::default());
                self.order.push_back(part);
            }
        }
    }

    /// Fills `asked` with the next endpoints, up to `most`.
    fn take(&mut self, asked: &mut BTreeSet<EndpointId>, most: usize, listed: &EndpointLister) {
        while asked.len() < most {
            let Some(part) = self.order.front().copied() else { return };
            let Some(cursor) = self.cursors.get_mut(&part) else { return };
            let room = most - asked.len();
            let some = listed(part, cursor.after, room);
            cursor.after = some.last().copied();
            let ended = some.len() < room;
            asked.extend(some);
            if ended {
                self.order.pop_front();
                if std::mem::take(&mut cursor.again) {
                    *cursor = Cursor::default();
                    self.order.push_back(part);
                } else {
                    self.cursors.remove(&part);
                }
            }
        }
    }
}

/// Lists the endpoints of a group that have a lane: those after an id, in the order of ids, up to a number.
pub type EndpointLister<'l> = dyn Fn(EndpointGroup, Option<EndpointId>, usize) -> Vec<EndpointId> + 'l;

/// Loads under way and endpoints that wait for one.
#[derive(Debug, Default)]
pub struct EndpointLoads {
    next: u64,
    waiting: BTreeSet<EndpointId>,
    /// Endpoints whose load failed, and those to load again because a scan has reached the store since.
    failed: BTreeSet<EndpointId>,
    retried: BTreeSet<EndpointId>,
    /// Applications that changed, and slots whose endpoints may have changed.
    apps: ReloadQueue,
    slots: ReloadQueue,
    /// The endpoints of each load under way.
    outstanding: BTreeMap<u64, HashSet<EndpointId>>,
    /// Applications that changed during a load. A load with a smaller number is stale.
    changed: HashMap<AppId, u64>,
    /// The same for all applications.
    all_changed: u64,
}

impl EndpointLoads {
    /// Queues unknown endpoints for loading, unless they wait already, are being loaded, or [`WAITING`] is reached.
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

    /// Reloads the endpoints of these slots: other processes may have changed them.
    pub fn reload_slots(&mut self, slots: impl IntoIterator<Item = u8>) {
        slots.into_iter().for_each(|slot| self.slots.add(EndpointGroup::Slot(slot), false));
    }

    /// Reloads the endpoints of a changed application, including those being loaded now.
    pub fn changed(&mut self, app: AppId) {
        if !self.outstanding.is_empty() {
            self.changed.insert(app, self.next + 1);
        }
        self.apps.add(EndpointGroup::App(app), true);
    }

    /// Every application may have changed.
    pub fn all_changed(&mut self) {
        self.all_changed = self.next + 1;
        (0..=u8::MAX).for_each(|slot| self.slots.add(EndpointGroup::Slot(slot), true));
    }

    /// The next load, if one may begin. `listed` lists the endpoints of a group.
    pub fn begin(&mut self, listed: &EndpointLister) -> Option<EndpointLoad> {
        if self.outstanding.len() >= AT_ONCE {
            return None;
        }
        let mut asked = BTreeSet::new();
        self.apps.take(&mut asked, CHANGED, listed);
        for ids in [&mut self.waiting, &mut self.retried] {
            while asked.len() < CHUNK
                && let Some(id) = ids.pop_first()
            {
                asked.insert(id);
            }
        }
        self.slots.take(&mut asked, CHUNK, listed);
        self.apps.take(&mut asked, CHUNK, listed);
        if asked.is_empty() {
            return None;
        }
        self.next += 1;
        self.outstanding.insert(self.next, asked.iter().copied().collect());
        Some(EndpointLoad { endpoints: asked.into_iter().collect(), number: self.next })
    }

    /// Ends a load. Stale endpoints in `lives` are queued again.
    pub fn finish(&mut self, load: &EndpointLoad, lives: &[Arc<LiveEndpoint>]) {
        let outdated = |app: &AppId| {
            load.number < self.all_changed || self.changed.get(app).is_some_and(|since| load.number < *since)
        };
        let again = lives.iter().filter(|live| outdated(&live.endpoint.app_id)).map(|live| live.endpoint.id);
        self.waiting.extend(again);
        self.outstanding.remove(&load.number);
        let first = self.outstanding.keys().next().copied().unwrap_or(u64::MAX);
        // An entry stays for about two loads.
        self.changed.retain(|_, since| first < *since);
    }

    /// Keeps the endpoints of a failed load until [`EndpointLoads::retry`].
    pub fn failed(&mut self, load: EndpointLoad) {
        if self.failed.len() < WAITING {
            self.failed.extend(load.endpoints);
        } else {
            // Too many to list: reload every lane instead. A later scan finds the rest.
            self.all_changed();
        }
    }

    /// Queues failed loads again: the store is reachable.
    pub fn retry(&mut self) {
        if self.retried.is_empty() {
            self.retried = std::mem::take(&mut self.failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> EndpointId {
        EndpointId(uuid::Uuid::from_u128(number))
    }

    fn ids(numbers: std::ops::Range<u128>) -> Vec<EndpointId> {
        numbers.map(id).collect()
    }

    /// Lists `lanes` endpoints of one application, all in one slot.
    fn listing(lanes: u128) -> impl Fn(EndpointGroup, Option<EndpointId>, usize) -> Vec<EndpointId> {
        move |part, after, most| {
            let first = after.map_or(0, |after| after.0.as_u128() + 1);
            let ours = matches!(part, EndpointGroup::Slot(0)) || part == EndpointGroup::App(app(0));
            ids(first..if ours { lanes } else { 0 }).into_iter().take(most).collect()
        }
    }

    fn app(number: u128) -> AppId {
        AppId(uuid::Uuid::from_u128(number))
    }

    fn none(_: EndpointGroup, _: Option<EndpointId>, _: usize) -> Vec<EndpointId> {
        Vec::new()
    }

    #[test]
    fn loads_go_in_chunks_and_a_few_at_a_time() {
        let mut loads = EndpointLoads::default();
        loads.add_unknown(ids(0..2_500));
        let first = loads.begin(&none).unwrap();
        let second = loads.begin(&none).unwrap();
        assert_eq!((first.endpoints.len(), second.endpoints.len()), (CHUNK, CHUNK));
        assert_eq!(loads.begin(&none), None, "two are under way");
        loads.add_unknown(ids(0..2_500));
        loads.finish(&first, &[]);
        assert_eq!(
            loads.begin(&none).unwrap().endpoints,
            ids(2_000..2_500),
            "endpoints being loaded are not requested again"
        );
        loads.finish(&second, &[]);
        assert_eq!(loads.begin(&none), None);
    }

    #[test]
    fn a_change_while_an_endpoint_is_being_loaded_loads_it_again() {
        let mut loads = EndpointLoads::default();
        loads.add_unknown(ids(0..1));
        let load = loads.begin(&listing(1)).unwrap();
        loads.changed(app(0));
        assert_eq!(loads.begin(&listing(1)).map(|load| load.endpoints), Some(ids(0..1)));
        loads.finish(&load, &[]);
    }

    #[test]
    fn a_reload_reaches_its_end_even_if_the_group_keeps_changing() {
        let (mut loads, listed) = (EndpointLoads::default(), listing(2_300));
        let (mut seen, mut loaded) = (BTreeSet::new(), 0);
        for _ in 0..3 {
            loads.changed(app(0));
            let load = loads.begin(&listed).unwrap();
            assert!(load.endpoints.len() <= CHUNK);
            loaded += load.endpoints.len();
            seen.extend(load.endpoints.iter().copied());
            loads.finish(&load, &[]);
        }
        assert!(seen.into_iter().eq(ids(0..2_300)), "all of them, although the group changed in between");
        while let Some(load) = loads.begin(&listed) {
            loaded += load.endpoints.len();
            loads.finish(&load, &[]);
        }
        assert_eq!(loaded, 2 * 2_300, "and once more, for the changes meanwhile");
    }

    #[test]
    fn a_changing_group_does_not_delay_unknown_endpoints() {
        let (mut loads, listed) = (EndpointLoads::default(), listing(5_000));
        loads.changed(app(0));
        loads.add_unknown(ids(10_000..10_600));
        let load = loads.begin(&listed).unwrap();
        assert_eq!(load.endpoints[CHANGED..], ids(10_000..10_500), "one half each");
        loads.finish(&load, &[]);
        loads.reload_slots([0, 1]);
        let load = loads.begin(&listed).unwrap();
        assert_eq!(load.endpoints.len(), CHUNK);
        assert!(load.endpoints.ends_with(&ids(10_500..10_600)));
    }

    #[test]
    fn a_lost_signal_makes_every_load_under_way_stale() {
        let (mut loads, live) = (EndpointLoads::default(), crate::engine::core::lanes::tests::world::live(3, |_| {}));
        loads.add_unknown(ids(3..4));
        let load = loads.begin(&none).unwrap();
        loads.all_changed();
        loads.finish(&load, &[live]);
        assert_eq!(loads.begin(&none).map(|load| load.endpoints), Some(ids(3..4)));
    }

    #[test]
    fn failed_loads_are_retried_when_the_store_is_back() {
        let mut loads = EndpointLoads::default();
        loads.add_unknown(ids(0..3));
        let load = loads.begin(&none).unwrap();
        loads.finish(&load, &[]);
        loads.failed(load);
        assert_eq!(loads.begin(&none), None, "not in a hot loop");
        loads.retry();
        assert_eq!(loads.begin(&none).map(|load| load.endpoints), Some(ids(0..3)));
    }

    #[test]
    fn the_waiting_endpoints_are_bounded() {
        let mut loads = EndpointLoads::default();
        loads.add_unknown(ids(0..WAITING as u128 + 10));
        assert_eq!(loads.waiting.len(), WAITING);
    }
}
