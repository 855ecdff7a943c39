//! Sessions of operators: opening, listing and ending them. Only hashes of their tokens are stored.

use crate::domain::access::audit::action;
use crate::domain::access::operator::Operator;
use crate::domain::access::password::PasswordHash;
use crate::domain::{OperatorId, OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::second_factors::{SecondFactorProof, use_up};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::{Store, StoreError, Tx, on, read, read_vital};

/// Maximum open sessions of an account; a new one beyond that ends the oldest.
const MOST: i64 = 100;
/// Maximum characters of a browser's name.
const AGENT: usize = 200;

/// An operator's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSession {
    /// The selected organization.
    pub org: OrgId,
    /// `None`: signed in with a one-time link.
    pub operator: Option<Operator>,
}

/// The browser that signed in, as it called itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionClient {
    /// Its `User-Agent`; stored up to 200 characters.
    pub agent: String,
    /// Its address; empty if unknown.
    pub address: String,
}

/// A session to open.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    pub hash: &'a TokenHash,
    pub client: &'a SessionClient,
    pub until: Time,
}

/// A sign-in by password.
#[derive(Clone, Copy, Debug)]
pub struct PasswordSignIn<'a> {
    pub operator: &'a Operator,
    /// The hash that the password was verified against.
    pub password: &'a PasswordHash,
    pub second: &'a SecondFactorProof,
}

/// An open session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    pub hash: TokenHash,
    /// The account's name; `None`: signed in with a one-time link.
    pub name: Option<String>,
    pub client: SessionClient,
    pub since: Time,
    pub until: Time,
}

from_row! {
    struct Row {
        org: OrgId,
        operator_id: Option<OperatorId>,
        name: Option<String>,
        role: Option<String>,
        orgs: Option<String>,
        created_at: Option<Time>,
        seen_at: Option<Time>,
        has_password: bool,
        second_factor: bool,
    }
}

impl Store {
    /// Opens a session after the password and the second factor were verified. `false`: the account was changed or
    /// removed meanwhile, or the code was used before.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn open_session(
        &self,
        sign_in: PasswordSignIn<'_>,
        new: NewSession<'_>,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SEE: &str = "UPDATE operator SET seen_at = $3 WHERE id = $1 AND password = $2";
            let PasswordSignIn { operator, password, second } = sign_in;
            let mut tx = self.begin().await?;
            let seen = on!(tx, db => {
                sqlx::query(SEE).bind(operator.id).bind(password).bind(now).execute(db).await.map(|done| done.rows_affected())
            })?;
            if seen == 0 || !use_up(&mut tx, operator.id, second).await? {
                return Ok(false);
            }
            let detail = match second {
                SecondFactorProof::NotNeeded => "",
                SecondFactorProof::Code(_) => "with a second factor",
                SecondFactorProof::Recovery(_) => "with a recovery code",
            };
            self.insert_session(&mut tx, &operator.home(), Some(operator.id), new, detail, now).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Inserts a session, with its audit entry: the only place that creates one.
    pub(in crate::store) async fn insert_session(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        operator: Option<OperatorId>,
        new: NewSession<'_>,
        detail: &str,
        now: Time,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO session (hash, org, operator_id, agent, address, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        const OLDEST: &str = "DELETE FROM session WHERE hash IN
             (SELECT hash FROM session WHERE operator_id = $1 ORDER BY created_at DESC, hash LIMIT 100 OFFSET $2)";
        let agent: String = codec::without_nul(&new.client.agent).chars().take(AGENT).collect();
        on!(tx, db => {
            sqlx::query(SQL)
                .bind(&new.hash[..]).bind(org).bind(operator).bind(agent).bind(&new.client.address)
                .bind(now).bind(new.until)
                .execute(db).await.map(drop)
        })?;
        on!(tx, db => sqlx::query(OLDEST).bind(operator).bind(MOST).execute(db).await.map(drop))?;
        self.audit(tx, NewAuditEntry::of(org, action::SIGNED_IN, "dashboard").with(detail), now).await
    }

    /// The session of a token, unless it has ended or its operator can no longer see its organization.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn session(&self, hash: &TokenHash, now: Time) -> Result<Option<OperatorSession>, StoreError> {
        const SQL: &str = "SELECT s.org, s.operator_id, o.name, o.role, o.orgs, o.created_at, o.seen_at,
                 o.password IS NOT NULL AS has_password, o.totp IS NOT NULL AS second_factor
             FROM session s LEFT JOIN operator o ON o.id = s.operator_id WHERE s.hash = $1 AND s.expires_at > $2";
        let row: Option<Row> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(&hash[..]).bind(now).fetch_optional(db).await)?;
        let Some(row) = row else { return Ok(None) };
        let Some(id) = row.operator_id else { return Ok(Some(OperatorSession { org: row.org, operator: None })) };
        // `None`: the account was removed.
        let (Some(name), Some(role), Some(created_at)) = (row.name, row.role, row.created_at) else {
            return Ok(None);
        };
        let operator = Operator {
            id,
            name,
            role: codec::operator_role(&role)?,
            orgs: codec::operator_orgs(row.orgs.as_deref())?,
            created_at,
            seen_at: row.seen_at,
            has_password: row.has_password,
            second_factor: row.second_factor,
        };
        Ok(operator.may_see(&row.org).then_some(OperatorSession { org: row.org, operator: Some(operator) }))
    }

    /// Open sessions, newest first, up to `limit`: of one account, or of all operators.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn open_sessions(
        &self,
        of: Option<OperatorId>,
        limit: i64,
        now: Time,
    ) -> Result<Vec<ListedSession>, StoreError> {
        const SQL: &str = "SELECT s.hash, o.name, s.agent, s.address, s.created_at, s.expires_at
             FROM session s LEFT JOIN operator o ON o.id = s.operator_id
             WHERE s.expires_at > $2 AND ($1 IS NULL OR s.operator_id = $1)
             ORDER BY s.created_at DESC, s.hash LIMIT $3";
        type Row = (Vec<u8>, Option<String>, String, String, Time, Time);
        let rows: Vec<Row> = read!(self, db => sqlx::query_as(SQL).bind(of).bind(now).bind(limit).fetch_all(db).await)?;
        let session = |(hash, name, agent, address, since, until): Row| {
            let hash = hash.try_into().map_err(|_| StoreError::Damaged("the hash of a session".to_owned()))?;
            Ok(ListedSession { hash, name, client: SessionClient { agent, address }, since, until })
        };
        rows.into_iter().map(session).collect()
    }

    /// Ends a session, on behalf of its operator or an admin; with `of`, only a session of this account. `false`: it
    /// had ended.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn revoke_session(
        &self,
        from: &OrgId,
        of: Option<OperatorId>,
        hash: &TokenHash,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "DELETE FROM session WHERE hash = $1 AND ($2 IS NULL OR operator_id = $2)
                 RETURNING (SELECT name FROM operator o WHERE o.id = session.operator_id)";
            let mut tx = self.begin().await?;
            let ended: Option<Option<String>> = on!(tx, db => {
                sqlx::query_scalar(SQL).bind(&hash[..]).bind(of).fetch_optional(db).await
            })?;
            let Some(name) = ended else { return Ok(false) };
            let target = name.as_deref().unwrap_or("a login link");
            self.commit_audited(tx, NewAuditEntry::of(from, action::SESSION_ENDED, target), now).await?;
            Ok(true)
        })
        .await
    }

    /// Ends all sessions of an account except `keep`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn end_other_sessions(
        &self,
        from: &OrgId,
        operator: &Operator,
        keep: &TokenHash,
        now: Time,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let ended = end_sessions(&mut tx, operator.id, keep).await?;
            if ended > 0 {
                let detail = format!("{ended} sessions");
                let entry = NewAuditEntry::of(from, action::SESSION_ENDED, &operator.name).with(&detail);
                self.audit(&mut tx, entry, now).await?;
            }
            tx.commit().await
        })
        .await
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
}

/// Ends all sessions of an account except `keep`. Returns their number.
pub(in crate::store) async fn end_sessions(tx: &mut Tx, id: OperatorId, keep: &TokenHash) -> Result<u64, StoreError> {
    const SQL: &str = "DELETE FROM session WHERE operator_id = $1 AND hash <> $2";
    let done = on!(tx, db => {
        sqlx::query(SQL).bind(id).bind(&keep[..]).execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(done)
}
