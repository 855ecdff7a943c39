//! The health of endpoints, as the recording of attempts keeps it: `endpoint.failing_since`, the beginning of a streak of failures.

use std::collections::BTreeMap;

use crate::domain::{EndpointId, Time};
use crate::store::db::{codec, sqlite};
use crate::store::recording::record::Finished;
use crate::store::{StoreError, Tx};

/// Keeps `failing_since`: set by the first failure after a delivery, cleared by the first delivery after failures. Either begins anew what
/// was [warned of](crate::store::recording::failing). An endpoint that did both in one batch counts as delivered: it does not do nothing but
/// fail.
pub(in crate::store) async fn note(tx: &mut Tx, finished: &[&Finished]) -> Result<(), StoreError> {
    let mut health: BTreeMap<EndpointId, Option<Time>> = BTreeMap::new();
    for one in finished {
        let failed_at = (!one.attempt.outcome.delivered()).then_some(one.attempt.at);
        let since = health.entry(one.attempt.endpoint_id).or_insert(failed_at);
        *since = failed_at.and_then(|at| since.map(|first| first.min(at)));
    }
    let failed: Vec<(EndpointId, Time)> = health.iter().filter_map(|(id, since)| Some((*id, (*since)?))).collect();
    let delivered: Vec<EndpointId> = health.iter().filter(|(_, since)| since.is_none()).map(|(id, _)| *id).collect();
    end_streaks(tx, &delivered).await?;
    begin_streaks(tx, &failed).await
}

/// Clears `failing_since` where it is set. Only the index of failing endpoints is searched: the rows of 100,000 healthy endpoints are wide,
/// and reading one for each delivery took 15 % of the statements' time.
async fn end_streaks(tx: &mut Tx, delivered: &[EndpointId]) -> Result<(), StoreError> {
    match tx {
        _ if delivered.is_empty() => {}
        Tx::Sqlite(tx) => {
            const SQL: &str = "UPDATE endpoint INDEXED BY endpoint_failing_id
                 SET failing_since = NULL, warned = 0, warned_at = NULL
                 WHERE failing_since IS NOT NULL AND id IN (SELECT substr($1, key * 16 + 1, 16) FROM json_each($2))";
            let mut packed = sqlite::Packed::default();
            for endpoint in delivered {
                packed.push(&[&endpoint.0.as_bytes()[..]], &0)?;
            }
            let (ids, list) = packed.values()?;
            sqlx::query(SQL).bind(ids).bind(list).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "UPDATE endpoint SET failing_since = NULL, warned = 0, warned_at = NULL
                 WHERE failing_since IS NOT NULL AND id = ANY($1)";
            sqlx::query(SQL).bind(codec::uuids(delivered)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Sets `failing_since` where it is not set yet.
async fn begin_streaks(tx: &mut Tx, failed: &[(EndpointId, Time)]) -> Result<(), StoreError> {
    match tx {
        _ if failed.is_empty() => {}
        Tx::Sqlite(tx) => {
            for chunk in sqlite::chunks(failed, 2) {
                let tail = ") UPDATE endpoint SET failing_since = new.since, warned = 0, warned_at = NULL FROM new
                     WHERE endpoint.id = new.id AND endpoint.failing_since IS NULL";
                sqlite::values("WITH new (id, since) AS (", chunk, tail, |mut row, (endpoint, since)| {
                    row.push_bind(endpoint.0).push_bind(*since);
                })
                .build()
                .execute(&mut **tx)
                .await?;
            }
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "UPDATE endpoint SET failing_since = new.since, warned = 0, warned_at = NULL
                 FROM UNNEST($1::uuid[], $2::bigint[]) AS new (id, since)
                 WHERE endpoint.id = new.id AND endpoint.failing_since IS NULL";
            sqlx::query(SQL)
                .bind(codec::uuids(failed.iter().map(|(endpoint, _)| endpoint)))
                .bind(failed.iter().map(|(_, since)| since.micros()).collect::<Vec<i64>>())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}
