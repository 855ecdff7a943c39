//! Updating endpoints: all fields if nothing changed concurrently, or only the custom headers.
//! [`change`](crate::store::catalog::change) retries the former after a conflict.

use crate::domain::access::audit::action;
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec, HeaderChange, check_headers};
use crate::domain::notifications::operational::{DisabledBy, OperationalKind};
use crate::domain::{AppId, EndpointId, Time};
use crate::store::catalog::endpoints::{check_event_types, endpoint_event};
use crate::store::db::codec;
use crate::store::queue::ordering;
use crate::store::recording::operational_event::EventDetail;
use crate::store::{Store, StoreError, Tenant, on};

/// The result of an optimistic update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptimisticUpdate {
    /// Updated to this endpoint.
    Updated(Box<Endpoint>),
    /// Changed concurrently by a caller or by the engine. Nothing was updated.
    Stale,
    /// The tenant's application does not have it.
    NotFound,
}

impl Store {
    /// Replaces an endpoint's fields with `spec`, only if it still equals `before`. Its secrets stay.
    ///
    /// # Errors
    /// The uid is taken, an event type is not in the catalog, or the store is unavailable.
    pub async fn update_endpoint(
        &self,
        tenant: &Tenant,
        before: &Endpoint,
        spec: EndpointSpec,
        now: Time,
    ) -> Result<OptimisticUpdate, StoreError> {
        self.retry_conflicts(|| async {
            let app = before.app_id;
            let mut tx = self.begin().await?;
            let Some(found) = self.locked_endpoint(&mut tx, tenant, app, before.id).await? else { return Ok(OptimisticUpdate::NotFound) };
            if found != *before {
                return Ok(OptimisticUpdate::Stale);
            }
            let before = found;
            let reason = match (spec.disabled, before.disabled_reason) {
                (false, _) => None,
                (true, known) => Some(known.unwrap_or(DisabledReason::Manual)),
            };
            let act = match (before.spec.disabled, spec.disabled) {
                (false, true) => action::ENDPOINT_DISABLED,
                (true, false) => action::ENDPOINT_ENABLED,
                _ => action::ENDPOINT_CHANGED,
            };
            let (ordered, turned_off) = (before.spec.ordered, spec.disabled && !before.spec.disabled);
            let endpoint = Endpoint { spec: spec.clone(), disabled_reason: reason, updated_at: now, ..before };
            let mut what = vec![endpoint_event(OperationalKind::EndpointUpdated, &endpoint)];
            if turned_off {
                let uid = endpoint.spec.uid.clone();
                what.push(EventDetail::Disabled { endpoint: endpoint.id, by: DisabledBy::Manual, uid, fail_since: None });
            }
            check_event_types(&mut tx, &tenant.org, app, endpoint.spec.event_types.as_deref()).await?;
            const SQL: &str = "UPDATE endpoint SET created_at = $3, updated_at = $4, uid = $5, url = $6, description = $7,
                     disabled = $8, disabled_reason = $9, event_types = $10, channels = $11, throttle_rate = $12,
                     timeout_s = $13, retry_schedule = $14, signature_type = $15, extra_signatures = $16, headers = $17,
                     metadata = $18, ordered = $19, api_version = $20, chat = $21, disabled_at = CASE WHEN NOT $8 THEN NULL WHEN disabled THEN disabled_at ELSE $4 END,
                     failing_since = CASE WHEN disabled AND NOT $8 THEN NULL ELSE failing_since END,
                     rests_until = CASE WHEN disabled AND NOT $8 THEN NULL ELSE rests_until END,
                     warned = CASE WHEN disabled AND NOT $8 THEN 0 ELSE warned END,
                     warned_at = CASE WHEN disabled AND NOT $8 THEN NULL ELSE warned_at END,
                     version = (SELECT p.version FROM application p WHERE p.id = endpoint.app_id)
                 WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL";
            self.write_endpoint(&mut tx, SQL, &endpoint, None).await?;
            ordering::prepare_endpoint(&mut tx, &endpoint, Some(ordered)).await?;
            self.audit_endpoint(&mut tx, tenant, &endpoint, act, "", now).await?;
            self.commit_endpoint_change(tx, tenant, &endpoint, what, now).await?;
            Ok(OptimisticUpdate::Updated(Box::new(endpoint)))
        })
        .await
    }

    /// Changes only an endpoint's custom headers. `false` if the tenant's application does not have it.
    ///
    /// # Errors
    /// The resulting headers are not valid, or the store is unavailable.
    pub async fn change_headers(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
        change: &HeaderChange,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let Some(before) = self.locked_endpoint(&mut tx, tenant, app, id).await? else { return Ok(false) };
            let headers = change.apply(&before.spec.headers);
            check_headers(&headers).map_err(StoreError::Invalid)?;
            let sealed = codec::seal_headers(&self.inner.master, id, &headers)?;
            const SQL: &str = "UPDATE endpoint SET headers = $3, updated_at = $4,
             version = (SELECT p.version FROM application p WHERE p.id = endpoint.app_id)
             WHERE id = $1 AND app_id = $2";
            on!(tx, db => sqlx::query(SQL).bind(id).bind(app).bind(sealed).bind(now).execute(db).await.map(drop))?;
            let what = vec![endpoint_event(OperationalKind::EndpointUpdated, &before)];
            self.audit_endpoint(&mut tx, tenant, &before, action::ENDPOINT_CHANGED, "headers", now).await?;
            self.commit_endpoint_change(tx, tenant, &before, what, now).await?;
            Ok(true)
        })
        .await
    }
}
