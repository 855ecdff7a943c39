//! The transaction of a batch. It may have to run again:
//!
//! 1. **Optimistic, then exact.** The first run only [counts](RowCheck::Counted) the rows that its records wrote. If
//!    the count is unexpected, it is rolled back, and the second run [returns](RowCheck::Returned) their keys.
//! 2. **Conflict.** PostgreSQL rolled it back in favor of another transaction.
//! 3. **Missing partition.** A partition was dropped since the cached layout was read; the second run creates it.

use std::time::Duration;

use super::queue::Write;
use crate::crash::CrashPoint;
use crate::domain::AppId;
use crate::store::db::budget::{AdaptiveBudget, Budget};
use crate::store::db::retry::{ConflictError, retry_conflicts};
use crate::store::ingest::accept::{AcceptItem, AcceptedBatch, accept_in};
use crate::store::ingest::outbox::RelayReport;
use crate::store::ingest::outbox::relay::relay_in;
use crate::store::queue::signals::Admission;
use crate::store::recording::record::{RecordOutcome, RowCheck, record_in};
use crate::store::{Inner, StoreError, Tx};

/// A longer transaction is aborted, and its callers get a 503.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) enum TransactionError {
    /// The transaction could not begin: the store is unavailable for all callers.
    Begin(StoreError),
    /// A statement or the commit failed.
    Inside(StoreError),
}

impl ConflictError for TransactionError {
    fn is_conflict(&self) -> bool {
        matches!(self, TransactionError::Inside(error) if error.is_conflict())
    }
}

/// The rows that a transaction stored, per kind of write, in the order of the batch.
#[derive(Default)]
pub(super) struct StoredBatch {
    pub accepted: Option<AcceptedBatch>,
    pub recorded: Vec<Vec<RecordOutcome>>,
    /// Operational messages that the records and relay steps emitted.
    pub emitted: Vec<Admission>,
    pub relayed: Vec<(RelayReport, Vec<Admission>, Vec<AppId>)>,
}

/// Stores as much of `batch` as one transaction may hold, and commits. Returns the number of rows written.
pub(super) async fn run(
    inner: &Inner,
    batch: &[Write],
    adaptive_budget: &AdaptiveBudget,
) -> Result<(StoredBatch, usize), TransactionError> {
    let attempts = async {
        match retry_conflicts(|| optimistic_then_exact(inner, batch, adaptive_budget)).await {
            Err(TransactionError::Inside(StoreError::Unavailable(_))) if inner.partitions_stale() => {
                optimistic_then_exact(inner, batch, adaptive_budget).await
            }
            result => result,
        }
    };
    tokio::time::timeout(TIMEOUT, attempts).await.unwrap_or_else(|_| {
        let reason = format!("a transaction took longer than {} s", TIMEOUT.as_secs());
        Err(TransactionError::Inside(StoreError::Unavailable(reason)))
    })
}

async fn optimistic_then_exact(
    inner: &Inner,
    batch: &[Write],
    adaptive_budget: &AdaptiveBudget,
) -> Result<(StoredBatch, usize), TransactionError> {
    for check in [RowCheck::Counted, RowCheck::Returned] {
        if let Some(stored) = attempt(inner, batch, adaptive_budget, check).await? {
            return Ok(stored);
        }
    }
    let reason = "a record wrote an unexpected number of rows";
    Err(TransactionError::Inside(StoreError::Damaged(reason.into())))
}

/// One transaction from begin to commit. `None`: rolled back, because `check` found an unexpected number of rows.
async fn attempt(
    inner: &Inner,
    batch: &[Write],
    adaptive_budget: &AdaptiveBudget,
    check: RowCheck,
) -> Result<Option<(StoredBatch, usize)>, TransactionError> {
    let mut budget = adaptive_budget.budget();
    let mut tx = inner.begin().await.map_err(TransactionError::Begin)?;
    match write_batch(inner, &mut tx, batch, check, &mut budget).await {
        Ok(Some(stored)) => {
            tx.commit_of(&crash_points(batch)).await.map_err(TransactionError::Inside)?;
            Ok(Some((stored, budget.spent())))
        }
        Ok(None) => {
            tx.roll_back().await.map_err(TransactionError::Inside)?;
            Ok(None)
        }
        Err(error) => {
            // An explicit rollback, because PostgreSQL reports the error before it releases the row locks, and the
            // relay's next step would skip the locked rows.
            let _ = tx.roll_back().await;
            Err(TransactionError::Inside(error))
        }
    }
}

/// Executes the statements of a batch, as far as `budget` allows. `None`: `check` found an unexpected number of rows.
async fn write_batch(
    inner: &Inner,
    tx: &mut Tx,
    batch: &[Write],
    check: RowCheck,
    budget: &mut Budget,
) -> Result<Option<StoredBatch>, StoreError> {
    let items: Vec<&AcceptItem> = batch
        .iter()
        .filter_map(|write| match write {
            Write::Accept(item, _) => Some(item),
            _ => None,
        })
        .collect();
    let mut stored = StoredBatch::default();
    if !items.is_empty() {
        stored.accepted = Some(accept_in(tx, inner, &items, budget).await?);
    }
    for write in batch {
        if let Write::Relay(request, _) = write {
            stored.relayed.push(relay_in(inner, tx, request, budget, &mut stored.emitted).await?);
        }
    }
    // Records come last, because they may change applications. Accepts and relay steps cache the applications that they
    // read, and must not cache uncommitted changes.
    for write in batch {
        if let Write::Record(finished, _) = write {
            let Some((recorded, emitted)) = record_in(inner, tx, finished, check).await? else {
                return Ok(None);
            };
            stored.recorded.push(recorded);
            stored.emitted.extend(emitted);
        }
    }
    Ok(Some(stored))
}

/// The crash points of a batch's commit, one for each kind of write.
fn crash_points(batch: &[Write]) -> Vec<CrashPoint> {
    let mut points: Vec<CrashPoint> = Vec::with_capacity(3);
    for write in batch {
        let point = match write {
            Write::Accept(..) => CrashPoint::Accept,
            Write::Record(..) => CrashPoint::Record,
            Write::Relay(..) => CrashPoint::Relay,
        };
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points
}
