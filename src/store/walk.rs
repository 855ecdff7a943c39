//! The way a page of deliveries is looked for: newest message first, along the index that passes over least.
//!
//! What is few (at most [`SCAN`] rows of a partial index: what is pending, being retried, dead) is found there, however old it is.
//! Everything else is walked through, and a page looks at no more than [`SCAN`] deliveries of the walk, those of [`APP_SCAN`] messages of
//! an application, or [`TEXT_BYTES`] of payloads.

use super::page::SCAN;
use super::statement::{Statement, Value, query_of};
use super::{Engine, Store, StoreError, read};
use crate::domain::delivery::State;
use crate::domain::{AppId, EndpointId, MessageId, Time};

/// How many bytes of payloads are looked at for one page.
pub const TEXT_BYTES: i64 = 32 * 1024 * 1024;

/// How many messages of one application are looked at for a page: they lie scattered in their table, and each may have deliveries.
pub(super) const APP_SCAN: usize = SCAN / 4;

/// Where a delivery stands in a list.
pub type DeliveryKey = (MessageId, EndpointId);

/// What is walked along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    All,
    Application(AppId),
    Endpoint(EndpointId),
    Dead,
    /// All that is in these states: it was counted before, and is few.
    Few(&'static [State]),
    Messages(Vec<MessageId>),
}

/// A stretch of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Only what comes after this one,
    pub from: DeliveryKey,
    /// of messages from this one on,
    pub floor: MessageId,
    /// and nothing after this one.
    pub end: Option<DeliveryKey>,
}

impl Walk {
    /// How the list is sorted, in the words of the tables that are walked.
    pub(super) fn order(&self) -> &'static str {
        match self {
            Walk::Application(_) => " ORDER BY w.id DESC, d.endpoint_id DESC",
            _ => " ORDER BY d.message_id DESC, d.endpoint_id DESC",
        }
    }

    /// `select`, from the walk's deliveries `d` and `more` tables, where they lie in `stretch`. Tables are written in the order in which
    /// they are to be joined, and SQLite keeps to it for `CROSS JOIN`.
    pub(super) fn statement(&self, store: &Store, select: &str, more: &str, stretch: &Stretch) -> Statement {
        let mut sql = Statement::default();
        if let Walk::Few(states) = self {
            sql.push("WITH few AS MATERIALIZED (");
            for (n, state) in states.iter().enumerate() {
                sql.push(if n == 0 { "" } else { " UNION ALL " });
                sql.push(&format!(
                    "SELECT d.message_id, d.endpoint_id FROM delivery d {} WHERE ",
                    by_index(store, *state)
                ));
                sql.push(kept(*state));
                stretch.push(&mut sql);
            }
            sql.push(") ");
        }
        sql.push(select);
        sql.push(match self {
            Walk::Application(_) => " FROM message w CROSS JOIN delivery d",
            Walk::Few(_) => " FROM few CROSS JOIN delivery d",
            _ => " FROM delivery d",
        });
        sql.push(more).push(" WHERE ");
        match self {
            Walk::All => sql.push("1 = 1"),
            Walk::Application(app) => {
                sql.push("w.app_id = ").bind(*app).push(" AND w.id <= ").bind(stretch.from.0);
                sql.push(" AND w.id >= ").bind(stretch.lowest()).push(" AND d.message_id = w.id")
            }
            Walk::Endpoint(endpoint) => sql.push("d.endpoint_id = ").bind(*endpoint),
            Walk::Dead => sql.push("d.state = 3"),
            Walk::Few(_) => sql.push("d.message_id = few.message_id AND d.endpoint_id = few.endpoint_id"),
            Walk::Messages(ids) => sql.push("d.message_id IN ").list(ids.iter().map(|id| Value::from(*id))),
        };
        stretch.push(&mut sql);
        sql
    }
}

impl Stretch {
    fn lowest(&self) -> MessageId {
        self.end.map_or(self.floor, |end| end.0.max(self.floor))
    }

    fn push(&self, sql: &mut Statement) {
        let (message, endpoint) = self.from;
        sql.push(" AND d.message_id <= ").bind(message).push(" AND d.message_id >= ").bind(self.lowest());
        sql.push(" AND (d.message_id < ").bind(message).push(" OR d.endpoint_id < ").bind(endpoint).push(")");
        if let Some((message, endpoint)) = self.end {
            sql.push(" AND (d.message_id > ").bind(message).push(" OR d.endpoint_id >= ").bind(endpoint).push(")");
        }
    }
}

/// The condition of the partial index that holds a state.
fn kept(state: State) -> &'static str {
    match state {
        State::Fresh => "d.state = 0 AND d.state <= 1",
        State::Retry => "d.state = 1",
        State::Delivered => "d.state = 2",
        State::Dead => "d.state = 3",
    }
}

/// SQLite knows no numbers of rows, and would rather walk the table in the list's order.
fn by_index(store: &Store, state: State) -> &'static str {
    match (&store.inner.engine, state) {
        (Engine::Postgres(_), _) | (_, State::Delivered) => "",
        (_, State::Fresh) => "INDEXED BY delivery_pending",
        (_, State::Retry) => "INDEXED BY delivery_retry",
        (_, State::Dead) => "INDEXED BY delivery_dead",
    }
}

impl Store {
    /// Whether so few deliveries are in these states that all of them can be looked at for a page.
    pub(super) async fn few(&self, states: &[State]) -> Result<bool, StoreError> {
        let mut found = 0;
        for state in states {
            let (index, kept) = (by_index(self, *state), kept(*state));
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM delivery d {index} WHERE {kept} LIMIT $1) AS found");
            let most = SCAN as i64 + 1;
            let count: i64 = read!(self, db => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql.as_str())).bind(most).fetch_one(db).await
            })?;
            found += count;
        }
        Ok(found <= SCAN as i64)
    }

    /// The last delivery of the walk that a page looks at, `rows` on; `None`: the walk ends before.
    pub(super) async fn end_of_walk(
        &self,
        walk: &Walk,
        stretch: &Stretch,
        rows: usize,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        if let Walk::Application(app) = walk {
            return self.end_of_messages(*app, stretch, payloads).await;
        }
        const KEY: &str = "SELECT d.message_id, d.endpoint_id";
        const SIZED: &str = "SELECT d.message_id, d.endpoint_id,
             (SELECT COALESCE(length(m.payload), 0) FROM message m WHERE m.id = d.message_id) AS size";
        let mut sql = walk.statement(self, if payloads { SIZED } else { KEY }, "", stretch);
        sql.push(walk.order());
        if payloads {
            sql.push(&format!(" LIMIT {rows}"));
            sql.text = end_by_size(&sql.text, "message_id DESC, endpoint_id DESC", "message_id, endpoint_id", rows);
        } else {
            sql.push(&format!(" LIMIT 1 OFFSET {}", rows - 1));
        }
        Ok(read!(self, db => query_of!(query_as, &sql).fetch_optional(db).await)?)
    }
}

impl Store {
    /// The last of an application's messages whose deliveries a page looks at.
    async fn end_of_messages(
        &self,
        app: AppId,
        stretch: &Stretch,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        // Of the first message, some may be on the page before.
        let mut sql = Statement::new(if payloads { SIZED_MESSAGES } else { "SELECT m.id FROM message m" });
        sql.push(" WHERE m.app_id = ").bind(app).push(" AND m.id <= ").bind(stretch.from.0);
        sql.push(" AND m.id >= ").bind(stretch.floor).push(" ORDER BY m.id DESC");
        end_of_ids(&mut sql, APP_SCAN, payloads);
        let end: Option<MessageId> = read!(self, db => query_of!(query_scalar, &sql).fetch_optional(db).await)?;
        // All of its deliveries are looked at.
        Ok(end.map(|end| (end, EndpointId(uuid::Uuid::nil()))))
    }
}

/// The beginning of a statement of ids and sizes.
pub(super) const SIZED_MESSAGES: &str = "SELECT m.id, COALESCE(length(m.payload), 0) AS size FROM message m";

/// Makes of a statement of messages, the newest first, one of the last id that is looked at.
pub(super) fn end_of_ids(sql: &mut Statement, rows: usize, payloads: bool) {
    if payloads {
        sql.push(&format!(" LIMIT {rows}"));
        sql.text = end_by_size(&sql.text, "id DESC", "id", rows);
    } else {
        sql.push(&format!(" LIMIT 1 OFFSET {}", rows - 1));
    }
}

/// The first of the rows that `looked` gives with their `size` up to which there are [`TEXT_BYTES`], or the last of `rows`.
fn end_by_size(looked: &str, order: &str, key: &str, rows: usize) -> String {
    format!(
        "SELECT {key} FROM (SELECT {key}, SUM(size) OVER up_to AS bytes, COUNT(*) OVER up_to AS n FROM ({looked}) AS looked
             WINDOW up_to AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)) AS summed
         WHERE bytes >= {TEXT_BYTES} OR n >= {rows} ORDER BY {order} LIMIT 1"
    )
}

/// The accepted times of a filter: pushed as a condition on `m`.
pub(super) fn push_times(sql: &mut Statement, since: Time, until: Time) {
    if since > Time::ZERO {
        sql.push(" AND m.accepted_at >= ").bind(Value::Number(since.micros()));
    }
    if until < Time::MAX {
        sql.push(" AND m.accepted_at < ").bind(Value::Number(until.micros()));
    }
}

/// Event types and a text of the payload, byte by byte: conditions on `m`.
pub(super) fn push_contents(store: &Store, sql: &mut Statement, event_types: &[String], text: Option<&str>) {
    if !event_types.is_empty() {
        sql.push(" AND m.event_type IN ").list(event_types.iter().cloned().map(Value::Text));
    }
    if let Some(text) = text {
        let bytes = Value::Bytes(text.as_bytes().to_vec());
        match &store.inner.engine {
            Engine::Sqlite(_) => sql.push(" AND instr(m.payload, ").bind(bytes).push(") > 0"),
            Engine::Postgres(_) => sql.push(" AND position(").bind(bytes).push(" IN m.payload) > 0"),
        };
    }
}

/// Whose applications: a condition on `p`. What goes to operational endpoints is seen only by who asks for it.
pub(super) fn push_tenant(sql: &mut Statement, tenant: &super::Tenant, app: Option<AppId>) {
    sql.push(" AND p.org = ").bind(Value::Text(tenant.org.as_str().to_owned())).push(" AND p.deleted_at IS NULL");
    match app.or(tenant.only) {
        Some(app) => sql.push(" AND p.id = ").bind(app),
        None => sql.push(" AND NOT p.operational"),
    };
}
