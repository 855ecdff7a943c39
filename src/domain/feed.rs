//! The **feed** of an application: its messages in commit order.
//!
//! * [`Position`]: a message's place in the feed: the first 60 bits of its id. The store assigns ids so that within an
//!   application they grow in commit order (`store/feed/feed_order.rs`).
//! * [`FeedIterator`]: a reader's cursor: a position, and the time up to which the reader has certainly missed
//!   nothing.
//! * [`FeedFilter`]: the event types and channels a reader wants.

pub mod lease;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AppId, Invalid, MessageId, Time};

/// The maximum lead of message ids over the clock. After a clock is set back, new ids continue from the existing ones
/// until the clock has caught up.
pub const MAX_ID_LEAD: Duration = Duration::from_secs(2 * 3_600);
/// The maximum lead of a position over the clock when it is read. Half of [`MAX_ID_LEAD`]: even if two processes'
/// clocks differ by this much, no new id falls below a position that was accepted.
pub const MAX_READ_LEAD: Duration = Duration::from_secs(3_600);

/// A message's place in its application's feed: 48 bits of milliseconds since 1970 and 12 bits of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before all messages.
    pub const START: Position = Position(0);

    /// The position of a message.
    pub fn of(id: MessageId) -> Position {
        let bits = id.0.as_u128();
        Position(((bits >> 80) << 12) as u64 | ((bits >> 64) as u64 & 0xfff))
    }

    /// The smallest position of a message accepted at `time`.
    pub fn at(time: Time) -> Position {
        let fraction = time.micros().max(0) as u64 % 1_000 * 4_096 / 1_000;
        Position((time.millis() & ((1 << 48) - 1)) << 12 | fraction)
    }

    /// The next position.
    pub fn next(self) -> Position {
        Position((self.0 + 1) & ((1 << 60) - 1))
    }

    /// The smallest message id at this position.
    pub fn first_id(self) -> MessageId {
        self.id(0)
    }

    /// A message id at this position. Two processes may assign the same position in two applications; 62 bits of
    /// `random` keep the ids distinct.
    pub fn id(self, random: u64) -> MessageId {
        let high = (self.0 >> 12) << 16 | 0x7000 | (self.0 & 0xfff);
        let low = 0b10 << 62 | (random >> 2);
        MessageId(Uuid::from_u128(u128::from(high) << 64 | u128::from(low)))
    }

    /// The time of this position, to the microsecond.
    pub fn time(self) -> Time {
        let micros = (self.0 >> 12) * 1_000 + ((self.0 & 0xfff) * 1_000).div_ceil(4_096);
        Time::from_micros(micros as i64)
    }

    /// The column value.
    pub fn number(self) -> i64 {
        self.0 as i64
    }

    /// Reads a column value.
    pub fn from_number(number: i64) -> Position {
        Position(number.max(0) as u64 & ((1 << 60) - 1))
    }
}

/// A reader's cursor: the next read starts after `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedIterator {
    pub position: Position,
    /// At this time the reader had read everything. Together with the retention period it tells whether messages may
    /// have been deleted unread. Whole seconds.
    pub complete_at: Time,
    /// The number of resets of the consumer's position; 0 for readers that keep their own position.
    pub moves: u16,
}

/// The reason a reader cannot continue from a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Unread messages may already be deleted by retention.
    #[error("messages after this position may have been deleted by retention: continue with `after` at {0} or later")]
    Gone(Time),
    /// The position lies in the future: it was assigned while a clock was wrong.
    #[error("this position is more than an hour in the future: continue with `after`")]
    Ahead,
}

impl FeedIterator {
    const VERSION: u8 = 1;
    /// Version, position, seconds, moves.
    const BYTES: usize = 1 + 8 + 5 + 2;
    /// Length of the checksum that binds the text to its application.
    const CHECK: usize = 7;

    /// A cursor before the first message accepted at or after `time`.
    pub fn since(time: Time) -> FeedIterator {
        FeedIterator { position: before(Position::at(time)), complete_at: whole_seconds(time), moves: 0 }
    }

    /// A cursor at the start of the retention period, for a reader that asked for an earlier time. It stays usable for
    /// [`EDGE`] although the period moves on.
    pub fn oldest(kept: Time) -> FeedIterator {
        FeedIterator { complete_at: whole_seconds(kept.plus(EDGE)), ..FeedIterator::since(kept) }
    }

    /// The cursor after everything up to `position` was read. `done`: the feed had nothing more at `now`.
    pub fn next(self, position: Position, done: bool, now: Time) -> FeedIterator {
        // A message may commit now with an earlier time.
        let read = if done { now.minus(COMMIT_DELAY) } else { position.time() };
        let complete_at = whole_seconds(self.complete_at.max(position.time()).max(read));
        FeedIterator { position, complete_at, ..self }
    }

    /// Checks that a reader can continue from here at `now`; messages accepted since `kept` are not deleted yet.
    ///
    /// # Errors
    /// The position is in the future, or unread messages may be gone.
    pub fn check(self, kept: Time, now: Time) -> Result<(), PositionError> {
        if self.position.time() > now.plus(MAX_READ_LEAD) {
            return Err(PositionError::Ahead);
        }
        // Seconds are rounded down.
        let complete = self.complete_at.plus(Duration::from_secs(1)).max(self.position.time());
        if complete < kept { Err(PositionError::Gone(kept)) } else { Ok(()) }
    }

    /// The text form for the feed of `app`. Not a secret: a reader may continue from any position in its own feed.
    pub fn text(self, app: AppId) -> String {
        let mut bytes = [0; Self::BYTES + Self::CHECK];
        bytes[0] = Self::VERSION;
        bytes[1..9].copy_from_slice(&self.position.0.to_be_bytes());
        bytes[9..14].copy_from_slice(&self.complete_at.seconds().max(0).to_be_bytes()[3..]);
        bytes[14..Self::BYTES].copy_from_slice(&self.moves.to_be_bytes());
        let check = check(app, &bytes[..Self::BYTES]);
        bytes[Self::BYTES..].copy_from_slice(&check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// The text is malformed or belongs to another application.
    pub fn parse(text: &str, app: AppId) -> Result<FeedIterator, Invalid> {
        let wrong =
            || Invalid::new("iterator", "is not an iterator of this application's feed: omit it, or use `after`");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let bytes: [u8; Self::BYTES + Self::CHECK] = bytes.try_into().map_err(|_| wrong())?;
        let (said, shown) = bytes.split_at(Self::BYTES);
        if said[0] != Self::VERSION || check(app, said) != shown {
            return Err(wrong());
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let seconds = number(&said[9..14]) as i64;
        Ok(FeedIterator {
            position: Position::from_number(number(&said[1..9]) as i64),
            complete_at: Time::from_micros(seconds.saturating_mul(1_000_000)),
            moves: number(&said[14..]) as u16,
        })
    }
}

/// The time in which a reader that starts with the oldest messages must continue, or gets 410.
const EDGE: Duration = Duration::from_secs(600);

/// The maximum time between a message's timestamp and its commit.
const COMMIT_DELAY: Duration = Duration::from_secs(300);

fn whole_seconds(time: Time) -> Time {
    Time::from_micros(time.seconds().saturating_mul(1_000_000))
}

fn before(position: Position) -> Position {
    Position(position.0.saturating_sub(1))
}

fn check(app: AppId, said: &[u8]) -> [u8; FeedIterator::CHECK] {
    let hash = Sha256::new().chain_update(b"sendoff feed iterator").chain_update(app.0.as_bytes()).chain_update(said);
    let mut check = [0; FeedIterator::CHECK];
    check.copy_from_slice(&hash.finalize()[..FeedIterator::CHECK]);
    check
}

/// Selects messages of a feed. `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFilter {
    pub event_types: Option<Vec<String>>,
    /// Messages on any of these channels. A message without channels does not match.
    pub channels: Option<Vec<String>>,
}

impl FeedFilter {
    /// Whether a message of `event_type` on `channels` matches.
    pub fn wants(&self, event_type: &str, channels: &[String]) -> bool {
        self.event_types.as_ref().is_none_or(|types| types.iter().any(|one| one == event_type))
            && self.channels.as_ref().is_none_or(|wanted| wanted.iter().any(|one| channels.contains(one)))
    }

    /// Whether all messages match.
    pub fn is_everything(&self) -> bool {
        self.event_types.is_none() && self.channels.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::{fuzz, words};

    const NOON: Time = Time::from_micros(1_763_800_000_123_456);

    fn app(number: u128) -> AppId {
        AppId(Uuid::from_u128(number))
    }

    #[test]
    fn a_position_is_the_beginning_of_an_id() {
        let position = Position::at(NOON);
        for random in [0, u64::MAX] {
            let id = position.id(random);
            assert_eq!((Position::of(id), id.0.get_version_num()), (position, 7));
            assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
            assert!(position.first_id() <= id && id < position.next().first_id());
        }
        assert_eq!(Position::from_number(position.number()), position);
    }

    #[test]
    fn positions_grow_with_time_and_say_it() {
        let mut last = Position::START;
        for micros in 0..5_000 {
            let time = Time::from_micros(NOON.micros() + micros);
            let position = Position::at(time);
            assert!(position > last, "{micros}");
            assert_eq!(position.time(), time);
            assert!(position.first_id() >= MessageId::floor(time));
            last = position;
        }
    }

    #[test]
    fn the_last_fraction_of_a_millisecond_is_followed_by_the_next_millisecond() {
        let full = Position((123 << 12) | 0xfff);
        assert!(full.next() > full && full.next() == Position(124 << 12));
        assert!(full.next().first_id() > full.id(u64::MAX));
    }

    #[test]
    fn an_iterator_survives_its_own_text_and_is_of_one_application() {
        let complete_at = Time::from_micros(1_763_800_001_000_000);
        let iterator = FeedIterator { position: Position::at(NOON), complete_at, moves: 513 };
        let text = iterator.text(app(7));
        assert_eq!(FeedIterator::parse(&text, app(7)), Ok(iterator));
        assert!(FeedIterator::parse(&text, app(8)).is_err(), "of another application");
        for bad in ["", "x", "AAAA", &text[1..], &format!("{text}A"), "msg_01jd8x5q3fe8ktq8b4m5rj2w3a", "ä"] {
            assert!(FeedIterator::parse(bad, app(7)).is_err(), "{bad:?}");
        }
        let mut changed = text.into_bytes();
        changed[4] = if changed[4] == b'A' { b'B' } else { b'A' };
        assert!(FeedIterator::parse(&String::from_utf8(changed).unwrap(), app(7)).is_err());
    }

    #[test]
    fn messages_accepted_at_a_time_follow_its_iterator() {
        let iterator = FeedIterator::since(NOON);
        let just_before = Position::at(Time::from_micros(NOON.micros() - 1));
        assert!(just_before <= iterator.position && iterator.position < Position::at(NOON));
    }

    #[test]
    fn a_reader_hears_that_it_may_have_missed_something_and_only_then() {
        let hours = |hours: u64| NOON.plus(Duration::from_secs(hours * 3_600));
        let old = FeedIterator::since(NOON);
        assert_eq!(old.check(NOON, hours(10)), Ok(()));
        assert_eq!(old.check(hours(1), hours(10)), Err(PositionError::Gone(hours(1))));
        // No message arrived for a long time, and the reader kept polling.
        let idle = old.next(old.position, true, hours(9));
        assert_eq!(idle.check(hours(8), hours(10)), Ok(()));
        assert!(idle.check(hours(9), hours(10)).is_err(), "what was being committed may have been of that time");
        // The reader has read on, and more messages follow.
        let behind = old.next(Position::at(hours(5)), false, hours(9));
        assert_eq!(behind.check(hours(5), hours(10)), Ok(()));
        assert!(behind.check(hours(6), hours(10)).is_err());
        assert_eq!(FeedIterator::since(hours(2)).check(NOON, NOON), Err(PositionError::Ahead));
        assert_eq!(FeedIterator::since(hours(1)).check(NOON, NOON), Ok(()));
    }

    #[test]
    fn a_reader_of_the_oldest_messages_has_time_to_begin() {
        let later = |seconds| NOON.plus(Duration::from_secs(seconds));
        let oldest = FeedIterator::oldest(NOON);
        assert_eq!(oldest.position, FeedIterator::since(NOON).position, "nothing is skipped");
        assert_eq!(oldest.check(later(EDGE.as_secs()), later(9_000)), Ok(()));
        assert!(oldest.check(later(EDGE.as_secs() + 2), later(9_000)).is_err());
    }

    #[test]
    fn a_filter_is_an_endpoints() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let filter = FeedFilter { event_types: names(&["a", "b"]), channels: names(&["x"]) };
        let channels = |list: &[&str]| names(list).unwrap_or_default();
        assert!(filter.wants("a", &channels(&["y", "x"])));
        assert!(
            !filter.wants("c", &channels(&["x"])) && !filter.wants("a", &[]) && !filter.wants("a", &channels(&["y"]))
        );
        assert!(FeedFilter::default().wants("a", &[]) && FeedFilter::default().is_everything());
    }

    /// The text of a cursor parses to the same cursor, for its own application only, and a changed text does not parse.
    #[test]
    fn fuzz_feed_iterators() {
        let change = (any::<prop::sample::Index>(), "[A-Za-z0-9_-]");
        let values = (any::<i64>(), 0i64..1 << 40, any::<u16>(), change);
        fuzz("feed_iterators", ".{0,40}", values, |text, (position, seconds, moves, (at, letter))| {
            let read = FeedIterator::parse(text, app(1));
            prop_assert!(read.as_ref().map_or(true, |one| one.text(app(1)) == text));
            let complete_at = Time::from_micros(seconds.saturating_mul(1_000_000));
            let one = FeedIterator { position: Position::from_number(*position), complete_at, moves: *moves };
            let mut text = one.text(app(1));
            prop_assert_eq!(FeedIterator::parse(&text, app(1)).unwrap(), one);
            prop_assert!(FeedIterator::parse(&text, app(2)).is_err());
            let at = at.index(text.len());
            if &text[at..=at] != letter {
                text.replace_range(at..=at, letter);
                prop_assert!(FeedIterator::parse(&text, app(1)).is_err());
            }
            Ok(vec![read.map_or_else(|error| words(&error.reason), |_| "read".to_owned())])
        });
    }
}
