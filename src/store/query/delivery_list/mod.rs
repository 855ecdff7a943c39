//! The filtered list of deliveries of an organization or an application, newest message first. [`DeliveryFilter`]
//! selects them; a bulk resend of the list uses the same filter.
//!
//! Invariants: every statement is limited to one tenant, and a page examines at most [`SCAN`] rows.

mod delivery_filter;
mod delivery_status_filter;

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::deliveries::attempt::Failure;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::statement::{SqlValue, Statement, query_of};
use crate::store::query::list_scan::{ListScan, ScanRange, push_contents, push_rows, push_tenant, push_times};
use crate::store::query::messages::id_range;
use crate::store::query::page::SCAN;
use crate::store::{Order, PageRequest, Scanned, Store, StoreError, Tenant, read};

pub use crate::store::query::list_scan::DeliveryKey;
pub use delivery_filter::DeliveryFilter;
pub use delivery_status_filter::DeliveryStatusFilter;

/// Rows per statement when a scan covers few rows.
const CHUNK: usize = 500;

/// The last attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    pub id: AttemptId,
    pub at: Time,
    pub status: Option<u16>,
    /// `None`: delivered.
    pub failure: Option<Failure>,
}

/// A delivery in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDelivery {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub app_name: String,
    pub state: DeliveryState,
    /// The time of the next attempt, while pending.
    pub due_at: Time,
    pub attempts: i32,
    pub reason: Option<DeadReason>,
    pub event_type: String,
    pub accepted_at: Time,
    /// Neither the content nor the endpoint is deleted.
    pub sendable: bool,
    pub url: String,
    /// The endpoint's description.
    pub description: String,
    pub endpoint_disabled: bool,
    pub last: Option<LastAttempt>,
}

from_row! {
    struct Row {
        message_id: MessageId,
        endpoint_id: EndpointId,
        app_id: AppId,
        app_name: String,
        state: i16,
        due_at: Time,
        attempts: i32,
        reason: Option<String>,
        event_type: String,
        accepted_at: Time,
        sendable: bool,
        url: String,
        description: String,
        disabled: bool,
    }
}

impl Row {
    fn listed(self, last: &mut HashMap<AttemptKey, LastAttempt>) -> ListedDelivery {
        ListedDelivery {
            message_id: self.message_id,
            endpoint_id: self.endpoint_id,
            app_id: self.app_id,
            app_name: self.app_name,
            state: DeliveryState::from_code(self.state),
            due_at: self.due_at,
            attempts: self.attempts,
            reason: self.reason.as_deref().and_then(DeadReason::from_word),
            event_type: self.event_type,
            accepted_at: self.accepted_at,
            sendable: self.sendable,
            url: self.url,
            description: self.description,
            endpoint_disabled: self.disabled,
            last: last.remove(&(self.message_id, self.endpoint_id, self.attempts)),
        }
    }
}

impl DeliveryFilter {
    /// Whether the filter matches everything on the scan of an application or endpoint.
    fn matches_everything(&self) -> bool {
        let unfiltered = DeliveryFilter { app: self.app, endpoint: self.endpoint, ..DeliveryFilter::default() };
        *self == unfiltered && (self.app.is_none() || self.endpoint.is_none())
    }

    /// The statement that reads the deliveries of a range. Lists, counts and resends share it.
    pub(in crate::store) fn statement(
        &self,
        store: &Store,
        tenant: &Tenant,
        (scan, range): (&ListScan, &ScanRange),
        Selection { columns, and, limit }: Selection<'_>,
    ) -> Statement {
        const MORE: &str = " CROSS JOIN application p CROSS JOIN message m CROSS JOIN endpoint e";
        let select = format!("SELECT {} AS message_id, d.endpoint_id, {columns}", scan.message_id());
        let mut sql = scan.statement(store, &select, MORE, range);
        sql.push(" AND m.id = d.message_id AND p.id = d.app_id AND e.id = d.endpoint_id");
        push_tenant(&mut sql, tenant, self.app);
        if let Some(endpoint) = self.endpoint {
            sql.push(" AND d.endpoint_id = ").bind(endpoint);
        }
        if let (Some(ids), false) = (&self.messages, matches!(scan, ListScan::Messages(_))) {
            sql.push(" AND d.message_id IN ").list(ids.iter().map(|id| SqlValue::from(*id)));
        }
        push_rows(&mut sql, self.rows.as_deref());
        sql.push(self.status.map_or("", DeliveryStatusFilter::condition));
        if self.status == Some(DeliveryStatusFilter::Failed) {
            // A delivered message that is being replayed also has the state Retry.
            sql.push(&format!(" AND {} IS NOT NULL", of_last_attempt(store.kind(), "failure")));
        }
        if let Some(class) = self.class {
            let status = of_last_attempt(store.kind(), "status");
            sql.push(&match class {
                0 => format!(" AND d.attempts > 0 AND {status} IS NULL"),
                class => format!(" AND {status} BETWEEN {class} AND {}", class.saturating_add(99)),
            });
        }
        push_times(&mut sql, self.accepted);
        push_contents(store, &mut sql, &self.event_types, self.text.as_deref());
        sql.push(and).push(&scan.order(range)).push(&format!(" LIMIT {limit}"));
        sql
    }

    /// Whether the result is empty without a query: another tenant's application, or an empty list of messages.
    pub(in crate::store) fn is_empty_result(&self, tenant: &Tenant) -> bool {
        self.app.is_some_and(|app| !tenant.sees(app)) || self.messages.as_ref().is_some_and(Vec::is_empty)
    }

    pub(in crate::store) fn scan_range(&self, order: Order, after: Option<DeliveryKey>) -> ScanRange {
        let (floor, top) = id_range(self.accepted);
        let (from, last) = match order {
            Order::Descending => {
                let first = (top, EndpointId(Uuid::max()));
                (after.map_or(first, |after| after.min(first)), floor)
            }
            Order::Ascending => {
                let first = (floor, EndpointId(Uuid::nil()));
                (after.map_or(first, |after| after.max(first)), top)
            }
        };
        ScanRange { order, from, last, end: None }
    }
}

/// Columns, condition and limit of a [`DeliveryFilter::statement`].
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Selection<'a> {
    /// Columns in addition to the ids of message and endpoint.
    pub columns: &'a str,
    /// An additional condition, or empty.
    pub and: &'a str,
    /// The row limit.
    pub limit: usize,
}

/// The columns of [`ListedDelivery`].
const LISTED: &str =
    "d.app_id, p.name AS app_name, d.state, d.due_at, d.attempts, d.reason, m.event_type, m.accepted_at,
     (m.payload IS NOT NULL AND e.deleted_at IS NULL) AS sendable, e.url, e.description, e.disabled";

impl Store {
    /// Up to `limit` of the tenant's deliveries that match `filter`, after the given one. A page scans a bounded number
    /// of rows and may end early, see [`Scanned`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn list_deliveries(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Scanned<ListedDelivery, DeliveryKey>, StoreError> {
        let mut filter = filter.clone();
        if filter.is_empty_result(tenant) {
            return Ok(Scanned::nothing());
        }
        let _scan = self.scan(tenant).await?;
        filter.app = filter.app.or(tenant.only);
        let scan = self.choose_scan(tenant, &filter).await?;
        let mut range = filter.scan_range(Order::Descending, after);
        let few = scan.is_few();
        let free = filter.matches_everything() && matches!(scan, ListScan::Endpoint(..))
            || matches!(scan, ListScan::Messages(_));
        // If few rows are skipped, several ranges fill the page.
        let goes_on = few || filter.matches_everything();
        let (mut found, mut looked): (Vec<Row>, usize) = (Vec::new(), 0);
        let stopped = loop {
            let rows = if few && filter.text.is_none() { CHUNK } else { SCAN };
            range.end = match free {
                true => None,
                false => self.scan_end(&scan, &range, rows, filter.text.is_some()).await?,
            };
            let reading = Selection { columns: LISTED, and: "", limit: limit + 1 - found.len() };
            let sql = filter.statement(self, tenant, (&scan, &range), reading);
            let some: Vec<Row> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
            found.extend(some);
            looked += rows;
            match range.end {
                Some(end) if goes_on && found.len() <= limit && looked < SCAN => range.from = end,
                end => break end,
            }
        };
        let page = PageRequest::<MessageId>::first(limit, Order::Descending).page(found);
        let mut last = self.attempts_of(&page.data).await?;
        Ok(Scanned::new(page.map(|row| row.listed(&mut last)), stopped))
    }

    /// Chooses the scan that skips the fewest rows.
    pub(in crate::store) async fn choose_scan(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
    ) -> Result<ListScan, StoreError> {
        if let Some(work) = filter.resent {
            return Ok(ListScan::Resent(work));
        }
        if let Some(ids) = &filter.messages {
            return Ok(ListScan::Messages(ids.clone()));
        }
        let states = filter.status.map_or(&[][..], DeliveryStatusFilter::states);
        let dead = || ListScan::Dead(tenant.org.clone());
        if let Some(endpoint) = filter.endpoint
            && !states.is_empty()
            && !states.contains(&DeliveryState::Fresh)
            && let Some(slot) = self.few_at_endpoint(endpoint).await?
        {
            return Ok(ListScan::FewAtEndpoint(endpoint, slot, states));
        }
        match states {
            [] => {}
            [DeliveryState::Dead] if filter.endpoint.is_none() && filter.app.is_none() => return Ok(dead()),
            [DeliveryState::Dead] if self.few_dead(&tenant.org).await? => return Ok(dead()),
            [DeliveryState::Dead] => {}
            // Retried or dead: dead deliveries are not in the queue, so this needs the full scan.
            states if states.contains(&DeliveryState::Dead) => {}
            states if self.few_pending(states).await? => return Ok(ListScan::FewPending(states)),
            _ => {}
        }
        Ok(match (filter.endpoint, filter.app) {
            (Some(endpoint), _) => self.scan_of_endpoint(endpoint).await?,
            (None, Some(app)) => ListScan::Application(app),
            (None, None) => ListScan::Organization(tenant.org.clone()),
        })
    }

    /// Scans the endpoint's deliveries. Pending ones have no index in the list's order; if there are many, scans the
    /// application's messages instead.
    async fn scan_of_endpoint(&self, endpoint: EndpointId) -> Result<ListScan, StoreError> {
        const SQL: &str = "SELECT slot, app_id, (SELECT count(*) FROM (SELECT 1 FROM due
                 WHERE due.slot = endpoint.slot AND due.endpoint_id = endpoint.id LIMIT $2) AS pending)
             FROM endpoint WHERE id = $1";
        let most = SCAN as i64 + 1;
        let found: Option<(i16, AppId, i64)> =
            read!(self, db => sqlx::query_as(SQL).bind(endpoint).bind(most).fetch_optional(db).await)?;
        Ok(match found {
            Some((_, app, pending)) if pending >= most => ListScan::Application(app),
            Some((slot, ..)) => ListScan::Endpoint(endpoint, slot),
            None => ListScan::Endpoint(endpoint, -1),
        })
    }

    /// The last attempts of these deliveries. If the old and the new owner of a slot made attempts with the same
    /// number, it takes the newest.
    async fn attempts_of(&self, rows: &[Row]) -> Result<HashMap<AttemptKey, LastAttempt>, StoreError> {
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        let mut sql = Statement::new(
            "SELECT a.message_id, a.endpoint_id, a.number, a.id, a.at, a.status, a.failure FROM attempt a ",
        );
        sql.push(of_message(self.kind())).push(" WHERE a.message_id IN ");
        sql.list(rows.iter().map(|row| SqlValue::from(row.message_id))).push(" AND a.endpoint_id IN ");
        sql.list(rows.iter().map(|row| SqlValue::from(row.endpoint_id))).push(" ORDER BY a.id");
        type LastAttemptRow = (MessageId, EndpointId, i32, AttemptId, Time, Option<i32>, Option<String>);
        let found: Vec<LastAttemptRow> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
        let attempt = |(message, endpoint, number, id, at, status, failure): LastAttemptRow| {
            let status = status.and_then(|status| u16::try_from(status).ok());
            // An unknown word was written by a newer release and also means a failure.
            let failure = failure.map(|word| Failure::from_word(&word).unwrap_or(Failure::Protocol));
            ((message, endpoint, number), LastAttempt { id, at, status, failure })
        };
        Ok(found.into_iter().map(attempt).collect())
    }
}

/// Message, endpoint and attempt number.
type AttemptKey = (MessageId, EndpointId, i32);

/// A column of the last attempt of `d`. If the old and the new owner of a slot made attempts with the same number, it
/// is that of the newest. `store` is the kind of database.
pub(in crate::store) fn of_last_attempt(store: &str, column: &str) -> String {
    format!(
        "(SELECT a.{column} FROM attempt a {} WHERE a.message_id = d.message_id AND a.endpoint_id = d.endpoint_id
              AND a.number = d.attempts ORDER BY a.id DESC LIMIT 1)",
        of_message(store)
    )
}

/// Without row statistics, SQLite might choose the index of the endpoint and read all its attempts.
fn of_message(store: &str) -> &'static str {
    if store == Store::SQLITE { "INDEXED BY sqlite_autoindex_attempt_1" } else { "" }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn sqlite_looks_for_the_last_attempt_among_those_of_its_message() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        crate::store::SQLITE_MIGRATIONS.run(&mut connection).await.unwrap();
        let last = of_last_attempt(Store::SQLITE, "status");
        let sql = format!("EXPLAIN QUERY PLAN SELECT {last} FROM delivery d WHERE d.endpoint_id = $1");
        let plan = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(
            plan.iter().any(|step| step
                .contains("SEARCH a USING INDEX sqlite_autoindex_attempt_1 (message_id=? AND endpoint_id=?)")),
            "{plan:#?}"
        );
    }
}
