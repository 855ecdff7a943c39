//! Dead deliveries: they move from the queue to the table `dead`, from where they can be resent.
//!
//! * [`insert`]: deliveries that were ended by their last attempt. The record has deleted them from the queue already.
//! * [`end_pending`]: pending deliveries that were canceled, or whose content or endpoint was deleted.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::domain::deliveries::delivery::{DeadReason, Progress, Transition};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::sqlite;
use crate::store::recording::record::{FinishedAttempt, count_dead};
use crate::store::{StoreError, Tx};

/// The beginning of every statement that inserts dead deliveries.
pub(in crate::store) const INSERT_DEAD: &str =
    "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation) ";

/// A delivery that was ended by its last attempt.
pub(in crate::store) struct NewDead<'f> {
    finished: &'f FinishedAttempt,
    reason: DeadReason,
}

impl<'f> NewDead<'f> {
    /// `None` if the delivery is not dead.
    pub(in crate::store) fn of(finished: &'f FinishedAttempt) -> Option<NewDead<'f>> {
        match finished.next {
            Transition::Dead(reason) => Some(NewDead { finished, reason }),
            Transition::Delivered | Transition::Retry { .. } => None,
        }
    }

    fn progress(&self) -> Progress {
        self.finished.before
    }
}

/// Inserts deliveries that the same transaction has deleted from the queue.
pub(in crate::store) async fn insert(tx: &mut Tx, dead: &[NewDead<'_>]) -> Result<(), StoreError> {
    match tx {
        _ if dead.is_empty() => Ok(()),
        Tx::Sqlite(tx) => {
            sqlite::insert(tx, INSERT_DEAD, 9, dead, |mut row, one| {
                let attempt = &one.finished.attempt;
                row.push_bind(attempt.message_id.0)
                    .push_bind(attempt.endpoint_id.0)
                    .push_bind(attempt.app_id.0)
                    .push_bind(one.finished.org.as_str().to_owned())
                    .push_bind(one.reason.word())
                    .push_bind(attempt.at)
                    .push_bind(one.progress().attempts + 1)
                    .push_bind(one.progress().step)
                    .push_bind(one.progress().generation);
            })
            .await
        }
        Tx::Postgres(tx) => {
            fn column<'d, 'f, T>(dead: &'d [NewDead<'f>], of: impl Fn(&'d NewDead<'f>) -> T) -> Vec<T> {
                dead.iter().map(of).collect()
            }
            const ROWS: &str =
                "SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[],
                 $7::integer[], $8::integer[], $9::integer[])";
            sqlx::query(sqlx::AssertSqlSafe(format!("{INSERT_DEAD}{ROWS}")))
                .bind(column::<Uuid>(dead, |one| one.finished.attempt.message_id.0))
                .bind(column::<Uuid>(dead, |one| one.finished.attempt.endpoint_id.0))
                .bind(column::<Uuid>(dead, |one| one.finished.attempt.app_id.0))
                .bind(column(dead, |one| one.finished.org.as_str()))
                .bind(column(dead, |one| one.reason.word()))
                .bind(column(dead, |one| one.finished.attempt.at.micros()))
                .bind(column(dead, |one| one.progress().attempts + 1))
                .bind(column(dead, |one| one.progress().step))
                .bind(column(dead, |one| one.progress().generation))
                .execute(&mut **tx)
                .await?;
            Ok(())
        }
    }
}

/// The pending deliveries to end.
pub(in crate::store) enum PendingFilter<'e> {
    One(AppId, MessageId, EndpointId),
    /// All deliveries of these messages. The caller bounds their number.
    Messages(&'e [MessageId]),
    /// The first deliveries of an endpoint, at most this many.
    Endpoint(EndpointId, i64),
}

from_row! {
    /// A delivery that was ended while pending.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(in crate::store) struct EndedDelivery {
        pub endpoint_id: EndpointId,
        pub message_id: MessageId,
        pub app_id: AppId,
        pub org: OrgId,
        pub attempts: i32,
    }
}

/// Moves pending deliveries from `due` to `dead` and returns them. They get the next generation, so an attempt in
/// flight cannot change them.
pub(in crate::store) async fn end_pending(
    tx: &mut Tx,
    filter: PendingFilter<'_>,
    reason: DeadReason,
    now: Time,
) -> Result<Vec<EndedDelivery>, StoreError> {
    const SELECT: &str = "SELECT moved.message_id, moved.endpoint_id, moved.app_id,
             (SELECT org FROM application WHERE application.id = moved.app_id), $1, $2, moved.attempts, moved.step,
             moved.generation + 1";
    const RETURNING: &str = "RETURNING endpoint_id, message_id, app_id, org, attempts";
    match tx {
        Tx::Sqlite(tx) => {
            // SQLite has one writer: both statements see the same rows.
            let (which, list) = match &filter {
                PendingFilter::One(..) => ("message_id = $3 AND endpoint_id = $4 AND app_id = $5", None),
                PendingFilter::Messages(ids) => (
                    "message_id IN (SELECT unhex(value) FROM json_each($3))",
                    Some(sqlite::id_list(ids.iter().map(|id| id.0))),
                ),
                PendingFilter::Endpoint(..) => (
                    "slot = (SELECT slot FROM endpoint WHERE id = $3) AND endpoint_id = $3 AND message_id IN
                         (SELECT message_id FROM due WHERE slot = (SELECT slot FROM endpoint WHERE id = $3)
                              AND endpoint_id = $3 ORDER BY kind, due_at, message_id LIMIT $4)",
                    None,
                ),
            };
            let insert = format!("{INSERT_DEAD} {SELECT} FROM due AS moved WHERE {which} {RETURNING}");
            let delete = format!("DELETE FROM due WHERE $1 IS NOT NULL AND $2 IS NOT NULL AND {which}");
            let insert = sqlx::query_as(sqlx::AssertSqlSafe(insert)).bind(reason.word()).bind(now);
            let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(reason.word()).bind(now);
            let (insert, delete) = match filter {
                PendingFilter::One(app, message, endpoint) => {
                    (insert.bind(message).bind(endpoint).bind(app), delete.bind(message).bind(endpoint).bind(app))
                }
                PendingFilter::Messages(_) => (insert.bind(list.clone()), delete.bind(list)),
                PendingFilter::Endpoint(endpoint, most) => {
                    (insert.bind(endpoint).bind(most), delete.bind(endpoint).bind(most))
                }
            };
            let ended: Vec<EndedDelivery> = insert.fetch_all(&mut **tx).await?;
            delete.execute(&mut **tx).await?;
            Ok(ended)
        }
        Tx::Postgres(tx) => {
            let which = match &filter {
                PendingFilter::One(..) => "message_id = $3 AND endpoint_id = $4 AND app_id = $5",
                PendingFilter::Messages(_) => "message_id = ANY($3)",
                PendingFilter::Endpoint(..) => "slot = (SELECT slot FROM endpoint WHERE id = $3) AND endpoint_id = $3",
            };
            let mut locked = format!("SELECT message_id, endpoint_id FROM due WHERE {which}");
            match &filter {
                PendingFilter::One(..) => {}
                // The lock order of records, to avoid deadlocks.
                PendingFilter::Messages(_) => locked.push_str(" ORDER BY message_id, endpoint_id"),
                PendingFilter::Endpoint(..) => locked.push_str(" ORDER BY kind, due_at LIMIT $4"),
            }
            let mut sql = String::new();
            let _ = write!(
                sql,
                "WITH locked AS ({locked} FOR UPDATE),
                     moved AS (DELETE FROM due USING locked WHERE due.message_id = locked.message_id
                         AND due.endpoint_id = locked.endpoint_id RETURNING due.*)
                 {INSERT_DEAD} {SELECT} FROM moved {RETURNING}"
            );
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(reason.word()).bind(now);
            let query = match filter {
                PendingFilter::One(app, message, endpoint) => query.bind(message).bind(endpoint).bind(app),
                PendingFilter::Messages(ids) => query.bind(ids.iter().map(|id| id.0).collect::<Vec<Uuid>>()),
                PendingFilter::Endpoint(endpoint, most) => query.bind(endpoint).bind(most),
            };
            Ok(query.fetch_all(&mut **tx).await?)
        }
    }
}

/// Updates the metrics after the commit of [`end_pending`].
pub(in crate::store) fn count(reason: DeadReason, ended: &[EndedDelivery]) {
    count_dead(reason, ended.len() as u64);
}
