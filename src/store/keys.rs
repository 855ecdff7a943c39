//! What lets people in: one-time login links and the sessions they are exchanged for, and links into the portal (what those are
//! exchanged for: [`super::visits`]). Only hashes are stored.

use super::codec;
use super::{Store, StoreError, on, read};
use crate::domain::portal::PortalLink;
use crate::domain::{OrgId, Time};

/// The SHA-256 of what is shown: a link's or a session's token, an API key, a JWT.
pub type TokenHash = [u8; 32];

impl Store {
    /// Remembers a login link that is good once, until `expires_at`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn add_login_link(&self, hash: &TokenHash, org: &OrgId, expires_at: Time) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO login_link (hash, org, expires_at) VALUES ($1, $2, $3)";
        let mut tx = self.begin().await?;
        on!(tx, db => sqlx::query(SQL).bind(&hash[..]).bind(org).bind(expires_at).execute(db).await.map(drop))?;
        tx.commit().await
    }

    /// Whether a login link would still be good; does not use it up.
    ///
    /// # Errors
    /// The store is away.
    pub async fn login_link_good(&self, hash: &TokenHash, now: Time) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM login_link WHERE hash = $1 AND expires_at > $2";
        let found: Option<i32> =
            read!(self, db => sqlx::query_scalar(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        Ok(found.is_some())
    }

    /// Uses up a login link and opens a session in its place. `None`: it was used before, or is too old.
    ///
    /// # Errors
    /// The store is away; then the link was not used up.
    pub async fn redeem_login_link(
        &self,
        link: &TokenHash,
        session: &TokenHash,
        now: Time,
        until: Time,
    ) -> Result<Option<OrgId>, StoreError> {
        let mut tx = self.begin().await?;
        const USE: &str = "DELETE FROM login_link WHERE hash = $1 AND expires_at > $2 RETURNING org";
        let org: Option<OrgId> =
            on!(tx, db => sqlx::query_scalar(USE).bind(&link[..]).bind(now).fetch_optional(db).await)?;
        let Some(org) = org else { return Ok(None) };
        const OPEN: &str = "INSERT INTO session (hash, org, created_at, expires_at) VALUES ($1, $2, $3, $4)";
        on!(tx, db => {
            sqlx::query(OPEN).bind(&session[..]).bind(&org).bind(now).bind(until).execute(db).await.map(drop)
        })?;
        tx.commit().await?;
        Ok(Some(org))
    }

    /// Whose session it is, if it still is one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn session(&self, hash: &TokenHash, now: Time) -> Result<Option<OrgId>, StoreError> {
        const SQL: &str = "SELECT org FROM session WHERE hash = $1 AND expires_at > $2";
        Ok(read!(self, db => sqlx::query_scalar(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The store is away.
    pub async fn end_session(&self, hash: &TokenHash) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM session WHERE hash = $1";
        let mut tx = self.begin().await?;
        on!(tx, db => sqlx::query(SQL).bind(&hash[..]).execute(db).await.map(drop))?;
        tx.commit().await
    }

    /// Remembers a link into the portal that is good once.
    ///
    /// # Errors
    /// The store is away.
    pub async fn add_portal_link(&self, hash: &TokenHash, link: &PortalLink) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO portal_link (hash, org, app_id, options, expires_at) VALUES ($1, $2, $3, $4, $5)";
        let options = codec::json(&link.options)?;
        let mut tx = self.begin().await?;
        self.enter_once(&mut tx, "").await?;
        on!(tx, db => {
            sqlx::query(SQL)
                .bind(&hash[..]).bind(&link.org).bind(link.app_id).bind(options).bind(link.expires_at)
                .execute(db).await.map(drop)
        })?;
        tx.commit().await
    }

    /// Forgets links, sessions and logged out tokens that are over.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget_logins(&self, now: Time) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for sql in [
            "DELETE FROM login_link WHERE expires_at <= $1",
            "DELETE FROM session WHERE expires_at <= $1",
            "DELETE FROM portal_link WHERE expires_at <= $1",
            "DELETE FROM visit WHERE expires_at <= $1",
            "DELETE FROM revoked_token WHERE until <= $1",
        ] {
            on!(tx, db => sqlx::query(sql).bind(now).execute(db).await.map(drop))?;
        }
        tx.commit().await
    }
}
