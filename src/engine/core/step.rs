//! The [`Core`]: when anything may be sent at all (leases, draining), when to scan and tidy, and which endpoints to load. The
//! [lanes](super::lanes) decide what is sent and read.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::clock_reading::ClockReading;
use super::endpoint_loads::Loads;
use super::event::{Action, Event, Loaded, Settled};
use super::lanes::{Lanes, Ownership};
use crate::domain::{EndpointId, Time};
use crate::store::queue::notify::Heard;
use crate::store::queue::signals::Signal;
use crate::store::queue::waiting::PendingLane;

/// How often the store is asked what is pending at all, when nothing else tells: how long a lost signal, or a message that another
/// process accepted, goes unnoticed. With a store of our own, signals say nearly everything.
pub const SCAN_SHARED: Duration = Duration::from_millis(250);
pub const SCAN_OWN: Duration = Duration::from_secs(2);
/// A scan may take up at most this share of the time.
const SCAN_SHARE: u32 = 10;
/// With each scan of a store that is shared, one of so many parts of the endpoints is loaded again: others change them too, and their
/// signals do not reach us. All of them each time would be most of what a scan costs.
const PARTS: u128 = 4;
/// The longest nap: so late is it noticed that a lease has run out.
const NAP: Duration = Duration::from_millis(250);
/// How often lanes are tidied.
const TIDY: Duration = Duration::from_secs(20);

/// The engine's state, as far as it decides anything.
pub struct Core {
    lanes: Lanes,
    shared: bool,
    scan_every: Duration,
    reading: bool,
    /// Since when a scan is under way.
    scanning: Option<Duration>,
    /// Something came up during a scan that it may have missed.
    scan_again: bool,
    scan_at: Duration,
    tidy_at: Duration,
    loads: Loads,
    /// Which part of the endpoints was loaded again last.
    part: u128,
    /// A signal was lost: every endpoint may have changed. They are loaded again in chunks, once no other load is under way.
    lost: bool,
    /// Endpoints that may have changed, and could not be loaded.
    stale: BTreeSet<EndpointId>,
    /// Nothing is sent after this: others may own our slots by then.
    leased_until: Duration,
    /// Slots to be handed over once nothing of theirs is on its way.
    releases: BTreeSet<u8>,
    draining: bool,
    drained: bool,
    actions: Vec<Action>,
}

impl Core {
    /// The core of an engine that starts `now` (in its own time), with at most `caps` requests at once: in all, and to one endpoint.
    /// `shared`: other processes may use the same store.
    pub fn new(shared: bool, scan_every: Duration, caps: (usize, usize), now: Duration) -> Core {
        Core {
            lanes: Lanes::new(caps.0, caps.1),
            shared,
            scan_every,
            reading: false,
            scanning: None,
            scan_again: false,
            scan_at: now,
            tidy_at: now + TIDY,
            loads: Loads::default(),
            part: 0,
            lost: false,
            stale: BTreeSet::new(),
            leased_until: Duration::ZERO,
            releases: BTreeSet::new(),
            draining: false,
            drained: false,
            actions: Vec::new(),
        }
    }

    /// These events happened, and it is `now`: what is to be done? (Also when nothing happened and a [`nap`](Core::nap) is over.)
    pub fn step(&mut self, events: impl IntoIterator<Item = Event>, now: ClockReading) -> Vec<Action> {
        for event in events {
            self.happen(event, now);
        }
        self.decide(now);
        std::mem::take(&mut self.actions)
    }

    /// How long nothing is to be done unless something happens.
    pub fn nap(&self, now: ClockReading) -> Duration {
        if self.resting(now) {
            return NAP;
        }
        let least = Duration::from_millis(1);
        let scan = self.scan_at.saturating_sub(now.mono).max(least);
        // A lane that is due but cannot be served yet (a reading is under way, we are full) is woken by what it waits for.
        self.lanes.idle_for(now).unwrap_or(NAP).max(least).min(scan).min(NAP)
    }

    /// How many endpoints have a lane.
    pub fn lanes(&self) -> usize {
        self.lanes.count()
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.lanes.in_flight()
    }

    /// How many a second may leave for endpoints that are behind, together, as others come first; `None`: as many as can.
    pub fn pace_of_those_behind(&self) -> Option<f64> {
        self.lanes.pace_of_those_behind()
    }

    /// Of a lane: how many wait that are fresh, and how many retries.
    #[cfg(test)]
    pub fn queued(&self, endpoint: EndpointId) -> (usize, usize) {
        self.lanes.queued(endpoint)
    }

    /// Whether anything may be sent.
    #[cfg(test)]
    pub fn may_send(&self, now: ClockReading) -> bool {
        !self.resting(now)
    }

    /// Whether nothing may be sent: we are leaving, or do not know whether our slots are still ours.
    fn resting(&self, now: ClockReading) -> bool {
        self.draining || now.mono >= self.leased_until
    }

    fn happen(&mut self, event: Event, now: ClockReading) {
        match event {
            Event::Signal(signal) => self.hear(signal, now),
            Event::SignalLost => {
                // It may have told of something due, or of an endpoint that has changed.
                self.lost = true;
                self.scan_soon(now);
            }
            // Slots are the heartbeats' affair.
            Event::Announced(Heard::Freed) => {}
            Event::Announced(Heard::Anything) => self.scan_soon(now),
            Event::Announced(Heard::Due(endpoints)) => {
                let unknown = |id: &EndpointId| self.lanes.nudge(*id, Time::ZERO) == Ownership::No;
                let unknown: Vec<EndpointId> = endpoints.into_iter().filter(unknown).collect();
                self.loads.add_unknown(unknown);
            }
            Event::Sent(finished) => {
                let attempt = &finished.attempt;
                self.lanes.sent((attempt.endpoint_id, attempt.message_id), &attempt.outcome, now);
                self.actions.push(Action::Record(finished));
            }
            Event::NotMade(one) => self.lanes.not_made(one, now),
            Event::Recorded(settled) => self.recorded(&settled),
            Event::Read(Ok(reading)) => {
                self.reading = false;
                self.lanes.read(&reading.wants, &reading.waiting, &reading.messages, now);
                let unnumbered = self.lanes.read_in_order(&reading.in_order, &reading.messages, now);
                self.actions.extend(unnumbered.into_iter().map(Action::Number));
            }
            Event::Read(Err(wants)) => {
                self.reading = false;
                self.lanes.read_failed(&wants, now);
            }
            Event::Numbered(id, done) => self.lanes.numbered(id, done, now),
            Event::Loaded(loaded) => self.loaded(loaded, now),
            Event::Scanned(pending) => self.scanned(pending, now),
            Event::Leases(leases, until) => {
                let grown = self.lanes.owned_slots() < leases.len();
                self.lanes.lease(&leases, now);
                self.leased_until = until;
                if grown {
                    self.scan_soon(now);
                }
            }
            Event::Release(slots) => {
                self.lanes.release(&slots, now);
                self.releases.extend(slots);
            }
            Event::Drain => self.draining = true,
        }
    }

    /// What the store of this process tells.
    fn hear(&mut self, signal: Signal, now: ClockReading) {
        match signal {
            Signal::Accepted(admissions) if !self.draining => {
                let others: BTreeSet<EndpointId> =
                    admissions.iter().flat_map(|admission| self.lanes.admit(admission, now)).collect();
                self.announce(others.into_iter().collect());
            }
            Signal::Accepted(_) => {}
            Signal::Withdrawn(ended) => self.lanes.withdraw(&ended),
            Signal::Look(endpoints) => {
                let mut others = Vec::new();
                for endpoint in endpoints {
                    match self.lanes.nudge(endpoint, Time::ZERO) {
                        Ownership::Ours => continue,
                        Ownership::Others => {}
                        Ownership::No => self.loads.add_unknown([endpoint]),
                    }
                    others.push(endpoint);
                }
                self.announce(others);
            }
            Signal::Changed(app) => {
                self.loads.changed(app);
                self.loads.add(self.lanes.of_app(app));
            }
        }
    }

    fn recorded(&mut self, settled: &[Settled]) {
        for one in settled {
            self.lanes.recorded(one.endpoint, one.message, one.due);
        }
        let disabled: HashSet<_> = settled.iter().filter_map(|one| one.disabled).collect();
        for app in disabled {
            self.loads.changed(app);
            self.loads.add(self.lanes.of_app(app));
        }
    }

    fn loaded(&mut self, loaded: Loaded, now: ClockReading) {
        self.loads.ended(&loaded.load, loaded.lives.as_deref().unwrap_or_default());
        match loaded.lives {
            Some(lives) => {
                let mut gone: HashSet<EndpointId> = loaded.load.asked.into_iter().collect();
                for live in &lives {
                    gone.remove(&live.endpoint.id);
                }
                self.lanes.know(&lives, now);
                self.lanes.forget(&gone);
            }
            // Again with the next scan.
            None => self.stale.extend(loaded.load.asked),
        }
    }

    /// A scan has ended; `None`: the store was away.
    fn scanned(&mut self, pending: Option<Vec<PendingLane>>, now: ClockReading) {
        let took = self.scanning.take().map_or(Duration::ZERO, |began| now.mono.saturating_sub(began));
        // One that failed took as long as somebody waited for a store that was away: no reason to wait on when it is back.
        let rest = if pending.is_some() { self.scan_every.max(took * SCAN_SHARE) } else { self.scan_every };
        self.scan_at = if std::mem::take(&mut self.scan_again) { now.mono } else { now.mono + rest };
        let Some(pending) = pending else { return };
        self.loads.add_unknown(self.lanes.pending(&pending, now));
        self.loads.add(std::mem::take(&mut self.stale));
        if self.shared {
            self.part = (self.part + 1) % PARTS;
            self.loads.add(self.lanes.part(self.part, PARTS));
        }
    }

    fn scan_soon(&mut self, now: ClockReading) {
        match self.scanning {
            Some(_) => self.scan_again = true,
            None => self.scan_at = self.scan_at.min(now.mono),
        }
    }

    /// Begins the loads that may begin.
    fn load(&mut self) {
        if self.lost && self.loads.idle() {
            self.lost = false;
            self.loads.add(self.lanes.endpoints());
        }
        while let Some(load) = self.loads.begin() {
            self.actions.push(Action::Load(load));
        }
    }

    fn announce(&mut self, endpoints: Vec<EndpointId>) {
        if !endpoints.is_empty() {
            self.actions.push(Action::Announce(endpoints));
        }
    }

    /// What the time and the lanes say is to be done now.
    fn decide(&mut self, now: ClockReading) {
        if self.draining && !self.drained && self.lanes.settled() {
            self.drained = true;
            self.actions.push(Action::Drained);
        }
        if !self.releases.is_empty() {
            let busy = self.lanes.busy_slots();
            let quiet: Vec<u8> = self.releases.extract_if(.., |slot| !busy.contains(slot)).collect();
            if !quiet.is_empty() {
                self.actions.push(Action::Quiet(quiet));
            }
        }
        self.load();
        if self.resting(now) {
            return;
        }
        while let Some(start) = self.lanes.start(now) {
            self.actions.push(Action::Send(start));
        }
        // One reading at a time: the next one covers whatever came up meanwhile.
        if !self.reading {
            let (wants, held) = self.lanes.begin_reading(now);
            if !wants.is_empty() {
                self.reading = true;
                self.actions.push(Action::Read(wants, held, self.lanes.read_budget()));
            }
        }
        if self.scanning.is_none() && now.mono >= self.scan_at {
            self.scanning = Some(now.mono);
            self.actions.push(Action::Scan(self.lanes.slots()));
        }
        if now.mono >= self.tidy_at {
            self.tidy_at = now.mono + TIDY;
            self.lanes.tidy(now);
        }
    }
}
