//! Reading messages: one, a page of an application's, or a batch with payloads.

use std::collections::HashMap;

use sqlx::{PgPool, QueryBuilder, SqlitePool};
use uuid::Uuid;

use crate::domain::deliveries::message::Message;
use crate::domain::feed::MAX_ID_LEAD;
use crate::domain::{AppId, MessageId, Time, TimeRange};
use crate::store::db::codec::{self, MESSAGE, MessageRow};
use crate::store::db::postgres::Postgres;
use crate::store::db::sqlite::Sqlite;
use crate::store::query::page::SCAN;
use crate::store::query::topic_filter::TopicFilter;
use crate::store::{Backend, MessageRef, Order, PageRequest, Scanned, Store, StoreError, Tenant, read};

/// Selects messages of an application; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFilter {
    pub topics: TopicFilter,
    /// Accepted before this time.
    pub before: Option<Time>,
    /// Accepted after this time.
    pub after: Option<Time>,
}

impl MessageFilter {
    /// Whether it may skip most scanned rows.
    fn selective(&self) -> bool {
        *self != MessageFilter::default()
    }

    /// The range of ids that contains all messages accepted in the filter's times. Ids never lag behind the clock, but
    /// run ahead after a clock was set back, until it has caught up.
    fn ids(&self) -> (MessageId, MessageId) {
        let floor = MessageId::floor(self.after.unwrap_or(Time::ZERO));
        (floor, self.before.map_or(MessageId(Uuid::max()), ceiling))
    }
}

/// The connections to read with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Readers {
    /// For requests and pages.
    Pages,
    /// For the engine.
    Vital,
}

impl Readers {
    fn sqlite(self, backend: &Sqlite) -> &SqlitePool {
        match self {
            Readers::Pages => &backend.pages,
            Readers::Vital => &backend.vital,
        }
    }

    fn postgres(self, backend: &Postgres) -> &PgPool {
        match self {
            Readers::Pages => &backend.front,
            Readers::Vital => &backend.engine,
        }
    }
}

impl Store {
    /// The message, if the tenant's application has it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn message(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: &MessageRef,
    ) -> Result<Option<Message>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        const OWNED: &str = "EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $3 AND deleted_at IS NULL)";
        let row: Option<MessageRow> = match message {
            MessageRef::Id(id) => {
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT {MESSAGE} FROM message WHERE app_id = $1 AND id = $2 AND {OWNED}"
                ));
                read!(self, db => sqlx::query_as(sql).bind(app).bind(id).bind(org).fetch_optional(db).await)?
            }
            MessageRef::Uid(uid) => {
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT {MESSAGE} FROM message WHERE {OWNED} AND id =
                         (SELECT message_id FROM message_key WHERE app_id = $1 AND event_id = $2)"
                ));
                read!(self, db => sqlx::query_as(sql).bind(app).bind(uid).bind(org).fetch_optional(db).await)?
            }
        };
        row.map(MessageRow::message).transpose()
    }

    /// The messages of the tenant's application, in the order of the page. With a filter, a page scans at most [`SCAN`]
    /// rows and may end early.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn messages(
        &self,
        tenant: &Tenant,
        app: AppId,
        filter: &MessageFilter,
        page: &PageRequest<MessageId>,
    ) -> Result<Scanned<Message, MessageId>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Scanned::nothing());
        }
        let _scan = if filter.selective() { Some(self.scan(tenant).await?) } else { None };
        let (compare, direction) = page.sql();
        let end = if filter.selective() { self.end_of_scan(app, filter, page).await? } else { None };
        // Time filters are ranges of the key as well.
        let mut limits = vec![(compare, page.bound())];
        limits.extend(filter.before.map(|before| ("<", ceiling(before).0)));
        limits.extend(filter.after.map(|after| (">=", MessageId::floor(after).0)));
        limits.extend(end.map(|end| (if compare == ">" { "<=" } else { ">=" }, end.0)));
        let made = |row: MessageRow| {
            let message = row.message()?;
            let size = message.size();
            Ok((message, size))
        };
        let page = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new(format!("SELECT {MESSAGE} FROM message WHERE "));
            // See `within_application`.
            let both = matches!(self.inner.backend, Backend::Postgres(_));
            if both {
                sql.push("app_id >= ").push_bind(app).push(" AND app_id <= ").push_bind(app);
            } else {
                sql.push("app_id = ").push_bind(app);
            }
            for (compare, id) in limits {
                if both {
                    sql.push(format!(" AND (app_id, id) {compare} (")).push_bind(app).push(", ").push_bind(id).push(")");
                }
                sql.push(format!(" AND id {compare} ")).push_bind(id);
            }
            sql.push(" AND EXISTS (SELECT 1 FROM application WHERE id = message.app_id AND deleted_at IS NULL AND org = ");
            sql.push_bind(tenant.org.clone()).push(")");
            filter.topics.push(self, &mut sql);
            if let Some(before) = filter.before {
                sql.push(" AND accepted_at <= ").push_bind(before);
            }
            if let Some(after) = filter.after {
                sql.push(" AND accepted_at >= ").push_bind(after);
            }
            let order = in_order_of_application(self.kind(), direction);
            sql.push(format!(" ORDER BY {order} LIMIT ")).push_bind(page.rows());
            page.fill(sql.build_query_as().fetch(db), made).await
        })?;
        Ok(Scanned::new(page, end))
    }

    /// The last message that a filtered page scans; `None`: the list or the filter's time range ends before.
    async fn end_of_scan(
        &self,
        app: AppId,
        filter: &MessageFilter,
        page: &PageRequest<MessageId>,
    ) -> Result<Option<MessageId>, StoreError> {
        let (compare, direction) = page.sql();
        let (floor, ceiling) = filter.ids();
        let start = match page.reading() {
            Order::Ascending => page.bound().max(floor.0),
            Order::Descending => page.bound().min(ceiling.0),
        };
        let within = within_application(self.kind(), "$1", [&format!("{compare} $2")]);
        let order = in_order_of_application(self.kind(), direction);
        let sql =
            sqlx::AssertSqlSafe(format!("SELECT id FROM message WHERE {within} ORDER BY {order} LIMIT 1 OFFSET $3"));
        let last = SCAN as i64 - 1;
        let end: Option<MessageId> =
            read!(self, db => sqlx::query_scalar(sql).bind(app).bind(start).bind(last).fetch_optional(db).await)?;
        Ok(end.filter(|end| (floor..=ceiling).contains(end)))
    }

    /// Loads messages until their payloads reach `most` bytes, but at least one. Sizes are read before payloads, which
    /// bounds the memory.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load_messages_within(&self, ids: &[MessageId], most: usize) -> Result<Vec<Message>, StoreError> {
        self.load_within(ids, most, Readers::Vital).await
    }

    /// [`Store::load_messages_within`] with the given connections.
    pub(in crate::store) async fn load_within(
        &self,
        ids: &[MessageId],
        most: usize,
        readers: Readers,
    ) -> Result<Vec<Message>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // The bounds let PostgreSQL skip partitions with any plan.
        const SIZES: &str = "SELECT id, coalesce(octet_length(payload), 0)::bigint FROM message
             WHERE id = ANY($1) AND id BETWEEN $2 AND $3";
        type Row = (MessageId, i64);
        let rows: Vec<Row> = match &self.inner.backend {
            crate::store::Backend::Sqlite(backend) => {
                sqlx::query_as(
                    "SELECT id, coalesce(length(payload), 0) FROM message
                     WHERE id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(crate::store::db::sqlite::id_list(codec::uuids(ids)))
                .fetch_all(readers.sqlite(backend))
                .await?
            }
            crate::store::Backend::Postgres(backend) => {
                let (list, least, greatest) = codec::with_bounds(ids);
                sqlx::query_as(SIZES).bind(list).bind(least).bind(greatest).fetch_all(readers.postgres(backend)).await?
            }
        };
        let sizes: HashMap<MessageId, i64> = rows.into_iter().collect();
        let (mut chosen, mut left) = (Vec::new(), i64::try_from(most).unwrap_or(i64::MAX));
        for (id, size) in ids.iter().filter_map(|id| Some((id, sizes.get(id)?))) {
            left -= size;
            if left < 0 && !chosen.is_empty() {
                break;
            }
            chosen.push(*id);
        }
        self.load(&chosen, readers).await
    }

    /// Loads messages with payloads of any size, for requests and pages.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load_messages(&self, ids: &[MessageId]) -> Result<Vec<Message>, StoreError> {
        self.load(ids, Readers::Pages).await
    }

    async fn load(&self, ids: &[MessageId], readers: Readers) -> Result<Vec<Message>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<MessageRow> = match &self.inner.backend {
            crate::store::Backend::Sqlite(backend) => {
                let sql = format!("SELECT {MESSAGE} FROM message WHERE id IN (SELECT unhex(value) FROM json_each($1))");
                sqlx::query_as(sqlx::AssertSqlSafe(sql))
                    .bind(crate::store::db::sqlite::id_list(codec::uuids(ids)))
                    .fetch_all(readers.sqlite(backend))
                    .await?
            }
            crate::store::Backend::Postgres(backend) => {
                let sql = format!("SELECT {MESSAGE} FROM message WHERE id = ANY($1) AND id BETWEEN $2 AND $3");
                let (list, least, greatest) = codec::with_bounds(ids);
                let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(list).bind(least).bind(greatest);
                query.fetch_all(readers.postgres(backend)).await?
            }
        };
        rows.into_iter().map(MessageRow::message).collect()
    }
}

/// The condition that a message belongs to the application (a parameter) with an id within these limits. On PostgreSQL
/// it compares both columns and is [ordered by both](in_order_of_application), so the planner can only use the
/// application's index. In the index of all ids it might skip millions of other applications' rows. The limits on the
/// id alone let it skip partitions.
pub(in crate::store) fn within_application<const N: usize>(store: &str, app: &str, limits: [&str; N]) -> String {
    let of_ids = limits.map(|limit| format!(" AND id {limit}")).concat();
    if store != Store::POSTGRES {
        return format!("app_id = {app}{of_ids}");
    }
    let of_both = limits.map(|limit| match limit.split_once(' ') {
        Some((compare, id)) => format!(" AND (app_id, id) {compare} ({app}, {id})"),
        None => String::new(),
    });
    format!("app_id >= {app} AND app_id <= {app}{}{of_ids}", of_both.concat())
}

/// The ORDER BY clause for [`within_application`].
pub(in crate::store) fn in_order_of_application(store: &str, direction: &str) -> String {
    if store == Store::POSTGRES { format!("app_id {direction}, id {direction}") } else { format!("id {direction}") }
}

/// The first id and an upper bound of the ids of messages accepted in `range`.
pub(in crate::store) fn id_range(range: TimeRange) -> (MessageId, MessageId) {
    let end = if range.until == Time::MAX { MessageId(Uuid::max()) } else { ceiling(range.until) };
    (MessageId::floor(range.since), end)
}

/// An upper bound for the ids of messages accepted before `time`.
pub(in crate::store) fn ceiling(time: Time) -> MessageId {
    MessageId::floor(time.plus(MAX_ID_LEAD))
}
