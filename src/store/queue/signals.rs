//! How the store tells an engine in the same process what has just become due, without either knowing the other.
//!
//! A signal only ever speeds things up: when one is lost (a full queue), the engine finds the work by reading the store. What the
//! engine of this process does not send, or all of it where there is no engine, is [announced](crate::store::queue::notify) to other processes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, OrgId};
use crate::store::ingest::message_insert::NewMessage;
use crate::store::ingest::routing::LiveEndpoint;

/// How many signals may wait for the engine, and how many for the announcer; one carries a whole batch.
const QUEUE: usize = 1_024;

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

    /// Its message, to be inserted for `org`; it has `packed` deliveries more.
    pub(in crate::store) fn new_message<'a>(&'a self, org: &'a OrgId, packed: usize) -> NewMessage<'a> {
        NewMessage { message: &self.message, org, deliveries: self.endpoints.len() + packed }
    }
}

/// The sending half, kept in the store.
#[derive(Debug)]
pub struct Signals {
    sender: OnceLock<mpsc::Sender<Signal>>,
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
        (Signals { sender, missed: AtomicBool::new(false), announcer, owner }, announcements)
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
    pub fn announce(&self, endpoints: Vec<EndpointId>) {
        if let (Some(announcer), false) = (&self.announcer, endpoints.is_empty()) {
            // Full: others find it with their scan.
            let _ = announcer.try_send(endpoints);
        }
    }

    /// Begins to listen. Only the first caller gets a receiver: one engine per process.
    pub fn listen(&self) -> Option<mpsc::Receiver<Signal>> {
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
                if sender.try_send(signal).is_err() {
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
