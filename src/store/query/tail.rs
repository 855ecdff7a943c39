//! The live tail: an organization's newest attempts, and those recorded since.
//!
//! [`TailFilter`] is evaluated here, row by row, for the first page and for updates.
//!
//! An attempt gets its id when it starts and is stored when it ends, so ids do not arrive in order. A follower reads a
//! recent time span again and drops attempts it has seen. Most attempts are short; a short span covers them, and a
//! second query finds long ones.

use std::time::Duration;

use crate::domain::{AppId, AttemptId, EndpointId, Time};
use crate::store::query::attempts::{LINES, ListedAttempt};
use crate::store::query::page::SCAN;
use crate::store::{Store, StoreError, Tenant, read};

/// Attempts per statement of a filtered page.
const CHUNK: usize = 500;

/// Selects attempts; `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailFilter {
    pub app: Option<AppId>,
    pub endpoint: Option<EndpointId>,
    pub event_type: Option<String>,
    /// Only failed attempts.
    pub failed: bool,
}

impl TailFilter {
    /// Whether an attempt matches.
    pub fn takes(&self, line: &ListedAttempt) -> bool {
        self.app.is_none_or(|app| line.app_id == app)
            && self.endpoint.is_none_or(|endpoint| line.endpoint_id == endpoint)
            && self.event_type.as_deref().is_none_or(|name| line.event_type.as_deref() == Some(name))
            && (!self.failed || line.failure.is_some())
    }
}

impl Store {
    /// The tenant's newest matching attempts, newest first, among its newest [`SCAN`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn tail(
        &self,
        tenant: &Tenant,
        filter: &TailFilter,
        limit: usize,
    ) -> Result<Vec<ListedAttempt>, StoreError> {
        let sql = format!(
            "{LINES} WHERE a.org = $1 AND p.org = $1 AND NOT p.operational AND ($2 IS NULL OR a.app_id = $2) AND a.id < $3
             ORDER BY a.id DESC LIMIT $4"
        );
        let _scan = self.scan(tenant).await?;
        let size = if *filter == TailFilter::default() { limit } else { CHUNK };
        let (mut before, mut looked, mut found) = (AttemptId(uuid::Uuid::max()), 0, Vec::new());
        loop {
            let lines: Vec<ListedAttempt> = read!(self, db => {
                sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                    .bind(&tenant.org).bind(tenant.only).bind(before).bind(size as i64)
                    .fetch_all(db).await
            })?;
            looked += lines.len();
            let last = lines.last().map(|line| line.id).filter(|_| lines.len() == size);
            found.extend(lines.into_iter().filter(|line| filter.takes(line)));
            match last {
                Some(last) if found.len() < limit && looked < SCAN => before = last,
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Up to `limit` of the tenant's attempts that started at `since` or later and took at least `took`, newest first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn attempts_since(
        &self,
        tenant: &Tenant,
        since: Time,
        took: Duration,
        limit: i64,
    ) -> Result<Vec<ListedAttempt>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{LINES} WHERE a.org = $1 AND p.org = $1 AND NOT p.operational AND ($2 IS NULL OR a.app_id = $2) AND a.id >= $3
                 AND a.duration_us >= $4 ORDER BY a.id DESC LIMIT $5"
        ));
        let (first, took) = (AttemptId::floor(since), i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        Ok(read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(tenant.only).bind(first).bind(took).bind(limit)
                .fetch_all(db).await
        })?)
    }
}
