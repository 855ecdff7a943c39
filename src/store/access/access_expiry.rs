//! Expires a customer's access to an application: tokens, unused links and portal sessions. Covers all sessions or
//! named ones, at once or after a grace period.
//!
//! Tokens are not stored, so the store keeps rules instead: reject tokens issued up to one wall-clock time, from
//! another wall-clock time on. `application.tokens_expired` is the rule for all tokens. The table `access_end` holds
//! rules for single sessions, and rules that do not apply yet.

use std::time::Duration;

use crate::domain::access::audit::action;
use crate::domain::access::portal::PortalOptions;
use crate::domain::{AppId, Invalid, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::catalog::applications;
use crate::store::db::codec;
use crate::store::{Store, StoreError, Tenant, Tx, on, read_vital};

/// The longest lifetime of a customer's token.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// The session id of the row for all sessions.
const ALL: &str = "";

/// A request to expire a customer's access.
#[derive(Clone, Debug, Default)]
pub struct AccessExpiry {
    /// Expires tokens issued up to this time, by the wall clock.
    pub issued: Time,
    /// The time that tokens and portal sessions stay valid. Unused links end at once.
    pub grace: Duration,
    /// Session ids, at most [`limits::SESSION_IDS`]; empty: all sessions.
    pub sessions: Vec<String>,
}

impl AccessExpiry {
    /// The end of the tokens' validity, by the wall clock.
    fn at(&self) -> Time {
        self.issued.plus(self.grace)
    }
}

impl Store {
    /// Expires access to the application. `false`: the tenant has no such application.
    ///
    /// # Errors
    /// More than [`limits::ACCESS_ENDS`] sessions were expired within a week, or the store is unavailable.
    pub async fn expire_portal_access(
        &self,
        tenant: &Tenant,
        app: AppId,
        end: &AccessExpiry,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, "").await?;
            if !applications::lock_application(&mut tx, tenant, app).await? {
                return Ok(false);
            }
            delete_obsolete(&mut tx, app, end.issued).await?;
            match (&end.sessions[..], end.grace.is_zero()) {
                ([], true) => expire_all_tokens(&mut tx, app, end.issued).await?,
                ([], false) => insert_expiry(&mut tx, app, ALL, end).await?,
                (sessions, _) => {
                    for session in sessions {
                        insert_expiry(&mut tx, app, session, end).await?;
                    }
                }
            }
            check_limit(&mut tx, app).await?;
            end_sessions(&mut tx, app, end, now).await?;
            self.audit(
                &mut tx,
                NewAuditEntry::of(&tenant.org, action::PORTAL_EXPIRED, &app.to_string()).within(app),
                now,
            )
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Whether a token of the application, issued for `session` at `issued`, is [expired](Store::expire_portal_access)
    /// at `now`; both times by the wall clock.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_token_expired(
        &self,
        app: AppId,
        session: Option<&str>,
        issued: Time,
        now: Time,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM application WHERE id = $1 AND tokens_expired >= $2
             UNION ALL SELECT 1 FROM access_end
                 WHERE app_id = $1 AND (session_id = '' OR session_id = $3) AND issued >= $2 AND ends_at <= $4
             LIMIT 1";
        let session = session.unwrap_or(ALL);
        let found: Option<i32> = read_vital!(self, db => {
            sqlx::query_scalar(SQL).bind(app).bind(issued).bind(session).bind(now).fetch_optional(db).await
        })?;
        Ok(found.is_some())
    }
}

/// Expires all tokens issued up to a time.
async fn expire_all_tokens(tx: &mut Tx, app: AppId, issued: Time) -> Result<(), StoreError> {
    const TOKENS: &str = "UPDATE application SET tokens_expired = $2 WHERE id = $1 AND tokens_expired < $2";
    const COVERED: &str = "DELETE FROM access_end WHERE app_id = $1 AND issued <= $2";
    on!(tx, db => sqlx::query(TOKENS).bind(app).bind(issued).execute(db).await.map(drop))?;
    on!(tx, db => sqlx::query(COVERED).bind(app).bind(issued).execute(db).await.map(drop))?;
    Ok(())
}

/// Deletes rows that have no effect at `now`: those of sessions whose tokens have expired by themselves. Rules for all
/// sessions are merged into `application` when they take effect.
async fn delete_obsolete(tx: &mut Tx, app: AppId, now: Time) -> Result<(), StoreError> {
    const PAST: &str = "SELECT MAX(issued) FROM access_end WHERE app_id = $1 AND session_id = '' AND ends_at <= $2";
    let past: Option<Time> = on!(tx, db => sqlx::query_scalar(PAST).bind(app).bind(now).fetch_one(db).await)?;
    if let Some(past) = past {
        expire_all_tokens(tx, app, past).await?;
    }
    const OLD: &str = "DELETE FROM access_end WHERE app_id = $1 AND session_id <> '' AND issued < $2";
    on!(tx, db => sqlx::query(OLD).bind(app).bind(now.minus(LONGEST * 2)).execute(db).await.map(drop))?;
    Ok(())
}

async fn insert_expiry(tx: &mut Tx, app: AppId, session: &str, end: &AccessExpiry) -> Result<(), StoreError> {
    const COVERED: &str =
        "DELETE FROM access_end WHERE app_id = $1 AND session_id = $2 AND issued <= $3 AND ends_at >= $4";
    const ENDS: &str = "INSERT INTO access_end (app_id, session_id, issued, ends_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING";
    for sql in [COVERED, ENDS] {
        on!(tx, db => {
            sqlx::query(sql).bind(app).bind(session).bind(end.issued).bind(end.at()).execute(db).await.map(drop)
        })?;
    }
    Ok(())
}

async fn check_limit(tx: &mut Tx, app: AppId) -> Result<(), StoreError> {
    const COUNT: &str = "SELECT count(*) FROM access_end WHERE app_id = $1";
    let count: i64 = on!(tx, db => sqlx::query_scalar(COUNT).bind(app).fetch_one(db).await)?;
    if count > limits::ACCESS_ENDS as i64 {
        let why = format!(
            "more than {} sessions of the application were expired within a week: expire all instead",
            limits::ACCESS_ENDS
        );
        return Err(StoreError::Invalid(vec![Invalid::new("sessionIds", why)]));
    }
    Ok(())
}

/// Ends unused links now, and portal sessions after the grace period.
async fn end_sessions(tx: &mut Tx, app: AppId, end: &AccessExpiry, now: Time) -> Result<(), StoreError> {
    const LINKS: &str = "SELECT hash, options FROM portal_link WHERE app_id = $1";
    const SESSIONS: &str = "SELECT hash, options FROM visit WHERE app_id = $1";
    const END: &str = "UPDATE visit SET expires_at = $2 WHERE hash = $1 AND expires_at > $2";
    // Both lists are bounded per application.
    for (list, sql) in
        [(LINKS, "DELETE FROM portal_link WHERE hash = $1"), (SESSIONS, "DELETE FROM visit WHERE hash = $1")]
    {
        let rows: Vec<(Vec<u8>, String)> = on!(tx, db => sqlx::query_as(list).bind(app).fetch_all(db).await)?;
        for (hash, options) in rows {
            let options: PortalOptions = codec::from_json(&options)?;
            if !end.sessions.is_empty() && options.session_id.is_none_or(|id| !end.sessions.contains(&id)) {
                continue;
            }
            match list == LINKS || end.grace.is_zero() {
                true => on!(tx, db => sqlx::query(sql).bind(hash).execute(db).await.map(drop))?,
                false => on!(tx, db => {
                    sqlx::query(END).bind(hash).bind(now.plus(end.grace)).execute(db).await.map(drop)
                })?,
            }
        }
    }
    Ok(())
}
