//! Calls of processes to the store and their replies. Both take time, and either may be lost.

use std::time::Duration;

use super::checks::CheckResult;
use super::model_store::HeartbeatReply;
use super::process::LeaseOperation;
use super::world::{SimEvent, World, note, short, short_of};
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::endpoint_loads::EndpointLoad;
use crate::engine::core::event::{CoreEvent, LoadResult, ReadResult, RecordResult};
use crate::engine::core::lane::QUEUE;
use crate::engine::core::lease_policy::HeartbeatMode;
use crate::engine::core::scanning::ScanPosition;
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::pending_deliveries::LaneRequest;
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// The recorder's backoff.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A call to the store.
pub enum StoreCall {
    Read(Vec<LaneRequest>, ClockReading),
    Scan(ScanPosition),
    Number(EndpointId, Time),
    Load(EndpointLoad),
    Record(Vec<(FinishedAttempt, Duration)>),
    Heartbeat(HeartbeatMode, Duration),
    HandBack(Vec<u8>),
    Depart,
}

/// A reply of the store.
pub enum StoreReply {
    Event(Box<CoreEvent>),
    Recorded(Vec<(FinishedAttempt, Duration)>, Option<Vec<RecordOutcome>>),
    Heartbeat(Duration, Option<HeartbeatReply>),
    HandedBack(Vec<u8>, bool),
    Departed,
}

impl World {
    /// A call reaches the store.
    pub fn call(&mut self, id: u64, call: StoreCall) -> CheckResult {
        let alive = self.processes.contains_key(&id);
        // A call sent before the process died may still arrive, except in a file-based store.
        if !alive && (!self.case.shared || self.rng.chance(50)) {
            return Ok(());
        }
        let away = self.now < self.store.unavailable_until;
        // Committed, but the reply is lost.
        let reply_lost = away || (!self.case.calm && self.healed_at.is_none() && self.rng.chance(1));
        let reply = match call {
            StoreCall::Read(wants, _) if reply_lost => StoreReply::Event(Box::new(CoreEvent::Read(Err(wants)))),
            StoreCall::Read(wants, clocks) => self.read(wants, clocks),
            StoreCall::Scan(scan) => {
                let most = self.case.page;
                let page = (!reply_lost).then(|| {
                    let lanes = self.store.pending_lanes(&scan.places(), most);
                    scan.page(lanes, most)
                });
                StoreReply::Event(Box::new(CoreEvent::Scanned(page)))
            }
            StoreCall::Number(endpoint, now) => {
                if !away {
                    self.store.number_pending(endpoint, now);
                }
                StoreReply::Event(Box::new(CoreEvent::Numbered(endpoint, !reply_lost)))
            }
            StoreCall::Load(load) => {
                let lives = (!reply_lost).then(|| self.store.live_endpoints(&load.endpoints));
                StoreReply::Event(Box::new(CoreEvent::Loaded(LoadResult { load, lives })))
            }
            StoreCall::Record(batch) => {
                let recorded = if away { None } else { Some(self.recorded(id, &batch)?) };
                StoreReply::Recorded(batch, recorded.filter(|_| !reply_lost))
            }
            StoreCall::Heartbeat(mode, began) => {
                let lost =
                    away || self.processes.get(&id).is_some_and(|process| self.now < process.heartbeats_lost_until);
                let outcome = if lost { None } else { Some(self.heartbeat(id, mode)?) };
                StoreReply::Heartbeat(began, outcome.filter(|_| !reply_lost))
            }
            StoreCall::HandBack(slots) => {
                if !away {
                    self.checks.slots_returned(id, &slots)?;
                    self.store.release_slots(id, &slots);
                }
                StoreReply::HandedBack(slots, !reply_lost)
            }
            StoreCall::Depart => {
                if !away {
                    note!(self, "process {id} returns its slots and exits");
                    self.store.depart(id);
                }
                StoreReply::Departed
            }
        };
        let delay = if away { self.rng.millis(5, 1_500) } else { self.latency() };
        self.after(delay, SimEvent::Reply(id, reply));
        Ok(())
    }

    fn read(&self, wants: Vec<LaneRequest>, clocks: ClockReading) -> StoreReply {
        let (ordered, free): (Vec<LaneRequest>, Vec<LaneRequest>) = wants.iter().partition(|want| want.ordered);
        let waiting = self.store.waiting(&free);
        let in_order: Vec<OrderedHead> =
            ordered.iter().map(|want| self.store.in_order(want.endpoint, QUEUE, clocks.time)).collect();
        let all = in_order.iter().flat_map(|order| &order.waiting).chain(&waiting);
        let due = all.filter(|one| one.is_due(clocks.time));
        let message = |id: MessageId| self.store.messages.get(&id).map(|message| (id, message.clone()));
        let messages = due.filter_map(|one| message(one.message_id)).collect();
        StoreReply::Event(Box::new(CoreEvent::Read(Ok(ReadResult { wants, waiting, in_order, messages }))))
    }

    fn recorded(&mut self, id: u64, batch: &[(FinishedAttempt, Duration)]) -> Result<Vec<RecordOutcome>, String> {
        let key = |one: &FinishedAttempt| (one.attempt.endpoint_id, one.attempt.message_id);
        let state = |world: &World, one: &FinishedAttempt| {
            world.store.rows.get(&key(one)).map(|row| (row.state, row.due, row.progress))
        };
        let fenced = |world: &World, one: &FinishedAttempt| world.store.slots[usize::from(one.slot)].epoch != one.epoch;
        let stale: Vec<_> = batch.iter().map(|(one, _)| fenced(self, one).then(|| state(self, one))).collect();
        let results = self.store.record(batch);
        for (((one, _), before), result) in batch.iter().zip(stale).zip(&results) {
            note!(
                self,
                "process {id} recorded {} to {}: {:?} {result:?}",
                short(key(one).1),
                short_of(key(one).0),
                one.next
            );
            self.checks.recorded(key(one), id, one.epoch);
            let others = || batch.iter().any(|(other, _)| key(other) == key(one) && other.epoch != one.epoch);
            if before.is_some_and(|before| before != state(self, one) && !others()) {
                return Err(format!("fencing: process {id} changed {} without owning it", short(key(one).1)));
            }
        }
        Ok(results)
    }

    fn heartbeat(&mut self, id: u64, mode: HeartbeatMode) -> Result<HeartbeatReply, String> {
        let outcome = self.store.heartbeat(id, mode, self.now);
        for slot in &outcome.taken {
            let epoch = self.store.slots[usize::from(*slot)].epoch;
            note!(self, "process {id} takes slot {slot}, epoch {epoch}");
            self.checks.taken(*slot, epoch)?;
        }
        Ok(outcome)
    }

    /// A reply reaches the process.
    pub fn reply(&mut self, id: u64, reply: StoreReply) -> CheckResult {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        match reply {
            StoreReply::Event(event) => return self.core(id, Some(*event)),
            StoreReply::Recorded(batch, None) => {
                process.record_backoff = (process.record_backoff * 2).clamp(RETRY_BACKOFF.0, RETRY_BACKOFF.1);
                let again = process.record_backoff;
                self.after(again, SimEvent::Call(id, StoreCall::Record(batch)));
            }
            StoreReply::Recorded(batch, Some(results)) => {
                (process.recording, process.record_backoff) = (false, Duration::ZERO);
                let settled =
                    batch.iter().zip(results).map(|((one, _), result)| RecordResult::of(one, result)).collect();
                self.record(id);
                return self.core(id, Some(CoreEvent::Recorded(settled)));
            }
            StoreReply::Heartbeat(began, None) => {
                process.policy.failed(began);
                let took = process.mono(now).saturating_sub(began);
                let pause = process.policy.pause(took);
                self.after(pause, SimEvent::LeaseOperation(id, LeaseOperation::Heartbeat));
                self.next_lease_operation(id);
            }
            StoreReply::Heartbeat(began, Some(outcome)) => {
                let outcome = process.policy.succeeded(began, outcome.leases, outcome.share);
                for (slot, epoch) in &outcome.leases {
                    process.leased.entry((*slot, *epoch)).or_insert(now);
                }
                let took = process.mono(now).saturating_sub(began);
                let pause = process.policy.pause(took);
                self.after(pause, SimEvent::LeaseOperation(id, LeaseOperation::Heartbeat));
                self.next_lease_operation(id);
                self.core(id, Some(CoreEvent::Leases(outcome.leases, outcome.until)))?;
                return self.core(id, Some(CoreEvent::Release(outcome.surplus)));
            }
            StoreReply::HandedBack(slots, done) => {
                process.policy.returned(slots, done);
                if let Some(again) = process.policy.return_retry() {
                    let slots = process.policy.take_unreturned();
                    self.after(again, SimEvent::LeaseOperation(id, LeaseOperation::HandBack(slots)));
                }
                self.next_lease_operation(id);
            }
            StoreReply::Departed => {
                note!(self, "process {id} exited at {:?}", now);
                self.processes.remove(&id);
            }
        }
        Ok(())
    }
}
