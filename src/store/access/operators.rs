//! Operator accounts, and the list of organizations. Passwords are stored as argon2id hashes. Accounts belong to the
//! installation rather than to an organization; changes to them are audited in the organization in which the operator
//! was working.

use crate::domain::access::audit::action;
use crate::domain::access::oidc::OidcIdentity;
use crate::domain::access::operator::Operator;
use crate::domain::access::password::PasswordHash;
use crate::domain::{Invalid, OperatorId, OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::end_sessions;
use crate::store::access::saved_views::delete_views;
use crate::store::access::second_factors::delete_codes;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::db::store_error::is_taken;
use crate::store::{Backend, Store, StoreError, Tx, on, read, read_vital};

/// Maximum accounts of an installation.
const MOST: i64 = 500;

from_row! {
    struct Row {
        id: OperatorId,
        name: String,
        role: String,
        orgs: Option<String>,
        created_at: Time,
        seen_at: Option<Time>,
        password: Option<PasswordHash>,
        second_factor: bool,
    }
}

/// The account and its password hash. An account without a password gets a hash that no password matches.
fn operator(row: Row) -> Result<(Operator, PasswordHash), StoreError> {
    let operator = Operator {
        id: row.id,
        name: row.name,
        role: codec::operator_role(&row.role)?,
        orgs: codec::operator_orgs(row.orgs.as_deref())?,
        created_at: row.created_at,
        seen_at: row.seen_at,
        has_password: row.password.is_some(),
        second_factor: row.second_factor,
    };
    Ok((operator, row.password.unwrap_or_else(PasswordHash::dummy)))
}

const COLUMNS: &str = "id, name, role, orgs, created_at, seen_at, password, totp IS NOT NULL AS second_factor";

/// The result of changing or removing an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    Done,
    NotFound,
    /// Nothing was changed: the account was changed or removed concurrently.
    Conflict,
    /// Nothing was changed: no other account could manage accounts.
    LastAdmin,
}

/// A change to one's own account, confirmed by the password. It ends the account's other sessions.
#[derive(Clone, Copy, Debug)]
pub struct OwnChange<'a> {
    /// The organization of the audit entry.
    pub from: &'a OrgId,
    pub operator: &'a Operator,
    /// The hash that the password was verified against.
    pub password: &'a PasswordHash,
    /// The session that stays open.
    pub keep: &'a TokenHash,
}

/// Lists all organizations with data. Steps from one organization to the next along the indexes, so the cost does not
/// depend on the number of applications.
const ORGANIZATIONS: &str = "WITH RECURSIVE one(org) AS (
         SELECT min(org) FROM (SELECT min(org) AS org FROM application UNION ALL SELECT min(org) FROM event_type
             UNION ALL SELECT min(org) FROM api_key UNION ALL SELECT min(id) FROM organization) AS first
         UNION ALL
         SELECT (SELECT min(org) FROM (SELECT min(org) AS org FROM application WHERE org > one.org
             UNION ALL SELECT min(org) FROM event_type WHERE org > one.org
             UNION ALL SELECT min(org) FROM api_key WHERE org > one.org
             UNION ALL SELECT min(id) FROM organization WHERE id > one.org) AS next)
         FROM one WHERE one.org IS NOT NULL)
     SELECT org FROM one WHERE org IS NOT NULL LIMIT $1";

impl Store {
    /// Creates an account; audited in the organization `from`.
    ///
    /// # Errors
    /// The name is taken, there are already 500 accounts, or the store is unavailable.
    pub async fn create_operator(
        &self,
        from: &OrgId,
        operator: &Operator,
        password: &PasswordHash,
        now: Time,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &operator.id.to_string()).await?;
            self.insert_operator(&mut tx, from, operator, Some(password), None, now).await?;
            tx.commit().await
        })
        .await
    }

    /// Inserts an account, with its audit entry in the organization `from`.
    pub(in crate::store) async fn insert_operator(
        &self,
        tx: &mut Tx,
        from: &OrgId,
        operator: &Operator,
        password: Option<&PasswordHash>,
        identity: Option<&OidcIdentity>,
        now: Time,
    ) -> Result<(), StoreError> {
        const COUNT: &str = "SELECT count(*) FROM operator";
        const SQL: &str = "INSERT INTO operator (id, name, password, role, orgs, created_at, issuer, subject)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let orgs = operator.orgs.as_ref().map(codec::json).transpose()?;
        let there: i64 = on!(tx, db => sqlx::query_scalar(COUNT).fetch_one(db).await)?;
        if there >= MOST {
            let full = Invalid::new("name", format!("there are already {MOST} accounts; remove one first"));
            return Err(StoreError::Invalid(vec![full]));
        }
        let (issuer, subject) = identity.map(|identity| (&identity.issuer, &identity.subject)).unzip();
        let done = on!(tx, db => {
            sqlx::query(SQL)
                .bind(operator.id).bind(&operator.name).bind(password).bind(operator.role.word()).bind(orgs)
                .bind(operator.created_at).bind(issuer).bind(subject)
                .execute(db).await.map(drop)
        });
        done.map_err(|error| match is_taken(&error) {
            true => StoreError::Taken(format!("the name {}", operator.name)),
            false => error.into(),
        })?;
        let access = access(operator);
        let created = NewAuditEntry::of(from, action::OPERATOR_CREATED, &operator.name).with(&access);
        self.audit(tx, created, now).await
    }

    /// The account of a person at an identity provider.
    pub(in crate::store) async fn operator_of(
        &self,
        tx: &mut Tx,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<Operator>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM operator WHERE issuer = $1 AND subject = $2"));
        let (issuer, subject) = (codec::without_nul(issuer), codec::without_nul(subject));
        let row: Option<Row> = on!(tx, db => sqlx::query_as(sql).bind(issuer).bind(subject).fetch_optional(db).await)?;
        row.map(|row| Ok(operator(row)?.0)).transpose()
    }

    /// All accounts by name, at most 500.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn operators(&self) -> Result<Vec<Operator>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM operator ORDER BY name LIMIT $1"));
        let rows: Vec<Row> = read!(self, db => sqlx::query_as(sql).bind(MOST).fetch_all(db).await)?;
        rows.into_iter().map(|row| Ok(operator(row)?.0)).collect()
    }

    /// Whether any account has a password.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn any_passwords(&self) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM operator WHERE password IS NOT NULL LIMIT 1";
        let found: Option<i32> = read_vital!(self, db => sqlx::query_scalar(SQL).fetch_optional(db).await)?;
        Ok(found.is_some())
    }

    /// Whether there are any accounts.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn any_operators(&self) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM operator LIMIT 1";
        let found: Option<i32> = read_vital!(self, db => sqlx::query_scalar(SQL).fetch_optional(db).await)?;
        Ok(found.is_some())
    }

    /// The account with a name in lower case, and its password hash.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn operator_named(&self, name: &str) -> Result<Option<(Operator, PasswordHash)>, StoreError> {
        // No name contains NUL, and PostgreSQL rejects it in a comparison.
        let name = codec::without_nul(name);
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM operator WHERE name = $1"));
        let row: Option<Row> = read_vital!(self, db => sqlx::query_as(sql).bind(name).fetch_optional(db).await)?;
        row.map(operator).transpose()
    }

    /// Changes a password to `to` if it is still the confirmed one, and ends the operator's other sessions. `false`:
    /// the password was changed concurrently, or the account was removed.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn change_password(&self, own: OwnChange<'_>, to: &PasswordHash, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE operator SET password = $3 WHERE id = $1 AND password = $2";
            let OwnChange { from, operator, password, keep } = own;
            let mut tx = self.begin().await?;
            let changed = on!(tx, db => {
                sqlx::query(SQL).bind(operator.id).bind(password).bind(to).execute(db).await.map(|done| done.rows_affected())
            })?;
            if changed == 0 {
                return Ok(false);
            }
            end_sessions(&mut tx, operator.id, keep).await?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::PASSWORD_CHANGED, &operator.name), now).await?;
            Ok(true)
        })
        .await
    }

    /// Removes an account and ends its sessions, unless it is the last that manages accounts.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn remove_operator(&self, from: &OrgId, id: OperatorId, now: Time) -> Result<AccountChange, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "DELETE FROM operator WHERE id = $1 RETURNING name";
            let mut tx = self.begin().await?;
            if self.is_last_admin(&mut tx, id).await? {
                return Ok(AccountChange::LastAdmin);
            }
            let name: Option<String> = on!(tx, db => sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)?;
            let Some(name) = name else { return Ok(AccountChange::NotFound) };
            end_sessions(&mut tx, id, &[0; 32]).await?;
            delete_views(&mut tx, id).await?;
            delete_codes(&mut tx, id).await?;
            const RESETS: &str = "DELETE FROM password_reset WHERE operator_id = $1";
            on!(tx, db => sqlx::query(RESETS).bind(id).execute(db).await.map(drop))?;
            self.commit_audited(tx, NewAuditEntry::of(from, action::OPERATOR_REMOVED, &name), now).await?;
            Ok(AccountChange::Done)
        })
        .await
    }

    /// Changes the role and the organizations of an account from `before` to `after`, from its next request on.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn change_access(
        &self,
        from: &OrgId,
        before: &Operator,
        after: &Operator,
        now: Time,
    ) -> Result<AccountChange, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE operator SET role = $2, orgs = $3
                 WHERE id = $1 AND role = $4 AND COALESCE(orgs, '') = $5";
            let list = |operator: &Operator| operator.orgs.as_ref().map(codec::json).transpose();
            let (old, new) = (list(before)?.unwrap_or_default(), list(after)?);
            let mut tx = self.begin().await?;
            if !after.manages_accounts() && self.is_last_admin(&mut tx, before.id).await? {
                return Ok(AccountChange::LastAdmin);
            }
            let changed = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(before.id).bind(after.role.word()).bind(new).bind(before.role.word()).bind(old)
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if changed == 0 {
                return Ok(AccountChange::Conflict);
            }
            let access = access(after);
            self.commit_audited(tx, NewAuditEntry::of(from, action::OPERATOR_CHANGED, &before.name).with(&access), now)
                .await?;
            Ok(AccountChange::Done)
        })
        .await
    }

    /// Whether no other account can manage accounts. Locks all that can, so two of them cannot remove each other.
    async fn is_last_admin(&self, tx: &mut Tx, id: OperatorId) -> Result<bool, StoreError> {
        let lock = match &self.inner.backend {
            Backend::Sqlite(_) => "",
            Backend::Postgres(_) => "FOR UPDATE",
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id FROM operator WHERE role = 'admin' AND orgs IS NULL ORDER BY id {lock}"
        ));
        // At most 500 accounts.
        let admins: Vec<OperatorId> = on!(tx, db => sqlx::query_scalar(sql).fetch_all(db).await)?;
        Ok(admins == [id])
    }

    /// The account with this id.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn operator(&self, id: OperatorId) -> Result<Option<Operator>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM operator WHERE id = $1"));
        let row: Option<Row> = read!(self, db => sqlx::query_as(sql).bind(id).fetch_optional(db).await)?;
        row.map(|row| Ok(operator(row)?.0)).transpose()
    }

    /// Up to `limit` organizations with an application, an event type or an API key, by name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn organizations(&self, limit: i64) -> Result<Vec<OrgId>, StoreError> {
        Ok(read!(self, db => sqlx::query_scalar(ORGANIZATIONS).bind(limit).fetch_all(db).await)?)
    }

    /// Whether an organization was created, or has an application, an event type or an API key.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_organization(&self, org: &OrgId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM application WHERE org = $1)
             OR EXISTS (SELECT 1 FROM event_type WHERE org = $1) OR EXISTS (SELECT 1 FROM api_key WHERE org = $1)
             OR EXISTS (SELECT 1 FROM organization WHERE id = $1)";
        let found: Option<i32> = read!(self, db => sqlx::query_scalar(SQL).bind(org).fetch_optional(db).await)?;
        Ok(found.is_some())
    }
}

/// An account's role and organizations, as audit detail.
pub(in crate::store) fn access(operator: &Operator) -> String {
    let orgs = match &operator.orgs {
        None => "all organizations".to_owned(),
        Some(orgs) => orgs.iter().map(OrgId::as_str).collect::<Vec<_>>().join(", "),
    };
    format!("{}, {orgs}", operator.role.word())
}
