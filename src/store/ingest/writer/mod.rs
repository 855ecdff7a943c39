//! Group commit. A writer takes everything that queued up during its last commit, stores it in one transaction, and
//! answers the callers after the commit. There is no timer and no minimum delay: a single message is stored at once, a
//! thousand share a commit.
//!
//! On SQLite one writer stores accepts, records and relay steps, in the *same* transaction (at low rates accepts have
//! their own, so callers wait for less). On PostgreSQL each kind has
//! its own writer.
//!
//! * [`queue`]: the queues of writes, and the size of a batch. [`batch`]: from a batch to its answers, also if the
//!   database rejects a value.
//! * [`transaction`]: one transaction, and why it may run again. [`answers`]: signals and answers after the commit.
//! * [`isolate`]: the one write that the database rejects. [`pending_loads`]: messages that wait for their application
//!   to be loaded. [`lock_gaps`]: time for other programs that write to the SQLite file. [`accept_rate`]: short
//!   background writes on SQLite while callers wait for its lock.
//!
//! # Invariants
//!
//! * A caller is answered only after the commit that contains its write.
//! * A batch is bounded in rows and bytes before it is taken from the queue.
//! * A write that the database rejects fails alone; the rest of its batch is stored.

pub(in crate::store) mod accept_rate;
mod answers;
mod batch;
mod isolate;
mod lock_gaps;
mod pending_loads;
mod queue;
mod transaction;

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use self::batch::{BatchResult, store_batch};
use self::lock_gaps::LockGaps;
use self::pending_loads::PendingLoads;
pub(in crate::store) use self::queue::{Queues, queues};
use self::queue::{Write, fail_queued, fill_batch};
use crate::store::db::budget::AdaptiveBudget;
use crate::store::{Backend, Inner};
use crate::supervisor::Component;

/// A writer: runs until the store is dropped.
pub(in crate::store) async fn run(store: Weak<Inner>, mut queue: mpsc::Receiver<Write>) {
    let mut adaptive_budget = AdaptiveBudget::new();
    let mut lock_gaps = LockGaps::default();
    let mut loads = PendingLoads::default();
    // Writes that the last transaction had no room for go first.
    let mut left: Vec<Write> = Vec::new();
    loop {
        if left.is_empty() {
            tokio::select! {
                first = queue.recv() => match first {
                    Some(first) => left.push(first),
                    None => return,
                },
                ready = loads.ready() => left = ready,
            }
        }
        let Some(inner) = store.upgrade() else { return };
        let started = Instant::now();
        let batch = fill_batch(std::mem::take(&mut left), &mut queue);
        Component::Writer.panic_point();
        metrics::histogram!("sendoff_batch_size", "kind" => "write").record(batch.len() as f64);
        let short = matches!(inner.backend, Backend::Sqlite(_)) && inner.accept_rate.wants_short_writes(started);
        adaptive_budget.set_short(short);
        let result = match short {
            true => store_accepts_first(&inner, batch, &mut adaptive_budget).await,
            false => store_batch(&inner, batch, &mut adaptive_budget).await,
        };
        left = result.left;
        loads.add(&inner, result.not_loaded, queue.max_capacity());
        if let Some(error) = result.unavailable {
            // The queued writes have waited as long as this batch. Trying them one batch at a time would add a timeout
            // for each.
            fail_queued(&mut left, &mut queue, &error);
        }
        let Backend::Sqlite(backend) = &inner.backend else { continue };
        let idle = left.is_empty() && queue.is_empty();
        let Some(gap) = lock_gaps.after_batch(backend, started.elapsed(), idle).await else { continue };
        drop(inner);
        match short {
            // Few callers send at this rate: they need not wait for the end of the gap.
            true => lock_gaps.cut_short(wait_for_accept(gap, &mut left, &mut queue).await),
            false => tokio::time::sleep(gap).await,
        }
    }
}

/// Waits for `gap`, or until a message is queued. Moves the writes queued meanwhile to `left`: besides the message at
/// most one record and one relay step, because their senders wait for the result. Returns the rest of the gap.
async fn wait_for_accept(gap: Duration, left: &mut Vec<Write>, queue: &mut mpsc::Receiver<Write>) -> Duration {
    let ends = tokio::time::Instant::now() + gap;
    while let Ok(Some(write)) = timeout_at(ends, queue.recv()).await {
        left.push(write);
        if matches!(left.last(), Some(Write::Accept(..))) {
            break;
        }
    }
    ends.saturating_duration_since(tokio::time::Instant::now())
}

/// Stores the accepts of a batch in a transaction of their own, so their callers do not wait for its other writes.
async fn store_accepts_first(inner: &Inner, batch: Vec<Write>, adaptive_budget: &mut AdaptiveBudget) -> BatchResult {
    let (accepts, others): (Vec<Write>, Vec<Write>) =
        batch.into_iter().partition(|write| matches!(write, Write::Accept(..)));
    let first = store_batch(inner, accepts, adaptive_budget).await;
    if let Some(error) = &first.unavailable {
        others.into_iter().for_each(|write| write.fail(error));
        return first;
    }
    first.merge(store_batch(inner, others, adaptive_budget).await)
}
