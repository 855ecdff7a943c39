//! Contents that go before their messages do: deleted by somebody, or past the time for which they were to be kept. The message stays
//! to be seen; what of it still waited to be sent is dead.
//!
//! A message's content is its payload; an attempt's is what the receiver answered.

use crate::domain::access::audit::act;
use crate::domain::deliveries::attempt::EXPUNGED;
use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::access::audit::Deed;
use crate::store::db::{codec, sqlite};
use crate::store::queue::dead::{self, Ended, Ending, end_pending};
use crate::store::queue::signals::Signal;
use crate::store::recording::{operational, operational_event};
use crate::store::{Store, StoreError, Tenant, Tx, on};

/// How many contents one step of [`Store::expire_contents`] takes.
const STEP: i64 = 200;

impl Store {
    /// Deletes a message's payload and ends what of it is pending. An attempt that is in flight is recorded and changes nothing of
    /// this. `false` if the tenant's application has no such message; one without content is as good. `now` is when they end.
    ///
    /// # Errors
    /// The store is away.
    pub async fn delete_content(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.repeated(|| async {
            if !tenant.sees(app) {
                return Ok(false);
            }
            const SQL: &str = "UPDATE message SET payload = NULL, content_until = NULL WHERE id = $1 AND app_id = $2
                 AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)";
            let mut tx = self.begin().await?;
            let found = on!(tx, db => {
                sqlx::query(SQL).bind(message).bind(app).bind(&tenant.org).execute(db).await.map(|done| done.rows_affected())
            })?;
            if found == 0 {
                return Ok(false);
            }
            let ended = end_pending(&mut tx, Ending::Messages(&[message]), DeadReason::ContentDeleted, now).await?;
            let thing = message.to_string();
            self.note(&mut tx, Deed::of(&tenant.org, act::CONTENT_DELETED, &thing).within(app), now).await?;
            tx.commit().await?;
            self.ended(&ended);
            Ok(true)
        })
        .await
    }

    /// Deletes what a receiver answered to an attempt: body and headers. `false` if the tenant's application has no such attempt.
    ///
    /// # Errors
    /// The store is away.
    pub async fn delete_attempt_content(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        attempt: AttemptId,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.repeated(|| async {
            if !tenant.sees(app) {
                return Ok(false);
            }
            const SQL: &str = "UPDATE attempt SET response_headers = '', response_body = $5
             WHERE message_id = $2 AND id = $1 AND app_id = $3
                 AND EXISTS (SELECT 1 FROM application WHERE id = $3 AND org = $4 AND deleted_at IS NULL)";
            let mut tx = self.begin().await?;
            let changed = on!(tx, db => {
                sqlx::query(SQL)
                    .bind(attempt).bind(message).bind(app).bind(&tenant.org).bind(EXPUNGED.as_bytes())
                    .execute(db).await.map(|done| done.rows_affected())
            })?;
            if changed > 0 {
                let (thing, detail) = (message.to_string(), format!("of {attempt}"));
                let deleted = Deed::of(&tenant.org, act::CONTENT_DELETED, &thing).within(app).with(&detail);
                self.note(&mut tx, deleted, now).await?;
            }
            tx.commit().await?;
            Ok(changed > 0)
        })
        .await
    }

    /// Deletes up to a step's worth of the contents that were to be kept until `now` at most. Gives back how many went: fewer than
    /// [`Store::CONTENTS_STEP`] means that none is left.
    ///
    /// # Errors
    /// The store is away.
    pub async fn expire_contents(&self, now: Time) -> Result<u64, StoreError> {
        self.repeated(|| async {
            const SQL: &str = "UPDATE message SET payload = NULL, content_until = NULL
             WHERE content_until <= $1 AND id IN
                 (SELECT id FROM message WHERE content_until <= $1 ORDER BY content_until LIMIT $2)
             RETURNING id";
            let mut tx = self.begin().await?;
            let gone: Vec<MessageId> = on!(tx, db => sqlx::query_scalar(SQL).bind(now).bind(STEP).fetch_all(db).await)?;
            let ended = end_pending(&mut tx, Ending::Messages(&gone), DeadReason::ContentDeleted, now).await?;
            let happened = operational_event::of_unsent(&ended, now);
            let told = operational::tell(&self.inner, &mut tx, happened).await?;
            tx.commit().await?;
            self.ended(&ended);
            operational::admit(&self.inner, told);
            Ok(gone.len() as u64)
        })
        .await
    }

    /// Ends what is pending of those of `messages` that have no content: background work may make a delivery pending at the moment
    /// in which another process deletes the content, and sees it still. Gives back how many deliveries ended. Waits for deletions of these
    /// contents that are not committed yet.
    ///
    /// # Errors
    /// The store is away.
    pub async fn end_without_content(&self, messages: &[MessageId], now: Time) -> Result<u64, StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let gone = without_content(&mut tx, messages).await?;
            let ended = end_pending(&mut tx, Ending::Messages(&gone), DeadReason::ContentDeleted, now).await?;
            tx.commit().await?;
            dead::count(DeadReason::ContentDeleted, &ended);
            Ok(ended.len() as u64)
        })
        .await
    }

    /// How many contents a step of [`Store::expire_contents`] takes when there are enough.
    pub const CONTENTS_STEP: u64 = STEP as u64;

    /// After the commit: counts what ended without its content, and tells the engine.
    fn ended(&self, ended: &[Ended]) {
        dead::count(DeadReason::ContentDeleted, ended);
        self.withdraw(ended.iter().map(|one| (one.endpoint_id, one.message_id)).collect());
    }

    /// Tells the engine of this process not to send what it has queued of these.
    pub(in crate::store) fn withdraw(&self, ended: Vec<(EndpointId, MessageId)>) {
        if !ended.is_empty() {
            self.inner.signals.send(Signal::Withdrawn(ended));
        }
    }
}

/// Those of `messages` that have no content, sorted. The others keep theirs until `tx` ends: their rows are locked. So a delivery of theirs that `tx`
/// makes pending is seen by whatever deletes the content afterwards.
pub(in crate::store) async fn without_content(
    tx: &mut Tx,
    messages: &[MessageId],
) -> Result<Vec<MessageId>, StoreError> {
    let mut gone: Vec<MessageId> = match tx {
        Tx::Sqlite(tx) => {
            // Nobody else writes.
            const SQL: &str =
                "SELECT id FROM message WHERE payload IS NULL AND id IN (SELECT unhex(value) FROM json_each($1))";
            sqlx::query_scalar(SQL).bind(sqlite::id_list(codec::uuids(messages))).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            // A condition on the payload would pass over rows whose deletion is not committed: locked first, each is read as it is then.
            const SQL: &str = "WITH locked AS MATERIALIZED (SELECT id, payload IS NULL AS gone FROM message
                     WHERE id = ANY($1) AND id BETWEEN $2 AND $3 ORDER BY id FOR SHARE)
                 SELECT id FROM locked WHERE gone";
            let (ids, least, greatest) = codec::bounded(messages);
            sqlx::query_scalar(SQL).bind(ids).bind(least).bind(greatest).fetch_all(&mut **tx).await?
        }
    };
    gone.sort_unstable();
    Ok(gone)
}
