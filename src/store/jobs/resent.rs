//! The deliveries that background work made pending, so that people can see their outcome. The first [`MOST`] of each work are noted.

use crate::domain::{BackgroundId, EndpointId, MessageId};
use crate::store::db::{codec, sqlite};
use crate::store::{StoreError, Tx, on};

/// How many deliveries of one background work are noted.
pub const MOST: i64 = 10_000;

/// Notes that the work made the deliveries of `messages` at an endpoint pending; `before` is how many it had made pending until then.
pub(super) async fn note(
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

/// Forgets what was noted of the work: at most [`MOST`] rows and those of its last step.
pub(super) async fn forget(tx: &mut Tx, work: BackgroundId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM resent WHERE work_id = $1";
    Ok(on!(tx, db => sqlx::query(SQL).bind(work).execute(db).await.map(drop))?)
}
