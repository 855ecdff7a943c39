//! Estimating a background task before it is started: the number of deliveries it would send. Counts in chunks: between
//! two of them, other readers get the connection and the caller can stop.

use uuid::Uuid;

use crate::domain::deliveries::background::{TaskKind, TaskScope};
use crate::domain::{MessageId, OrgId, Time};
use crate::store::jobs::background::{BackgroundSpec, TaskSelection};
use crate::store::jobs::endpoint_cursor::{ScopedEndpoint, TaskPosition};
use crate::store::jobs::estimate_many;
use crate::store::jobs::replay::{EndpointStep, ReplayBudget};
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::{Backend, Store, StoreError, Tenant, Tx, on};

/// Maximum deliveries or messages scanned per chunk.
const CHUNK: usize = 5_000;
/// Maximum endpoints per chunk.
const ENDPOINTS: usize = 20;

/// The result of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstimateChunk {
    /// Deliveries that would be sent.
    pub found: i64,
    /// The position to continue from; `None`: the end.
    pub next: Option<TaskPosition>,
}

impl Store {
    /// Counts one chunk of the deliveries that the task would send, continuing from `from`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn estimate(
        &self,
        tenant: &Tenant,
        spec: &BackgroundSpec,
        from: Option<TaskPosition>,
    ) -> Result<EstimateChunk, StoreError> {
        let mut tally = EstimateChunk { found: 0, next: None };
        // A list is counted by its own statement.
        let TaskSelection::Messages(filter) = &spec.selection else { return Ok(tally) };
        let seen = spec.scope.app().map_or(tenant.only.is_none(), |app| tenant.sees(app));
        if !seen {
            return Ok(tally);
        }
        let _scan = self.scan(tenant).await?;
        let mut tx = self.read_tx().await?;
        let begins = from.is_none_or(|at| at.message.is_max());
        if let (Tx::Postgres(_), true, TaskKind::Recover | TaskKind::BulkReplay) = (&tx, begins, spec.kind)
            && let Some(tally) = self.count_many(&mut tx, tenant, (spec.scope, filter), from).await?
        {
            return Ok(tally);
        }
        let (mut looks, mut place) = (CHUNK, from);
        for _ in 0..ENDPOINTS {
            let begun = match place.filter(|at| !at.message.is_max()) {
                Some(at) => self.endpoint_in(&mut tx, at.app, at.endpoint).await?.map(|reached| (reached, at)),
                None => None,
            };
            let (reached, at) = match begun {
                Some(begun) => begun,
                None => {
                    let from = place.unwrap_or_else(TaskPosition::beginning);
                    let Some(next) = self.endpoint_after(&mut tx, &tenant.org, spec.scope, from).await? else {
                        return Ok(EstimateChunk { next: None, ..tally });
                    };
                    let at = TaskPosition::before(&next.endpoint);
                    (next, at)
                }
            };
            let chunk = count(&mut tx, &tenant.org, (spec.kind, filter), (&reached, at.message), looks).await?;
            tally.found += chunk.found;
            if let (TaskScope::Endpoint(..), None) = (spec.scope, chunk.next) {
                tally.next = None;
                return Ok(tally);
            }
            // After a large endpoint, the next ones are counted together again.
            let alone = matches!(tx, Tx::Postgres(_)) && spec.kind != TaskKind::ReplayMissing;
            looks = looks.saturating_sub(chunk.looked).max(1);
            let here = TaskPosition { message: chunk.next.unwrap_or(Uuid::max()), ..at };
            (tally.next, place) = (Some(here), Some(here));
            if chunk.next.is_some() || alone {
                break;
            }
        }
        Ok(tally)
    }

    /// Counts as many of the next endpoints as fit into a chunk. `None`: the first is too large.
    async fn count_many(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        (scope, filter): (TaskScope, &EndpointMessageFilter),
        from: Option<TaskPosition>,
    ) -> Result<Option<EstimateChunk>, StoreError> {
        let from = from.unwrap_or_else(TaskPosition::beginning);
        let reached = self.endpoints_after(tx, &tenant.org, scope, from, estimate_many::MANY).await?;
        let Tx::Postgres(connection) = tx else { return Ok(None) };
        let counted = estimate_many::count_sent(connection, &tenant.org, filter, &reached).await?;
        let all = counted.endpoints == reached.len();
        Ok(match counted.endpoints.checked_sub(1).and_then(|last| reached.get(last)) {
            None if all => Some(EstimateChunk { found: 0, next: None }),
            None => None,
            Some(last) => {
                let next = TaskPosition { message: Uuid::max(), ..TaskPosition::before(&last.endpoint) };
                let more = !all || reached.len() == estimate_many::MANY;
                Some(EstimateChunk { found: counted.found, next: more.then_some(next) })
            }
        })
    }

    /// A read transaction on a connection for requests and pages.
    pub(in crate::store::jobs) async fn read_tx(&self) -> Result<Tx, StoreError> {
        Ok(match &self.inner.backend {
            Backend::Sqlite(backend) => Tx::Sqlite(backend.pages.begin().await?),
            Backend::Postgres(backend) => Tx::on_postgres(&backend.front, &backend.partitions).await?,
        })
    }
}

/// The counts of one endpoint within a chunk.
struct Chunk {
    found: i64,
    looked: usize,
    /// The last scanned message; `None`: there are no more.
    next: Option<Uuid>,
}

async fn count(
    tx: &mut Tx,
    org: &OrgId,
    (kind, filter): (TaskKind, &EndpointMessageFilter),
    (reached, from): (&ScopedEndpoint, Uuid),
    looks: usize,
) -> Result<Chunk, StoreError> {
    let room = ReplayBudget { looks, sends: 0 };
    let ScopedEndpoint { endpoint, slot } = reached;
    let step = EndpointStep { org, app: endpoint.app_id, endpoint, slot: *slot, filter, room, now: Time::ZERO };
    let mut found = 0;
    match kind {
        TaskKind::Recover | TaskKind::BulkReplay => {
            let last = nth(tx, &step, from).await?;
            let end = last.map_or(filter.ids().1, after);
            for row in step.read_sent(tx, filter.sql_of_states(tx.kind()), from, end).await? {
                found += i64::from(step.should_resend(&row)?);
            }
            Ok(Chunk { found, looked: if last.is_some() { looks } else { 1 }, next: last.map(|last| last.0) })
        }
        TaskKind::ReplayMissing => {
            let rows = step.read_missing(tx, from).await?;
            for row in &rows {
                found += i64::from(step.is_missing(row)?);
            }
            let next = rows.last().filter(|_| rows.len() >= looks).map(|row| row.id.0);
            Ok(Chunk { found, looked: rows.len(), next })
        }
        // Only REST clients start a reconciliation, and they do not estimate it.
        TaskKind::Reconcile => Ok(Chunk { found: 0, looked: 0, next: None }),
    }
}

/// The last message of a chunk, using only the index of the endpoint's deliveries; `None`: fewer are left.
async fn nth(tx: &mut Tx, step: &EndpointStep<'_>, from: Uuid) -> Result<Option<MessageId>, StoreError> {
    const SQL: &str = "SELECT message_id FROM delivery
         WHERE endpoint_id = $1 AND slot IN (-1, $6) AND message_id > $2 AND message_id >= $3 AND message_id < $4
         ORDER BY message_id LIMIT 1 OFFSET $5";
    let (first, end) = step.filter.ids();
    Ok(on!(tx, db => {
        sqlx::query_scalar(SQL)
            .bind(step.endpoint.id).bind(from).bind(first).bind(end).bind(step.room.looks as i64 - 1).bind(i16::from(step.slot))
            .fetch_optional(db).await
    })?)
}

/// The id after this one.
fn after(id: MessageId) -> MessageId {
    MessageId(Uuid::from_u128(id.0.as_u128().saturating_add(1)))
}
