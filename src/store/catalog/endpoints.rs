//! Endpoints: create, read, delete, list. Updates are in [`endpoint_update`](crate::store::catalog::endpoint_update).

use std::sync::atomic::Ordering;

use crate::domain::access::audit::action;
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use crate::domain::notifications::operational::OperationalKind;
use crate::domain::signing::secret::Secret;
use crate::domain::{AppId, EndpointId, Invalid, OrgId, Time, limits};
use crate::store::access::audit::{self, NewAuditEntry};
use crate::store::catalog::applications;
use crate::store::db::codec::{self, ENDPOINT, EndpointRow};
use crate::store::db::store_error::is_taken;
use crate::store::queue::ordering;
use crate::store::queue::signals::Signal;
use crate::store::queue::slots::slot_for;
use crate::store::recording::operational;
use crate::store::recording::operational_event::{EventDetail, OperationalEvent};
use crate::store::{AppRef, EndpointRef, Page, PageRequest, Store, StoreError, Tenant, Tx, on, read};

impl Store {
    /// Sets the limit of endpoints per application. Applications that exceed it keep their endpoints.
    pub fn limit_endpoints(&self, most: usize) {
        self.inner.max_endpoints.store(most, Ordering::Relaxed);
    }

    /// Creates an endpoint of `app` with `secret`.
    ///
    /// # Errors
    /// The tenant has no such application, the application is at its [limit](Store::limit_endpoints), the uid is taken,
    /// an event type is not in the catalog, or the store is unavailable.
    pub async fn create_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        spec: EndpointSpec,
        secret: &Secret,
        now: Time,
    ) -> Result<Endpoint, StoreError> {
        self.inner.refresh_organizations().await;
        self.retry_conflicts(|| async {
            let endpoint = Endpoint {
                id: EndpointId::new(now),
                app_id: app,
                disabled_reason: spec.disabled.then_some(DisabledReason::Manual),
                spec: spec.clone(),
                created_at: now,
                updated_at: now,
            };
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &endpoint.id.to_string()).await?;
            if !applications::lock_application(&mut tx, tenant, app).await? {
                return Err(StoreError::Invalid(vec![Invalid::new("app_id", "there is no such application")]));
            }
            check_event_types(&mut tx, &tenant.org, app, endpoint.spec.event_types.as_deref()).await?;
            let slot = next_slot(&mut tx, app, self.most_endpoints(&tenant.org)).await?;
            const SQL: &str =
                "INSERT INTO endpoint (id, app_id, created_at, updated_at, uid, url, description, disabled,
                 disabled_reason, event_types, channels, throttle_rate, timeout_s, retry_schedule, signature_type,
                 extra_signatures, headers, metadata, ordered, api_version, chat, slot, disabled_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                 CASE WHEN $8 THEN $4 ELSE NULL END, (SELECT version FROM application WHERE id = $2))";
            self.write_endpoint(&mut tx, SQL, &endpoint, Some(slot)).await?;
            ordering::prepare_endpoint(&mut tx, &endpoint, None).await?;
            self.add_secret(&mut tx, endpoint.id, secret, now).await?;
            let created = endpoint_event(OperationalKind::EndpointCreated, &endpoint);
            self.audit_endpoint(&mut tx, tenant, &endpoint, action::ENDPOINT_CREATED, "", now).await?;
            self.commit_endpoint_change(tx, tenant, &endpoint, vec![created], now).await?;
            Ok(endpoint)
        })
        .await
    }

    /// The limit of endpoints of an application: the organization's own, or the process's.
    fn most_endpoints(&self, org: &OrgId) -> usize {
        let own = self.inner.organizations.of(org).and_then(|spec| spec.max_endpoints);
        let own = own.and_then(|most| usize::try_from(most).ok());
        own.unwrap_or_else(|| self.inner.max_endpoints.load(Ordering::Relaxed))
    }

    /// Writes an audit entry with the URL's host, because the id alone means little.
    pub(in crate::store::catalog) async fn audit_endpoint(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        endpoint: &Endpoint,
        act: &'static str,
        what: &str,
        now: Time,
    ) -> Result<(), StoreError> {
        let host = audit::host(&endpoint.spec.url);
        let detail = if what.is_empty() { host.to_owned() } else { format!("{what}, {host}") };
        let target = endpoint.id.to_string();
        self.audit(tx, NewAuditEntry::of(&tenant.org, act, &target).within(endpoint.app_id).with(&detail), now).await
    }

    /// Commits a change of an endpoint with the operational events about it, and signals both to the engine.
    pub(in crate::store::catalog) async fn commit_endpoint_change(
        &self,
        mut tx: Tx,
        tenant: &Tenant,
        endpoint: &Endpoint,
        what: Vec<EventDetail>,
        at: Time,
    ) -> Result<(), StoreError> {
        let event = |what| OperationalEvent { org: tenant.org.clone(), app: endpoint.app_id, at, what };
        let emitted = operational::emit(&self.inner, &mut tx, what.into_iter().map(event).collect()).await?;
        tx.commit().await?;
        self.inner.signals.send(Signal::Changed(endpoint.app_id));
        operational::signal_emitted(&self.inner, emitted);
        Ok(())
    }

    /// The endpoint, with its application locked until the end of `tx`.
    pub(in crate::store) async fn locked_endpoint(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        if !applications::lock_application(tx, tenant, app).await? {
            return Ok(None);
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE app_id = $1 AND id = $2 AND deleted_at IS NULL"
        ));
        let row: Option<EndpointRow> = on!(tx, db => sqlx::query_as(sql).bind(app).bind(id).fetch_optional(db).await)?;
        Ok(row.map(|row| row.endpoint(&self.inner.master)))
    }

    /// Binds an endpoint to an INSERT or UPDATE. Only an INSERT has a `slot`, as its last value.
    pub(in crate::store::catalog) async fn write_endpoint(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        endpoint: &Endpoint,
        slot: Option<u8>,
    ) -> Result<(), StoreError> {
        let spec = &endpoint.spec;
        let event_types = spec.event_types.as_ref().map(codec::json).transpose()?;
        let channels = spec.channels.as_ref().map(codec::json).transpose()?;
        let headers = codec::seal_headers(&self.inner.master, endpoint.id, &spec.headers)?;
        let chat = codec::seal_chat(&self.inner.master, endpoint.id, spec.chat.as_ref())?;
        let (schedule, extras, metadata) = (
            codec::schedule(spec.retry_schedule.as_ref())?,
            codec::json(&spec.extra_signatures)?,
            codec::json(&spec.metadata)?,
        );
        let done = on!(tx, db => {
            let query = sqlx::query(sql)
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
                .bind(spec.ordered)
                .bind(spec.version.and_then(|version| i32::try_from(version).ok()))
                .bind(chat);
            let query = match slot {
                Some(slot) => query.bind(i16::from(slot)),
                None => query,
            };
            query.execute(db).await.map(drop)
        });
        done.map_err(|error| match (&spec.uid, is_taken(&error)) {
            (Some(uid), true) => StoreError::Taken(format!("the endpoint uid {uid}")),
            _ => error.into(),
        })
    }

    /// The endpoint, if the tenant's application has it.
    ///
    /// # Errors
    /// The store is unavailable.
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
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        let row: Option<EndpointRow> = read!(self, db => match endpoint {
            EndpointRef::Id(id) => sqlx::query_as(sql).bind(app).bind(id).bind(org).fetch_optional(db).await,
            EndpointRef::Uid(uid) => sqlx::query_as(sql).bind(app).bind(uid).bind(org).fetch_optional(db).await,
        })?;
        Ok(row.map(|row| row.endpoint(&self.inner.master)))
    }

    /// The endpoints of the tenant's application, by id.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoints(
        &self,
        tenant: &Tenant,
        app: AppId,
        page: &PageRequest<EndpointId>,
    ) -> Result<Page<Endpoint>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Page { data: Vec::new(), more: false }) };
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE app_id = $1 AND deleted_at IS NULL AND id {compare} $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $4 AND deleted_at IS NULL)
             ORDER BY id {direction} LIMIT $3"
        ));
        let made = |row: EndpointRow| {
            let endpoint = row.endpoint(&self.inner.master);
            let size = endpoint.spec.size();
            Ok((endpoint, size))
        };
        read!(self, db => {
            let rows = sqlx::query_as(sql).bind(app).bind(page.bound()).bind(page.rows()).bind(org).fetch(db);
            page.fill(rows, made).await
        })
    }

    /// The application of one of the tenant's endpoints, except operational endpoints.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn application_of(&self, tenant: &Tenant, endpoint: EndpointId) -> Result<Option<AppId>, StoreError> {
        const SQL: &str = "SELECT p.id FROM endpoint e JOIN application p ON p.id = e.app_id
             WHERE e.id = $1 AND p.org = $2 AND NOT p.operational AND e.deleted_at IS NULL AND p.deleted_at IS NULL";
        let app: Option<AppId> =
            read!(self, db => sqlx::query_scalar(SQL).bind(endpoint).bind(&tenant.org).fetch_optional(db).await)?;
        Ok(app.filter(|app| tenant.sees(*app)))
    }

    /// Deletes an endpoint. Its pending deliveries become dead in small steps; its history stays. `false` if the
    /// tenant's application does not have it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let Some(before) = self.locked_endpoint(&mut tx, tenant, app, id).await? else { return Ok(false) };
            const SQL: &str = "UPDATE endpoint SET deleted_at = $3, uid = NULL, pending_cleanup = 1,
                 version = (SELECT p.version FROM application p WHERE p.id = endpoint.app_id)
             WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL";
            let changed = on!(tx, db => {
                sqlx::query(SQL).bind(id).bind(app).bind(now).execute(db).await.map(|done| done.rows_affected())
            })?;
            const ONE_LESS: &str = "UPDATE application SET endpoints = endpoints - 1 WHERE id = $1";
            on!(tx, db => sqlx::query(ONE_LESS).bind(app).execute(db).await.map(drop))?;
            let deleted = endpoint_event(OperationalKind::EndpointDeleted, &before);
            self.audit_endpoint(&mut tx, tenant, &before, action::ENDPOINT_DELETED, "", now).await?;
            self.commit_endpoint_change(tx, tenant, &before, vec![deleted], now).await?;
            Ok(changed > 0)
        })
        .await
    }

    /// Resolves an application named by id or uid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn app_id(&self, tenant: &Tenant, app: &AppRef) -> Result<Option<AppId>, StoreError> {
        Ok(self.application(tenant, app).await?.map(|app| app.id))
    }
}

/// Assigns the slot of a new endpoint of `app`, whose row is locked.
///
/// # Errors
/// The application already has `most` endpoints.
async fn next_slot(tx: &mut Tx, app: AppId, most: usize) -> Result<u8, StoreError> {
    const SQL: &str =
        "UPDATE application SET endpoints_made = endpoints_made + 1, endpoints = endpoints + 1 WHERE id = $1
         RETURNING endpoints_made - 1, endpoints";
    let (ordinal, endpoints): (i32, i32) = on!(tx, db => sqlx::query_as(SQL).bind(app).fetch_one(db).await)?;
    if usize::try_from(endpoints).unwrap_or(0) > most {
        let reason = format!("cannot be added: the application has reached its limit of {most} endpoints");
        return Err(StoreError::Invalid(vec![Invalid::new("url", reason)]));
    }
    Ok(slot_for(app, i64::from(ordinal)))
}

/// Checks that the event types of a filter are in the catalog; in the operational application, that they are
/// operational events.
pub(in crate::store) async fn check_event_types(
    tx: &mut Tx,
    org: &OrgId,
    app: AppId,
    wanted: Option<&[String]>,
) -> Result<(), StoreError> {
    let Some(wanted) = wanted else { return Ok(()) };
    if operational::is_operational(tx, org, app).await? {
        let unknown: Vec<&str> =
            wanted.iter().map(String::as_str).filter(|name| !OperationalKind::known(name)).collect();
        let reason = || format!("these are not operational event types: {}", limits::join_first(&unknown));
        return match unknown.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Invalid(vec![Invalid::new("eventTypes", reason())])),
        };
    }
    let found: Vec<String> = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str =
                "SELECT name FROM event_type WHERE org = $1 AND name IN (SELECT value FROM json_each($2))";
            sqlx::query_scalar(SQL).bind(org).bind(codec::json(&wanted)?).fetch_all(&mut **tx).await?
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
    let reason = format!("these event types are not in the catalog: {}", limits::join_first(&missing));
    Err(StoreError::Invalid(vec![Invalid::new("eventTypes", reason)]))
}

/// An operational event about a change of `endpoint`.
pub(in crate::store::catalog) fn endpoint_event(kind: OperationalKind, endpoint: &Endpoint) -> EventDetail {
    EventDetail::Endpoint { endpoint: endpoint.id, kind, uid: endpoint.spec.uid.clone() }
}
