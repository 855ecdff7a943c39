//! The [`Core`]: whether anything may be sent at all (leases, draining), when to scan, and which endpoints to load. The
//! [lanes](super::lanes) select the deliveries to send and the lanes to read.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::clock_reading::ClockReading;
use super::endpoint_loads::EndpointLoads;
use super::event::{CoreAction, CoreEvent, LoadResult, RecordResult};
use super::hold::Hold;
use super::lanes::reading::ReadRows;
use super::lanes::{Lanes, Ownership};
use super::scanning::{ScanPage, ScanSchedule};
use super::signal_queue::{Portion, SignalQueue};
use crate::domain::{EndpointId, Time};
use crate::store::queue::notify::Notification;

/// After each scan of a shared store, the endpoints of every fourth slot are reloaded, because changes by other
/// processes send no signal to this one. Reloading all of them each time would be most of the cost of a scan.
const RELOAD_GROUPS: u8 = 4;
/// Minimum time between the starts of two reads if the first was small, as a multiple of its duration and within these
/// bounds. Every commit of another process asks for a read, and one query can serve several commits. On a busy machine
/// reads take longer, so each serves more.
const READ_SPACING: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
const READ_SPACING_TIMES: u32 = 3;
/// A read is small if it covers fewer lanes and rows than this.
const SMALL_READ: usize = 256;
/// The longest sleep of the event loop. An expired lease is noticed within this time.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// The time between the starts of a small read that took `took` and the next one.
fn read_spacing(took: Duration) -> Duration {
    (took * READ_SPACING_TIMES).clamp(READ_SPACING.0, READ_SPACING.1)
}

/// The state that decisions depend on.
pub struct Core {
    lanes: Lanes,
    shared: bool,
    signals: SignalQueue,
    reading: bool,
    /// The start of the last read.
    reading_began: Duration,
    /// The earliest start of the next read.
    reading_from: Duration,
    /// Rows of the current read that no step has applied yet.
    unapplied: Option<ReadRows>,
    scanning: ScanSchedule,
    loads: EndpointLoads,
    /// The group of slots that was reloaded last.
    reload_group: u8,
    /// Nothing is sent after this: other processes may own our slots by then.
    leased_until: Duration,
    /// Slots to return once they are quiet.
    releasing: BTreeSet<u8>,
    draining: bool,
    drained: bool,
    actions: Vec<CoreAction>,
}

impl Core {
    /// The core of an engine that starts `now` (monotonic time). `caps`: the concurrency limits, in total and per
    /// endpoint. `shared`: other processes may use the same store.
    pub fn new(shared: bool, scan_every: Duration, caps: (usize, usize), now: Duration) -> Core {
        Core {
            lanes: Lanes::new(caps.0, caps.1),
            shared,
            signals: SignalQueue::default(),
            reading: false,
            reading_began: Duration::ZERO,
            reading_from: Duration::ZERO,
            unapplied: None,
            scanning: ScanSchedule::new(scan_every, now),
            loads: EndpointLoads::default(),
            reload_group: 0,
            leased_until: Duration::ZERO,
            releasing: BTreeSet::new(),
            draining: false,
            drained: false,
            actions: Vec::new(),
        }
    }

    /// Applies the events, decides, and returns the actions. Called without events when a
    /// [`sleep_time`](Core::sleep_time) is over.
    pub fn step(&mut self, events: impl IntoIterator<Item = CoreEvent>, now: ClockReading) -> Vec<CoreAction> {
        self.signals.begin_step();
        self.apply_signals(now);
        for event in events {
            self.handle(event, now);
        }
        self.apply_read(now);
        self.decide(now);
        std::mem::take(&mut self.actions)
    }

    /// The longest sleep of the event loop if no event arrives.
    pub fn sleep_time(&self, now: ClockReading) -> Duration {
        let least = Duration::from_millis(1);
        if self.has_signals() || self.unapplied.is_some() || self.lanes.overdue(now) {
            return least;
        }
        if self.hold(now).is_some() {
            return MAX_SLEEP;
        }
        let scan = self.scanning.wait(now.mono).max(least);
        // A due lane that cannot be served yet is woken by an event: a read ends, or an attempt does.
        self.lanes.idle_for(now).unwrap_or(MAX_SLEEP).max(least).min(scan).min(MAX_SLEEP)
    }

    /// Whether signals wait for a later step. Until they are taken, the event loop leaves others in the store's
    /// bounded queue.
    pub fn has_signals(&self) -> bool {
        !self.signals.is_empty()
    }

    /// The number of endpoints with a lane.
    pub fn lanes(&self) -> usize {
        self.lanes.count()
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.lanes.in_flight()
    }

    /// The rate limit of backlogged endpoints, together, in deliveries per second. `None`: unlimited.
    pub fn backlog_rate(&self) -> Option<f64> {
        self.lanes.backlog_rate()
    }

    /// The numbers of first attempts and retries that a lane has queued.
    #[cfg(test)]
    pub fn queued(&self, endpoint: EndpointId) -> (usize, usize) {
        self.lanes.queued(endpoint)
    }

    /// The number of lane lookups, including those through an index.
    #[cfg(test)]
    pub fn lookups(&self) -> u64 {
        self.lanes.lookups()
    }

    /// Panics if an index disagrees with the lanes.
    #[cfg(test)]
    pub fn check_indexes(&self) {
        self.lanes.check_indexes();
    }

    /// Whether a later step sends for this lane: this step ended early, or the lane is backlogged and throttled.
    #[cfg(test)]
    pub fn sends_later(&self, endpoint: EndpointId) -> bool {
        self.lanes.sends_later(endpoint)
    }

    /// Whether anything may be sent.
    #[cfg(test)]
    pub fn may_send(&self, now: ClockReading) -> bool {
        self.hold(now).is_none()
    }

    /// The reason that this process may not send at all, if there is one.
    fn hold(&self, now: ClockReading) -> Option<Hold> {
        if self.draining {
            return Some(Hold::Draining);
        }
        (now.mono >= self.leased_until).then_some(Hold::LeasesExpired)
    }

    fn handle(&mut self, event: CoreEvent, now: ClockReading) {
        match event {
            CoreEvent::Signal(signal) => {
                self.signals.push(signal);
                self.apply_signals(now);
            }
            CoreEvent::SignalLost => {
                self.signals.push_lost();
                self.apply_signals(now);
            }
            // The lease keeper handles freed slots.
            CoreEvent::Notified(Notification::SlotsReleased) => {}
            CoreEvent::Notified(Notification::AnyEndpoint) => self.scanning.soon(now.mono),
            CoreEvent::Notified(Notification::Due(endpoints)) => {
                let unknown = |id: &EndpointId| self.lanes.note_due(*id, Time::ZERO) == Ownership::Unknown;
                let unknown: Vec<EndpointId> = endpoints.into_iter().filter(unknown).collect();
                self.loads.add_unknown(unknown);
            }
            CoreEvent::Sent(mut finished) => {
                let attempt = &finished.attempt;
                let rest = self.lanes.sent((attempt.endpoint_id, attempt.message_id), &attempt.outcome, now);
                finished.rests_until = rest.map(|rest| now.time.plus(rest));
                self.actions.push(CoreAction::Record(finished));
            }
            CoreEvent::NotSent(one) => self.lanes.failed_locally(one, now),
            CoreEvent::Recorded(settled) => self.recorded(&settled),
            CoreEvent::Read(Ok(reading)) => {
                let size = reading.wants.len() + reading.waiting.len() + reading.in_order.len();
                let took = now.mono.saturating_sub(self.reading_began);
                let spacing = if size < SMALL_READ { read_spacing(took) } else { Duration::ZERO };
                self.reading_from = self.reading_began + spacing;
                self.unapplied = Some(ReadRows::new(reading));
            }
            CoreEvent::Read(Err(wants)) => {
                self.reading = false;
                self.lanes.read_failed(&wants, now);
            }
            CoreEvent::Numbered(id, done) => self.lanes.numbered(id, done, now),
            CoreEvent::Loaded(loaded) => self.loaded(loaded, now),
            CoreEvent::Scanned(pending) => self.scanned(pending, now),
            CoreEvent::Leases(leases, until) => {
                let grown = self.lanes.owned_slots() < leases.len();
                self.lanes.lease(&leases, now);
                self.leased_until = until;
                if grown {
                    self.scanning.soon(now.mono);
                }
            }
            CoreEvent::Release(slots) => {
                self.lanes.release(&slots, now);
                self.releasing.extend(slots);
            }
            CoreEvent::Drain => self.draining = true,
        }
    }

    /// Applies signals of the store, up to this step's budget.
    fn apply_signals(&mut self, now: ClockReading) {
        let mut others = BTreeSet::new();
        while let Some(portion) = self.signals.next() {
            match portion {
                Portion::Accepted(..) if self.draining => {}
                Portion::Accepted(admission, endpoints) => others.extend(self.lanes.admit(&admission, endpoints, now)),
                Portion::Withdrawn(ended) => self.lanes.withdraw(&ended),
                Portion::Look(endpoint) => match self.lanes.note_due(endpoint, Time::ZERO) {
                    Ownership::Ours => {}
                    Ownership::Others => drop(others.insert(endpoint)),
                    Ownership::Unknown => {
                        others.insert(endpoint);
                        self.loads.add_unknown([endpoint]);
                    }
                },
                Portion::Changed(app) => self.loads.changed(app),
                Portion::Lost => {
                    // The lost signal may have announced a due delivery or a changed endpoint.
                    self.loads.all_changed();
                    self.scanning.soon(now.mono);
                }
            }
        }
        if !others.is_empty() {
            self.actions.push(CoreAction::Announce(others.into_iter().collect()));
        }
    }

    /// Applies rows of the last read, up to this step's budget. The next read may begin when all are applied.
    fn apply_read(&mut self, now: ClockReading) {
        let Some(unapplied) = &mut self.unapplied else { return };
        let part = unapplied.next_portion();
        self.lanes.read(&part.wants, &part.waiting, unapplied.messages(), now);
        let unnumbered = self.lanes.read_in_order(&part.in_order, unapplied.messages(), now);
        self.actions.extend(unnumbered.into_iter().map(CoreAction::Number));
        if unapplied.is_empty() {
            self.unapplied = None;
            self.reading = false;
        }
    }

    fn recorded(&mut self, settled: &[RecordResult]) {
        for one in settled {
            self.lanes.recorded(one.endpoint, one.message, one.due);
        }
        let disabled: HashSet<_> = settled.iter().filter_map(|one| one.disabled).collect();
        disabled.into_iter().for_each(|app| self.loads.changed(app));
    }

    fn loaded(&mut self, loaded: LoadResult, now: ClockReading) {
        self.loads.finish(&loaded.load, loaded.lives.as_deref().unwrap_or_default());
        match loaded.lives {
            Some(lives) => {
                let mut gone: HashSet<EndpointId> = loaded.load.endpoints.into_iter().collect();
                for live in &lives {
                    gone.remove(&live.endpoint.id);
                }
                self.lanes.update_endpoints(&lives, now);
                self.lanes.mark_deleted(&gone);
            }
            None => self.loads.failed(loaded.load),
        }
    }

    /// A page of a scan arrived. `None`: the store was unavailable.
    fn scanned(&mut self, page: Option<ScanPage>, now: ClockReading) {
        let Some(page) = page else { return self.scanning.failed(now.mono) };
        self.loads.add_unknown(self.lanes.pending(&page.lanes, now));
        self.loads.retry();
        let ended = self.scanning.page_arrived(page.next, self.hold(now).is_some(), now.mono);
        if ended && self.shared {
            self.reload_group = (self.reload_group + 1) % RELOAD_GROUPS;
            self.loads.reload_slots((self.reload_group..=u8::MAX).step_by(usize::from(RELOAD_GROUPS)));
        }
    }

    /// Starts the loads that may start.
    fn load(&mut self) {
        while let Some(load) = self.loads.begin(&|part, after, most| self.lanes.endpoints_in(part, after, most)) {
            self.actions.push(CoreAction::Load(load));
        }
    }

    /// Decides what to do now.
    fn decide(&mut self, now: ClockReading) {
        // After the events, which may contain responses that arrived in time.
        self.lanes.begin_turn(now);
        if self.draining && !self.drained && self.lanes.settled() {
            self.drained = true;
            self.actions.push(CoreAction::Drained);
        }
        if !self.releasing.is_empty() {
            let busy = self.lanes.busy_slots();
            let quiet: Vec<u8> = self.releasing.extract_if(.., |slot| !busy.contains(slot)).collect();
            if !quiet.is_empty() {
                self.actions.push(CoreAction::Quiet(quiet));
            }
        }
        self.load();
        if self.hold(now).is_some() {
            return;
        }
        while let Some(start) = self.lanes.next_dispatch(now) {
            self.actions.push(CoreAction::Send(start));
        }
        // One read at a time. The next one covers everything that became due meanwhile.
        if !self.reading && now.mono >= self.reading_from {
            let (wants, held) = self.lanes.begin_read(now);
            if !wants.is_empty() {
                (self.reading, self.reading_began) = (true, now.mono);
                self.actions.push(CoreAction::Read(wants, held, self.lanes.read_budget()));
            }
        }
        if let Some(scan) = self.scanning.begin(now.mono, || self.lanes.slots()) {
            self.actions.push(CoreAction::Scan(scan));
        }
    }
}

#[cfg(test)]
mod tests;
