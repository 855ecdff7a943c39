//! Ordered endpoints: one delivery at a time, by sequence number, and the next one only after the previous one is
//! delivered or dead **in the store**. A process that takes over after a crash starts with the first pending one.
//!
//! An ordered lane is read only while it holds nothing. It takes rows from the front, up to the first one that may
//! not be sent yet. Then it continues in memory: an accepted message is queued if it has the next sequence number.
//! After a failure the lane drops its queue, and reads again when the failed delivery is due.

use std::collections::HashMap;
use std::sync::Arc;

use super::reading::READ_RETRY;
use super::{Lanes, QUEUED_BYTES};
use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::{QueuedDelivery, SequenceCoverage};
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::signals::Admission;

impl Lanes {
    /// Queues a message that was just committed, for an ordered endpoint.
    pub(super) fn admit_in_order(&mut self, id: EndpointId, admission: &Admission, now: ClockReading) {
        let room = self.roomy();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let due = admission.message.first_due();
        if due > now.time {
            return self.schedule_read(id, due);
        }
        // A lane due to be read gets nothing more in memory. Otherwise it might never be empty, and never be read.
        let follows = room && !lane.paused() && !lane.awaits_read(now.time);
        match (lane.coverage, admission.seqs.get(&id)) {
            (SequenceCoverage::Blocked, Some(seq)) if *seq > 0 => {}
            (SequenceCoverage::UpTo(known), Some(seq)) if *seq > 0 && *seq <= known => {}
            (SequenceCoverage::UpTo(known), Some(seq)) if *seq == known + 1 && follows => {
                let delivery =
                    QueuedDelivery { message: admission.message.clone(), progress: Progress::default(), due_at: due };
                let bytes = delivery.message.size();
                if lane.push(delivery, DeliveryState::Fresh) {
                    lane.coverage = SequenceCoverage::UpTo(*seq);
                    self.queued_bytes += bytes;
                    self.enqueue(id);
                    self.index(id);
                } else {
                    self.schedule_read(id, now.time);
                }
            }
            _ => self.schedule_read(id, now.time),
        }
    }

    /// Applies rows of ordered endpoints. Returns the endpoints whose deliveries need sequence numbers first; they
    /// get nothing until [`Lanes::numbered`].
    pub fn read_in_order(
        &mut self,
        orders: &[OrderedHead],
        messages: &HashMap<MessageId, Arc<Message>>,
        now: ClockReading,
    ) -> Vec<EndpointId> {
        let mut unnumbered = Vec::new();
        for order in orders {
            let id = order.endpoint;
            self.renew(id);
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let ended = lane.end_read(now.mono);
            match ended.filter(|_| lane.ordered() && lane.quiet()) {
                None => lane.schedule_read(Time::ZERO),
                Some(_) if order.unnumbered => {
                    lane.numbering = true;
                    unnumbered.push(id);
                }
                Some(ended) => self.apply_in_order(order, &ended, messages, now),
            }
            self.index(id);
        }
        unnumbered
    }

    /// Queues the rows that may be sent in sequence, without a gap.
    fn apply_in_order(
        &mut self,
        order: &OrderedHead,
        ended: &[MessageId],
        messages: &HashMap<MessageId, Arc<Message>>,
        now: ClockReading,
    ) {
        let id = order.endpoint;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.coverage = SequenceCoverage::UpTo(order.up_to);
        let again = order.more.then_some(now.time);
        again.into_iter().chain(order.scheduled).for_each(|at| lane.schedule_read(at));
        for one in order.waiting.iter().filter(|one| !ended.contains(&one.message_id)) {
            let room = (lane.quiet() || self.queued_bytes + self.in_flight_bytes < QUEUED_BYTES) && !lane.paused();
            let message = messages.get(&one.message_id).filter(|_| room && one.is_due(now.time));
            let bytes = message.map_or(0, |message| message.size());
            let delivery = message.map(|message| QueuedDelivery {
                message: message.clone(),
                progress: one.progress,
                due_at: one.due_at,
            });
            if delivery.is_some_and(|delivery| lane.push(delivery, DeliveryState::Fresh)) {
                self.queued_bytes += bytes;
                continue;
            }
            // This delivery stays the next one to send.
            lane.coverage = SequenceCoverage::Blocked;
            lane.schedule_read(if !one.is_due(now.time) { one.due_at } else { now.time.plus(READ_RETRY) });
            break;
        }
        self.enqueue(id);
    }

    /// Sequence numbers were assigned, or (`false`) the store was unavailable.
    pub fn numbered(&mut self, id: EndpointId, done: bool, now: ClockReading) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.numbering = false;
        }
        self.schedule_read(id, if done { Time::ZERO } else { now.time.plus(READ_RETRY) });
    }
}

#[cfg(test)]
mod tests;
