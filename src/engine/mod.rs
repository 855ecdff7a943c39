//! The engine: what is due leaves the store, is signed and sent, and what came of it goes back.
//!
//! The cast:
//!
//! * the **core** ([`core`]) – all decisions, without I/O: (state, events, now) → actions. Its **lanes** ([`lanes`]), one per endpoint with
//!   something to do, have a queue, a rate, a cap and a health ([`lane`]).
//! * the **loop** ([`steward`]) – feeds events to the core and does what it says: start sends, read the store.
//! * **send** – one delivery, one POST. No transaction and no connection is held across it.
//! * **record** – results go into the store in batches.
//! * the **relay** – moves outbox rows through the door. **background** – work that somebody asked for, a step at a time ([`by_turns`]).
//! * **slots** – the leases under which this process sends, as [`beats`] decides. **sweep** – what is done now and then. **announced** – what
//!   other processes have just accepted. **mail** – what is told to applications' contacts.
//! * a [`moment`](moment::Moment) – what time it is, for what is due and for the pace.
//!
//! The engine never claims a delivery in the store: the owner of its slot keeps in memory what it holds, and the record takes it from
//! there.

mod announced;
mod background;
mod beats;
mod breaker;
mod by_turns;
mod core;
mod lane;
mod lanes;
mod limit;
mod loads;
mod mail;
mod moment;
mod record;
mod relay;
mod send;
#[cfg(test)]
mod simulation;
mod slots;
mod steward;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::backoff::Schedule;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use crate::store::slots::{Leases, Process};
pub use mail::Mailing;
use moment::Clocks;
use send::Sending;
use slots::Stay;
use steward::Steward;
use sweep::Sweep;

/// The process's settings, as the engine needs them.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// For endpoints that have none of their own.
    pub schedule: Schedule,
    pub timeout: Duration,
    /// How many requests may be in flight, in all and to one endpoint.
    pub max_in_flight: usize,
    pub endpoint_max_in_flight: usize,
    /// How long a shutdown waits for what is in flight.
    pub drain: Duration,
    /// An endpoint that did nothing but fail for so long is disabled.
    pub disable_after: Duration,
    /// How long messages, deliveries and attempts are kept.
    pub retention: Duration,
    /// Host and pid, for people.
    pub process: String,
    /// `None`: contacts are told nothing.
    pub mail: Option<Mailing>,
}

/// What happens to the engine: an event for its core, or one that somebody wants an answer to.
pub(crate) enum Happening {
    Event(core::Event),
    /// Our leases, and until when they may be relied on.
    Leases(Leases, Instant),
    /// Slots to let go of; each is told when nothing of it is on its way any more.
    Release(Vec<u8>, mpsc::UnboundedSender<Vec<u8>>),
    /// No more sends; answered when everything is recorded.
    Drain(oneshot::Sender<()>),
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    process: Uuid,
    drain: Duration,
    events: mpsc::UnboundedSender<Happening>,
    stop: watch::Sender<bool>,
    stay: watch::Sender<Stay>,
    relay: JoinHandle<()>,
    slots: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts on the current tokio runtime. One engine per store and process.
    pub fn start(store: Store, egress: Egress, options: EngineOptions) -> Engine {
        let clock = Clock;
        let clocks = Clocks::start(clock);
        let (events, inbox) = mpsc::unbounded_channel();
        let (finished, results) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (stay, stays) = watch::channel(Stay::On);
        let freed = Arc::new(Notify::new());
        let process = Process { id: Uuid::now_v7(), name: options.process.clone(), started_at: clock.now() };
        let id = process.id;
        let sending = Sending { egress, schedule: options.schedule, timeout: options.timeout };
        let caps = (options.max_in_flight, options.endpoint_max_in_flight);
        let steward = Steward::new(store.clone(), sending, clocks, caps, events.clone(), finished);
        let sweep = Sweep { retention: options.retention, disable_after: options.disable_after };
        let mail = options.mail.map(|mailing| {
            // Written from the first record on, or not at all.
            store.write_mails();
            tokio::spawn(mail::run(mailing, store.clone(), clock, stopped.clone()))
        });
        let mut others = vec![
            tokio::spawn(steward.run(inbox)),
            tokio::spawn(record::run(store.clone(), results, events.clone())),
            tokio::spawn(background::run(store.clone(), clock, stopped.clone())),
            tokio::spawn(announced::run(store.clone(), events.clone(), Arc::clone(&freed), stopped.clone())),
            tokio::spawn(sweep.run(store.clone(), clock, stopped.clone())),
        ];
        others.extend(mail);
        Engine {
            relay: tokio::spawn(relay::run(store.clone(), clock, stopped.clone())),
            slots: tokio::spawn(slots::run(store.clone(), process, clocks, events.clone(), freed, stays)),
            others,
            store,
            process: id,
            drain: options.drain,
            events,
            stop,
            stay,
        }
    }

    /// Stops reading, finishes and records what is in flight (for the drain time at most), hands the slots back.
    /// After this nothing that was sent is unrecorded, unless the store was away or the drain time too short; it says so in the log.
    pub async fn shut_down(self) {
        let until = Instant::now() + self.drain;
        let _ = self.stop.send(true);
        // The relay first: what it is moving just now is moved or is not, and nothing new comes.
        let _ = tokio::time::timeout_at(until, self.relay).await;
        let (done, drained) = oneshot::channel();
        let _ = self.events.send(Happening::Drain(done));
        // What is in flight keeps its leases until it is recorded; what is quiet is handed over meanwhile.
        let _ = self.stay.send(Stay::Leaving);
        if !matches!(tokio::time::timeout_at(until, drained).await, Ok(Ok(()))) {
            tracing::warn!("the drain time is over: what is still in flight or unrecorded will be sent again");
        }
        let _ = self.stay.send(Stay::Gone);
        let _ = tokio::time::timeout(Duration::from_secs(2), self.slots).await;
        match tokio::time::timeout(Duration::from_secs(3), self.store.depart(self.process)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the slots are not handed back; they run out by themselves"),
            Err(_) => tracing::warn!("the slots are not handed back; they run out by themselves"),
        }
        self.others.into_iter().for_each(|task| task.abort());
    }
}
