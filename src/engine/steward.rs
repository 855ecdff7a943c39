//! The loop: waits for something to happen, tells the lanes, and does what they say. It never waits for the store or a receiver itself:
//! whatever takes time is spawned and comes back as an event.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::lane::QUEUE;
use super::lanes::{Known, Lanes, Start};
use super::record::Settled;
use super::send::Sending;
use super::{Event, Moment};
use crate::domain::message::Message;
use crate::domain::time::Clock;
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::announce::Heard;
use crate::store::deliveries::{LaneWants, PendingLane, Waiting};
use crate::store::directory::LiveEndpoint;
use crate::store::in_order::InOrder;
use crate::store::record::Finished;
use crate::store::signals::Signal;
use crate::store::{Store, StoreError};

/// How often the store is asked what is pending at all, when nothing else tells: how long a lost signal, or a message that another
/// process accepted, goes unnoticed. With a store of our own, signals say nearly everything.
const SCAN_SHARED: Duration = Duration::from_millis(250);
const SCAN_OWN: Duration = Duration::from_secs(2);
/// A scan may take up at most this share of the time.
const SCAN_SHARE: u32 = 10;
/// The longest nap: so late a jump of the wall clock is noticed.
const NAP: Duration = Duration::from_millis(250);
/// How many events are taken at once.
const EVENTS: usize = 256;
/// How often lanes are tidied.
const TIDY: Duration = Duration::from_secs(20);

/// What one reading brought.
pub struct Reading {
    wants: Vec<LaneWants>,
    waiting: Vec<Waiting>,
    in_order: Vec<InOrder>,
    messages: HashMap<MessageId, Arc<Message>>,
}

/// Endpoints that were loaded, and which were asked for.
pub struct Loaded {
    asked: Vec<EndpointId>,
    lives: Result<Vec<Arc<LiveEndpoint>>, StoreError>,
}

/// The loop's state.
pub struct Steward {
    store: Store,
    sending: Arc<Sending>,
    clock: Clock,
    began: Instant,
    events: mpsc::UnboundedSender<Event>,
    finished: mpsc::UnboundedSender<Finished>,
    lanes: Lanes,
    reading: bool,
    scanning: Option<Instant>,
    scan_at: Instant,
    tidy_at: Instant,
    /// Nothing is sent after this: others may own our slots by then.
    leased_until: Instant,
    /// Slots to be handed over once nothing of theirs is on its way.
    releases: BTreeSet<u8>,
    released: Option<mpsc::UnboundedSender<Vec<u8>>>,
    drain: Option<oneshot::Sender<()>>,
    draining: bool,
}

impl Steward {
    pub fn new(
        store: Store,
        sending: Sending,
        clock: Clock,
        events: mpsc::UnboundedSender<Event>,
        finished: mpsc::UnboundedSender<Finished>,
    ) -> Steward {
        let now = Instant::now();
        Steward {
            store,
            sending: Arc::new(sending),
            clock,
            began: now,
            events,
            finished,
            lanes: Lanes::new(1, 1),
            reading: false,
            scanning: None,
            scan_at: now,
            tidy_at: now + TIDY,
            leased_until: now,
            releases: BTreeSet::new(),
            released: None,
            drain: None,
            draining: false,
        }
    }

    pub fn with_caps(mut self, max_in_flight: usize, lane_cap: usize) -> Steward {
        self.lanes = Lanes::new(max_in_flight, lane_cap);
        self
    }

    /// Runs until the engine is dropped.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        let Some(mut signals) = self.store.signals().listen() else {
            tracing::error!("a second engine on one store in one process does nothing");
            return;
        };
        let mut events = Vec::with_capacity(EVENTS);
        let mut heard = Vec::with_capacity(EVENTS);
        loop {
            let nap = self.nap();
            tokio::select! {
                taken = inbox.recv_many(&mut events, EVENTS) => if taken == 0 { return },
                _ = signals.recv_many(&mut heard, EVENTS) => {}
                _ = tokio::time::sleep(nap) => {}
            }
            // Signals first: what a reading brings may be what they tell of.
            while let Ok(signal) = signals.try_recv() {
                heard.push(signal);
            }
            let now = self.now();
            heard.drain(..).for_each(|signal| self.hear(signal, now));
            events.drain(..).for_each(|event| self.happen(event, now));
            self.act();
        }
    }

    fn now(&self) -> Moment {
        Moment { wall: self.clock.now(), mono: self.began.elapsed() }
    }

    fn nap(&self) -> Duration {
        if self.resting() {
            return NAP;
        }
        let scan = self.scan_at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let lanes = self.lanes.idle_for(self.now()).unwrap_or(NAP);
        // A lane that is due but cannot be served yet (a reading is under way, we are full) is woken by what it waits for.
        lanes.max(Duration::from_millis(1)).min(scan).min(NAP)
    }

    /// Whether nothing may be sent: we are leaving, or do not know whether our slots are still ours.
    fn resting(&self) -> bool {
        self.draining || Instant::now() >= self.leased_until
    }

    /// What the store tells us.
    fn hear(&mut self, signal: Signal, now: Moment) {
        match signal {
            Signal::Accepted(admissions) if !self.draining => {
                let others: BTreeSet<EndpointId> =
                    admissions.iter().flat_map(|admission| self.lanes.admit(admission, now)).collect();
                self.store.signals().announce(others.into_iter().collect());
            }
            Signal::Accepted(_) => {}
            Signal::Withdrawn(ended) => self.lanes.withdraw(&ended),
            Signal::Look(endpoint) => match self.lanes.nudge(endpoint, Time::ZERO) {
                Known::Ours => {}
                Known::Others => self.store.signals().announce(vec![endpoint]),
                Known::No => {
                    self.store.signals().announce(vec![endpoint]);
                    self.load(vec![endpoint]);
                }
            },
            Signal::Changed(app) => {
                let endpoints = self.lanes.of_app(app);
                self.load(endpoints);
            }
        }
    }

    fn happen(&mut self, event: Event, now: Moment) {
        match event {
            Event::Sent(finished) => {
                self.lanes.sent(finished.attempt.endpoint_id, &finished.attempt.outcome, now);
                // The recorder outlives this loop.
                let _ = self.finished.send(*finished);
            }
            Event::Recorded(settled) => self.recorded(&settled),
            Event::Read(Ok(reading)) => {
                self.reading = false;
                self.lanes.read(&reading.wants, &reading.waiting, &reading.messages, now);
                for id in self.lanes.read_in_order(&reading.in_order, &reading.messages, now) {
                    self.number(id, now.wall);
                }
            }
            Event::Read(Err(reading)) => {
                self.reading = false;
                self.lanes.read_failed(&reading.wants, now);
            }
            Event::Numbered(id, done) => self.lanes.numbered(id, done, now),
            Event::Lives(loaded) => self.loaded(loaded, now),
            Event::Pending(pending) => self.scanned(pending),
            Event::Leases(leases, until) => {
                let grown = self.lanes.owned_slots() < leases.len();
                self.lanes.lease(&leases, now);
                self.leased_until = until;
                if grown {
                    self.scan_at = Instant::now();
                }
            }
            Event::Release(slots, released) => {
                self.lanes.release(&slots, now);
                self.releases.extend(slots);
                self.released = Some(released);
            }
            Event::Announced(Heard::Own) => {}
            Event::Announced(Heard::Anything) => self.scan_at = Instant::now(),
            Event::Announced(Heard::Due(endpoints)) => {
                let unknown = |id: &EndpointId| self.lanes.nudge(*id, Time::ZERO) == Known::No;
                let unknown = endpoints.into_iter().filter(unknown).collect();
                self.load(unknown);
            }
            Event::Drain(done) => {
                self.draining = true;
                self.drain = Some(done);
            }
        }
    }

    fn recorded(&mut self, settled: &[Settled]) {
        for one in settled {
            self.lanes.recorded(one.endpoint, one.message, one.due);
        }
        let disabled: HashSet<_> = settled.iter().filter_map(|one| one.disabled).collect();
        for app in disabled {
            let endpoints = self.lanes.of_app(app);
            self.load(endpoints);
        }
    }

    fn loaded(&mut self, loaded: Loaded, now: Moment) {
        match loaded.lives {
            Ok(lives) => {
                let mut gone: HashSet<EndpointId> = loaded.asked.into_iter().collect();
                gone.retain(|id| !lives.iter().any(|live| live.endpoint.id == *id));
                self.lanes.know(&lives, now);
                self.lanes.forget(&gone);
            }
            Err(error) => tracing::debug!(%error, "endpoints are loaded again with the next scan"),
        }
    }

    fn scanned(&mut self, pending: Result<Vec<PendingLane>, StoreError>) {
        let took = self.scanning.take().map(|began| began.elapsed()).unwrap_or_default();
        let every = if self.store.shared() { SCAN_SHARED } else { SCAN_OWN };
        // One that failed took as long as somebody waited for a store that was away: no reason to wait on when it is back.
        let rest = if pending.is_ok() { every.max(took * SCAN_SHARE) } else { every };
        self.scan_at = Instant::now() + rest;
        match pending {
            Ok(pending) => {
                let oldest = pending.iter().map(|lane| lane.first_due).min();
                let age = oldest.map_or(Duration::ZERO, |due| self.clock.now().since(due));
                metrics::gauge!("sendoff_oldest_pending_seconds").set(age.as_secs_f64());
                let mut load = self.lanes.pending(&pending);
                if self.store.shared() {
                    // Others change endpoints too, and their signals do not reach us.
                    load.extend(self.lanes.endpoints());
                }
                self.load(load);
            }
            Err(error) => tracing::debug!(%error, "what is pending is asked for again"),
        }
    }

    /// Does what the lanes say now.
    fn act(&mut self) {
        self.answer_waiters();
        let now = self.now();
        metrics::gauge!("sendoff_in_flight").set(self.lanes.in_flight() as f64);
        if self.resting() {
            return;
        }
        while let Some(start) = self.lanes.start(now) {
            self.send(start);
        }
        self.read(now);
        if self.scanning.is_none() && (Instant::now() >= self.scan_at || self.store.signals().take_missed()) {
            self.scan();
        }
        if Instant::now() >= self.tidy_at {
            self.tidy_at = Instant::now() + TIDY;
            self.lanes.tidy(now);
        }
    }

    fn answer_waiters(&mut self) {
        if let Some(done) = self.drain.take_if(|_| self.lanes.settled()) {
            let _ = done.send(());
        }
        if let (Some(released), false) = (&self.released, self.releases.is_empty()) {
            let busy = self.lanes.busy_slots();
            let quiet: Vec<u8> = self.releases.extract_if(.., |slot| !busy.contains(slot)).collect();
            if !quiet.is_empty() {
                let _ = released.send(quiet);
            }
        }
    }

    fn send(&self, start: Start) {
        let (sending, clock, events) = (self.sending.clone(), self.clock, self.events.clone());
        tokio::spawn(async move {
            let finished = sending.attempt(start, clock).await;
            let _ = events.send(Event::Sent(Box::new(finished)));
        });
    }

    /// One reading at a time: the next one covers whatever came up meanwhile.
    fn read(&mut self, now: Moment) {
        if self.reading {
            return;
        }
        let (wants, held) = self.lanes.begin_reading(now);
        if wants.is_empty() {
            return;
        }
        self.reading = true;
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut reading = Reading { wants, waiting: Vec::new(), in_order: Vec::new(), messages: HashMap::new() };
            let done = read(&store, &mut reading, &held, now.wall).await;
            let result = match done {
                Ok(()) => Ok(reading),
                Err(error) => {
                    tracing::debug!(%error, "lanes are read again");
                    Err(reading)
                }
            };
            let _ = events.send(Event::Read(result));
        });
    }

    /// By itself: where much has to be numbered, no other lane's reading waits for it.
    fn number(&self, id: EndpointId, now: Time) {
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let done = store.number_pending(id, now).await;
            if let Err(error) = &done {
                tracing::debug!(%error, endpoint = %id, "what waits at an ordered endpoint is numbered again");
            }
            let _ = events.send(Event::Numbered(id, done.is_ok()));
        });
    }

    fn scan(&mut self) {
        self.scanning = Some(Instant::now());
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let _ = events.send(Event::Pending(store.pending_lanes().await));
        });
    }

    fn load(&self, asked: Vec<EndpointId>) {
        if asked.is_empty() {
            return;
        }
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let lives = store.live_endpoints(&asked).await;
            let _ = events.send(Event::Lives(Loaded { asked, lives }));
        });
    }
}

/// Reads what waits, and the messages of what is due and not held.
async fn read(
    store: &Store,
    reading: &mut Reading,
    held: &HashSet<(EndpointId, MessageId)>,
    now: Time,
) -> Result<(), StoreError> {
    let (ordered, free): (Vec<LaneWants>, Vec<LaneWants>) = reading.wants.iter().partition(|want| want.ordered);
    reading.waiting = store.waiting(&free).await?;
    let ordered: Vec<EndpointId> = ordered.iter().map(|want| want.endpoint).collect();
    reading.in_order = store.in_order(&ordered, QUEUE as i64, now).await?;
    let lacking = |one: &&Waiting| one.is_due(now) && !held.contains(&(one.endpoint_id, one.message_id));
    let all = reading.in_order.iter().flat_map(|order| &order.waiting).chain(&reading.waiting);
    let ids: HashSet<MessageId> = all.filter(lacking).map(|one| one.message_id).collect();
    let messages = store.load_messages(&ids.into_iter().collect::<Vec<_>>()).await?;
    // Without a content there is nothing to send. Nearly always what went with it is dead by now; what is not would come up again
    // and again, and stand in the way of others.
    let (whole, gone): (Vec<Message>, Vec<Message>) =
        messages.into_iter().partition(|message| message.payload.is_some());
    reading.messages = whole.into_iter().map(|message| (message.id, Arc::new(message))).collect();
    if !gone.is_empty() {
        let gone: Vec<MessageId> = gone.iter().map(|message| message.id).collect();
        store.end_without_content(&gone, now).await?;
    }
    Ok(())
}
