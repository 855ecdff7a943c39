//! A range of time.

use crate::domain::Time;

/// The times from `since` up to but excluding `until`. The default contains all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Time,
    pub until: Time,
}

impl Default for TimeRange {
    fn default() -> TimeRange {
        TimeRange { since: Time::ZERO, until: Time::MAX }
    }
}

impl TimeRange {
    /// Whether `time` is in the range.
    pub fn contains(&self, time: Time) -> bool {
        (self.since..self.until).contains(&time)
    }
}
