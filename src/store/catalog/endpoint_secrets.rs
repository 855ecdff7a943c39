//! Endpoint secrets: reading the current one, and rotating it with a grace period for the old one. They are stored
//! sealed.

use std::time::Duration;

use crate::domain::access::audit::action;
use crate::domain::invalid::TOO_MANY;
use crate::domain::notifications::operational::OperationalKind;
use crate::domain::signing::secret::Secret;
use crate::domain::{AppId, EndpointId, Invalid, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::catalog::endpoints::endpoint_event;
use crate::store::db::codec;
use crate::store::ingest::live_endpoints::open_secret;
use crate::store::{EndpointRef, Store, StoreError, Tenant, Tx, on, read};

impl Store {
    /// The current secret of an endpoint.
    ///
    /// # Errors
    /// The store is unavailable, or the secret was sealed with another master key.
    pub async fn endpoint_secret(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Secret>, StoreError> {
        const SQL: &str = "SELECT made_at, sealed FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at IS NULL
             ORDER BY made_at DESC LIMIT 1";
        if self.endpoint(tenant, app, &EndpointRef::Id(id)).await?.is_none() {
            return Ok(None);
        }
        let row: Option<(Time, Vec<u8>)> = read!(self, db => sqlx::query_as(SQL).bind(id).fetch_optional(db).await)?;
        self.opened(id, row)
    }

    /// The secret created at `made_at`, if it is still stored.
    ///
    /// # Errors
    /// The store is unavailable, or the secret was sealed with another master key.
    pub async fn endpoint_secret_of(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        made_at: Time,
    ) -> Result<Option<Secret>, StoreError> {
        const SQL: &str = "SELECT made_at, sealed FROM endpoint_secret WHERE endpoint_id = $1 AND made_at = $2";
        if self.endpoint(tenant, app, &EndpointRef::Id(id)).await?.is_none() {
            return Ok(None);
        }
        let row: Option<(Time, Vec<u8>)> =
            read!(self, db => sqlx::query_as(SQL).bind(id).bind(made_at).fetch_optional(db).await)?;
        self.opened(id, row)
    }

    fn opened(&self, id: EndpointId, row: Option<(Time, Vec<u8>)>) -> Result<Option<Secret>, StoreError> {
        row.map(|(made_at, sealed)| open_secret(&self.inner.master, id, made_at, &sealed)).transpose()
    }

    /// Makes `secret` the current secret and adopts its signature type. The old secret keeps signing for `grace`.
    /// `false` if the tenant's application does not have the endpoint.
    ///
    /// # Errors
    /// More than [`limits::OLD_SECRETS`] old secrets would be valid ([`StoreError::Invalid`] of the kind [`TOO_MANY`]),
    /// or the store is unavailable.
    pub async fn rotate_secret(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        secret: &Secret,
        grace: Duration,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &now.micros().to_string()).await?;
            let Some(endpoint) = self.locked_endpoint(&mut tx, tenant, app, id).await? else { return Ok(false) };
            const RETIRE: &str =
                "UPDATE endpoint_secret SET expires_at = $2 WHERE endpoint_id = $1 AND expires_at IS NULL";
            on!(tx, db => sqlx::query(RETIRE).bind(id).bind(now.plus(grace)).execute(db).await.map(drop))?;
            const FORGET: &str = "DELETE FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at <= $2";
            on!(tx, db => sqlx::query(FORGET).bind(id).bind(now).execute(db).await.map(drop))?;
            const OLD: &str = "SELECT expires_at FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at IS NOT NULL
                 ORDER BY expires_at";
            let old: Vec<Time> = on!(tx, db => sqlx::query_scalar(OLD).bind(id).fetch_all(db).await)?;
            if let (true, Some(next)) = (old.len() > limits::OLD_SECRETS, old.first()) {
                let most = limits::OLD_SECRETS;
                let reason =
                    format!("{most} old secrets are still valid: rotate again after {next}, when the next one expires");
                return Err(StoreError::Invalid(vec![Invalid { kind: TOO_MANY, ..Invalid::new("key", reason) }]));
            }
            self.add_secret(&mut tx, id, secret, now).await?;
            const CHANGED: &str = "UPDATE endpoint SET signature_type = $2,
                 version = (SELECT p.version FROM application p WHERE p.id = endpoint.app_id) WHERE id = $1";
            let kind = secret.kind().word();
            on!(tx, db => sqlx::query(CHANGED).bind(id).bind(kind).execute(db).await.map(drop))?;
            let target = id.to_string();
            self.audit(&mut tx, NewAuditEntry::of(&tenant.org, action::SECRET_ROTATED, &target).within(app), now)
                .await?;
            let changed = endpoint_event(OperationalKind::EndpointUpdated, &endpoint);
            self.commit_endpoint_change(tx, tenant, &endpoint, vec![changed], now).await?;
            Ok(true)
        })
        .await
    }

    pub(in crate::store) async fn add_secret(
        &self,
        tx: &mut Tx,
        id: EndpointId,
        secret: &Secret,
        now: Time,
    ) -> Result<(), StoreError> {
        let sealed = self.inner.master.seal(&codec::secret_aad(id, now), secret.text().as_bytes());
        // If two rotations fall into one microsecond, the later one wins.
        const SQL: &str = "INSERT INTO endpoint_secret (endpoint_id, made_at, sealed) VALUES ($1, $2, $3)
             ON CONFLICT (endpoint_id, made_at) DO UPDATE SET sealed = excluded.sealed, expires_at = NULL";
        on!(tx, db => sqlx::query(SQL).bind(id).bind(now).bind(sealed).execute(db).await.map(drop))?;
        Ok(())
    }
}
