//! Calls of processes to the store and their replies. Both take time, and either may be lost.

use std::time::Duration;

use super::checks::Verdict;
use super::process::Deed;
use super::store::Beaten;
use super::world::{What, World, note, short, short_of};
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::endpoint_loads::Load;
use crate::engine::core::event::{Event, Loaded, Reading, Settled};
use crate::engine::core::lane::QUEUE;
use crate::engine::core::lease_policy::Beat;
use crate::engine::core::scanning::Scan;
use crate::store::queue::in_order::InOrder;
use crate::store::queue::waiting::LaneWants;
use crate::store::recording::record::{Finished, Recorded};

/// The recorder's backoff.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A call to the store.
pub enum Ask {
    Read(Vec<LaneWants>, ClockReading),
    Scan(Scan),
    Number(EndpointId, Time),
    Load(Load),
    Record(Vec<(Finished, Duration)>),
    Heartbeat(Beat, Duration),
    HandBack(Vec<u8>),
    Depart,
}

/// A reply of the store.
pub enum Reply {
    Event(Box<Event>),
    Recorded(Vec<(Finished, Duration)>, Option<Vec<Recorded>>),
    Beaten(Duration, Option<Beaten>),
    HandedBack(Vec<u8>, bool),
    Departed,
}

impl World {
    /// A call reaches the store.
    pub fn ask(&mut self, id: u64, ask: Ask) -> Verdict {
        let alive = self.processes.contains_key(&id);
        // A call sent before the process died may still arrive, except in a file-based store.
        if !alive && (!self.case.shared || self.dice.chance(50)) {
            return Ok(());
        }
        let away = self.now < self.store.away_until;
        // Committed, but the reply is lost.
        let unheard = away || (!self.case.calm && self.healed.is_none() && self.dice.chance(1));
        let reply = match ask {
            Ask::Read(wants, _) if unheard => Reply::Event(Box::new(Event::Read(Err(wants)))),
            Ask::Read(wants, moment) => self.read(wants, moment),
            Ask::Scan(scan) => {
                let most = self.case.page;
                let page = (!unheard).then(|| {
                    let lanes = self.store.pending_lanes(&scan.places(), most);
                    scan.page(lanes, most)
                });
                Reply::Event(Box::new(Event::Scanned(page)))
            }
            Ask::Number(endpoint, now) => {
                if !away {
                    self.store.number_pending(endpoint, now);
                }
                Reply::Event(Box::new(Event::Numbered(endpoint, !unheard)))
            }
            Ask::Load(load) => {
                let lives = (!unheard).then(|| self.store.live_endpoints(&load.asked));
                Reply::Event(Box::new(Event::Loaded(Loaded { load, lives })))
            }
            Ask::Record(batch) => {
                let recorded = if away { None } else { Some(self.recorded(id, &batch)?) };
                Reply::Recorded(batch, recorded.filter(|_| !unheard))
            }
            Ask::Heartbeat(beat, began) => {
                let lost = away || self.processes.get(&id).is_some_and(|process| self.now < process.beats_lost_until);
                let beaten = if lost { None } else { Some(self.heartbeat(id, beat)?) };
                Reply::Beaten(began, beaten.filter(|_| !unheard))
            }
            Ask::HandBack(slots) => {
                if !away {
                    self.checks.handed_back(id, &slots)?;
                    self.store.hand_back(id, &slots);
                }
                Reply::HandedBack(slots, !unheard)
            }
            Ask::Depart => {
                if !away {
                    note!(self, "process {id} returns its slots and exits");
                    self.store.depart(id);
                }
                Reply::Departed
            }
        };
        let way = if away { self.dice.millis(5, 1_500) } else { self.way() };
        self.after(way, What::Reply(id, reply));
        Ok(())
    }

    fn read(&self, wants: Vec<LaneWants>, moment: ClockReading) -> Reply {
        let (ordered, free): (Vec<LaneWants>, Vec<LaneWants>) = wants.iter().partition(|want| want.ordered);
        let waiting = self.store.waiting(&free);
        let in_order: Vec<InOrder> =
            ordered.iter().map(|want| self.store.in_order(want.endpoint, QUEUE, moment.time)).collect();
        let all = in_order.iter().flat_map(|order| &order.waiting).chain(&waiting);
        let due = all.filter(|one| one.is_due(moment.time));
        let message = |id: MessageId| self.store.messages.get(&id).map(|message| (id, message.clone()));
        let messages = due.filter_map(|one| message(one.message_id)).collect();
        Reply::Event(Box::new(Event::Read(Ok(Reading { wants, waiting, in_order, messages }))))
    }

    fn recorded(&mut self, id: u64, batch: &[(Finished, Duration)]) -> Result<Vec<Recorded>, String> {
        let key = |one: &Finished| (one.attempt.endpoint_id, one.attempt.message_id);
        let state = |world: &World, one: &Finished| {
            world.store.rows.get(&key(one)).map(|row| (row.state, row.due, row.progress))
        };
        let fenced = |world: &World, one: &Finished| world.store.slots[usize::from(one.slot)].epoch != one.epoch;
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

    fn heartbeat(&mut self, id: u64, beat: Beat) -> Result<Beaten, String> {
        let beaten = self.store.heartbeat(id, beat, self.now);
        for slot in &beaten.taken {
            let epoch = self.store.slots[usize::from(*slot)].epoch;
            note!(self, "process {id} takes slot {slot}, epoch {epoch}");
            self.checks.taken(*slot, epoch)?;
        }
        Ok(beaten)
    }

    /// A reply reaches the process.
    pub fn reply(&mut self, id: u64, reply: Reply) -> Verdict {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        match reply {
            Reply::Event(event) => return self.core(id, Some(*event)),
            Reply::Recorded(batch, None) => {
                process.record_again = (process.record_again * 2).clamp(AGAIN.0, AGAIN.1);
                let again = process.record_again;
                self.after(again, What::Ask(id, Ask::Record(batch)));
            }
            Reply::Recorded(batch, Some(results)) => {
                (process.recording, process.record_again) = (false, Duration::ZERO);
                let settled = batch.iter().zip(results).map(|((one, _), result)| Settled::of(one, result)).collect();
                self.record(id);
                return self.core(id, Some(Event::Recorded(settled)));
            }
            Reply::Beaten(began, None) => {
                process.beats.failed(began);
                let took = process.mono(now).saturating_sub(began);
                let pause = process.beats.pause(took);
                self.after(pause, What::Heart(id, Deed::Beat));
                self.heart_on(id);
            }
            Reply::Beaten(began, Some(beaten)) => {
                let beaten = process.beats.beaten(began, beaten.leases, beaten.share);
                for (slot, epoch) in &beaten.leases {
                    process.leased.entry((*slot, *epoch)).or_insert(now);
                }
                let took = process.mono(now).saturating_sub(began);
                let pause = process.beats.pause(took);
                self.after(pause, What::Heart(id, Deed::Beat));
                self.heart_on(id);
                self.core(id, Some(Event::Leases(beaten.leases, beaten.until)))?;
                return self.core(id, Some(Event::Release(beaten.surplus)));
            }
            Reply::HandedBack(slots, done) => {
                process.beats.handed_back(slots, done);
                if let Some(again) = process.beats.hand_back_again() {
                    let slots = process.beats.take_unreturned();
                    self.after(again, What::Heart(id, Deed::HandBack(slots)));
                }
                self.heart_on(id);
            }
            Reply::Departed => {
                note!(self, "process {id} exited at {:?}", now);
                self.processes.remove(&id);
            }
        }
        Ok(())
    }
}
