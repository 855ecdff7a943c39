//! Scans for filtered deliveries along the index that skips the fewest rows: newest message first for lists, oldest
//! first for background tasks.
//!
//! Sets of at most [`SCAN`] deliveries are scanned completely, regardless of age: the pending or retried deliveries,
//! the organization's dead ones, an endpoint's retried and dead ones. Everything else is scanned by message or along an
//! endpoint's deliveries. A page scans at most [`SCAN`] deliveries, those of [`MESSAGES_SCANNED`] messages, or
//! [`TEXT_BYTES`] of payloads.

use crate::domain::deliveries::delivery::DeliveryState;
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, OrgId, Time, TimeRange};
use crate::store::db::statement::{SqlValue, Statement, query_of};
use crate::store::query::page::SCAN;
use crate::store::query::payload_search;
use crate::store::{Backend, Order, Store, StoreError, read};

/// Bytes of payloads searched for one page.
pub const TEXT_BYTES: i64 = 32 * 1024 * 1024;

/// Messages scanned for one page. They are scattered in their table, and each may have several deliveries.
pub(in crate::store) const MESSAGES_SCANNED: usize = messages_scanned(SCAN);

/// The number of messages scanned instead of `deliveries` deliveries.
const fn messages_scanned(deliveries: usize) -> usize {
    deliveries / 4
}

/// The slot of finished deliveries in the view `delivery`.
const ENDED: i64 = -1;

/// The position of a delivery in a list.
pub type DeliveryKey = (MessageId, EndpointId);

/// The rows to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum ListScan {
    /// The messages of the organization.
    Organization(OrgId),
    Application(AppId),
    /// The deliveries of an endpoint in this slot.
    Endpoint(EndpointId, i16),
    /// The organization's dead deliveries.
    Dead(OrgId),
    /// All pending deliveries in these states, if few.
    FewPending(&'static [DeliveryState]),
    /// Deliveries of an endpoint in this slot in these states, if few.
    FewAtEndpoint(EndpointId, i16, &'static [DeliveryState]),
    /// Deliveries resent by a background task, as far as [recorded](crate::store::jobs::resent_deliveries).
    Resent(BackgroundId),
    Messages(Vec<MessageId>),
}

#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct ScanRange {
    /// The direction, by message id.
    pub order: Order,
    /// Exclusive start.
    pub from: DeliveryKey,
    /// The last message, inclusive.
    pub last: MessageId,
    /// Inclusive end, if earlier.
    pub end: Option<DeliveryKey>,
}

impl ListScan {
    /// The column with the message's id. It must be that of the scanned table, or SQLite would not use its order.
    pub(in crate::store) fn message_id(&self) -> &'static str {
        match self {
            ListScan::Organization(_) | ListScan::Application(_) => "w.id",
            _ => "d.message_id",
        }
    }

    /// The ORDER BY clause. Its columns must be selected.
    pub(in crate::store) fn order(&self, range: &ScanRange) -> String {
        let direction = range.sql().direction;
        format!(" ORDER BY {} {direction}, d.endpoint_id {direction}", self.message_id())
    }

    /// Whether it covers a small set.
    pub(in crate::store) fn is_few(&self) -> bool {
        matches!(self, ListScan::FewPending(_) | ListScan::FewAtEndpoint(..) | ListScan::Dead(_) | ListScan::Resent(_))
    }

    /// `select` from the scanned deliveries `d` and `more` tables, within `range`. Tables are listed in join order,
    /// which SQLite keeps for `CROSS JOIN`.
    pub(in crate::store) fn statement(&self, store: &Store, select: &str, more: &str, range: &ScanRange) -> Statement {
        let mut sql = Statement::default();
        match self {
            ListScan::FewPending(states) => {
                sql.push("WITH few AS MATERIALIZED (");
                for (n, state) in states.iter().enumerate() {
                    sql.push(if n == 0 { "" } else { " UNION ALL " });
                    sql.push("SELECT d.message_id, d.endpoint_id FROM ").push(&pending_rows(store, *state));
                    range.push(&mut sql);
                }
                sql.push(") ");
            }
            ListScan::FewAtEndpoint(endpoint, slot, states) => {
                sql.push("WITH few AS MATERIALIZED (");
                for (n, state) in states.iter().enumerate() {
                    sql.push(if n == 0 { "" } else { " UNION ALL " });
                    sql.push("SELECT d.message_id, d.endpoint_id FROM ");
                    match state {
                        DeliveryState::Dead => sql.push("dead d WHERE d.endpoint_id = ").bind(*endpoint),
                        pending => {
                            sql.push(&format!("due d WHERE d.kind = {} AND d.slot = {slot}", pending.code()));
                            sql.push(" AND d.endpoint_id = ").bind(*endpoint)
                        }
                    };
                    range.push(&mut sql);
                }
                sql.push(") ");
            }
            ListScan::Dead(org) => {
                sql.push("WITH few AS MATERIALIZED (SELECT d.message_id, d.endpoint_id FROM dead d WHERE d.org = ");
                sql.bind(text(org));
                range.push(&mut sql);
                sql.push(") ");
            }
            ListScan::Resent(work) => {
                sql.push(
                    "WITH few AS MATERIALIZED (SELECT d.message_id, d.endpoint_id FROM resent d WHERE d.work_id = ",
                );
                sql.bind(*work);
                range.push(&mut sql);
                sql.push(") ");
            }
            _ => {}
        }
        sql.push(select);
        sql.push(match self {
            ListScan::Organization(_) | ListScan::Application(_) => " FROM message w CROSS JOIN delivery d",
            ListScan::FewPending(_) | ListScan::FewAtEndpoint(..) | ListScan::Dead(_) | ListScan::Resent(_) => {
                " FROM few CROSS JOIN delivery d"
            }
            ListScan::Endpoint(..) | ListScan::Messages(_) => " FROM delivery d",
        });
        sql.push(more).push(" WHERE ");
        match self {
            ListScan::Organization(org) => along(sql.push("w.org = ").bind(text(org)), range),
            ListScan::Application(app) => along(sql.push("w.app_id = ").bind(*app), range),
            ListScan::Endpoint(endpoint, slot) => {
                sql.push("d.endpoint_id = ").bind(*endpoint);
                sql.push(" AND d.slot IN ").list([ENDED, i64::from(*slot)].map(SqlValue::Number))
            }
            ListScan::FewPending(_) | ListScan::FewAtEndpoint(..) | ListScan::Dead(_) | ListScan::Resent(_) => {
                sql.push("d.message_id = few.message_id AND d.endpoint_id = few.endpoint_id")
            }
            ListScan::Messages(ids) => sql.push("d.message_id IN ").list(ids.iter().map(|id| SqlValue::from(*id))),
        };
        range.push(&mut sql);
        sql
    }

    /// A statement that reads only the keys.
    fn keys(&self, store: &Store, select: &str, range: &ScanRange) -> Statement {
        let mut sql = Statement::new(select);
        match self {
            ListScan::Dead(org) => sql.push(" FROM dead d WHERE d.org = ").bind(text(org)),
            ListScan::Resent(work) => sql.push(" FROM resent d WHERE d.work_id = ").bind(*work),
            _ => return self.statement(store, select, "", range),
        };
        range.push(&mut sql);
        sql
    }
}

/// Appends the messages of a scan by message, and their deliveries.
fn along<'s>(sql: &'s mut Statement, range: &ScanRange) -> &'s mut Statement {
    let Direction { from, to, .. } = range.sql();
    sql.push(&format!(" AND w.id {from} ")).bind(range.from.0);
    sql.push(&format!(" AND w.id {to} ")).bind(range.last_message()).push(" AND d.message_id = w.id")
}

fn text(org: &OrgId) -> SqlValue {
    SqlValue::Text(org.as_str().to_owned())
}

/// The comparison operators of a direction.
struct Direction {
    direction: &'static str,
    /// Operators for the first and the last message of a range.
    from: &'static str,
    to: &'static str,
    /// Strictly after a key.
    beyond: &'static str,
    /// Strictly before a key.
    before: &'static str,
}

impl ScanRange {
    fn sql(&self) -> Direction {
        match self.order {
            Order::Descending => Direction { direction: "DESC", from: "<=", to: ">=", beyond: "<", before: ">" },
            Order::Ascending => Direction { direction: "ASC", from: ">=", to: "<=", beyond: ">", before: "<" },
        }
    }

    fn last_message(&self) -> MessageId {
        let nearer = |end: MessageId| match self.order {
            Order::Descending => end.max(self.last),
            Order::Ascending => end.min(self.last),
        };
        self.end.map_or(self.last, |end| nearer(end.0))
    }

    /// The last possible key of this message.
    fn after_message(&self, message: MessageId) -> DeliveryKey {
        let endpoint = match self.order {
            Order::Descending => uuid::Uuid::nil(),
            Order::Ascending => uuid::Uuid::max(),
        };
        (message, EndpointId(endpoint))
    }

    fn push(&self, sql: &mut Statement) {
        let (message, endpoint) = self.from;
        let Direction { from, to, beyond, before, .. } = self.sql();
        sql.push(&format!(" AND d.message_id {from} ")).bind(message);
        sql.push(&format!(" AND d.message_id {to} ")).bind(self.last_message());
        sql.push(&format!(" AND (d.message_id {beyond} ")).bind(message);
        sql.push(&format!(" OR d.endpoint_id {beyond} ")).bind(endpoint).push(")");
        if let Some((message, endpoint)) = self.end {
            sql.push(&format!(" AND (d.message_id {before} ")).bind(message);
            sql.push(&format!(" OR d.endpoint_id {to} ")).bind(endpoint).push(")");
        }
    }
}

/// The pending deliveries in a state, as `d`. Without row statistics, SQLite would scan the table in the list's order
/// instead.
fn pending_rows(store: &Store, state: DeliveryState) -> String {
    let index = match (&store.inner.backend, state) {
        (Backend::Sqlite(_), DeliveryState::Retry) => "INDEXED BY due_retry",
        _ => "",
    };
    format!("due d {index} WHERE d.kind = {}", state.code())
}

impl Store {
    /// Whether the pending deliveries in these states are few enough to scan completely.
    pub(in crate::store) async fn few_pending(&self, states: &[DeliveryState]) -> Result<bool, StoreError> {
        let mut found = 0;
        for state in states {
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT $1) AS found", pending_rows(self, *state));
            let most = SCAN as i64 + 1;
            let count: i64 = read!(self, db => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql.as_str())).bind(most).fetch_one(db).await
            })?;
            found += count;
        }
        Ok(found <= SCAN as i64)
    }

    /// The endpoint's slot, if its retried and dead deliveries are few enough to scan completely.
    pub(in crate::store) async fn few_at_endpoint(&self, endpoint: EndpointId) -> Result<Option<i16>, StoreError> {
        const SQL: &str = "SELECT slot,
                 (SELECT count(*) FROM (SELECT 1 FROM due WHERE due.slot = endpoint.slot AND due.endpoint_id = endpoint.id
                      AND due.kind = 1 LIMIT $2) AS retried)
                 + (SELECT count(*) FROM (SELECT 1 FROM dead WHERE dead.endpoint_id = endpoint.id LIMIT $2) AS dead)
             FROM endpoint WHERE id = $1";
        let most = SCAN as i64 + 1;
        let found: Option<(i16, i64)> =
            read!(self, db => sqlx::query_as(SQL).bind(endpoint).bind(most).fetch_optional(db).await)?;
        Ok(found.filter(|(_, count)| *count < most).map(|(slot, _)| slot))
    }

    /// Whether the organization's dead deliveries are few enough to scan completely.
    pub(in crate::store) async fn few_dead(&self, org: &OrgId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM dead WHERE org = $1 LIMIT $2) AS found";
        let found: i64 =
            read!(self, db => sqlx::query_scalar(SQL).bind(org).bind(SCAN as i64 + 1).fetch_one(db).await)?;
        Ok(found <= SCAN as i64)
    }

    /// The last delivery that a page scans, `rows` from the start; `None`: the scan ends before.
    pub(in crate::store) async fn scan_end(
        &self,
        scan: &ListScan,
        range: &ScanRange,
        rows: usize,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        match scan {
            ListScan::Organization(org) => {
                return self.end_of_messages(("m.org", text(org)), range, rows, payloads).await;
            }
            ListScan::Application(app) => {
                return self.end_of_messages(("m.app_id", (*app).into()), range, rows, payloads).await;
            }
            _ => {}
        }
        const KEY: &str = "SELECT d.message_id, d.endpoint_id";
        const SIZED: &str = "SELECT d.message_id, d.endpoint_id,
             (SELECT COALESCE(length(m.payload), 0) FROM message m WHERE m.id = d.message_id) AS size";
        let mut sql = scan.keys(self, if payloads { SIZED } else { KEY }, range);
        sql.push(&scan.order(range));
        if payloads {
            let direction = range.sql().direction;
            let order = format!("message_id {direction}, endpoint_id {direction}");
            sql.push(&format!(" LIMIT {rows}"));
            sql.text = end_by_size(&sql.text, &order, "message_id, endpoint_id", rows);
        } else {
            sql.push(&format!(" LIMIT 1 OFFSET {}", rows - 1));
        }
        Ok(read!(self, db => query_of!(query_as, &sql).fetch_optional(db).await)?)
    }
}

impl Store {
    /// The end of a scan by message, over messages with this value in `column`; `rows` is a number of deliveries.
    async fn end_of_messages(
        &self,
        (column, value): (&str, SqlValue),
        range: &ScanRange,
        rows: usize,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        let Direction { direction, from, to, .. } = range.sql();
        // Some deliveries of the first message may be on the previous page.
        let mut sql = Statement::new(if payloads { SIZED_MESSAGES } else { "SELECT m.id FROM message m" });
        sql.push(&format!(" WHERE {column} = ")).bind(value);
        sql.push(&format!(" AND m.id {from} ")).bind(range.from.0);
        sql.push(&format!(" AND m.id {to} ")).bind(range.last).push(&format!(" ORDER BY m.id {direction}"));
        end_of_ids(&mut sql, messages_scanned(rows), payloads, direction);
        let end: Option<MessageId> = read!(self, db => query_of!(query_scalar, &sql).fetch_optional(db).await)?;
        // The scan includes all deliveries of the last message.
        Ok(end.map(|end| range.after_message(end)))
    }
}

/// Selects ids and payload sizes.
pub(in crate::store) const SIZED_MESSAGES: &str = "SELECT m.id, COALESCE(length(m.payload), 0) AS size FROM message m";

/// Turns a statement that selects messages into one that selects the last id to scan.
pub(in crate::store) fn end_of_ids(sql: &mut Statement, rows: usize, payloads: bool, direction: &str) {
    if payloads {
        sql.push(&format!(" LIMIT {rows}"));
        sql.text = end_by_size(&sql.text, &format!("id {direction}"), "id", rows);
    } else {
        sql.push(&format!(" LIMIT 1 OFFSET {}", rows - 1));
    }
}

/// Selects the row of `looked` at which the sum of `size` reaches [`TEXT_BYTES`], or the last of `rows`.
fn end_by_size(looked: &str, order: &str, key: &str, rows: usize) -> String {
    format!(
        "SELECT {key} FROM (SELECT {key}, SUM(size) OVER up_to AS bytes, COUNT(*) OVER up_to AS n FROM ({looked}) AS looked
             WINDOW up_to AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)) AS summed
         WHERE bytes >= {TEXT_BYTES} OR n >= {rows} ORDER BY {order} LIMIT 1"
    )
}

/// Only these deliveries `d`.
pub(in crate::store) fn push_rows(sql: &mut Statement, rows: Option<&[DeliveryKey]>) {
    let Some(rows) = rows else { return };
    sql.push(" AND (1 = 0");
    for (message, endpoint) in rows {
        sql.push(" OR (d.message_id = ").bind(*message).push(" AND d.endpoint_id = ").bind(*endpoint).push(")");
    }
    sql.push(")");
}

/// Appends the acceptance times of a filter as a condition on `m`.
pub(in crate::store) fn push_times(sql: &mut Statement, TimeRange { since, until }: TimeRange) {
    if since > Time::ZERO {
        sql.push(" AND m.accepted_at >= ").bind(SqlValue::Number(since.micros()));
    }
    if until < Time::MAX {
        sql.push(" AND m.accepted_at < ").bind(SqlValue::Number(until.micros()));
    }
}

/// Appends event types and a [search of payloads](payload_search) as conditions on `m`.
pub(in crate::store) fn push_contents(store: &Store, sql: &mut Statement, event_types: &[String], text: Option<&str>) {
    if !event_types.is_empty() {
        sql.push(" AND m.event_type IN ").list(event_types.iter().cloned().map(SqlValue::Text));
    }
    if let Some(text) = text {
        payload_search::push(store, sql, text);
    }
}

/// Appends the tenant as a condition on `p`. The operational application is excluded unless `app` names it.
pub(in crate::store) fn push_tenant(sql: &mut Statement, tenant: &crate::store::Tenant, app: Option<AppId>) {
    sql.push(" AND p.org = ").bind(SqlValue::Text(tenant.org.as_str().to_owned())).push(" AND p.deleted_at IS NULL");
    match app.or(tenant.only) {
        Some(app) => sql.push(" AND p.id = ").bind(app),
        None => sql.push(" AND NOT p.operational"),
    };
}
