//! Portal sessions: a customer's access to one application. Only hashes of their tokens are stored.

use crate::domain::access::audit::action;
use crate::domain::access::portal::PortalOptions;
use crate::domain::{AppId, OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::db::codec;
use crate::store::{Store, StoreError, Tenant, on, read, read_vital, write_one};

/// A portal session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalSession {
    pub org: OrgId,
    pub app_id: AppId,
    /// The application's name, shown as the title of the portal.
    pub app_name: String,
    pub options: PortalOptions,
    pub expires_at: Time,
}

/// A portal link that is still valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPortalLink {
    pub app_name: String,
    pub options: PortalOptions,
}

/// An open portal session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPortalSession {
    pub hash: TokenHash,
    /// The team's own id for the session.
    pub session_id: Option<String>,
    pub since: Time,
    pub until: Time,
}

impl Store {
    /// Exchanges a portal link for a session. Beyond [`limits::PORTAL_SESSIONS`] of the application, the oldest session
    /// ends. `None`: the link was used, has expired, or its application was deleted.
    ///
    /// # Errors
    /// The store is unavailable; the link was not used.
    pub async fn redeem_portal_link(
        &self,
        link: &TokenHash,
        session: &TokenHash,
        now: Time,
    ) -> Result<Option<PortalSession>, StoreError> {
        self.retry_conflicts(|| async {
            const USE: &str =
                "DELETE FROM portal_link WHERE hash = $1 AND expires_at > $2 RETURNING org, app_id, options";
            const OPEN: &str = "INSERT INTO visit (hash, org, app_id, options, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)";
            let mut tx = self.begin().await?;
            let found: Option<(OrgId, AppId, String)> =
                on!(tx, db => sqlx::query_as(USE).bind(&link[..]).bind(now).fetch_optional(db).await)?;
            let Some((org, app_id, text)) = found else { return Ok(None) };
            const NAME: &str = "SELECT name FROM application WHERE id = $1 AND org = $2 AND deleted_at IS NULL";
            let name: Option<String> =
                on!(tx, db => sqlx::query_scalar(NAME).bind(app_id).bind(&org).fetch_optional(db).await)?;
            let Some(app_name) = name else { return Ok(None) };
            let options: PortalOptions = codec::from_json(&text)?;
            let expires_at = Time::from_micros(options.until);
            on!(tx, db => {
                sqlx::query(OPEN)
                    .bind(&session[..]).bind(&org).bind(app_id).bind(&text).bind(now).bind(expires_at)
                    .execute(db).await.map(drop)
            })?;
            const OLDEST: &str = "DELETE FROM visit WHERE hash IN
                 (SELECT hash FROM visit WHERE app_id = $1 ORDER BY created_at DESC, hash LIMIT 100 OFFSET $2)";
            let most = limits::PORTAL_SESSIONS as i64;
            on!(tx, db => sqlx::query(OLDEST).bind(app_id).bind(most).execute(db).await.map(drop))?;
            tx.commit().await?;
            Ok(Some(PortalSession { org, app_id, app_name, options, expires_at }))
        })
        .await
    }

    /// A portal link, if it is still valid. Does not use it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn valid_portal_link(&self, link: &TokenHash, now: Time) -> Result<Option<ValidPortalLink>, StoreError> {
        const SQL: &str = "SELECT p.name, l.options FROM portal_link l JOIN application p ON p.id = l.app_id
             WHERE l.hash = $1 AND l.expires_at > $2 AND p.org = l.org AND p.deleted_at IS NULL";
        let row: Option<(String, String)> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(&link[..]).bind(now).fetch_optional(db).await)?;
        let Some((app_name, options)) = row else { return Ok(None) };
        Ok(Some(ValidPortalLink { app_name, options: codec::from_json(&options)? }))
    }

    /// The session of a token, unless it has ended or its application was deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn portal_session(&self, hash: &TokenHash, now: Time) -> Result<Option<PortalSession>, StoreError> {
        const SQL: &str =
            "SELECT v.org, v.app_id, p.name, v.options, v.expires_at FROM visit v JOIN application p ON p.id = v.app_id
             WHERE v.hash = $1 AND v.expires_at > $2 AND p.org = v.org AND p.deleted_at IS NULL";
        type Row = (OrgId, AppId, String, String, Time);
        let row: Option<Row> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        let Some((org, app_id, app_name, options, expires_at)) = row else { return Ok(None) };
        Ok(Some(PortalSession { org, app_id, app_name, options: codec::from_json(&options)?, expires_at }))
    }

    /// Up to `limit` open sessions of the application, newest first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn open_portal_sessions(
        &self,
        tenant: &Tenant,
        app: AppId,
        limit: i64,
        now: Time,
    ) -> Result<Vec<OpenPortalSession>, StoreError> {
        const SQL: &str = "SELECT hash, options, created_at, expires_at FROM visit
             WHERE app_id = $1 AND org = $2 AND expires_at > $3 ORDER BY created_at DESC, hash LIMIT $4";
        type Row = (Vec<u8>, String, Time, Time);
        let Some(org) = tenant.org_of(app) else { return Ok(Vec::new()) };
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(SQL).bind(app).bind(org).bind(now).bind(limit).fetch_all(db).await
        })?;
        let session = |(hash, options, since, until): Row| {
            let hash = hash.try_into().map_err(|_| StoreError::Damaged("the hash of a portal session".to_owned()))?;
            let options: PortalOptions = codec::from_json(&options)?;
            Ok(OpenPortalSession { hash, session_id: options.session_id, since, until })
        };
        rows.into_iter().map(session).collect()
    }

    /// Ends one of the application's sessions. `false`: it had ended.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn revoke_portal_session(
        &self,
        tenant: &Tenant,
        app: AppId,
        hash: &TokenHash,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "DELETE FROM visit WHERE hash = $1 AND app_id = $2 AND org = $3 RETURNING options";
            let Some(org) = tenant.org_of(app) else { return Ok(false) };
            let mut tx = self.begin().await?;
            let found: Option<String> = on!(tx, db => {
                sqlx::query_scalar(SQL).bind(&hash[..]).bind(app).bind(org).fetch_optional(db).await
            })?;
            let Some(options) = found else { return Ok(false) };
            let options: PortalOptions = codec::from_json(&options)?;
            let session = options.session_id.unwrap_or_default();
            self.audit(&mut tx, NewAuditEntry::of(org, action::PORTAL_SESSION_ENDED, &session).within(app), now)
                .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn end_portal_session(&self, hash: &TokenHash) -> Result<(), StoreError> {
        write_one!(self, sqlx::query("DELETE FROM visit WHERE hash = $1").bind(&hash[..])).map(drop)
    }
}
