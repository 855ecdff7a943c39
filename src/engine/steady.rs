//! What time it is, for what is due: the wall clock without its jumps.
//!
//! A delivery's next attempt is noted in the store as a time of the wall clock, because it outlives the process. But somebody may set that
//! clock while we run. Set back by a year, nothing would be due for a year; set forward, all that waits would be due at once, and
//! the retention would take for old what came this morning. So the engine goes on as if nothing had happened ([`Steady`]): it keeps how
//! far the clock has jumped, and lets that go by little by little, so that waits are never longer or shorter than jitter makes them anyway.
//!
//! What others read goes by the clock as it is: the time in a signature, the time of an attempt, a `deliverAt`.

use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Time;
use crate::domain::attempt::Trigger;
use crate::domain::backoff::WAIT_LIMIT;
use crate::domain::delivery::State;
use crate::domain::message::Message;
use crate::domain::time::Clock;
use crate::store::deliveries::{PendingLane, Waiting};

/// More than this at once is a jump and no drift.
const JUMP: Duration = Duration::from_secs(1);
/// A jump goes by in this many times its length.
const CLOSING: i64 = 10;
/// Nobody can have meant a time further ahead than this: the clock that said so was wrong. (A retry's longest wait with its jitter, and
/// a `deliverAt`, with a day to spare.)
const FARTHEST_RETRY: Duration = Duration::from_secs(WAIT_LIMIT.as_secs() * 6 / 5 + 86_400);
const FARTHEST_FRESH: Duration = Duration::from_secs(31 * 86_400);
/// A lane with something fresh is read so soon, whatever the store says that it is due: machines' clocks may be far apart.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// One moment by the engine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What is due goes by this: the wall clock without its jumps.
    pub wall: Time,
    /// Since the process started, on a clock that nobody sets: paces.
    pub mono: Duration,
    /// How far the clock on the wall is ahead of `wall`, in µs; negative: behind.
    pub jumped: i64,
}

impl Moment {
    /// What the clock on the wall says.
    pub fn clock(self) -> Time {
        shift(self.wall, self.jumped)
    }

    /// When (by [`Moment::wall`]) a delivery is due that waits in the store.
    ///
    /// Retries are noted by this clock. What is fresh was noted by some clock on a wall: unless it was scheduled (it is due later than its
    /// message was accepted, by the same clock), it is due at once, whatever that clock said.
    pub fn due(self, one: &Waiting) -> Time {
        let resent = one.progress.trigger == Trigger::Manual;
        match one.state {
            State::Retry => self.meant(&[one.due_at], FARTHEST_RETRY),
            _ if resent || one.due_at.millis() <= one.message_id.time().millis() => Time::ZERO,
            _ => self.scheduled(one.due_at),
        }
    }

    /// When a message is due for the first time: a `deliverAt` when the clock on the wall says so, any other at once.
    pub fn due_message(self, message: &Message) -> Time {
        message.deliver_at.map_or(Time::ZERO, |at| self.scheduled(at))
    }

    /// When a lane is to be read of which a scan says this. What is fresh may be due although it does not look so ([`Moment::due`]).
    pub fn look(self, lane: &PendingLane) -> Time {
        let soon = self.wall.plus(LOOK_ANYWAY);
        let fresh = lane.fresh_due.map(|due| shift(due, -self.jumped.max(0)).min(soon));
        let retry = lane.retry_due.map(|due| self.meant(&[due], FARTHEST_RETRY));
        fresh.into_iter().chain(retry).min().unwrap_or(Time::ZERO)
    }

    /// A time of the clock on the wall: as it is now; or, if that makes no sense, as it was before it jumped.
    fn scheduled(self, at: Time) -> Time {
        self.meant(&[shift(at, -self.jumped), at], FARTHEST_FRESH)
    }

    /// The first of these that somebody can have meant; if there is none: at once.
    fn meant(self, readings: &[Time], farthest: Duration) -> Time {
        readings.iter().copied().find(|due| due.since(self.wall) <= farthest).unwrap_or(Time::ZERO)
    }
}

fn shift(time: Time, micros: i64) -> Time {
    let span = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { time.minus(span) } else { time.plus(span) }
}

/// Turns what the two clocks show into [`Moment`]s.
#[derive(Debug, Default)]
pub struct Steady {
    last: Option<(Time, Duration)>,
    jumped: i64,
    /// The furthest that the clock was ever behind, in µs: 0 or negative.
    behind: i64,
}

impl Steady {
    /// The clocks show this now.
    pub fn see(&mut self, clock: Time, mono: Duration) -> Moment {
        if let Some((last_clock, last_mono)) = self.last {
            let passed = mono.saturating_sub(last_mono).as_micros() as i64;
            let jump = clock.micros() - last_clock.micros() - passed;
            if jump.unsigned_abs() > JUMP.as_micros() as u64 {
                self.jumped = self.jumped.saturating_add(jump);
                self.behind = self.behind.min(self.jumped);
            }
            let closed = (passed / CLOSING).min(self.jumped.saturating_abs());
            self.jumped -= closed * self.jumped.signum();
            // So that looks in quick succession add up.
            let rest = Duration::from_micros((passed % CLOSING) as u64);
            self.last = Some((shift(clock, -(passed % CLOSING)), mono.saturating_sub(rest)));
        } else {
            self.last = Some((clock, mono));
        }
        Moment { wall: shift(clock, -self.jumped), mono, jumped: self.jumped }
    }

    /// What ages are judged by, as of `moment`: what came while the clock was behind looks older than it is, also when that is over.
    pub fn for_age(&self, moment: Moment) -> Time {
        shift(moment.wall, self.behind)
    }
}

/// Where the engine's loops get the time from. All of a process share one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SteadyClock;

static SHARED: LazyLock<(Instant, Mutex<Steady>)> = LazyLock::new(|| (Instant::now(), Mutex::default()));

impl SteadyClock {
    /// The moment that it is.
    pub fn moment(self) -> Moment {
        let (began, steady) = &*SHARED;
        let mut steady = steady.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        steady.see(Clock.now(), began.elapsed())
    }

    /// What is too old goes by this: [`Steady::for_age`].
    pub fn for_age(self) -> Time {
        let moment = self.moment();
        SHARED.1.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).for_age(moment)
    }

    /// A point of the runtime's time, in the engine's own.
    pub fn mono(self, at: Instant) -> Duration {
        at.saturating_duration_since(SHARED.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::Progress;
    use crate::domain::{EndpointId, MessageId};

    const NOON: Time = Time::from_micros(1_763_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn waiting(state: State, accepted_at: Time, due_at: Time) -> Waiting {
        let (message_id, endpoint_id) = (MessageId::floor(accepted_at), EndpointId::floor(accepted_at));
        Waiting { message_id, endpoint_id, state, due_at, progress: Progress::default() }
    }

    fn pending(one: &Waiting) -> PendingLane {
        PendingLane { endpoint: one.endpoint_id, fresh_due: Some(one.due_at), retry_due: None }
    }

    #[test]
    fn a_jump_changes_nothing_of_what_is_due() {
        for jump in [HOUR, YEAR] {
            for clock in [NOON.plus(jump), NOON.minus(jump)] {
                let mut steady = Steady::default();
                assert_eq!(steady.see(NOON, seconds(5)).wall, NOON);
                let after = steady.see(clock.plus(seconds(1)), seconds(6));
                assert!(after.wall.since(NOON) <= seconds(2) && after.wall > NOON, "{after:?}");
                assert_eq!(after.clock(), clock.plus(seconds(1)), "others are told what the clock says");
                let fresh = waiting(State::Fresh, clock.plus(seconds(1)), clock.plus(seconds(1)));
                assert!(after.due(&fresh) <= after.wall, "what is accepted now is due now");
                assert!(after.look(&pending(&fresh)) <= after.wall, "and is found");
                let scheduled = waiting(State::Fresh, clock.plus(seconds(1)), clock.plus(seconds(61)));
                assert_eq!(after.due(&scheduled).since(after.wall), seconds(60), "by the clock on the wall");
                let waits = after.due(&waiting(State::Retry, NOON, NOON.plus(seconds(300))));
                assert!(waits > after.wall && waits.since(after.wall) <= seconds(300));
            }
        }
    }

    #[test]
    fn a_jump_goes_by_a_tenth_of_the_time() {
        let mut steady = Steady::default();
        steady.see(NOON, Duration::ZERO);
        let mut last = steady.see(NOON.minus(seconds(10)), Duration::from_micros(1));
        for tenth in 1..=1_100u64 {
            let passed = Duration::from_millis(100 * tenth);
            let now = steady.see(NOON.minus(seconds(10)).plus(passed), passed);
            let step = now.wall.since(last.wall);
            assert!((80..=120).contains(&step.as_millis()), "{step:?}");
            last = now;
        }
        assert_eq!(last.jumped, 0);
        // However often it is looked at.
        let (mut often, mut passed) = (Steady::default(), 0);
        often.see(NOON, Duration::ZERO);
        while passed < 1_000_000 {
            passed += 7;
            often.see(NOON.plus(HOUR + Duration::from_micros(passed)), Duration::from_micros(passed));
        }
        let closed = HOUR.as_micros() as i64 - often.jumped;
        assert!((90_000..=110_000).contains(&closed), "{closed}");
    }

    #[test]
    fn nothing_is_too_old_because_the_clock_was_set() {
        let mut steady = Steady::default();
        steady.see(NOON, Duration::ZERO);
        let ahead = steady.see(NOON.plus(YEAR), seconds(1));
        assert!(steady.for_age(ahead) <= NOON.plus(seconds(2)));
        steady.see(NOON.minus(YEAR), seconds(2));
        let right_again = steady.see(NOON, seconds(3));
        assert!(steady.for_age(right_again) <= NOON.minus(YEAR).plus(seconds(4)), "that came while it was behind");
    }

    #[test]
    fn drift_is_followed() {
        let mut steady = Steady::default();
        for second in 0..100 {
            let clock = NOON.plus(seconds(second)).plus(Duration::from_millis(500 * second));
            assert_eq!(steady.see(clock, seconds(second)).wall, clock);
        }
    }

    #[test]
    fn a_time_that_nobody_can_have_meant_is_due() {
        let now = Moment { wall: NOON, mono: HOUR, jumped: 0 };
        for (state, farthest) in [(State::Retry, WAIT_LIMIT * 6 / 5), (State::Fresh, seconds(30 * 86_400))] {
            assert!(now.due(&waiting(state, NOON, NOON.plus(YEAR))) <= NOON);
            assert_eq!(now.due(&waiting(state, NOON, NOON.plus(farthest))), NOON.plus(farthest));
        }
    }

    #[test]
    fn what_was_scheduled_before_the_clock_was_set_back_by_far_keeps_its_time() {
        let now = Moment { wall: NOON, mono: HOUR, jumped: -(YEAR.as_micros() as i64) };
        let scheduled = waiting(State::Fresh, NOON.minus(HOUR), NOON.plus(HOUR));
        assert_eq!(now.due(&scheduled), NOON.plus(HOUR));
    }

    #[test]
    fn what_was_accepted_under_another_clock_is_due_at_once() {
        let now = Moment { wall: NOON, mono: HOUR, jumped: 0 };
        let ahead = waiting(State::Fresh, NOON.plus(HOUR), NOON.plus(HOUR));
        assert!(now.due(&ahead) <= NOON);
        assert_eq!(now.look(&pending(&ahead)).since(NOON), LOOK_ANYWAY);
        let mut resent = waiting(State::Fresh, NOON, NOON.plus(HOUR));
        resent.progress.trigger = Trigger::Manual;
        assert!(now.due(&resent) <= NOON);
    }
}
