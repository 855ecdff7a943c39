//! Checks the indexes against all lanes.

use super::*;

impl Lanes {
    /// Whether a later step sends for this lane: this step ended early, or the lane is backlogged and throttled.
    pub(in crate::engine) fn sends_later(&self, id: EndpointId) -> bool {
        let behind = self.lanes.get(&id).is_some_and(|lane| lane.backlogged_until.is_some());
        self.visits >= PER_STEP || behind && self.throttle.rate().is_some()
    }

    /// The number of lane lookups, including those through an index.
    pub(in crate::engine) fn lookups(&self) -> u64 {
        self.lanes.lookups()
    }

    /// Checks every index against the lanes. Panics on a difference.
    pub(in crate::engine) fn check_indexes(&self) {
        let (mut busy, mut by) = ([0; SLOTS], [0; 3]);
        let (mut looks, mut wakes, mut crowded) = (0, 0, 0);
        let mut to_read = 0;
        let mut lined: HashMap<EndpointId, usize> = HashMap::new();
        self.lines.iter().flat_map(FairQueue::iter).for_each(|id| *lined.entry(id).or_default() += 1);
        for (id, lane) in self.lanes.all() {
            let (slot, listed) = (&self.slots[usize::from(lane.slot)], lane.positions);
            assert!(slot.lanes.contains(id) && self.by_app[&lane.live.endpoint.app_id].contains(id));
            assert!(
                lane.lease_seen == slot.changes || self.renewing.contains_key(&lane.slot),
                "it never hears of its lease"
            );
            busy[usize::from(lane.slot)] += usize::from(lane.busy());
            by[lane.kind as usize] += lane.in_flight;
            assert_eq!(listed.read_due, lane.read_due().filter(|_| lane.roomy()).filter(|_| listed.read_due.is_some()));
            if let Some((line, ticket)) = listed.to_read {
                assert!(
                    listed.read_due.is_none() && self.to_read[line].contains(lane.live.endpoint.app_id, *id, ticket)
                );
                to_read += 1;
            }
            let check = listed.check.expect("every lane has a next check");
            assert!(self.checks.contains(&(check, *id)));
            assert!(lane.next_change().is_none_or(|at| check <= at), "a change is missed");
            looks += usize::from(listed.read_due.is_some_and(|at| self.reads_due.contains(&(at, *id))));
            wakes += usize::from(listed.wake.is_some_and(|(at, turn)| self.wakes.contains(&(at, turn, *id))));
            if let Some(place) = listed.awaiting_share {
                assert!(listed.enqueued && place.0 == lane.kind, "it waits for the share of another kind");
                crowded += usize::from(self.shares.waits(lane.live.endpoint.app_id, *id, place));
            }
            assert_eq!(
                lined.remove(id).unwrap_or(0),
                usize::from(listed.enqueued && listed.awaiting_share.is_none()),
                "it stands in line once or not"
            );
        }
        assert_eq!(self.slots.iter().map(|slot| slot.busy).collect::<Vec<_>>(), busy);
        assert_eq!(self.slots.iter().map(|slot| slot.lanes.len()).sum::<usize>(), self.lanes.len());
        assert_eq!(self.by_app.values().map(BTreeSet::len).sum::<usize>(), self.lanes.len());
        assert!(lined.is_empty(), "an endpoint without a lane is queued");
        assert_eq!(self.shares.counts(), (by, crowded));
        assert_eq!((self.reads_due.len(), self.wakes.len()), (looks, wakes));
        assert_eq!(self.to_read.iter().map(FairQueue::len).sum::<usize>(), to_read);
        assert_eq!(self.checks.len(), self.lanes.len());
    }
}
