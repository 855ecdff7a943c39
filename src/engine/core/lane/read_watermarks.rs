//! Read watermarks: the start of a lane's next read. A read's rows stay held in memory, and deleted rows slow a scan
//! down while any snapshot can see them, so a read starts where the last one ended.
//!
//! A late commit or another process's clock may put a delivery below that point. Therefore every watermark is at least
//! [`LATE`] old, and each lane is read from the beginning at intervals.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::deliveries::delivery::DeliveryState;

/// The greatest age of a newly committed delivery's due time, except with extreme clock skew or very long transactions.
const LATE: Duration = Duration::from_secs(10);
/// Minimum time between full reads.
const AGAIN: Duration = Duration::from_secs(2);
/// Minimum time between full reads, as a multiple of the last one's duration.
const TIMES: u32 = 20;

/// The watermarks of one lane: deliveries due before them are held in memory or have ended.
#[derive(Debug, Default)]
pub struct ReadWatermarks {
    fresh: Time,
    retries: Time,
    /// The earliest start of the next full read.
    again_at: Duration,
    /// The start of the current read, and whether it is a full one.
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

    /// The start of a read of this kind.
    pub fn of(&self, kind: DeliveryState, now: Time) -> Time {
        let known = match kind {
            DeliveryState::Retry => self.retries,
            _ => self.fresh,
        };
        known.min(now.minus(LATE))
    }
}
