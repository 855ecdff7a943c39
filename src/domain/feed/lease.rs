//! Leases of polled messages: a batch belongs to a leased consumer until the consumer commits it or the lease ends.
//!
//! * An [`Offset`] numbers the messages a consumer received, from 1. Offsets are small because clients of the REST
//!   dialect parse them as 53-bit numbers. A redelivered message gets a new offset, which distinguishes a commit under
//!   an expired lease from one under its successor.
//! * [`ConsumerLease`] holds the consumer's committed offset and its last batch; [`ConsumerLease::commit`] decides the
//!   outcome of a commit.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::feed::Position;

/// The number of a message among those a consumer received.
pub type Offset = u64;

/// The default duration of a lease.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// The longest duration of a lease.
pub const MAX_LEASE: Duration = Duration::from_secs(12 * 3_600);

/// The state of a leased consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerLease {
    /// The greatest offset handed out.
    pub given: Offset,
    /// The greatest committed offset.
    pub committed: Offset,
    /// The greatest offset that was handed out and never committed, because its lease ended or the consumer was reset.
    pub lapsed: Offset,
    /// The positions of the last batch; the last one has the offset `given`. Empty if the consumer was reset since.
    pub positions: Vec<Position>,
    /// The end of the lease.
    pub until: Time,
}

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The consumer's new position.
    Advanced(Position),
    /// The offset was committed before.
    AlreadyCommitted,
    /// The lease has ended; its messages are handed out again.
    LeaseExpired,
    /// The offset was never handed out.
    UnknownOffset,
}

impl ConsumerLease {
    /// The first offset of the last batch.
    fn first(&self) -> Offset {
        self.given + 1 - (self.positions.len() as u64).min(self.given)
    }

    /// Whether the last batch is uncommitted and still leased at `now`.
    pub fn is_held(&self, now: Time) -> bool {
        self.committed < self.given && !self.positions.is_empty() && now < self.until
    }

    /// The outcome of committing `offset` at `now`.
    pub fn commit(&self, offset: Offset, now: Time) -> CommitOutcome {
        let first = self.first();
        let place = offset.checked_sub(first).and_then(|place| self.positions.get(usize::try_from(place).ok()?));
        match place {
            _ if offset == 0 || offset > self.given => CommitOutcome::UnknownOffset,
            // Another program of the consumer has continued since the response to this commit was lost.
            None if self.lapsed < offset && offset <= self.committed => CommitOutcome::AlreadyCommitted,
            None => CommitOutcome::LeaseExpired,
            Some(_) if offset <= self.committed => CommitOutcome::AlreadyCommitted,
            Some(_) if now >= self.until => CommitOutcome::LeaseExpired,
            Some(position) => CommitOutcome::Advanced(*position),
        }
    }

    /// The column value of `positions`: 8 bytes each.
    pub fn column(positions: &[Position]) -> Vec<u8> {
        positions.iter().flat_map(|one| one.number().to_be_bytes()).collect()
    }

    /// Reads the column value.
    pub fn positions(column: &[u8]) -> Vec<Position> {
        column.as_chunks::<8>().0.iter().map(|bytes| Position::from_number(i64::from_be_bytes(*bytes))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::feed::lease::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);

    fn at(seconds: u64) -> Time {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn three() -> ConsumerLease {
        let positions = [1, 2, 3].map(|seconds| Position::at(at(seconds))).to_vec();
        ConsumerLease { given: 8, committed: 5, lapsed: 3, positions, until: at(30) }
    }

    #[test]
    fn a_commit_is_of_what_was_given_out_last() {
        let leased = three();
        assert_eq!(leased.commit(6, at(29)), CommitOutcome::Advanced(Position::at(at(1))));
        assert_eq!(leased.commit(8, at(29)), CommitOutcome::Advanced(Position::at(at(3))));
        for never in [0, 9, u64::MAX] {
            assert_eq!(leased.commit(never, at(1)), CommitOutcome::UnknownOffset);
        }
        for before in [4, 5] {
            assert_eq!(leased.commit(before, at(1)), CommitOutcome::AlreadyCommitted, "of the lease before");
        }
        for lapsed in [1, 3] {
            assert_eq!(leased.commit(lapsed, at(1)), CommitOutcome::LeaseExpired, "given out again since");
        }
        assert_eq!(leased.commit(8, at(30)), CommitOutcome::LeaseExpired);
        let some = ConsumerLease { committed: 7, ..three() };
        assert_eq!(some.commit(6, at(1)), CommitOutcome::AlreadyCommitted);
        assert_eq!(some.commit(7, at(40)), CommitOutcome::AlreadyCommitted, "whenever the answer was lost");
        assert_eq!(some.commit(8, at(1)), CommitOutcome::Advanced(Position::at(at(3))));
        let moved = ConsumerLease { positions: Vec::new(), ..three() };
        assert_eq!(
            (moved.commit(8, at(1)), moved.commit(9, at(1))),
            (CommitOutcome::LeaseExpired, CommitOutcome::UnknownOffset)
        );
    }

    #[test]
    fn leased_messages_are_held_until_the_commit_or_the_end_of_the_lease() {
        assert!(three().is_held(at(29)) && !three().is_held(at(30)));
        assert!(
            ConsumerLease { committed: 7, ..three() }.is_held(at(1))
                && !ConsumerLease { committed: 8, ..three() }.is_held(at(1))
        );
        assert!(!ConsumerLease::default().is_held(Time::ZERO));
        assert!(!ConsumerLease { positions: Vec::new(), ..three() }.is_held(at(1)));
    }

    #[test]
    fn positions_survive_their_column() {
        let positions = three().positions;
        assert_eq!(ConsumerLease::positions(&ConsumerLease::column(&positions)), positions);
    }
}
