//! How the store tells an engine in the same process what has just become due, without either knowing the other.
//!
//! A signal only ever speeds things up: when one is lost (no engine, a full queue, another process), the engine finds the work
//! by reading the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::directory::LiveEndpoint;
use crate::domain::message::Message;
use crate::domain::{AppId, EndpointId, MessageId};

/// How many signals may wait for the engine; one carries a whole batch.
const QUEUE: usize = 1_024;

/// What the engine should know.
#[derive(Debug)]
pub enum Signal {
    /// Accepted and committed just now: these deliveries are due, or will be when their message says.
    Accepted(Vec<Admission>),
    /// Something of this endpoint has become due (a resend).
    Look(EndpointId),
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
}

/// The sending half, kept in the store.
#[derive(Debug, Default)]
pub struct Signals {
    sender: OnceLock<mpsc::Sender<Signal>>,
    missed: AtomicBool,
}

impl Signals {
    /// Begins to listen. Only the first caller gets a receiver: one engine per process.
    pub fn listen(&self) -> Option<mpsc::Receiver<Signal>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.sender.set(sender).is_ok().then_some(receiver)
    }

    /// Whether a signal was lost since the last call: time to read the store.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn send(&self, signal: Signal) {
        if self.sender.get().is_some_and(|sender| sender.try_send(signal).is_err()) {
            self.missed.store(true, Ordering::Release);
        }
    }
}
