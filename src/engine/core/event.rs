//! What goes into the core ([`Event`]) and what comes out of it ([`Action`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::endpoint_loads::Load;
use super::lanes::Start;
use super::scanning::{Page, Scan};
use crate::domain::attempt::OwnFailure;
use crate::domain::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::in_order::InOrder;
use crate::store::queue::notify::Heard;
use crate::store::queue::signals::Told;
use crate::store::queue::slots::Leases;
use crate::store::queue::waiting::{LaneWants, Waiting};
use crate::store::recording::record::{Finished, Recorded};

/// An input of the core: something happened.
#[derive(Debug)]
pub enum Event {
    /// The store of this process signals.
    Signal(Told),
    /// A signal was lost: its content has to be found by other means.
    SignalLost,
    /// A notification from another process.
    Announced(Heard),
    /// An attempt has ended.
    Sent(Box<Finished>),
    /// An attempt could not be made, for a reason of ours: it is not recorded.
    NotMade(NotMade),
    Recorded(Vec<Settled>),
    Read(Result<Reading, Vec<LaneWants>>),
    /// The deliveries without a number at an ordered endpoint were numbered; `false`: the store was unavailable.
    Numbered(EndpointId, bool),
    Loaded(Loaded),
    /// A page of a scan; `None`: the store was unavailable.
    Scanned(Option<Page>),
    /// The slots we own, and until when (in the engine's own time) that holds.
    Leases(Leases, Duration),
    /// Slots to give up.
    Release(Vec<u8>),
    /// Stop sending.
    Drain,
}

/// An output of the core: something to do. Results of slow work come back as an [`Event`].
#[derive(Debug)]
pub enum Action {
    Send(Start),
    Record(Box<Finished>),
    /// Read what waits for these lanes, and load its messages except those that are held: payloads of so many bytes at most, but one
    /// message in any case.
    Read(Vec<LaneWants>, HashSet<(EndpointId, MessageId)>, usize),
    /// Number the deliveries that wait at this ordered endpoint.
    Number(EndpointId),
    /// List the endpoints that have something pending: the next page.
    Scan(Scan),
    Load(Load),
    /// Notify other processes that something of these endpoints is due.
    Announce(Vec<EndpointId>),
    /// Nothing of these released slots is in flight or unrecorded any more.
    Quiet(Vec<u8>),
    /// Everything that was sent is recorded.
    Drained,
}

/// An attempt that could not be made.
#[derive(Clone, Copy, Debug)]
pub struct NotMade {
    pub endpoint: EndpointId,
    pub message: MessageId,
    pub why: OwnFailure,
    /// In 0..=1; spreads the next tries.
    pub jitter: f64,
}

/// The result of one read.
#[derive(Debug)]
pub struct Reading {
    pub wants: Vec<LaneWants>,
    pub waiting: Vec<Waiting>,
    /// Of ordered endpoints.
    pub in_order: Vec<InOrder>,
    /// Those that fit into the budget. What was left out is read again.
    pub messages: HashMap<MessageId, Arc<Message>>,
}

/// The result of a load: those of its endpoints that exist; `None`: the store was unavailable.
#[derive(Debug)]
pub struct Loaded {
    pub load: Load,
    pub lives: Option<Vec<Arc<LiveEndpoint>>>,
}

/// The result of one record, as the lanes need it.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub endpoint: EndpointId,
    pub message: MessageId,
    /// When the delivery is due again.
    pub due: Option<Time>,
    /// The endpoint was disabled by this record; its application.
    pub disabled: Option<AppId>,
}

impl Settled {
    /// What recording `one` came to.
    pub fn of(one: &Finished, result: Recorded) -> Settled {
        let due = match result {
            Recorded::Applied => one.next.due(),
            // The delivery changed meanwhile, or its slot has another owner: the store knows its state.
            Recorded::Superseded | Recorded::Fenced => Some(Time::ZERO),
        };
        let disabled = one.disable.filter(|_| result == Recorded::Applied).map(|_| one.attempt.app_id);
        Settled { endpoint: one.attempt.endpoint_id, message: one.attempt.message_id, due, disabled }
    }
}
