//! A **delivery** is one message for one endpoint: the unit of work. Its state machine:
//!
//! ```text
//!             ┌────────────── failed, waits left: due later ──────────────┐
//!             ▼                                                           │
//!   accept ─► pending(due) ──► in flight (only in its owner's memory) ────┼─► delivered
//!             ▲                                                           │
//!             └── resend, from anywhere                                   └─► dead(reason)
//! ```
//!
//! [`Progress`] is the stored progress of a delivery; [`after`] is the pure transition after an attempt.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::deliveries::attempt::{Outcome, Trigger};
use crate::domain::deliveries::backoff::RetrySchedule;

/// The state of a delivery. The numbers are stored; those up to [`DeliveryState::LAST_PENDING`] are pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Waiting for its first attempt, or for a resend.
    Fresh,
    /// Waiting for a retry.
    Retry,
    /// The receiver responded with 2xx.
    Delivered,
    /// Given up; still visible, and can be resent.
    Dead,
}

impl DeliveryState {
    /// The largest stored number of a pending state.
    pub const LAST_PENDING: i16 = 1;

    /// The stored number.
    pub const fn code(self) -> i16 {
        match self {
            DeliveryState::Fresh => 0,
            DeliveryState::Retry => 1,
            DeliveryState::Delivered => 2,
            DeliveryState::Dead => 3,
        }
    }

    /// Parses the stored number.
    pub const fn from_code(code: i16) -> DeliveryState {
        match code {
            0 => DeliveryState::Fresh,
            1 => DeliveryState::Retry,
            2 => DeliveryState::Delivered,
            _ => DeliveryState::Dead,
        }
    }

    /// Whether an attempt is still due.
    pub const fn pending(self) -> bool {
        self.code() <= DeliveryState::LAST_PENDING
    }
}

/// The reason a delivery is dead. The words are stored and public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The last attempt of the schedule failed.
    Exhausted,
    /// The endpoint responded with 410.
    Gone,
    /// The endpoint was deleted while the delivery was pending.
    EndpointDeleted,
    /// The message is older than the retention period.
    Expired,
    /// An operator or the customer canceled it.
    Canceled,
    /// The message's content was deleted or had expired.
    ContentDeleted,
}

impl DeadReason {
    const ALL: [DeadReason; 6] = [
        DeadReason::Exhausted,
        DeadReason::Gone,
        DeadReason::EndpointDeleted,
        DeadReason::Expired,
        DeadReason::Canceled,
        DeadReason::ContentDeleted,
    ];

    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Gone => "gone",
            DeadReason::EndpointDeleted => "endpoint-deleted",
            DeadReason::Expired => "expired",
            DeadReason::Canceled => "canceled",
            DeadReason::ContentDeleted => "content-deleted",
        }
    }

    /// Parses the stored word.
    pub fn from_word(word: &str) -> Option<DeadReason> {
        DeadReason::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// The reason as a sentence for the dashboard.
    pub const fn sentence(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "All attempts failed.",
            DeadReason::Gone => "The endpoint responded with 410 Gone and was disabled.",
            DeadReason::EndpointDeleted => "The endpoint was deleted while this delivery was pending.",
            DeadReason::Expired => "The message is older than the retention period.",
            DeadReason::Canceled => "The delivery was canceled.",
            DeadReason::ContentDeleted => "The message's content was deleted before delivery.",
        }
    }
}

/// The public status of a delivery, as lists show and filter it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    Delivered,
    /// Waiting for an attempt or in flight; the store does not distinguish them.
    Pending,
    /// Given up, but not canceled.
    Dead,
    /// Canceled by an operator or the customer.
    Canceled,
}

impl DeliveryStatus {
    const ALL: [DeliveryStatus; 4] =
        [DeliveryStatus::Delivered, DeliveryStatus::Pending, DeliveryStatus::Dead, DeliveryStatus::Canceled];

    /// The status of a delivery in `state`; `reason` is set if it is dead.
    pub fn of(state: DeliveryState, reason: Option<DeadReason>) -> DeliveryStatus {
        match state {
            DeliveryState::Fresh | DeliveryState::Retry => DeliveryStatus::Pending,
            DeliveryState::Delivered => DeliveryStatus::Delivered,
            DeliveryState::Dead if reason == Some(DeadReason::Canceled) => DeliveryStatus::Canceled,
            DeliveryState::Dead => DeliveryStatus::Dead,
        }
    }

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Dead => "dead",
            DeliveryStatus::Canceled => "canceled",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|standing| standing.word() == word)
    }
}

/// The stored progress of a delivery, as read before an attempt. The default is that of a new delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of attempts so far, across resends.
    pub attempts: i32,
    /// Failures since acceptance or the last resend: the index into the schedule.
    pub step: i32,
    /// Incremented by resend and cancel. A record with an older generation changes nothing (fencing).
    pub generation: i32,
    /// The cause of the next attempt.
    pub trigger: Trigger,
}

/// The result of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    Delivered,
    /// Try again at `due`; `step` is the new index into the schedule.
    Retry {
        due: Time,
        step: i32,
    },
    Dead(DeadReason),
}

impl Transition {
    /// The stored state.
    pub fn state(&self) -> DeliveryState {
        match self {
            Transition::Delivered => DeliveryState::Delivered,
            Transition::Retry { .. } => DeliveryState::Retry,
            Transition::Dead(_) => DeliveryState::Dead,
        }
    }

    /// The time of the next attempt.
    pub fn due(&self) -> Option<Time> {
        match self {
            Transition::Retry { due, .. } => Some(*due),
            Transition::Delivered | Transition::Dead(_) => None,
        }
    }
}

/// The transition of a delivery at `step` of `schedule` after `outcome`, known at `now`.
///
/// 2xx delivers. 410 ends the delivery (Standard Webhooks: the endpoint asks to stop). Anything else is retried while
/// the schedule has waits left. `jitter` is in 0..=1.
pub fn after(outcome: &Outcome, step: i32, schedule: &RetrySchedule, now: Time, jitter: f64) -> Transition {
    if outcome.delivered() {
        return Transition::Delivered;
    }
    if outcome.status == Some(410) {
        return Transition::Dead(DeadReason::Gone);
    }
    let step = step.max(0);
    match schedule.wait(step as usize, jitter, outcome.retry_after) {
        // At least 1 ms: with a wait of 0 s the retry must still be later than this attempt.
        Some(wait) => Transition::Retry { due: now.plus(wait.max(Duration::from_millis(1))), step: step + 1 },
        None => Transition::Dead(DeadReason::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::deliveries::attempt::Failure;
    use crate::domain::deliveries::delivery::*;

    const NOW: Time = Time::from_micros(1_000_000_000);

    fn answered(status: u16) -> Outcome {
        let failure = (!(200..300).contains(&status)).then_some(Failure::Status);
        Outcome { failure, status: Some(status), ..Outcome::failed(Failure::Status, "", Duration::ZERO) }
    }

    #[test]
    fn every_2xx_delivers_and_nothing_else_does() {
        for status in 100..600u16 {
            let next = after(&answered(status), 0, &RetrySchedule::default(), NOW, 0.5);
            assert_eq!(next == Transition::Delivered, (200..300).contains(&status), "{status}");
        }
    }

    #[test]
    fn gone_is_for_good_at_once() {
        assert_eq!(after(&answered(410), 0, &RetrySchedule::default(), NOW, 0.5), Transition::Dead(DeadReason::Gone));
    }

    #[test]
    fn failures_walk_the_schedule_to_its_end() {
        let schedule = RetrySchedule::new("s", vec![Duration::from_secs(5), Duration::from_secs(60)]).unwrap();
        for outcome in [answered(500), answered(301), Outcome::failed(Failure::Timeout, "", Duration::ZERO)] {
            let first = after(&outcome, 0, &schedule, NOW, 0.5);
            assert_eq!(first, Transition::Retry { due: NOW.plus(Duration::from_secs(5)), step: 1 });
            let second = after(&outcome, 1, &schedule, NOW, 0.5);
            assert_eq!(second, Transition::Retry { due: NOW.plus(Duration::from_secs(60)), step: 2 });
            assert_eq!(after(&outcome, 2, &schedule, NOW, 0.5), Transition::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn a_wait_of_nothing_still_moves_on() {
        let schedule = RetrySchedule::new("s", vec![Duration::ZERO]).unwrap();
        assert!(after(&answered(500), 0, &schedule, NOW, 0.5).due() > Some(NOW));
    }

    #[test]
    fn stored_numbers_and_words_come_back() {
        for state in [DeliveryState::Fresh, DeliveryState::Retry, DeliveryState::Delivered, DeliveryState::Dead] {
            assert_eq!(DeliveryState::from_code(state.code()), state);
            assert_eq!(state.pending(), matches!(state, DeliveryState::Fresh | DeliveryState::Retry));
        }
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_word(reason.word()), Some(reason));
        }
    }
}
