//! One-time sign-in links (exchanged for [sessions](crate::store::access::operator_sessions)) and portal links
//! (exchanged for [portal sessions](crate::store::access::portal_sessions)). Only hashes are stored.

use crate::domain::access::audit::action;
use crate::domain::access::portal::PortalLink;
use crate::domain::{OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::NewSession;
use crate::store::db::codec;
use crate::store::{Store, StoreError, on, read_vital, write_one};

/// The SHA-256 of a credential: a link's code, a session token, an API key or a JWT.
pub type TokenHash = [u8; 32];

impl Store {
    /// Stores a one-time sign-in link, valid until `expires_at`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn add_login_link(&self, hash: &TokenHash, org: &OrgId, expires_at: Time) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO login_link (hash, org, expires_at) VALUES ($1, $2, $3)";
        write_one!(self, sqlx::query(SQL).bind(&hash[..]).bind(org).bind(expires_at)).map(drop)
    }

    /// Whether a sign-in link is still valid. Does not use it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_login_link_valid(&self, hash: &TokenHash, now: Time) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM login_link WHERE hash = $1 AND expires_at > $2";
        let found: Option<i32> =
            read_vital!(self, db => sqlx::query_scalar(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        Ok(found.is_some())
    }

    /// Exchanges a sign-in link for a session. `None`: the link was used or has expired.
    ///
    /// # Errors
    /// The store is unavailable; the link was not used.
    pub async fn redeem_login_link(
        &self,
        link: &TokenHash,
        new: NewSession<'_>,
        now: Time,
    ) -> Result<Option<OrgId>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            const USE: &str = "DELETE FROM login_link WHERE hash = $1 AND expires_at > $2 RETURNING org";
            let org: Option<OrgId> =
                on!(tx, db => sqlx::query_scalar(USE).bind(&link[..]).bind(now).fetch_optional(db).await)?;
            let Some(org) = org else { return Ok(None) };
            self.insert_session(&mut tx, &org, None, new, "", now).await?;
            tx.commit().await?;
            Ok(Some(org))
        })
        .await
    }

    /// Stores a one-time portal link. Beyond [`limits::PORTAL_LINKS`] of the application, the oldest is deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn add_portal_link(&self, hash: &TokenHash, link: &PortalLink, now: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str =
                "INSERT INTO portal_link (hash, org, app_id, options, expires_at) VALUES ($1, $2, $3, $4, $5)";
            let options = codec::json(&link.options)?;
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, "").await?;
            on!(tx, db => {
                sqlx::query(SQL)
                    .bind(&hash[..]).bind(&link.org).bind(link.app_id).bind(options).bind(link.expires_at)
                    .execute(db).await.map(drop)
            })?;
            const OLDEST: &str = "DELETE FROM portal_link WHERE hash IN
                 (SELECT hash FROM portal_link WHERE app_id = $1 ORDER BY expires_at DESC, hash LIMIT 100 OFFSET $2)";
            let most = limits::PORTAL_LINKS as i64;
            on!(tx, db => sqlx::query(OLDEST).bind(link.app_id).bind(most).execute(db).await.map(drop))?;
            let visitor = link.options.session_id.as_deref().unwrap_or_default();
            let made = NewAuditEntry::of(&link.org, action::PORTAL_LINK_MADE, visitor).within(link.app_id);
            self.commit_audited(tx, made, now).await
        })
        .await
    }

    /// Deletes expired links, sessions and records of logged-out tokens.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_expired_logins(&self, now: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            for sql in [
                "DELETE FROM login_link WHERE expires_at <= $1",
                "DELETE FROM session WHERE expires_at <= $1",
                "DELETE FROM password_reset WHERE expires_at <= $1",
                "DELETE FROM portal_link WHERE expires_at <= $1",
                "DELETE FROM visit WHERE expires_at <= $1",
                "DELETE FROM revoked_token WHERE until <= $1",
            ] {
                on!(tx, db => sqlx::query(sql).bind(now).execute(db).await.map(drop))?;
            }
            tx.commit().await
        })
        .await
    }
}
