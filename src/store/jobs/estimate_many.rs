//! Estimating many endpoints with few round trips to PostgreSQL: one statement finds the endpoints, one their sizes,
//! and one reads as many deliveries as fit into a chunk. On SQLite each endpoint has its own statement.

use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

use crate::domain::{EndpointId, OrgId};
use crate::store::db::codec;
use crate::store::jobs::endpoint_cursor::ScopedEndpoint;
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::{Store, StoreError};

/// Maximum endpoints counted together.
pub(super) const MANY: usize = 64;
/// Maximum deliveries read for all of them.
const ROWS: i64 = 20_000;
/// Maximum deliveries of one endpoint; a larger one is counted separately.
const DEEP: i64 = 1_000;

/// For a list of endpoints the planner has only average statistics. Without these settings it may read all deliveries
/// of an endpoint before the first few. They last until the end of the transaction.
const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";

/// The counts of the first of several endpoints.
pub(super) struct BatchEstimate {
    /// Number of endpoints counted; 0: the first is too large.
    pub endpoints: usize,
    /// Matching deliveries.
    pub found: i64,
}

/// Counts deliveries that match `filter` and still have content, for as many of the first `endpoints` as fit.
pub(super) async fn count_sent(
    connection: &mut PgConnection,
    org: &OrgId,
    filter: &EndpointMessageFilter,
    endpoints: &[ScopedEndpoint],
) -> Result<BatchEstimate, StoreError> {
    connection.execute(SETTINGS).await?;
    let sizes = sizes(connection, filter, endpoints).await?;
    let mut rows = 0;
    let fits = |size: &&i64| {
        rows += **size;
        **size < DEEP && rows <= ROWS
    };
    let fitting = sizes.iter().take_while(fits).count();
    let mut counted = BatchEstimate { endpoints: fitting, found: 0 };
    if fitting == 0 {
        return Ok(counted);
    }
    let (ids, apps, slots) = columns(&endpoints[..fitting]);
    let (first, end) = filter.ids();
    // The statement for one endpoint, with columns of the list instead of its parameters.
    let one = filter.sql_of_states(Store::POSTGRES);
    let places = [("$1", "lane.id"), ("$2", "lane.app"), ("$8", "lane.slot"), ("$7", "$8")];
    let one = places.iter().fold(one, |sql, (place, column)| sql.replace(place, column));
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT sent.* FROM UNNEST($1::uuid[], $2::uuid[], $7::smallint[]) AS lane (id, app, slot), LATERAL ({one}) AS sent"
    ));
    let rows: Vec<EndpointDeliveryRow> = sqlx::query_as(sql)
        .bind(ids)
        .bind(apps)
        .bind(org)
        .bind(Uuid::nil())
        .bind(first)
        .bind(end)
        .bind(slots)
        .bind(DEEP)
        .fetch_all(connection)
        .await?;
    for row in &rows {
        counted.found += i64::from(row.content && filter.takes(row)?);
    }
    Ok(counted)
}

/// The deliveries of each endpoint in the filter's time range, counted up to [`DEEP`].
async fn sizes(
    connection: &mut PgConnection,
    filter: &EndpointMessageFilter,
    endpoints: &[ScopedEndpoint],
) -> Result<Vec<i64>, StoreError> {
    const SQL: &str = "SELECT (SELECT count(*) FROM (SELECT message_id FROM delivery
             WHERE endpoint_id = lane.id AND slot IN (-1, lane.slot) AND message_id >= $3 AND message_id < $4
             ORDER BY message_id LIMIT $5) AS counted)
         FROM UNNEST($1::uuid[], $2::smallint[]) WITH ORDINALITY AS lane (id, slot, place) ORDER BY lane.place";
    let (ids, _, slots) = columns(endpoints);
    let (first, end) = filter.ids();
    let query = sqlx::query_scalar(SQL).bind(ids).bind(slots).bind(first).bind(end).bind(DEEP);
    Ok(query.fetch_all(connection).await?)
}

fn columns(endpoints: &[ScopedEndpoint]) -> (Vec<Uuid>, Vec<Uuid>, Vec<i16>) {
    let ids: Vec<EndpointId> = endpoints.iter().map(|reached| reached.endpoint.id).collect();
    let apps = endpoints.iter().map(|reached| reached.endpoint.app_id.0).collect();
    (codec::uuids(&ids), apps, endpoints.iter().map(|reached| i16::from(reached.slot)).collect())
}
