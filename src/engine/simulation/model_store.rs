//! A model of the store in a few lines: deliveries, slots, leases, fencing. Its clock is the true time.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::deliveries::attempt::Trigger;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState, Progress, Transition};
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::lease_policy::HeartbeatMode;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery, PendingLane};
use crate::store::queue::slots::{LEASE, Leases, Rank};
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// The number of slots in the simulation.
pub const SLOTS: usize = 8;

/// Identifies a delivery.
pub type RowKey = (EndpointId, MessageId);

/// A delivery's row, with extra fields for the checks.
#[derive(Clone, Debug)]
pub struct Row {
    /// The sequence number at an ordered endpoint; 0: none yet.
    pub seq: i64,
    pub state: DeliveryState,
    pub due: Time,
    pub progress: Progress,
    pub reason: Option<DeadReason>,
    pub accepted: Duration,
    /// The earliest true time of a retry, given that clocks differ a little and jumps are compensated.
    pub not_before: Duration,
    pub resent: u32,
}

impl Row {
    fn waiting(&self, (endpoint_id, message_id): RowKey) -> PendingDelivery {
        PendingDelivery { message_id, endpoint_id, state: self.state, due_at: self.due, progress: self.progress }
    }
}

/// A slot's row.
#[derive(Clone, Debug, Default)]
pub struct ModelSlot {
    pub owner: Option<u64>,
    pub epoch: i64,
    pub expires: Duration,
}

/// The result of a heartbeat.
#[derive(Clone, Debug)]
pub struct HeartbeatReply {
    pub leases: Leases,
    pub share: Option<usize>,
    pub taken: Vec<u8>,
}

/// The model of the store.
#[derive(Debug, Default)]
pub struct ModelStore {
    pub shared: bool,
    /// The end of an outage.
    pub unavailable_until: Duration,
    /// A user re-enables endpoints as soon as a late 410 disables them.
    pub watched: bool,
    pub rows: BTreeMap<RowKey, Row>,
    /// The number of pending deliveries, in total and per endpoint by slot. Endpoints without any are missing.
    pub pending: usize,
    waits: BTreeMap<(u8, EndpointId), usize>,
    pub messages: HashMap<MessageId, Arc<Message>>,
    pub lives: BTreeMap<EndpointId, Arc<LiveEndpoint>>,
    pub slots: Vec<ModelSlot>,
    alive: BTreeMap<u64, Duration>,
    /// The last sequence number of each ordered endpoint.
    numbers: BTreeMap<EndpointId, i64>,
}

impl ModelStore {
    pub fn new(shared: bool, lives: &[Arc<LiveEndpoint>]) -> ModelStore {
        let lives = lives.iter().map(|live| (live.endpoint.id, live.clone())).collect();
        ModelStore { shared, lives, slots: vec![ModelSlot::default(); SLOTS], ..ModelStore::default() }
    }

    /// Accepts a message and creates its deliveries. Disabled endpoints get none.
    pub fn accept(
        &mut self,
        message: &Arc<Message>,
        now: Duration,
    ) -> (Vec<Arc<LiveEndpoint>>, HashMap<EndpointId, i64>) {
        let wants = |live: &&Arc<LiveEndpoint>| live.endpoint.app_id == message.app_id && !live.endpoint.spec.disabled;
        let lives: Vec<Arc<LiveEndpoint>> = self.lives.values().filter(wants).cloned().collect();
        let mut seqs = HashMap::new();
        for live in &lives {
            let scheduled = message.first_due() > message.accepted_at;
            let seq = if live.endpoint.spec.ordered && !scheduled { self.draw(live.endpoint.id) } else { 0 };
            if live.endpoint.spec.ordered {
                seqs.insert(live.endpoint.id, seq);
            }
            let row = Row {
                seq,
                state: DeliveryState::Fresh,
                due: message.first_due(),
                progress: Progress::default(),
                reason: None,
                accepted: now,
                not_before: Duration::ZERO,
                resent: 0,
            };
            self.rows.insert((live.endpoint.id, message.id), row);
            self.count((live.endpoint.id, message.id), false);
        }
        self.messages.insert(message.id, message.clone());
        (lives, seqs)
    }

    /// Updates the counts after a change to a delivery that was pending `before` or not.
    fn count(&mut self, key: RowKey, before: bool) {
        let (Some(row), Some(live)) = (self.rows.get(&key), self.lives.get(&key.0)) else { return };
        let here = self.waits.entry((live.slot, key.0)).or_insert(0);
        match (before, row.state.pending()) {
            (false, true) => (self.pending, *here) = (self.pending + 1, *here + 1),
            (true, false) => (self.pending, *here) = (self.pending - 1, *here - 1),
            _ => {}
        }
        if *here == 0 {
            self.waits.remove(&(live.slot, key.0));
        }
    }

    /// The next sequence number of an ordered endpoint.
    fn draw(&mut self, endpoint: EndpointId) -> i64 {
        let last = self.numbers.entry(endpoint).or_insert(0);
        *last += 1;
        *last
    }

    /// A read for an ordered endpoint.
    pub fn in_order(&self, endpoint: EndpointId, most: usize, now: Time) -> OrderedHead {
        let pending = || self.of(endpoint).filter(|(_, row)| row.state.pending());
        let mut rows: Vec<(&RowKey, &Row)> = pending().filter(|(_, row)| row.seq > 0).collect();
        rows.sort_by_key(|(_, row)| row.seq);
        rows.truncate(most);
        let more = rows.len() == most;
        let last = rows.last().map_or(0, |(_, row)| row.seq);
        let scheduled = pending().filter(|(_, row)| row.seq == 0).map(|(_, row)| row.due).min();
        OrderedHead {
            endpoint,
            up_to: if more { last } else { self.numbers.get(&endpoint).copied().unwrap_or(0) },
            more,
            unnumbered: pending().any(|(key, row)| row.seq == 0 && row.waiting(*key).is_due(now)),
            scheduled,
            waiting: rows.into_iter().map(|(key, row)| row.waiting(*key)).collect(),
        }
    }

    /// Gives due scheduled deliveries the next sequence numbers.
    pub fn number_pending(&mut self, endpoint: EndpointId, now: Time) {
        let due = |(key, row): &(&RowKey, &Row)| row.state.pending() && row.seq == 0 && row.waiting(**key).is_due(now);
        let mut due: Vec<(Time, RowKey)> = self.of(endpoint).filter(due).map(|(key, row)| (row.due, *key)).collect();
        due.sort();
        for (_, key) in due {
            let seq = self.draw(endpoint);
            self.rows.entry(key).and_modify(|row| row.seq = seq);
        }
    }

    pub fn waiting(&self, wants: &[LaneRequest]) -> Vec<PendingDelivery> {
        let mut all = Vec::new();
        for want in wants {
            let kinds = [
                (DeliveryState::Fresh, want.fresh, want.fresh_from),
                (DeliveryState::Retry, want.retries, want.retries_from),
            ];
            for (state, most, from) in kinds {
                let of_kind = self.of(want.endpoint).filter(|(_, row)| row.state == state && row.due >= from);
                let mut some: Vec<PendingDelivery> = of_kind.map(|(key, row)| row.waiting(*key)).collect();
                some.sort_by_key(|one| one.due_at);
                some.truncate(most as usize);
                all.extend(some);
            }
        }
        all.sort_by_key(|one| (one.endpoint_id, one.due_at, one.message_id));
        all
    }

    /// The deliveries of an endpoint.
    pub fn of(&self, endpoint: EndpointId) -> impl Iterator<Item = (&RowKey, &Row)> {
        let bounds = [uuid::Uuid::nil(), uuid::Uuid::max()].map(|id| (endpoint, MessageId(id)));
        self.rows.range(bounds[0]..=bounds[1])
    }

    /// The first `most` lanes with pending deliveries in these slots, each after the given endpoint.
    pub fn pending_lanes(&self, places: &[(u8, EndpointId)], most: usize) -> Vec<PendingLane> {
        let last = EndpointId(uuid::Uuid::max());
        let lane = |(slot, endpoint): (u8, EndpointId)| {
            let first = |state| self.of(endpoint).filter(|(_, row)| row.state == state).map(|(_, row)| row.due).min();
            let (fresh_due, retry_due) = (first(DeliveryState::Fresh), first(DeliveryState::Retry));
            PendingLane { endpoint, slot, fresh_due, retry_due }
        };
        let bounds = |(slot, after): &(u8, EndpointId)| (Excluded((*slot, *after)), Included((*slot, last)));
        let waits = places.iter().flat_map(|place| self.waits.range(bounds(place)).map(|(lane, _)| *lane));
        waits.take(most).map(lane).collect()
    }

    pub fn live_endpoints(&self, asked: &[EndpointId]) -> Vec<Arc<LiveEndpoint>> {
        asked.iter().filter_map(|id| self.lives.get(id)).cloned().collect()
    }

    /// Disables or enables an endpoint.
    pub fn set_disabled(&mut self, endpoint: EndpointId, disabled: bool) {
        if let Some(live) = self.lives.get_mut(&endpoint) {
            let mut endpoint = live.endpoint.clone();
            endpoint.spec.disabled = disabled;
            *live = Arc::new(LiveEndpoint {
                org: live.org.clone(),
                version: live.version + 1,
                endpoint,
                slot: live.slot,
                app_rate: live.app_rate,
                url: None,
                signing: Err(""),
            });
        }
    }

    /// Records as the real store does. The true time limits when retries may start.
    pub fn record(&mut self, batch: &[(FinishedAttempt, Duration)]) -> Vec<RecordOutcome> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|at| batch[*at].0.before.attempts);
        let mut recorded = vec![RecordOutcome::Fenced; batch.len()];
        for at in order {
            let (one, not_before) = &batch[at];
            if self.slots[usize::from(one.slot)].epoch != one.epoch {
                continue;
            }
            let Some(row) = self.rows.get_mut(&(one.attempt.endpoint_id, one.attempt.message_id)) else { continue };
            let (now, before) = (row.progress, one.before);
            if (now.generation, now.attempts) != (before.generation, before.attempts) || !row.state.pending() {
                row.progress.attempts = now.attempts.max(before.attempts + 1);
                recorded[at] = RecordOutcome::Superseded;
                continue;
            }
            recorded[at] = RecordOutcome::Applied;
            row.state = one.next.state();
            row.progress = Progress { attempts: before.attempts + 1, trigger: Trigger::Scheduled, ..before };
            match one.next {
                Transition::Retry { due, step } => {
                    (row.due, row.progress.step, row.not_before) = (due, step, *not_before);
                }
                Transition::Dead(reason) => row.reason = Some(reason),
                Transition::Delivered => {}
            }
            self.count((one.attempt.endpoint_id, one.attempt.message_id), true);
            if one.disable.is_some() && !self.watched {
                self.set_disabled(one.attempt.endpoint_id, true);
            }
        }
        recorded
    }

    /// Resends a delivery.
    pub fn resend(&mut self, key: RowKey, now: Time) {
        let ordered = self.lives.get(&key.0).is_some_and(|live| live.endpoint.spec.ordered);
        // A pending delivery keeps its place; an ended one goes to the end.
        let last = self.rows.get(&key).is_some_and(|row| !row.state.pending() || row.seq == 0);
        let seq = if ordered && last { self.draw(key.0) } else { 0 };
        if let Some(row) = self.rows.get_mut(&key).filter(|_| seq > 0) {
            row.seq = seq;
        }
        if let Some(row) = self.rows.get_mut(&key) {
            let before = row.state.pending();
            (row.state, row.due, row.reason, row.not_before) = (DeliveryState::Fresh, now, None, Duration::ZERO);
            row.progress.step = 0;
            row.progress.generation += 1;
            row.progress.trigger = Trigger::Manual;
            row.resent += 1;
            self.count(key, before);
        }
    }

    /// Cancels a delivery. Returns `false` if it has ended already.
    pub fn cancel(&mut self, key: RowKey) -> bool {
        let Some(row) = self.rows.get_mut(&key).filter(|row| row.state.pending()) else { return false };
        (row.state, row.reason) = (DeliveryState::Dead, Some(DeadReason::Canceled));
        row.progress.generation += 1;
        self.count(key, true);
        true
    }

    pub fn heartbeat(&mut self, process: u64, mode: HeartbeatMode, now: Duration) -> HeartbeatReply {
        let until = now + LEASE;
        if mode == HeartbeatMode::Leaving {
            self.alive.remove(&process);
        } else {
            self.alive.insert(process, until);
        }
        let mut mine = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.owner == Some(process)) {
            slot.expires = until;
            mine += 1;
        }
        let living = || self.alive.iter().filter(|(_, until)| **until > now).map(|(id, _)| *id);
        let rank = Rank { index: living().filter(|id| *id < process).count(), of: living().count().max(1) };
        let share = if self.shared { rank.share_of(SLOTS) } else { SLOTS };
        let mut taken = Vec::new();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let free = match mode {
                HeartbeatMode::Leaving => false,
                // Holding the file lock proves that the previous owner is gone.
                _ if !self.shared => slot.owner != Some(process),
                HeartbeatMode::Sparing => slot.owner.is_none(),
                HeartbeatMode::Taking => slot.owner.is_none() || slot.expires < now,
            };
            if free && mine + taken.len() < share {
                *slot = ModelSlot { owner: Some(process), epoch: slot.epoch + 1, expires: until };
                taken.push(number as u8);
            }
        }
        let owned = |(_, slot): &(usize, &ModelSlot)| slot.owner == Some(process);
        let leases = self.slots.iter().enumerate().filter(owned).map(|(at, slot)| (at as u8, slot.epoch)).collect();
        HeartbeatReply { leases, share: self.shared.then_some(share), taken }
    }

    /// Whether every slot has an owner and every live process its share.
    pub fn evenly_distributed(&self, now: Duration) -> bool {
        let living: Vec<u64> = self.alive.iter().filter(|(_, until)| **until > now).map(|(id, _)| *id).collect();
        let owns = |id: u64| self.slots.iter().filter(|slot| slot.owner == Some(id)).count();
        let of = living.len().max(1);
        let fair = living.iter().enumerate().all(|(index, id)| owns(*id) == Rank { index, of }.share_of(SLOTS));
        !self.shared || living.is_empty() || fair
    }

    pub fn release_slots(&mut self, process: u64, slots: &[u8]) {
        for number in slots {
            let slot = &mut self.slots[usize::from(*number)];
            if slot.owner == Some(process) {
                (slot.owner, slot.expires) = (None, Duration::ZERO);
            }
        }
    }

    pub fn depart(&mut self, process: u64) {
        self.release_slots(process, &(0..SLOTS as u8).collect::<Vec<u8>>());
        self.alive.remove(&process);
    }
}
