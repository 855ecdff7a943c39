//! How the store tells an engine in the same process what has just become due, without either knowing the other.
//!
//! A signal only ever speeds things up: when one is lost (a queue that is full, in signals or in bytes), the engine finds the work by reading the store. What the
//! engine of this process does not send, or all of it where there is no engine, is [announced](crate::store::queue::notify) to other processes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, OrgId};
use crate::store::ingest::message_insert::NewMessage;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::notify;

/// How many signals may wait for the engine, and how many for the announcer; one carries a whole batch.
const QUEUE: usize = 1_024;
/// How many bytes the signals may hold that the engine has not taken in yet, in its own queue as well. A signal that does not fit is lost.
const HELD_BYTES: usize = 64 * 1024 * 1024;
/// What a message takes beside its payload and its list of endpoints, about.
const MESSAGE_BYTES: usize = 512;

/// What the engine should know.
#[derive(Debug)]
pub enum Signal {
    /// Accepted and committed just now: these deliveries are due, or will be when their message says.
    Accepted(Vec<Admission>),
    /// Something of these endpoints has become due (a resend).
    Look(Vec<EndpointId>),
    /// These were ended while they waited: what is queued of them is not to be sent any more.
    Withdrawn(Vec<(EndpointId, MessageId)>),
    /// The application or one of its endpoints has changed: what is remembered of them is stale.
    Changed(AppId),
}

/// A message and the endpoints that get it, as they were inside the accepting transaction.
#[derive(Debug, Clone)]
pub struct Admission {
    pub message: Arc<Message>,
    pub endpoints: Vec<Arc<LiveEndpoint>>,
    /// The numbers of its deliveries to ordered endpoints; 0: it is scheduled and has none yet.
    pub seqs: HashMap<EndpointId, i64>,
}

impl Admission {
    /// Not numbered yet.
    pub fn new(message: Arc<Message>, endpoints: Vec<Arc<LiveEndpoint>>) -> Admission {
        Admission { message, endpoints, seqs: HashMap::new() }
    }

    fn bytes(&self) -> usize {
        let numbers = self.seqs.len() * size_of::<(EndpointId, i64)>();
        MESSAGE_BYTES + self.message.size() + size_of_val(self.endpoints.as_slice()) + numbers
    }

    /// Its message, to be inserted for `org`; it has `packed` deliveries more.
    pub(in crate::store) fn new_message<'a>(&'a self, org: &'a OrgId, packed: usize) -> NewMessage<'a> {
        NewMessage { message: &self.message, org, deliveries: self.endpoints.len() + packed }
    }
}

impl Signal {
    /// How much memory it holds, about.
    fn bytes(&self) -> usize {
        match self {
            Signal::Accepted(admissions) => admissions.iter().map(Admission::bytes).sum(),
            Signal::Look(endpoints) => size_of_val(endpoints.as_slice()),
            Signal::Withdrawn(ended) => size_of_val(ended.as_slice()),
            Signal::Changed(_) => 0,
        }
    }
}

/// A signal on its way, and the bytes that it takes of [`HELD_BYTES`].
#[derive(Debug)]
pub struct Told {
    pub signal: Signal,
    pub held: Held,
}

impl From<Signal> for Told {
    /// One that no store has sent: it takes nothing.
    fn from(signal: Signal) -> Told {
        Told { signal, held: Held(None) }
    }
}

impl From<Told> for Signal {
    fn from(told: Told) -> Signal {
        told.signal
    }
}

/// Bytes that are given back when this is dropped.
#[derive(Debug)]
pub struct Held(Option<(Arc<AtomicUsize>, usize)>);

impl Held {
    /// Takes `bytes` more, if no more than [`HELD_BYTES`] are then held.
    fn take(held: &Arc<AtomicUsize>, bytes: usize) -> Option<Held> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= HELD_BYTES);
        held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Held(Some((held.clone(), bytes))))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((held, bytes)) = self.0.take() {
            held.fetch_sub(bytes, Ordering::AcqRel);
        }
    }
}

/// The sending half, kept in the store.
#[derive(Debug)]
pub struct Signals {
    sender: OnceLock<mpsc::Sender<Told>>,
    /// How many bytes the signals hold that are on their way.
    held: Arc<AtomicUsize>,
    missed: AtomicBool,
    /// To the other processes, if the store is shared.
    announcer: Option<mpsc::Sender<Vec<EndpointId>>>,
    /// As what the engine of this process owns slots, once it listens: nothing is announced to itself.
    owner: OnceLock<Uuid>,
}

impl Signals {
    /// Without a listener yet; and what the announcer takes from, if there may be other processes.
    pub(in crate::store) fn new(shared: bool) -> (Signals, Option<mpsc::Receiver<Vec<EndpointId>>>) {
        let (announcer, announcements) = shared.then(|| mpsc::channel(QUEUE)).unzip();
        let (sender, owner) = (OnceLock::new(), OnceLock::new());
        let (held, missed) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
        (Signals { sender, held, missed, announcer, owner }, announcements)
    }

    /// The engine of this process owns slots as `owner`. Only the first call counts.
    pub(in crate::store) fn set_owner(&self, owner: Uuid) {
        let _ = self.owner.set(owner);
    }

    /// As what the engine of this process owns slots, if it listens.
    pub(in crate::store) fn owner(&self) -> Option<Uuid> {
        self.owner.get().copied()
    }

    /// Tells other processes that something of these endpoints has become due.
    pub fn announce(&self, mut endpoints: Vec<EndpointId>) {
        // With more, an announcement names none.
        endpoints.truncate(notify::MOST + 1);
        endpoints.shrink_to_fit();
        if let (Some(announcer), false) = (&self.announcer, endpoints.is_empty()) {
            // Full: others find it with their scan.
            let _ = announcer.try_send(endpoints);
        }
    }

    /// Begins to listen. Only the first caller gets a receiver: one engine per process.
    pub fn listen(&self) -> Option<mpsc::Receiver<Told>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.sender.set(sender).is_ok().then_some(receiver)
    }

    /// Whether a signal was lost since the last call: time to read the store.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }

    pub(in crate::store) fn send(&self, signal: Signal) {
        match (self.sender.get(), signal) {
            (Some(sender), signal) => {
                let told = Held::take(&self.held, signal.bytes()).map(|held| Told { signal, held });
                if told.is_none_or(|told| sender.try_send(told).is_err()) {
                    self.missed.store(true, Ordering::Release);
                }
            }
            (None, Signal::Accepted(admissions)) => {
                let endpoints = admissions.iter().flat_map(|one| &one.endpoints).map(|live| live.endpoint.id);
                self.announce(endpoints.collect());
            }
            (None, Signal::Look(endpoints)) => self.announce(endpoints),
            // Others look at what has changed with each scan.
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
    fn what_waits_is_bounded_in_bytes_and_what_does_not_fit_is_missed() {
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
        // What was received is held until it is taken in.
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
    fn a_full_queue_holds_no_bytes_of_what_it_refused() {
        let (signals, _) = Signals::new(false);
        let _listener = signals.listen().unwrap();
        (0..QUEUE + 10).for_each(|_| signals.send(accepted(0)));
        assert!(signals.take_missed());
        assert_eq!(signals.held.load(Ordering::Acquire), QUEUE * MESSAGE_BYTES);
    }
}
