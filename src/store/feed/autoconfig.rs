//! Autoconfig subscriptions. Tokens are stored as hashes, signing secrets are sealed.

use crate::domain::access::audit::action;
use crate::domain::catalog::autoconfig::AutoConfig;
use crate::domain::signing::secret::Secret;
use crate::domain::{AppId, AutoConfigId, EndpointId, Invalid, OrgId, PollingEndpointId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::catalog::applications;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::{Store, StoreError, Tenant, Tx, on, read};

/// The endpoint created with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreatedEndpoint {
    Endpoint(EndpointId),
    PollingEndpoint(PollingEndpointId),
}

from_row! {
    struct Row {
        id: AutoConfigId,
        org: OrgId,
        app_id: AppId,
        hint: String,
        feature_flags: String,
        endpoint_id: Option<EndpointId>,
        polling_endpoint_id: Option<PollingEndpointId>,
        created_at: Time,
    }
}

impl Row {
    fn autoconfig(self) -> Result<AutoConfig, StoreError> {
        Ok(AutoConfig {
            id: self.id,
            org: self.org,
            app_id: self.app_id,
            hint: self.hint,
            feature_flags: codec::from_json(&self.feature_flags)?,
            endpoint: self.endpoint_id,
            polling_endpoint: self.polling_endpoint_id,
            created_at: self.created_at,
        })
    }
}

/// Deleted endpoints read as NULL.
const COLUMNS: &str = "a.id, p.org, a.app_id, a.hint, a.feature_flags, e.id AS endpoint_id,
     q.id AS polling_endpoint_id, a.created_at";
const TABLES: &str = "autoconfig a JOIN application p ON p.id = a.app_id AND p.deleted_at IS NULL
     LEFT JOIN endpoint e ON e.id = a.endpoint_id AND e.deleted_at IS NULL
     LEFT JOIN polling_endpoint q ON q.id = a.polling_endpoint_id";

/// The associated data of a subscription's secret, so the secret of an earlier token is not accepted as the
/// current one.
pub(in crate::store) fn secret_aad(id: AutoConfigId, token: &[u8]) -> Vec<u8> {
    [b"autoconfig secret ", &id.0.as_bytes()[..], token].concat()
}

impl Store {
    /// Stores a new subscription with the hash of its token.
    ///
    /// # Errors
    /// The tenant has no such application, it already has [`limits::AUTOCONFIGS`] subscriptions, or the store is
    /// unavailable.
    pub async fn create_autoconfig(
        &self,
        tenant: &Tenant,
        made: &AutoConfig,
        secret: &Secret,
        hash: &TokenHash,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const COUNT: &str = "SELECT count(*) FROM autoconfig WHERE app_id = $1";
            const ADD: &str = "INSERT INTO autoconfig (id, app_id, hash, hint, feature_flags, secret, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, made.app_id).await? {
                return Err(StoreError::Invalid(vec![Invalid::new("app_id", "there is no such application")]));
            }
            let count: i64 = on!(tx, db => sqlx::query_scalar(COUNT).bind(made.app_id).fetch_one(db).await)?;
            if count >= limits::AUTOCONFIGS as i64 {
                let reason = format!("the application has reached its limit of {count} autoconfig subscriptions");
                return Err(StoreError::Invalid(vec![Invalid::new("app_id", reason)]));
            }
            let (sealed, flags) = (self.sealed(made.id, hash, secret), codec::json(&made.feature_flags)?);
            on!(tx, db => {
                sqlx::query(ADD)
                    .bind(made.id).bind(made.app_id).bind(&hash[..]).bind(&made.hint).bind(flags).bind(sealed)
                    .bind(made.created_at)
                    .execute(db).await.map(drop)
            })?;
            self.commit_autoconfig(tx, tenant, made, action::AUTOCONFIG_CREATED, made.created_at).await
        })
        .await
    }

    fn sealed(&self, id: AutoConfigId, hash: &TokenHash, secret: &Secret) -> Vec<u8> {
        self.inner.master.seal(&secret_aad(id, hash), secret.text().as_bytes())
    }

    /// Commits a change of a subscription with its audit entry.
    async fn commit_autoconfig(
        &self,
        tx: Tx,
        tenant: &Tenant,
        of: &AutoConfig,
        act: &'static str,
        now: Time,
    ) -> Result<(), StoreError> {
        let target = of.id.to_string();
        self.commit_audited(tx, NewAuditEntry::of(&tenant.org, act, &target).within(of.app_id), now).await
    }

    /// The subscription, if the tenant's application has it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn autoconfig(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: AutoConfigId,
    ) -> Result<Option<AutoConfig>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE a.id = $1 AND a.app_id = $2 AND p.org = $3"
        ));
        let row: Option<Row> =
            read!(self, db => sqlx::query_as(sql).bind(id).bind(app).bind(org).fetch_optional(db).await)?;
        row.map(Row::autoconfig).transpose()
    }

    /// Looks up a subscription by the hash of its token, for authentication. Timing reveals nothing about a token of
    /// 256 random bits.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn autoconfig_by_hash(&self, hash: &TokenHash) -> Result<Option<AutoConfig>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM {TABLES} WHERE a.hash = $1"));
        let row: Option<Row> = read!(self, db => sqlx::query_as(sql).bind(&hash[..]).fetch_optional(db).await)?;
        row.map(Row::autoconfig).transpose()
    }

    /// The signing secret of a subscription.
    ///
    /// # Errors
    /// The store is unavailable, or the secret was sealed with another master key.
    pub async fn autoconfig_secret(&self, of: &AutoConfig) -> Result<Option<Secret>, StoreError> {
        const SQL: &str = "SELECT secret, hash FROM autoconfig WHERE id = $1 AND app_id = $2";
        let row: Option<(Vec<u8>, Vec<u8>)> =
            read!(self, db => sqlx::query_as(SQL).bind(of.id).bind(of.app_id).fetch_optional(db).await)?;
        let Some((sealed, hash)) = row else { return Ok(None) };
        let plain = self.inner.master.open(&secret_aad(of.id, &hash), &sealed)?;
        let damaged = || StoreError::Damaged("the secret of an autoconfig subscription is none".into());
        let text = std::str::from_utf8(&plain).map_err(|_| damaged())?;
        Secret::parse("secret", text).map(Some).map_err(|_| damaged())
    }

    /// Replaces the token and the secret of a subscription. `false`: it was deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn rotate_autoconfig(
        &self,
        tenant: &Tenant,
        of: &AutoConfig,
        secret: &Secret,
        (hash, hint): (&TokenHash, &str),
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE autoconfig SET hash = $3, hint = $4, secret = $5 WHERE id = $1 AND app_id = $2";
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, of.app_id).await? {
                return Ok(false);
            }
            let sealed = self.sealed(of.id, hash, secret);
            let rotated = on!(tx, db => {
                sqlx::query(SQL).bind(of.id).bind(of.app_id).bind(&hash[..]).bind(hint).bind(sealed)
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            self.commit_autoconfig(tx, tenant, of, action::AUTOCONFIG_ROTATED, now).await?;
            Ok(rotated > 0)
        })
        .await
    }

    /// Records the endpoint created with a subscription. `false`: another was recorded concurrently, or the
    /// subscription was deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn bind_autoconfig(
        &self,
        tenant: &Tenant,
        of: &AutoConfig,
        made: CreatedEndpoint,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            // A deleted endpoint may be replaced.
            const ENDPOINT: &str = "UPDATE autoconfig SET endpoint_id = $3 WHERE id = $1 AND app_id = $2 AND NOT EXISTS
                 (SELECT 1 FROM endpoint e WHERE e.id = autoconfig.endpoint_id AND e.deleted_at IS NULL)";
            const POLLING: &str = "UPDATE autoconfig SET polling_endpoint_id = $3 WHERE id = $1 AND app_id = $2
                 AND NOT EXISTS (SELECT 1 FROM polling_endpoint e WHERE e.id = autoconfig.polling_endpoint_id)";
            let (sql, made) = match made {
                CreatedEndpoint::Endpoint(id) => (ENDPOINT, id.0),
                CreatedEndpoint::PollingEndpoint(id) => (POLLING, id.0),
            };
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, of.app_id).await? {
                return Ok(false);
            }
            let bound = on!(tx, db => {
                sqlx::query(sql).bind(of.id).bind(of.app_id).bind(made)
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if bound == 0 {
                return Ok(false);
            }
            self.commit_autoconfig(tx, tenant, of, action::AUTOCONFIG_SUBSCRIBED, now).await?;
            Ok(true)
        })
        .await
    }

    /// Deletes a subscription, which invalidates its token. Its endpoint stays. `false`: it was already deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_autoconfig(&self, tenant: &Tenant, of: &AutoConfig, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "DELETE FROM autoconfig WHERE id = $1 AND app_id = $2";
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, of.app_id).await? {
                return Ok(false);
            }
            let deleted = on!(tx, db => {
                sqlx::query(SQL).bind(of.id).bind(of.app_id).execute(db).await.map(|done| done.rows_affected())
            })?;
            if deleted > 0 {
                self.commit_autoconfig(tx, tenant, of, action::AUTOCONFIG_DELETED, now).await?;
            }
            Ok(deleted > 0)
        })
        .await
    }
}
