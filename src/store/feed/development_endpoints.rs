//! Development endpoints and the attempts that their listeners report. They have their own tables, so no list, count or
//! delivery includes them.
//!
//! * [`Store::report_local_attempt`]: a listener's report. [`Store::development_endpoints`], [`Store::local_attempts`]:
//!   the reports for the pages.
//! * [`Store::delete_unseen_listeners`]: a step of the maintenance.

use std::time::Duration;

use crate::domain::catalog::development::{DevelopmentEndpoint, LIFETIME, LocalAttempt, LocalResponse};
use crate::domain::{AppId, AttemptId, MessageId, Time, limits};
use crate::store::catalog::applications;
use crate::store::db::codec::from_row;
use crate::store::{Store, StoreError, Tenant, Tx, on, read};

/// Maximum development endpoints deleted in one step.
const STEP: i64 = 20;

/// The result of a listener's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportResult {
    Reported(DevelopmentEndpoint),
    /// The tenant has no such application.
    NotFound,
    /// The application has no such message.
    NoMessage,
}

from_row! {
    struct DevelopmentEndpointRow {
        app_id: AppId,
        name: String,
        url: String,
        created_at: Time,
        seen_at: Time,
    }
}

const COLUMNS: &str = DevelopmentEndpointRow::COLUMNS;

impl DevelopmentEndpointRow {
    fn endpoint(self) -> DevelopmentEndpoint {
        let DevelopmentEndpointRow { app_id, name, url, created_at, seen_at } = self;
        DevelopmentEndpoint { app_id, name, url, created_at, seen_at }
    }
}

from_row! {
    struct ReportedAttemptRow {
        id: AttemptId,
        message_id: MessageId,
        event_type: String,
        status: Option<i32>,
        duration_us: i64,
        response_body: String,
        error: String,
    }
}

impl ReportedAttemptRow {
    fn attempt(self) -> LocalAttempt {
        LocalAttempt {
            id: self.id,
            message_id: self.message_id,
            event_type: self.event_type,
            response: LocalResponse {
                status: self.status.and_then(|status| u16::try_from(status).ok()),
                duration: Duration::from_micros(self.duration_us.max(0) as u64),
                body: self.response_body,
                error: self.error,
            },
        }
    }
}

impl Store {
    /// Registers or renews the development endpoint of a listener, and adds an attempt. An application has at most
    /// [`limits::DEVELOPMENT_ENDPOINTS`]; a new one beyond that replaces the one with the oldest report. Attempts
    /// beyond the newest [`limits::LOCAL_ATTEMPTS`], and those before `kept_since`, are deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn report_local_attempt(
        &self,
        tenant: &Tenant,
        (app, listener, url): (AppId, &str, &str),
        attempt: Option<&(MessageId, LocalResponse)>,
        kept_since: Time,
        now: Time,
    ) -> Result<ReportResult, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, listener).await?;
            // Locked, so concurrent reports count each other.
            if !applications::lock_application(&mut tx, tenant, app).await? {
                return Ok(ReportResult::NotFound);
            }
            let endpoint = renew(&mut tx, app, listener, url, now).await?;
            if let Some((message, response)) = attempt
                && !insert_attempt(&mut tx, (app, listener), *message, response, now).await?
            {
                return Ok(ReportResult::NoMessage);
            }
            trim(&mut tx, (app, listener), kept_since).await?;
            tx.commit().await?;
            Ok(ReportResult::Reported(endpoint))
        })
        .await
    }

    /// The development endpoints of the tenant's application that have not expired, the last seen first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn development_endpoints(
        &self,
        tenant: &Tenant,
        app: AppId,
        now: Time,
    ) -> Result<Vec<DevelopmentEndpoint>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Vec::new()) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM development_endpoint WHERE app_id = $1 AND seen_at > $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $3 AND deleted_at IS NULL)
             ORDER BY seen_at DESC, name LIMIT $4"
        ));
        let most = limits::DEVELOPMENT_ENDPOINTS as i64;
        let rows: Vec<DevelopmentEndpointRow> = read!(self, db => {
            sqlx::query_as(sql).bind(app).bind(now.minus(LIFETIME)).bind(org).bind(most).fetch_all(db).await
        })?;
        Ok(rows.into_iter().map(DevelopmentEndpointRow::endpoint).collect())
    }

    /// The reported attempts of a listener, newest first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn local_attempts(
        &self,
        tenant: &Tenant,
        app: AppId,
        listener: &str,
    ) -> Result<Vec<LocalAttempt>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Vec::new()) };
        const SQL: &str = "SELECT id, message_id, event_type, status, duration_us, response_body, error
             FROM local_attempt WHERE app_id = $1 AND listener = $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $3 AND deleted_at IS NULL)
             ORDER BY id DESC LIMIT $4";
        let most = limits::LOCAL_ATTEMPTS as i64;
        let rows: Vec<ReportedAttemptRow> = read!(self, db => {
            sqlx::query_as(SQL).bind(app).bind(listener).bind(org).bind(most).fetch_all(db).await
        })?;
        Ok(rows.into_iter().map(ReportedAttemptRow::attempt).collect())
    }

    /// Deletes one step of development endpoints that have expired. `true` if there may be more.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_unseen_listeners(&self, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const EXPIRED: &str = "SELECT app_id, name FROM development_endpoint WHERE seen_at <= $1
                 ORDER BY seen_at LIMIT $2";
            let mut tx = self.begin().await?;
            let limit = now.minus(LIFETIME);
            let expired: Vec<(AppId, String)> =
                on!(tx, db => sqlx::query_as(EXPIRED).bind(limit).bind(STEP).fetch_all(db).await)?;
            for (app, listener) in &expired {
                delete(&mut tx, *app, listener, limit).await?;
            }
            tx.commit().await?;
            Ok(expired.len() as i64 == STEP)
        })
        .await
    }
}

/// Registers or renews a development endpoint, and makes room for it.
async fn renew(
    tx: &mut Tx,
    app: AppId,
    listener: &str,
    url: &str,
    now: Time,
) -> Result<DevelopmentEndpoint, StoreError> {
    let renew = sqlx::AssertSqlSafe(format!(
        "INSERT INTO development_endpoint ({COLUMNS}) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (app_id, name) DO UPDATE SET url = excluded.url, seen_at = excluded.seen_at RETURNING {COLUMNS}"
    ));
    let row: DevelopmentEndpointRow = on!(tx, db => {
        sqlx::query_as(renew).bind(app).bind(listener).bind(url).bind(now).fetch_one(db).await
    })?;
    const SURPLUS: &str = "SELECT name FROM development_endpoint WHERE app_id = $1 AND name <> $2
         ORDER BY seen_at DESC, name LIMIT $3 OFFSET $4";
    let others = limits::DEVELOPMENT_ENDPOINTS as i64 - 1;
    let surplus: Vec<String> = on!(tx, db => {
        sqlx::query_scalar(SURPLUS).bind(app).bind(listener).bind(STEP).bind(others).fetch_all(db).await
    })?;
    for other in &surplus {
        delete(tx, app, other, now).await?;
    }
    Ok(row.endpoint())
}

/// Adds an attempt. `false`: the application has no such message.
async fn insert_attempt(
    tx: &mut Tx,
    (app, listener): (AppId, &str),
    message: MessageId,
    response: &LocalResponse,
    now: Time,
) -> Result<bool, StoreError> {
    const SQL: &str = "INSERT INTO local_attempt
             (app_id, listener, id, message_id, event_type, status, duration_us, response_body, error)
         SELECT app_id, $3, $4, id, event_type, CAST($5 AS INTEGER), CAST($6 AS BIGINT), CAST($7 AS TEXT),
             CAST($8 AS TEXT)
         FROM message WHERE id = $1 AND app_id = $2";
    let duration = i64::try_from(response.duration.as_micros()).unwrap_or(i64::MAX);
    // PostgreSQL's text cannot store NUL.
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let added = on!(tx, db => {
        sqlx::query(SQL)
            .bind(message).bind(app).bind(listener).bind(AttemptId::new(now)).bind(response.status.map(i32::from))
            .bind(duration).bind(text(&response.body)).bind(text(&response.error))
            .execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(added > 0)
}

/// Deletes attempts of a listener that are too many or too old.
async fn trim(tx: &mut Tx, (app, listener): (AppId, &str), kept_since: Time) -> Result<(), StoreError> {
    const SURPLUS: &str = "SELECT id FROM local_attempt WHERE app_id = $1 AND listener = $2
         ORDER BY id DESC LIMIT 1 OFFSET $3";
    const TRIM: &str = "DELETE FROM local_attempt WHERE app_id = $1 AND listener = $2 AND id <= $3";
    let most = limits::LOCAL_ATTEMPTS as i64;
    let surplus: Option<AttemptId> = on!(tx, db => {
        sqlx::query_scalar(SURPLUS).bind(app).bind(listener).bind(most).fetch_optional(db).await
    })?;
    let floor = AttemptId::floor(kept_since).max(surplus.unwrap_or(AttemptId::floor(Time::ZERO)));
    on!(tx, db => sqlx::query(TRIM).bind(app).bind(listener).bind(floor).execute(db).await.map(drop))?;
    Ok(())
}

/// Deletes a development endpoint without a report since `until`, with its attempts.
async fn delete(tx: &mut Tx, app: AppId, listener: &str, until: Time) -> Result<(), StoreError> {
    const ENDPOINT: &str = "DELETE FROM development_endpoint WHERE app_id = $1 AND name = $2 AND seen_at <= $3";
    const ATTEMPTS: &str = "DELETE FROM local_attempt WHERE app_id = $1 AND listener = $2";
    let deleted = on!(tx, db => {
        sqlx::query(ENDPOINT).bind(app).bind(listener).bind(until).execute(db).await.map(|done| done.rows_affected())
    })?;
    if deleted > 0 {
        on!(tx, db => sqlx::query(ATTEMPTS).bind(app).bind(listener).execute(db).await.map(drop))?;
    }
    Ok(())
}

/// Deletes those of an application that is being deleted.
pub(in crate::store) async fn delete_of_application(tx: &mut Tx, app: AppId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM local_attempt WHERE app_id = $1", "DELETE FROM development_endpoint WHERE app_id = $1"] {
        on!(tx, db => sqlx::query(sql).bind(app).execute(db).await.map(drop))?;
    }
    Ok(())
}
