//! The queues of the writers, and filling a batch from a queue.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::ingest::accept::{AcceptItem, AcceptResult};
use crate::store::ingest::outbox::{RelayReport, RelayRequest};
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// Maximum writes of a batch: larger batches save almost nothing and cost latency.
const BATCH: usize = 512;
/// Maximum payload bytes of a batch, except for its last message.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A queued write, and the channel of its answer.
#[allow(clippy::large_enum_variant, reason = "nearly all of them are accepts, and a box for each would be paid by all")]
pub(in crate::store) enum Write {
    Accept(AcceptItem, oneshot::Sender<Result<AcceptResult, StoreError>>),
    Record(Arc<[FinishedAttempt]>, oneshot::Sender<Result<Vec<RecordOutcome>, StoreError>>),
    Relay(RelayRequest, oneshot::Sender<Result<RelayReport, StoreError>>),
}

impl Write {
    /// Whether the write can be dropped because its caller has hung up.
    fn is_abandoned(&self) -> bool {
        match self {
            Write::Accept(_, answer) => answer.is_closed(),
            // Every attempt is recorded.
            Write::Record(..) => false,
            Write::Relay(_, answer) => answer.is_closed(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Write::Accept(item, _) => item.spec.payload.len(),
            Write::Record(..) | Write::Relay(..) => 0,
        }
    }

    pub(super) fn fail(self, error: &StoreError) {
        match self {
            Write::Accept(_, answer) => drop(answer.send(Err(error.clone()))),
            Write::Record(_, answer) => drop(answer.send(Err(error.clone()))),
            Write::Relay(_, answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// The callers' side of the queues.
#[derive(Debug)]
pub(in crate::store) struct Queues {
    accepts: mpsc::Sender<Write>,
    records: mpsc::Sender<Write>,
    relays: mpsc::Sender<Write>,
}

impl Queues {
    pub(in crate::store) async fn accept(&self, item: AcceptItem) -> Result<AcceptResult, StoreError> {
        let (answer, wait) = oneshot::channel();
        // Fails at once if the queue is full: callers should not wait in an overloaded queue.
        self.accepts.try_send(Write::Accept(item, answer)).map_err(|_| StoreError::Overloaded)?;
        wait.await.unwrap_or_else(|_| Err(writer_stopped()))
    }

    pub(in crate::store) async fn record(
        &self,
        finished: Arc<[FinishedAttempt]>,
    ) -> Result<Vec<RecordOutcome>, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.records.send(Write::Record(finished, answer)).await.map_err(|_| writer_stopped())?;
        wait.await.unwrap_or_else(|_| Err(writer_stopped()))
    }

    pub(in crate::store) async fn relay(&self, request: RelayRequest) -> Result<RelayReport, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.relays.send(Write::Relay(request, answer)).await.map_err(|_| writer_stopped())?;
        wait.await.unwrap_or_else(|_| Err(writer_stopped()))
    }
}

pub(super) fn writer_stopped() -> StoreError {
    StoreError::Unavailable("the writer has stopped".into())
}

/// The queues, and the receivers for their writers: a `single` one for all kinds of writes, or one for each kind.
/// `length` is the capacity of the queue of accepts.
pub(in crate::store) fn queues(single: bool, length: usize) -> (Queues, Vec<mpsc::Receiver<Write>>) {
    let (accepts, from_accepts) = mpsc::channel(length.max(1));
    if single {
        let queues = Queues { accepts: accepts.clone(), records: accepts.clone(), relays: accepts };
        return (queues, vec![from_accepts]);
    }
    let (records, from_records) = mpsc::channel(16);
    let (relays, from_relays) = mpsc::channel(4);
    (Queues { accepts, records, relays }, vec![from_accepts, from_records, from_relays])
}

/// Adds queued writes to `batch` up to its maximum size, and drops abandoned ones.
pub(super) fn fill_batch(mut batch: Vec<Write>, queue: &mut mpsc::Receiver<Write>) -> Vec<Write> {
    let mut bytes: usize = batch.iter().map(Write::bytes).sum();
    // A relay step ends the batch: with two of them, a transaction would insert event ids out of order and could
    // deadlock.
    while batch.len() < BATCH && bytes < BATCH_BYTES && !matches!(batch.last(), Some(Write::Relay(..))) {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.bytes();
        batch.push(next);
    }
    batch.retain(|write| !write.is_abandoned());
    batch
}

/// Fails all writes that wait.
pub(super) fn fail_queued(left: &mut Vec<Write>, queue: &mut mpsc::Receiver<Write>, error: &StoreError) {
    for write in left.drain(..) {
        write.fail(error);
    }
    while let Ok(write) = queue.try_recv() {
        write.fail(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;
    use crate::domain::deliveries::message::MessageSpec;
    use crate::store::AppRef;

    fn write(bytes: usize) -> (Write, oneshot::Receiver<Result<AcceptResult, StoreError>>) {
        let (answer, wait) = oneshot::channel();
        let spec = MessageSpec { event_type: "a".into(), payload: vec![b' '; bytes].into(), ..MessageSpec::default() };
        let app = AppRef::Id(crate::domain::AppId::new(Time::ZERO));
        (
            Write::Accept(
                AcceptItem {
                    tenant: None,
                    app,
                    only_endpoint: None,
                    spec,
                    at: Time::ZERO,
                    idempotency_key: None,
                    audit: None,
                },
                answer,
            ),
            wait,
        )
    }

    #[test]
    fn a_batch_has_a_maximum_size_and_no_abandoned_writes() {
        let (sender, mut queue) = mpsc::channel(2_000);
        let mut waits = Vec::new();
        let mut send = |bytes| {
            let (write, wait) = write(bytes);
            assert!(sender.try_send(write).is_ok());
            waits.push(wait);
        };
        (0..600).for_each(|_| send(1));
        (0..3).for_each(|_| send(BATCH_BYTES / 2));
        waits.truncate(602);
        let mut next = || {
            let first = queue.try_recv().ok()?;
            Some(fill_batch(vec![first], &mut queue).len())
        };
        assert_eq!((next(), next(), next(), next()), (Some(512), Some(90), Some(0), None));
    }
}
