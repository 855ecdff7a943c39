//! Reading the feed: a page of the messages behind a position. It writes nothing.

use std::collections::HashMap;

use sqlx::QueryBuilder;

use crate::domain::feed::{FeedFilter, Position, READ_AHEAD};
use crate::domain::limits::PAGE_BYTES;
use crate::domain::message::Message;
use crate::domain::{AppId, MessageId, Time};
use crate::store::db::codec::{self, MESSAGE, MessageRow};
use crate::store::{Engine, Store, StoreError, Tenant, read};

/// How many messages a page looks at, at most, for those that its filters let through.
pub const LOOK: usize = 5_000;
/// How many of them one statement reads, behind the first one.
const CHUNK: usize = 1_000;

/// Which messages of a feed are wanted.
#[derive(Clone, Copy, Debug)]
pub struct FeedRequest<'f> {
    /// Only those behind it.
    pub after: Position,
    /// Only those that each of them lets through.
    pub filters: &'f [FeedFilter],
    /// At most so many.
    pub limit: usize,
    pub now: Time,
}

/// A page of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// In the order of the feed. Those without content are left out: nothing of them is pushed either.
    pub messages: Vec<Message>,
    /// What was looked at last: to go on from, also where nothing was found.
    pub position: Position,
    /// Nothing followed when it was read.
    pub done: bool,
}

/// The columns of a message that a filter needs.
#[derive(sqlx::FromRow)]
struct Row {
    id: MessageId,
    event_type: String,
    channels: Option<String>,
    /// Bytes; `None`: there is no content.
    size: Option<i64>,
}

impl Store {
    /// A page of the feed of the tenant's application. It looks at no more than [`LOOK`] messages, and holds no more than
    /// [`PAGE_BYTES`] of payloads, but for the first one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn feed(&self, tenant: &Tenant, app: AppId, request: FeedRequest<'_>) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage { messages: Vec::new(), position: request.after, done: true };
        if !tenant.sees(app) {
            return Ok(page);
        }
        let (mut chosen, mut bytes, mut looked) = (Vec::new(), 0, 0);
        let mut chunk = request.limit + 1;
        'page: loop {
            let rows = self.feed_rows(tenant, app, page.position, request.now, chunk).await?;
            page.done = rows.len() < chunk;
            for row in rows {
                if chosen.len() == request.limit || looked == LOOK {
                    page.done = false;
                    break 'page;
                }
                if let Some(size) = row.size
                    && row.is_wanted(request.filters)?
                {
                    let size = usize::try_from(size).unwrap_or_default();
                    if bytes + size > PAGE_BYTES && !chosen.is_empty() {
                        page.done = false;
                        break 'page;
                    }
                    bytes += size;
                    chosen.push(row.id);
                }
                looked += 1;
                page.position = Position::of(row.id);
            }
            if page.done {
                break;
            }
            chunk = CHUNK;
        }
        page.messages = self.feed_messages(tenant, app, &chosen).await?;
        Ok(page)
    }

    /// The first `limit` messages behind `after`, without their payloads.
    async fn feed_rows(
        &self,
        tenant: &Tenant,
        app: AppId,
        after: Position,
        now: Time,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        const COLUMNS: &str =
            "SELECT id, event_type, channels, CAST(octet_length(payload) AS BIGINT) AS size FROM message";
        // PostgreSQL must not go along the ids of all applications, which may be millions behind the last one of this: the order by both, and
        // limits that compare both, leave it the index of applications alone. The limits of the id keep it out of partitions.
        let (within, order) = match self.inner.engine {
            Engine::Sqlite(_) => ("app_id = $1 AND id >= $2 AND id < $3", "id"),
            Engine::Postgres(_) => {
                ("(app_id, id) >= ($1, $2) AND (app_id, id) < ($1, $3) AND id >= $2 AND id < $3", "app_id, id")
            }
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE {within}
                 AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $4 AND deleted_at IS NULL)
             ORDER BY {order} LIMIT $5"
        ));
        let (first, end) = (after.next().first_id(), Position::at(now.plus(READ_AHEAD)).first_id());
        Ok(read!(self, db => {
            sqlx::query_as(sql)
                .bind(app).bind(first).bind(end).bind(&tenant.org).bind(limit as i64)
                .fetch_all(db).await
        })?)
    }

    /// These messages, in this order, less those that have gone or lost their content since.
    async fn feed_messages(&self, tenant: &Tenant, app: AppId, ids: &[MessageId]) -> Result<Vec<Message>, StoreError> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
        let rows: Vec<MessageRow> = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new(format!("SELECT {MESSAGE} FROM message WHERE app_id = "));
            // The bounds keep PostgreSQL out of partitions that hold none of them.
            sql.push_bind(app).push(" AND org = ").push_bind(tenant.org.clone());
            sql.push(" AND id >= ").push_bind(*first).push(" AND id <= ").push_bind(*last);
            sql.push(" AND payload IS NOT NULL AND id IN (");
            let mut list = sql.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            sql.push(")");
            sql.build_query_as().persistent(false).fetch_all(db).await
        })?;
        let messages: Result<Vec<Message>, StoreError> = rows.into_iter().map(MessageRow::message).collect();
        let mut found: HashMap<MessageId, Message> = messages?.into_iter().map(|one| (one.id, one)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }
}

impl Row {
    fn is_wanted(&self, filters: &[FeedFilter]) -> Result<bool, StoreError> {
        if filters.iter().all(FeedFilter::is_everything) {
            return Ok(true);
        }
        let channels: Vec<String> = codec::from_json_opt(self.channels.as_deref())?.unwrap_or_default();
        Ok(filters.iter().all(|filter| filter.wants(&self.event_type, &channels)))
    }
}
