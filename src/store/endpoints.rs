//! Endpoints and their secrets: create, read, change, delete, list, rotate.

use std::time::Duration;

use super::codec::{self, ENDPOINT, EndpointRow};
use super::directory::open_secret;
use super::error::is_taken;
use super::signals::Signal;
use super::{AppRef, EndpointRef, Page, PageRequest, Store, StoreError, Tenant, Tx, applications, on, read, record};
use crate::domain::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use crate::domain::secret::Secret;
use crate::domain::{AppId, EndpointId, Invalid, OrgId, Time};

impl Store {
    /// Makes an endpoint of `app` with `secret`.
    ///
    /// # Errors
    /// The tenant has no such application, the uid is taken, an event type of its filter is not in the catalog, or the store is away.
    pub async fn create_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        spec: EndpointSpec,
        secret: &Secret,
        now: Time,
    ) -> Result<Endpoint, StoreError> {
        let endpoint = Endpoint {
            id: EndpointId::new(now),
            app_id: app,
            disabled_reason: spec.disabled.then_some(DisabledReason::Manual),
            spec,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.begin().await?;
        self.enter_once(&mut tx, &endpoint.id.to_string()).await?;
        if !applications::hold(&mut tx, tenant, app).await? {
            return Err(StoreError::Invalid(vec![Invalid::new("app_id", "there is no such application")]));
        }
        check_event_types(&mut tx, &tenant.org, &endpoint.spec).await?;
        const SQL: &str = "INSERT INTO endpoint (id, app_id, created_at, updated_at, uid, url, description, disabled,
                 disabled_reason, event_types, channels, throttle_rate, timeout_s, retry_schedule, signature_type,
                 extra_signatures, headers, metadata)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
        self.write_endpoint(&mut tx, SQL, &endpoint).await?;
        self.add_secret(&mut tx, endpoint.id, secret, now).await?;
        tx.commit().await?;
        self.inner.signals.send(Signal::Changed(app));
        Ok(endpoint)
    }

    /// Replaces what endpoint `id` is, keeping its secrets. `None` if the application does not have it.
    ///
    /// # Errors
    /// The new uid is taken, an event type is not in the catalog, or the store is away.
    pub async fn update_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        spec: EndpointSpec,
        now: Time,
    ) -> Result<Option<Endpoint>, StoreError> {
        let mut tx = self.begin().await?;
        let Some(before) = self.held(&mut tx, tenant, app, id).await? else { return Ok(None) };
        let reason = match (spec.disabled, before.disabled_reason) {
            (false, _) => None,
            (true, known) => Some(known.unwrap_or(DisabledReason::Manual)),
        };
        let endpoint = Endpoint { spec, disabled_reason: reason, updated_at: now, ..before };
        check_event_types(&mut tx, &tenant.org, &endpoint.spec).await?;
        const SQL: &str = "UPDATE endpoint SET created_at = $3, updated_at = $4, uid = $5, url = $6, description = $7,
                 disabled = $8, disabled_reason = $9, event_types = $10, channels = $11, throttle_rate = $12,
                 timeout_s = $13, retry_schedule = $14, signature_type = $15, extra_signatures = $16, headers = $17,
                 metadata = $18, failing_since = CASE WHEN disabled AND NOT $8 THEN NULL ELSE failing_since END
             WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL";
        self.write_endpoint(&mut tx, SQL, &endpoint).await?;
        tx.commit().await?;
        self.inner.signals.send(Signal::Changed(app));
        Ok(Some(endpoint))
    }

    /// The endpoint inside `tx`, with its application held, so that it stays as it is until the commit.
    async fn held(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        if !applications::hold(tx, tenant, app).await? {
            return Ok(None);
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE app_id = $1 AND id = $2 AND deleted_at IS NULL"
        ));
        let row: Option<EndpointRow> = on!(tx, db => sqlx::query_as(sql).bind(app).bind(id).fetch_optional(db).await)?;
        Ok(row.map(|row| row.endpoint(&self.inner.master)))
    }

    async fn write_endpoint(&self, tx: &mut Tx, sql: &'static str, endpoint: &Endpoint) -> Result<(), StoreError> {
        let spec = &endpoint.spec;
        let event_types = spec.event_types.as_ref().map(codec::json).transpose()?;
        let channels = spec.channels.as_ref().map(codec::json).transpose()?;
        let headers = codec::seal_headers(&self.inner.master, endpoint.id, &spec.headers)?;
        let (schedule, extras, metadata) = (
            codec::schedule(spec.retry_schedule.as_ref())?,
            codec::json(&spec.extra_signatures)?,
            codec::json(&spec.metadata)?,
        );
        let done = on!(tx, db => {
            sqlx::query(sql)
                .bind(endpoint.id)
                .bind(endpoint.app_id)
                .bind(endpoint.created_at)
                .bind(endpoint.updated_at)
                .bind(&spec.uid)
                .bind(&spec.url)
                .bind(&spec.description)
                .bind(spec.disabled)
                .bind(endpoint.disabled_reason.map(|reason| reason.word()))
                .bind(event_types)
                .bind(channels)
                .bind(spec.throttle_rate.map(i32::from))
                .bind(spec.timeout.map(|timeout| timeout.as_secs() as i32))
                .bind(schedule)
                .bind(spec.signature_type.word())
                .bind(extras)
                .bind(headers)
                .bind(metadata)
                .execute(db)
                .await
                .map(drop)
        });
        done.map_err(|error| match (&spec.uid, is_taken(&error)) {
            (Some(uid), true) => StoreError::Taken(format!("the endpoint uid {uid}")),
            _ => error.into(),
        })
    }

    /// The endpoint, if the tenant's application has it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: &EndpointRef,
    ) -> Result<Option<Endpoint>, StoreError> {
        let column = match endpoint {
            EndpointRef::Id(_) => "id",
            EndpointRef::Uid(_) => "uid",
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE app_id = $1 AND {column} = $2 AND deleted_at IS NULL
             AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $3 AND deleted_at IS NULL)"
        ));
        if !tenant.sees(app) {
            return Ok(None);
        }
        let row: Option<EndpointRow> = read!(self, db => match endpoint {
            EndpointRef::Id(id) => sqlx::query_as(sql).bind(app).bind(id).bind(&tenant.org).fetch_optional(db).await,
            EndpointRef::Uid(uid) => sqlx::query_as(sql).bind(app).bind(uid).bind(&tenant.org).fetch_optional(db).await,
        })?;
        Ok(row.map(|row| row.endpoint(&self.inner.master)))
    }

    /// The endpoints of the tenant's application, by id.
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoints(
        &self,
        tenant: &Tenant,
        app: AppId,
        page: &PageRequest<EndpointId>,
    ) -> Result<Page<Endpoint>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Page { data: Vec::new(), more: false });
        }
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE app_id = $1 AND deleted_at IS NULL AND id {compare} $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $4 AND deleted_at IS NULL)
             ORDER BY id {direction} LIMIT $3"
        ));
        let rows: Vec<EndpointRow> = read!(self, db => {
            sqlx::query_as(sql).bind(app).bind(page.bound()).bind(page.rows()).bind(&tenant.org).fetch_all(db).await
        })?;
        Ok(page.page(rows.into_iter().map(|row| row.endpoint(&self.inner.master)).collect()))
    }

    /// Deletes an endpoint. Its pending deliveries end as dead, a few at a time; its history stays. `false` if the tenant's
    /// application does not have it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn delete_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        now: Time,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        if self.held(&mut tx, tenant, app, id).await?.is_none() {
            return Ok(false);
        }
        const SQL: &str = "UPDATE endpoint SET deleted_at = $3, uid = NULL, unburied = 1
             WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL";
        let changed = on!(tx, db => {
            sqlx::query(SQL).bind(id).bind(app).bind(now).execute(db).await.map(|done| done.rows_affected())
        })?;
        tx.commit().await?;
        self.inner.signals.send(Signal::Changed(app));
        Ok(changed > 0)
    }

    /// The secret that an endpoint signs with now.
    ///
    /// # Errors
    /// The store is away, or it was sealed with another master key.
    pub async fn endpoint_secret(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Secret>, StoreError> {
        if self.endpoint(tenant, app, &EndpointRef::Id(id)).await?.is_none() {
            return Ok(None);
        }
        const SQL: &str = "SELECT sealed FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at IS NULL
             ORDER BY made_at DESC LIMIT 1";
        let sealed: Option<Vec<u8>> = read!(self, db => sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)?;
        sealed.map(|sealed| open_secret(&self.inner.master, id, &sealed)).transpose()
    }

    /// The secret that the endpoint got at `made_at`, as long as it is in use.
    ///
    /// # Errors
    /// The store is away, or it was sealed with another master key.
    pub async fn endpoint_secret_of(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        made_at: Time,
    ) -> Result<Option<Secret>, StoreError> {
        if self.endpoint(tenant, app, &EndpointRef::Id(id)).await?.is_none() {
            return Ok(None);
        }
        const SQL: &str = "SELECT sealed FROM endpoint_secret WHERE endpoint_id = $1 AND made_at = $2";
        let sealed: Option<Vec<u8>> =
            read!(self, db => sqlx::query_scalar(SQL).bind(id).bind(made_at).fetch_optional(db).await)?;
        sealed.map(|sealed| open_secret(&self.inner.master, id, &sealed)).transpose()
    }

    /// Signs with `secret` from now on; the one before signs along for `grace`. `false` if the tenant's application does
    /// not have the endpoint.
    ///
    /// # Errors
    /// The store is away.
    pub async fn rotate_secret(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        secret: &Secret,
        grace: Duration,
        now: Time,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        self.enter_once(&mut tx, &now.micros().to_string()).await?;
        if self.held(&mut tx, tenant, app, id).await?.is_none() {
            return Ok(false);
        }
        const RETIRE: &str = "UPDATE endpoint_secret SET expires_at = $2 WHERE endpoint_id = $1 AND expires_at IS NULL";
        on!(tx, db => sqlx::query(RETIRE).bind(id).bind(now.plus(grace)).execute(db).await.map(drop))?;
        const FORGET: &str = "DELETE FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at <= $2";
        on!(tx, db => sqlx::query(FORGET).bind(id).bind(now).execute(db).await.map(drop))?;
        self.add_secret(&mut tx, id, secret, now).await?;
        tx.commit().await?;
        self.inner.signals.send(Signal::Changed(app));
        Ok(true)
    }

    async fn add_secret(&self, tx: &mut Tx, id: EndpointId, secret: &Secret, now: Time) -> Result<(), StoreError> {
        let sealed = self.inner.master.seal(id.0.as_bytes(), secret.text().as_bytes());
        // Two rotations within a microsecond would collide; the later one counts.
        const SQL: &str = "INSERT INTO endpoint_secret (endpoint_id, made_at, sealed) VALUES ($1, $2, $3)
             ON CONFLICT (endpoint_id, made_at) DO UPDATE SET sealed = excluded.sealed, expires_at = NULL";
        on!(tx, db => sqlx::query(SQL).bind(id).bind(now).bind(sealed).execute(db).await.map(drop))?;
        Ok(())
    }

    /// Disables endpoints that have done nothing but fail since before `since`. Gives back which.
    ///
    /// # Errors
    /// The store is away.
    pub async fn disable_failing(&self, since: Time, now: Time) -> Result<Vec<EndpointId>, StoreError> {
        const SQL: &str = "SELECT id, app_id FROM endpoint
             WHERE failing_since IS NOT NULL AND failing_since < $1 AND disabled = FALSE AND deleted_at IS NULL LIMIT 100";
        let mut tx = self.begin().await?;
        let mut rows: Vec<(EndpointId, AppId)> = on!(tx, db => sqlx::query_as(SQL).bind(since).fetch_all(db).await)?;
        rows.sort_unstable();
        applications::touch(&mut tx, rows.iter().map(|(_, app)| *app)).await?;
        let mut disabled = Vec::with_capacity(rows.len());
        for (endpoint, _) in &rows {
            if record::disable(&mut tx, *endpoint, DisabledReason::Failing, now).await? {
                disabled.push(*endpoint);
            }
        }
        tx.commit().await?;
        for (_, app) in &rows {
            self.inner.signals.send(Signal::Changed(*app));
        }
        Ok(disabled)
    }

    /// The application that a path names, as the endpoint operations need it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn app_id(&self, tenant: &Tenant, app: &AppRef) -> Result<Option<AppId>, StoreError> {
        Ok(self.application(tenant, app).await?.map(|app| app.id))
    }
}

/// A filter names only event types that are in the catalog.
async fn check_event_types(tx: &mut Tx, org: &OrgId, spec: &EndpointSpec) -> Result<(), StoreError> {
    let Some(wanted) = &spec.event_types else { return Ok(()) };
    let found: Vec<String> = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str =
                "SELECT name FROM event_type WHERE org = $1 AND name IN (SELECT value FROM json_each($2))";
            sqlx::query_scalar(SQL).bind(org).bind(codec::json(wanted)?).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "SELECT name FROM event_type WHERE org = $1 AND name = ANY($2)";
            sqlx::query_scalar(SQL).bind(org).bind(wanted).fetch_all(&mut **tx).await?
        }
    };
    let missing: Vec<&str> = wanted.iter().filter(|name| !found.contains(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("these event types are not in the catalog: {}", missing.join(", "));
    Err(StoreError::Invalid(vec![Invalid::new("eventTypes", reason)]))
}
