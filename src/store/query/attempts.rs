//! Reading attempts: of a message, of an endpoint, or the newest of an organization.

use std::time::Duration;

use sqlx::QueryBuilder;

use crate::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::query::topic_filter::TopicFilter;
use crate::store::{Page, PageRequest, Store, StoreError, Tenant, read};

/// Selects attempts; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    pub message: Option<MessageId>,
    pub endpoint: Option<EndpointId>,
    pub topics: TopicFilter,
    /// `true`: delivered; `false`: failed.
    pub delivered: Option<bool>,
    /// 100, 200, … 500: responses of that class; 0: no response.
    pub status_class: Option<i32>,
    pub before: Option<Time>,
    pub after: Option<Time>,
}

impl AttemptFilter {
    /// Whether the query must skip rows: only message and endpoint have an index.
    fn selective(&self) -> bool {
        let all = AttemptFilter { message: self.message, endpoint: self.endpoint, ..AttemptFilter::default() };
        *self != all
    }
}

from_row! {
    struct Row {
        id: AttemptId,
        message_id: MessageId,
        endpoint_id: EndpointId,
        app_id: AppId,
        number: i32,
        trigger: i16,
        at: Time,
        url: String,
        request_headers: String,
        failure: Option<String>,
        detail: String,
        status: Option<i32>,
        duration_us: i64,
        response_headers: String,
        response_body: Vec<u8>,
        next_at: Option<Time>,
    }
}

impl From<Row> for Attempt {
    fn from(row: Row) -> Attempt {
        let outcome = Outcome {
            // An unknown word was written by a newer release and also means a failure.
            failure: row.failure.map(|word| Failure::from_word(&word).unwrap_or(Failure::Protocol)),
            detail: row.detail,
            status: row.status.and_then(|status| u16::try_from(status).ok()),
            duration: Duration::from_micros(row.duration_us.max(0) as u64),
            response_headers: codec::parse_header_lines(&row.response_headers),
            response_body: row.response_body.into(),
            retry_after: None,
        };
        Attempt {
            id: row.id,
            app_id: row.app_id,
            message_id: row.message_id,
            endpoint_id: row.endpoint_id,
            number: row.number,
            trigger: Trigger::from_code(row.trigger),
            at: row.at,
            url: row.url,
            request_headers: codec::parse_header_lines(&row.request_headers),
            outcome,
            next_at: row.next_at,
        }
    }
}

/// Selects [`ListedAttempt`]s.
pub(in crate::store) const LINES: &str =
    "SELECT a.id, a.message_id, a.endpoint_id, a.app_id, a.number, a.at, a.url, a.failure, a.detail, a.status,
         a.duration_us, a.next_at, m.event_type, p.name AS app_name
     FROM attempt a JOIN application p ON p.id = a.app_id LEFT JOIN message m ON m.id = a.message_id";

from_row! {
    /// An attempt in a dashboard list.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListedAttempt {
        pub id: AttemptId,
        pub message_id: MessageId,
        pub endpoint_id: EndpointId,
        pub app_id: AppId,
        pub number: i32,
        pub at: Time,
        pub url: String,
        pub failure: Option<String>,
        pub detail: String,
        pub status: Option<i32>,
        pub duration_us: i64,
        pub next_at: Option<Time>,
        /// `None`: the message is already deleted.
        pub event_type: Option<String>,
        pub app_name: String,
    }
}

impl Store {
    /// Attempts of the tenant's application, in the order of the page.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn attempts(
        &self,
        tenant: &Tenant,
        app: AppId,
        filter: &AttemptFilter,
        page: &PageRequest<AttemptId>,
    ) -> Result<Page<Attempt>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Page { data: Vec::new(), more: false });
        }
        let _scan = if filter.selective() { Some(self.scan(tenant).await?) } else { None };
        let (compare, direction) = page.sql();
        let rows: Vec<Row> = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new("SELECT * FROM attempt WHERE app_id = ");
            sql.push_bind(app).push(format!(" AND id {compare} ")).push_bind(page.bound());
            sql.push(" AND EXISTS (SELECT 1 FROM application WHERE id = attempt.app_id AND deleted_at IS NULL AND org = ");
            sql.push_bind(tenant.org.clone()).push(")");
            if let Some(message) = filter.message {
                sql.push(" AND message_id = ").push_bind(message);
            }
            if let Some(endpoint) = filter.endpoint {
                sql.push(" AND endpoint_id = ").push_bind(endpoint);
            }
            if filter.message.is_none() && filter.endpoint.is_none() {
                // Uses the organization's index.
                sql.push(" AND org = ").push_bind(tenant.org.clone());
            }
            match filter.delivered {
                Some(true) => drop(sql.push(" AND failure IS NULL")),
                Some(false) => drop(sql.push(" AND failure IS NOT NULL")),
                None => {}
            }
            match filter.status_class {
                Some(0) => drop(sql.push(" AND status IS NULL")),
                Some(class) => {
                    sql.push(" AND status >= ").push_bind(class).push(" AND status < ").push_bind(class + 100);
                }
                None => {}
            }
            if let Some(before) = filter.before {
                sql.push(" AND at <= ").push_bind(before);
            }
            if let Some(after) = filter.after {
                sql.push(" AND at >= ").push_bind(after);
            }
            if !filter.topics.is_any() {
                sql.push(" AND EXISTS (SELECT 1 FROM message WHERE message.id = attempt.message_id");
                filter.topics.push(self, &mut sql);
                sql.push(")");
            }
            sql.push(format!(" ORDER BY id {direction} LIMIT ")).push_bind(page.rows());
            sql.build_query_as().fetch_all(db).await
        })?;
        Ok(page.page(rows.into_iter().map(Attempt::from).collect()))
    }

    /// One attempt of a message of the tenant's application.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn attempt(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        id: AttemptId,
    ) -> Result<Option<Attempt>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        const SQL: &str = "SELECT * FROM attempt WHERE id = $1 AND message_id = $2 AND app_id = $3
             AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL)";
        let row: Option<Row> = read!(self, db => {
            sqlx::query_as(SQL).bind(id).bind(message).bind(app).bind(org).fetch_optional(db).await
        })?;
        Ok(row.map(Attempt::from))
    }

    /// The newest attempts to one endpoint; only failed ones if `failed`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn newest_attempts_to(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        failed: bool,
        limit: i64,
    ) -> Result<Vec<ListedAttempt>, StoreError> {
        let only = if failed { " AND a.failure IS NOT NULL" } else { "" };
        let sql = format!(
            "{LINES} WHERE a.endpoint_id = $1{only} AND p.id = $2 AND p.org = $3 AND p.deleted_at IS NULL
             ORDER BY a.id DESC LIMIT $4"
        );
        let Some(org) = tenant.org_of(app) else { return Ok(Vec::new()) };
        let _scan = self.scan(tenant).await?;
        Ok(read!(self, db => {
            sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                .bind(endpoint).bind(app).bind(org).bind(limit)
                .fetch_all(db).await
        })?)
    }

    /// The newest attempts of all the tenant's applications; only failed ones if `failed`. Excludes operational
    /// endpoints, like the lists of deliveries.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn newest_attempts(
        &self,
        tenant: &Tenant,
        failed: bool,
        before: Option<AttemptId>,
        limit: i64,
    ) -> Result<Vec<ListedAttempt>, StoreError> {
        let only = if failed { " AND a.failure IS NOT NULL" } else { "" };
        let sql = sqlx::AssertSqlSafe(format!(
            "{LINES} WHERE a.org = $1 AND p.org = $1 AND NOT p.operational AND a.id < $2{only} ORDER BY a.id DESC LIMIT $3"
        ));
        let before = before.map_or(uuid::Uuid::max(), |id| id.0);
        Ok(read!(self, db => sqlx::query_as(sql).bind(&tenant.org).bind(before).bind(limit).fetch_all(db).await)?)
    }
}
