//! One-time sign-in links, operator sessions, and portal links (exchanged for [portal
//! sessions](crate::store::access::portal_sessions)). Only hashes are stored.

use crate::domain::access::audit::action;
use crate::domain::access::operator::Operator;
use crate::domain::access::password::PasswordHash;
use crate::domain::access::portal::PortalLink;
use crate::domain::{OperatorId, OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec;
use crate::store::{Store, StoreError, Tx, on, read_vital};

/// The SHA-256 of a credential: a link's code, a session token, an API key or a JWT.
pub type TokenHash = [u8; 32];

/// An operator's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSession {
    /// The selected organization.
    pub org: OrgId,
    /// `None`: signed in with a one-time link.
    pub operator: Option<Operator>,
}

/// A session to open.
struct NewSession<'a> {
    hash: &'a TokenHash,
    org: &'a OrgId,
    /// `None`: by a one-time link.
    operator: Option<OperatorId>,
    until: Time,
}

impl Store {
    /// Stores a one-time sign-in link, valid until `expires_at`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn add_login_link(&self, hash: &TokenHash, org: &OrgId, expires_at: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "INSERT INTO login_link (hash, org, expires_at) VALUES ($1, $2, $3)";
            let mut tx = self.begin().await?;
            on!(tx, db => sqlx::query(SQL).bind(&hash[..]).bind(org).bind(expires_at).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
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
        session: &TokenHash,
        now: Time,
        until: Time,
    ) -> Result<Option<OrgId>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            const USE: &str = "DELETE FROM login_link WHERE hash = $1 AND expires_at > $2 RETURNING org";
            let org: Option<OrgId> =
                on!(tx, db => sqlx::query_scalar(USE).bind(&link[..]).bind(now).fetch_optional(db).await)?;
            let Some(org) = org else { return Ok(None) };
            let new = NewSession { hash: session, org: &org, operator: None, until };
            self.insert_session(&mut tx, new, now).await?;
            tx.commit().await?;
            Ok(Some(org))
        })
        .await
    }

    /// Opens a session after the password was verified. `false`: the account was removed or its password changed
    /// meanwhile.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn open_session(
        &self,
        operator: &Operator,
        password: &PasswordHash,
        session: &TokenHash,
        now: Time,
        until: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SEE: &str = "UPDATE operator SET seen_at = $3 WHERE id = $1 AND password = $2";
            let mut tx = self.begin().await?;
            let seen = on!(tx, db => {
                sqlx::query(SEE).bind(operator.id).bind(password).bind(now).execute(db).await.map(|done| done.rows_affected())
            })?;
            if seen == 0 {
                return Ok(false);
            }
            let org = operator.home();
            let new = NewSession { hash: session, org: &org, operator: Some(operator.id), until };
            self.insert_session(&mut tx, new, now).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Inserts a session, with its audit entry. The only place that creates one.
    async fn insert_session(&self, tx: &mut Tx, new: NewSession<'_>, now: Time) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO session (hash, org, operator_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
        on!(tx, db => {
            sqlx::query(SQL)
                .bind(&new.hash[..]).bind(new.org).bind(new.operator).bind(now).bind(new.until)
                .execute(db).await.map(drop)
        })?;
        self.audit(tx, NewAuditEntry::of(new.org, action::SIGNED_IN, "dashboard"), now).await
    }

    /// The session of a token, unless it has ended or its operator can no longer see its organization.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn session(&self, hash: &TokenHash, now: Time) -> Result<Option<OperatorSession>, StoreError> {
        const SQL: &str = "SELECT s.org, s.operator_id, o.name, o.role, o.orgs, o.created_at, o.seen_at
             FROM session s LEFT JOIN operator o ON o.id = s.operator_id WHERE s.hash = $1 AND s.expires_at > $2";
        type Row =
            (OrgId, Option<OperatorId>, Option<String>, Option<String>, Option<String>, Option<Time>, Option<Time>);
        let row: Option<Row> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        let Some((org, id, name, role, orgs, created_at, seen_at)) = row else { return Ok(None) };
        let Some(id) = id else { return Ok(Some(OperatorSession { org, operator: None })) };
        let (Some(name), Some(role), Some(created_at)) = (name, role, created_at) else { return Ok(None) };
        let (role, orgs) = (codec::operator_role(&role)?, codec::operator_orgs(orgs.as_deref())?);
        let operator = Operator { id, name, role, orgs, created_at, seen_at };
        Ok(operator.may_see(&org).then_some(OperatorSession { org, operator: Some(operator) }))
    }

    /// Selects another organization in a session.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn select_organization(&self, hash: &TokenHash, org: &OrgId) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE session SET org = $2 WHERE hash = $1";
            let mut tx = self.begin().await?;
            on!(tx, db => sqlx::query(SQL).bind(&hash[..]).bind(org).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn end_session(&self, hash: &TokenHash, now: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "DELETE FROM session WHERE hash = $1 RETURNING org";
            let mut tx = self.begin().await?;
            let org: Option<OrgId> = on!(tx, db => sqlx::query_scalar(SQL).bind(&hash[..]).fetch_optional(db).await)?;
            if let Some(org) = org {
                self.audit(&mut tx, NewAuditEntry::of(&org, action::SIGNED_OUT, "dashboard"), now).await?;
            }
            tx.commit().await
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
            self.audit(&mut tx, made, now).await?;
            tx.commit().await
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
