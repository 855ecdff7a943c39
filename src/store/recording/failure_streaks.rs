//! Failure streaks of endpoints, updated as attempts are recorded: `endpoint.failing_since` and `endpoint.rests_until`.

use std::collections::BTreeMap;

use crate::domain::{EndpointId, Time};
use crate::store::db::{codec, sqlite};
use crate::store::recording::record::FinishedAttempt;
use crate::store::{StoreError, Tx};

/// Updates the failure streaks after a batch.
///
/// `failing_since` is set by the first failure after a delivery and cleared by the first delivery after failures;
/// both reset the [warnings](crate::store::recording::failing_endpoints). A batch with both ends the streak.
///
/// `rests_until` is written by each failure that opens the endpoint's circuit breaker, and is never cleared by time.
pub(in crate::store) async fn update_streaks(tx: &mut Tx, finished: &[&FinishedAttempt]) -> Result<(), StoreError> {
    let mut health: BTreeMap<EndpointId, Option<BatchFailures>> = BTreeMap::new();
    for one in finished {
        let failed = (!one.attempt.outcome.delivered())
            .then_some(BatchFailures { since: one.attempt.at, rests_until: one.rests_until });
        let streak = health.entry(one.attempt.endpoint_id).or_insert(failed);
        *streak = failed.and_then(|failed| streak.map(|before| before.merge(failed)));
    }
    let delivered: Vec<EndpointId> = health.iter().filter(|(_, streak)| streak.is_none()).map(|(id, _)| *id).collect();
    let failed: Vec<(EndpointId, BatchFailures)> =
        health.into_iter().filter_map(|(id, streak)| Some((id, streak?))).collect();
    end_streaks(tx, &delivered).await?;
    extend_streaks(tx, &failed).await
}

/// The failures of an endpoint in one batch.
#[derive(Clone, Copy)]
struct BatchFailures {
    /// The first failure.
    since: Time,
    /// The circuit breaker is open until then.
    rests_until: Option<Time>,
}

impl BatchFailures {
    fn merge(self, other: BatchFailures) -> BatchFailures {
        BatchFailures { since: self.since.min(other.since), rests_until: self.rests_until.max(other.rests_until) }
    }
}

/// Clears `failing_since` where it is set. Searches only the index of failing endpoints: reading the wide row of a
/// healthy endpoint for each delivery took 15 % of the statement time with 100,000 endpoints.
async fn end_streaks(tx: &mut Tx, delivered: &[EndpointId]) -> Result<(), StoreError> {
    match tx {
        _ if delivered.is_empty() => {}
        Tx::Sqlite(tx) => {
            const SQL: &str = "UPDATE endpoint INDEXED BY endpoint_failing_id
                 SET failing_since = NULL, warned = 0, warned_at = NULL, rests_until = NULL
                 WHERE failing_since IS NOT NULL AND id IN (SELECT substr($1, key * 16 + 1, 16) FROM json_each($2))";
            let mut packed = sqlite::Packed::default();
            for endpoint in delivered {
                packed.push(&[&endpoint.0.as_bytes()[..]], &0)?;
            }
            let (ids, list) = packed.values()?;
            sqlx::query(SQL).bind(ids).bind(list).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            const SQL: &str =
                "UPDATE endpoint SET failing_since = NULL, warned = 0, warned_at = NULL, rests_until = NULL
                 WHERE failing_since IS NOT NULL AND id = ANY($1)";
            sqlx::query(SQL).bind(codec::uuids(delivered)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Sets `failing_since` where it is not set, and `rests_until` where it grows.
async fn extend_streaks(tx: &mut Tx, failed: &[(EndpointId, BatchFailures)]) -> Result<(), StoreError> {
    const SET: &str = "UPDATE endpoint SET rests_until = new.rests,
             failing_since = COALESCE(endpoint.failing_since, new.since),
             warned = CASE WHEN endpoint.failing_since IS NULL THEN 0 ELSE endpoint.warned END,
             warned_at = CASE WHEN endpoint.failing_since IS NULL THEN NULL ELSE endpoint.warned_at END";
    const WHERE: &str = "endpoint.id = new.id
         AND (endpoint.failing_since IS NULL OR new.rests > COALESCE(endpoint.rests_until, 0))";
    match tx {
        _ if failed.is_empty() => {}
        Tx::Sqlite(tx) => {
            let tail = format!(") {SET} FROM new WHERE {WHERE}");
            for chunk in sqlite::chunks(failed, 3) {
                sqlite::values("WITH new (id, since, rests) AS (", chunk, &tail, |mut row, (endpoint, streak)| {
                    row.push_bind(endpoint.0).push_bind(streak.since).push_bind(streak.rests_until);
                })
                .build()
                .execute(&mut **tx)
                .await?;
            }
        }
        Tx::Postgres(tx) => {
            let sql = format!(
                "{SET} FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[]) AS new (id, since, rests) WHERE {WHERE}"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(codec::uuids(failed.iter().map(|(endpoint, _)| endpoint)))
                .bind(failed.iter().map(|(_, streak)| streak.since.micros()).collect::<Vec<i64>>())
                .bind(
                    failed.iter().map(|(_, streak)| streak.rests_until.map(Time::micros)).collect::<Vec<Option<i64>>>(),
                )
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}
