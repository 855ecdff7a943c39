//! Deleting content before its message: on request, or when the content's retention ends. The message stays visible,
//! and its pending deliveries become dead.
//!
//! The content of a message is its payload; that of an attempt is the response.

use crate::domain::access::audit::action;
use crate::domain::deliveries::attempt::EXPUNGED;
use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::{codec, sqlite};
use crate::store::queue::dead::{self, EndedDelivery, PendingFilter, end_pending};
use crate::store::queue::signals::Signal;
use crate::store::recording::{operational, operational_event};
use crate::store::{Store, StoreError, Tenant, Tx, on};

/// Messages per step of [`Store::expire_contents`].
const STEP: i64 = 200;

impl Store {
    /// Deletes a message's payload and ends its pending deliveries. An attempt in flight is still recorded. `false` if
    /// the tenant's application has no such message; repeating the deletion is `true`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_content(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let Some(org) = tenant.org_of(app) else { return Ok(false) };
            const SQL: &str = "UPDATE message SET payload = NULL, content_until = NULL WHERE id = $1 AND app_id = $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)";
            let mut tx = self.begin().await?;
            let found = on!(tx, db => {
                sqlx::query(SQL).bind(message).bind(app).bind(org).execute(db).await.map(|done| done.rows_affected())
            })?;
            if found == 0 {
                return Ok(false);
            }
            let ended =
                end_pending(&mut tx, PendingFilter::Messages(&[message]), DeadReason::ContentDeleted, now).await?;
            let target = message.to_string();
            self.commit_audited(tx, NewAuditEntry::of(org, action::CONTENT_DELETED, &target).within(app), now).await?;
            self.ended(&ended);
            Ok(true)
        })
        .await
    }

    /// Deletes an attempt's response body and headers. `false` if the tenant's application has no such attempt.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_attempt_content(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        attempt: AttemptId,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let Some(org) = tenant.org_of(app) else { return Ok(false) };
            const SQL: &str = "UPDATE attempt SET response_headers = '', response_body = $5
             WHERE message_id = $2 AND id = $1 AND app_id = $3
                 AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL)";
            let mut tx = self.begin().await?;
            let changed = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(attempt).bind(message).bind(app).bind(org).bind(EXPUNGED.as_bytes())
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if changed > 0 {
                let (target, detail) = (message.to_string(), format!("of {attempt}"));
                let deleted = NewAuditEntry::of(org, action::CONTENT_DELETED, &target).within(app).with(&detail);
                self.audit(&mut tx, deleted, now).await?;
            }
            tx.commit().await?;
            Ok(changed > 0)
        })
        .await
    }

    /// Deletes one step of payloads whose retention has ended by `now`. Returns their number; fewer than
    /// [`Store::CONTENTS_STEP`] means none is left.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn expire_contents(&self, now: Time) -> Result<u64, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE message SET payload = NULL, content_until = NULL
             WHERE content_until <= $1 AND id IN
                 (SELECT id FROM message WHERE content_until <= $1 ORDER BY content_until LIMIT $2)
             RETURNING id";
            let mut tx = self.begin().await?;
            let gone: Vec<MessageId> = on!(tx, db => sqlx::query_scalar(SQL).bind(now).bind(STEP).fetch_all(db).await)?;
            let ended = end_pending(&mut tx, PendingFilter::Messages(&gone), DeadReason::ContentDeleted, now).await?;
            let events = operational_event::of_unsent(&ended, now);
            let emitted = operational::emit(&self.inner, &mut tx, events).await?;
            tx.commit().await?;
            self.ended(&ended);
            operational::signal_emitted(&self.inner, emitted);
            Ok(gone.len() as u64)
        })
        .await
    }

    /// Ends the pending deliveries of messages without content: a background task may have queued a delivery while
    /// another process deleted the content. Returns the number of ended deliveries. Waits for uncommitted deletions of
    /// these contents.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn end_without_content(&self, messages: &[MessageId], now: Time) -> Result<u64, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let gone = missing_content(&mut tx, messages).await?;
            let ended = end_pending(&mut tx, PendingFilter::Messages(&gone), DeadReason::ContentDeleted, now).await?;
            tx.commit().await?;
            dead::count(DeadReason::ContentDeleted, &ended);
            Ok(ended.len() as u64)
        })
        .await
    }

    /// Messages per full step of [`Store::expire_contents`].
    pub const CONTENTS_STEP: u64 = STEP as u64;

    /// After the commit: counts the ended deliveries and signals the engine.
    fn ended(&self, ended: &[EndedDelivery]) {
        dead::count(DeadReason::ContentDeleted, ended);
        self.withdraw(ended.iter().map(|one| (one.endpoint_id, one.message_id)).collect());
    }

    /// Tells this process's engine to drop these deliveries from its queues.
    pub(in crate::store) fn withdraw(&self, ended: Vec<(EndpointId, MessageId)>) {
        if !ended.is_empty() {
            self.inner.signals.send(Signal::Withdrawn(ended));
        }
    }
}

/// Those of `messages` without content, sorted. The rows of the others stay locked until the end of `tx`, so a later
/// deletion of their content sees the deliveries that `tx` queues.
pub(in crate::store) async fn missing_content(
    tx: &mut Tx,
    messages: &[MessageId],
) -> Result<Vec<MessageId>, StoreError> {
    let mut gone: Vec<MessageId> = match tx {
        Tx::Sqlite(tx) => {
            // SQLite has one writer, so no lock is needed.
            const SQL: &str =
                "SELECT id FROM message WHERE payload IS NULL AND id IN (SELECT unhex(value) FROM json_each($1))";
            sqlx::query_scalar(SQL).bind(sqlite::id_list(codec::uuids(messages))).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            // A condition on the payload would skip rows with an uncommitted deletion; locking first reads their final
            // state.
            const SQL: &str = "WITH locked AS MATERIALIZED (SELECT id, payload IS NULL AS gone FROM message
                     WHERE id = ANY($1) AND id BETWEEN $2 AND $3 ORDER BY id FOR SHARE)
                 SELECT id FROM locked WHERE gone";
            let (ids, least, greatest) = codec::with_bounds(messages);
            sqlx::query_scalar(SQL).bind(ids).bind(least).bind(greatest).fetch_all(&mut **tx).await?
        }
    };
    gone.sort_unstable();
    Ok(gone)
}
