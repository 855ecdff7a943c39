//! Messages that carry something that most don't: tags, a content type of their own, a time to be sent at, an end of their content.
//! They are inserted by a statement of their own, so that nobody else pays for these columns.

use super::signals::Admission;
use super::{StoreError, Tx, codec, sqlite};
use crate::domain::Time;
use crate::domain::message::Message;

/// A message, and its channels and tags as columns.
type Row<'m> = (&'m Message, Option<String>, Option<String>);

/// Inserts the special ones among the messages of `admissions`.
pub(super) async fn insert(tx: &mut Tx, admissions: &[Admission]) -> Result<(), StoreError> {
    let special = admissions.iter().map(|admission| &*admission.message).filter(|message| message.is_special());
    let mut rows: Vec<Row<'_>> = Vec::new();
    for message in special {
        rows.push((message, codec::list_or_null(&message.channels)?, codec::list_or_null(&message.tags)?));
    }
    if rows.is_empty() {
        return Ok(());
    }
    match tx {
        Tx::Sqlite(tx) => {
            let head = "INSERT INTO message (id, app_id, event_type, event_id, channels, tags, payload, raw_type,
                 occurred_at, accepted_at, deliver_at, content_until) ";
            sqlite::insert(tx, head, 12, &rows, |mut row, (message, channels, tags)| {
                row.push_bind(message.id.0)
                    .push_bind(message.app_id.0)
                    .push_bind(message.event_type.clone())
                    .push_bind(message.event_id.clone())
                    .push_bind(channels.clone())
                    .push_bind(tags.clone())
                    .push_bind(message.payload.as_ref().map(|payload| payload.to_vec()))
                    .push_bind(message.raw_type.clone())
                    .push_bind(message.occurred_at)
                    .push_bind(message.accepted_at)
                    .push_bind(message.deliver_at)
                    .push_bind(message.content_until);
            })
            .await
        }
        Tx::Postgres(tx) => {
            fn column<'r, T>(rows: &'r [Row<'_>], of: impl Fn(&'r Row<'_>) -> T) -> Vec<T> {
                rows.iter().map(of).collect()
            }
            sqlx::query(
                "INSERT INTO message (id, app_id, event_type, event_id, channels, tags, payload, raw_type,
                     occurred_at, accepted_at, deliver_at, content_until)
                 SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[],
                                      $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])",
            )
            .bind(column(&rows, |row| row.0.id.0))
            .bind(column(&rows, |row| row.0.app_id.0))
            .bind(column(&rows, |row| row.0.event_type.as_str()))
            .bind(column(&rows, |row| row.0.event_id.as_ref().map(|id| id.as_str())))
            .bind(column(&rows, |row| row.1.as_deref()))
            .bind(column(&rows, |row| row.2.as_deref()))
            .bind(column(&rows, |row| row.0.payload.as_deref()))
            .bind(column(&rows, |row| row.0.raw_type.as_deref()))
            .bind(column(&rows, |row| row.0.occurred_at.micros()))
            .bind(column(&rows, |row| row.0.accepted_at.micros()))
            .bind(column(&rows, |row| row.0.deliver_at.map(Time::micros)))
            .bind(column(&rows, |row| row.0.content_until.map(Time::micros)))
            .execute(&mut **tx)
            .await?;
            Ok(())
        }
    }
}
