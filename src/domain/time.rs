//! Points in time and spans of it, as the store keeps them: integers of microseconds.
//!
//! A [`Time`] is handed down from the engine's loops and the HTTP handlers, which are the only ones to ask
//! a [`Clock`]; below them time is always an argument, so that no test ever sleeps.

mod clock;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use clock::Clock;
#[cfg(test)]
pub(crate) use clock::Steady;

/// A point in time: microseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct Time(i64);

impl Time {
    /// The epoch; also the `due` of work that may go at once.
    pub const ZERO: Time = Time(0);
    /// Later than anything that Sendoff writes: the year 9999, the last that RFC 3339 can say.
    pub const MAX: Time = Time(253_402_300_799_999_999);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Time {
        Time(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, never negative (what a UUIDv7 holds).
    pub const fn millis(self) -> u64 {
        if self.0 < 0 { 0 } else { (self.0 / 1_000) as u64 }
    }

    /// Whole seconds since the epoch (what `webhook-timestamp` holds).
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

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// The start of the span of `width` in which this lies, counted from the epoch.
    pub fn floor(self, width: Duration) -> Time {
        let width = (width.as_micros() as i64).max(1);
        Time(self.0.div_euclid(width) * width)
    }

    /// Reads RFC 3339, e.g. `2026-11-22T09:30:00Z` or with an offset.
    ///
    /// # Errors
    /// A text that is not RFC 3339, or lies outside the years 1970–9999.
    pub fn parse(text: &str) -> Result<Time, TimeError> {
        let stamp: jiff::Timestamp = text.trim().parse().map_err(|_| TimeError)?;
        let micros = stamp.as_microsecond();
        if (0..=Self::MAX.0).contains(&micros) { Ok(Time(micros)) } else { Err(TimeError) }
    }
}

/// The text was not an RFC 3339 time.
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
