//! Where the next read of a lane starts. A read's rows stay held in memory, and deleted rows slow a scan down for as
//! long as any snapshot can see them, so a read starts where the last one ended.
//!
//! A late commit or another process's clock may put a delivery below that point. So no watermark is more recent than
//! [`LATE`] ago, and each lane is read from the beginning now and then.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::deliveries::delivery::DeliveryState;

/// How old the due time of a newly committed delivery can be, short of extreme clock skew or transaction length.
const LATE: Duration = Duration::from_secs(10);
/// A full read follows the last one after at least this long,
const AGAIN: Duration = Duration::from_secs(2);
/// and after at least this many times its duration.
const TIMES: u32 = 20;

/// The watermarks of one lane: deliveries due before them are held in memory or have ended.
#[derive(Debug, Default)]
pub struct ReadWatermarks {
    fresh: Time,
    retries: Time,
    /// When the next full read may begin.
    again_at: Duration,
    /// When the current read began, and whether it is a full one.
    began: Duration,
    from_the_beginning: bool,
}

impl ReadWatermarks {
    /// Starts a read.
    pub fn begin(&mut self, now: Duration) {
        self.began = now;
        self.from_the_beginning = now >= self.again_at;
        if self.from_the_beginning {
            (self.fresh, self.retries) = (Time::ZERO, Time::ZERO);
        }
    }

    /// Ends the read.
    pub fn end(&mut self, now: Duration) {
        if self.from_the_beginning {
            let took = now.saturating_sub(self.began);
            self.again_at = now + AGAIN.max(took * TIMES);
        }
    }

    /// Every delivery of this kind due before `known` is held or has ended.
    pub fn raise(&mut self, kind: DeliveryState, known: Time) {
        let floor = match kind {
            DeliveryState::Retry => &mut self.retries,
            _ => &mut self.fresh,
        };
        *floor = known.max(*floor);
    }

    /// A held delivery has to be read again.
    pub fn forget(&mut self) {
        *self = ReadWatermarks::default();
    }

    /// Where a read of this kind starts.
    pub fn of(&self, kind: DeliveryState, now: Time) -> Time {
        let known = match kind {
            DeliveryState::Retry => self.retries,
            _ => self.fresh,
        };
        known.min(now.minus(LATE))
    }
}
