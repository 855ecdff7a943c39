//! The inputs ([`CoreEvent`]) and outputs ([`CoreAction`]) of the core.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::endpoint_loads::EndpointLoad;
use super::lanes::Dispatch;
use super::scanning::{ScanPage, ScanPosition};
use crate::domain::deliveries::attempt::LocalFailure;
use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::notify::Notification;
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery};
use crate::store::queue::signals::QueuedSignal;
use crate::store::queue::slots::Leases;
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// An input of the core.
#[derive(Debug)]
pub enum CoreEvent {
    /// A signal from the store of this process.
    Signal(QueuedSignal),
    /// A signal was lost. Scans and reloads recover its content.
    SignalLost,
    /// A notification from another process.
    Notified(Notification),
    /// An attempt has ended.
    Sent(Box<FinishedAttempt>),
    /// An attempt was not made for a local reason. It is not recorded.
    NotSent(UnsentAttempt),
    Recorded(Vec<RecordResult>),
    Read(Result<ReadResult, Vec<LaneRequest>>),
    /// The deliveries without a number at an ordered endpoint were numbered; `false`: the store was unavailable.
    Numbered(EndpointId, bool),
    Loaded(LoadResult),
    /// A page of a scan; `None`: the store was unavailable.
    Scanned(Option<ScanPage>),
    /// The slots that this process leases, and the end of the leases (monotonic time).
    Leases(Leases, Duration),
    /// Slots to release.
    Release(Vec<u8>),
    /// Stop sending.
    Drain,
}

/// An output of the core. Results of slow work come back as a [`CoreEvent`].
#[derive(Debug)]
pub enum CoreAction {
    Send(Dispatch),
    Record(Box<FinishedAttempt>),
    /// Read due deliveries for these lanes, and load their messages except those already held. Loads at most this many
    /// payload bytes, but always at least one message.
    Read(Vec<LaneRequest>, HashSet<(EndpointId, MessageId)>, usize),
    /// Assign sequence numbers to the pending deliveries of this ordered endpoint.
    Number(EndpointId),
    /// Read the next page of endpoints with pending deliveries.
    Scan(ScanPosition),
    Load(EndpointLoad),
    /// Notify other processes that deliveries to these endpoints are due.
    Announce(Vec<EndpointId>),
    /// These released slots have nothing queued, in flight or unrecorded.
    Quiet(Vec<u8>),
    /// Every result is recorded.
    Drained,
}

/// An attempt that was not made for a local reason, such as no free file descriptor.
#[derive(Clone, Copy, Debug)]
pub struct UnsentAttempt {
    pub endpoint: EndpointId,
    pub message: MessageId,
    pub why: LocalFailure,
    /// From 0 to 1; spreads the retries.
    pub jitter: f64,
}

/// The result of one read.
#[derive(Debug)]
pub struct ReadResult {
    pub wants: Vec<LaneRequest>,
    pub waiting: Vec<PendingDelivery>,
    /// The heads of ordered endpoints' queues.
    pub in_order: Vec<OrderedHead>,
    /// The messages within the byte budget. Others are read again.
    pub messages: HashMap<MessageId, Arc<Message>>,
}

/// The result of a load: the endpoints that exist, or `None` if the store was unavailable.
#[derive(Debug)]
pub struct LoadResult {
    pub load: EndpointLoad,
    pub lives: Option<Vec<Arc<LiveEndpoint>>>,
}

/// The effect of one record on its lane.
#[derive(Clone, Copy, Debug)]
pub struct RecordResult {
    pub endpoint: EndpointId,
    pub message: MessageId,
    /// The time at which the delivery is due again, if it is retried.
    pub due: Option<Time>,
    /// The application, if this record disabled the endpoint.
    pub disabled: Option<AppId>,
}

impl RecordResult {
    /// The effect of recording `one` with this result.
    pub fn of(one: &FinishedAttempt, result: RecordOutcome) -> RecordResult {
        let due = match result {
            RecordOutcome::Applied => one.next.due(),
            // The delivery changed meanwhile or its slot has another owner. The store has its state.
            RecordOutcome::Superseded | RecordOutcome::Fenced => Some(Time::ZERO),
        };
        let disabled = one.disable.filter(|_| result == RecordOutcome::Applied).map(|_| one.attempt.app_id);
        RecordResult { endpoint: one.attempt.endpoint_id, message: one.attempt.message_id, due, disabled }
    }
}
