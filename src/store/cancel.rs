//! Ending a delivery while it waits, because somebody wants it so.

use super::audit::Deed;
use super::{Store, StoreError, Tenant, on, record};
use crate::domain::audit::act;
use crate::domain::delivery::DeadReason;
use crate::domain::{AppId, EndpointId, MessageId, Time};

impl Store {
    /// Cancels a pending delivery: it is dead, *canceled*, and can be resent. An attempt that is in flight meanwhile is recorded and
    /// changes nothing of this. `false` if the tenant's application has no such delivery, or it is not pending (any more). `now` is
    /// when it ends.
    ///
    /// # Errors
    /// The store is away.
    pub async fn cancel(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        endpoint: EndpointId,
        now: Time,
    ) -> Result<bool, StoreError> {
        if !tenant.sees(app) {
            return Ok(false);
        }
        const SQL: &str = "UPDATE delivery SET state = 3, due_at = $4, reason = $5, generation = generation + 1
             WHERE message_id = $1 AND endpoint_id = $2 AND app_id = $3 AND state <= 1
                 AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $6 AND deleted_at IS NULL)";
        let mut tx = self.begin().await?;
        let ended = on!(tx, db => {
            sqlx::query(SQL)
                .bind(message).bind(endpoint).bind(app).bind(now).bind(DeadReason::Canceled.word()).bind(&tenant.org)
                .execute(db).await.map(|done| done.rows_affected())
        })?;
        if ended == 0 {
            return Ok(false);
        }
        let (thing, detail) = (message.to_string(), format!("to {endpoint}"));
        let deed =
            Deed { org: &tenant.org, app: Some(app), act: act::DELIVERY_CANCELED, thing: &thing, detail: &detail };
        self.note(&mut tx, deed, now).await?;
        tx.commit().await?;
        record::count_dead(DeadReason::Canceled, 1);
        self.withdraw(vec![(endpoint, message)]);
        Ok(true)
    }
}
