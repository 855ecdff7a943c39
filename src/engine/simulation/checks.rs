//! The properties that must hold at every step and at the end of a simulation.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::case::Case;
use super::model_store::{ModelStore, RowKey};
use super::process::{PROBES, SimProcess, UnreachableStreak};
use super::receivers::SimReceiver;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::domain::{AppId, EndpointId};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lanes::Dispatch;

/// `Err`: the violated property, as a sentence.
pub type CheckResult = Result<(), String>;

/// An attempt that started and is not recorded yet.
#[derive(Clone, Debug)]
struct OpenAttempt {
    process: u64,
    slot: u8,
    epoch: i64,
    /// The sending process lost the slot, so another process may send the delivery too.
    excused: bool,
}

/// The observations so far.
#[derive(Debug, Default)]
pub struct Checks {
    open: HashMap<RowKey, Vec<OpenAttempt>>,
    /// The number of duplicates that each delivery may have.
    allowed: HashMap<RowKey, u32>,
    /// The starts of the last second, per endpoint and application.
    pace: HashMap<uuid::Uuid, VecDeque<Duration>>,
    /// The starts under each lease: endpoint or application, process, epoch.
    of_lease: HashMap<(uuid::Uuid, u64, i64), u32>,
    started: BTreeSet<RowKey>,
    /// Ordered endpoints.
    pub ordered: BTreeSet<EndpointId>,
    /// No fault that can cause a duplicate.
    pub gentle: bool,
    /// No faults at all, and no late signals.
    pub calm: bool,
    /// There are many lanes.
    pub wide: bool,
    /// A process started with a wrong clock, so it cannot know what is too early.
    pub wrong_clock: bool,
    /// The concurrency limits of a process: in total, and per endpoint.
    pub caps: (usize, usize),
    pub duplicates: u32,
    pub starts: u32,
}

/// A start to check.
pub struct AttemptStart<'w> {
    pub id: u64,
    pub process: &'w SimProcess,
    pub dispatch: &'w Dispatch,
    pub clocks: ClockReading,
    pub now: Duration,
    pub receiver: &'w SimReceiver,
}

/// The longest delay of a new delivery to a working endpoint without faults: clock differences and a scan.
const PROMPT: Duration = Duration::from_secs(7);

fn hold(truth: bool, otherwise: impl FnOnce() -> String) -> CheckResult {
    if truth { Ok(()) } else { Err(otherwise()) }
}

impl Checks {
    /// The checks of a case at its start.
    pub fn new(case: &Case) -> Checks {
        Checks { gentle: case.gentle, calm: case.calm, caps: case.caps, wide: case.wide, ..Checks::default() }
    }

    /// Checks the start of an attempt.
    pub fn start(&mut self, store: &ModelStore, attempt: &AttemptStart) -> CheckResult {
        let AttemptStart { id, process, dispatch, now, .. } = attempt;
        let key = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        self.starts += 1;
        self.one_owner(store, attempt)?;
        self.one_at_a_time(store, key)?;
        self.due(store, attempt, key)?;
        self.limits(attempt)?;
        self.order(store, key)?;
        let here = process.in_flight.get(&key.0).copied().unwrap_or(0);
        let all = process.all_in_flight;
        hold(here <= self.caps.1, || format!("limits: {here} in flight to one endpoint"))?;
        hold(all <= self.caps.0, || format!("limits: {all} in flight in total"))?;
        let UnreachableStreak { row, until: rest, .. } = process.unreachable.get(&key.0).copied().unwrap_or_default();
        hold(row < PROBES || here == 1, || {
            format!("breaker: {here} in flight after {row} unreachable attempts in a row")
        })?;
        hold(*now >= rest, || format!("breaker: a probe before the pause ends at {rest:?}"))?;
        let open = OpenAttempt { process: *id, slot: dispatch.slot, epoch: dispatch.epoch, excused: false };
        self.open.entry(key).or_default().push(open);
        Ok(())
    }

    fn one_owner(&self, store: &ModelStore, attempt: &AttemptStart) -> CheckResult {
        let slot = &store.slots[usize::from(attempt.dispatch.slot)];
        let ours = slot.owner == Some(attempt.id) && slot.epoch == attempt.dispatch.epoch && slot.expires > attempt.now;
        hold(ours, || {
            format!(
                "one owner: {} sends under epoch {}, but the store has {slot:?}",
                attempt.id, attempt.dispatch.epoch
            )
        })
    }

    fn one_at_a_time(&self, store: &ModelStore, key: RowKey) -> CheckResult {
        let twice = self.open.get(&key).is_some_and(|open| open.iter().any(|one| !one.excused));
        hold(!twice, || "twice: sent again before the previous attempt was recorded".to_owned())?;
        hold(store.rows.contains_key(&key), || "sent, but not in the store".to_owned())
    }

    fn due(&mut self, store: &ModelStore, attempt: &AttemptStart, key: RowKey) -> CheckResult {
        let (row, progress, clocks) = (&store.rows[&key], &attempt.dispatch.delivery.progress, attempt.clocks);
        // The delivery may have been resent or canceled a moment ago.
        if row.progress.generation == progress.generation {
            hold(row.state.pending(), || format!("sent, but it is {:?}", row.state))?;
            hold(row.progress == *progress, || {
                format!("sent with {progress:?}, but the store has {:?}", row.progress)
            })?;
            let early = || format!("due: a retry before {:?}", row.not_before);
            hold(self.wrong_clock || attempt.now >= row.not_before, early)?;
        }
        if let Some(at) =
            attempt.dispatch.delivery.message.deliver_at.filter(|_| progress.attempts == 0 && progress.generation == 0)
        {
            let by = clocks.time.plus(super::world::MAX_CLOCK_DIFFERENCE);
            hold(self.wrong_clock || at <= by, || format!("due: at {at}, but it is {by}"))?;
        }
        let fresh = self.started.insert(key) && attempt.dispatch.delivery.message.deliver_at.is_none();
        let free =
            attempt.dispatch.live.endpoint.spec.throttle_rate.is_none() && attempt.dispatch.live.app_rate.is_none();
        let waited = attempt.now - row.accepted;
        let alone = !self.ordered.contains(&key.0);
        let judged = self.calm && row.resent == 0 && fresh && free && alone && attempt.receiver.always_working;
        hold(!judged || waited <= PROMPT, || format!("isolation: a new delivery waited {waited:?}"))
    }

    /// At most rate + burst in any second, across owners; a new owner starts with an empty bucket.
    fn limits(&mut self, attempt: &AttemptStart) -> CheckResult {
        let AttemptStart { id: process, dispatch, now, .. } = *attempt;
        let (live, lease) = (&dispatch.live, (dispatch.slot, dispatch.epoch));
        let since = attempt.process.leased.get(&lease).copied().unwrap_or(now);
        let endpoint = (live.endpoint.spec.throttle_rate, live.endpoint.id.0);
        let app = (live.app_rate.map(|rate| rate.per_second), live.endpoint.app_id.0);
        for (rate, id) in [endpoint, app] {
            let Some(rate) = rate.map(usize::from) else { continue };
            let pace = self.pace.entry(id).or_default();
            pace.push_back(now);
            while pace.pop_front_if(|at| *at + Duration::from_secs(1) <= now).is_some() {}
            let most = rate + (rate / 20).max(1);
            hold(pace.len() <= most, || format!("rate: {} in a second, at a rate of {rate}", pace.len()))?;
            let count = self.of_lease.entry((id, process, dispatch.epoch)).or_insert(0);
            *count += 1;
            let may = (now - since).as_secs_f64() * rate as f64 + 1e-6;
            hold(f64::from(*count) <= may, || format!("rate: {count} since {since:?}, at a rate of {rate}"))?;
        }
        Ok(())
    }

    /// Ordered delivery: nothing starts before all earlier deliveries have ended.
    fn order(&self, store: &ModelStore, key: RowKey) -> CheckResult {
        if !self.ordered.contains(&key.0) {
            return Ok(());
        }
        let seq = store.rows[&key].seq;
        let before = store.of(key.0).find(|(_, row)| (1..seq).contains(&row.seq) && row.state.pending());
        hold(before.is_none(), || format!("order: number {seq} is sent before {:?}", before.map(|(_, row)| row.seq)))?;
        let open = self.open.iter().any(|(other, open)| other.0 == key.0 && open.iter().any(|one| !one.excused));
        hold(!open, || format!("order: number {seq} is sent while another is in flight"))
    }

    /// Fairness within a step: first attempts and retries of a lane alternate while both are queued.
    pub fn turns(&self, retries: &[bool], queued: (usize, usize)) -> CheckResult {
        let twice = |kind: bool| retries.windows(2).any(|two| two == [kind, kind]);
        hold(queued.0 == 0 || !twice(true), || "fairness: retries starve first attempts".to_owned())?;
        hold(queued.1 == 0 || !twice(false), || "fairness: first attempts starve retries".to_owned())
    }

    /// After successes in a row the breaker is closed: a lane without rate limit and with a queue has more than one
    /// request in flight. With many lanes, the step may have ended before the lane's turn, and a backlog may be
    /// throttled.
    pub fn breaker_closes(&self, store: &ModelStore, process: &SimProcess, endpoint: EndpointId) -> CheckResult {
        let live = &store.lives[&endpoint];
        let free = live.endpoint.spec.throttle_rate.is_none() && live.app_rate.is_none();
        let (fresh, retries) = process.core.queued(endpoint);
        let room = self.caps.0.saturating_sub(process.all_in_flight) >= 12 && self.caps.1 > 1;
        let well = process.well.get(&endpoint).copied().unwrap_or(0);
        let here = process.in_flight.get(&endpoint).copied().unwrap_or(0);
        let later = self.wide && process.core.sends_later(endpoint);
        let held =
            !later && !self.ordered.contains(&endpoint) && free && room && well >= 3 && fresh + retries > 0 && here < 2;
        hold(!held, || format!("breaker: {fresh} + {retries} wait, {here} in flight, after {well} deliveries in a row"))
    }

    /// An attempt was recorded.
    pub fn recorded(&mut self, key: RowKey, process: u64, epoch: i64) {
        if let Some(open) = self.open.get_mut(&key) {
            let at = open.iter().position(|one| one.process == process && one.epoch == epoch);
            at.map(|at| open.remove(at));
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
    }

    /// An attempt failed locally. It will never be recorded.
    pub fn failed_locally(&mut self, key: RowKey, process: u64, epoch: i64) {
        self.recorded(key, process, epoch);
    }

    /// A slot has a new owner. Deliveries in flight under the previous one may be sent twice.
    pub fn taken(&mut self, slot: u8, epoch: i64) -> CheckResult {
        for (key, open) in &mut self.open {
            for one in open.iter_mut().filter(|one| one.slot == slot && one.epoch < epoch && !one.excused) {
                one.excused = true;
                *self.allowed.entry(*key).or_insert(0) += 1;
                hold(!self.gentle, || format!("slot {slot} got another owner with attempts in flight"))?;
            }
        }
        Ok(())
    }

    /// A process returns slots, or, after draining, all of them.
    pub fn slots_returned(&self, process: u64, slots: &[u8]) -> CheckResult {
        let mine = |one: &OpenAttempt| one.process == process && slots.contains(&one.slot) && !one.excused;
        let busy = self.open.values().flatten().any(mine);
        hold(!busy, || format!("{process} returns a slot with attempts in flight"))
    }

    /// A receiver accepted a message for the `times`th time.
    pub fn received(&mut self, store: &ModelStore, key: RowKey, times: u32) -> CheckResult {
        let resent = store.rows.get(&key).map_or(0, |row| row.resent);
        let most = 1 + resent + self.allowed.get(&key).copied().unwrap_or(0);
        self.duplicates += u32::from(times > 1 + resent);
        hold(times <= most, || format!("duplicates: it was received {times} times, and at most {most} are explained"))
    }

    /// Checks the end of a run.
    pub fn end(&self, store: &ModelStore, receivers: &BTreeMap<EndpointId, SimReceiver>, waits: usize) -> CheckResult {
        for (key, row) in &store.rows {
            let taken = receivers[&key.0].taken.get(&key.1).copied().unwrap_or(0);
            let name =
                |what: &str| format!("{what}: number {} to {} is {:?} {:?}", row.seq, key.0, row.state, row.reason);
            match (row.state, row.reason) {
                (DeliveryState::Delivered, _) => hold(taken > 0, || name("lost, but recorded as delivered"))?,
                (DeliveryState::Dead, Some(DeadReason::Exhausted)) => {
                    hold(row.progress.attempts as usize > waits, || name("given up early"))?;
                }
                (DeliveryState::Dead, Some(DeadReason::Gone | DeadReason::Canceled)) => {}
                _ => return Err(name("never ended")),
            }
        }
        Ok(())
    }

    /// The applications of all endpoints.
    pub fn apps(store: &ModelStore) -> BTreeSet<AppId> {
        store.lives.values().map(|live| live.endpoint.app_id).collect()
    }
}
