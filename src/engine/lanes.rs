//! All lanes together: the engine's decisions, without any I/O. Events go in (admitted, read, sent, recorded, leases, …), and
//! what is to be done comes out: [`Lanes::start`] the next deliveries to send, [`Lanes::begin_reading`] the lanes to read for.
//!
//! Time is an argument everywhere ([`Moment`]): the wall clock says what is due, the engine's own clock paces.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use super::lane::{Hold, Lane, Work};
use super::limit::Limit;
use crate::domain::attempt::Outcome;
use crate::domain::delivery::{Progress, State};
use crate::domain::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::deliveries::{LaneWants, PendingLane, Waiting};
use crate::store::directory::LiveEndpoint;
use crate::store::signals::Admission;
use crate::store::slots::{Leases, slot_of};

/// How many payload bytes may be queued in memory; beyond that deliveries wait in the store.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// How many results may wait to be recorded before nothing more is sent: what a store that is away costs in memory, and the most
/// that a crash then would send again.
const UNRECORDED: usize = 4_096;
/// How many lanes one reading covers.
const LANES_PER_READING: usize = 64;
/// A lane in which nothing happened for so long is forgotten; its bucket has filled up by then.
const IDLE: Duration = Duration::from_secs(60);
/// So late may the signal of a commit come after others have seen the commit.
const LATE: Duration = Duration::from_secs(5);
/// After a reading failed, its lanes wait this long.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// The next delivery to send.
#[derive(Debug)]
pub struct Start {
    pub live: Arc<LiveEndpoint>,
    pub work: Work,
    pub slot: u8,
    pub epoch: i64,
}

/// The lanes of all endpoints with something to do, and what they share.
pub struct Lanes {
    lanes: HashMap<EndpointId, Lane>,
    /// The limits of applications that have one.
    apps: HashMap<AppId, Limit>,
    /// The lanes that may have something to send, in turn.
    line: VecDeque<EndpointId>,
    /// When held lanes may go on.
    wakes: BinaryHeap<Reverse<(Duration, EndpointId)>>,
    /// When lanes want to be read.
    looks: BinaryHeap<Reverse<(Time, EndpointId)>>,
    /// Slots we own: epoch, and since when.
    leases: BTreeMap<u8, (i64, Duration)>,
    /// Endpoints of slots that are not ours, so that they are not loaded again and again.
    foreign: HashMap<EndpointId, u8>,
    /// Fresh deliveries that a reading brought lately. Their signal may still come: a commit is seen before it is told. By then
    /// they may be sent and recorded, and nothing else would tell that they must not go out again.
    brought: HashSet<(EndpointId, MessageId)>,
    brought_at: VecDeque<(Duration, (EndpointId, MessageId))>,
    max_in_flight: usize,
    lane_cap: usize,
    in_flight: usize,
    unrecorded: usize,
    queued_bytes: usize,
}

impl Lanes {
    /// At most `max_in_flight` requests at once, `lane_cap` of them for one endpoint.
    pub fn new(max_in_flight: usize, lane_cap: usize) -> Lanes {
        Lanes {
            lanes: HashMap::new(),
            apps: HashMap::new(),
            line: VecDeque::new(),
            wakes: BinaryHeap::new(),
            looks: BinaryHeap::new(),
            leases: BTreeMap::new(),
            foreign: HashMap::new(),
            brought: HashSet::new(),
            brought_at: VecDeque::new(),
            max_in_flight: max_in_flight.max(1),
            lane_cap,
            in_flight: 0,
            unrecorded: 0,
            queued_bytes: 0,
        }
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether everything that was sent is recorded.
    pub fn settled(&self) -> bool {
        self.in_flight == 0 && self.unrecorded == 0
    }

    /// How many slots are ours.
    pub fn owned_slots(&self) -> usize {
        self.leases.len()
    }

    /// Messages that were committed just now. What finds no room waits in the store and is read later, and so does what is scheduled.
    pub fn admit(&mut self, admission: &Admission, now: Moment) {
        for live in &admission.endpoints {
            let Some(lane) = self.lane(live, now) else { continue };
            if self.brought.contains(&(lane, admission.message.id)) {
                continue;
            }
            let due = admission.message.first_due();
            if due > now.wall {
                self.look(lane, due);
                continue;
            }
            let work = Work { message: admission.message.clone(), progress: Progress::default() };
            self.queue(lane, work, State::Fresh, now.wall);
        }
    }

    /// The lane of an endpoint, made if need be; `None` if its slot is not ours.
    fn lane(&mut self, live: &Arc<LiveEndpoint>, now: Moment) -> Option<EndpointId> {
        let id = live.endpoint.id;
        if let Some(lane) = self.lanes.get(&id) {
            if lane.live.version < live.version {
                self.know(std::slice::from_ref(live), now);
            }
            return self.lanes.get(&id).filter(|lane| lane.owned).map(|_| id);
        }
        let slot = slot_of(live);
        let Some((_, since)) = self.leases.get(&slot) else {
            self.foreign.insert(id, slot);
            return None;
        };
        let since = *since;
        self.know_app(live, since);
        let mut lane = Lane::new(live.clone(), true, since, self.lane_cap);
        lane.touched = now.mono;
        self.lanes.insert(id, lane);
        Some(id)
    }

    fn know_app(&mut self, live: &LiveEndpoint, since: Duration) {
        let app = live.endpoint.app_id;
        match live.app_throttle {
            Some(rate) if self.apps.get(&app).map(Limit::rate) != Some(rate) => {
                self.apps.insert(app, Limit::new(rate, since));
            }
            Some(_) => {}
            None => drop(self.apps.remove(&app)),
        }
    }

    fn queue(&mut self, id: EndpointId, work: Work, state: State, look_otherwise: Time) {
        let room = self.queued_bytes < QUEUED_BYTES;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.holds(work.message.id) {
            return;
        }
        let bytes = work.message.size();
        if !lane.paused() && room && lane.push(work, state == State::Retry) {
            self.queued_bytes += bytes;
            self.line_up(id);
        } else {
            self.look(id, look_otherwise);
        }
    }

    fn line_up(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.in_line) {
            lane.in_line = true;
            self.line.push_back(id);
        }
    }

    fn look(&mut self, id: EndpointId, at: Time) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.look(at);
            self.list_look(id);
        }
    }

    /// Puts a lane's look into the list, unless one as early stands there.
    fn list_look(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some(at) = lane.look_at().filter(|at| lane.look_listed.is_none_or(|listed| *at < listed)) {
            lane.look_listed = Some(at);
            self.looks.push(Reverse((at, id)));
        }
    }

    /// Endpoints as they are now: lanes go on with that.
    pub fn know(&mut self, lives: &[Arc<LiveEndpoint>], now: Moment) {
        for live in lives {
            let id = live.endpoint.id;
            self.know_app(live, now.mono);
            if let Some(lane) = self.lanes.get_mut(&id) {
                if live.endpoint.spec.disabled {
                    self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                }
                lane.refresh(live.clone(), now);
                lane.owned = self.leases.contains_key(&lane.slot);
                self.list_look(id);
                self.line_up(id);
            } else if let Some(id) = self.lane(live, now) {
                self.look(id, Time::ZERO);
            }
        }
    }

    /// Every endpoint that has a lane.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        self.lanes.keys().copied().collect()
    }

    /// The endpoints of an application whose lanes we have: what is remembered of them is stale.
    pub fn of_app(&self, app: AppId) -> Vec<EndpointId> {
        self.lanes.values().filter(|lane| lane.live.endpoint.app_id == app).map(|lane| lane.live.endpoint.id).collect()
    }

    /// These endpoints are no more: their queues are forgotten, the store ends what is pending.
    pub fn forget(&mut self, gone: &HashSet<EndpointId>) {
        for id in gone {
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                lane.gone = true;
            }
        }
    }

    /// These deliveries were ended while they waited: what is queued of them is not sent.
    pub fn withdraw(&mut self, ended: &[(EndpointId, MessageId)]) {
        for (id, message) in ended {
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.withdraw(*message));
            }
        }
    }

    /// Something of this endpoint has become due. `false`: we do not know it.
    pub fn nudge(&mut self, id: EndpointId, at: Time) -> bool {
        self.look(id, at);
        self.lanes.contains_key(&id) || self.foreign.contains_key(&id)
    }

    /// What the store says is pending; gives back the endpoints that have to be loaded first.
    pub fn pending(&mut self, pending: &[PendingLane]) -> Vec<EndpointId> {
        let unknown =
            |one: &&PendingLane| !self.lanes.contains_key(&one.endpoint) && !self.foreign.contains_key(&one.endpoint);
        let load = pending.iter().filter(unknown).map(|one| one.endpoint).collect();
        for one in pending {
            // Never earlier than it is due: a lane whose first rows are all held would be read over and over.
            self.look(one.endpoint, one.first_due);
        }
        load
    }

    /// The lanes to read for now, and what of theirs is held and need not be loaded. They count as being read until
    /// [`Lanes::read`] or [`Lanes::read_failed`].
    pub fn begin_reading(&mut self, now: Moment) -> (Vec<LaneWants>, HashSet<(EndpointId, MessageId)>) {
        let (mut wants, mut held) = (Vec::new(), HashSet::new());
        while wants.len() < LANES_PER_READING {
            let Some(Reverse((at, id))) = self.looks.peek().copied().filter(|Reverse((at, _))| *at <= now.wall) else {
                break;
            };
            self.looks.pop();
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.look_listed == Some(at)) else { continue };
            lane.look_listed = None;
            // No room: it keeps its wish, and what is sent makes room and lists it again.
            let room = lane.roomy() && (self.queued_bytes < QUEUED_BYTES || lane.queued() == 0);
            if lane.look_at().is_some_and(|look_at| look_at <= now.wall) && room {
                lane.begin_reading();
                let (fresh, retries) = lane.wants();
                held.extend(lane.held().map(|message| (id, message)));
                wants.push(LaneWants { endpoint: id, fresh, retries });
            }
        }
        (wants, held)
    }

    /// What a reading has brought: `waiting` by lane and due, with the messages behind it.
    pub fn read(
        &mut self,
        wants: &[LaneWants],
        waiting: &[Waiting],
        messages: &HashMap<MessageId, Arc<Message>>,
        now: Moment,
    ) {
        self.forget_brought(now);
        let mut settled: HashMap<EndpointId, HashSet<MessageId>> = HashMap::new();
        let mut counts: HashMap<(EndpointId, State), i64> = HashMap::new();
        for want in wants {
            if let Some(lane) = self.lanes.get_mut(&want.endpoint) {
                settled.insert(want.endpoint, lane.end_reading().into_iter().collect());
            }
        }
        for one in waiting {
            // What is due later is not: behind it nothing is due, so that there is no reason to read on.
            if one.due_at <= now.wall {
                *counts.entry((one.endpoint_id, one.state)).or_default() += 1;
            }
            if settled.get(&one.endpoint_id).is_none_or(|settled| settled.contains(&one.message_id)) {
                continue;
            }
            if one.due_at > now.wall {
                self.look(one.endpoint_id, one.due_at);
            } else if let Some(message) = messages.get(&one.message_id) {
                let work = Work { message: message.clone(), progress: one.progress };
                if one.progress == Progress::default() {
                    self.brought.insert((one.endpoint_id, one.message_id));
                    self.brought_at.push_back((now.mono, (one.endpoint_id, one.message_id)));
                }
                self.queue(one.endpoint_id, work, one.state, now.wall);
            }
        }
        for want in wants {
            let full = |state, most| counts.get(&(want.endpoint, state)).is_some_and(|count| *count >= most);
            if full(State::Fresh, want.fresh) || full(State::Retry, want.retries) {
                self.look(want.endpoint, now.wall);
            } else {
                // Something may have been noted while the reading was under way.
                self.list_look(want.endpoint);
            }
        }
    }

    fn forget_brought(&mut self, now: Moment) {
        while let Some((_, key)) = self.brought_at.pop_front_if(|(at, _)| now.mono.saturating_sub(*at) > LATE) {
            self.brought.remove(&key);
        }
    }

    /// A reading failed: its lanes look again a little later.
    pub fn read_failed(&mut self, wants: &[LaneWants], now: Moment) {
        for want in wants {
            if let Some(lane) = self.lanes.get_mut(&want.endpoint) {
                lane.end_reading();
            }
            self.look(want.endpoint, now.wall.plus(READ_AGAIN));
        }
    }

    /// The next delivery to send, if anything may be sent.
    pub fn start(&mut self, now: Moment) -> Option<Start> {
        while let Some(Reverse((_, id))) = self.wakes.peek().copied().filter(|Reverse((at, _))| *at <= now.mono) {
            self.wakes.pop();
            self.line_up(id);
        }
        while self.in_flight < self.max_in_flight && self.in_flight + self.unrecorded < UNRECORDED {
            let id = self.line.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.in_line = false;
            let free = self.max_in_flight - self.in_flight;
            match lane.next(now, free, &self.apps) {
                Ok(work) => {
                    let start = Start {
                        live: lane.live.clone(),
                        slot: lane.slot,
                        epoch: self.leases.get(&lane.slot).map_or(0, |(epoch, _)| *epoch),
                        work,
                    };
                    self.in_flight += 1;
                    self.queued_bytes = self.queued_bytes.saturating_sub(start.work.message.size());
                    // To the back of the line: the lanes take turns.
                    self.line_up(id);
                    self.look_if_roomy(id);
                    return Some(start);
                }
                Err(Hold::Until(at)) => self.wakes.push(Reverse((at, id))),
                Err(Hold::Idle) => {}
            }
        }
        None
    }

    fn look_if_roomy(&mut self, id: EndpointId) {
        if self.lanes.get(&id).is_some_and(Lane::roomy) {
            self.list_look(id);
        }
    }

    /// An attempt has ended; its result waits to be recorded.
    pub fn sent(&mut self, id: EndpointId, outcome: &Outcome, now: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.unrecorded += 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.sent(outcome, now);
            self.line_up(id);
            self.look_if_roomy(id);
        }
    }

    /// A result is in the store. `due`: when the delivery wants to be sent again.
    pub fn recorded(&mut self, id: EndpointId, message: MessageId, due: Option<Time>) {
        self.unrecorded = self.unrecorded.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.recorded(message, due);
            self.list_look(id);
        }
    }

    /// The slots that are ours now.
    pub fn lease(&mut self, leases: &Leases, now: Moment) {
        let before = std::mem::take(&mut self.leases);
        for (slot, epoch) in leases {
            let since = match before.get(slot) {
                Some((known, since)) if known == epoch => *since,
                _ => now.mono,
            };
            self.leases.insert(*slot, (*epoch, since));
        }
        self.foreign.retain(|_, slot| !leases.contains_key(slot));
        for lane in self.lanes.values_mut() {
            let owned = self.leases.contains_key(&lane.slot);
            if lane.owned && !owned {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
            }
            lane.owned = owned;
        }
    }

    /// Lets go of slots: nothing more is sent for them.
    pub fn release(&mut self, slots: &[u8], now: Moment) {
        let kept: Leases = self
            .leases
            .iter()
            .filter(|(slot, _)| !slots.contains(slot))
            .map(|(slot, (epoch, _))| (*slot, *epoch))
            .collect();
        self.lease(&kept, now);
    }

    /// Whether nothing of these slots is on its way any more.
    pub fn quiet(&self, slots: &[u8]) -> bool {
        !self.lanes.values().any(|lane| slots.contains(&lane.slot) && lane.busy())
    }

    /// Forgets lanes in which nothing has happened for a while.
    pub fn tidy(&mut self, now: Moment) {
        self.forget_brought(now);
        self.lanes.retain(|_, lane| lane.in_line || !lane.forgettable(now, IDLE));
        let apps: HashSet<AppId> = self.lanes.values().map(|lane| lane.live.endpoint.app_id).collect();
        self.apps.retain(|app, _| apps.contains(app));
        // What is foreign may have moved to another slot since.
        self.foreign.clear();
    }

    /// How long until something wants to be done by itself.
    pub fn idle_for(&self, now: Moment) -> Option<Duration> {
        let wake = self.wakes.peek().map(|Reverse((at, _))| at.saturating_sub(now.mono));
        let look = self.looks.peek().map(|Reverse((at, _))| at.since(now.wall));
        [wake, look].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
