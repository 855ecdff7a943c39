//! The way deliveries are looked for, along the index that passes over least: newest message first for lists, oldest first for background work.
//!
//! What is few (at most [`SCAN`] rows of what is pending or retried; the organization's dead ones; what an endpoint has of both) is found there,
//! however old it is.
//! Everything else is walked through, message by message or along an endpoint's deliveries, and a page looks at no more than [`SCAN`]
//! deliveries, those of [`MESSAGES_SCANNED`] messages, or [`TEXT_BYTES`] of payloads.

use crate::domain::deliveries::delivery::State;
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, OrgId, Time};
use crate::store::db::statement::{Statement, Value, query_of};
use crate::store::query::page::SCAN;
use crate::store::{Engine, Order, Store, StoreError, read};

/// How many bytes of payloads are looked at for one page.
pub const TEXT_BYTES: i64 = 32 * 1024 * 1024;

/// How many messages are looked at for a page: they lie scattered in their table, and each may have deliveries.
pub(in crate::store) const MESSAGES_SCANNED: usize = messages_scanned(SCAN);

/// How many messages are looked at in place of so many deliveries.
const fn messages_scanned(deliveries: usize) -> usize {
    deliveries / 4
}

/// The slot of deliveries that have ended, in the view.
const ENDED: i64 = -1;

/// Where a delivery stands in a list.
pub type DeliveryKey = (MessageId, EndpointId);

/// What is walked along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Walk {
    /// The messages of the organization.
    Organization(OrgId),
    Application(AppId),
    /// The deliveries of an endpoint in this slot.
    Endpoint(EndpointId, i16),
    /// The organization's dead deliveries.
    Dead(OrgId),
    /// All pending deliveries of these kinds: they were counted before, and are few.
    Few(&'static [State]),
    /// The retried and dead deliveries of an endpoint in this slot, in these states: counted before, and few.
    FewAt(EndpointId, i16, &'static [State]),
    /// Deliveries that background work made pending, as far as they were [noted](crate::store::jobs::resent).
    Resent(BackgroundId),
    Messages(Vec<MessageId>),
}

/// A stretch of a walk.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Stretch {
    /// The direction of the walk, by message id.
    pub order: Order,
    /// Only what comes after this one,
    pub from: DeliveryKey,
    /// up to this message,
    pub last: MessageId,
    /// and nothing after this one.
    pub end: Option<DeliveryKey>,
}

impl Walk {
    /// The column of the message's id: that of the table which the walk goes along, or SQLite would not follow its order.
    pub(in crate::store) fn message_id(&self) -> &'static str {
        match self {
            Walk::Organization(_) | Walk::Application(_) => "w.id",
            _ => "d.message_id",
        }
    }

    /// How the rows are sorted. The columns are those of the walk, and must be selected.
    pub(in crate::store) fn order(&self, stretch: &Stretch) -> String {
        let direction = stretch.sql().direction;
        format!(" ORDER BY {} {direction}, d.endpoint_id {direction}", self.message_id())
    }

    /// Whether it goes along what is few.
    pub(in crate::store) fn is_few(&self) -> bool {
        matches!(self, Walk::Few(_) | Walk::FewAt(..) | Walk::Dead(_) | Walk::Resent(_))
    }

    /// `select`, from the walk's deliveries `d` and `more` tables, where they lie in `stretch`. Tables are written in the order in which
    /// they are to be joined, and SQLite keeps to it for `CROSS JOIN`.
    pub(in crate::store) fn statement(&self, store: &Store, select: &str, more: &str, stretch: &Stretch) -> Statement {
        let mut sql = Statement::default();
        match self {
            Walk::Few(states) => {
                sql.push("WITH few AS MATERIALIZED (");
                for (n, state) in states.iter().enumerate() {
                    sql.push(if n == 0 { "" } else { " UNION ALL " });
                    sql.push("SELECT d.message_id, d.endpoint_id FROM ").push(&pending_rows(store, *state));
                    stretch.push(&mut sql);
                }
                sql.push(") ");
            }
            Walk::FewAt(endpoint, slot, states) => {
                sql.push("WITH few AS MATERIALIZED (");
                for (n, state) in states.iter().enumerate() {
                    sql.push(if n == 0 { "" } else { " UNION ALL " });
                    sql.push("SELECT d.message_id, d.endpoint_id FROM ");
                    match state {
                        State::Dead => sql.push("dead d WHERE d.endpoint_id = ").bind(*endpoint),
                        pending => {
                            sql.push(&format!("due d WHERE d.kind = {} AND d.slot = {slot}", pending.code()));
                            sql.push(" AND d.endpoint_id = ").bind(*endpoint)
                        }
                    };
                    stretch.push(&mut sql);
                }
                sql.push(") ");
            }
            Walk::Dead(org) => {
                sql.push("WITH few AS MATERIALIZED (SELECT d.message_id, d.endpoint_id FROM dead d WHERE d.org = ");
                sql.bind(text(org));
                stretch.push(&mut sql);
                sql.push(") ");
            }
            Walk::Resent(work) => {
                sql.push(
                    "WITH few AS MATERIALIZED (SELECT d.message_id, d.endpoint_id FROM resent d WHERE d.work_id = ",
                );
                sql.bind(*work);
                stretch.push(&mut sql);
                sql.push(") ");
            }
            _ => {}
        }
        sql.push(select);
        sql.push(match self {
            Walk::Organization(_) | Walk::Application(_) => " FROM message w CROSS JOIN delivery d",
            Walk::Few(_) | Walk::FewAt(..) | Walk::Dead(_) | Walk::Resent(_) => " FROM few CROSS JOIN delivery d",
            Walk::Endpoint(..) | Walk::Messages(_) => " FROM delivery d",
        });
        sql.push(more).push(" WHERE ");
        match self {
            Walk::Organization(org) => along(sql.push("w.org = ").bind(text(org)), stretch),
            Walk::Application(app) => along(sql.push("w.app_id = ").bind(*app), stretch),
            Walk::Endpoint(endpoint, slot) => {
                sql.push("d.endpoint_id = ").bind(*endpoint);
                sql.push(" AND d.slot IN ").list([ENDED, i64::from(*slot)].map(Value::Number))
            }
            Walk::Few(_) | Walk::FewAt(..) | Walk::Dead(_) | Walk::Resent(_) => {
                sql.push("d.message_id = few.message_id AND d.endpoint_id = few.endpoint_id")
            }
            Walk::Messages(ids) => sql.push("d.message_id IN ").list(ids.iter().map(|id| Value::from(*id))),
        };
        stretch.push(&mut sql);
        sql
    }

    /// The same for the keys alone.
    fn keys(&self, store: &Store, select: &str, stretch: &Stretch) -> Statement {
        let mut sql = Statement::new(select);
        match self {
            Walk::Dead(org) => sql.push(" FROM dead d WHERE d.org = ").bind(text(org)),
            Walk::Resent(work) => sql.push(" FROM resent d WHERE d.work_id = ").bind(*work),
            _ => return self.statement(store, select, "", stretch),
        };
        stretch.push(&mut sql);
        sql
    }
}

/// The messages of a walk along messages, and their deliveries.
fn along<'s>(sql: &'s mut Statement, stretch: &Stretch) -> &'s mut Statement {
    let Direction { from, to, .. } = stretch.sql();
    sql.push(&format!(" AND w.id {from} ")).bind(stretch.from.0);
    sql.push(&format!(" AND w.id {to} ")).bind(stretch.last_message()).push(" AND d.message_id = w.id")
}

fn text(org: &OrgId) -> Value {
    Value::Text(org.as_str().to_owned())
}

/// The comparisons of a direction.
struct Direction {
    direction: &'static str,
    /// With the first message of a stretch, and with the last.
    from: &'static str,
    to: &'static str,
    /// Strictly on from a key.
    beyond: &'static str,
    /// Strictly before a key.
    before: &'static str,
}

impl Stretch {
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

    /// The key after which nothing of this message comes.
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

/// The pending deliveries in a state, as `d`. SQLite knows no numbers of rows, and would rather walk the table in the list's order.
fn pending_rows(store: &Store, state: State) -> String {
    let index = match (&store.inner.engine, state) {
        (Engine::Sqlite(_), State::Retry) => "INDEXED BY due_retry",
        _ => "",
    };
    format!("due d {index} WHERE d.kind = {}", state.code())
}

impl Store {
    /// Whether so few deliveries are pending in these states that all of them can be looked at for a page.
    pub(in crate::store) async fn few(&self, states: &[State]) -> Result<bool, StoreError> {
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

    /// The endpoint's slot, if so few of its deliveries are retried or dead that all of them can be looked at for a page.
    pub(in crate::store) async fn few_at(&self, endpoint: EndpointId) -> Result<Option<i16>, StoreError> {
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

    /// Whether so few of the organization's deliveries are dead.
    pub(in crate::store) async fn few_dead(&self, org: &OrgId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM dead WHERE org = $1 LIMIT $2) AS found";
        let found: i64 =
            read!(self, db => sqlx::query_scalar(SQL).bind(org).bind(SCAN as i64 + 1).fetch_one(db).await)?;
        Ok(found <= SCAN as i64)
    }

    /// The last delivery of the walk that a page looks at, `rows` on; `None`: the walk ends before.
    pub(in crate::store) async fn end_of_walk(
        &self,
        walk: &Walk,
        stretch: &Stretch,
        rows: usize,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        match walk {
            Walk::Organization(org) => {
                return self.end_of_messages(("m.org", text(org)), stretch, rows, payloads).await;
            }
            Walk::Application(app) => {
                return self.end_of_messages(("m.app_id", (*app).into()), stretch, rows, payloads).await;
            }
            _ => {}
        }
        const KEY: &str = "SELECT d.message_id, d.endpoint_id";
        const SIZED: &str = "SELECT d.message_id, d.endpoint_id,
             (SELECT COALESCE(length(m.payload), 0) FROM message m WHERE m.id = d.message_id) AS size";
        let mut sql = walk.keys(self, if payloads { SIZED } else { KEY }, stretch);
        sql.push(&walk.order(stretch));
        if payloads {
            let direction = stretch.sql().direction;
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
    /// The last of the messages whose deliveries are looked at together with those of `rows` deliveries, of the messages with this value in the
    /// column.
    async fn end_of_messages(
        &self,
        (column, value): (&str, Value),
        stretch: &Stretch,
        rows: usize,
        payloads: bool,
    ) -> Result<Option<DeliveryKey>, StoreError> {
        let Direction { direction, from, to, .. } = stretch.sql();
        // Of the first message, some may be on the page before.
        let mut sql = Statement::new(if payloads { SIZED_MESSAGES } else { "SELECT m.id FROM message m" });
        sql.push(&format!(" WHERE {column} = ")).bind(value);
        sql.push(&format!(" AND m.id {from} ")).bind(stretch.from.0);
        sql.push(&format!(" AND m.id {to} ")).bind(stretch.last).push(&format!(" ORDER BY m.id {direction}"));
        end_of_ids(&mut sql, messages_scanned(rows), payloads, direction);
        let end: Option<MessageId> = read!(self, db => query_of!(query_scalar, &sql).fetch_optional(db).await)?;
        // All of its deliveries are looked at.
        Ok(end.map(|end| stretch.after_message(end)))
    }
}

/// The beginning of a statement of ids and sizes.
pub(in crate::store) const SIZED_MESSAGES: &str = "SELECT m.id, COALESCE(length(m.payload), 0) AS size FROM message m";

/// Makes of a statement of messages, sorted in this direction, one of the last id that is looked at.
pub(in crate::store) fn end_of_ids(sql: &mut Statement, rows: usize, payloads: bool, direction: &str) {
    if payloads {
        sql.push(&format!(" LIMIT {rows}"));
        sql.text = end_by_size(&sql.text, &format!("id {direction}"), "id", rows);
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
pub(in crate::store) fn push_times(sql: &mut Statement, since: Time, until: Time) {
    if since > Time::ZERO {
        sql.push(" AND m.accepted_at >= ").bind(Value::Number(since.micros()));
    }
    if until < Time::MAX {
        sql.push(" AND m.accepted_at < ").bind(Value::Number(until.micros()));
    }
}

/// Event types and a text of the payload, byte by byte: conditions on `m`.
pub(in crate::store) fn push_contents(store: &Store, sql: &mut Statement, event_types: &[String], text: Option<&str>) {
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
pub(in crate::store) fn push_tenant(sql: &mut Statement, tenant: &crate::store::Tenant, app: Option<AppId>) {
    sql.push(" AND p.org = ").bind(Value::Text(tenant.org.as_str().to_owned())).push(" AND p.deleted_at IS NULL");
    match app.or(tenant.only) {
        Some(app) => sql.push(" AND p.id = ").bind(app),
        None => sql.push(" AND NOT p.operational"),
    };
}
