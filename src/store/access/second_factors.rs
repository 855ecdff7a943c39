//! Second factors of operators: the shared secret, sealed under the master key, and hashes of unused recovery codes.

use crate::domain::access::audit::action;
use crate::domain::access::operator::Operator;
use crate::domain::access::totp::TotpSecret;
use crate::domain::{OperatorId, OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::end_sessions;
use crate::store::access::operators::OwnChange;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::db::codec;
use crate::store::{Store, StoreError, Tx, on, read_vital};

/// An account's second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondFactor {
    pub secret: TotpSecret,
    /// The step of the last code that was used.
    pub used: i64,
    pub since: Time,
    /// Unused recovery codes.
    pub recovery_codes: i64,
}

/// A second factor to add.
#[derive(Clone, Debug)]
pub struct NewSecondFactor {
    pub secret: TotpSecret,
    /// The step of the code that confirmed it.
    pub used: i64,
    /// The hashes of the recovery codes.
    pub recovery_codes: Vec<TokenHash>,
}

/// The second factor presented at a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondFactorProof {
    /// The account has none.
    NotNeeded,
    /// A code of this step.
    Code(i64),
    /// The hash of a recovery code.
    Recovery(TokenHash),
}

impl Store {
    /// The account's second factor.
    ///
    /// # Errors
    /// The store is unavailable, or the secret was sealed under another master key.
    pub async fn second_factor(&self, id: OperatorId) -> Result<Option<SecondFactor>, StoreError> {
        const SQL: &str = "SELECT totp, totp_step, totp_since,
                 (SELECT count(*) FROM recovery_code r WHERE r.operator_id = o.id)
             FROM operator o WHERE id = $1";
        type Row = (Option<Vec<u8>>, Option<i64>, Option<Time>, i64);
        let row: Option<Row> = read_vital!(self, db => sqlx::query_as(SQL).bind(id).fetch_optional(db).await)?;
        let Some((Some(sealed), used, since, recovery_codes)) = row else { return Ok(None) };
        let plain = self.inner.master.open(&codec::totp_aad(id), &sealed)?;
        let secret = TotpSecret::from_bytes(&plain)
            .ok_or_else(|| StoreError::Damaged("the secret of a second factor".to_owned()))?;
        let (used, since) = (used.unwrap_or_default(), since.unwrap_or_default());
        Ok(Some(SecondFactor { secret, used, since, recovery_codes }))
    }

    /// Adds a second factor to an account that has none, if its password is still the confirmed one, and ends its other
    /// sessions. `false`: the account was changed meanwhile.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn add_second_factor(
        &self,
        own: OwnChange<'_>,
        new: &NewSecondFactor,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let OwnChange { from, operator, password, keep } = own;
            const SQL: &str = "UPDATE operator SET totp = $3, totp_step = $4, totp_since = $5
                 WHERE id = $1 AND password = $2 AND totp IS NULL";
            let sealed = self.inner.master.seal(&codec::totp_aad(operator.id), new.secret.bytes());
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, "").await?;
            let added = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(operator.id).bind(password).bind(sealed).bind(new.used).bind(now)
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if added == 0 {
                return Ok(false);
            }
            replace_codes(&mut tx, operator.id, &new.recovery_codes).await?;
            end_sessions(&mut tx, operator.id, keep).await?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::SECOND_FACTOR_ADDED, &operator.name), now).await?;
            Ok(true)
        })
        .await
    }

    /// Replaces the recovery codes of an account. `false`: it has no second factor.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn replace_recovery_codes(
        &self,
        from: &OrgId,
        operator: &Operator,
        codes: &[TokenHash],
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            // An update that changes nothing: it locks the row.
            const LOCK: &str = "UPDATE operator SET totp_since = totp_since WHERE id = $1 AND totp IS NOT NULL";
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, "").await?;
            let found = on!(tx, db => {
                sqlx::query(LOCK).bind(operator.id).execute(db).await.map(|done| done.rows_affected())
            })?;
            if found == 0 {
                return Ok(false);
            }
            replace_codes(&mut tx, operator.id, codes).await?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::RECOVERY_CODES_REPLACED, &operator.name), now)
                .await?;
            Ok(true)
        })
        .await
    }

    /// Removes the second factor of an account. `false`: it has none.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn remove_second_factor(&self, from: &OrgId, operator: &Operator, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE operator SET totp = NULL, totp_step = NULL, totp_since = NULL
                 WHERE id = $1 AND totp IS NOT NULL";
            let mut tx = self.begin().await?;
            let removed = on!(tx, db => {
                sqlx::query(SQL).bind(operator.id).execute(db).await.map(|done| done.rows_affected())
            })?;
            if removed == 0 {
                return Ok(false);
            }
            replace_codes(&mut tx, operator.id, &[]).await?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::SECOND_FACTOR_REMOVED, &operator.name), now)
                .await?;
            Ok(true)
        })
        .await
    }
}

async fn replace_codes(tx: &mut Tx, id: OperatorId, codes: &[TokenHash]) -> Result<(), StoreError> {
    delete_codes(tx, id).await?;
    const ADD: &str = "INSERT INTO recovery_code (operator_id, hash) VALUES ($1, $2)";
    for hash in codes {
        on!(tx, db => sqlx::query(ADD).bind(id).bind(&hash[..]).execute(db).await.map(drop))?;
    }
    Ok(())
}

/// Deletes the recovery codes of an account.
pub(in crate::store) async fn delete_codes(tx: &mut Tx, id: OperatorId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM recovery_code WHERE operator_id = $1";
    on!(tx, db => sqlx::query(SQL).bind(id).execute(db).await.map(drop))?;
    Ok(())
}

/// Marks the code as used. `false`: the account was changed meanwhile, or the code was used before.
pub(in crate::store) async fn use_up(
    tx: &mut Tx,
    id: OperatorId,
    proof: &SecondFactorProof,
) -> Result<bool, StoreError> {
    const NONE: &str = "UPDATE operator SET totp_step = NULL WHERE id = $1 AND totp IS NULL";
    const STEP: &str = "UPDATE operator SET totp_step = $2 WHERE id = $1 AND totp IS NOT NULL AND totp_step < $2";
    const CODE: &str = "DELETE FROM recovery_code WHERE operator_id = $1 AND hash = $2";
    let done = match proof {
        SecondFactorProof::NotNeeded => on!(tx, db => {
            sqlx::query(NONE).bind(id).execute(db).await.map(|done| done.rows_affected())
        })?,
        SecondFactorProof::Code(step) => on!(tx, db => {
            sqlx::query(STEP).bind(id).bind(*step).execute(db).await.map(|done| done.rows_affected())
        })?,
        SecondFactorProof::Recovery(hash) => on!(tx, db => {
            sqlx::query(CODE).bind(id).bind(&hash[..]).execute(db).await.map(|done| done.rows_affected())
        })?,
    };
    Ok(done == 1)
}
