//! Receivers with different behavior.

use std::collections::HashMap;
use std::time::Duration;

use super::rng::SeededRng;
use crate::domain::MessageId;
use crate::domain::deliveries::attempt::{Failure, Outcome};

/// The timeout of an attempt.
pub const TIMEOUT: Duration = Duration::from_secs(12);

/// The behavior of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    Well,
    /// Accepts everything, slowly.
    Slow,
    /// Rejects each message this many times.
    FailsFirst(u32),
    /// Always responds with 500, even after all faults end.
    Never,
    /// Responds with 410.
    Gone,
    /// Responds with 429 or 503 and this `Retry-After`, in seconds.
    Busy(u16, u64),
    /// Accepts the request and never responds.
    Hangs,
    /// Refuses connections.
    Refuses,
    /// Alternates between reachable and unreachable, with this period in seconds.
    Flaps(u64),
}

/// A receiver, and its received messages.
#[derive(Debug)]
pub struct SimReceiver {
    pub behavior: Behavior,
    /// The receiver has worked from the start.
    pub always_working: bool,
    tries: HashMap<MessageId, u32>,
    /// The number of times it accepted each message.
    pub taken: HashMap<MessageId, u32>,
}

impl SimReceiver {
    pub fn new(behavior: Behavior) -> SimReceiver {
        SimReceiver {
            behavior,
            always_working: behavior == Behavior::Well,
            tries: HashMap::new(),
            taken: HashMap::new(),
        }
    }

    /// A random behavior; most receivers work.
    pub fn any(rng: &mut SeededRng) -> Behavior {
        match rng.below(14) {
            0 => Behavior::Slow,
            1 | 2 => Behavior::FailsFirst(1 + rng.below(3) as u32),
            3 => Behavior::Never,
            4 => Behavior::Gone,
            5 | 6 => Behavior::Busy(rng.pick(&[429, 503]), rng.below(12)),
            7 => Behavior::Hangs,
            8 => Behavior::Refuses,
            9 => Behavior::Flaps(1 + rng.below(10)),
            _ => Behavior::Well,
        }
    }

    /// Ends its fault, unless the fault is permanent.
    pub fn end_faults(&mut self) {
        if !matches!(self.behavior, Behavior::Never | Behavior::FailsFirst(_) | Behavior::Slow) {
            self.behavior = Behavior::Well;
        }
    }

    /// A request reaches it at `now`. Returns the outcome and the response time.
    pub fn get(&mut self, message: MessageId, now: Duration, rng: &mut SeededRng) -> (Outcome, Duration) {
        let tries = self.tries.entry(message).or_insert(0);
        *tries += 1;
        let answers = |status: u16| {
            let failure = (!(200..300).contains(&status)).then_some(Failure::Status);
            Outcome { failure, status: Some(status), ..Outcome::failed(Failure::Status, "", Duration::ZERO) }
        };
        let quick = rng.millis(1, 40);
        let (outcome, after) = match self.behavior {
            Behavior::Well => (answers(200), quick),
            Behavior::Slow => (answers(200), rng.millis(500, 2_500)),
            Behavior::FailsFirst(times) => (answers(if *tries <= times { 500 } else { 204 }), quick),
            Behavior::Never => (answers(500), quick),
            Behavior::Gone => (answers(410), quick),
            Behavior::Busy(status, seconds) => {
                let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds));
                // Now and then one succeeds.
                let busy = rng.chance(80);
                (if busy { Outcome { retry_after, ..answers(status) } } else { answers(200) }, quick)
            }
            Behavior::Hangs => (Outcome::failed(Failure::Timeout, "", TIMEOUT), TIMEOUT),
            Behavior::Refuses => (Outcome::failed(Failure::Refused, "", Duration::ZERO), quick),
            Behavior::Flaps(seconds) if (now.as_secs() / seconds).is_multiple_of(2) => (answers(200), quick),
            Behavior::Flaps(_) => (Outcome::failed(Failure::Unreachable, "", Duration::ZERO), quick),
        };
        if outcome.delivered() {
            *self.taken.entry(message).or_insert(0) += 1;
        }
        (outcome, after)
    }
}
