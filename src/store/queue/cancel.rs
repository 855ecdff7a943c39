//! Canceling a pending delivery on request.

use crate::domain::access::audit::action;
use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::{AppId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::query::delivery_list::DeliveryKey;
use crate::store::queue::dead::{self, PendingFilter};
use crate::store::{Store, StoreError, Tenant, on};

impl Store {
    /// Cancels a pending delivery: it becomes dead with the reason *canceled*, and can be resent. An attempt in
    /// flight is recorded but does not change the delivery. `false` if the tenant's application has no such delivery
    /// or it is not pending.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn cancel(&self, tenant: &Tenant, app: AppId, key: DeliveryKey, now: Time) -> Result<bool, StoreError> {
        let (message, endpoint) = key;
        self.retry_conflicts(|| async {
            let Some(org) = tenant.org_of(app) else { return Ok(false) };
            const OWNED: &str = "SELECT 1 FROM application WHERE id = $1 AND org = $2 AND deleted_at IS NULL";
            let mut tx = self.begin().await?;
            let owned: Option<i32> =
                on!(tx, db => sqlx::query_scalar(OWNED).bind(app).bind(org).fetch_optional(db).await)?;
            if owned.is_none() {
                return Ok(false);
            }
            let ended =
                dead::end_pending(&mut tx, PendingFilter::One(app, message, endpoint), DeadReason::Canceled, now)
                    .await?;
            if ended.is_empty() {
                return Ok(false);
            }
            let (target, detail) = (message.to_string(), format!("to {endpoint}"));
            let entry =
                NewAuditEntry { org, app: Some(app), act: action::DELIVERY_CANCELED, target: &target, detail: &detail };
            self.commit_audited(tx, entry, now).await?;
            dead::count(DeadReason::Canceled, &ended);
            self.withdraw(vec![(endpoint, message)]);
            Ok(true)
        })
        .await
    }
}
