//! Consumers: readers of a polling endpoint whose position the store keeps.
//!
//! A consumer's position is that of its last request, which confirms everything before it. A lost response is therefore
//! repeated.
//!
//! Two programs that share a consumer may get the same messages. The one that falls behind is rejected
//! ([`ConsumerPosition::Behind`]).

use std::time::Duration;

use crate::domain::catalog::polling::{Consumer, PollingEndpoint};
use crate::domain::feed::{FeedIterator, Position};
use crate::domain::{PollingEndpointId, Time, limits};
use crate::store::catalog::applications;
use crate::store::db::codec::from_row;
use crate::store::{Store, StoreError, Tenant, Tx, on, read, write_one};

/// The interval of updating the last request of a consumer that has not moved.
pub(super) const NOTE_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a consumer's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerPosition {
    From(FeedIterator),
    /// The consumer has since requested a later position, or was reset.
    Behind,
    /// The consumer is [leased](super::leases).
    Leased,
    /// The polling endpoint already has [`limits::CONSUMERS`] consumers.
    TooMany,
    /// The polling endpoint was deleted.
    NotFound,
}

from_row! {
    struct Row {
        name: String,
        position: i64,
        complete_at: Time,
        moves: i32,
        leased_until: Option<Time>,
        polled_at: Time,
        silence_reported: Time,
    }
}

const COLUMNS: &str = Row::COLUMNS;

impl Row {
    fn consumer(self) -> Consumer {
        let moves = u16::try_from(self.moves).unwrap_or_default();
        let position = Position::from_number(self.position);
        let iterator = FeedIterator { position, complete_at: self.complete_at, moves };
        Consumer {
            name: self.name,
            iterator,
            leased_until: self.leased_until,
            polled_at: self.polled_at,
            silent: self.silence_reported == self.polled_at,
        }
    }
}

impl Store {
    /// A consumer by its name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn consumer(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
    ) -> Result<Option<Consumer>, StoreError> {
        let found = self.consumers_like(tenant, endpoint, Some(name)).await?;
        Ok(found.into_iter().next())
    }

    /// All consumers of a polling endpoint by name, at most [`limits::CONSUMERS`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn consumers(&self, tenant: &Tenant, endpoint: &PollingEndpoint) -> Result<Vec<Consumer>, StoreError> {
        self.consumers_like(tenant, endpoint, None).await
    }

    async fn consumers_like(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: Option<&str>,
    ) -> Result<Vec<Consumer>, StoreError> {
        let Some(org) = tenant.org_of(endpoint.app_id) else { return Ok(Vec::new()) };
        let named = if name.is_some() { "AND name = $4" } else { "AND CAST($4 AS TEXT) IS NULL" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM polling_consumer WHERE polling_endpoint_id = $1 {named}
                 AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
             ORDER BY name"
        ));
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(endpoint.id).bind(endpoint.app_id).bind(org).bind(name).fetch_all(db).await
        })?;
        Ok(rows.into_iter().map(Row::consumer).collect())
    }

    /// Moves a consumer to `asked`; `None`: its stored position, or the start of the polling endpoint. Does not write
    /// if it is already there.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn consume(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        asked: Option<FeedIterator>,
        now: Time,
    ) -> Result<ConsumerPosition, StoreError> {
        let Some(before) = self.consumer(tenant, endpoint, name).await? else {
            let from = asked.unwrap_or_else(|| endpoint.beginning());
            return match self.create_consumer(tenant, endpoint, name, from, now).await? {
                Some(created) => Ok(created),
                // Created concurrently: continue from its position.
                None => Box::pin(self.consume(tenant, endpoint, name, asked, now)).await,
            };
        };
        if before.leased_until.is_some() {
            return Ok(ConsumerPosition::Leased);
        }
        let at = before.iterator;
        let asked = asked.unwrap_or(at);
        if asked.moves != at.moves || asked.position < at.position {
            return Ok(ConsumerPosition::Behind);
        }
        if asked.position == at.position && now < before.polled_at.plus(NOTE_INTERVAL) {
            return Ok(ConsumerPosition::From(asked));
        }
        // The consumer may have been moved concurrently.
        const SQL: &str = "UPDATE polling_consumer SET position = $3,
                 complete_at = CASE WHEN complete_at > $4 THEN complete_at ELSE $4 END, polled_at = $5
             WHERE polling_endpoint_id = $1 AND name = $2 AND moves = $6 AND position <= $3
                 AND leased_until IS NULL";
        let (position, moves) = (asked.position.number(), i32::from(asked.moves));
        let moved = write_one!(
            self,
            sqlx::query(SQL).bind(endpoint.id).bind(name).bind(position).bind(asked.complete_at).bind(now).bind(moves)
        )?;
        Ok(if moved > 0 { ConsumerPosition::From(asked) } else { ConsumerPosition::Behind })
    }

    /// Creates a consumer on its first request, which continues `from` there. `None`: it was created concurrently.
    async fn create_consumer(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        from: FeedIterator,
        now: Time,
    ) -> Result<Option<ConsumerPosition>, StoreError> {
        if from.moves != 0 {
            return Ok(Some(ConsumerPosition::Behind));
        }
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            if let Some(refused) = check_capacity(&mut tx, tenant, endpoint).await? {
                return Ok(Some(refused));
            }
            let entered = insert_consumer(&mut tx, endpoint, name, from, now).await?;
            tx.commit().await?;
            Ok(entered.then_some(ConsumerPosition::From(from)))
        })
        .await
    }

    /// Resets a consumer to `to`, forward or back. Its earlier iterators become invalid and its lease ends.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn reset_consumer(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        name: &str,
        to: FeedIterator,
        now: Time,
    ) -> Result<ConsumerPosition, StoreError> {
        self.retry_conflicts(|| async {
            const MOVE: &str = "UPDATE polling_consumer SET position = $3, complete_at = $4, polled_at = $5,
                     moves = (moves + 1) % 65536, leased = NULL,
                     lapsed = CASE WHEN committed < given THEN given ELSE lapsed END,
                     leased_until = CASE WHEN leased_until IS NULL THEN NULL ELSE 0 END
                 WHERE polling_endpoint_id = $1 AND name = $2 RETURNING moves";
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, name).await?;
            if !applications::lock_application(&mut tx, tenant, endpoint.app_id).await? {
                return Ok(ConsumerPosition::NotFound);
            }
            let moves: Option<i32> = on!(tx, db => {
                sqlx::query_scalar(MOVE)
                    .bind(endpoint.id).bind(name).bind(to.position.number()).bind(to.complete_at).bind(now)
                    .fetch_optional(db).await
            })?;
            if moves.is_none() {
                if let Some(refused) = check_capacity(&mut tx, tenant, endpoint).await? {
                    return Ok(refused);
                }
                insert_consumer(&mut tx, endpoint, name, to, now).await?;
            }
            tx.commit().await?;
            let moves = moves.and_then(|moves| u16::try_from(moves).ok()).unwrap_or_default();
            Ok(ConsumerPosition::From(FeedIterator { moves, ..to }))
        })
        .await
    }
}

/// Checks that the polling endpoint can have another consumer: `None`, with the application locked, or the reason it
/// cannot.
pub(super) async fn check_capacity(
    tx: &mut Tx,
    tenant: &Tenant,
    endpoint: &PollingEndpoint,
) -> Result<Option<ConsumerPosition>, StoreError> {
    const COUNT: &str = "SELECT (SELECT count(*) FROM polling_endpoint WHERE app_id = $1 AND id = $2),
             (SELECT count(*) FROM polling_consumer WHERE polling_endpoint_id = $2)";
    if !applications::lock_application(tx, tenant, endpoint.app_id).await? {
        return Ok(Some(ConsumerPosition::NotFound));
    }
    let (endpoints, consumers): (i64, i64) =
        on!(tx, db => sqlx::query_as(COUNT).bind(endpoint.app_id).bind(endpoint.id).fetch_one(db).await)?;
    Ok(match () {
        () if endpoints == 0 => Some(ConsumerPosition::NotFound),
        () if consumers >= limits::CONSUMERS as i64 => Some(ConsumerPosition::TooMany),
        () => None,
    })
}

/// Inserts a consumer. `false`: it exists.
pub(super) async fn insert_consumer(
    tx: &mut Tx,
    endpoint: &PollingEndpoint,
    name: &str,
    at: FeedIterator,
    now: Time,
) -> Result<bool, StoreError> {
    const SQL: &str = "INSERT INTO polling_consumer
             (polling_endpoint_id, name, app_id, position, complete_at, moves, polled_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT DO NOTHING";
    let PollingEndpoint { id, app_id, .. }: &PollingEndpoint = endpoint;
    let id: &PollingEndpointId = id;
    let entered = on!(tx, db => {
        sqlx::query(SQL)
            .bind(id).bind(name).bind(app_id).bind(at.position.number()).bind(at.complete_at).bind(now)
            .execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(entered > 0)
}
