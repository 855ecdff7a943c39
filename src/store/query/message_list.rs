//! The filtered list of messages of an organization or an application, newest first, with counts of their deliveries.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus};
use crate::domain::{AppId, MessageId, OrgId, Time, TimeRange};
use crate::store::db::codec::from_row;
use crate::store::db::statement::{SqlValue, Statement, query_of};
use crate::store::query::endpoint_messages::DeliveryStatusCounts;
use crate::store::query::list_scan::{
    MESSAGES_SCANNED, SIZED_MESSAGES, end_of_ids, push_contents, push_tenant, push_times,
};
use crate::store::query::messages::id_range;
use crate::store::query::page::SCAN;
use crate::store::{Order, PageRequest, Scanned, Store, StoreError, Tenant, read};

/// Selects messages; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSearch {
    pub app: Option<AppId>,
    pub event_types: Vec<String>,
    pub accepted: TimeRange,
    /// Only these messages.
    pub messages: Option<Vec<MessageId>>,
    /// Substring of the payload, compared by bytes.
    pub text: Option<String>,
}

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMessage {
    pub id: MessageId,
    pub app_id: AppId,
    pub app_name: String,
    pub event_type: String,
    pub event_id: Option<String>,
    pub accepted_at: Time,
    /// Payload size in bytes; `None`: deleted.
    pub size: Option<i64>,
    pub standings: DeliveryStatusCounts,
}

from_row! {
    struct Row {
        id: MessageId,
        app_id: AppId,
        app_name: String,
        event_type: String,
        event_id: Option<String>,
        accepted_at: Time,
        size: Option<i64>,
    }
}

impl MessageSearch {
    /// `select` from the messages `m` and `more` tables, between `from` and `oldest`, of the filter's application or of
    /// `org`.
    fn statement(&self, org: &OrgId, select: &str, more: &str, from: Uuid, oldest: MessageId) -> Statement {
        let mut sql = Statement::new(select);
        sql.push(more).push(" WHERE m.id < ").bind(from).push(" AND m.id >= ").bind(oldest);
        match self.app {
            Some(app) => sql.push(" AND m.app_id = ").bind(app),
            None => sql.push(" AND m.org = ").bind(SqlValue::Text(org.as_str().to_owned())),
        };
        if let Some(ids) = &self.messages {
            sql.push(" AND m.id IN ").list(ids.iter().map(|id| SqlValue::from(*id)));
        }
        sql
    }
}

impl Store {
    /// Up to `limit` of the tenant's messages that match `search`, after the given one. A page scans a bounded number
    /// of rows and may end early, see [`Scanned`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn list_messages(
        &self,
        tenant: &Tenant,
        search: &MessageSearch,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Scanned<ListedMessage, MessageId>, StoreError> {
        let mut search = search.clone();
        if search.app.is_some_and(|app| !tenant.sees(app)) || search.messages.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Scanned::nothing());
        }
        let _scan = self.scan(tenant).await?;
        search.app = search.app.or(tenant.only);
        let (oldest, top) = id_range(search.accepted);
        let from = after.map_or(top, |after| after.min(top)).0;
        let stopped = self.end_of_search(&tenant.org, &search, from, oldest).await?;
        const SELECT: &str = "SELECT m.id, m.app_id, p.name AS app_name, m.event_type, m.event_id, m.accepted_at,
             CAST(length(m.payload) AS BIGINT) AS size FROM message m";
        let mut sql =
            search.statement(&tenant.org, SELECT, " CROSS JOIN application p", from, stopped.unwrap_or(oldest));
        sql.push(" AND p.id = m.app_id");
        push_tenant(&mut sql, tenant, search.app);
        push_times(&mut sql, search.accepted);
        push_contents(self, &mut sql, &search.event_types, search.text.as_deref());
        sql.push(&format!(" ORDER BY m.id DESC LIMIT {}", limit + 1));
        let rows: Vec<Row> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
        let page = PageRequest::<MessageId>::first(limit, Order::Descending).page(rows);
        let mut standings = self.standings_of(&page.data.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
        let listed = |row: Row| ListedMessage {
            id: row.id,
            app_id: row.app_id,
            app_name: row.app_name,
            event_type: row.event_type,
            event_id: row.event_id,
            accepted_at: row.accepted_at,
            size: row.size,
            standings: standings.remove(&row.id).unwrap_or_default(),
        };
        Ok(Scanned::new(page.map(listed), stopped))
    }

    /// The last message that a page scans; `None`: the list ends before.
    async fn end_of_search(
        &self,
        org: &OrgId,
        search: &MessageSearch,
        from: Uuid,
        oldest: MessageId,
    ) -> Result<Option<MessageId>, StoreError> {
        // Without other filters no row is skipped.
        let all = MessageSearch { app: search.app, ..MessageSearch::default() };
        if search.messages.is_some() || search.app.is_some() && *search == all {
            return Ok(None);
        }
        let payloads = search.text.is_some();
        let mut sql = search.statement(
            org,
            if payloads { SIZED_MESSAGES } else { "SELECT m.id FROM message m" },
            "",
            from,
            oldest,
        );
        sql.push(" ORDER BY m.id DESC");
        end_of_ids(&mut sql, if search.app.is_some() { MESSAGES_SCANNED } else { SCAN }, payloads, "DESC");
        Ok(read!(self, db => query_of!(query_scalar, &sql).fetch_optional(db).await)?)
    }

    /// Counts of deliveries by status, for each message.
    async fn standings_of(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, DeliveryStatusCounts>, StoreError> {
        let mut all: HashMap<MessageId, DeliveryStatusCounts> = HashMap::new();
        if ids.is_empty() {
            return Ok(all);
        }
        let mut sql = Statement::new(
            "SELECT message_id, state, CASE WHEN reason = 'canceled' THEN 1 ELSE 0 END AS canceled, count(*)
             FROM delivery WHERE message_id IN ",
        );
        sql.list(ids.iter().map(|id| SqlValue::from(*id))).push(" GROUP BY 1, 2, 3");
        let rows: Vec<(MessageId, i16, i32, i64)> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
        for (id, state, canceled, count) in rows {
            let reason = (canceled == 1).then_some(DeadReason::Canceled);
            all.entry(id).or_default().add(DeliveryStatus::of(DeliveryState::from_code(state), reason), count);
        }
        Ok(all)
    }
}
