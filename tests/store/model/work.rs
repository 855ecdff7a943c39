//! What acts make of the model: background work and its turns, slots and their leases, the outbox.

use std::time::Duration;

use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{AppId, BackgroundId, EndpointId, MessageId, Time};
use sendoff::store::Tenant;
use sendoff::store::jobs::background::BackgroundSpec;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::query::topic_filter::TopicFilter;
use sendoff::store::queue::slots::{Heartbeat, Leases, Rank};

use super::state::{Delivery, Model, Work};

/// How much may go on at once for an application, or for the organization as a whole.
const AT_ONCE: usize = 5;

impl Work {
    pub fn runs(&self) -> bool {
        self.work.stage == TaskStage::Running
    }

    /// An application's own token sees its application's work and nobody else's.
    pub fn seen_by(&self, tenant: &Tenant) -> bool {
        let only = self.work.spec.scope.app().map_or(tenant.only.is_none(), |app| tenant.sees(app));
        self.org == tenant.org && only
    }
}

/// What becomes of asking for background work.
#[derive(Debug, PartialEq)]
pub enum May {
    Begin,
    TooMany(i64),
    NotThere,
}

impl Model {
    pub fn may_begin(&self, tenant: &Tenant, spec: &BackgroundSpec) -> May {
        let there = match spec.scope {
            TaskScope::Organization => tenant.only.is_none(),
            TaskScope::Application(app) => self.has(tenant, app),
            TaskScope::Endpoint(app, endpoint) => self.has_end(tenant, app, endpoint),
        };
        if !there {
            return May::NotThere;
        }
        let same = |work: &&Work| work.org == tenant.org && work.work.spec.scope.app() == spec.scope.app();
        let running = self.works.values().filter(|work| work.runs()).filter(same).count();
        if running >= AT_ONCE { May::TooMany(running as i64) } else { May::Begin }
    }

    /// Whose turn is next: that which has waited longest.
    pub fn lease_background(&mut self, now: Time) -> Option<(BackgroundId, u64)> {
        let free = self.works.values_mut().filter(|work| work.runs() && work.leased_until <= now);
        let work = free.min_by_key(|work| (work.leased_until, work.work.id))?;
        work.lease += 1;
        let taken = (work.work.id, work.lease);
        let until = self.lease(now);
        self.works.entry(taken.0).and_modify(|work| work.leased_until = until);
        Some(taken)
    }

    pub fn release_background(&mut self, (id, lease): (BackgroundId, u64), now: Time) {
        if let Some(work) = self.works.get_mut(&id).filter(|work| work.lease == lease) {
            work.leased_until = now;
            work.lease += 1;
        }
    }

    pub fn turns_lapse(&mut self) {
        for work in self.works.values_mut().filter(|work| work.leased_until > Time::ZERO) {
            work.leased_until = Time::ZERO;
            work.lease += 1;
        }
    }

    /// All of the work, which is little enough for one step. `None`: the turn is lost.
    pub fn step(&mut self, (id, lease): (BackgroundId, u64), now: Time) -> Option<TaskStage> {
        let work = self.works.get(&id)?.clone();
        if work.work.stage == TaskStage::Canceled {
            return Some(TaskStage::Canceled);
        }
        if work.lease != lease || !work.runs() {
            return None;
        }
        let (spec, mut looked, mut sent) = (&work.work.spec, 0, 0);
        let ends = self.reach(&work);
        for (app, end) in &ends {
            let (looks, chosen) = self.chosen(spec, *app, *end);
            looked += looks;
            sent += chosen.len() as i64;
            for message in chosen {
                let scheduled = self.messages.get(&message).and_then(|one| one.deliver_at).unwrap_or(Time::ZERO);
                let due = if spec.kind == TaskKind::ReplayMissing { scheduled.max(now) } else { now };
                self.send_again(*app, (message, *end), DeliveryState::Retry, due);
            }
        }
        let lost = ends.is_empty() && spec.scope.endpoint().is_some();
        let stage = if lost { TaskStage::Failed } else { TaskStage::Finished };
        let lease_until = self.lease(now);
        let noted = self.works.get_mut(&id)?;
        (noted.work.stage, noted.work.updated_at, noted.leased_until) = (stage, now, lease_until);
        (noted.work.looked, noted.work.sent) = (looked, sent);
        noted.work.reason = lost.then(|| "the endpoint was deleted".to_owned());
        Some(stage)
    }

    /// The endpoints that work goes to: disabled ones are passed over where it goes to more than one.
    fn reach(&self, work: &Work) -> Vec<(AppId, EndpointId)> {
        let scope = work.work.spec.scope;
        let goes_to = |app: AppId, id: EndpointId, disabled: bool| match scope {
            TaskScope::Endpoint(_, one) => one == id,
            TaskScope::Application(one) => one == app && !disabled,
            TaskScope::Organization => self.apps.get(&app).is_some_and(|app| app.app.org == work.org) && !disabled,
        };
        let ends = self.ends.values().filter(|end| !end.deleted).map(|end| &end.endpoint);
        ends.filter(|end| goes_to(end.app_id, end.id, end.spec.disabled)).map(|end| (end.app_id, end.id)).collect()
    }

    /// What would be sent: the model of counting it.
    pub fn tally(&self, tenant: &Tenant, spec: &BackgroundSpec, now: Time) -> i64 {
        let seen = spec.scope.app().map_or(tenant.only.is_none(), |app| self.has(tenant, app));
        let work = Work {
            org: tenant.org.clone(),
            work: super::run::begun(BackgroundId::new(now), spec.clone(), now),
            leased_until: now,
            lease: 0,
        };
        let reach = if seen { self.reach(&work) } else { Vec::new() };
        reach.into_iter().map(|(app, end)| self.chosen(spec, app, end).1.len() as i64).sum()
    }

    /// How many messages are looked at for an endpoint, and which are to be sent there.
    fn chosen(&self, spec: &BackgroundSpec, app: AppId, end: EndpointId) -> (i64, Vec<MessageId>) {
        let filter = &spec.selection.messages().cloned().unwrap_or_default();
        let (from, types) = (MessageId::floor(filter.accepted.since), &filter.topics.event_types);
        // Ids may run ahead of the times in which things are accepted, by two hours at most.
        let ahead = Duration::from_secs(2 * 3_600);
        let near = |id: MessageId| {
            let until = filter.accepted.until;
            id >= from && (until == Time::MAX || id < MessageId::floor(until.plus(ahead)))
        };
        let all = self.messages_of(app).filter(|message| near(message.id));
        let endpoint = &self.ends[&end].endpoint.spec;
        let enabled = EndpointSpec { disabled: false, ..endpoint.clone() };
        if spec.kind == TaskKind::ReplayMissing {
            let messages: Vec<&Message> = all.collect();
            let missed = |message: &&&Message| {
                message.payload.is_some()
                    && !self.deliveries.contains_key(&(message.id, end))
                    && filter.accepted.contains(message.accepted_at)
                    && (types.is_empty() || types.contains(&message.event_type))
                    && enabled.wants(&message.event_type, &message.channels)
            };
            return (messages.len() as i64, messages.iter().filter(missed).map(|message| message.id).collect());
        }
        let sent = all.filter_map(|message| Some((message, self.deliveries.get(&(message.id, end))?)));
        let sent: Vec<(&Message, &Delivery)> = sent.collect();
        let takes = |(message, delivery): &&(&Message, &Delivery)| {
            message.payload.is_some() && self.sent_filter_takes(filter, message, end, delivery)
        };
        (sent.len() as i64, sent.iter().filter(takes).map(|(message, _)| message.id).collect())
    }

    /// Whether a filter means what was sent to an endpoint.
    pub fn sent_filter_takes(
        &self,
        filter: &EndpointMessageFilter,
        message: &Message,
        end: EndpointId,
        delivery: &Delivery,
    ) -> bool {
        let last = self.last_attempt((message.id, end)).map(|one| one.outcome.status);
        let answered = match (filter.status_class, last) {
            (None, _) => true,
            (Some(0), last) => last == Some(None),
            (Some(class), Some(Some(status))) => (class..class + 100).contains(&i32::from(status)),
            (Some(_), _) => false,
        };
        answered
            && filter.accepted.contains(message.accepted_at)
            && (filter.standings.is_empty() || filter.standings.contains(&delivery.standing()))
            && filter.failing.is_none_or(|failing| failing == delivery.failing())
            && topics_take(&filter.topics, message)
    }

    pub fn cancel_work(&mut self, tenant: &Tenant, id: BackgroundId, now: Time) -> bool {
        let Some(work) = self.works.get_mut(&id).filter(|work| work.runs() && work.seen_by(tenant)) else {
            return false;
        };
        (work.work.stage, work.work.updated_at) = (TaskStage::Canceled, now);
        work.work.reason = Some("canceled".to_owned());
        true
    }

    /// Where a process stands among those that are heard of. On SQLite there is one.
    pub fn rank(&self, process: u8, now: Time) -> Rank {
        if !self.postgres {
            return Rank::ALONE;
        }
        let living = || self.processes.iter().filter(|(_, until)| **until > now).map(|(number, _)| *number);
        Rank { index: living().filter(|number| *number < process).count(), of: living().count().max(1) }
    }

    /// Renews what is the process's own and takes what is free, up to its share. Who is sparing takes nothing that ran out.
    pub fn beat(&mut self, process: u8, sparing: bool, leaving: bool, now: Time) -> Heartbeat {
        let until = self.lease(now);
        // Who leaves needs no share.
        self.processes.insert(process, if leaving { now } else { until });
        self.slots.iter_mut().filter(|slot| slot.owner == Some(process)).for_each(|slot| slot.until = until);
        let own = self.slots.iter().filter(|slot| slot.owner == Some(process)).count();
        let rank = self.rank(process, now);
        let missing = if leaving { 0 } else { rank.share().saturating_sub(own) };
        let postgres = self.postgres;
        // On SQLite whoever held a slot before is gone: the file lets one process in.
        let free = |slot: &super::state::Slot| match slot.owner {
            None => true,
            Some(owner) if owner == process => false,
            Some(_) => !postgres || (!sparing && slot.until < now),
        };
        for slot in self.slots.iter_mut().filter(|slot| free(slot)).take(missing) {
            (slot.owner, slot.until) = (Some(process), until);
            slot.epoch += 1;
        }
        Heartbeat { leases: self.leases(process), rank }
    }

    pub fn leases(&self, process: u8) -> Leases {
        let own = self.slots.iter().enumerate().filter(|(_, slot)| slot.owner == Some(process));
        own.map(|(number, slot)| (number as u8, slot.epoch)).collect()
    }

    pub fn release_slots(&mut self, process: u8, slots: &[u8]) {
        for slot in slots {
            let slot = &mut self.slots[usize::from(*slot)];
            if slot.owner == Some(process) {
                (slot.owner, slot.until) = (None, Time::ZERO);
            }
        }
    }

    pub fn deregister(&mut self, process: u8) {
        let all: Vec<u8> = (0..=255).collect();
        self.release_slots(process, &all);
        self.processes.remove(&process);
    }

    /// A process is not heard of any more.
    pub fn lapse(&mut self, process: u8) {
        let long_ago = Time::from_micros(1);
        self.processes.entry(process).and_modify(|until| *until = long_ago);
        self.slots.iter_mut().filter(|slot| slot.owner == Some(process)).for_each(|slot| slot.until = long_ago);
    }

    /// An application of these names has come to be: rows that wait for it are looked at.
    pub fn retry_stuck_rows(&mut self, app: &Application) {
        let names = [Some(app.id.to_string()), app.uid.as_ref().map(ToString::to_string)];
        let waits = |row: &&mut super::state::OutboxRow| {
            row.stuck_since.is_some() && names.iter().flatten().any(|name| *name == row.application)
        };
        self.outbox.iter_mut().filter(waits).for_each(|row| row.look_at = Time::ZERO);
    }

    /// The rows whose turn it is, in the order in which they came.
    pub fn next_rows(&self, limit: usize, now: Time) -> Vec<super::state::OutboxRow> {
        let mut due: Vec<_> = self.outbox.iter().filter(|row| row.look_at <= now).cloned().collect();
        due.sort_by_key(|row| (row.look_at, row.number));
        due.truncate(limit);
        due.sort_by_key(|row| row.number);
        due
    }

    /// Leaves a row where it is, to be looked at after it has been stuck as long again.
    pub fn stick(&mut self, number: u64, now: Time) {
        if let Some(row) = self.outbox.iter_mut().find(|row| row.number == number) {
            let since = *row.stuck_since.get_or_insert(now);
            let wait = now.since(since).clamp(Duration::from_secs(5), Duration::from_secs(600));
            row.look_at = now.plus(wait);
        }
    }
}

/// Whether a filter takes a message.
pub fn topics_take(topics: &TopicFilter, message: &Message) -> bool {
    let among = |wanted: &Option<String>, list: &[String]| wanted.as_ref().is_none_or(|one| list.contains(one));
    (topics.event_types.is_empty() || topics.event_types.contains(&message.event_type))
        && among(&topics.channel, &message.channels)
        && among(&topics.tag, &message.tags)
}
