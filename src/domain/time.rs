//! Timestamps in microseconds, and the clock that produces them.
//!
//! Only the engine's loops and the HTTP handlers read the [`Clock`]. Everything below them takes the time as an
//! argument, so tests never sleep.

mod clock;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::column_type::column_type;

pub use clock::Clock;
#[cfg(test)]
pub(crate) use clock::SteadyClock;

/// A point in time: microseconds since 1970-01-01T00:00:00Z. Its text is RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

column_type!(Time(i64));

impl Time {
    /// The epoch; also the `due` of a delivery that may be sent at once.
    pub const ZERO: Time = Time(0);
    /// The end of the year 9999, the last that RFC 3339 can represent.
    pub const MAX: Time = Time(253_402_300_799_999_999);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Time {
        Time(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, never negative (as in a UUIDv7).
    pub const fn millis(self) -> u64 {
        if self.0 < 0 { 0 } else { (self.0 / 1_000) as u64 }
    }

    /// Whole seconds since the epoch (as in `webhook-timestamp`).
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This point plus `span`, at most [`Time::MAX`].
    pub fn plus(self, span: Duration) -> Time {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Time(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// This point minus `span`, at least the epoch.
    pub fn minus(self, span: Duration) -> Time {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Time(self.0.saturating_sub(micros).max(0))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Rounds down to a multiple of `width` since the epoch.
    pub fn floor(self, width: Duration) -> Time {
        let width = (width.as_micros() as i64).max(1);
        Time(self.0.div_euclid(width) * width)
    }

    /// Parses RFC 3339, e.g. `2026-11-22T09:30:00Z` or with an offset.
    ///
    /// # Errors
    /// The text is not RFC 3339, or the year is not in 1970–9999.
    pub fn parse(text: &str) -> Result<Time, TimeError> {
        let stamp: jiff::Timestamp = text.trim().parse().map_err(|_| TimeError)?;
        let micros = stamp.as_microsecond();
        if (0..=Self::MAX.0).contains(&micros) { Ok(Time(micros)) } else { Err(TimeError) }
    }
}

/// The text is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-11-22T09:30:00Z")]
pub struct TimeError;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(stamp) => write!(f, "{stamp:.6}"),
            Err(_) => write!(f, "{}µs", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        Time::parse(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_own_text() {
        let time = Time::from_micros(1_763_800_000_123_456);
        assert_eq!(time.to_string(), "2025-11-22T08:26:40.123456Z");
        assert_eq!(Time::parse(&time.to_string()), Ok(time));
        assert_eq!(Time::parse("2025-11-22T09:26:40.123456+01:00"), Ok(time));
        assert_eq!(Time::parse("yesterday"), Err(TimeError));
    }

    #[test]
    fn arithmetic_never_leaves_the_calendar() {
        assert_eq!(Time::MAX.plus(Duration::from_secs(1)), Time::MAX);
        assert_eq!(Time::from_micros(5).minus(Duration::from_secs(1)), Time::ZERO);
        assert_eq!(Time::from_micros(61_000_001).floor(Duration::from_secs(60)), Time::from_micros(60_000_000));
    }
}
