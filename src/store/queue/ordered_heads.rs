//! Reading the queue of **ordered** endpoints: their first pending deliveries by [sequence
//! number](crate::store::queue::ordering), regardless of state and due time.

use std::collections::HashMap;

use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::{codec, sqlite};
use crate::store::queue::pending_deliveries::{LONGEST_SCHEDULE, PendingDelivery, PendingDeliveryRow};
use crate::store::{Backend, Store, StoreError, Tenant, read};

/// The head of an ordered endpoint's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedHead {
    pub endpoint: EndpointId,
    /// The first pending deliveries by sequence number, due or not.
    pub waiting: Vec<PendingDelivery>,
    /// `waiting` has all pending deliveries with sequence numbers up to this one.
    pub up_to: i64,
    /// There may be more than were asked for.
    pub more: bool,
    /// Some deliveries must be [numbered](Store::number_pending) before anything may be sent.
    pub unnumbered: bool,
    /// The due time of the next scheduled delivery.
    pub scheduled: Option<Time>,
}

from_row! {
    struct NumberedRow {
        seq: i64,
    } with {
        waiting: PendingDeliveryRow,
    }
}

/// Endpoint, next sequence number, time of the next search for unnumbered deliveries, due time of the next scheduled
/// one.
pub(in crate::store) type OrderingRow = (EndpointId, i64, Option<Time>, Option<Time>);

impl Store {
    /// The first pending deliveries of ordered endpoints by sequence number, up to `most` per endpoint.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn ordered_heads(
        &self,
        endpoints: &[EndpointId],
        most: i64,
        now: Time,
    ) -> Result<Vec<OrderedHead>, StoreError> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        // Read the next number before the rows: deliveries numbered in between are among the rows, so none up to it
        // is missing.
        let mut numbers: HashMap<EndpointId, OrderingRow> =
            self.orderings(endpoints).await?.into_iter().map(|row| (row.0, row)).collect();
        let mut rows: HashMap<EndpointId, Vec<NumberedRow>> = HashMap::new();
        for row in self.numbered(endpoints, most).await? {
            rows.entry(row.waiting.endpoint_id).or_default().push(row);
        }
        let head = |endpoint: &EndpointId| {
            let (_, next, number_at, scheduled) = numbers.remove(endpoint).unwrap_or((*endpoint, 1, None, None));
            let mut rows = rows.remove(endpoint).unwrap_or_default();
            rows.sort_unstable_by_key(|row| row.seq);
            let more = rows.len() as i64 >= most;
            let last = rows.last().map_or(0, |row| row.seq);
            let due = |at: Time| at <= now || at > now.plus(LONGEST_SCHEDULE);
            OrderedHead {
                endpoint: *endpoint,
                up_to: if more { last } else { last.max(next - 1) },
                more,
                unnumbered: [number_at, scheduled].into_iter().flatten().any(due),
                scheduled,
                waiting: rows.into_iter().map(|row| PendingDelivery::from(row.waiting)).collect(),
            }
        };
        Ok(endpoints.iter().map(head).collect())
    }

    /// The first pending message of an ordered endpoint, which blocks all others.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn head(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<Option<MessageId>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        const SQL: &str = "SELECT message_id FROM due WHERE endpoint_id = $1 AND app_id = $2 AND seq > 0
                 AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
             ORDER BY seq LIMIT 1";
        Ok(read!(self, db => {
            sqlx::query_scalar(SQL).bind(endpoint).bind(app).bind(org).fetch_optional(db).await
        })?)
    }

    /// The rows of `ordering`. An endpoint that was never ordered has none.
    pub(in crate::store) async fn orderings(&self, endpoints: &[EndpointId]) -> Result<Vec<OrderingRow>, StoreError> {
        const ORDERING: &str = "SELECT endpoint_id, next_seq, number_at,
                 (SELECT due_at FROM due WHERE seq = 0 AND due.endpoint_id = ordering.endpoint_id
                  ORDER BY due_at LIMIT 1)
             FROM ordering WHERE endpoint_id";
        let ids = codec::uuids(endpoints);
        Ok(match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let sql = sqlx::AssertSqlSafe(format!("{ORDERING} IN (SELECT unhex(value) FROM json_each($1))"));
                sqlx::query_as(sql).bind(sqlite::id_list(ids)).fetch_all(&backend.vital).await?
            }
            Backend::Postgres(backend) => {
                let sql = sqlx::AssertSqlSafe(format!("{ORDERING} = ANY($1)"));
                sqlx::query_as(sql).bind(ids).fetch_all(&backend.engine).await?
            }
        })
    }

    async fn numbered(&self, endpoints: &[EndpointId], most: i64) -> Result<Vec<NumberedRow>, StoreError> {
        const ROWS: &str =
            "SELECT seq, message_id, endpoint_id, kind, due_at, attempts, step, generation, trigger FROM due";
        const FIRST: &str = "AND seq > 0 ORDER BY seq LIMIT";
        match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let sql = format!("{ROWS} WHERE endpoint_id = $1 {FIRST} $2");
                let mut connection = backend.vital.acquire().await?;
                let mut rows = Vec::new();
                for endpoint in endpoints {
                    let statement = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str())).bind(endpoint).bind(most);
                    let some: Vec<NumberedRow> = statement.fetch_all(&mut *connection).await?;
                    rows.extend(some);
                }
                Ok(rows)
            }
            Backend::Postgres(backend) => {
                let sql = format!(
                    "SELECT d.* FROM UNNEST($1::uuid[]) AS lane (endpoint_id),
                     LATERAL ({ROWS} WHERE endpoint_id = lane.endpoint_id {FIRST} $2) AS d"
                );
                let statement = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(codec::uuids(endpoints)).bind(most);
                Ok(statement.fetch_all(&backend.engine).await?)
            }
        }
    }
}
