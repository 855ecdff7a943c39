//! API keys and logged-out tokens. Only hashes are stored.

use crate::domain::access::api_key::{ApiKey, KeyScopes};
use crate::domain::access::audit::action;
use crate::domain::{Invalid, KeyId, OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::{Page, PageRequest, Store, StoreError, Tenant, on, read, read_vital, write_one};

const COLUMNS: &str = Row::COLUMNS;

from_row! {
    struct Row {
        id: KeyId,
        org: OrgId,
        name: String,
        hint: String,
        scopes: Option<String>,
        created_at: Time,
        expires_at: Option<Time>,
        last_used_at: Option<Time>,
        revoked_at: Option<Time>,
    }
}

impl Row {
    fn key(self) -> Result<ApiKey, StoreError> {
        let words: Option<Vec<String>> = codec::from_json_opt(self.scopes.as_deref())?;
        Ok(ApiKey {
            id: self.id,
            org: self.org,
            name: self.name,
            hint: self.hint,
            scopes: words.map_or(KeyScopes::EVERYTHING, |words| KeyScopes::of_words(words.iter().map(String::as_str))),
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
            revoked_at: self.revoked_at,
        })
    }
}

impl Store {
    /// Stores a new key with its hash.
    ///
    /// # Errors
    /// The organization already has [`limits::KEYS`] keys, or the store is unavailable.
    pub async fn add_api_key(&self, key: &ApiKey, hash: &TokenHash) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "INSERT INTO api_key (id, org, name, hash, hint, scopes, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            const COUNT: &str =
                "SELECT count(*) FROM (SELECT 1 FROM api_key WHERE org = $1 AND revoked_at IS NULL LIMIT $2) AS found";
            let scopes = match key.scopes == KeyScopes::EVERYTHING {
                true => None,
                false => Some(codec::json(&key.scopes.words())?),
            };
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &key.id.to_string()).await?;
            let found: i64 = on!(tx, db => {
                sqlx::query_scalar(COUNT).bind(&key.org).bind(limits::KEYS as i64).fetch_one(db).await
            })?;
            if found >= limits::KEYS as i64 {
                let reason = format!("cannot be added: there are already {found} API keys; revoke some first");
                return Err(StoreError::Invalid(vec![Invalid::new("name", reason)]));
            }
            on!(tx, db => {
                sqlx::query(SQL)
                    .bind(key.id).bind(&key.org).bind(&key.name).bind(&hash[..]).bind(&key.hint)
                    .bind(scopes).bind(key.created_at).bind(key.expires_at)
                    .execute(db).await.map(drop)
            })?;
            let (target, detail) = (key.id.to_string(), format!("{}, {}", key.label(), key.scopes));
            let created = NewAuditEntry::of(&key.org, action::KEY_CREATED, &target).with(&detail);
            self.commit_audited(tx, created, key.created_at).await
        })
        .await
    }

    /// Looks up a key by its hash, valid or not, for authentication.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn api_key_by_hash(&self, hash: &TokenHash) -> Result<Option<ApiKey>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM api_key WHERE hash = $1"));
        let row: Option<Row> = read_vital!(self, db => sqlx::query_as(sql).bind(&hash[..]).fetch_optional(db).await)?;
        row.map(Row::key).transpose()
    }

    /// An organization's keys by id, including revoked and expired ones.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn api_keys(&self, tenant: &Tenant, page: &PageRequest<KeyId>) -> Result<Page<ApiKey>, StoreError> {
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM api_key WHERE org = $1 AND id {compare} $2 ORDER BY id {direction} LIMIT $3"
        ));
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(&tenant.org).bind(page.bound()).bind(page.rows()).fetch_all(db).await
        })?;
        let keys: Result<Vec<_>, _> = rows.into_iter().map(Row::key).collect();
        Ok(page.page(keys?))
    }

    /// The organization's key with this id, valid or not.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn api_key(&self, tenant: &Tenant, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM api_key WHERE org = $1 AND id = $2"));
        let row: Option<Row> =
            read!(self, db => sqlx::query_as(sql).bind(&tenant.org).bind(id).fetch_optional(db).await)?;
        row.map(Row::key).transpose()
    }

    /// Revokes a key; idempotent. `false` if the organization has no such key.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn revoke_api_key(&self, tenant: &Tenant, id: KeyId, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let sql = sqlx::AssertSqlSafe(format!(
                "UPDATE api_key SET revoked_at = $3 WHERE org = $1 AND id = $2 AND revoked_at IS NULL RETURNING {COLUMNS}"
            ));
            let mut tx = self.begin().await?;
            let row: Option<Row> = on!(tx, db => {
                sqlx::query_as(sql).bind(&tenant.org).bind(id).bind(now).fetch_optional(db).await
            })?;
            let Some(key) = row.map(Row::key).transpose()? else {
                tx.roll_back().await?;
                return Ok(self.api_key(tenant, id).await?.is_some());
            };
            let (target, detail) = (id.to_string(), key.label());
            self.commit_audited(tx, NewAuditEntry::of(&tenant.org, action::KEY_REVOKED, &target).with(&detail), now).await?;
            Ok(true)
        })
        .await
    }

    /// Records the last use of keys; earlier times than the stored ones are ignored.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn api_keys_used(&self, uses: &[(KeyId, Time)]) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE api_key SET last_used_at = $2 WHERE id = $1
             AND (last_used_at IS NULL OR last_used_at < $2)";
            if uses.is_empty() {
                return Ok(());
            }
            // Sorted, so concurrent processes do not deadlock.
            let mut uses = uses.to_vec();
            uses.sort_unstable();
            let mut tx = self.begin().await?;
            for (id, at) in uses {
                on!(tx, db => sqlx::query(SQL).bind(id).bind(at).execute(db).await.map(drop))?;
            }
            tx.commit().await
        })
        .await
    }

    /// Revokes a token. The record is kept until `until`, the token's expiry.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn revoke_token(&self, hash: &TokenHash, until: Time) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO revoked_token (hash, until) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        write_one!(self, sqlx::query(SQL).bind(&hash[..]).bind(until)).map(drop)
    }

    /// Whether a token was revoked.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_token_revoked(&self, hash: &TokenHash) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM revoked_token WHERE hash = $1";
        let found: Option<i32> =
            read_vital!(self, db => sqlx::query_scalar(SQL).bind(&hash[..]).fetch_optional(db).await)?;
        Ok(found.is_some())
    }
}
