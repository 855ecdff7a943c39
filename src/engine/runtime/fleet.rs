//! The fleet as of the last heartbeat: the number of processes, and whether this one runs the maintenance.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::Time;
use crate::store::queue::slots::Rank;

/// The fleet as of the last heartbeat that reached the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub rank: Rank,
    /// The time until which this process may run the maintenance. `None`: another process runs it.
    pub maintains_until: Option<Instant>,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet { rank: Rank::ALONE, maintains_until: None }
    }
}

/// Receives changes of the fleet.
pub type FleetWatch = watch::Receiver<Fleet>;

impl Fleet {
    /// Whether this process may run the maintenance now.
    pub fn maintains(self) -> bool {
        self.maintains_until.is_some_and(|until| Instant::now() < until)
    }

    /// The poll interval of this process if the fleet as a whole polls once per `poll`, at most `longest`.
    pub fn interval(self, poll: Duration, longest: Duration) -> Duration {
        poll.saturating_mul(u32::try_from(self.rank.of).unwrap_or(u32::MAX)).min(longest)
    }
}

/// The time until the next poll of this process. Processes poll round-robin by rank, one per `poll`, without messages:
/// their clocks are synchronized. Clock skew makes the polls uneven but no less frequent.
pub fn until_turn(rank: Rank, poll: Duration, now: Time) -> Duration {
    let poll = i64::try_from(poll.as_micros()).unwrap_or(i64::MAX).max(1);
    let of = i64::try_from(rank.of).unwrap_or(i64::MAX).max(1);
    let index = i64::try_from(rank.index).unwrap_or(0);
    let round = poll.saturating_mul(of);
    let wait = (poll.saturating_mul(index) - now.micros()).rem_euclid(round);
    // This turn is done already: the timer fired slightly early.
    let wait = if wait < poll / 2 { wait + round } else { wait };
    Duration::from_micros(wait.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(25);

    /// The times at which each of `of` processes polls within a second, in order.
    fn polls(of: usize) -> Vec<i64> {
        let mut all = Vec::new();
        for index in 0..of {
            let mut now = Time::from_micros(1_763_800_000_000_000);
            let end = now.plus(Duration::from_secs(1));
            loop {
                now = now.plus(until_turn(Rank { index, of }, POLL, now));
                if now >= end {
                    break;
                }
                all.push(now.micros());
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn a_fleet_of_any_size_polls_as_often_as_one_process() {
        for of in [1, 2, 3, 7, 50] {
            // Each misses its first turn if that is now.
            let polls: Vec<i64> = polls(of).into_iter().skip_while(|at| at % 1_000_000 == 0).collect();
            assert!((38..=40).contains(&polls.len()), "{of} processes: {} polls", polls.len());
            let apart: Vec<i64> = polls.windows(2).map(|two| two[1] - two[0]).collect();
            assert!(apart.iter().all(|apart| *apart == 25_000), "{of} processes: {apart:?}");
        }
    }

    #[test]
    fn a_timer_that_is_early_does_not_poll_twice() {
        let turn = Time::from_micros(1_763_800_000_000_000);
        let early = turn.minus(Duration::from_micros(300));
        assert_eq!(until_turn(Rank::ALONE, POLL, early), POLL + Duration::from_micros(300));
        let late = turn.plus(Duration::from_millis(3));
        assert_eq!(until_turn(Rank::ALONE, POLL, late), Duration::from_millis(22));
    }

    #[test]
    fn intervals_grow_with_the_fleet_up_to_a_bound() {
        let of = |of| Fleet { rank: Rank { index: 0, of }, maintains_until: None };
        let interval = |n| of(n).interval(Duration::from_millis(250), Duration::from_secs(5)).as_millis();
        assert_eq!([interval(1), interval(4), interval(50)], [250, 1_000, 5_000]);
    }
}
