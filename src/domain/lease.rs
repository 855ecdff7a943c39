//! A **lease** of messages: what a leased consumer was given is its own until it commits it, or until the lease ends.
//!
//! * [`Offset`]s number what a consumer was given, from 1 on. They are small, because the dialect's clients read them as numbers of 53 bits.
//!   What is given out again gets new ones: so a commit under a lease that has ended is told from one under the lease that followed.
//! * [`Leased`] – what a consumer has committed and what it was given last; [`Leased::commit`] says what a commit comes to.

use std::time::Duration;

use super::Time;
use super::feed::Position;

/// The number of a message among those that a consumer was given.
pub type Offset = u64;

/// How long a lease is if nothing is said, and at most.
pub const LEASE: Duration = Duration::from_secs(30);
pub const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3_600);

/// The state of a leased consumer: its position, and the messages that it was given last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leased {
    /// The greatest offset that was given out.
    pub given: Offset,
    /// The greatest one that was committed.
    pub committed: Offset,
    /// The positions of what was given out last; their offsets end with `given`. Empty: nothing since the consumer was moved.
    pub positions: Vec<Position>,
    /// When the lease of these ends.
    pub until: Time,
}

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The consumer has done with everything up to this position.
    Moves(Position),
    /// That was committed already.
    Already,
    /// The lease has ended, and what it was of is given out again.
    RanOut,
    /// Nothing with this offset was given out.
    NotGiven,
}

impl Leased {
    /// The first offset of what was given out last.
    fn first(&self) -> Offset {
        self.given + 1 - (self.positions.len() as u64).min(self.given)
    }

    /// Whether something that was given out is neither committed nor free again at the time `now`.
    pub fn is_held(&self, now: Time) -> bool {
        self.committed < self.given && !self.positions.is_empty() && now < self.until
    }

    /// The outcome of committing `offset` at `now`.
    pub fn commit(&self, offset: Offset, now: Time) -> Commit {
        let first = self.first();
        let place = offset.checked_sub(first).and_then(|place| self.positions.get(usize::try_from(place).ok()?));
        match place {
            _ if offset == 0 || offset > self.given => Commit::NotGiven,
            None => Commit::RanOut,
            Some(_) if offset <= self.committed => Commit::Already,
            Some(_) if now >= self.until => Commit::RanOut,
            Some(position) => Commit::Moves(*position),
        }
    }

    /// The positions as a column: 8 bytes each.
    pub fn column(positions: &[Position]) -> Vec<u8> {
        positions.iter().flat_map(|one| one.number().to_be_bytes()).collect()
    }

    /// The positions of such a column.
    pub fn positions(column: &[u8]) -> Vec<Position> {
        column.as_chunks::<8>().0.iter().map(|bytes| Position::from_number(i64::from_be_bytes(*bytes))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);

    fn at(seconds: u64) -> Time {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn three() -> Leased {
        let positions = [1, 2, 3].map(|seconds| Position::at(at(seconds))).to_vec();
        Leased { given: 8, committed: 5, positions, until: at(30) }
    }

    #[test]
    fn a_commit_is_of_what_was_given_out_last() {
        let leased = three();
        assert_eq!(leased.commit(6, at(29)), Commit::Moves(Position::at(at(1))));
        assert_eq!(leased.commit(8, at(29)), Commit::Moves(Position::at(at(3))));
        for never in [0, 9, u64::MAX] {
            assert_eq!(leased.commit(never, at(1)), Commit::NotGiven);
        }
        assert_eq!(leased.commit(5, at(1)), Commit::RanOut, "of the lease before");
        assert_eq!(leased.commit(8, at(30)), Commit::RanOut);
        let some = Leased { committed: 7, ..three() };
        assert_eq!(some.commit(6, at(1)), Commit::Already);
        assert_eq!(some.commit(7, at(40)), Commit::Already, "whenever the answer was lost");
        assert_eq!(some.commit(8, at(1)), Commit::Moves(Position::at(at(3))));
        let moved = Leased { positions: Vec::new(), ..three() };
        assert_eq!((moved.commit(8, at(1)), moved.commit(9, at(1))), (Commit::RanOut, Commit::NotGiven));
    }

    #[test]
    fn what_is_given_out_is_held_until_it_is_committed_or_the_lease_ends() {
        assert!(three().is_held(at(29)) && !three().is_held(at(30)));
        assert!(
            Leased { committed: 7, ..three() }.is_held(at(1)) && !Leased { committed: 8, ..three() }.is_held(at(1))
        );
        assert!(!Leased::default().is_held(Time::ZERO));
        assert!(!Leased { positions: Vec::new(), ..three() }.is_held(at(1)));
    }

    #[test]
    fn positions_survive_their_column() {
        let positions = three().positions;
        assert_eq!(Leased::positions(&Leased::column(&positions)), positions);
    }
}
