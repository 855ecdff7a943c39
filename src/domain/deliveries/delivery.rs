//! A **delivery** is a message × an endpoint: the unit of work. Its life is drawn here, once:
//!
//! ```text
//!             ┌────────────── failed, waits left: due later ──────────────┐
//!             ▼                                                           │
//!   accept ─► pending(due) ──► in flight (only in its owner's memory) ────┼─► delivered
//!             ▲                                                           │
//!             └── resend, from anywhere                                   └─► dead(reason)
//! ```
//!
//! [`Progress`] is what the store keeps of a delivery, [`after`] the pure transition: what it has come to after one
//! attempt.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::deliveries::attempt::{Outcome, Trigger};
use crate::domain::deliveries::backoff::Schedule;

/// Where a delivery stands. The numbers are stored; up to [`State::LAST_PENDING`] means "still to be sent".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for its first attempt (or for one that somebody asked for).
    Fresh,
    /// Waiting for a retry.
    Retry,
    /// A receiver answered 2xx.
    Delivered,
    /// Given up; kept, visible, resendable.
    Dead,
}

impl State {
    /// The largest stored number of a state that still has work in it.
    pub const LAST_PENDING: i16 = 1;

    /// The number in the store.
    pub const fn code(self) -> i16 {
        match self {
            State::Fresh => 0,
            State::Retry => 1,
            State::Delivered => 2,
            State::Dead => 3,
        }
    }

    /// The state of a stored number.
    pub const fn from_code(code: i16) -> State {
        match code {
            0 => State::Fresh,
            1 => State::Retry,
            2 => State::Delivered,
            _ => State::Dead,
        }
    }

    /// Whether there is still something to be sent.
    pub const fn pending(self) -> bool {
        self.code() <= State::LAST_PENDING
    }
}

/// Why a delivery is dead. The words are stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The last attempt of the schedule failed.
    Exhausted,
    /// The endpoint answered 410: it refused for good.
    Gone,
    /// The endpoint was deleted while the delivery waited.
    EndpointDeleted,
    /// The message outlived the retention.
    Expired,
    /// An operator canceled it.
    Canceled,
    /// The message's content was deleted, or was to be kept no longer.
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

    /// The word under which it is stored.
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

    /// The reason of a stored word.
    pub fn from_word(word: &str) -> Option<DeadReason> {
        DeadReason::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// The reason as a sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "All attempts of the schedule failed.",
            DeadReason::Gone => "The endpoint answered 410 Gone and was disabled.",
            DeadReason::EndpointDeleted => "The endpoint was deleted while this delivery waited.",
            DeadReason::Expired => "The message is older than the retention.",
            DeadReason::Canceled => "It was canceled.",
            DeadReason::ContentDeleted => "The message's content went before this was delivered.",
        }
    }
}

/// How a delivery stands, as people ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    Delivered,
    /// Waits for an attempt, or is being sent: in flight is not a state of the store.
    Pending,
    /// Given up, for whatever reason but the next.
    Dead,
    /// Given up because somebody canceled it.
    Canceled,
}

impl Standing {
    const ALL: [Standing; 4] = [Standing::Delivered, Standing::Pending, Standing::Dead, Standing::Canceled];

    /// How a delivery in `state` stands, which is dead for `reason` if it is.
    pub fn of(state: State, reason: Option<DeadReason>) -> Standing {
        match state {
            State::Fresh | State::Retry => Standing::Pending,
            State::Delivered => Standing::Delivered,
            State::Dead if reason == Some(DeadReason::Canceled) => Standing::Canceled,
            State::Dead => Standing::Dead,
        }
    }

    /// The word under which it is stored.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Delivered => "delivered",
            Standing::Pending => "pending",
            Standing::Dead => "dead",
            Standing::Canceled => "canceled",
        }
    }

    /// The standing of a stored word.
    pub fn from_word(word: &str) -> Option<Standing> {
        Standing::ALL.into_iter().find(|standing| standing.word() == word)
    }
}

/// What the store keeps of a delivery's life, as its owner read it before an attempt; the default is that of one just
/// accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Attempts made so far, over its whole life: the next one has this number plus 1.
    pub attempts: i32,
    /// Failures since it was accepted or last resent: the place in the schedule.
    pub step: i32,
    /// How often somebody else changed it (resend, cancel): a record under an older number changes nothing.
    pub generation: i32,
    /// What set the next attempt off.
    pub trigger: Trigger,
}

/// What a delivery has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Delivered,
    /// Try again at `due`; the place in the schedule moves to `step`.
    Retry {
        due: Time,
        step: i32,
    },
    Dead(DeadReason),
}

impl Next {
    /// The state that is stored.
    pub fn state(&self) -> State {
        match self {
            Next::Delivered => State::Delivered,
            Next::Retry { .. } => State::Retry,
            Next::Dead(_) => State::Dead,
        }
    }

    /// When the next attempt is due, if there is one.
    pub fn due(&self) -> Option<Time> {
        match self {
            Next::Retry { due, .. } => Some(*due),
            Next::Delivered | Next::Dead(_) => None,
        }
    }
}

/// The transition: what becomes of a delivery at `step` of `schedule` after `outcome`, which was known at `now`.
///
/// 2xx delivers. 410 ends it for good (Standard Webhooks: the endpoint wants no more). Everything else is tried again
/// while the schedule has waits left. `jitter` in 0..=1.
pub fn after(outcome: &Outcome, step: i32, schedule: &Schedule, now: Time, jitter: f64) -> Next {
    if outcome.delivered() {
        return Next::Delivered;
    }
    if outcome.status == Some(410) {
        return Next::Dead(DeadReason::Gone);
    }
    let step = step.max(0);
    match schedule.wait(step as usize, jitter, outcome.retry_after) {
        // Never at the very instant: a wait of 0 s must still let the clock move on.
        Some(wait) => Next::Retry { due: now.plus(wait.max(Duration::from_millis(1))), step: step + 1 },
        None => Next::Dead(DeadReason::Exhausted),
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
            let next = after(&answered(status), 0, &Schedule::default(), NOW, 0.5);
            assert_eq!(next == Next::Delivered, (200..300).contains(&status), "{status}");
        }
    }

    #[test]
    fn gone_is_for_good_at_once() {
        assert_eq!(after(&answered(410), 0, &Schedule::default(), NOW, 0.5), Next::Dead(DeadReason::Gone));
    }

    #[test]
    fn failures_walk_the_schedule_to_its_end() {
        let schedule = Schedule::new("s", vec![Duration::from_secs(5), Duration::from_secs(60)]).unwrap();
        for outcome in [answered(500), answered(301), Outcome::failed(Failure::Timeout, "", Duration::ZERO)] {
            let first = after(&outcome, 0, &schedule, NOW, 0.5);
            assert_eq!(first, Next::Retry { due: NOW.plus(Duration::from_secs(5)), step: 1 });
            let second = after(&outcome, 1, &schedule, NOW, 0.5);
            assert_eq!(second, Next::Retry { due: NOW.plus(Duration::from_secs(60)), step: 2 });
            assert_eq!(after(&outcome, 2, &schedule, NOW, 0.5), Next::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn a_wait_of_nothing_still_moves_on() {
        let schedule = Schedule::new("s", vec![Duration::ZERO]).unwrap();
        assert!(after(&answered(500), 0, &schedule, NOW, 0.5).due() > Some(NOW));
    }

    #[test]
    fn stored_numbers_and_words_come_back() {
        for state in [State::Fresh, State::Retry, State::Delivered, State::Dead] {
            assert_eq!(State::from_code(state.code()), state);
            assert_eq!(state.pending(), matches!(state, State::Fresh | State::Retry));
        }
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_word(reason.word()), Some(reason));
        }
    }
}
