//! Applications: create, read, update, delete, list, search.

use std::collections::BTreeSet;

use crate::domain::access::audit::action;
use crate::domain::catalog::application::{Application, ApplicationSpec};
use crate::domain::{AppId, OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::catalog::change::UpdateResult;
use crate::store::db::codec::{self, APPLICATION, ApplicationRow};
use crate::store::db::store_error::is_taken;
use crate::store::feed::{development_endpoints, polling_endpoints};
use crate::store::ingest::outbox;
use crate::store::query::page::SCAN;
use crate::store::queue::signals::Signal;
use crate::store::{AppRef, Page, PageRequest, Scanned, Store, StoreError, Tenant, Tx, on, read};

/// The result of an upsert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upserted<T> {
    Created(T),
    Replaced(T),
}

impl Store {
    /// Creates an application and unblocks outbox rows that are stuck because it did not exist.
    ///
    /// # Errors
    /// The uid is taken, or the store is unavailable.
    pub async fn create_application(
        &self,
        tenant: &Tenant,
        spec: ApplicationSpec,
        now: Time,
    ) -> Result<Application, StoreError> {
        self.retry_conflicts(|| async {
            let app = Application {
                id: AppId::new(now),
                org: tenant.org.clone(),
                uid: spec.uid.clone(),
                name: spec.name.clone(),
                throttle_rate: spec.throttle_rate,
                metadata: spec.metadata.clone(),
                contact_email: spec.contact_email.clone(),
                created_at: now,
                updated_at: now,
            };
            const SQL: &str = "INSERT INTO application (id, org, uid, name, throttle_rate, metadata, contact_email,
                 version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)";
            let metadata = codec::json(&app.metadata)?;
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &app.id.to_string()).await?;
            let done = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(app.id).bind(&app.org).bind(&app.uid).bind(&app.name)
                    .bind(app.throttle_rate.map(i32::from)).bind(metadata).bind(&app.contact_email).bind(now)
                    .execute(db).await.map(drop)
            });
            done.map_err(|error| taken(error, &app))?;
            retry_stuck_rows(&mut tx, &app).await?;
            self.audit_application(&mut tx, &app.org, action::APPLICATION_CREATED, app.id, &app.name, now).await?;
            tx.commit().await?;
            self.reset_outbox_watermark();
            Ok(app)
        })
        .await
    }

    /// The application, if the tenant has it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn application(&self, tenant: &Tenant, app: &AppRef) -> Result<Option<Application>, StoreError> {
        let column = match app {
            AppRef::Id(_) => "id",
            AppRef::Uid(_) => "uid",
        };
        let sql = format!(
            "SELECT {APPLICATION} FROM application WHERE org = $1 AND {column} = $2 AND deleted_at IS NULL AND operational = FALSE"
        );
        let sql = sqlx::AssertSqlSafe(sql);
        let row: Option<ApplicationRow> = read!(self, db => match app {
            AppRef::Id(id) => sqlx::query_as(sql).bind(&tenant.org).bind(id).fetch_optional(db).await,
            AppRef::Uid(uid) => sqlx::query_as(sql).bind(&tenant.org).bind(uid).fetch_optional(db).await,
        })?;
        let found = row.map(ApplicationRow::application).transpose()?;
        Ok(found.filter(|app| tenant.sees(app.id)))
    }

    /// Updates the application to the result of `work`. The row is locked meanwhile, so no concurrent update is lost.
    ///
    /// # Errors
    /// The new uid is taken, or the store is unavailable.
    pub async fn update_application<E>(
        &self,
        tenant: &Tenant,
        id: AppId,
        work: impl Fn(&Application) -> Result<ApplicationSpec, E>,
        now: Time,
    ) -> Result<UpdateResult<Application, E>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let Some(before) = locked_application(&mut tx, tenant, id).await? else {
                return Ok(UpdateResult::NotFound);
            };
            let spec = match work(&before) {
                Ok(spec) => spec,
                Err(refused) => return Ok(UpdateResult::Aborted(refused)),
            };
            let app = Application {
                uid: spec.uid,
                name: spec.name,
                throttle_rate: spec.throttle_rate,
                metadata: spec.metadata,
                contact_email: spec.contact_email,
                updated_at: now,
                ..before
            };
            const SQL: &str = "UPDATE application SET uid = $3, name = $4, throttle_rate = $5, metadata = $6,
                 contact_email = $7, updated_at = $8 WHERE org = $1 AND id = $2";
            let metadata = codec::json(&app.metadata)?;
            let done = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(&app.org).bind(id).bind(&app.uid).bind(&app.name).bind(app.throttle_rate.map(i32::from))
                    .bind(metadata).bind(&app.contact_email).bind(now)
                    .execute(db).await.map(drop)
            });
            done.map_err(|error| taken(error, &app))?;
            retry_stuck_rows(&mut tx, &app).await?;
            self.audit_application(&mut tx, &app.org, action::APPLICATION_CHANGED, id, &app.name, now).await?;
            tx.commit().await?;
            self.reset_outbox_watermark();
            self.inner.signals.send(Signal::Changed(id));
            Ok(UpdateResult::Updated(app))
        })
        .await
    }

    /// Writes an audit entry with the application's name, because the id alone means little after it is deleted.
    async fn audit_application(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        act: &'static str,
        app: AppId,
        name: &str,
        now: Time,
    ) -> Result<(), StoreError> {
        self.audit(tx, NewAuditEntry::of(org, act, &app.to_string()).within(app).with(name), now).await
    }

    /// Deletes the application and its endpoints; their pending deliveries become dead. Messages stay until retention
    /// deletes them. `false` if the tenant does not have it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_application(&self, tenant: &Tenant, id: AppId, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let Some(org) = tenant.org_of(id) else { return Ok(false) };
            let mut tx = self.begin().await?;
            const APP: &str = "UPDATE application SET deleted_at = $3, uid = NULL, version = version + 1
             WHERE org = $1 AND id = $2 AND deleted_at IS NULL AND operational = FALSE RETURNING name";
            let name: Option<String> = on!(tx, db => {
                sqlx::query_scalar(APP).bind(org).bind(id).bind(now).fetch_optional(db).await
            })?;
            if let Some(name) = &name {
                const ENDPOINTS: &str = "UPDATE endpoint SET deleted_at = $2, uid = NULL, pending_cleanup = 1
                 WHERE app_id = $1 AND deleted_at IS NULL";
                on!(tx, db => sqlx::query(ENDPOINTS).bind(id).bind(now).execute(db).await.map(drop))?;
                polling_endpoints::delete_of_application(&mut tx, id).await?;
                development_endpoints::delete_of_application(&mut tx, id).await?;
                self.audit_application(&mut tx, org, action::APPLICATION_DELETED, id, name, now).await?;
            }
            tx.commit().await?;
            self.inner.signals.send(Signal::Changed(id));
            Ok(name.is_some())
        })
        .await
    }

    /// The tenant's applications, by id.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn applications(
        &self,
        tenant: &Tenant,
        page: &PageRequest<AppId>,
    ) -> Result<Page<Application>, StoreError> {
        if let Some(only) = tenant.only {
            let one = self.application(tenant, &AppRef::Id(only)).await?;
            return Ok(Page { data: one.into_iter().filter(|_| page.after.is_none()).collect(), more: false });
        }
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {APPLICATION} FROM application WHERE org = $1 AND deleted_at IS NULL AND operational = FALSE AND id {compare} $2
             ORDER BY id {direction} LIMIT $3"
        ));
        let rows: Vec<ApplicationRow> = read!(self, db => {
            sqlx::query_as(sql).bind(&tenant.org).bind(page.bound()).bind(page.rows()).fetch_all(db).await
        })?;
        let apps: Result<Vec<_>, _> = rows.into_iter().map(ApplicationRow::application).collect();
        Ok(page.page(apps?))
    }
}

impl Store {
    /// The tenant's applications whose id, uid or name begins with `text`, case-insensitively. Scans at most [`SCAN`]
    /// rows.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn applications_like(
        &self,
        tenant: &Tenant,
        text: &str,
        page: &PageRequest<AppId>,
    ) -> Result<Scanned<Application, AppId>, StoreError> {
        const CHUNK: usize = 1_000;
        let wanted = text.to_lowercase();
        let begins = |text: &str| text.to_lowercase().starts_with(&wanted);
        let fits = |app: &Application| {
            begins(&app.name) || app.uid.as_ref().is_some_and(|uid| begins(uid.as_str())) || begins(&app.id.to_string())
        };
        let _scan = self.scan(tenant).await?;
        let (mut found, mut looked) = (Vec::new(), 0);
        let mut next = PageRequest { limit: CHUNK, ..page.clone() };
        let end = loop {
            let read = self.applications(tenant, &next).await?;
            let last = if page.back { read.data.first() } else { read.data.last() }.map(|app| app.id);
            looked += read.data.len();
            let some = read.data.into_iter().filter(&fits);
            if page.back {
                found = some.chain(found).collect();
            } else {
                found.extend(some);
            }
            next.after = last;
            if !read.more || found.len() > page.limit {
                break None;
            }
            if looked >= SCAN {
                break last;
            }
        };
        if page.back {
            found.reverse();
        }
        found.truncate(page.limit + 1);
        Ok(Scanned::new(page.page(found), end))
    }
}

fn taken(error: sqlx::Error, app: &Application) -> StoreError {
    match (&app.uid, is_taken(&error)) {
        (Some(uid), true) => StoreError::Taken(format!("the application uid {uid}")),
        _ => error.into(),
    }
}

async fn retry_stuck_rows(tx: &mut Tx, app: &Application) -> Result<(), StoreError> {
    let id = app.id.to_string();
    let names: Vec<&str> = std::iter::once(id.as_str()).chain(app.uid.as_ref().map(|uid| uid.as_str())).collect();
    outbox::retry_stuck_rows(tx, &names).await
}

/// Increments the versions of `apps`, which invalidates caches from the commit on. On PostgreSQL this also locks the
/// rows. Endpoint changes do it first, so all transactions lock in the same order.
pub(in crate::store) async fn bump_versions(
    tx: &mut Tx,
    apps: impl IntoIterator<Item = AppId>,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE application SET version = version + 1 WHERE id = $1";
    let apps: BTreeSet<AppId> = apps.into_iter().collect();
    for app in apps {
        on!(tx, db => sqlx::query(SQL).bind(app).execute(db).await.map(drop))?;
    }
    Ok(())
}

/// The application, [locked](lock_application) until the end of `tx`.
async fn locked_application(tx: &mut Tx, tenant: &Tenant, id: AppId) -> Result<Option<Application>, StoreError> {
    if !lock_application(tx, tenant, id).await? {
        return Ok(None);
    }
    let sql =
        sqlx::AssertSqlSafe(format!("SELECT {APPLICATION} FROM application WHERE id = $1 AND operational = FALSE"));
    let row: Option<ApplicationRow> = on!(tx, db => sqlx::query_as(sql).bind(id).fetch_optional(db).await)?;
    row.map(ApplicationRow::application).transpose()
}

/// Increments the version of one application and locks its row. `false` if the tenant does not have it.
pub(in crate::store) async fn lock_application(tx: &mut Tx, tenant: &Tenant, app: AppId) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE application SET version = version + 1 WHERE id = $1 AND org = $2 AND deleted_at IS NULL";
    let Some(org) = tenant.org_of(app) else { return Ok(false) };
    let changed = on!(tx, db => {
        sqlx::query(SQL).bind(app).bind(org).execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(changed > 0)
}
