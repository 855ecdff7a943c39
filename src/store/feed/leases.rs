//! Leased consumers: readers of a polling endpoint that commit what they have done. What one request was given is nobody else's until it
//! is committed or its lease ends.
//!
//! They are rows of `polling_consumer` like [the others](super::consumers), with a lease. By the clock of the database, where it is PostgreSQL.

use std::time::Duration;

use crate::domain::Time;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::lease::{Commit, Leased, Offset};
use crate::domain::feed::{FeedIterator, Position};
use crate::store::feed::consumers::{Consumed, NOTE, enter, room};
use crate::store::{Store, StoreError, Tenant, Tx, on, read};

/// Where a leased consumer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It can be given what follows this.
    Free(FeedIterator),
    /// The end of the lease of the messages that it was given last.
    Held(Time),
    /// It keeps its position in the other way.
    Otherwise,
    /// The polling endpoint has [`CONSUMERS`](crate::domain::limits::CONSUMERS) others.
    TooMany,
    /// There is no such polling endpoint any more.
    Gone,
}

/// The outcome of giving messages out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseTaken {
    /// Their offsets begin with this one.
    From(Offset),
    /// Somebody else was given something, or moved the consumer, a moment ago.
    Lost,
}

#[derive(sqlx::FromRow)]
struct Row {
    position: i64,
    complete_at: Time,
    moves: i32,
    given: i64,
    committed: i64,
    leased: Option<Vec<u8>>,
    /// `None`: no leased consumer.
    leased_until: Option<Time>,
}

const COLUMNS: &str = "position, complete_at, moves, given, committed, leased, leased_until";

impl Row {
    fn iterator(&self) -> FeedIterator {
        let moves = u16::try_from(self.moves).unwrap_or_default();
        FeedIterator { position: Position::from_number(self.position), complete_at: self.complete_at, moves }
    }

    fn leased(&self) -> Option<Leased> {
        Some(Leased {
            given: self.given.max(0) as u64,
            committed: self.committed.max(0) as u64,
            positions: Leased::positions(self.leased.as_deref().unwrap_or_default()),
            until: self.leased_until?,
        })
    }
}

impl Store {
    /// Where the leased consumer stands; one that asks for the first time is entered, at `beginning`.
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
        if !tenant.sees(endpoint.app_id) {
            return Ok(LeaseState::Gone);
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM polling_consumer WHERE polling_endpoint_id = $1 AND name = $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL)"
        ));
        let row: Option<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(endpoint.id).bind(name).bind(endpoint.app_id).bind(&tenant.org).fetch_optional(db).await
        })?;
        if let Some(row) = row {
            return Ok(match row.leased() {
                None => LeaseState::Otherwise,
                // Ours may be ahead of the database's clock: whether it is over is decided where messages are given out.
                Some(leased) if leased.is_held(now) => LeaseState::Held(leased.until),
                Some(_) => LeaseState::Free(row.iterator()),
            });
        }
        self.repeated(|| async {
            const LEASED: &str =
                "UPDATE polling_consumer SET leased_until = 0 WHERE polling_endpoint_id = $1 AND name = $2";
            let mut tx = self.begin().await?;
            match room(&mut tx, tenant, endpoint).await? {
                None => {}
                Some(Consumed::TooMany) => return Ok(LeaseState::TooMany),
                Some(_) => return Ok(LeaseState::Gone),
            }
            if enter(&mut tx, endpoint, name, beginning, now).await? {
                on!(tx, db => sqlx::query(LEASED).bind(endpoint.id).bind(name).execute(db).await.map(drop))?;
                tx.commit().await?;
                return Ok(LeaseState::Free(beginning));
            }
            // Somebody else was quicker.
            drop(tx);
            Box::pin(self.lease_state(tenant, endpoint, name, beginning, now)).await
        })
        .await
    }

    /// Gives the messages at `positions`, which follow `from`, to the consumer for `lease`.
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
    ) -> Result<LeaseTaken, StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = held(&mut tx, tenant, endpoint, name).await? else { return Ok(LeaseTaken::Lost) };
            if leased.is_held(clock) || row.iterator() != from {
                return Ok(LeaseTaken::Lost);
            }
            const GIVE: &str = "UPDATE polling_consumer SET given = $3, leased = $4, leased_until = $5, polled_at = $6
                 WHERE polling_endpoint_id = $1 AND name = $2";
            let given = leased.given + positions.len() as u64;
            on!(tx, db => {
                sqlx::query(GIVE)
                    .bind(endpoint.id).bind(name).bind(given as i64).bind(Leased::column(positions))
                    .bind(clock.plus(lease)).bind(now)
                    .execute(db).await.map(drop)
            })?;
            tx.commit().await?;
            Ok(LeaseTaken::From(leased.given + 1))
        })
        .await
    }

    /// Notes that nothing for the consumer lies between `from` and `to`. Nothing is written where it is there already, but once a minute that it came.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn pass_over(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        (from, to): (FeedIterator, FeedIterator),
        now: Time,
    ) -> Result<(), StoreError> {
        self.repeated(|| async {
            const PASS: &str = "UPDATE polling_consumer SET position = $3, complete_at = $4, polled_at = $5
                 WHERE polling_endpoint_id = $1 AND name = $2";
            if from.position == to.position && to.complete_at < from.complete_at.plus(NOTE) {
                return Ok(());
            }
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = held(&mut tx, tenant, endpoint, name).await? else { return Ok(()) };
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

    /// The consumer has done with everything up to `offset`. `None`: there is no such leased consumer.
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
    ) -> Result<Option<Commit>, StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, name).await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let Some((row, leased)) = held(&mut tx, tenant, endpoint, name).await? else { return Ok(None) };
            let commit = leased.commit(offset, clock);
            if !matches!(commit, Commit::Moves(_) | Commit::Already) {
                return Ok(Some(commit));
            }
            if let Commit::Moves(position) = commit {
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

/// The leased consumer, held until the transaction ends. `None`: the tenant has none of this name.
async fn held(
    tx: &mut Tx,
    tenant: &Tenant,
    endpoint: &PollingEndpoint,
    name: &str,
) -> Result<Option<(Row, Leased)>, StoreError> {
    if !tenant.sees(endpoint.app_id) {
        return Ok(None);
    }
    let hold = if matches!(tx, Tx::Postgres(_)) { "FOR UPDATE" } else { "" };
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM polling_consumer WHERE polling_endpoint_id = $1 AND app_id = $3 AND name = $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL) {hold}"
    ));
    let row: Option<Row> = on!(tx, db => {
        sqlx::query_as(sql).bind(endpoint.id).bind(name).bind(endpoint.app_id).bind(&tenant.org).fetch_optional(db).await
    })?;
    Ok(row.and_then(|row| row.leased().map(|leased| (row, leased))))
}
