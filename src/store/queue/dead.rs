//! Deliveries that end undelivered: they leave the queue for the table `dead`, where they can be resent.
//!
//! * [`insert`] – those whose last attempt was just recorded: the record has taken them out of the queue already.
//! * [`end_pending`] – those that are ended while they wait: canceled, without content, of a deleted endpoint.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::domain::deliveries::delivery::{DeadReason, Next, Progress};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, Time};
use crate::store::db::sqlite;
use crate::store::recording::record::{Finished, count_dead};
use crate::store::{StoreError, Tx};

/// A delivery that its last attempt has ended.
pub(in crate::store) struct NewDead<'f> {
    finished: &'f Finished,
    reason: DeadReason,
}

impl<'f> NewDead<'f> {
    /// `None`: `finished` has not ended as dead.
    pub(in crate::store) fn of(finished: &'f Finished) -> Option<NewDead<'f>> {
        match finished.next {
            Next::Dead(reason) => Some(NewDead { finished, reason }),
            Next::Delivered | Next::Retry { .. } => None,
        }
    }

    fn progress(&self) -> Progress {
        self.finished.before
    }
}

/// Inserts deliveries that have left the queue in the same transaction.
pub(in crate::store) async fn insert(tx: &mut Tx, dead: &[NewDead<'_>]) -> Result<(), StoreError> {
    const HEAD: &str =
        "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation) ";
    match tx {
        _ if dead.is_empty() => Ok(()),
        Tx::Sqlite(tx) => {
            sqlite::insert(tx, HEAD, 9, dead, |mut row, one| {
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
            sqlx::query(sqlx::AssertSqlSafe(format!("{HEAD}{ROWS}")))
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

/// Which pending deliveries end.
pub(in crate::store) enum Ending<'e> {
    /// One delivery of an application.
    One(AppId, MessageId, EndpointId),
    /// All of these messages, which the caller has bounded.
    Messages(&'e [MessageId]),
    /// The first of an endpoint, at most so many.
    Endpoint(EndpointId, i64),
}

/// A delivery that was ended while it waited.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(in crate::store) struct Ended {
    pub endpoint_id: EndpointId,
    pub message_id: MessageId,
    pub app_id: AppId,
    pub org: OrgId,
    pub attempts: i32,
}

/// Ends pending deliveries: they move from `due` to `dead`, under the next generation, so that an attempt in flight meanwhile changes
/// nothing of it. Gives back which.
pub(in crate::store) async fn end_pending(
    tx: &mut Tx,
    ending: Ending<'_>,
    reason: DeadReason,
    now: Time,
) -> Result<Vec<Ended>, StoreError> {
    /// What moves, and what is told of it. The organization is the application's.
    const MOVE: &str = "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
         SELECT moved.message_id, moved.endpoint_id, moved.app_id,
             (SELECT org FROM application WHERE application.id = moved.app_id), $1, $2, moved.attempts, moved.step,
             moved.generation + 1";
    const TOLD: &str = "RETURNING endpoint_id, message_id, app_id, org, attempts";
    match tx {
        Tx::Sqlite(tx) => {
            // Nobody else writes: both statements see the same rows.
            let (which, list) = match &ending {
                Ending::One(..) => ("message_id = $3 AND endpoint_id = $4 AND app_id = $5", None),
                Ending::Messages(ids) => (
                    "message_id IN (SELECT unhex(value) FROM json_each($3))",
                    Some(sqlite::id_list(ids.iter().map(|id| id.0))),
                ),
                Ending::Endpoint(..) => (
                    "slot = (SELECT slot FROM endpoint WHERE id = $3) AND endpoint_id = $3 AND message_id IN
                         (SELECT message_id FROM due WHERE slot = (SELECT slot FROM endpoint WHERE id = $3)
                              AND endpoint_id = $3 ORDER BY kind, due_at, message_id LIMIT $4)",
                    None,
                ),
            };
            let insert = format!("{MOVE} FROM due AS moved WHERE {which} {TOLD}");
            let delete = format!("DELETE FROM due WHERE $1 IS NOT NULL AND $2 IS NOT NULL AND {which}");
            let insert = sqlx::query_as(sqlx::AssertSqlSafe(insert)).bind(reason.word()).bind(now);
            let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(reason.word()).bind(now);
            let (insert, delete) = match ending {
                Ending::One(app, message, endpoint) => {
                    (insert.bind(message).bind(endpoint).bind(app), delete.bind(message).bind(endpoint).bind(app))
                }
                Ending::Messages(_) => (insert.bind(list.clone()), delete.bind(list)),
                Ending::Endpoint(endpoint, most) => {
                    (insert.bind(endpoint).bind(most), delete.bind(endpoint).bind(most))
                }
            };
            let ended: Vec<Ended> = insert.fetch_all(&mut **tx).await?;
            delete.execute(&mut **tx).await?;
            Ok(ended)
        }
        Tx::Postgres(tx) => {
            let which = match &ending {
                Ending::One(..) => "message_id = $3 AND endpoint_id = $4 AND app_id = $5",
                Ending::Messages(_) => "message_id = ANY($3)",
                Ending::Endpoint(..) => "slot = (SELECT slot FROM endpoint WHERE id = $3) AND endpoint_id = $3",
            };
            let mut locked = format!("SELECT message_id, endpoint_id FROM due WHERE {which}");
            match &ending {
                Ending::One(..) => {}
                // Locked in the order in which records lock them: neither waits for the other in a circle.
                Ending::Messages(_) => locked.push_str(" ORDER BY message_id, endpoint_id"),
                Ending::Endpoint(..) => locked.push_str(" ORDER BY kind, due_at LIMIT $4"),
            }
            let mut sql = String::new();
            let _ = write!(
                sql,
                "WITH locked AS ({locked} FOR UPDATE),
                     moved AS (DELETE FROM due USING locked WHERE due.message_id = locked.message_id
                         AND due.endpoint_id = locked.endpoint_id RETURNING due.*)
                 {MOVE} FROM moved {TOLD}"
            );
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(reason.word()).bind(now);
            let query = match ending {
                Ending::One(app, message, endpoint) => query.bind(message).bind(endpoint).bind(app),
                Ending::Messages(ids) => query.bind(ids.iter().map(|id| id.0).collect::<Vec<Uuid>>()),
                Ending::Endpoint(endpoint, most) => query.bind(endpoint).bind(most),
            };
            Ok(query.fetch_all(&mut **tx).await?)
        }
    }
}

/// Counts, after the commit, what [`end_pending`] ended.
pub(in crate::store) fn count(reason: DeadReason, ended: &[Ended]) {
    count_dead(reason, ended.len() as u64);
}
