//! Leased consumers: readers of a polling endpoint that commit processed messages. A batch belongs to one request until
//! it is committed or its lease ends.
//!
//! Leased consumers are rows of `polling_consumer`, like [other consumers](super::consumers), with a lease. On
//! PostgreSQL, leases use the database's clock.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::lease::{CommitOutcome, ConsumerLease, Offset};
use crate::domain::feed::{FeedIterator, Position};
use crate::store::db::codec::from_row;
use crate::store::feed::consumers::{ConsumerPosition, NOTE_INTERVAL, check_capacity, insert_consumer};
use crate::store::{Store, StoreError, Tenant, Tx, on, read};

/// The state of a leased consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// No lease is active; the next batch starts after this position.
    Free(FeedIterator),
    /// A batch is leased until this time.
    Held(Time),
    /// The consumer has no leases.
    NotLeased,
    /// The polling endpoint already has [`CONSUMERS`](crate::domain::limits::CONSUMERS) consumers.
    TooMany,
    /// The polling endpoint was deleted.
    NotFound,
}

/// The result of leasing a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseResult {
    /// Leased; the offsets start with this one.
    From(Offset),
    /// Another request leased a batch or reset the consumer concurrently.
    Lost,
}

from_row! {
    struct Row {
        position: i64,
        complete_at: Time,
        moves: i32,
        given: i64,
        committed: i64,
        lapsed: i64,
        leased: Option<Vec<u8>>,
        /// `None`: not a leased consumer.
        leased_until: Option<Time>,
    }
}

const COLUMNS: &str = Row::COLUMNS;

impl Row {
    fn iterator(&self) -> FeedIterator {
        let moves = u16::try_from(self.moves).unwrap_or_default();
        FeedIterator { position: Position::from_number(self.position), complete_at: self.complete_at, moves }
    }

    fn leased(&self) -> Option<ConsumerLease> {
        Some(ConsumerLease {
            given: self.given.max(0) as u64,
            committed: self.committed.max(0) as u64,
            lapsed: self.lapsed.max(0) as u64,
            positions: ConsumerLease::positions(self.leased.as_deref().unwrap_or_default()),
            until: self.leased_until?,
        })
    }
}

impl Store {
    /// The state of a leased consumer, which is created at `beginning` on its first request.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lease_state(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        beginning: FeedIterator,
        now: Time,
    ) -> Result<LeaseState, StoreError> {
        let Some(org) = tenant.org_of(endpoint.app_id) else { return Ok(LeaseState::NotFound) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM polling_consumer WHERE polling_endpoint_id = $1 AND name = $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL)"
        ));
        let row: Option<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(endpoint.id).bind(name).bind(endpoint.app_id).bind(org).fetch_optional(db).await
        })?;
        if let Some(row) = row {
            return Ok(match row.leased() {
                None => LeaseState::NotLeased,
                // Our clock may be ahead of the database's; `take_lease` decides whether the lease has ended.
                Some(leased) if leased.is_held(now) => LeaseState::Held(leased.until),
                Some(_) => LeaseState::Free(row.iterator()),
            });
        }
        self.retry_conflicts(|| async {
            const LEASED: &str =
                "UPDATE polling_consumer SET leased_until = 0 WHERE polling_endpoint_id = $1 AND name = $2";
            let mut tx = self.begin().await?;
            match check_capacity(&mut tx, tenant, endpoint).await? {
                None => {}
                Some(ConsumerPosition::TooMany) => return Ok(LeaseState::TooMany),
                Some(_) => return Ok(LeaseState::NotFound),
            }
            if insert_consumer(&mut tx, endpoint, name, beginning, now).await? {
                on!(tx, db => sqlx::query(LEASED).bind(endpoint.id).bind(name).execute(db).await.map(drop))?;
                tx.commit().await?;
                return Ok(LeaseState::Free(beginning));
            }
            // Created concurrently.
            drop(tx);
            Box::pin(self.lease_state(tenant, endpoint, name, beginning, now)).await
        })
        .await
    }

    /// Leases the messages at `positions`, which follow `from`, to the consumer for `lease`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn take_lease(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        (from, positions): (FeedIterator, &[Position]),
        lease: Duration,
        now: Time,
    ) -> Result<LeaseResult, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = locked_consumer(&mut tx, tenant, endpoint, name).await? else {
                return Ok(LeaseResult::Lost);
            };
            if leased.is_held(clock) || row.iterator() != from {
                return Ok(LeaseResult::Lost);
            }
            const GIVE: &str = "UPDATE polling_consumer SET given = $3, leased = $4, leased_until = $5, polled_at = $6,
                     lapsed = CASE WHEN committed < given THEN given ELSE lapsed END
                 WHERE polling_endpoint_id = $1 AND name = $2";
            let given = leased.given + positions.len() as u64;
            on!(tx, db => {
                sqlx::query(GIVE)
                    .bind(endpoint.id).bind(name).bind(given as i64).bind(ConsumerLease::column(positions))
                    .bind(clock.plus(lease)).bind(now)
                    .execute(db).await.map(drop)
            })?;
            tx.commit().await?;
            Ok(LeaseResult::From(leased.given + 1))
        })
        .await
    }

    /// Advances the consumer from `from` to `to`, with no matching messages in between. If it is already there, writes
    /// at most once a minute.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn skip_to(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        (from, to): (FeedIterator, FeedIterator),
        now: Time,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const PASS: &str = "UPDATE polling_consumer SET position = $3, complete_at = $4, polled_at = $5
                 WHERE polling_endpoint_id = $1 AND name = $2";
            if from.position == to.position && to.complete_at < from.complete_at.plus(NOTE_INTERVAL) {
                return Ok(());
            }
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = locked_consumer(&mut tx, tenant, endpoint, name).await? else { return Ok(()) };
            if leased.is_held(clock) || row.iterator() != from {
                return Ok(());
            }
            on!(tx, db => {
                sqlx::query(PASS)
                    .bind(endpoint.id).bind(name).bind(to.position.number()).bind(to.complete_at).bind(now)
                    .execute(db).await.map(drop)
            })?;
            tx.commit().await
        })
        .await
    }

    /// Commits everything up to `offset`. `None`: there is no such leased consumer.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn commit_lease(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        offset: Offset,
        now: Time,
    ) -> Result<Option<CommitOutcome>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, name).await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = locked_consumer(&mut tx, tenant, endpoint, name).await? else { return Ok(None) };
            let commit = leased.commit(offset, clock);
            if !matches!(commit, CommitOutcome::Advanced(_) | CommitOutcome::AlreadyCommitted) {
                return Ok(Some(commit));
            }
            if let CommitOutcome::Advanced(position) = commit {
                const MOVE: &str =
                    "UPDATE polling_consumer SET position = $3, complete_at = $4, committed = $5, polled_at = $6
                     WHERE polling_endpoint_id = $1 AND name = $2";
                let to = row.iterator().next(position, false, now);
                on!(tx, db => {
                    sqlx::query(MOVE)
                        .bind(endpoint.id).bind(name).bind(to.position.number()).bind(to.complete_at)
                        .bind(offset as i64).bind(now)
                        .execute(db).await.map(drop)
                })?;
            }
            tx.commit().await?;
            Ok(Some(commit))
        })
        .await
    }
}

/// The leased consumer, locked until the end of the transaction. `None`: the tenant has none with this name.
async fn locked_consumer(
    tx: &mut Tx,
    tenant: &Tenant,
    endpoint: &PollingEndpoint,
    name: &str,
) -> Result<Option<(Row, ConsumerLease)>, StoreError> {
    let Some(org) = tenant.org_of(endpoint.app_id) else { return Ok(None) };
    let hold = if matches!(tx, Tx::Postgres(_)) { "FOR UPDATE" } else { "" };
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM polling_consumer WHERE polling_endpoint_id = $1 AND app_id = $3 AND name = $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL) {hold}"
    ));
    let row: Option<Row> = on!(tx, db => {
        sqlx::query_as(sql).bind(endpoint.id).bind(name).bind(endpoint.app_id).bind(org).fetch_optional(db).await
    })?;
    Ok(row.and_then(|row| row.leased().map(|leased| (row, leased))))
}
