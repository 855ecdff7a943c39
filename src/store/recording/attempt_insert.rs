//! Inserts attempts, regardless of their effect on the delivery. They are the widest rows of the store.

use std::collections::HashSet;

use sqlx::query_builder::Separated;

use crate::domain::deliveries::attempt::{Attempt, Trigger};
use crate::domain::{AttemptId, Time};
use crate::store::db::tx::PgTx;
use crate::store::db::{codec, sqlite};
use crate::store::partitions::PartitionedTable;
use crate::store::recording::record::{FinishedAttempt, RowCheck};
use crate::store::{StoreError, Tx};

const ATTEMPT_INSERT: &str = "INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, \
     settles, trigger, at, url, request_headers, failure, detail, status, duration_us, response_headers, \
     response_body, next_at) ";

/// Inserts the attempts that are not in the store yet and returns their ids. `settled`: whether the attempt delivered
/// its delivery. `None`: see [`RowCheck::Counted`].
pub(in crate::store) async fn append(
    tx: &mut Tx,
    finished: &[FinishedAttempt],
    settled: impl Fn(&FinishedAttempt) -> bool,
    check: RowCheck,
) -> Result<Option<HashSet<AttemptId>>, StoreError> {
    match tx {
        Tx::Sqlite(tx) => {
            let mut new = HashSet::with_capacity(finished.len());
            // Nearly all attempts are of the usual kind; constants in the statement save binding their values.
            let rows = finished.iter().map(|one| (one, settled(one)));
            let (usual, others): (Vec<Row<'_>>, Vec<Row<'_>>) =
                rows.partition(|(one, settles)| *settles && is_usual(one));
            for (rows, usual) in [(usual, true), (others, false)] {
                let Some(some) = append_sqlite(tx, &rows, usual, check).await? else { return Ok(None) };
                new.extend(some);
            }
            Ok(Some(new))
        }
        Tx::Postgres(tx) => append_postgres(tx, finished, settled).await.map(Some),
    }
}

/// An attempt, and whether it delivered its delivery.
type Row<'f> = (&'f FinishedAttempt, bool);

/// Delivered at the first attempt and never resent.
fn is_usual(one: &FinishedAttempt) -> bool {
    let (attempt, outcome) = (&one.attempt, &one.attempt.outcome);
    let first = attempt.number == 1 && attempt.trigger == Trigger::Scheduled && one.before.generation == 0;
    first && attempt.next_at.is_none() && outcome.failure.is_none() && outcome.detail.is_empty()
}

async fn append_sqlite(
    connection: &mut sqlx::SqliteConnection,
    rows: &[Row<'_>],
    usual: bool,
    check: RowCheck,
) -> Result<Option<Vec<AttemptId>>, StoreError> {
    let push = |mut row: Separated<'_, sqlx::Sqlite, &'static str>, (one, settles): &Row<'_>| {
        let attempt = &one.attempt;
        row.push_bind(attempt.id.0)
            .push_bind(attempt.message_id.0)
            .push_bind(attempt.endpoint_id.0)
            .push_bind(attempt.app_id.0)
            .push_bind(one.org.as_str().to_owned());
        match usual {
            true => row.push("1").push("0").push("1").push("0"),
            false => row
                .push_bind(attempt.number)
                .push_bind(one.before.generation)
                .push_bind(settles.then_some(attempt.number))
                .push_bind(attempt.trigger.code()),
        };
        row.push_bind(attempt.at)
            .push_bind(attempt.url.clone())
            .push_bind(codec::header_lines(&attempt.request_headers));
        match usual {
            true => row.push("NULL").push("''"),
            false => row
                .push_bind(attempt.outcome.failure.map(|failure| failure.word()))
                .push_bind(codec::without_nul(&attempt.outcome.detail)),
        };
        row.push_bind(attempt.outcome.status.map(i32::from))
            .push_bind(attempt.outcome.duration.as_micros() as i64)
            .push_bind(codec::header_lines(&attempt.outcome.response_headers))
            .push_bind(attempt.outcome.response_body.to_vec());
        match usual {
            true => row.push("NULL"),
            false => row.push_bind(attempt.next_at),
        };
    };
    let tail = match check {
        RowCheck::Counted => " ON CONFLICT DO NOTHING",
        RowCheck::Returned => " ON CONFLICT DO NOTHING RETURNING id",
    };
    let head = ATTEMPT_INSERT.replacen("INSERT", "INSERT OR FAIL", 1);
    let mut new = Vec::with_capacity(rows.len());
    for chunk in sqlite::chunks(rows, 19) {
        let mut statement = sqlite::values(&head, chunk, tail, push);
        if check == RowCheck::Returned {
            new.extend(statement.build_query_scalar::<AttemptId>().fetch_all(&mut *connection).await?);
        } else if statement.build().execute(&mut *connection).await?.rows_affected() == chunk.len() as u64 {
            new.extend(chunk.iter().map(|(one, _)| one.attempt.id));
        } else {
            return Ok(None);
        }
    }
    Ok(Some(new))
}

async fn append_postgres(
    tx: &mut PgTx,
    finished: &[FinishedAttempt],
    settled: impl Fn(&FinishedAttempt) -> bool,
) -> Result<HashSet<AttemptId>, StoreError> {
    fn column<'f, T>(finished: &[&'f FinishedAttempt], of: impl FnMut(&'f Attempt) -> T) -> Vec<T> {
        finished.iter().map(|one| &one.attempt).map(of).collect()
    }
    let (partitions, ids) = (tx.partitions(), finished.iter().map(|one| one.attempt.message_id.0).collect::<Vec<_>>());
    let gone = partitions.cover(PartitionedTable::Attempt, &ids).await?;
    // Attempts in flight when their message's partition was dropped by the retention are discarded.
    let finished: Vec<&FinishedAttempt> =
        finished.iter().filter(|one| !gone.contains(&one.attempt.message_id.0)).collect();
    let finished = &finished[..];
    const TAIL: &str =
        "SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::integer[], $7::integer[],
         $8::integer[], $9::smallint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[],
         $15::integer[], $16::bigint[], $17::text[], $18::bytea[], $19::bigint[])
         ON CONFLICT DO NOTHING RETURNING id";
    let appended: Result<Vec<AttemptId>, sqlx::Error> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("{ATTEMPT_INSERT}{TAIL}")))
            .bind(column(finished, |a| a.id.0))
            .bind(column(finished, |a| a.message_id.0))
            .bind(column(finished, |a| a.endpoint_id.0))
            .bind(column(finished, |a| a.app_id.0))
            .bind(finished.iter().map(|one| one.org.as_str()).collect::<Vec<&str>>())
            .bind(column(finished, |a| a.number))
            .bind(finished.iter().map(|one| one.before.generation).collect::<Vec<i32>>())
            .bind(finished.iter().map(|one| settled(one).then_some(one.attempt.number)).collect::<Vec<Option<i32>>>())
            .bind(column(finished, |a| a.trigger.code()))
            .bind(column(finished, |a| a.at.micros()))
            .bind(column(finished, |a| a.url.as_str()))
            .bind(column(finished, |a| codec::header_lines(&a.request_headers)))
            .bind(column(finished, |a| a.outcome.failure.map(|failure| failure.word())))
            .bind(column(finished, |a| codec::without_nul(&a.outcome.detail)))
            .bind(column(finished, |a| a.outcome.status.map(i32::from)))
            .bind(column(finished, |a| a.outcome.duration.as_micros() as i64))
            .bind(column(finished, |a| codec::header_lines(&a.outcome.response_headers)))
            .bind(column(finished, |a| &*a.outcome.response_body))
            .bind(column(finished, |a| a.next_at.map(Time::micros)))
            .fetch_all(&mut **tx)
            .await;
    Ok(partitions.check_insert(appended)?.into_iter().collect())
}
