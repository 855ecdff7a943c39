//! The world: one agenda in virtual time. Whatever takes time in earnest (the way to the store and back, to a receiver, a nap) is an entry
//! of it, with a delay of chance; so signals come late, readings bring what was true a while ago, and answers overtake each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::{Begun, Checks, Verdict};
use super::dice::Dice;
use super::fleet::Case;
use super::process::{Process, START, Wall};
use super::receivers::Receiver;
use super::store::{Beaten, Store};
use crate::domain::attempt::Outcome;
use crate::domain::backoff::Schedule;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::beats::Beat;
use crate::engine::core::{Action, Event, Loaded, Reading};
use crate::engine::lanes::Start;
use crate::engine::record::Settled;
use crate::engine::send::finished;
use crate::engine::steady::Moment;
use crate::store::announce::Heard;
use crate::store::deliveries::LaneWants;
use crate::store::record::{Finished, Recorded};
use crate::store::signals::Signal;

/// An entry of the agenda.
pub enum What {
    Wake(u64, u64),
    Beat(u64),
    Tell(u64, Box<Event>),
    /// A question of a process reaches the store.
    Ask(u64, Ask),
    Reply(u64, Reply),
    /// A request reaches its receiver.
    Reach(u64, Box<Start>, Time),
    /// The answer reaches the process.
    Answer(u64, Box<Start>, Time, Outcome),
    /// Something of the plot.
    Plot(super::fleet::Scene),
}

/// What a process asks of the store.
pub enum Ask {
    Read(Vec<LaneWants>, Moment),
    Scan,
    Load(Vec<EndpointId>),
    Record(Vec<(Finished, Duration)>),
    Heartbeat(Beat, Duration),
    HandBack(Vec<u8>),
    Depart,
}

/// What it hears.
pub enum Reply {
    Event(Box<Event>),
    Recorded(Vec<(Finished, Duration)>, Option<Vec<Recorded>>),
    Beaten(Duration, Option<Beaten>),
    HandedBack(Vec<u8>, bool),
    Departed,
}

/// Everything there is.
pub struct World {
    pub case: Case,
    pub now: Duration,
    pub dice: Dice,
    pub store: Store,
    pub receivers: BTreeMap<EndpointId, Receiver>,
    pub processes: BTreeMap<u64, Process>,
    pub walls: Vec<Wall>,
    pub checks: Checks,
    pub schedule: Schedule,
    pub begun: u64,
    /// When the last fault was over and everybody well.
    pub healed: Option<Duration>,
    pub trace: Option<Vec<String>>,
    agenda: BTreeMap<(Duration, u64), What>,
    entries: u64,
}

/// Notes a line of the trace, if somebody wants it.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_some() {
            let line = format!($($text)*);
            $world.note(line);
        }
    };
}
pub(super) use note;

impl World {
    pub fn new(
        case: Case,
        dice: Dice,
        store: Store,
        receivers: BTreeMap<EndpointId, Receiver>,
        walls: Vec<Wall>,
    ) -> World {
        World {
            now: Duration::ZERO,
            dice,
            store,
            receivers,
            processes: BTreeMap::new(),
            walls,
            checks: Checks::new(&case),
            schedule: Schedule::new("", case.waits.to_vec()).unwrap_or_default(),
            begun: 0,
            healed: None,
            trace: None,
            agenda: BTreeMap::new(),
            entries: 0,
            case,
        }
    }

    pub fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} s  {line}", self.now.as_secs_f64()));
        }
    }

    /// Puts something into the agenda, so long from now.
    pub fn after(&mut self, delay: Duration, what: What) {
        self.entries += 1;
        self.agenda.insert((self.now + delay, self.entries), what);
    }

    /// The next entry. `false`: everything is over, or (`Err`) something is wrong.
    pub fn step(&mut self) -> Result<bool, String> {
        let Some(((at, _), what)) = self.agenda.pop_first() else { return Ok(false) };
        self.now = at;
        let to = match &what {
            What::Wake(to, _) | What::Beat(to) | What::Tell(to, _) | What::Reply(to, _) | What::Answer(to, ..) => {
                Some(*to)
            }
            What::Ask(..) | What::Reach(..) | What::Plot(_) => None,
        };
        if let Some(to) = to {
            let Some(process) = self.processes.get_mut(&to) else { return Ok(true) };
            if let Some(waiting) = &mut process.stopped {
                waiting.push(what);
                return Ok(true);
            }
        }
        match what {
            What::Wake(to, wake) if self.processes[&to].wake == wake => self.core(to, None)?,
            What::Wake(..) => {}
            What::Beat(to) => self.beat(to),
            What::Tell(to, event) => self.core(to, Some(*event))?,
            What::Ask(from, ask) => self.ask(from, ask)?,
            What::Reply(to, reply) => self.reply(to, reply)?,
            What::Reach(from, start, at) => self.reach(from, start, at)?,
            What::Answer(to, start, at, outcome) => self.answer(to, *start, at, outcome)?,
            What::Plot(scene) => self.play(scene)?,
        }
        Ok(true)
    }

    /// A step of a process's core, and what follows from it.
    pub fn core(&mut self, id: u64, event: Option<Event>) -> Verdict {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let moment = process.moment(self.walls[process.seat], self.now);
        let actions = process.core.step(event, moment);
        let nap = process.core.nap(moment);
        process.wake += 1;
        let wake = process.wake;
        self.after(nap, What::Wake(id, wake));
        let mut kinds: BTreeMap<EndpointId, Vec<bool>> = BTreeMap::new();
        for action in actions {
            if let Action::Send(start) = &action {
                kinds.entry(start.live.endpoint.id).or_default().push(start.work.progress.attempts > 0);
            }
            self.act(id, action, moment)?;
        }
        for (endpoint, kinds) in kinds {
            let queued = self.processes.get(&id).map_or((0, 0), |process| process.core.queued(endpoint));
            self.checks.turns(&kinds, queued)?;
        }
        Ok(())
    }

    fn act(&mut self, id: u64, action: Action, moment: Moment) -> Verdict {
        let way = self.way();
        match action {
            Action::Send(start) => return self.send(id, start, moment),
            Action::Record(one) => {
                let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
                let wait = one.next.due().map_or(Duration::ZERO, |due| due.since(moment.wall));
                process.unrecorded.push((*one, self.now + (wait - wait / 9).saturating_sub(APART)));
                self.record(id);
            }
            Action::Read(wants, _) => self.after(way, What::Ask(id, Ask::Read(wants, moment))),
            Action::Scan => self.after(way, What::Ask(id, Ask::Scan)),
            Action::Load(asked) => self.after(way, What::Ask(id, Ask::Load(asked))),
            Action::Announce(endpoints) => self.announce(id, &endpoints),
            Action::Quiet(slots) => {
                let ours = self.processes.get(&id).map_or(Vec::new(), |process| process.beats.quiet(slots));
                self.after(way, What::Ask(id, Ask::HandBack(ours)));
            }
            Action::Drained => {
                note!(self, "process {id} has drained");
                let all: Vec<u8> = (0..super::store::SLOTS as u8).collect();
                self.checks.handed_back(id, &all)?;
                self.after(way, What::Ask(id, Ask::Depart));
            }
        }
        Ok(())
    }

    /// How long a message is on its way: mostly moments.
    pub fn way(&mut self) -> Duration {
        if self.dice.chance(5) { self.dice.millis(50, 900) } else { self.dice.millis(0, 8) }
    }

    fn send(&mut self, id: u64, start: Start, moment: Moment) -> Verdict {
        let key = (start.live.endpoint.id, start.work.message.id);
        note!(
            self,
            "process {id} sends {} to {}, attempt {}",
            short(key.1),
            short_of(key.0),
            start.work.progress.attempts + 1
        );
        if let Some(process) = self.processes.get_mut(&id) {
            *process.in_flight.entry(key.0).or_insert(0) += 1;
        }
        let receiver = &self.receivers[&key.0];
        let begun = Begun { id, process: &self.processes[&id], start: &start, moment, now: self.now, receiver };
        self.checks.start(&self.store, &begun)?;
        let way = self.way();
        self.after(way, What::Reach(id, Box::new(start), moment.clock()));
        Ok(())
    }

    fn reach(&mut self, id: u64, start: Box<Start>, at: Time) -> Verdict {
        // Who died in between had written the request, or not.
        if !self.processes.contains_key(&id) && self.dice.chance(50) {
            return Ok(());
        }
        let key = (start.live.endpoint.id, start.work.message.id);
        let Some(receiver) = self.receivers.get_mut(&key.0) else { return Ok(()) };
        let (outcome, after) = receiver.get(key.1, self.now, &mut self.dice);
        let taken = receiver.taken.get(&key.1).copied().unwrap_or(0);
        let answer = outcome.status.map_or("nothing".to_owned(), |status| status.to_string());
        note!(self, "{} gets {} and answers {answer}", short_of(key.0), short(key.1));
        if outcome.delivered() {
            self.checks.taken_by_receiver(&self.store, key, taken)?;
        }
        self.after(after, What::Answer(id, start, at, outcome));
        Ok(())
    }

    fn answer(&mut self, id: u64, start: Start, at: Time, outcome: Outcome) -> Verdict {
        let (now, jitter) = (self.now, self.dice.share());
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let endpoint = start.live.endpoint.id;
        if let Some(count) = process.in_flight.get_mut(&endpoint) {
            *count -= 1;
        }
        process.learn(endpoint, &outcome, now);
        let moment = process.moment(self.walls[process.seat], now);
        let finished = finished(start, Vec::new(), outcome, (at, moment), &self.schedule, jitter);
        self.core(id, Some(Event::Sent(Box::new(finished))))
    }

    /// The recorder: one batch at a time.
    fn record(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.recording || process.unrecorded.is_empty() {
            return;
        }
        process.recording = true;
        let batch = std::mem::take(&mut process.unrecorded);
        let way = self.way();
        self.after(way, What::Ask(id, Ask::Record(batch)));
    }

    fn beat(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let began = process.mono(self.now);
        let beat = process.beats.beat(began);
        let way = self.way();
        self.after(way, What::Ask(id, Ask::Heartbeat(beat, began)));
    }

    fn announce(&mut self, from: u64, endpoints: &[EndpointId]) {
        let others: Vec<u64> = self.processes.keys().copied().filter(|id| *id != from).collect();
        for id in others {
            for _ in 0..self.dice.pick(&[0, 1, 1, 1, 2]) {
                let way = self.way();
                let heard = if self.dice.chance(5) { Heard::Anything } else { Heard::Due(endpoints.to_vec()) };
                self.after(way, What::Tell(id, Box::new(Event::Announced(heard))));
            }
        }
    }

    /// Something reaches the store.
    fn ask(&mut self, id: u64, ask: Ask) -> Verdict {
        let alive = self.processes.contains_key(&id);
        // What the dead had sent arrives, or not; where there is no server, not.
        if !alive && (!self.case.shared || self.dice.chance(50)) {
            return Ok(());
        }
        let away = self.now < self.store.away_until;
        // Committed, and nobody hears of it.
        let unheard = away || (!self.case.calm && self.healed.is_none() && self.dice.chance(1));
        let reply = match ask {
            Ask::Read(wants, _) if unheard => Reply::Event(Box::new(Event::Read(Err(wants)))),
            Ask::Read(wants, moment) => self.read(wants, moment),
            Ask::Scan => {
                let pending = (!unheard).then(|| self.store.pending_lanes());
                Reply::Event(Box::new(Event::Scanned(pending)))
            }
            Ask::Load(asked) => {
                let lives = (!unheard).then(|| self.store.live_endpoints(&asked));
                Reply::Event(Box::new(Event::Loaded(Loaded { asked, lives })))
            }
            Ask::Record(batch) => {
                let recorded = if away { None } else { Some(self.recorded(id, &batch)?) };
                Reply::Recorded(batch, recorded.filter(|_| !unheard))
            }
            Ask::Heartbeat(beat, began) => {
                let lost = away || self.processes.get(&id).is_some_and(|process| self.now < process.beats_lost_until);
                let beaten = if lost { None } else { Some(self.heartbeat(id, beat)?) };
                Reply::Beaten(began, beaten.filter(|_| !unheard))
            }
            Ask::HandBack(slots) => {
                if !away {
                    self.checks.handed_back(id, &slots)?;
                    self.store.hand_back(id, &slots);
                }
                Reply::HandedBack(slots, !unheard)
            }
            Ask::Depart => {
                if !away {
                    note!(self, "process {id} hands back its slots and leaves");
                    self.store.depart(id);
                }
                Reply::Departed
            }
        };
        let way = if away { self.dice.millis(5, 1_500) } else { self.way() };
        self.after(way, What::Reply(id, reply));
        Ok(())
    }

    fn read(&self, wants: Vec<LaneWants>, moment: Moment) -> Reply {
        let waiting = self.store.waiting(&wants);
        let due = waiting.iter().filter(|one| moment.due(one) <= moment.wall);
        let message = |id: MessageId| self.store.messages.get(&id).map(|message| (id, message.clone()));
        let messages = due.filter_map(|one| message(one.message_id)).collect();
        Reply::Event(Box::new(Event::Read(Ok(Reading { wants, waiting, messages }))))
    }

    fn recorded(&mut self, id: u64, batch: &[(Finished, Duration)]) -> Result<Vec<Recorded>, String> {
        let key = |one: &Finished| (one.attempt.endpoint_id, one.attempt.message_id);
        let state = |world: &World, one: &Finished| {
            world.store.rows.get(&key(one)).map(|row| (row.state, row.due, row.progress))
        };
        let fenced = |world: &World, one: &Finished| world.store.slots[usize::from(one.slot)].epoch != one.epoch;
        let stale: Vec<_> = batch.iter().map(|(one, _)| fenced(self, one).then(|| state(self, one))).collect();
        let results = self.store.record(batch);
        for (((one, _), before), result) in batch.iter().zip(stale).zip(&results) {
            note!(
                self,
                "recorded of process {id}: {} to {}: {:?} {result:?}",
                short(key(one).1),
                short_of(key(one).0),
                one.next
            );
            self.checks.recorded(key(one), id, one.epoch);
            let others = batch.iter().any(|(other, _)| key(other) == key(one) && other.epoch != one.epoch);
            if before.is_some_and(|before| !others && before != state(self, one)) {
                return Err(format!("fencing: process {id} changed {} without owning it any more", short(key(one).1)));
            }
        }
        Ok(results)
    }

    fn heartbeat(&mut self, id: u64, beat: Beat) -> Result<Beaten, String> {
        let beaten = self.store.heartbeat(id, beat, self.now);
        for slot in &beaten.taken {
            let epoch = self.store.slots[usize::from(*slot)].epoch;
            note!(self, "process {id} takes slot {slot}, epoch {epoch}");
            self.checks.taken(*slot, epoch)?;
        }
        Ok(beaten)
    }

    /// An answer of the store reaches the process.
    fn reply(&mut self, id: u64, reply: Reply) -> Verdict {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        match reply {
            Reply::Event(event) => return self.core(id, Some(*event)),
            Reply::Recorded(batch, None) => {
                process.record_again = (process.record_again * 2).clamp(AGAIN.0, AGAIN.1);
                let again = process.record_again;
                self.after(again, What::Ask(id, Ask::Record(batch)));
            }
            Reply::Recorded(batch, Some(results)) => {
                (process.recording, process.record_again) = (false, Duration::ZERO);
                let settled = batch.iter().zip(results).map(|((one, _), result)| Settled::of(one, result)).collect();
                self.record(id);
                return self.core(id, Some(Event::Recorded(settled)));
            }
            Reply::Beaten(began, None) => {
                process.beats.failed(began);
                let pause = process.beats.pause();
                self.after(pause, What::Beat(id));
            }
            Reply::Beaten(began, Some(beaten)) => {
                let beaten = process.beats.beaten(began, beaten.leases, beaten.share);
                let pause = process.beats.pause();
                self.after(pause, What::Beat(id));
                self.core(id, Some(Event::Leases(beaten.leases, beaten.until)))?;
                return self.core(id, Some(Event::Release(beaten.surplus)));
            }
            Reply::HandedBack(slots, done) => {
                process.beats.handed_back(slots, done);
                if let Some(again) = process.beats.hand_back_again() {
                    let slots = process.beats.take_unreturned();
                    self.after(again, What::Ask(id, Ask::HandBack(slots)));
                }
            }
            Reply::Departed => {
                note!(self, "process {id} is gone, at {:?}", now);
                self.processes.remove(&id);
            }
        }
        Ok(())
    }

    /// A process hears a signal of its store: at once, late, or not at all.
    pub fn signal(&mut self, id: u64, signal: Signal) {
        let delay = match self.dice.below(10) {
            0 if !self.case.calm => {
                note!(self, "process {id} loses a signal");
                self.after(Duration::ZERO, What::Tell(id, Box::new(Event::SignalLost)));
                return;
            }
            1 => self.dice.millis(100, 4_000),
            _ => self.dice.millis(0, 5),
        };
        self.after(delay, What::Tell(id, Box::new(Event::Signal(signal))));
    }

    /// Whether nothing is left to be done.
    pub fn over(&self) -> bool {
        self.healed.is_some() && self.store.rows.values().all(|row| !row.state.pending())
    }

    /// What a clock that is right shows.
    pub fn right(&self) -> Time {
        START.plus(self.now)
    }
}

/// How far apart the clocks of two machines are at the most.
pub const APART: Duration = Duration::from_millis(1_000);
/// The recorder's patience.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The last digits of an id are what tells them apart here.
pub fn short(message: MessageId) -> String {
    format!("m{}", message.0.as_u128() & 0xFFFF_FFFF)
}

/// The same of an endpoint.
pub fn short_of(endpoint: EndpointId) -> String {
    format!("e{}", endpoint.0.as_u128())
}
