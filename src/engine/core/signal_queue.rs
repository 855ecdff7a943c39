//! Signals of the store, in the order in which they came, and in portions: one may tell of tens of thousands of deliveries.
//!
//! A signal that waits here is late, which signals may be. It must not be overtaken by another: what was withdrawn after it was accepted
//! would be sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::domain::{AppId, EndpointId, MessageId};
use crate::store::queue::signals::{Admission, Held, Signal, Told};

/// How many deliveries one step takes from its signals at most; one takes about a microsecond.
pub const DELIVERIES: usize = 1_024;

/// Something to take from a signal.
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

/// The signals that wait.
#[derive(Debug, Default)]
pub struct SignalQueue {
    /// Each with what its signal holds: the memory of all of them is bounded where they are sent.
    waiting: VecDeque<(Portion, Option<Arc<Held>>)>,
    /// How many deliveries may still be taken in this step.
    left: usize,
}

impl SignalQueue {
    /// A step begins.
    pub fn begin_step(&mut self) {
        self.left = DELIVERIES;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, told: impl Into<Told>) {
        let Told { signal, held } = told.into();
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

    /// A signal was lost, after those that wait.
    pub fn lost(&mut self) {
        self.waiting.push_back((Portion::Lost, None));
    }

    /// The next portion; `None`: nothing waits, or it has to wait for the next step.
    pub fn next(&mut self) -> Option<Portion> {
        if self.left == 0 {
            return None;
        }
        let (mut portion, held) = self.waiting.pop_front()?;
        let mut taken = 1;
        match &mut portion {
            Portion::Accepted(admission, endpoints) => {
                taken = endpoints.len();
                if taken > self.left {
                    let until = endpoints.start + self.left;
                    let rest = Portion::Accepted(admission.clone(), until..endpoints.end);
                    self.waiting.push_front((rest, held));
                    endpoints.end = until;
                }
            }
            Portion::Withdrawn(ended) => {
                taken = ended.len();
                if taken > self.left {
                    // From its end: cut off without a copy of the rest.
                    let some = ended.split_off(taken - self.left);
                    self.waiting.push_front((Portion::Withdrawn(std::mem::replace(ended, some)), held));
                }
            }
            Portion::Look(_) | Portion::Changed(_) | Portion::Lost => {}
        }
        self.left -= taken.clamp(1, self.left);
        Some(portion)
    }
}
