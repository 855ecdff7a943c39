//! Signals about newly due deliveries, from the store to the engine of the same process. Neither depends on the other.
//!
//! Signals only reduce latency: when one is lost because the queue is full (in signals or bytes), the engine finds
//! the work by reading the store. Work for other engines, or all work in a process without one, is sent as
//! [notifications](crate::store::queue::notify).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, OrgId};
use crate::store::ingest::message_insert::NewMessage;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::notify;

/// Capacity of the engine's queue and of the notification queue. One signal carries a whole batch.
const QUEUE: usize = 1_024;
/// Maximum bytes held by signals that the engine has not processed, including those in its own queue. Larger signals
/// are lost.
const HELD_BYTES: usize = 64 * 1024 * 1024;
/// Approximate memory of a message without its payload and endpoints.
const MESSAGE_BYTES: usize = 512;

/// A change that the engine should know.
#[derive(Debug)]
pub enum Signal {
    /// These messages were accepted and committed. Their deliveries are due now or at the message's `deliver_at`.
    Accepted(Vec<Admission>),
    /// These endpoints have newly due deliveries, for example after a resend.
    Look(Vec<EndpointId>),
    /// These deliveries were ended while pending: drop them from the engine's queue.
    Withdrawn(Vec<(EndpointId, MessageId)>),
    /// The application or one of its endpoints has changed: cached copies are stale.
    Changed(AppId),
}

/// A message and its endpoints, as of the accepting transaction.
#[derive(Debug, Clone)]
pub struct Admission {
    pub message: Arc<Message>,
    pub endpoints: Vec<Arc<LiveEndpoint>>,
    /// The sequence numbers of its deliveries to ordered endpoints; 0 if the message is scheduled.
    pub seqs: HashMap<EndpointId, i64>,
}

impl Admission {
    /// An admission without sequence numbers.
    pub fn new(message: Arc<Message>, endpoints: Vec<Arc<LiveEndpoint>>) -> Admission {
        Admission { message, endpoints, seqs: HashMap::new() }
    }

    fn bytes(&self) -> usize {
        let numbers = self.seqs.len() * size_of::<(EndpointId, i64)>();
        MESSAGE_BYTES + self.message.size() + size_of_val(self.endpoints.as_slice()) + numbers
    }

    /// The message to insert for `org`, with `packed` additional deliveries.
    pub(in crate::store) fn new_message<'a>(&'a self, org: &'a OrgId, packed: usize) -> NewMessage<'a> {
        NewMessage { message: &self.message, org, deliveries: self.endpoints.len() + packed }
    }
}

impl Signal {
    /// Approximate memory.
    fn bytes(&self) -> usize {
        match self {
            Signal::Accepted(admissions) => admissions.iter().map(Admission::bytes).sum(),
            Signal::Look(endpoints) => size_of_val(endpoints.as_slice()),
            Signal::Withdrawn(ended) => size_of_val(ended.as_slice()),
            Signal::Changed(_) => 0,
        }
    }
}

/// A queued signal, and its share of [`HELD_BYTES`].
#[derive(Debug)]
pub struct QueuedSignal {
    pub signal: Signal,
    pub held: SignalReservation,
}

impl From<Signal> for QueuedSignal {
    /// A signal that is not counted, for tests and simulation.
    fn from(signal: Signal) -> QueuedSignal {
        QueuedSignal { signal, held: SignalReservation(None) }
    }
}

impl From<QueuedSignal> for Signal {
    fn from(queued: QueuedSignal) -> Signal {
        queued.signal
    }
}

/// A reservation of bytes, released on drop.
#[derive(Debug)]
pub struct SignalReservation(Option<(Arc<AtomicUsize>, usize)>);

impl SignalReservation {
    /// Reserves `bytes`; `None` beyond [`HELD_BYTES`].
    fn take(held: &Arc<AtomicUsize>, bytes: usize) -> Option<SignalReservation> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= HELD_BYTES);
        held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(SignalReservation(Some((held.clone(), bytes))))
    }
}

impl Drop for SignalReservation {
    fn drop(&mut self) {
        if let Some((held, bytes)) = self.0.take() {
            held.fetch_sub(bytes, Ordering::AcqRel);
        }
    }
}

/// The sending half, kept in the store.
#[derive(Debug)]
pub struct Signals {
    sender: OnceLock<mpsc::Sender<QueuedSignal>>,
    /// Bytes held by unprocessed signals.
    held: Arc<AtomicUsize>,
    missed: AtomicBool,
    /// To other processes, if the store is shared.
    notifications: Option<mpsc::Sender<Vec<EndpointId>>>,
    /// The process id under which this process's engine owns slots, once it listens. It is not notified of its own
    /// work.
    owner: OnceLock<Uuid>,
}

impl Signals {
    /// Without a listener yet. If the store is shared, also returns the queue of notifications.
    pub(in crate::store) fn new(shared: bool) -> (Signals, Option<mpsc::Receiver<Vec<EndpointId>>>) {
        let (notifications, notification_queue) = shared.then(|| mpsc::channel(QUEUE)).unzip();
        let (sender, owner) = (OnceLock::new(), OnceLock::new());
        let (held, missed) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
        (Signals { sender, held, missed, notifications, owner }, notification_queue)
    }

    /// Sets the process id under which the engine owns slots. Only the first call has an effect.
    pub(in crate::store) fn set_owner(&self, owner: Uuid) {
        let _ = self.owner.set(owner);
    }

    /// The process id under which the engine owns slots, if it listens.
    pub(in crate::store) fn owner(&self) -> Option<Uuid> {
        self.owner.get().copied()
    }

    /// Notifies other processes of newly due deliveries of these endpoints.
    pub fn notify_processes(&self, mut endpoints: Vec<EndpointId>) {
        // A notification of more endpoints than this lists none of them.
        endpoints.truncate(notify::MOST + 1);
        endpoints.shrink_to_fit();
        if let (Some(notifications), false) = (&self.notifications, endpoints.is_empty()) {
            // If the queue is full, other processes find the work by scanning.
            let _ = notifications.try_send(endpoints);
        }
    }

    /// Returns the receiver of signals to the first caller: there is one engine per process.
    pub fn listen(&self) -> Option<mpsc::Receiver<QueuedSignal>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.sender.set(sender).is_ok().then_some(receiver)
    }

    /// Whether a signal was lost since the last call, so the engine has to read the store.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }

    pub(in crate::store) fn send(&self, signal: Signal) {
        match (self.sender.get(), signal) {
            (Some(sender), signal) => {
                let queued =
                    SignalReservation::take(&self.held, signal.bytes()).map(|held| QueuedSignal { signal, held });
                if queued.is_none_or(|queued| sender.try_send(queued).is_err()) {
                    self.missed.store(true, Ordering::Release);
                }
            }
            (None, Signal::Accepted(admissions)) => {
                let endpoints = admissions.iter().flat_map(|one| &one.endpoints).map(|live| live.endpoint.id);
                self.notify_processes(endpoints.collect());
            }
            (None, Signal::Look(endpoints)) => self.notify_processes(endpoints),
            // Other processes notice these changes with their next scan.
            (None, Signal::Withdrawn(_) | Signal::Changed(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;

    const MIB: usize = 1024 * 1024;

    fn accepted(payload: usize) -> Signal {
        let message = Message {
            id: MessageId::new(Time::ZERO),
            app_id: AppId::new(Time::ZERO),
            event_type: "a".into(),
            event_id: None,
            channels: vec![],
            tags: vec![],
            payload: Some(vec![b' '; payload].into()),
            raw_type: None,
            occurred_at: Time::ZERO,
            accepted_at: Time::ZERO,
            deliver_at: None,
            content_until: None,
        };
        Signal::Accepted(vec![Admission::new(Arc::new(message), vec![])])
    }

    #[test]
    fn queued_signals_are_bounded_in_bytes_and_larger_ones_are_missed() {
        let (signals, _) = Signals::new(false);
        let mut listener = signals.listen().unwrap();
        let each = 8 * MIB - MESSAGE_BYTES;
        (0..8).for_each(|_| signals.send(accepted(each)));
        assert_eq!(signals.held.load(Ordering::Acquire), HELD_BYTES);
        assert!(!signals.take_missed());
        signals.send(Signal::Look(vec![EndpointId(Uuid::nil())]));
        assert!(signals.take_missed(), "not a byte more");
        signals.send(Signal::Changed(AppId::new(Time::ZERO)));
        assert!(!signals.take_missed());
        // A received signal holds its bytes until it is dropped.
        let first = listener.try_recv().unwrap();
        signals.send(accepted(each));
        assert!(signals.take_missed());
        drop(first);
        signals.send(accepted(each));
        assert!(!signals.take_missed());
        assert_eq!(std::iter::from_fn(|| listener.try_recv().ok()).count(), 9);
        assert_eq!(signals.held.load(Ordering::Acquire), 0);
    }

    #[test]
    fn each_kind_of_signal_counts() {
        let ids = vec![EndpointId(Uuid::nil()); 1_000];
        let pairs = ids.iter().map(|id| (*id, MessageId(Uuid::nil()))).collect();
        assert_eq!(Signal::Look(ids).bytes(), 16_000);
        assert_eq!(Signal::Withdrawn(pairs).bytes(), 32_000);
        assert_eq!(accepted(1_000).bytes(), 1_000 + MESSAGE_BYTES);
    }

    #[test]
    fn a_full_queue_holds_no_bytes_of_lost_signals() {
        let (signals, _) = Signals::new(false);
        let _listener = signals.listen().unwrap();
        (0..QUEUE + 10).for_each(|_| signals.send(accepted(0)));
        assert!(signals.take_missed());
        assert_eq!(signals.held.load(Ordering::Acquire), QUEUE * MESSAGE_BYTES);
    }
}
