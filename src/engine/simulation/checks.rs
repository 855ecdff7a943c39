//! The properties: what has to be true of every step, and in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::fleet::Case;
use super::process::{Away, PROBES, Process};
use super::receivers::Receiver;
use super::store::{Key, Store};
use crate::domain::delivery::{DeadReason, State};
use crate::domain::{AppId, EndpointId};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lanes::Start;

/// What is wrong, in a sentence; or nothing.
pub type Verdict = Result<(), String>;

/// An attempt that was begun and is in no record yet.
#[derive(Clone, Debug)]
struct Open {
    process: u64,
    slot: u8,
    epoch: i64,
    /// Its owner lost the slot: another may send it meanwhile.
    excused: bool,
}

/// What is watched.
#[derive(Debug, Default)]
pub struct Checks {
    open: HashMap<Key, Vec<Open>>,
    /// How many duplicates each delivery may have.
    allowed: HashMap<Key, u32>,
    /// The starts of the last second, by endpoint and application.
    pace: HashMap<uuid::Uuid, VecDeque<Duration>>,
    /// How many went under one lease: endpoint or application, process, epoch.
    of_lease: HashMap<(uuid::Uuid, u64, i64), u32>,
    started: BTreeSet<Key>,
    /// Endpoints whose deliveries go one after the other, in the order in which they were accepted.
    pub ordered: BTreeSet<EndpointId>,
    /// Nothing was done to anybody that costs a duplicate.
    pub gentle: bool,
    /// Nothing was done to anybody at all, and no signal is late.
    pub calm: bool,
    /// There are many lanes.
    pub wide: bool,
    /// A process began while its clock was wrong: it cannot know what is early.
    pub misled: bool,
    /// How many a process may have in flight: in all, and to one endpoint.
    pub caps: (usize, usize),
    pub duplicates: u32,
    pub starts: u32,
}

/// What is known of a start.
pub struct Begun<'w> {
    pub id: u64,
    pub process: &'w Process,
    pub start: &'w Start,
    pub moment: ClockReading,
    pub now: Duration,
    pub receiver: &'w Receiver,
}

/// How late a fresh delivery may be at an endpoint that is well, when nothing happens to anybody: clocks apart, and a scan.
const PROMPT: Duration = Duration::from_secs(7);

fn hold(truth: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if truth { Ok(()) } else { Err(otherwise()) }
}

impl Checks {
    /// Of a case that is about to begin.
    pub fn new(case: &Case) -> Checks {
        Checks { gentle: case.gentle, calm: case.calm, caps: case.caps, wide: case.wide, ..Checks::default() }
    }

    /// Everything that has to be true when an attempt begins.
    pub fn start(&mut self, store: &Store, begun: &Begun) -> Verdict {
        let Begun { id, process, start, now, .. } = begun;
        let key = (start.live.endpoint.id, start.work.message.id);
        self.starts += 1;
        self.one_owner(store, begun)?;
        self.one_at_a_time(store, key)?;
        self.due(store, begun, key)?;
        self.limits(begun)?;
        self.order(store, key)?;
        let here = process.in_flight.get(&key.0).copied().unwrap_or(0);
        let all = process.all_in_flight;
        hold(here <= self.caps.1, || format!("caps: {here} in flight to one endpoint"))?;
        hold(all <= self.caps.0, || format!("caps: {all} in flight in all"))?;
        let Away { row, until: rest, .. } = process.unreachable.get(&key.0).copied().unwrap_or_default();
        hold(row < PROBES || here == 1, || format!("breaker: {here} in flight after {row} in a row did not arrive"))?;
        hold(*now >= rest, || format!("breaker: a probe before the rest ends at {rest:?}"))?;
        let open = Open { process: *id, slot: start.slot, epoch: start.epoch, excused: false };
        self.open.entry(key).or_default().push(open);
        Ok(())
    }

    fn one_owner(&self, store: &Store, begun: &Begun) -> Verdict {
        let slot = &store.slots[usize::from(begun.start.slot)];
        let ours = slot.owner == Some(begun.id) && slot.epoch == begun.start.epoch && slot.expires > begun.now;
        hold(ours, || {
            format!("one owner: {} sends under epoch {}, but the store has {slot:?}", begun.id, begun.start.epoch)
        })
    }

    fn one_at_a_time(&self, store: &Store, key: Key) -> Verdict {
        let twice = self.open.get(&key).is_some_and(|open| open.iter().any(|one| !one.excused));
        hold(!twice, || "twice: sent again before the attempt before was recorded".to_owned())?;
        hold(store.rows.contains_key(&key), || "sent, but not in the store".to_owned())
    }

    fn due(&mut self, store: &Store, begun: &Begun, key: Key) -> Verdict {
        let (row, progress, moment) = (&store.rows[&key], &begun.start.work.progress, begun.moment);
        // Somebody may have resent or canceled it a moment ago.
        if row.progress.generation == progress.generation {
            hold(row.state.pending(), || format!("sent, but it is {:?}", row.state))?;
            hold(row.progress == *progress, || format!("sent from {progress:?}, but it is at {:?}", row.progress))?;
            let early = || format!("due: a retry before {:?}", row.not_before);
            hold(self.misled || begun.now >= row.not_before, early)?;
        }
        if let Some(at) =
            begun.start.work.message.deliver_at.filter(|_| progress.attempts == 0 && progress.generation == 0)
        {
            let by = moment.time.plus(super::world::APART);
            hold(self.misled || at <= by, || format!("due: {at} is not yet, it is {by}"))?;
        }
        let fresh = self.started.insert(key) && begun.start.work.message.deliver_at.is_none();
        let free = begun.start.live.endpoint.spec.throttle_rate.is_none() && begun.start.live.app_throttle.is_none();
        let waited = begun.now - row.accepted;
        let alone = !self.ordered.contains(&key.0);
        let judged = self.calm && row.resent == 0 && fresh && free && alone && begun.receiver.sound;
        hold(!judged || waited <= PROMPT, || format!("isolation: a fresh delivery waited {waited:?}"))
    }

    /// In any second no more than the rate and its burst, whoever sends; a new owner begins with nothing saved up.
    fn limits(&mut self, begun: &Begun) -> Verdict {
        let Begun { id: process, start, now, .. } = *begun;
        let (live, lease) = (&start.live, (start.slot, start.epoch));
        let since = begun.process.leased.get(&lease).copied().unwrap_or(now);
        let endpoint = (live.endpoint.spec.throttle_rate, live.endpoint.id.0);
        let app = (live.app_throttle, live.endpoint.app_id.0);
        for (rate, id) in [endpoint, app] {
            let Some(rate) = rate.map(usize::from) else { continue };
            let pace = self.pace.entry(id).or_default();
            pace.push_back(now);
            while pace.pop_front_if(|at| *at + Duration::from_secs(1) <= now).is_some() {}
            let most = rate + (rate / 20).max(1);
            hold(pace.len() <= most, || format!("limits: {} in a second, at a rate of {rate}", pace.len()))?;
            let count = self.of_lease.entry((id, process, start.epoch)).or_insert(0);
            *count += 1;
            let may = (now - since).as_secs_f64() * rate as f64 + 1e-6;
            hold(f64::from(*count) <= may, || format!("limits: {count} since {since:?}, at a rate of {rate}"))?;
        }
        Ok(())
    }

    /// Of an ordered endpoint, nothing goes before what came first has ended.
    fn order(&self, store: &Store, key: Key) -> Verdict {
        if !self.ordered.contains(&key.0) {
            return Ok(());
        }
        let seq = store.rows[&key].seq;
        let before = store.of(key.0).find(|(_, row)| (1..seq).contains(&row.seq) && row.state.pending());
        hold(before.is_none(), || format!("order: number {seq} goes before {:?}", before.map(|(_, row)| row.seq)))?;
        let open = self.open.iter().any(|(other, open)| other.0 == key.0 && open.iter().any(|one| !one.excused));
        hold(!open, || format!("order: number {seq} goes while another is on its way"))
    }

    /// In one step of a core, of one lane: both kinds take turns while both wait.
    pub fn turns(&self, retries: &[bool], queued: (usize, usize)) -> Verdict {
        let twice = |kind: bool| retries.windows(2).any(|two| two == [kind, kind]);
        hold(queued.0 == 0 || !twice(true), || "fairness: retries crowd out what is fresh".to_owned())?;
        hold(queued.1 == 0 || !twice(false), || "fairness: what is fresh crowds out retries".to_owned())
    }

    /// After some deliveries in a row nothing holds a lane back: unless it has a rate, more than one of what waits is in flight. Where there
    /// are many lanes, a step may end before it was the lane's turn, and a backlog gives way.
    pub fn breaker_closes(&self, store: &Store, process: &Process, endpoint: EndpointId) -> Verdict {
        let live = &store.lives[&endpoint];
        let free = live.endpoint.spec.throttle_rate.is_none() && live.app_throttle.is_none();
        let (fresh, retries) = process.core.queued(endpoint);
        let room = self.caps.0.saturating_sub(process.all_in_flight) >= 12 && self.caps.1 > 1;
        let well = process.well.get(&endpoint).copied().unwrap_or(0);
        let here = process.in_flight.get(&endpoint).copied().unwrap_or(0);
        let later = self.wide && process.core.sends_later(endpoint);
        let held =
            !later && !self.ordered.contains(&endpoint) && free && room && well >= 3 && fresh + retries > 0 && here < 2;
        hold(!held, || format!("breaker: {fresh} + {retries} wait, {here} in flight, after {well} deliveries in a row"))
    }

    /// A record of an attempt is in the store.
    pub fn recorded(&mut self, key: Key, process: u64, epoch: i64) {
        if let Some(open) = self.open.get_mut(&key) {
            let at = open.iter().position(|one| one.process == process && one.epoch == epoch);
            at.map(|at| open.remove(at));
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
    }

    /// An attempt was begun and not made: it is on its way no more, and never will be in a record.
    pub fn not_made(&mut self, key: Key, process: u64, epoch: i64) {
        self.recorded(key, process, epoch);
    }

    /// A slot has another owner: what the one before had in flight may come twice.
    pub fn taken(&mut self, slot: u8, epoch: i64) -> Verdict {
        for (key, open) in &mut self.open {
            for one in open.iter_mut().filter(|one| one.slot == slot && one.epoch < epoch && !one.excused) {
                one.excused = true;
                *self.allowed.entry(*key).or_insert(0) += 1;
                hold(!self.gentle, || format!("slot {slot} changed hands while something of it was in flight"))?;
            }
        }
        Ok(())
    }

    /// A process hands over slots of its own accord, or all of them, having drained.
    pub fn handed_back(&self, process: u64, slots: &[u8]) -> Verdict {
        let mine = |one: &Open| one.process == process && slots.contains(&one.slot) && !one.excused;
        let busy = self.open.values().flatten().any(mine);
        hold(!busy, || format!("{process} hands back a slot of which something is in flight"))
    }

    /// A receiver has taken it so many times.
    pub fn taken_by_receiver(&mut self, store: &Store, key: Key, times: u32) -> Verdict {
        let resent = store.rows.get(&key).map_or(0, |row| row.resent);
        let most = 1 + resent + self.allowed.get(&key).copied().unwrap_or(0);
        self.duplicates += u32::from(times > 1 + resent);
        hold(times <= most, || format!("duplicates: it came {times} times, and no more than {most} are accounted for"))
    }

    /// When all is over.
    pub fn end(&self, store: &Store, receivers: &BTreeMap<EndpointId, Receiver>, waits: usize) -> Verdict {
        for (key, row) in &store.rows {
            let taken = receivers[&key.0].taken.get(&key.1).copied().unwrap_or(0);
            let name =
                |what: &str| format!("{what}: number {} to {} is {:?} {:?}", row.seq, key.0, row.state, row.reason);
            match (row.state, row.reason) {
                (State::Delivered, _) => hold(taken > 0, || name("lost, and called delivered"))?,
                (State::Dead, Some(DeadReason::Exhausted)) => {
                    hold(row.progress.attempts as usize > waits, || name("given up early"))?;
                }
                (State::Dead, Some(DeadReason::Gone | DeadReason::Canceled)) => {}
                _ => return Err(name("never ended")),
            }
        }
        Ok(())
    }

    /// The applications of these endpoints, each once.
    pub fn apps(store: &Store) -> BTreeSet<AppId> {
        store.lives.values().map(|live| live.endpoint.app_id).collect()
    }
}
