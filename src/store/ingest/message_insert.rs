//! The one place that inserts messages. Rare attributes (tags, a content type, a scheduled time, a content lifetime)
//! have their own columns. Messages without them are inserted by a shorter, faster statement.

use uuid::Uuid;

use crate::domain::deliveries::message::Message;
use crate::domain::{OrgId, Time};
use crate::store::db::tx::PgTx;
use crate::store::db::{codec, sqlite};
use crate::store::partitions::PartitionedTable;
use crate::store::{StoreError, Tx};

/// A message to be inserted.
pub(in crate::store) struct NewMessage<'m> {
    pub message: &'m Message,
    pub org: &'m OrgId,
    /// The number of endpoints it goes to.
    pub deliveries: usize,
}

/// A message with its JSON columns encoded.
struct Row<'m> {
    message: &'m Message,
    org: &'m OrgId,
    deliveries: i32,
    channels: Option<String>,
    tags: Option<String>,
}

const USUAL: &str = "id, app_id, org, event_type, event_id, deliveries, channels, payload, occurred_at, accepted_at";
const SPECIAL: &str = ", tags, raw_type, deliver_at, content_until";

/// Inserts `messages`. The caller bounds their number and bytes.
pub(in crate::store) async fn insert(tx: &mut Tx, messages: &[NewMessage<'_>]) -> Result<(), StoreError> {
    let (mut usual, mut special) = (Vec::with_capacity(messages.len()), Vec::new());
    for NewMessage { message, org, deliveries } in messages {
        let deliveries = i32::try_from(*deliveries).unwrap_or(i32::MAX);
        let (channels, tags) = (codec::list_or_null(&message.channels)?, codec::list_or_null(&message.tags)?);
        let rows = if message.is_special() { &mut special } else { &mut usual };
        rows.push(Row { message, org, deliveries, channels, tags });
    }
    for (rows, is_special) in [(usual, false), (special, true)] {
        match tx {
            _ if rows.is_empty() => {}
            Tx::Sqlite(tx) => insert_sqlite(tx, &rows, is_special).await?,
            Tx::Postgres(tx) => insert_postgres(tx, &rows, is_special).await?,
        }
    }
    Ok(())
}

async fn insert_sqlite(
    connection: &mut sqlx::SqliteConnection,
    rows: &[Row<'_>],
    is_special: bool,
) -> Result<(), StoreError> {
    let (more, columns) = if is_special { (SPECIAL, 14) } else { ("", 10) };
    let head = format!("INSERT OR FAIL INTO message ({USUAL}{more}) ");
    sqlite::insert(connection, &head, columns, rows, |mut values, Row { message, org, deliveries, channels, tags }| {
        values
            .push_bind(message.id.0)
            .push_bind(message.app_id.0)
            .push_bind(org.as_str().to_owned())
            .push_bind(message.event_type.clone())
            .push_bind(message.event_id.clone())
            .push_bind(*deliveries)
            .push_bind(channels.clone())
            .push_bind(message.payload.as_ref().map(|payload| payload.to_vec()))
            .push_bind(message.occurred_at)
            .push_bind(message.accepted_at);
        if is_special {
            values
                .push_bind(tags.clone())
                .push_bind(message.raw_type.clone())
                .push_bind(message.deliver_at)
                .push_bind(message.content_until);
        }
    })
    .await
}

async fn insert_postgres(tx: &mut PgTx, rows: &[Row<'_>], is_special: bool) -> Result<(), StoreError> {
    fn column<'r, 'm, T>(rows: &'r [Row<'m>], of: impl Fn(&'r Row<'m>) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let (more, arrays) = match is_special {
        true => (SPECIAL, ", $11::text[], $12::text[], $13::bigint[], $14::bigint[]"),
        false => ("", ""),
    };
    let sql = format!(
        "INSERT INTO message ({USUAL}{more})
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[],
                              $8::bytea[], $9::bigint[], $10::bigint[]{arrays})"
    );
    let (partitions, ids) = (tx.partitions(), column(rows, |row| row.message.id.0));
    if !partitions.cover(PartitionedTable::Message, &ids).await?.is_empty() {
        let reason = "a message is older than the retention period and its partition is being dropped: \
                      check this machine's clock";
        return Err(StoreError::Unavailable(reason.into()));
    }
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(ids)
        .bind(column::<Uuid>(rows, |row| row.message.app_id.0))
        .bind(column(rows, |row| row.org.as_str()))
        .bind(column(rows, |row| row.message.event_type.as_str()))
        .bind(column(rows, |row| row.message.event_id.as_ref().map(|id| id.as_str())))
        .bind(column(rows, |row| row.deliveries))
        .bind(column(rows, |row| row.channels.as_deref()))
        .bind(column(rows, |row| row.message.payload.as_deref()))
        .bind(column(rows, |row| row.message.occurred_at.micros()))
        .bind(column(rows, |row| row.message.accepted_at.micros()));
    if is_special {
        query = query
            .bind(column(rows, |row| row.tags.as_deref()))
            .bind(column(rows, |row| row.message.raw_type.as_deref()))
            .bind(column(rows, |row| row.message.deliver_at.map(Time::micros)))
            .bind(column(rows, |row| row.message.content_until.map(Time::micros)));
    }
    partitions.check_insert(query.execute(&mut **tx).await)?;
    Ok(())
}
