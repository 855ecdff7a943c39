//! Inserting the deliveries of newly accepted messages into the queue: one row of `due` per message and endpoint.

use uuid::Uuid;

use crate::domain::deliveries::message::Message;
use crate::store::db::sqlite;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::ordering;
use crate::store::queue::signals::Admission;
use crate::store::{StoreError, Tx};

/// The beginning of every statement that inserts pending deliveries.
pub(in crate::store) const INSERT_DUE: &str = "INSERT INTO due
     (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger, seq)";
/// Maximum rows per statement.
const CHUNK: usize = 2_000;

/// A delivery of a newly accepted message.
struct NewDelivery<'m> {
    message: &'m Message,
    endpoint: Uuid,
    slot: u8,
    /// Its position in the order of an ordered endpoint.
    seq: Option<i64>,
}

/// Inserts a fresh delivery for each message and endpoint. It is due at the message's `deliver_at`, or at once.
/// Deliveries to ordered endpoints get their sequence numbers here.
pub(in crate::store) async fn insert(tx: &mut Tx, admissions: &mut [Admission]) -> Result<(), StoreError> {
    let is_ordered = |live: &LiveEndpoint| live.endpoint.spec.ordered;
    if admissions.iter().any(|admission| admission.endpoints.iter().any(|live| is_ordered(live))) {
        ordering::number_accepted(tx, admissions).await?;
    }
    let deliveries = admissions.iter().flat_map(|admission| {
        admission.endpoints.iter().map(|live| NewDelivery {
            message: &admission.message,
            endpoint: live.endpoint.id.0,
            slot: live.slot,
            seq: if is_ordered(live) { admission.seqs.get(&live.endpoint.id).copied() } else { None },
        })
    });
    let (ordered, usual): (Vec<NewDelivery<'_>>, Vec<NewDelivery<'_>>) = deliveries.partition(|one| one.seq.is_some());
    for rows in usual.chunks(CHUNK).chain(ordered.chunks(CHUNK)) {
        match tx {
            Tx::Sqlite(tx) => insert_sqlite(tx, rows).await?,
            Tx::Postgres(tx) => insert_postgres(tx, rows).await?,
        }
    }
    Ok(())
}

/// Either all `rows` have a `seq` or none has.
async fn insert_sqlite(connection: &mut sqlx::SqliteConnection, rows: &[NewDelivery<'_>]) -> Result<(), StoreError> {
    // Time and slot are packed into one integer: a JSON array per row would cost more than the insert.
    const SELECT: &str =
        "SELECT substr($1, key * 48 + 1, 16), substr($1, key * 48 + 17, 16), substr($1, key * 48 + 33, 16)";
    const UNNUMBERED: &str = ", value & 255, 0, value >> 8, 0, 0, 0, 0, NULL FROM json_each($2)";
    const NUMBERED: &str = ", json_extract(value, '$[0]') & 255, 0, json_extract(value, '$[0]') >> 8, 0, 0, 0, 0,
             json_extract(value, '$[1]') FROM json_each($2)";
    let mut packed = sqlite::Packed::default();
    let mut numbered = false;
    for row in rows {
        let ids = [row.message.id.0.as_bytes(), row.endpoint.as_bytes(), row.message.app_id.0.as_bytes()];
        let due_and_slot = (row.message.first_due().micros() << 8) | i64::from(row.slot);
        match row.seq {
            Some(seq) => packed.push(&ids.map(|id| &id[..]), &(due_and_slot, seq))?,
            None => packed.push(&ids.map(|id| &id[..]), &due_and_slot)?,
        }
        numbered = row.seq.is_some();
    }
    let (ids, list) = packed.values()?;
    let insert = INSERT_DUE.replacen("INSERT", "INSERT OR FAIL", 1);
    let sql = format!("{insert} {SELECT}{}", if numbered { NUMBERED } else { UNNUMBERED });
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).bind(list).execute(connection).await?;
    Ok(())
}

async fn insert_postgres(connection: &mut sqlx::PgConnection, rows: &[NewDelivery<'_>]) -> Result<(), StoreError> {
    const ROWS: &str = "SELECT m, e, a, s, 0, d, 0, 0, 0, 0, n
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[])
             AS new (m, e, a, s, d, n)";
    sqlx::query(sqlx::AssertSqlSafe(format!("{INSERT_DUE} {ROWS}")))
        .bind(rows.iter().map(|row| row.message.id.0).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| row.endpoint).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| row.message.app_id.0).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| i16::from(row.slot)).collect::<Vec<i16>>())
        .bind(rows.iter().map(|row| row.message.first_due().micros()).collect::<Vec<i64>>())
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<Option<i64>>>())
        .execute(connection)
        .await?;
    Ok(())
}
