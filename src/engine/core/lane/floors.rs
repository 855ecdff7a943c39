//! From where on a lane is read. What a reading has brought is held, and rows that were deleted since are still in the way as long as
//! somebody holds a snapshot open: so the next reading begins where the last one ended.
//!
//! A transaction that commits late, or the clock of another process, may put a delivery below that. So no floor is above [`LATE`] ago, and each
//! lane is read from the beginning now and then.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::delivery::State;

/// A delivery that is committed now was due at most so long ago, but for clocks and transactions that are far off.
const LATE: Duration = Duration::from_secs(10);
/// At least so long after a reading from the beginning comes the next one,
const AGAIN: Duration = Duration::from_secs(2);
/// and at least so many times as long as it took.
const TIMES: u32 = 20;

/// The floors of one lane: what is due before has been read, and is held or has ended.
#[derive(Debug, Default)]
pub struct Floors {
    fresh: Time,
    retries: Time,
    /// The first reading from then on is one from the beginning.
    again_at: Duration,
    /// When the reading that is under way began; and whether it is one from the beginning.
    began: Duration,
    from_the_beginning: bool,
}

impl Floors {
    /// A reading begins.
    pub fn begin(&mut self, now: Duration) {
        self.began = now;
        self.from_the_beginning = now >= self.again_at;
        if self.from_the_beginning {
            (self.fresh, self.retries) = (Time::ZERO, Time::ZERO);
        }
    }

    /// The reading is over.
    pub fn end(&mut self, now: Duration) {
        if self.from_the_beginning {
            let took = now.saturating_sub(self.began);
            self.again_at = now + AGAIN.max(took * TIMES);
        }
    }

    /// Everything of this kind that is due before `known` is held, or has ended.
    pub fn raise(&mut self, kind: State, known: Time) {
        let floor = match kind {
            State::Retry => &mut self.retries,
            _ => &mut self.fresh,
        };
        *floor = known.max(*floor);
    }

    /// Something that was held has to be read again.
    pub fn forget(&mut self) {
        *self = Floors::default();
    }

    /// Where a reading of this kind begins.
    pub fn of(&self, kind: State, now: Time) -> Time {
        let known = match kind {
            State::Retry => self.retries,
            _ => self.fresh,
        };
        known.min(now.minus(LATE))
    }
}
