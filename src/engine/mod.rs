//! The engine: takes deliveries that are due from the store, signs and sends them, and records the results.
//!
//! * [`core`] – all decisions, as a pure state machine without I/O: (state, events, now) → actions.
//! * [`runtime`] – the loops around it: event loop, sending, recording, relay, leases, maintenance.
//! * `simulation` (tests) – fleets of cores against a model of the store, driven by seeds.
//!
//! Invariants:
//!
//! * A delivery is never claimed in the store. The owner of its slot holds it in memory until its result is recorded, so a crash loses
//!   nothing: what was not recorded is still pending.
//! * Only the owner of an endpoint's slot sends to it, and it stops before its lease can run out.
//! * The engine never sees the API or the dashboard; they meet in the store.

mod core;
mod runtime;
#[cfg(test)]
mod simulation;

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
use crate::store::queue::slots::{LEASE, Leases, Process};
use crate::supervisor::Supervised;
use runtime::clocks::Clocks;
use runtime::event_loop::EventLoop;
use runtime::fleet::{Fleet, Seen};
use runtime::lease_keeper::{self, Heart, Stay};
pub use runtime::mail::Mailing;
use runtime::maintenance::Maintenance;
use runtime::send::{Episodes, Sending};
use runtime::{background, local_upkeep, mail, notification_listener, record, relay};

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
    /// How long the rows of deleted endpoints and applications are kept whole.
    pub deleted_retention: Duration,
    /// Host and pid, for people.
    pub process: String,
    /// `None`: contacts are told nothing.
    pub mail: Option<Mailing>,
}

/// An input to the event loop: an event for the core, or a request with an answer.
pub(crate) enum LoopInput {
    Event(core::event::Event),
    /// Our leases, and until when they may be relied on.
    Leases(Leases, Instant),
    /// Slots to let go of; each is told when nothing of it is on its way any more.
    Release(Vec<u8>, mpsc::UnboundedSender<Vec<u8>>),
    /// No more sends; answered when everything is recorded.
    Drain(oneshot::Sender<()>),
}

/// The event loop makes a step four times a second, and readiness ends if it made none for this long.
const STALLED: Duration = Duration::from_secs(5);

/// How long handing back the slots may take once the time for a shutdown is over.
const GOODBYE: Duration = Duration::from_millis(250);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    process: Uuid,
    drain: Duration,
    events: mpsc::UnboundedSender<LoopInput>,
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
        let (fleet, seen) = watch::channel(Fleet::default());
        let freed = Arc::new(Notify::new());
        let process = Process { id: Uuid::now_v7(), name: options.process.clone(), started_at: clock.now() };
        let id = process.id;
        let sending =
            Sending { egress, schedule: options.schedule, timeout: options.timeout, episodes: Episodes::default() };
        let caps = (options.max_in_flight, options.endpoint_max_in_flight);
        let event_loop = EventLoop::new(store.clone(), sending, clocks, caps, events.clone(), finished);
        let maintenance = Maintenance {
            retention: options.retention,
            deleted_retention: options.deleted_retention,
            disable_after: options.disable_after,
        };
        let supervisor = store.supervisor();
        let began = Instant::now().into_std();
        let turns = supervisor.pulse(Supervised::EventLoop, STALLED, began);
        let beats = supervisor.pulse(Supervised::LeaseKeeper, LEASE, began);
        let process_id = process.id;
        let heart = Heart::new(store.clone(), process, clocks);
        let keeping = lease_keeper::run(heart, events.clone(), fleet, Arc::clone(&freed), stays, beats);
        let mut others = vec![
            supervisor.essential(Supervised::EventLoop, event_loop.run(inbox, turns)),
            supervisor.essential(Supervised::Recorder, record::run(store.clone(), results, events.clone())),
        ];
        others.extend(restarting(&store, clock, &seen, &stopped, options.mail));
        others.extend([
            supervisor.restarting(Supervised::Listener, {
                let (store, events, stopped, id) = (store.clone(), events.clone(), stopped.clone(), process_id);
                move || {
                    notification_listener::run(store.clone(), id, events.clone(), Arc::clone(&freed), stopped.clone())
                }
            }),
            supervisor.restarting(Supervised::Maintenance, {
                let (store, seen, stopped) = (store.clone(), seen.clone(), stopped.clone());
                move || maintenance.run(store.clone(), clock, seen.clone(), stopped.clone())
            }),
            supervisor.restarting(Supervised::LocalUpkeep, {
                let (store, stopped) = (store.clone(), stopped.clone());
                move || local_upkeep::run(store.clone(), clock, stopped.clone())
            }),
        ]);
        Engine {
            relay: supervisor.restarting(Supervised::Relay, {
                let (store, stopped) = (store.clone(), stopped.clone());
                move || relay::run(store.clone(), clock, seen.clone(), stopped.clone())
            }),
            slots: supervisor.essential(Supervised::LeaseKeeper, keeping),
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
    pub async fn shut_down(mut self) {
        let until = Instant::now() + self.drain;
        if !self.finish(until).await {
            tracing::warn!("the drain time is over: what is still in flight or unrecorded will be sent again");
        }
        self.depart(until).await;
    }

    /// The same without an essential task, within `time` (which is less than a lease). If something may still be in flight, the slots are
    /// not handed back: others take them when the leases have run out, as after a crash.
    pub async fn give_up(mut self, time: Duration) {
        let until = Instant::now() + time;
        if self.finish(until).await {
            self.depart(until + time).await;
        }
    }

    /// `true`: everything that was sent is recorded.
    async fn finish(&mut self, until: Instant) -> bool {
        self.store.supervisor().expect_ends();
        let _ = self.stop.send(true);
        // The relay first: what it is moving just now is moved or is not, and nothing new comes.
        let _ = tokio::time::timeout_at(until, &mut self.relay).await;
        let (done, drained) = oneshot::channel();
        let _ = self.events.send(LoopInput::Drain(done));
        // What is in flight keeps its leases until it is recorded; what is quiet is handed over meanwhile.
        let _ = self.stay.send(Stay::Leaving);
        let finished = matches!(tokio::time::timeout_at(until, drained).await, Ok(Ok(())));
        let _ = self.stay.send(Stay::Gone);
        finished
    }

    /// Hands the slots back, by `until` if the store is slow or away.
    async fn depart(self, until: Instant) {
        let last = until.max(Instant::now() + GOODBYE);
        let by = |longest: Duration| last.min(Instant::now() + longest);
        let _ = tokio::time::timeout_at(by(Duration::from_secs(2)), self.slots).await;
        match tokio::time::timeout_at(by(Duration::from_secs(3)), self.store.depart(self.process)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the slots are not handed back; they run out by themselves"),
            Err(_) => tracing::warn!("the slots are not handed back; they run out by themselves"),
        }
        self.others.into_iter().for_each(|task| task.abort());
    }
}

/// Starts what works by turns of its own.
fn restarting(
    store: &Store,
    clock: Clock,
    fleet: &Seen,
    stopped: &watch::Receiver<bool>,
    mail: Option<Mailing>,
) -> Vec<JoinHandle<()>> {
    let supervisor = store.supervisor();
    let (ours, seen, until) = (store.clone(), fleet.clone(), stopped.clone());
    let background = move || background::run(ours.clone(), clock, seen.clone(), until.clone());
    let mut started = vec![supervisor.restarting(Supervised::Background, background)];
    if let Some(mailing) = mail {
        // Written from the first record on, or not at all.
        store.write_mails();
        let (ours, seen, until) = (store.clone(), fleet.clone(), stopped.clone());
        let mail = move || mail::run(mailing.clone(), ours.clone(), clock, seen.clone(), until.clone());
        started.push(supervisor.restarting(Supervised::Mail, mail));
    }
    started
}
