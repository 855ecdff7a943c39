//! Password reset links, created by an admin. An account has at most one.

use std::time::Duration;

use crate::domain::access::audit::action;
use crate::domain::access::operator::Operator;
use crate::domain::access::password::PasswordHash;
use crate::domain::{OperatorId, OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::end_sessions;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{Store, StoreError, on, read_vital};

/// The lifetime of a link.
pub const RESET_LIFE: Duration = Duration::from_secs(3_600);

impl Store {
    /// Stores a link, instead of an earlier one. `false`: the account was removed, or has no password.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn add_password_reset(
        &self,
        from: &OrgId,
        operator: &Operator,
        hash: &TokenHash,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "INSERT INTO password_reset (operator_id, hash, expires_at)
                 SELECT id, $2, $3 FROM operator WHERE id = $1 AND password IS NOT NULL
                 ON CONFLICT (operator_id) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at";
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &operator.id.to_string()).await?;
            let made = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(operator.id).bind(&hash[..]).bind(now.plus(RESET_LIFE))
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if made == 0 {
                return Ok(false);
            }
            self.commit_audited(tx, NewAuditEntry::of(from, action::RESET_LINK_MADE, &operator.name), now).await?;
            Ok(true)
        })
        .await
    }

    /// The account of a valid link. Does not use it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn password_reset(&self, hash: &TokenHash, now: Time) -> Result<Option<Operator>, StoreError> {
        const SQL: &str = "SELECT operator_id FROM password_reset WHERE hash = $1 AND expires_at > $2";
        let id: Option<OperatorId> =
            read_vital!(self, db => sqlx::query_scalar(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        match id {
            Some(id) => self.operator(id).await,
            None => Ok(None),
        }
    }

    /// Uses a link: sets the password and ends all sessions of the account. `false`: it was used or has expired.
    ///
    /// # Errors
    /// The store is unavailable; the link was not used.
    pub async fn reset_password(
        &self,
        from: &OrgId,
        hash: &TokenHash,
        password: &PasswordHash,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const USE: &str = "DELETE FROM password_reset WHERE hash = $1 AND expires_at > $2 RETURNING operator_id";
            const SET: &str = "UPDATE operator SET password = $2 WHERE id = $1 AND password IS NOT NULL RETURNING name";
            let mut tx = self.begin().await?;
            let id: Option<OperatorId> =
                on!(tx, db => sqlx::query_scalar(USE).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
            let Some(id) = id else { return Ok(false) };
            let name: Option<String> =
                on!(tx, db => sqlx::query_scalar(SET).bind(id).bind(password).fetch_optional(db).await)?;
            let Some(name) = name else { return Ok(false) };
            end_sessions(&mut tx, id, &[0; 32]).await?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::PASSWORD_RESET, &name), now).await?;
            Ok(true)
        })
        .await
    }
}
