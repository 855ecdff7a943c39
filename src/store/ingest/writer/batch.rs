//! Storing a batch. Usually one [transaction](super::transaction) stores all of it. If the database rejects a value,
//! the batch is halved until the rejected write is alone, so it fails none of the others.

use std::time::Instant;

use super::isolate;
use super::queue::Write;
use super::transaction::{self, TransactionError};
use crate::domain::AppId;
use crate::store::db::budget::{self, AdaptiveBudget};
use crate::store::{Inner, StoreError};

/// The writes of a batch that were not answered.
#[derive(Default)]
pub(super) struct BatchResult {
    /// The store is unavailable. The callers of the batch got this error, and the callers of queued writes should get
    /// it too.
    pub unavailable: Option<StoreError>,
    /// Writes that the transaction had no room for, in order.
    pub left: Vec<Write>,
    /// Messages whose application has to be loaded first.
    pub not_loaded: Vec<(AppId, Write)>,
}

impl BatchResult {
    pub(super) fn merge(mut self, second: BatchResult) -> BatchResult {
        self.unavailable = second.unavailable.or(self.unavailable);
        self.left.extend(second.left);
        self.not_loaded.extend(second.not_loaded);
        self
    }
}

/// Stores as much of `batch` as one transaction may hold, and answers it.
pub(super) async fn store_batch(
    inner: &Inner,
    mut batch: Vec<Write>,
    adaptive_budget: &mut AdaptiveBudget,
) -> BatchResult {
    if batch.is_empty() {
        return BatchResult::default();
    }
    let started = Instant::now();
    match transaction::run(inner, &batch, adaptive_budget).await {
        Ok((stored, rows)) => {
            adaptive_budget.adjust(rows, started.elapsed());
            metrics::histogram!("sendoff_store_write_seconds", "kind" => kind(&batch))
                .record(started.elapsed().as_secs_f64());
            stored.answer(inner, batch)
        }
        Err(TransactionError::Inside(StoreError::Refused(_))) if batch.len() > 1 => {
            let second = batch.split_off(batch.len() / 2);
            let first = Box::pin(store_batch(inner, batch, adaptive_budget)).await;
            let second = Box::pin(store_batch(inner, second, adaptive_budget)).await;
            first.merge(second)
        }
        Err(TransactionError::Inside(error @ StoreError::Refused(_))) => {
            for write in batch {
                isolate::answer_rejected(inner, write, &error).await;
            }
            BatchResult::default()
        }
        Err(error) => {
            // A transaction that took too long must not be retried at the same size.
            adaptive_budget.adjust(budget::MOST_ROWS, started.elapsed());
            let (error, unavailable) = match error {
                TransactionError::Begin(error) => (error.clone(), Some(error)),
                TransactionError::Inside(error) => (error, None),
            };
            batch.into_iter().for_each(|write| write.fail(&error));
            BatchResult { unavailable, ..BatchResult::default() }
        }
    }
}

/// The kinds of writes in a batch, for a metric.
fn kind(batch: &[Write]) -> &'static str {
    let any = |of: fn(&Write) -> bool| batch.iter().any(of);
    let relay = any(|write| matches!(write, Write::Relay(..)));
    let accept = any(|write| matches!(write, Write::Accept(..)));
    let record = any(|write| matches!(write, Write::Record(..)));
    match (relay, accept, record) {
        (true, ..) => "relay",
        (false, true, true) => "accept and record",
        (false, true, false) => "accept",
        (false, false, _) => "record",
    }
}
