//! Reading the feed: a page of messages after a position.

use std::collections::HashMap;

use sqlx::QueryBuilder;

use crate::domain::deliveries::message::Message;
use crate::domain::feed::{FeedFilter, MAX_READ_LEAD, Position};
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::codec::{self, MESSAGE, MessageRow};
use crate::store::query::messages::{in_order_of_application, within_application};
use crate::store::{Store, StoreError, Tenant, read};

/// Maximum messages scanned for a page.
pub const MAX_SCANNED: usize = 5_000;
/// Maximum messages counted as a reader's lag.
pub const MAX_LAG: i64 = 1_000;
/// Rows per statement, after the first one.
const CHUNK: usize = 1_000;

/// A request for a page of a feed.
#[derive(Clone, Copy, Debug)]
pub struct FeedRequest<'f> {
    /// Messages after this position.
    pub after: Position,
    /// Messages that match all of these.
    pub filters: &'f [FeedFilter],
    /// `true`: delivered to all endpoints; `false`: a delivery is pending or dead.
    pub delivered: Option<bool>,
    /// Maximum messages of the page.
    pub limit: usize,
    pub now: Time,
}

/// A page of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// In feed order, without messages whose content is deleted.
    pub messages: Vec<Message>,
    /// The last scanned position, to continue from.
    pub position: Position,
    /// The end of the feed was reached.
    pub done: bool,
}

from_row! {
    /// The columns that a filter needs.
    struct Row {
        id: MessageId,
        event_type: String,
        channels: Option<String>,
        /// Payload size in bytes; `None`: the content is deleted.
        size: Option<i64>,
        /// 1: no delivery is pending or dead; always 1 if the request does not filter by it.
        delivered: i32,
    }
}

impl Store {
    /// A page of the feed of the tenant's application. It scans at most [`MAX_SCANNED`] messages and contains at most
    /// [`PAGE_BYTES`] of payloads, unless the first one is larger.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn feed(&self, tenant: &Tenant, app: AppId, request: FeedRequest<'_>) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage { messages: Vec::new(), position: request.after, done: true };
        if !tenant.sees(app) {
            return Ok(page);
        }
        let (mut chosen, mut bytes, mut looked) = (Vec::new(), 0, 0);
        let mut chunk = request.limit + 1;
        'page: loop {
            let rows = self.feed_rows(tenant, app, page.position, &request, chunk).await?;
            page.done = rows.len() < chunk;
            for row in rows {
                if chosen.len() == request.limit || looked == MAX_SCANNED {
                    page.done = false;
                    break 'page;
                }
                if let Some(size) = row.size
                    && request.delivered.is_none_or(|wanted| wanted == (row.delivered == 1))
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

    /// The number of messages after a position, up to [`MAX_LAG`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn feed_lag(
        &self,
        tenant: &Tenant,
        app: AppId,
        position: Position,
        now: Time,
    ) -> Result<i64, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(0) };
        let within = within_application(self.kind(), "$1", [">= $2", "< $3"]);
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT count(*) FROM (SELECT 1 FROM message WHERE {within}
                 AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $4 AND deleted_at IS NULL) LIMIT $5) AS behind"
        ));
        let (first, end) = (position.next().first_id(), Position::at(now.plus(MAX_READ_LEAD)).first_id());
        Ok(read!(self, db => {
            sqlx::query_scalar(sql)
                .bind(app).bind(first).bind(end).bind(org).bind(MAX_LAG)
                .fetch_one(db).await
        })?)
    }

    /// The first `limit` messages after `after`, without payloads.
    async fn feed_rows(
        &self,
        tenant: &Tenant,
        app: AppId,
        after: Position,
        request: &FeedRequest<'_>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        // A message has rows in these tables while a delivery is pending or dead. Deliveries to deleted endpoints do
        // not count.
        const DELIVERED: &str = "CASE WHEN EXISTS (SELECT 1 FROM due d WHERE d.message_id = message.id)
                 OR EXISTS (SELECT 1 FROM dead d WHERE d.message_id = message.id AND d.reason <> 'endpoint-deleted')
                 OR EXISTS (SELECT 1 FROM fan_out d WHERE d.app_id = message.app_id AND d.message_id = message.id)
             THEN 0 ELSE 1 END";
        let delivered = request.delivered.map_or("1", |_| DELIVERED);
        let within = within_application(self.kind(), "$1", [">= $2", "< $3"]);
        let order = in_order_of_application(self.kind(), "ASC");
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, event_type, channels, CAST(octet_length(payload) AS BIGINT) AS size, {delivered} AS delivered
             FROM message WHERE {within}
                 AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $4 AND deleted_at IS NULL)
             ORDER BY {order} LIMIT $5"
        ));
        let (first, end) = (after.next().first_id(), Position::at(request.now.plus(MAX_READ_LEAD)).first_id());
        Ok(read!(self, db => {
            sqlx::query_as(sql)
                .bind(app).bind(first).bind(end).bind(&tenant.org).bind(limit as i64)
                .fetch_all(db).await
        })?)
    }

    /// Loads these messages in this order, without those deleted or stripped of their content since.
    async fn feed_messages(&self, tenant: &Tenant, app: AppId, ids: &[MessageId]) -> Result<Vec<Message>, StoreError> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
        let rows: Vec<MessageRow> = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new(format!("SELECT {MESSAGE} FROM message WHERE app_id = "));
            // The bounds let PostgreSQL skip partitions.
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
