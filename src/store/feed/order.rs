//! The order of the feed: ids of messages that grow, within an application, in the order of the commits.
//!
//! * On PostgreSQL a transaction first locks the rows of `feed_lock` that its applications fall on, in the order of their numbers, and
//!   keeps them until it ends. So of two transactions that accept for one application the second begins to draw when the first is
//!   committed or undone. SQLite has one writer, and its lock is held already.
//! * Then it reads the greatest id that there is. It sees all that was committed for its applications.
//! * It draws ids above that one.
//!
//! So each id is greater than all that was committed for its application before, and a reader that goes on from the greatest id it has
//! seen misses nothing. Nothing is written for it but the mark of the lock in its row: no column, no index entry, no counter whose old
//! versions would pile up under an open snapshot.
//!
//! Ids stay near the time. Those that are further ahead of the clock than [`AHEAD`] are passed over: a clock that was far ahead once
//! does not draw all that comes later into that future. Readers are refused such positions ([`READ_AHEAD`](crate::domain::feed::READ_AHEAD)).

use std::collections::BTreeSet;

use crate::domain::feed::{AHEAD, Position};
use crate::domain::{AppId, MessageId, Time};
use crate::store::{StoreError, Tx, on};

/// How many rows `feed_lock` has. Applications that fall on one row take turns as if they were one; more rows would be locked one by one
/// all the same.
const LOCKS: u16 = 1_024;

/// Ids for the messages of one transaction.
#[derive(Debug)]
pub(in crate::store) struct FeedOrder {
    /// The position drawn last; none of this time or later is taken.
    last: Position,
}

impl FeedOrder {
    /// Has `tx` draw for `apps`: others that accept for one of them wait until it ends. The messages were brought from `first` to `last`.
    ///
    /// Taken before all other locks that accepting transactions wait for, so that nobody waits in a circle.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(in crate::store) async fn take(
        tx: &mut Tx,
        apps: impl Iterator<Item = AppId>,
        first: Time,
        last: Time,
    ) -> Result<FeedOrder, StoreError> {
        let numbers: BTreeSet<i16> = apps.map(lock_of).collect();
        if numbers.is_empty() {
            // Nothing is accepted: a relay that found nothing comes by here many times a second.
            return Ok(FeedOrder { last: Position::START });
        }
        if let Tx::Postgres(tx) = tx {
            const LOCK: &str = "SELECT number FROM feed_lock WHERE number = ANY($1) ORDER BY number FOR UPDATE";
            let numbers: Vec<i16> = numbers.into_iter().collect();
            sqlx::query(LOCK).bind(numbers).execute(&mut **tx).await?;
        }
        // A statement of its own: it sees what was committed while the one before waited.
        const LAST: &str = "SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT 1";
        let (first, end) = (Position::at(first), Position::at(last.plus(AHEAD)));
        let found: Option<MessageId> = on!(tx, db => {
            sqlx::query_scalar(LAST).bind(first.first_id()).bind(end.first_id()).fetch_optional(db).await
        })?;
        Ok(FeedOrder { last: found.map_or(Position::START, Position::of) })
    }

    /// The id of a message that was brought `at` this time: greater than all that were committed or drawn before it.
    pub(in crate::store) fn next(&mut self, at: Time) -> MessageId {
        self.last = Position::at(at).max(self.last.next());
        self.last.id(rand::random())
    }
}

/// The row of `feed_lock` that an application falls on: by the end of its id, which is random.
fn lock_of(app: AppId) -> i16 {
    let [.., high, low] = *app.0.as_bytes();
    (u16::from_be_bytes([high, low]) % LOCKS) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_times_are() {
        let at = |micros: i64| Time::from_micros(1_763_800_000_000_000 + micros);
        let mut order = FeedOrder { last: Position::at(at(10)) };
        let ids = [0, 0, 5, 3_000, 2_000, 3_000].map(|micros| order.next(at(micros)));
        assert!(ids.is_sorted() && ids[0] > Position::at(at(10)).id(u64::MAX), "{ids:?}");
        assert_eq!(Position::of(ids[3]), Position::at(at(3_000)), "a time that is later counts");
        let positions: BTreeSet<Position> = ids.into_iter().map(Position::of).collect();
        assert_eq!(positions.len(), ids.len(), "no two have one position");
    }
}
