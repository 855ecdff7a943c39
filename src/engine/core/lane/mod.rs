//! A **lane** is an endpoint's queue inside the engine: its order, rate, concurrency and health. A hanging, dead, slow or very busy
//! endpoint uses up its own lane and nobody else's.

mod floors;
mod listed;
mod responsiveness;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::delivery::{Progress, State};
use crate::domain::message::Message;
use crate::domain::{MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::concurrency::circuit_breaker::CircuitBreaker;
use crate::engine::core::concurrency::responsiveness::Answers;
use crate::engine::core::rate_limit::{AppLimits, Limit};
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::slots::slot_of;
use crate::store::queue::waiting::LaneWants;
use floors::Floors;
pub use listed::Listed;

/// How many deliveries of each kind wait in memory; the rest waits in the store.
pub const QUEUE: usize = 128;

/// A delivery that waits to be sent.
#[derive(Clone, Debug)]
pub struct Work {
    pub message: Arc<Message>,
    pub progress: Progress,
    /// As it stands in the queue's row.
    pub due_at: Time,
}

/// Why nothing leaves a lane at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing waits, or as much is in flight as may be: an event will tell.
    Idle,
    /// Not before this moment of the engine's own time.
    Until(Duration),
}

/// How much of what is pending at an ordered endpoint the lane knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: it has to be read.
    Unread,
    /// All of it up to this number is held. The next number may follow in memory.
    UpTo(i64),
    /// Behind what is queued there is one that may not be sent yet: until it is read again, everything else stays in the store.
    Waiting,
}

/// One endpoint's lane.
pub struct Lane {
    pub live: Arc<LiveEndpoint>,
    pub slot: u8,
    /// Whether we hold the lease of its slot, by the last change of that lease which the lane has seen.
    pub owned: bool,
    /// How many changes of that lease it has seen.
    pub lease_seen: u64,
    fresh: VecDeque<Work>,
    retries: VecDeque<Work>,
    /// What this process holds: queued, in flight, or sent and not yet recorded. The store still shows it as pending, of this kind and due
    /// then.
    held: HashMap<MessageId, (State, Time)>,
    floors: Floors,
    pub in_flight: usize,
    answers: Answers,
    /// How its endpoint answers, as it was last noted: what is in flight to it counts there.
    pub kind: Responsiveness,
    /// More waits for it in the store than here, or did until lately, and it counts as such until then. `None`: it keeps up.
    pub behind_until: Option<Duration>,
    limit: Option<Limit>,
    breaker: CircuitBreaker,
    /// Whose turn it is when both kinds wait.
    retry_next: bool,
    /// When the store may have something due for it; `None`: as far as we know, never.
    look_at: Option<Time>,
    /// The endpoint was deleted: nothing more is sent.
    pub gone: bool,
    /// Being read right now; and what was settled meanwhile, which the reading may still show as pending.
    reading: bool,
    /// The lease under which the reading began is over: others may have sent what it brings.
    outdated: bool,
    settled_meanwhile: Vec<MessageId>,
    /// Of an ordered endpoint's.
    pub reach: Reach,
    /// Something there is being numbered: it is not read before that is done.
    pub numbering: bool,
    /// When something last happened here.
    pub touched: Duration,
    /// How many attempts in a row could not be made, for a reason of ours, and until when none is tried.
    not_made: u32,
    rests_until: Duration,
    pub listed: Listed,
    /// Counts the starts of all lanes: its last one. Of those that wait for the same moment, who has waited longest goes first.
    pub turn: u64,
}

impl Lane {
    /// A lane of an endpoint whose slot has been ours since `owned_since`.
    pub fn new(live: Arc<LiveEndpoint>, owned: bool, owned_since: Duration, cap: usize) -> Lane {
        Lane {
            slot: slot_of(&live),
            owned,
            lease_seen: 0,
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            held: HashMap::new(),
            floors: Floors::default(),
            in_flight: 0,
            answers: Answers::default(),
            kind: Responsiveness::Unknown,
            behind_until: None,
            limit: live.endpoint.spec.throttle_rate.map(|rate| Limit::new(rate, owned_since)),
            breaker: CircuitBreaker::new(cap),
            retry_next: false,
            look_at: None,
            gone: false,
            reading: false,
            outdated: false,
            settled_meanwhile: Vec::new(),
            reach: Reach::Unread,
            numbering: false,
            touched: Duration::ZERO,
            not_made: 0,
            rests_until: Duration::ZERO,
            listed: Listed::default(),
            turn: 0,
            live,
        }
    }

    /// The endpoint as it is from now on.
    pub fn refresh(&mut self, live: Arc<LiveEndpoint>, now: ClockReading) {
        let rate = live.endpoint.spec.throttle_rate;
        if rate != self.limit.as_ref().map(Limit::rate) {
            self.limit = rate.map(|rate| Limit::new(rate, now.mono));
        }
        let enabled = self.live.endpoint.spec.disabled && !live.endpoint.spec.disabled;
        let reordered = self.ordered() != live.endpoint.spec.ordered;
        self.slot = slot_of(&live);
        self.live = live;
        self.gone = false;
        if reordered {
            // Whether it keeps up is known anew when it is read; where the order counts, what waits is meant to.
            self.behind_until = None;
        }
        if enabled || reordered || self.paused() {
            self.look(Time::ZERO);
        }
    }

    /// Whether its deliveries go one after another.
    pub fn ordered(&self) -> bool {
        self.live.endpoint.spec.ordered
    }

    /// Whether it holds nothing: nothing is queued, in flight or unrecorded.
    pub fn quiet(&self) -> bool {
        self.held.is_empty()
    }

    /// Disabling pauses: what is pending waits in the store.
    pub fn paused(&self) -> bool {
        self.gone || self.live.endpoint.spec.disabled
    }

    /// Forgets what is queued (not what is in flight); gives back how many payload bytes that frees.
    pub fn clear(&mut self) -> usize {
        let mut bytes = 0;
        for work in self.fresh.drain(..).chain(self.retries.drain(..)) {
            bytes += work.message.size();
            self.held.remove(&work.message.id);
        }
        self.reach = Reach::Unread;
        self.floors.forget();
        bytes
    }

    /// Of an ordered endpoint's: what was sent has not ended, so that nothing else may go before it. Gives back how many payload bytes
    /// that frees.
    pub fn hold_back(&mut self) -> usize {
        let bytes = self.clear();
        self.reach = Reach::Waiting;
        bytes
    }

    /// The lease under which it was filled is over: whoever has it next may send all of this, and it is only known anew what is pending.
    /// Gives back how many payload bytes that frees.
    pub fn lapse(&mut self) -> usize {
        self.outdated = self.reading;
        self.clear()
    }

    /// A new lease since `since`: what others sent before is not known, so the bucket begins empty.
    pub fn begin_lease(&mut self, since: Duration) {
        self.limit = self.live.endpoint.spec.throttle_rate.map(|rate| Limit::new(rate, since));
        self.floors.forget();
        self.look(Time::ZERO);
    }

    /// Forgets a delivery that was ended, if it is queued and not in flight; gives back how many payload bytes that frees. A reading
    /// under way may still bring it.
    pub fn withdraw(&mut self, message: MessageId) -> usize {
        if self.reading {
            self.settled_meanwhile.push(message);
        }
        if !self.held.contains_key(&message) {
            return 0;
        }
        for queue in [&mut self.fresh, &mut self.retries] {
            if let Some(work) = queue.iter().position(|work| work.message.id == message).and_then(|at| queue.remove(at))
            {
                self.held.remove(&message);
                return work.message.size();
            }
        }
        0
    }

    /// Queues a delivery, if it is not held already and there is room. `false`: no room, it waits in the store.
    pub fn push(&mut self, work: Work, kind: State) -> bool {
        let most = self.most_queued();
        let queue = if kind == State::Retry { &mut self.retries } else { &mut self.fresh };
        if queue.len() >= most {
            return false;
        }
        if let Entry::Vacant(free) = self.held.entry(work.message.id) {
            free.insert((kind, work.due_at));
            queue.push_back(work);
        }
        true
    }

    pub fn holds(&self, message: MessageId) -> bool {
        self.held.contains_key(&message)
    }

    pub fn held(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.held.keys().copied()
    }

    pub fn queued(&self) -> usize {
        self.fresh.len() + self.retries.len()
    }

    /// How many wait that are fresh, and how many retries.
    #[cfg(test)]
    pub fn queues(&self) -> (usize, usize) {
        (self.fresh.len(), self.retries.len())
    }

    /// Whether enough room has come up to make a reading worth it. An ordered endpoint is read anew only once nothing is held, and a silent
    /// one once nothing is queued: hundreds that hang would else be read again with each scan, for nothing.
    pub fn roomy(&self) -> bool {
        if self.ordered() {
            return self.quiet();
        }
        let queued = if self.kind == Responsiveness::Silent { 0 } else { QUEUE / 2 };
        self.fresh.len() <= queued && self.retries.len() <= queued
    }

    /// Notes that the store may have something due at `at`.
    pub fn look(&mut self, at: Time) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    /// When it wants to be read next; `None` while it is being read or nothing is to be had.
    pub fn look_at(&self) -> Option<Time> {
        if self.reading || self.numbering || self.paused() || !self.owned { None } else { self.look_at }
    }

    /// Whether it is to be read by now, or is being read.
    pub fn wants_reading(&self, now: Time) -> bool {
        self.reading || self.numbering || self.look_at.is_some_and(|at| at <= now)
    }

    /// A reading begins. Of each kind it asks for what there is room for, at most `most_new`, and for as many more as it will show although
    /// they are held.
    pub fn begin_reading(&mut self, now: ClockReading, most_new: usize) -> LaneWants {
        self.reading = true;
        self.look_at = None;
        self.settled_meanwhile.clear();
        self.floors.begin(now.mono);
        let (endpoint, slot, ordered) = (self.live.endpoint.id, self.slot, self.ordered());
        if ordered {
            let (from, fresh) = (Time::ZERO, QUEUE as i64);
            return LaneWants { endpoint, slot, fresh, fresh_from: from, retries: 0, retries_from: from, ordered };
        }
        let most = self.most_queued();
        let wants = |kind, queue: &VecDeque<Work>| {
            let from = self.floors.of(kind, now.time);
            let shown = self.held.values().filter(|(held, due_at)| *held == kind && *due_at >= from).count();
            ((most.saturating_sub(queue.len()).min(most_new) + shown) as i64, from)
        };
        let (fresh, fresh_from) = wants(State::Fresh, &self.fresh);
        let (retries, retries_from) = wants(State::Retry, &self.retries);
        LaneWants { endpoint, slot, fresh, fresh_from, retries, retries_from, ordered }
    }

    /// Everything of this kind that is due before `known` is held, or has ended: it need not be read again.
    pub fn raise_floor(&mut self, kind: State, known: Time) {
        self.floors.raise(kind, known);
    }

    /// The reading is over. Gives back what must not be taken from it; `None`: nothing may be.
    pub fn end_reading(&mut self, now: Duration) -> Option<Vec<MessageId>> {
        self.reading = false;
        self.floors.end(now);
        let settled = std::mem::take(&mut self.settled_meanwhile);
        (!std::mem::take(&mut self.outdated)).then_some(settled)
    }

    /// The next delivery to send, if pace, limits and room allow one.
    ///
    /// `free` is how many more the engine as a whole may have in flight: a lane never takes more than a share of it, so that a few
    /// endpoints that hang leave room for all others.
    ///
    /// # Errors
    /// Why not, and until when.
    pub fn next(&mut self, now: ClockReading, free: usize, apps: &AppLimits) -> Result<Work, Hold> {
        if self.queued() == 0 || self.paused() || !self.owned {
            return Err(Hold::Idle);
        }
        if self.ordered() && self.held.len() > self.queued() {
            return Err(Hold::Idle);
        }
        if now.mono < self.rests_until {
            return Err(Hold::Until(self.rests_until));
        }
        let cap = self.breaker.cap(now.mono).map_err(Hold::Until)?;
        if self.in_flight >= cap.min((free / 4).max(1)) {
            return Err(Hold::Idle);
        }
        // Of both limits or of neither: one that was taken and waits for the other would be added to what leaves in some second.
        let limits = || apps.get((self.live.endpoint.app_id, self.slot)).into_iter().chain(&self.limit);
        if let Some(wait) = limits().filter_map(|limit| limit.ready(now.mono).err()).max() {
            return Err(Hold::Until(now.mono + wait));
        }
        for limit in limits() {
            let _ = limit.take(now.mono);
        }
        let retry = !self.retries.is_empty() && (self.retry_next || self.fresh.is_empty());
        self.retry_next = !retry;
        let queue = if retry { &mut self.retries } else { &mut self.fresh };
        let work = queue.pop_front().ok_or(Hold::Idle)?;
        if self.in_flight == 0 {
            self.answers.expected(now.mono);
        }
        self.in_flight += 1;
        self.touched = now.mono;
        Ok(work)
    }

    /// An attempt has ended. It stays held until it is recorded.
    pub fn sent(&mut self, outcome: &crate::domain::attempt::Outcome, now: ClockReading) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.not_made = 0;
        self.breaker.learn(outcome, now.mono);
        if !self.breaker.unreachable() {
            self.answers.came(now.mono);
        }
        self.touched = now.mono;
    }

    /// How long the circuit breaker still holds back what waits, if it does.
    pub fn rest(&self, now: ClockReading) -> Option<Duration> {
        self.breaker.cap(now.mono).err().map(|until| until.saturating_sub(now.mono))
    }

    /// An attempt was not made, which says nothing about the endpoint. It rests as long as `wait` says for so many in a row; what leaves
    /// together and fails together is one of them. Gives back how long that is from now.
    pub fn not_made(&mut self, now: Duration, wait: impl Fn(u32) -> Duration) -> Duration {
        self.in_flight = self.in_flight.saturating_sub(1);
        if now >= self.rests_until {
            self.not_made = self.not_made.saturating_add(1);
            self.rests_until = now + wait(self.not_made);
        }
        self.touched = now;
        self.rests_until - now
    }

    /// It was not sent, and the store knows nothing of that: no longer held. It is to be read again at `at`.
    pub fn give_back(&mut self, message: MessageId, at: Time) {
        self.floors.forget();
        self.recorded(message, Some(at));
    }

    /// The store has it: no longer held. `due` is when the delivery wants to be sent again.
    pub fn recorded(&mut self, message: MessageId, due: Option<Time>) {
        self.held.remove(&message);
        if self.reading {
            self.settled_meanwhile.push(message);
        }
        if let Some(due) = due {
            self.look(due);
        }
    }

    /// Whether nothing at all would be lost by forgetting it.
    pub fn forgettable(&self, now: ClockReading, idle: Duration) -> bool {
        self.held.is_empty()
            && !self.reading
            && !self.numbering
            && (self.look_at.is_none() || !self.owned || self.gone)
            && !self.breaker.probing()
            && now.mono.saturating_sub(self.touched) >= idle
    }

    /// Whether something of it is on its way.
    pub fn busy(&self) -> bool {
        !self.held.is_empty()
    }
}
