//! The event loop: waits for events, passes them to the core, and performs its actions. It never waits for the store
//! or a receiver: slow work is spawned and returns as an event.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::attempt_sender::AttemptSender;
use super::clocks::Clocks;
use crate::domain::deliveries::attempt::LocalFailure;
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::LoopInput;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::endpoint_loads::EndpointLoad;
use crate::engine::core::event::{CoreAction, CoreEvent, LoadResult, ReadResult};
use crate::engine::core::lane::QUEUE;
use crate::engine::core::lanes::Dispatch;
use crate::engine::core::scanning::{PAGE, SCAN_OWN, SCAN_SHARED, ScanPosition};
use crate::engine::core::step::Core;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery};
use crate::store::recording::record::FinishedAttempt;
use crate::store::{Store, StoreError};
use crate::supervisor::{Component, Pulse};

/// Maximum events per step.
const EVENTS: usize = 256;
/// Burst spacing: when many requests to one endpoint may start at once, this many start per time span. Without it, a
/// receiver that answers in bursts, or has just come back, would delay requests to other endpoints.
const BURST: (u32, Duration) = (4, Duration::from_millis(1));

/// The means to perform actions. The state that decisions depend on is in the [`Core`].
pub struct EventLoop {
    store: Store,
    sending: Arc<AttemptSender>,
    clocks: Clocks,
    events: mpsc::UnboundedSender<LoopInput>,
    finished: mpsc::UnboundedSender<FinishedAttempt>,
    core: Core,
    /// The reply channels of a release and of the drain.
    released: Option<mpsc::UnboundedSender<Vec<u8>>>,
    drain: Option<oneshot::Sender<()>>,
}

impl EventLoop {
    /// `caps`: the concurrency limits, in total and per endpoint.
    pub fn new(
        store: Store,
        sending: AttemptSender,
        clocks: Clocks,
        caps: (usize, usize),
        events: mpsc::UnboundedSender<LoopInput>,
        finished: mpsc::UnboundedSender<FinishedAttempt>,
    ) -> EventLoop {
        let scan_every = if store.shared() { SCAN_SHARED } else { SCAN_OWN };
        EventLoop {
            core: Core::new(store.shared(), scan_every, caps, clocks.read().mono),
            store,
            sending: Arc::new(sending),
            clocks,
            events,
            finished,
            released: None,
            drain: None,
        }
    }

    /// Runs until the engine is dropped. Every step is reported to `pulse`.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<LoopInput>, pulse: Pulse) {
        let Some(mut signals) = self.store.signals().listen() else {
            tracing::error!("this process already runs an engine on this store; the second one does nothing");
            return;
        };
        let mut inputs = Vec::with_capacity(EVENTS);
        let mut batch = Vec::with_capacity(EVENTS);
        loop {
            pulse.beat(std::time::Instant::now());
            Component::EventLoop.panic_point();
            let sleep = self.core.sleep_time(self.clocks.read());
            // While the core has signals left, more stay in the store's bounded queue.
            let listens = !self.core.has_signals();
            tokio::select! {
                taken = inbox.recv_many(&mut inputs, EVENTS) => if taken == 0 { return },
                _ = signals.recv_many(&mut batch, EVENTS), if listens => {}
                _ = tokio::time::sleep(sleep) => {}
            }
            // Signals come first: they may concern rows of a read.
            let mut signals_drained = false;
            while listens && !signals_drained && batch.len() < EVENTS {
                match signals.try_recv() {
                    Ok(signal) => batch.push(signal),
                    Err(_) => signals_drained = true,
                }
            }
            let mut events: Vec<CoreEvent> = batch.drain(..).map(CoreEvent::Signal).collect();
            // A signal is lost only when the queue is full, and therefore after all queued signals.
            if signals_drained && self.store.signals().take_missed() {
                events.push(CoreEvent::SignalLost);
            }
            events.extend(inputs.drain(..).map(|input| self.event(input)));
            let now = self.clocks.read();
            let mut bursts: HashMap<EndpointId, u32> = HashMap::new();
            let began = Instant::now();
            let actions = self.core.step(events, now);
            metrics::histogram!("sendoff_engine_step_seconds").record(began.elapsed().as_secs_f64());
            for action in actions {
                self.act(action, now, &mut bursts);
            }
            metrics::gauge!("sendoff_engine_lanes").set(self.core.lanes() as f64);
            metrics::gauge!("sendoff_in_flight").set(self.core.in_flight() as f64);
            let rate = self.core.backlog_rate().unwrap_or(0.0);
            metrics::gauge!("sendoff_pace_behind").set(rate);
        }
    }

    /// Keeps the reply channels and passes the rest to the core.
    fn event(&mut self, input: LoopInput) -> CoreEvent {
        match input {
            LoopInput::Event(event) => event,
            LoopInput::Leases(leases, until) => CoreEvent::Leases(leases, self.clocks.mono(until)),
            LoopInput::Release(slots, released) => {
                self.released = Some(released);
                CoreEvent::Release(slots)
            }
            LoopInput::Drain(done) => {
                self.drain = Some(done);
                CoreEvent::Drain
            }
        }
    }

    /// `bursts`: the requests started per endpoint in this step.
    fn act(&mut self, action: CoreAction, now: ClockReading, bursts: &mut HashMap<EndpointId, u32>) {
        match action {
            CoreAction::Send(dispatch) => {
                let before = bursts.entry(dispatch.live.endpoint.id).or_insert(0);
                let later = BURST.1 * (*before / BURST.0);
                *before += 1;
                self.send(dispatch, later);
            }
            CoreAction::Record(finished) => {
                // The recorder outlives this loop.
                let _ = self.finished.send(*finished);
            }
            CoreAction::Number(endpoint) => self.number(endpoint, now),
            CoreAction::Read(wants, held, budget) => self.read(wants, held, budget, now),
            CoreAction::Scan(scan) => self.scan(scan, now),
            CoreAction::Load(load) => self.load(load),
            CoreAction::Announce(endpoints) => self.store.signals().notify_processes(endpoints),
            CoreAction::Quiet(slots) => {
                if let Some(released) = &self.released {
                    let _ = released.send(slots);
                }
            }
            CoreAction::Drained => {
                if let Some(done) = self.drain.take() {
                    let _ = done.send(());
                }
            }
        }
    }

    /// Spawns `work` and passes its event to the core, or `failed` if it panics. Otherwise a flag or a counted
    /// request would stay set forever.
    fn report(
        &self,
        name: Component,
        failed: impl FnOnce() -> CoreEvent + Send + 'static,
        work: impl Future<Output = CoreEvent> + Send + 'static,
    ) {
        let events = self.events.clone();
        // Unboxed, every enclosing future stores it twice, as argument and as awaited future: 25 KB per attempt.
        let work = Box::pin(work);
        tokio::spawn(async move {
            let work = async {
                name.panic_point();
                work.await
            };
            let event = name.guard(work).await.unwrap_or_else(|why| {
                tracing::error!(task = name.word(), "a task of the event loop failed and will be retried: {why}");
                failed()
            });
            let _ = events.send(LoopInput::Event(event));
        });
    }

    /// Starts an attempt after a delay.
    fn send(&self, dispatch: Dispatch, later: Duration) {
        let (sending, clock) = (self.sending.clone(), self.clocks.clock());
        let (copy, ours) = (dispatch.clone(), self.sending.clone());
        let failed = move || CoreEvent::NotSent(ours.local_failure(&copy, LocalFailure::Panic));
        self.report(Component::Send, failed, async move {
            if !later.is_zero() {
                tokio::time::sleep(later).await;
            }
            match sending.attempt(dispatch, clock).await {
                Ok(finished) => CoreEvent::Sent(Box::new(finished)),
                Err(unsent) => CoreEvent::NotSent(unsent),
            }
        });
    }

    fn read(&self, wants: Vec<LaneRequest>, held: HashSet<(EndpointId, MessageId)>, budget: usize, now: ClockReading) {
        let store = self.store.clone();
        let unread = wants.clone();
        self.report(Component::Read, || CoreEvent::Read(Err(unread)), async move {
            let mut reading = ReadResult { wants, waiting: Vec::new(), in_order: Vec::new(), messages: HashMap::new() };
            let done = read(&store, &mut reading, &held, budget, now.time).await;
            CoreEvent::Read(match done {
                Ok(()) => Ok(reading),
                Err(error) => {
                    tracing::debug!(%error, "reading lanes failed and will be retried");
                    Err(reading.wants)
                }
            })
        });
    }

    /// Separate from reads, so a large backlog without sequence numbers does not delay other lanes.
    fn number(&self, id: EndpointId, now: ClockReading) {
        let store = self.store.clone();
        self.report(Component::Number, move || CoreEvent::Numbered(id, false), async move {
            let done = store.number_pending(id, now.time).await;
            if let Err(error) = &done {
                tracing::debug!(%error, endpoint = %id, "assigning sequence numbers failed and will be retried");
            }
            CoreEvent::Numbered(id, done.is_ok())
        });
    }

    fn scan(&self, scan: ScanPosition, now: ClockReading) {
        let store = self.store.clone();
        self.report(Component::Scan, || CoreEvent::Scanned(None), async move {
            CoreEvent::Scanned(match store.pending_lanes(&scan.places(), PAGE).await {
                Ok(lanes) => {
                    let page = scan.page(lanes, PAGE);
                    if page.next.is_none() {
                        let age = page.oldest.map_or(Duration::ZERO, |due| now.time.since(due));
                        metrics::gauge!("sendoff_oldest_pending_seconds").set(age.as_secs_f64());
                    }
                    Some(page)
                }
                Err(error) => {
                    tracing::debug!(%error, "a scan failed and will be retried");
                    None
                }
            })
        });
    }

    fn load(&self, load: EndpointLoad) {
        let store = self.store.clone();
        let unloaded = load.clone();
        let failed = || CoreEvent::Loaded(LoadResult { load: unloaded, lives: None });
        self.report(Component::Load, failed, async move {
            let lives = match store.live_endpoints(&load.endpoints).await {
                Ok(lives) => Some(lives),
                Err(error) => {
                    tracing::debug!(%error, "loading endpoints failed and will be retried after the next scan");
                    None
                }
            };
            CoreEvent::Loaded(LoadResult { load, lives })
        });
    }
}

/// Reads the due deliveries of the lanes and loads their messages, except those in `held`. Loads at most `budget`
/// payload bytes, but always at least one message. Lanes take turns: the first delivery of each comes before the
/// second of any.
async fn read(
    store: &Store,
    reading: &mut ReadResult,
    held: &HashSet<(EndpointId, MessageId)>,
    budget: usize,
    now: Time,
) -> Result<(), StoreError> {
    let (ordered, free): (Vec<LaneRequest>, Vec<LaneRequest>) = reading.wants.iter().partition(|want| want.ordered);
    reading.waiting = store.pending_deliveries(&free).await?;
    let ordered: Vec<EndpointId> = ordered.iter().map(|want| want.endpoint).collect();
    reading.in_order = store.ordered_heads(&ordered, QUEUE as i64, now).await?;
    let lacking = |one: &&PendingDelivery| one.is_due(now) && !held.contains(&(one.endpoint_id, one.message_id));
    let all = reading.in_order.iter().flat_map(|order| &order.waiting).chain(&reading.waiting);
    let mut places: HashMap<EndpointId, usize> = HashMap::new();
    let mut turns: Vec<(usize, MessageId)> = Vec::new();
    for one in all.filter(lacking) {
        let place = places.entry(one.endpoint_id).or_default();
        turns.push((*place, one.message_id));
        *place += 1;
    }
    turns.sort_by_key(|(place, _)| *place);
    let mut seen = HashSet::new();
    let ids: Vec<MessageId> = turns.into_iter().map(|(_, id)| id).filter(|id| seen.insert(*id)).collect();
    let messages = store.load_messages_within(&ids, budget).await?;
    // A message without a payload cannot be sent. Its delivery is almost always dead by now; one that is not would be
    // read again and again and block those behind it.
    let (whole, gone): (Vec<Message>, Vec<Message>) =
        messages.into_iter().partition(|message| message.payload.is_some());
    reading.messages = whole.into_iter().map(|message| (message.id, Arc::new(message))).collect();
    if !gone.is_empty() {
        let gone: Vec<MessageId> = gone.iter().map(|message| message.id).collect();
        store.end_without_content(&gone, now).await?;
    }
    Ok(())
}
