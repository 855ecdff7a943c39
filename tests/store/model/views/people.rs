//! Views for people: searches over everything an organization has, counts, what stands in the way.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sendoff::domain::TimeRange;
use sendoff::domain::deliveries::background::{TaskKind, TaskStage};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{EndpointId, MessageId, Time};
use sendoff::store::Tenant;
use sendoff::store::ingest::outbox::OutboxDepth;
use sendoff::store::query::counts::{AttemptCounts, ChartRange, CountScope};
use sendoff::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter, LastAttempt, ListedDelivery};
use sendoff::store::query::endpoint_messages::DeliveryStatusCounts;
use sendoff::store::query::message_list::{ListedMessage, MessageSearch};
use sendoff::store::query::search_terms::SearchTarget;
use sendoff::store::queue::slots::ProcessView;
use sendoff::store::recording::rollups::{Counts, LATENCY_BOUNDS_MS};
use sendoff::store::{AppRef, EndpointRef};

use super::{bit, walk, walk_on};
use crate::home::NOW;
use crate::model::acts::{Look, Who};
use crate::model::run::{Checked, TYPES, World, process, said, same, told};
use crate::model::state::{Counted, Delivery, one_of};

/// Whether a delivery stands like this, in the words of the lists. `failed`: its last attempt did.
fn stands(status: DeliveryStatusFilter, delivery: &Delivery, failed: bool) -> bool {
    let canceled = delivery.reason == Some(DeadReason::Canceled);
    match status {
        DeliveryStatusFilter::Pending => delivery.state == DeliveryState::Fresh,
        DeliveryStatusFilter::Retrying => delivery.state == DeliveryState::Retry,
        DeliveryStatusFilter::Delivered => delivery.state == DeliveryState::Delivered,
        DeliveryStatusFilter::Dead => delivery.state == DeliveryState::Dead && !canceled,
        DeliveryStatusFilter::Failed => {
            matches!(delivery.state, DeliveryState::Retry | DeliveryState::Dead) && !canceled && failed
        }
        DeliveryStatusFilter::Canceled => delivery.state == DeliveryState::Dead && canceled,
    }
}

impl World {
    pub(super) async fn backgrounds(&self, look: &Look) -> Checked {
        let (tenant, _) = self.looking(look);
        let stages = if bit(look, 0) { vec![TaskStage::Running, TaskStage::Canceled] } else { Vec::new() };
        let kind = bit(look, 1).then_some(TaskKind::Recover);
        let fits = |work: &&crate::model::state::Work| {
            work.seen_by(&tenant)
                && (stages.is_empty() || stages.contains(&work.work.stage))
                && kind.is_none_or(|kind| kind == work.work.spec.kind)
        };
        let own = self.model.works.values().filter(fits).map(|work| (work.work.id, work.work.clone())).collect();
        let id = |work: &sendoff::store::jobs::background::Background| work.id;
        walk(look, own, id, async |page| self.store().backgrounds(&tenant, &stages, kind, &page).await).await?;
        let all: Vec<_> = self.model.works.values().collect();
        let Some(work) = one_of(look.thing, &all) else { return Ok(()) };
        let tenant = self.tenant_of(look.who, work);
        let wanted = work.seen_by(&tenant).then(|| work.work.clone());
        same("background", told(self.store().background(&tenant, work.work.id).await), Ok(wanted))
    }

    fn listed(&self, key: (MessageId, EndpointId), delivery: &Delivery) -> Option<ListedDelivery> {
        let (message, end) = (self.model.messages.get(&key.0)?, self.model.ends.get(&key.1)?);
        let last = self.model.last_attempt(key).map(|one| LastAttempt {
            id: one.id,
            at: one.at,
            status: one.outcome.status,
            failure: one.outcome.failure,
        });
        Some(ListedDelivery {
            message_id: key.0,
            endpoint_id: key.1,
            app_id: delivery.app,
            app_name: self.model.apps[&delivery.app].app.name.clone(),
            state: delivery.state,
            due_at: delivery.due,
            attempts: delivery.progress.attempts,
            reason: delivery.reason,
            event_type: message.event_type.clone(),
            accepted_at: message.accepted_at,
            sendable: message.payload.is_some() && !end.deleted,
            url: end.endpoint.spec.url.clone(),
            description: end.endpoint.spec.description.clone(),
            endpoint_disabled: end.endpoint.spec.disabled,
            last,
        })
    }

    pub(super) async fn list_deliveries(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let accepted = self.model.messages.get(&self.model.message(look.thing).1).map(|message| message.accepted_at);
        let filter = DeliveryFilter {
            status: bit(look, 0).then(|| DeliveryStatusFilter::ALL[usize::from(look.thing) % 6]),
            app: (bit(look, 1) && bit(look, 2)).then_some(app),
            endpoint: (bit(look, 2) && bit(look, 3)).then(|| self.model.end_of(app, look.thing)).flatten(),
            event_types: if bit(look, 4) && bit(look, 1) {
                vec![TYPES[0].to_owned(), TYPES[3].to_owned()]
            } else {
                Vec::new()
            },
            class: (bit(look, 5) && bit(look, 6)).then_some([0, 200, 500][usize::from(look.thing) % 3]),
            accepted: TimeRange {
                since: accepted.filter(|_| bit(look, 7) && bit(look, 6)).unwrap_or(Time::ZERO),
                until: accepted.filter(|_| bit(look, 4) && bit(look, 7)).unwrap_or(Time::MAX),
            },
            messages: None,
            text: (bit(look, 5) && bit(look, 3)).then(|| "\"number\": 1".to_owned()),
            resent: None,
            rows: None,
        };
        let fits = |(key, delivery): &(&(MessageId, EndpointId), &Delivery)| {
            let last = self.model.last_attempt(**key).map(|one| one.outcome.status);
            let failed = self.model.last_attempt(**key).is_some_and(|one| !one.outcome.delivered());
            let Some(message) = self.model.messages.get(&key.0) else { return false };
            self.model.has(&tenant, delivery.app)
                && filter.status.is_none_or(|status| stands(status, delivery, failed))
                && filter.app.is_none_or(|app| app == delivery.app)
                && filter.endpoint.is_none_or(|endpoint| endpoint == key.1)
                && filter.class.is_none_or(|class| match last {
                    Some(None) => class == 0,
                    Some(Some(status)) => class > 0 && (class..class + 100).contains(&status),
                    None => false,
                })
                && self.found_in(message, &filter.event_types, filter.accepted, filter.text.as_deref())
        };
        let own = self.model.deliveries.iter().rev().filter(fits);
        let own = own.filter_map(|(key, delivery)| Some((*key, self.listed(*key, delivery)?))).collect();
        let read = async |after, limit| self.store().list_deliveries(&tenant, &filter, after, limit).await;
        walk_on(look, own, read).await
    }

    /// Whether a search by these finds a message.
    fn found_in(&self, message: &Message, types: &[String], accepted: TimeRange, text: Option<&str>) -> bool {
        let says = |text: &str| {
            let payload = message.payload.as_deref().unwrap_or_default();
            payload.windows(text.len()).any(|window| window == text.as_bytes())
        };
        (types.is_empty() || types.contains(&message.event_type))
            && message.accepted_at >= accepted.since
            && (message.accepted_at < accepted.until || accepted.until == Time::MAX)
            && text.is_none_or(says)
    }

    pub(super) async fn list_messages(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let accepted = self.model.messages.get(&self.model.message(look.thing).1).map(|message| message.accepted_at);
        let search = MessageSearch {
            app: bit(look, 0).then_some(app),
            event_types: if bit(look, 1) { vec![TYPES[1].to_owned(), TYPES[2].to_owned()] } else { Vec::new() },
            accepted: TimeRange {
                since: accepted.filter(|_| bit(look, 2)).unwrap_or(Time::ZERO),
                until: accepted.filter(|_| bit(look, 3)).unwrap_or(Time::MAX),
            },
            messages: bit(look, 4).then(|| vec![self.model.message(look.thing).1, self.model.message(look.app).1]),
            text: bit(look, 5).then(|| "Sum".to_owned()),
        };
        let fits = |message: &&Message| {
            self.model.has(&tenant, message.app_id)
                && search.app.is_none_or(|app| app == message.app_id)
                && search.messages.as_ref().is_none_or(|ids| ids.contains(&message.id))
                && self.found_in(message, &search.event_types, search.accepted, search.text.as_deref())
        };
        let own =
            self.model.messages.values().rev().filter(fits).map(|message| (message.id, self.listed_message(message)));
        let read = async |after, limit| self.store().list_messages(&tenant, &search, after, limit).await;
        walk_on(look, own.collect(), read).await
    }

    fn listed_message(&self, message: &Message) -> ListedMessage {
        let mut standings = DeliveryStatusCounts::default();
        for (_, delivery) in self.model.deliveries.iter().filter(|((id, _), _)| *id == message.id) {
            *match delivery.standing() {
                DeliveryStatus::Delivered => &mut standings.delivered,
                DeliveryStatus::Pending => &mut standings.pending,
                DeliveryStatus::Dead => &mut standings.dead,
                DeliveryStatus::Canceled => &mut standings.canceled,
            } += 1;
        }
        ListedMessage {
            id: message.id,
            app_id: message.app_id,
            app_name: self.model.apps[&message.app_id].app.name.clone(),
            event_type: message.event_type.clone(),
            event_id: message.event_id.as_ref().map(ToString::to_string),
            accepted_at: message.accepted_at,
            size: message.payload.as_ref().map(|payload| payload.len() as i64),
            standings,
        }
    }

    pub(super) async fn oldest(&self, look: &Look) -> Checked {
        let org = self.looking(look).0.org;
        let tenant = Tenant::org(org);
        let by = self.now.minus(Duration::from_secs(u64::from(look.limit)));
        let counts = |key: &(MessageId, EndpointId)| {
            let end = &self.model.ends[&key.1];
            !end.deleted && !end.endpoint.spec.disabled && self.model.has(&tenant, end.endpoint.app_id)
        };
        let due = self.model.pending().filter(|(key, one)| one.due <= by && counts(key)).map(|(_, one)| one.due).min();
        let found = said(self.store().oldest_due(&tenant, by).await)?;
        same("oldest_due", found.as_ref().map(|line| line.due_at), due)?;
        let known = |line: &sendoff::store::query::deliveries::DueDelivery| {
            let key = (line.message_id, line.endpoint_id);
            self.model.deliveries.get(&key).is_some_and(|one| one.due == line.due_at) && counts(&key)
        };
        if found.is_some_and(|line| !known(&line)) {
            return Err("oldest_due: that is not one that counts".to_owned());
        }
        for state in [DeliveryState::Retry, DeliveryState::Dead] {
            let canceled = |one: &Delivery| one.reason == Some(DeadReason::Canceled);
            let own = |one: &&Delivery| one.state == state && !canceled(one) && self.model.has(&tenant, one.app);
            let count = self.model.deliveries.values().filter(own).count() as i64;
            same("count_in_state", told(self.store().count_in_state(&tenant, state, 4).await), Ok(count.min(4)))?;
        }
        Ok(())
    }

    pub(super) async fn outbox(&self) -> Checked {
        let (stuck, waiting): (Vec<_>, Vec<_>) = self.model.outbox.iter().partition(|row| row.stuck_since.is_some());
        let wanted = OutboxDepth { waiting: waiting.len() as i64, stuck: stuck.len() as i64 };
        same("outbox_depth", told(self.store().outbox_depth().await), Ok(wanted))?;
        let work = self.model.outbox.iter().any(|row| row.look_at <= self.now);
        same("outbox_has_work", told(self.store().outbox_has_work(self.now).await), Ok(work))?;
        let mut wanted: Vec<_> =
            stuck.iter().map(|row| (row.stuck_since, row.number, &row.application, row.look_at)).collect();
        wanted.sort();
        let wanted: Vec<_> =
            wanted.into_iter().map(|(since, _, app, look_at)| (Some(app.clone()), since, look_at)).collect();
        let found = said(self.store().outbox_stuck(100).await)?;
        let found = found.into_iter().map(|row| (row.application, Some(row.stuck_since), row.look_at)).collect();
        same("outbox_stuck", found, wanted)
    }

    pub(super) async fn processes(&self) -> Checked {
        let view = |(number, until): (&u8, &Time)| {
            let alive = *until > self.now;
            let own = self.model.slots.iter().filter(|slot| slot.owner == Some(*number) && slot.until > self.now);
            let name = process(*number).name;
            ProcessView { name, started_at: NOW, alive, slots: own.count() as i64 }
        };
        let wanted: Vec<ProcessView> = self.model.processes.iter().map(view).collect();
        same("processes", told(self.store().processes(self.now).await), Ok(wanted))
    }

    /// What was counted in a range, by bucket.
    fn sums(&self, range: ChartRange, takes: impl Fn(&Counted) -> bool) -> BTreeMap<Time, Counts> {
        let mut sums: BTreeMap<Time, Counts> = BTreeMap::new();
        let since = range.since(self.now);
        for one in self.model.counted.iter().filter(|one| one.at >= since && takes(one)) {
            let place = one.at.since(since).as_micros() / range.width().as_micros();
            let counts = sums.entry(since.plus(range.width() * place as u32)).or_default();
            match one.next {
                sendoff::domain::deliveries::delivery::Transition::Delivered => counts.delivered += 1,
                sendoff::domain::deliveries::delivery::Transition::Retry { .. } => counts.retried += 1,
                sendoff::domain::deliveries::delivery::Transition::Dead(_) => counts.dead += 1,
            }
            counts.failed += i64::from(!one.delivered);
            counts.latency[LATENCY_BOUNDS_MS.iter().filter(|bound| **bound < one.millis).count()] += 1;
        }
        sums
    }

    pub(super) async fn counts(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        // A week is read by three hours, and what it reaches into at its beginning is counted by days.
        let ranges = [ChartRange::Month, ChartRange::Hour, ChartRange::Day];
        let ranges = if self.model.forgotten > ChartRange::Month.since(self.now) { &ranges[1..] } else { &ranges };
        let range = ranges[usize::from(look.limit) % ranges.len()];
        let of = |endpoint: EndpointId| self.model.ends[&endpoint].endpoint.app_id;
        let end = self.model.end_of(app, look.thing);
        let mut scopes = vec![CountScope::Application(app)];
        scopes.extend(end.map(CountScope::Endpoint));
        if tenant.only.is_none() {
            scopes.push(CountScope::Organization);
        }
        for scope in scopes {
            let takes = |one: &Counted| match scope {
                CountScope::Application(wanted) => of(one.endpoint) == wanted && self.model.has(&tenant, wanted),
                CountScope::Endpoint(wanted) => one.endpoint == wanted && self.model.has(&tenant, of(wanted)),
                _ => one.org == tenant.org,
            };
            let found = said(self.store().buckets(&tenant, scope, range, self.now).await)?;
            let found: BTreeMap<_, _> = found
                .into_iter()
                .map(|one| (one.at, one.counts))
                .filter(|(_, one)| *one != Counts::default())
                .collect();
            same(&format!("buckets of {scope:?} by {range:?}"), found, self.sums(range, takes))?;
        }
        let seen = |one: &&Counted| {
            self.model.has(&tenant, app) && of(one.endpoint) == app && end.is_none_or(|end| end == one.endpoint)
        };
        // By whole minutes, so: all of the last ten.
        let since = self.now.floor(Duration::from_secs(60)).minus(Duration::from_secs(600));
        let recent = self.model.counted.iter().filter(seen).filter(|one| one.at >= since);
        let (delivered, failed): (Vec<_>, Vec<_>) = recent.partition(|one| one.delivered);
        let wanted = AttemptCounts { delivered: delivered.len() as i64, failed: failed.len() as i64 };
        let found = told(self.store().attempt_counts(&tenant, app, end, since, Time::MAX).await);
        same("attempt_counts", found, Ok(wanted))?;
        self.worst(&tenant, range).await
    }

    /// Who fails most, and how each endpoint does.
    async fn worst(&self, tenant: &Tenant, range: ChartRange) -> Checked {
        let ids: Vec<EndpointId> = self.model.ends.keys().copied().collect();
        let own = |id: &EndpointId| {
            let app = self.model.ends[id].endpoint.app_id;
            tenant.sees(app) && self.model.apps[&app].app.org == tenant.org
        };
        let mut all: HashMap<EndpointId, Counts> = HashMap::new();
        for id in ids.iter().filter(|id| own(id)) {
            let sums = self.sums(range, |one| one.endpoint == *id);
            for part in sums.values() {
                let counts = all.entry(*id).or_default();
                counts.delivered += part.delivered;
                counts.failed += part.failed;
                counts.retried += part.retried;
                counts.dead += part.dead;
                counts.latency.iter_mut().zip(part.latency).for_each(|(sum, one)| *sum += one);
            }
        }
        let found = told(self.store().endpoint_counts(tenant, &ids, range, self.now).await);
        same("endpoint_counts", found, Ok(all.clone()))?;
        let there = |(id, counts): &(EndpointId, Counts)| counts.failed > 0 && !self.model.ends[id].deleted;
        let mut worst: Vec<(EndpointId, Counts)> = all.into_iter().filter(there).collect();
        worst.sort_by_key(|(id, counts)| (std::cmp::Reverse(counts.failed), *id));
        worst.truncate(2);
        let found = said(self.store().top_failing(tenant, range, self.now, 2).await)?;
        same("top_failing", found.into_iter().map(|one| (one.endpoint_id, one.counts)).collect(), worst)
    }

    /// What somebody means who types an id or a name.
    pub(super) async fn sought(&self, look: &Look) -> Checked {
        let (app, id) = self.model.message(look.thing);
        let tenant = self.model.tenant(look.who, app);
        if let Some(message) = self.model.messages.get(&id) {
            let has = self.model.has(&tenant, app);
            let text = id.to_string();
            let wanted = if has { SearchTarget::Messages(vec![id]) } else { SearchTarget::Text(text.clone()) };
            same("sought", told(self.store().resolve_search_term(&tenant, None, &text).await), Ok(wanted))?;
            if let (Some(event_id), true) = (&message.event_id, has) {
                let found = told(self.store().resolve_search_term(&tenant, Some(app), event_id.as_str()).await);
                same("sought by event id", found, Ok(SearchTarget::Messages(vec![id])))?;
            }
        }
        let (app, id) = self.model.end(look.app);
        let Some(end) = self.model.ends.get(&id) else { return Ok(()) };
        let tenant = self.model.tenant(look.who, app);
        let wanted: Vec<EndpointId> = Some(id).filter(|_| self.model.has(&tenant, app)).into_iter().collect();
        same("endpoints_named", told(self.store().endpoints_named(&tenant, &EndpointRef::Id(id)).await), Ok(wanted))?;
        if let Some(uid) = &end.endpoint.spec.uid {
            let mut found = said(self.store().endpoints_named(&tenant, &EndpointRef::Uid(uid.clone())).await)?;
            found.sort_unstable();
            let named = |(id, end): (&EndpointId, &crate::model::state::End)| {
                let there = end.endpoint.spec.uid.as_ref() == Some(uid) && self.model.has(&tenant, end.endpoint.app_id);
                (there && !end.deleted).then_some(*id)
            };
            same("endpoints_named", found, self.model.ends.iter().filter_map(named).collect())?;
        }
        let known = self.model.named(Some(&self.model.tenant(Who::Owner, app)), &AppRef::Id(app)).first().copied();
        let wanted = known.map_or_else(|| SearchTarget::Text(app.to_string()), SearchTarget::Application);
        let owner = self.model.tenant(Who::Owner, app);
        same(
            "sought application",
            told(self.store().resolve_search_term(&owner, None, &app.to_string()).await),
            Ok(wanted),
        )
    }
}
