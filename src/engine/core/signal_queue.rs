//! Signals of the store, in order and in portions: one signal may cover tens of thousands of deliveries.
//!
//! Signals may be late, so they may wait here. They must not overtake each other: a delivery that was accepted and then
//! withdrawn would be sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::domain::{AppId, EndpointId, MessageId};
use crate::store::queue::signals::{Admission, QueuedSignal, Signal, SignalReservation};

/// Maximum deliveries that one step takes from signals; one takes about a microsecond.
pub const DELIVERIES: usize = 1_024;

/// A part of a signal that one step can handle.
#[derive(Debug)]
pub enum Portion {
    /// A message, for some of its endpoints.
    Accepted(Admission, Range<usize>),
    Withdrawn(Vec<(EndpointId, MessageId)>),
    Look(EndpointId),
    Changed(AppId),
    /// A signal was lost.
    Lost,
}

/// The waiting signals.
#[derive(Debug, Default)]
pub struct SignalQueue {
    /// Each entry keeps its signal's memory reservation. The sender bounds the total.
    waiting: VecDeque<(Portion, Option<Arc<SignalReservation>>)>,
    /// The number of deliveries that this step may still take.
    left: usize,
}

impl SignalQueue {
    /// Begins a step with a full budget.
    pub fn begin_step(&mut self) {
        self.left = DELIVERIES;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, signal_message: impl Into<QueuedSignal>) {
        let QueuedSignal { signal, held } = signal_message.into();
        let held = Some(Arc::new(held));
        match signal {
            Signal::Accepted(admissions) => {
                let whole = |admission: Admission| {
                    let all = 0..admission.endpoints.len();
                    (Portion::Accepted(admission, all), held.clone())
                };
                self.waiting.extend(admissions.into_iter().map(whole));
            }
            Signal::Withdrawn(ended) => self.waiting.push_back((Portion::Withdrawn(ended), held)),
            Signal::Look(endpoints) => {
                self.waiting.extend(endpoints.into_iter().map(|id| (Portion::Look(id), held.clone())));
            }
            Signal::Changed(app) => self.waiting.push_back((Portion::Changed(app), held)),
        }
    }

    /// Queues the loss of a signal, behind the waiting signals.
    pub fn push_lost(&mut self) {
        self.waiting.push_back((Portion::Lost, None));
    }

    /// The next portion. `None`: the queue is empty or this step's budget is used up.
    pub fn next(&mut self) -> Option<Portion> {
        if self.left == 0 {
            return None;
        }
        let (mut portion, held) = self.waiting.pop_front()?;
        let mut count = 1;
        match &mut portion {
            Portion::Accepted(admission, endpoints) => {
                count = endpoints.len();
                if count > self.left {
                    let until = endpoints.start + self.left;
                    let rest = Portion::Accepted(admission.clone(), until..endpoints.end);
                    self.waiting.push_front((rest, held));
                    endpoints.end = until;
                }
            }
            Portion::Withdrawn(ended) => {
                count = ended.len();
                if count > self.left {
                    // Splitting at the end avoids copying the rest.
                    let some = ended.split_off(count - self.left);
                    self.waiting.push_front((Portion::Withdrawn(std::mem::replace(ended, some)), held));
                }
            }
            Portion::Look(_) | Portion::Changed(_) | Portion::Lost => {}
        }
        self.left -= count.clamp(1, self.left);
        Some(portion)
    }
}
