//! The recorder: writes the results of attempts to the store in batches. While the store is unavailable, results wait
//! here; with too many unrecorded, the lanes stop sending.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::domain::deliveries::delivery::Transition;
use crate::domain::retry_backoff::RetryBackoff;
use crate::engine::LoopInput;
use crate::engine::core::event::{CoreEvent, RecordResult};
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// Maximum results per transaction.
const BATCH: usize = 512;
/// Maximum bytes of response headers and bodies per transaction; the first result may exceed it.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// A batch smaller than this waits for more results, until the [`pause`] after the previous one ends: a transaction
/// costs about as much as recording twenty results.
const FULL: usize = 256;
/// The shortest and the longest pause between a transaction and the next small one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
/// The first and the longest wait before a failed batch is retried: short enough to catch up within 3 s.
const RETRY_BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Records until the channel closes, and reports to the event loop.
pub async fn run(
    store: Store,
    mut finished: mpsc::UnboundedReceiver<FinishedAttempt>,
    events: mpsc::UnboundedSender<LoopInput>,
) {
    let mut pending = Vec::with_capacity(BATCH);
    let mut small_again = Instant::now();
    while !pending.is_empty() || finished.recv_many(&mut pending, BATCH).await > 0 {
        fill_batch(&mut finished, &mut pending, small_again).await;
        Component::Recorder.panic_point();
        let batch: Arc<[FinishedAttempt]> = pending.drain(..fitting(&pending, store.record_batch())).collect();
        metrics::histogram!("sendoff_batch_size", "kind" => "record").record(batch.len() as f64);
        let began = Instant::now();
        let results = record(&store, &batch).await;
        // SQLite's single writer takes waiting records along with accepted messages, so waiting here gains nothing.
        small_again = Instant::now() + if store.shared() { pause(began.elapsed()) } else { Duration::ZERO };
        for (one, result) in batch.iter().zip(&results) {
            count(one, *result);
        }
        let recorded = batch.iter().zip(results).map(|(one, result)| RecordResult::of(one, result)).collect();
        if events.send(LoopInput::Event(CoreEvent::Recorded(recorded))).is_err() {
            return;
        }
    }
}

/// The pause after a transaction that took `took`. Where several processes share the CPU or the database, transactions
/// take longer, and the same results need fewer of them.
fn pause(took: Duration) -> Duration {
    (took * 2).clamp(PAUSE.0, PAUSE.1)
}

/// Collects results until `pending` is [`FULL`], `until` is reached, or the channel closes.
async fn fill_batch<T>(finished: &mut mpsc::UnboundedReceiver<T>, pending: &mut Vec<T>, until: Instant) {
    while pending.len() < FULL {
        let room = BATCH - pending.len();
        match timeout_at(until, finished.recv_many(pending, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// The number of leading results that fit into one transaction: at least one, and up to `most`.
fn fitting(pending: &[FinishedAttempt], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |one: &&FinishedAttempt| {
        let outcome = &one.attempt.outcome;
        let headers: usize = outcome.response_headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        bytes += headers + outcome.response_body.len();
        bytes <= BATCH_BYTES
    };
    pending.iter().take(most).take_while(fits).count().max(1).min(pending.len())
}

/// Records a batch, retrying for as long as the store is unavailable.
async fn record(store: &Store, batch: &Arc<[FinishedAttempt]>) -> Vec<RecordOutcome> {
    let mut backoff = RETRY_BACKOFF;
    loop {
        match store.record(batch.clone()).await {
            Ok(results) => return results,
            Err(error) => {
                if backoff.wait().is_none() {
                    tracing::warn!(%error, attempts = batch.len(), "recording results failed and will be retried");
                }
                tokio::time::sleep(backoff.failed()).await;
                if matches!(error, StoreError::Damaged(_) | StoreError::Sealed(_)) {
                    tracing::error!(%error, "results cannot be recorded");
                }
            }
        }
    }
}

fn count(one: &FinishedAttempt, result: RecordOutcome) {
    let outcome = one.attempt.outcome.failure.map_or("delivered", |failure| failure.word());
    metrics::counter!("sendoff_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("sendoff_attempt_duration_seconds").record(one.attempt.outcome.duration.as_secs_f64());
    if let (Transition::Dead(reason), RecordOutcome::Applied) = (one.next, result) {
        metrics::counter!("sendoff_deliveries_dead_total", "reason" => reason.word()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_are_further_apart_where_they_take_longer() {
        assert_eq!([1, 8, 1_000].map(|millis| pause(Duration::from_millis(millis)).as_millis()), [5, 16, 20]);
    }

    #[tokio::test]
    async fn a_small_batch_waits_for_more_and_a_full_one_does_not() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (past, far) = (Instant::now(), Instant::now() + Duration::from_secs(3_600));
        let mut pending = vec![0];
        sender.send(1).unwrap();
        fill_batch(&mut receiver, &mut pending, past).await;
        assert_eq!(pending, [0, 1], "available results are taken");

        let others = tokio::spawn(async move {
            for number in 2..FULL + 10 {
                sender.send(number).unwrap();
                tokio::task::yield_now().await;
            }
            sender
        });
        fill_batch(&mut receiver, &mut pending, far).await;
        assert_eq!(pending.len(), FULL, "it waits until the batch is full");
        drop(others.await.unwrap());
        pending.truncate(1);
        fill_batch(&mut receiver, &mut pending, far).await;
        assert_eq!(pending.len(), 11, "the channel is closed");
    }
}
