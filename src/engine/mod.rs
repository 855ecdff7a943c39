//! The engine: reads due deliveries from the store, sends them as signed POSTs, and records the results.
//!
//! Come here to change when and how deliveries leave.
//!
//! * [`core`]: every decision, as a pure state machine. `(state, events, now) -> actions`.
//! * [`runtime`]: the tasks that perform the actions: event loop, sender, recorder, relay, lease keeper, maintenance.
//! * `simulation` (tests): fleets of cores against a model of the store, replayable from a seed.
//!
//! # Nouns
//!
//! * **slot**: one of 256 groups of endpoints. A process **leases** slots and sends only for endpoints in them.
//! * **lane**: the in-memory queue of one endpoint, with its order, rate limit, concurrency limit and health.
//! * **signal**: an in-process message from the store, such as "accepted" or "endpoint changed". A **notification** is
//!   the same between processes.
//! * **scan**: a paged query for endpoints with pending deliveries. It finds deliveries whose signal was lost.
//! * **read**: a query for the due deliveries of some lanes.
//!
//! # Data flow
//!
//! ```text
//!   store ── signals, reads, scans ──▶ event loop ◀── leases ── lease keeper ◀── heartbeats ──▶ store
//!                                       │  core: events in, actions out
//!                                       ├─ Send ───▶ sender ──▶ receiver ──▶ result back to the core
//!                                       └─ Record ─▶ recorder ──▶ store (one transaction per batch)
//!
//!   beside it, without lanes: relay (outbox) · background work · mail · maintenance (one process of the fleet)
//! ```
//!
//! The event loop and the recorder are two tasks that share no state; they exchange messages.
//!
//! # Invariants
//!
//! * A delivery is never claimed in the store. The owner of its slot holds it in memory until its result is recorded,
//!   so a crash loses nothing: anything unrecorded is still pending.
//! * Only the lease holder of an endpoint's slot sends to it, and it stops before the lease can expire.
//! * The event loop never waits for the store or a receiver.
//! * The engine does not depend on the API or the dashboard. They meet in the store.

mod core;
mod runtime;
#[cfg(test)]
mod simulation;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::domain::deliveries::delivery_settings::DeliverySettings;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use crate::store::queue::slots::{EngineProcess, LEASE, Leases};
use crate::supervisor::Component;
use runtime::attempt_sender::{AttemptSender, FailureEpisodes};
use runtime::clocks::Clocks;
use runtime::event_loop::EventLoop;
use runtime::fleet::{Fleet, FleetWatch};
use runtime::lease_keeper::{self, LeaseKeeper, Phase};
pub use runtime::mailer::Mailer;
use runtime::maintenance::Maintenance;
use runtime::{background_worker, local_upkeep, mailer, notification_listener, recorder, relay_loop};

/// The settings that the engine uses.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub delivery: DeliverySettings,
    /// The retention of messages, deliveries and attempts.
    pub retention: Duration,
    /// The retention of the rows of deleted endpoints and applications.
    pub deleted_retention: Duration,
    /// Host name and pid, for display.
    pub process: String,
    /// The dashboard, for links in chat messages.
    pub dashboard_url: Url,
    /// `None`: contacts get no mail.
    pub mail: Option<Mailer>,
}

/// An input of the event loop: an event for the core, or a request with a reply channel.
pub(crate) enum LoopInput {
    Event(core::event::CoreEvent),
    /// This process's leases, and the time until which they may be relied on.
    Leases(Leases, Instant),
    /// Slots to release. Each is sent back once nothing in it is queued, in flight or unrecorded.
    Release(Vec<u8>, mpsc::UnboundedSender<Vec<u8>>),
    /// Stop sending; replied to once every result is recorded.
    Drain(oneshot::Sender<()>),
}

/// Readiness fails if the event loop makes no step for this long. Normally it makes four a second.
const STALLED: Duration = Duration::from_secs(5);

/// The time for returning the slots once the drain time is used up.
const MIN_RETURN_TIME: Duration = Duration::from_millis(250);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    process: Uuid,
    drain: Duration,
    events: mpsc::UnboundedSender<LoopInput>,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    relay: JoinHandle<()>,
    lease_keeper: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts on the current tokio runtime. One engine per store and process.
    pub fn start(store: Store, egress: Egress, options: EngineOptions) -> Engine {
        let clock = Clock;
        let clocks = Clocks::start(clock);
        let (events, inbox) = mpsc::unbounded_channel();
        let (finished, results) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let (phase, phases) = watch::channel(Phase::Running);
        let (fleet, fleet_watch) = watch::channel(Fleet::default());
        let freed = Arc::new(Notify::new());
        let process = EngineProcess { id: Uuid::now_v7(), name: options.process.clone(), started_at: clock.now() };
        let id = process.id;
        let DeliverySettings { schedule, timeout, max_in_flight, endpoint_max_in_flight, drain, .. } = options.delivery;
        let sender = AttemptSender {
            egress,
            schedule,
            organizations: store.organization_defaults(),
            timeout,
            dashboard_url: options.dashboard_url,
            episodes: FailureEpisodes::default(),
        };
        let caps = (max_in_flight, endpoint_max_in_flight);
        let event_loop = EventLoop::new(store.clone(), sender, clocks, caps, events.clone(), finished);
        let maintenance = Maintenance {
            retention: options.retention,
            deleted_retention: options.deleted_retention,
            disable_after: options.delivery.disable_after,
            consumer_silent_after: options.delivery.consumer_silent_after,
        };
        let supervisor = store.supervisor();
        let began = Instant::now().into_std();
        let loop_pulse = supervisor.pulse(Component::EventLoop, STALLED, began);
        let lease_pulse = supervisor.pulse(Component::LeaseKeeper, LEASE, began);
        let keeper = LeaseKeeper::new(store.clone(), process, clocks);
        let lease_keeper = lease_keeper::run(keeper, events.clone(), fleet, Arc::clone(&freed), phases, lease_pulse);
        let mut tasks = vec![
            supervisor.essential(Component::EventLoop, event_loop.run(inbox, loop_pulse)),
            supervisor.essential(Component::Recorder, recorder::run(store.clone(), results, events.clone())),
        ];
        tasks.extend(start_workers(&store, clock, &fleet_watch, &stop, options.mail));
        tasks.extend([
            supervisor.restarting(Component::Listener, {
                let (store, events, stop, id) = (store.clone(), events.clone(), stop.clone(), id);
                move || notification_listener::run(store.clone(), id, events.clone(), Arc::clone(&freed), stop.clone())
            }),
            supervisor.restarting(Component::Maintenance, {
                let (store, fleet_watch, stop) = (store.clone(), fleet_watch.clone(), stop.clone());
                move || maintenance.run(store.clone(), clock, fleet_watch.clone(), stop.clone())
            }),
            supervisor.restarting(Component::LocalUpkeep, {
                let (store, stop) = (store.clone(), stop.clone());
                move || local_upkeep::run(store.clone(), clock, stop.clone())
            }),
        ]);
        Engine {
            relay: supervisor.restarting(Component::Relay, {
                let (store, stop) = (store.clone(), stop.clone());
                move || relay_loop::run(store.clone(), clock, fleet_watch.clone(), stop.clone())
            }),
            lease_keeper: supervisor.essential(Component::LeaseKeeper, lease_keeper),
            tasks,
            store,
            process: id,
            drain,
            events,
            stop,
            phase,
        }
    }

    /// Stops reading, finishes and records attempts in flight within the drain time, and returns the slots. Logs a
    /// warning if some attempts may be unrecorded; those deliveries are sent again.
    pub async fn shut_down(mut self) {
        let until = Instant::now() + self.drain;
        if !self.finish(until).await {
            tracing::warn!("the drain time is over; deliveries still in flight or unrecorded will be sent again");
        }
        self.depart(until).await;
    }

    /// Shuts down after an essential task was lost, within `time` (less than a lease). If attempts may still be in
    /// flight, the slots are not returned: other processes take them when the leases expire, as after a crash.
    pub async fn give_up(mut self, time: Duration) {
        let until = Instant::now() + time;
        if self.finish(until).await {
            self.depart(until + time).await;
        }
    }

    /// Returns `true` if every result is recorded.
    async fn finish(&mut self, until: Instant) -> bool {
        self.store.supervisor().expect_ends();
        self.stop.cancel();
        // The relay first: its transaction commits or rolls back, and adds nothing new.
        let _ = tokio::time::timeout_at(until, &mut self.relay).await;
        let (done, drained) = oneshot::channel();
        let _ = self.events.send(LoopInput::Drain(done));
        // Slots with attempts in flight keep their leases until these are recorded. The others are returned meanwhile.
        let _ = self.phase.send(Phase::Draining);
        let finished = matches!(tokio::time::timeout_at(until, drained).await, Ok(Ok(())));
        let _ = self.phase.send(Phase::Stopped);
        finished
    }

    /// Returns the slots, at the latest by `until`.
    async fn depart(self, until: Instant) {
        let last = until.max(Instant::now() + MIN_RETURN_TIME);
        let by = |longest: Duration| last.min(Instant::now() + longest);
        let _ = tokio::time::timeout_at(by(Duration::from_secs(2)), self.lease_keeper).await;
        match tokio::time::timeout_at(by(Duration::from_secs(3)), self.store.deregister(self.process)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "returning the slots failed; their leases will expire"),
            Err(_) => tracing::warn!("returning the slots failed; their leases will expire"),
        }
        self.tasks.into_iter().for_each(|task| task.abort());
    }
}

/// Starts the background and mail workers.
fn start_workers(
    store: &Store,
    clock: Clock,
    fleet: &FleetWatch,
    stop: &CancellationToken,
    mail: Option<Mailer>,
) -> Vec<JoinHandle<()>> {
    let supervisor = store.supervisor();
    let (ours, fleet_watch, until) = (store.clone(), fleet.clone(), stop.clone());
    let background = move || background_worker::run(ours.clone(), clock, fleet_watch.clone(), until.clone());
    let mut started = vec![supervisor.restarting(Component::Background, background)];
    if let Some(mailer) = mail {
        // Before the first record, or failing endpoints are missed.
        store.enable_mail();
        let (ours, fleet_watch, until) = (store.clone(), fleet.clone(), stop.clone());
        let mail = move || mailer::run(mailer.clone(), ours.clone(), clock, fleet_watch.clone(), until.clone());
        started.push(supervisor.restarting(Component::Mail, mail));
    }
    started
}
