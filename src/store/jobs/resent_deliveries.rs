//! The deliveries queued by a background task, recorded so their outcome can be listed. Only the first [`MOST`] of each
//! task are recorded.

use crate::domain::{BackgroundId, EndpointId, MessageId};
use crate::store::db::{codec, sqlite};
use crate::store::{StoreError, Tx, on};

/// Maximum recorded deliveries per task.
pub const MOST: i64 = 10_000;

/// Records that the task queued deliveries of `messages` to an endpoint. `before` is the number it had queued before.
pub(super) async fn record(
    tx: &mut Tx,
    work: BackgroundId,
    endpoint: EndpointId,
    messages: &[MessageId],
    before: i64,
) -> Result<(), StoreError> {
    let room = usize::try_from(MOST - before).unwrap_or_default();
    let messages = &messages[..messages.len().min(room)];
    match tx {
        _ if messages.is_empty() => {}
        Tx::Sqlite(tx) => {
            const SQL: &str = "INSERT INTO resent (work_id, message_id, endpoint_id)
                 SELECT $1, unhex(value), $2 FROM json_each($3) WHERE true ON CONFLICT DO NOTHING";
            let list = sqlite::id_list(codec::uuids(messages));
            sqlx::query(SQL).bind(work).bind(endpoint).bind(list).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "INSERT INTO resent (work_id, message_id, endpoint_id)
                 SELECT $1, message_id, $2 FROM UNNEST($3::uuid[]) AS new (message_id) ON CONFLICT DO NOTHING";
            sqlx::query(SQL).bind(work).bind(endpoint).bind(codec::uuids(messages)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Deletes the records of a task: at most [`MOST`] rows and those of its last step.
pub(super) async fn delete(tx: &mut Tx, work: BackgroundId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM resent WHERE work_id = $1";
    Ok(on!(tx, db => sqlx::query(SQL).bind(work).execute(db).await.map(drop))?)
}
