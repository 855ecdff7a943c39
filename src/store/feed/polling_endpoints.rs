//! Polling endpoints: create, read, update, delete, list. They are not rows of `endpoint`: they have no slot, secret or
//! health, and the fan-out ignores them.

use zeroize::Zeroizing;

use crate::domain::access::api_key;
use crate::domain::access::audit::action;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec, PollingToken};
use crate::domain::feed::FeedFilter;
use crate::domain::{AppId, Invalid, PollingEndpointId, Time, Uid, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::catalog::applications;
use crate::store::catalog::change::UpdateResult;
use crate::store::catalog::endpoints::check_event_types;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::db::store_error::is_taken;
use crate::store::feed::silent_consumers;
use crate::store::{Page, PageRequest, PollingEndpointRef, Store, StoreError, Tenant, Tx, on, read};

from_row! {
    struct Row {
        id: PollingEndpointId,
        app_id: AppId,
        uid: Option<Uid>,
        disabled: bool,
        event_types: Option<String>,
        channels: Option<String>,
        metadata: String,
        created_at: Time,
        updated_at: Time,
    }
}

const COLUMNS: &str = Row::COLUMNS;
/// The condition that the application ($1) belongs to the organization ($2).
const OWNED: &str = "EXISTS (SELECT 1 FROM application WHERE id = $1 AND org = $2 AND deleted_at IS NULL)";

impl Row {
    fn polling_endpoint(self) -> Result<PollingEndpoint, StoreError> {
        let filter = FeedFilter {
            event_types: codec::from_json_opt(self.event_types.as_deref())?,
            channels: codec::from_json_opt(self.channels.as_deref())?,
        };
        let metadata = codec::from_json(&self.metadata)?;
        Ok(PollingEndpoint {
            id: self.id,
            app_id: self.app_id,
            spec: PollingEndpointSpec { uid: self.uid, disabled: self.disabled, filter, metadata },
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl Store {
    /// Creates a polling endpoint of `app`.
    ///
    /// # Errors
    /// The tenant has no such application, it already has [`limits::POLLING_ENDPOINTS`], the uid is taken, an event
    /// type is not in the catalog, or the store is unavailable.
    pub async fn create_polling_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        spec: PollingEndpointSpec,
        now: Time,
    ) -> Result<PollingEndpoint, StoreError> {
        self.create_polling_endpoint_with(tenant, app, spec, None, now).await
    }

    /// Creates a polling endpoint and, in the same transaction, its first token with this
    /// [text](crate::domain::catalog::polling::token_text).
    ///
    /// # Errors
    /// Those of [`Store::create_polling_endpoint`].
    pub async fn create_polling_endpoint_with(
        &self,
        tenant: &Tenant,
        app: AppId,
        spec: PollingEndpointSpec,
        token: Option<&Zeroizing<String>>,
        now: Time,
    ) -> Result<PollingEndpoint, StoreError> {
        self.retry_conflicts(|| async {
            let made = PollingEndpoint {
                id: PollingEndpointId::new(now),
                app_id: app,
                spec: spec.clone(),
                created_at: now,
                updated_at: now,
            };
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &made.id.to_string()).await?;
            // Locked, so concurrent requests count each other.
            if !applications::lock_application(&mut tx, tenant, app).await? {
                return Err(StoreError::Invalid(vec![Invalid::new("app_id", "there is no such application")]));
            }
            const COUNT: &str = "SELECT count(*) FROM polling_endpoint WHERE app_id = $1";
            let count: i64 = on!(tx, db => sqlx::query_scalar(COUNT).bind(app).fetch_one(db).await)?;
            if count >= limits::POLLING_ENDPOINTS as i64 {
                let reason =
                    format!("the application has reached its limit of {} polling endpoints", limits::POLLING_ENDPOINTS);
                return Err(StoreError::Invalid(vec![Invalid::new("type", reason)]));
            }
            const SQL: &str = "INSERT INTO polling_endpoint
                     (id, app_id, uid, disabled, event_types, channels, metadata, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            self.write_polling_endpoint(&mut tx, SQL, tenant, &made).await?;
            self.audit_polling_endpoint(&mut tx, tenant, &made, action::POLLING_ENDPOINT_CREATED, now).await?;
            if let Some(text) = token {
                let (token, text) = PollingToken::with_text(tenant.org.clone(), &made, None, text.clone(), now);
                self.insert_polling_token(&mut tx, tenant, &made, &token, &api_key::hash(&text)).await?;
            }
            tx.commit().await?;
            Ok(made)
        })
        .await
    }

    /// Updates the polling endpoint to the result of `work`. The row is locked meanwhile, so no concurrent update is
    /// lost.
    ///
    /// # Errors
    /// The uid is taken, an event type is not in the catalog, or the store is unavailable.
    pub async fn update_polling_endpoint<E>(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: PollingEndpointId,
        work: impl Fn(&PollingEndpoint) -> Result<PollingEndpointSpec, E>,
        now: Time,
    ) -> Result<UpdateResult<PollingEndpoint, E>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, app).await? {
                return Ok(UpdateResult::NotFound);
            }
            let sql = format!("SELECT {COLUMNS} FROM polling_endpoint WHERE app_id = $1 AND id = $2");
            let sql = sqlx::AssertSqlSafe(sql);
            let row: Option<Row> = on!(tx, db => sqlx::query_as(sql).bind(app).bind(id).fetch_optional(db).await)?;
            let Some(before) = row.map(Row::polling_endpoint).transpose()? else { return Ok(UpdateResult::NotFound) };
            let spec = match work(&before) {
                Ok(spec) => spec,
                Err(refused) => return Ok(UpdateResult::Aborted(refused)),
            };
            let enabled = before.spec.disabled && !spec.disabled;
            let after = PollingEndpoint { spec, updated_at: now, ..before };
            const SQL: &str = "UPDATE polling_endpoint SET uid = $3, disabled = $4, event_types = $5, channels = $6,
                     metadata = $7, created_at = $8, updated_at = $9
                 WHERE id = $1 AND app_id = $2";
            self.write_polling_endpoint(&mut tx, SQL, tenant, &after).await?;
            if enabled {
                silent_consumers::watch_again(&mut tx, after.id).await?;
            }
            self.audit_polling_endpoint(&mut tx, tenant, &after, action::POLLING_ENDPOINT_CHANGED, now).await?;
            tx.commit().await?;
            Ok(UpdateResult::Updated(after))
        })
        .await
    }

    async fn write_polling_endpoint(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
    ) -> Result<(), StoreError> {
        let spec = &endpoint.spec;
        let FeedFilter { event_types, channels } = &spec.filter;
        check_event_types(tx, &tenant.org, endpoint.app_id, event_types.as_deref()).await?;
        let event_types = event_types.as_ref().map(codec::json).transpose()?;
        let channels = channels.as_ref().map(codec::json).transpose()?;
        let metadata = codec::json(&spec.metadata)?;
        let done = on!(tx, db => {
            sqlx::query(sql)
                .bind(endpoint.id).bind(endpoint.app_id).bind(&spec.uid).bind(spec.disabled)
                .bind(event_types).bind(channels).bind(metadata)
                .bind(endpoint.created_at).bind(endpoint.updated_at)
                .execute(db).await.map(drop)
        });
        done.map_err(|error| match (&spec.uid, is_taken(&error)) {
            (Some(uid), true) => StoreError::Taken(format!("the polling endpoint uid {uid}")),
            _ => error.into(),
        })
    }

    pub(in crate::store) async fn audit_polling_endpoint(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        act: &'static str,
        now: Time,
    ) -> Result<(), StoreError> {
        let target = endpoint.id.to_string();
        let uid = endpoint.spec.uid.as_ref().map_or("", |uid| uid.as_str());
        self.audit(tx, NewAuditEntry::of(&tenant.org, act, &target).within(endpoint.app_id).with(uid), now).await
    }

    /// The polling endpoint, if the tenant's application has it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn polling_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        named: &PollingEndpointRef,
    ) -> Result<Option<PollingEndpoint>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        let column = match named {
            PollingEndpointRef::Id(_) => "id",
            PollingEndpointRef::Uid(_) => "uid",
        };
        let sql = format!("SELECT {COLUMNS} FROM polling_endpoint WHERE app_id = $1 AND {OWNED} AND {column} = $3");
        let sql = sqlx::AssertSqlSafe(sql);
        let row: Option<Row> = read!(self, db => match named {
            PollingEndpointRef::Id(id) => sqlx::query_as(sql).bind(app).bind(org).bind(id).fetch_optional(db).await,
            PollingEndpointRef::Uid(uid) => sqlx::query_as(sql).bind(app).bind(org).bind(uid).fetch_optional(db).await,
        })?;
        row.map(Row::polling_endpoint).transpose()
    }

    /// The polling endpoints of the tenant's application, by id.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn polling_endpoints(
        &self,
        tenant: &Tenant,
        app: AppId,
        page: &PageRequest<PollingEndpointId>,
    ) -> Result<Page<PollingEndpoint>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Page { data: Vec::new(), more: false }) };
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM polling_endpoint WHERE app_id = $1 AND {OWNED} AND id {compare} $3
             ORDER BY id {direction} LIMIT $4"
        ));
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(app).bind(org).bind(page.bound()).bind(page.rows()).fetch_all(db).await
        })?;
        let found: Result<Vec<_>, _> = rows.into_iter().map(Row::polling_endpoint).collect();
        Ok(page.page(found?))
    }

    /// Deletes a polling endpoint with its consumers and tokens. `false` if the tenant's application does not have it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_polling_endpoint(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            if !applications::lock_application(&mut tx, tenant, endpoint.app_id).await? {
                return Ok(false);
            }
            let mut deleted = 0;
            for sql in [
                "DELETE FROM polling_consumer WHERE app_id = $1 AND polling_endpoint_id = $2",
                "DELETE FROM polling_token WHERE app_id = $1 AND polling_endpoint_id = $2",
                "DELETE FROM polling_endpoint WHERE app_id = $1 AND id = $2",
            ] {
                deleted = on!(tx, db => {
                    sqlx::query(sql).bind(endpoint.app_id).bind(endpoint.id)
                        .execute(db).await.map(|done| done.rows_affected())
                })?;
            }
            if deleted > 0 {
                self.audit_polling_endpoint(&mut tx, tenant, endpoint, action::POLLING_ENDPOINT_DELETED, now).await?;
            }
            tx.commit().await?;
            Ok(deleted > 0)
        })
        .await
    }
}

/// Deletes the polling endpoints, consumers and tokens of an application that is being deleted.
pub(in crate::store) async fn delete_of_application(tx: &mut Tx, app: AppId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM polling_consumer WHERE app_id = $1",
        "DELETE FROM polling_token WHERE app_id = $1",
        "DELETE FROM autoconfig WHERE app_id = $1",
        "DELETE FROM polling_endpoint WHERE app_id = $1",
    ] {
        on!(tx, db => sqlx::query(sql).bind(app).execute(db).await.map(drop))?;
    }
    Ok(())
}
