//! Where callers queue for a writer, and how a batch forms out of what waits.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::ingest::accept::{AcceptItem, AcceptResult};
use crate::store::ingest::outbox::{RelayRequest, RelayReport};
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// How many messages one transaction accepts at most: beyond that, larger batches save next to nothing and cost
/// latency.
const BATCH: usize = 512;
/// How many payload bytes one transaction accepts at most, but for the first message.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Something to be stored, and who waits for the answer.
#[allow(clippy::large_enum_variant, reason = "nearly all of them are accepts, and a box for each would be paid by all")]
pub(in crate::store) enum Write {
    Accept(AcceptItem, oneshot::Sender<Result<AcceptResult, StoreError>>),
    Record(Arc<[FinishedAttempt]>, oneshot::Sender<Result<Vec<RecordOutcome>, StoreError>>),
    Relay(RelayRequest, oneshot::Sender<Result<RelayReport, StoreError>>),
}

impl Write {
    /// Whether nobody waits for the answer any more: a caller that hung up before its turn is not stored for.
    fn forsaken(&self) -> bool {
        match self {
            Write::Accept(_, answer) => answer.is_closed(),
            // An attempt that was made is recorded, whoever waits.
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

/// Where callers queue.
#[derive(Debug)]
pub(in crate::store) struct Queues {
    accepts: mpsc::Sender<Write>,
    records: mpsc::Sender<Write>,
    relays: mpsc::Sender<Write>,
}

impl Queues {
    pub(in crate::store) async fn accept(&self, item: AcceptItem) -> Result<AcceptResult, StoreError> {
        let (answer, wait) = oneshot::channel();
        // A caller is turned away at once rather than kept in a queue that only grows.
        self.accepts.try_send(Write::Accept(item, answer)).map_err(|_| StoreError::Overloaded)?;
        wait.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(in crate::store) async fn record(&self, finished: Arc<[FinishedAttempt]>) -> Result<Vec<RecordOutcome>, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.records.send(Write::Record(finished, answer)).await.map_err(|_| gone())?;
        wait.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(in crate::store) async fn relay(&self, request: RelayRequest) -> Result<RelayReport, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.relays.send(Write::Relay(request, answer)).await.map_err(|_| gone())?;
        wait.await.unwrap_or_else(|_| Err(gone()))
    }
}

pub(super) fn gone() -> StoreError {
    StoreError::Unavailable("the writer has stopped".into())
}

/// The queues, and what their writers take from: one for all three kinds, or one for each.
pub(in crate::store) fn queues(one: bool, length: usize) -> (Queues, Vec<mpsc::Receiver<Write>>) {
    let (accepts, from_accepts) = mpsc::channel(length.max(1));
    if one {
        let queues = Queues { accepts: accepts.clone(), records: accepts.clone(), relays: accepts };
        return (queues, vec![from_accepts]);
    }
    let (records, from_records) = mpsc::channel(16);
    let (relays, from_relays) = mpsc::channel(4);
    (Queues { accepts, records, relays }, vec![from_accepts, from_records, from_relays])
}

/// Adds to `batch` what waits in the queue, within the bounds, and drops what nobody waits for any more.
pub(super) fn gather(mut batch: Vec<Write>, queue: &mut mpsc::Receiver<Write>) -> Vec<Write> {
    let mut bytes: usize = batch.iter().map(Write::bytes).sum();
    // A relay step is a batch of its own making: nothing of its kind joins it, so that each transaction enters event
    // ids in order.
    while batch.len() < BATCH && bytes < BATCH_BYTES && !matches!(batch.last(), Some(Write::Relay(..))) {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.bytes();
        batch.push(next);
    }
    batch.retain(|write| !write.forsaken());
    batch
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
                AcceptItem { tenant: None, app, only_endpoint: None, spec, at: Time::ZERO, idempotency_key: None },
                answer,
            ),
            wait,
        )
    }

    #[test]
    fn a_batch_is_what_waits_up_to_its_bounds_without_those_who_left() {
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
            Some(gather(vec![first], &mut queue).len())
        };
        assert_eq!((next(), next(), next(), next()), (Some(512), Some(90), Some(0), None));
    }
}
