//! Message ids that grow in commit order within an application.
//!
//! * On PostgreSQL a transaction first locks the `feed_lock` rows of its applications, in numeric order, until it ends.
//!   If two transactions accept messages for one application, the second assigns ids only after the first has ended.
//!   SQLite has one writer.
//! * Then it reads the greatest id, which includes everything committed for its applications.
//! * It assigns ids above that one.
//!
//! Each id is therefore greater than every id committed before for its application, and a reader that continues from
//! the greatest id it has seen misses nothing. The only write is the row lock: there is no counter whose dead row
//! versions would accumulate under an open snapshot.
//!
//! Ids stay close to the current time. Ids more than [`MAX_ID_LEAD`] in the future are ignored, so a clock that was
//! once far ahead does not pull later ids with it. Readers cannot use such positions
//! ([`MAX_READ_LEAD`](crate::domain::feed::MAX_READ_LEAD)).

use std::collections::BTreeSet;

use crate::domain::feed::{MAX_ID_LEAD, Position};
use crate::domain::{AppId, MessageId, Time};
use crate::store::{StoreError, Tx, on};

/// The number of rows in `feed_lock`. Applications that share a row wait for each other; more rows would only mean more
/// locks per batch.
const LOCKS: u16 = 1_024;

/// Ids for the messages of one transaction.
#[derive(Debug)]
pub(in crate::store) struct FeedOrder {
    /// The last assigned position; all later ones are free.
    last: Position,
}

impl FeedOrder {
    /// Locks the feeds of `apps` until `tx` ends. The messages arrived between `first` and `last`.
    ///
    /// Accepting transactions take this lock before all others, which avoids deadlocks.
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
            // Nothing to accept: an idle relay gets here many times a second.
            return Ok(FeedOrder { last: Position::START });
        }
        if let Tx::Postgres(tx) = tx {
            const LOCK: &str = "SELECT number FROM feed_lock WHERE number = ANY($1) ORDER BY number FOR UPDATE";
            let numbers: Vec<i16> = numbers.into_iter().collect();
            sqlx::query(LOCK).bind(numbers).execute(&mut **tx).await?;
        }
        // A separate statement, so it sees what was committed while the lock was waited for.
        const LAST: &str = "SELECT id FROM message WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT 1";
        let (first, end) = (Position::at(first), Position::at(last.plus(MAX_ID_LEAD)));
        let found: Option<MessageId> = on!(tx, db => {
            sqlx::query_scalar(LAST).bind(first.first_id()).bind(end.first_id()).fetch_optional(db).await
        })?;
        Ok(FeedOrder { last: found.map_or(Position::START, Position::of) })
    }

    /// The id of a message that arrived at `at`: greater than all ids committed or assigned before.
    pub(in crate::store) fn next(&mut self, at: Time) -> MessageId {
        self.last = Position::at(at).max(self.last.next());
        self.last.id(rand::random())
    }
}

/// The `feed_lock` row of an application, from the random end of its id.
fn lock_of(app: AppId) -> i16 {
    let [.., high, low] = *app.0.as_bytes();
    (u16::from_be_bytes([high, low]) % LOCKS) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_for_any_order_of_times() {
        let at = |micros: i64| Time::from_micros(1_763_800_000_000_000 + micros);
        let mut order = FeedOrder { last: Position::at(at(10)) };
        let ids = [0, 0, 5, 3_000, 2_000, 3_000].map(|micros| order.next(at(micros)));
        assert!(ids.is_sorted() && ids[0] > Position::at(at(10)).id(u64::MAX), "{ids:?}");
        assert_eq!(Position::of(ids[3]), Position::at(at(3_000)), "a time that is later counts");
        let positions: BTreeSet<Position> = ids.into_iter().map(Position::of).collect();
        assert_eq!(positions.len(), ids.len(), "no two have one position");
    }
}
