//! Views of messages, deliveries and attempts, as the REST API and the engine have them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sendoff::domain::deliveries::attempt::Attempt;
use sendoff::domain::deliveries::delivery::{DeliveryState, DeliveryStatus};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::signing::secret::Secret;
use sendoff::domain::signing::signature::Signing;
use sendoff::domain::{AppId, EndpointId, MessageId, Time};
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::deliveries::DeliveryView;
use sendoff::store::query::endpoint_messages::{DeliveryStatusCounts, EndpointMessage};
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::query::topic_filter::TopicFilter;
use sendoff::store::queue::pending_deliveries::{LaneRequest, PendingDelivery, PendingLane};
use sendoff::store::{MessageRef, Tenant};

use super::{bit, walk};
use crate::model::acts::{Look, Who};
use crate::model::run::{CHANNELS, Checked, TYPES, World, said, same, sent_filter, told};
use crate::model::state::one_of;

impl World {
    /// How a message's deliveries stand.
    pub async fn see_deliveries(&self, app: AppId, message: MessageId) -> Checked {
        self.deliveries_as(&self.model.tenant(Who::Owner, app), app, message).await
    }

    async fn deliveries_as(&self, tenant: &Tenant, app: AppId, message: MessageId) -> Checked {
        let own = self.model.deliveries.range((message, EndpointId(uuid::Uuid::nil()))..);
        let own = own.take_while(|((id, _), _)| *id == message).filter(|_| self.model.has(tenant, app));
        let view = |((_, endpoint_id), delivery): (&(MessageId, EndpointId), &crate::model::state::Delivery)| {
            let end = &self.model.ends[endpoint_id];
            DeliveryView {
                message_id: message,
                endpoint_id: *endpoint_id,
                app_id: app,
                state: delivery.state,
                due_at: delivery.due,
                attempts: delivery.progress.attempts,
                reason: delivery.reason,
                url: end.endpoint.spec.url.clone(),
                endpoint_description: end.endpoint.spec.description.clone(),
                endpoint_disabled: end.endpoint.spec.disabled,
                endpoint_deleted: end.deleted,
            }
        };
        let wanted: Vec<DeliveryView> = own.map(view).collect();
        same(
            "deliveries_of",
            told(self.store().deliveries_of(tenant, app, message).await.map(|page| page.data)),
            Ok(wanted),
        )
    }

    fn around(&self, look: &Look) -> Time {
        let (_, message) = self.model.message(look.thing);
        self.model.messages.get(&message).map_or(self.now, |message| message.accepted_at)
    }

    pub(super) async fn messages(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let around = self.around(look);
        let filter = MessageFilter {
            topics: TopicFilter {
                event_types: if bit(look, 0) { vec![TYPES[0].to_owned(), TYPES[1].to_owned()] } else { Vec::new() },
                channel: bit(look, 1).then(|| CHANNELS[0].to_owned()),
                tag: (bit(look, 2) && bit(look, 3)).then(|| "vip".to_owned()),
            },
            before: bit(look, 4).then_some(around),
            after: bit(look, 5).then(|| around.minus(Duration::from_secs(3_600))),
        };
        let fits = |message: &&Message| {
            crate::model::work::topics_take(&filter.topics, message)
                && filter.before.is_none_or(|before| message.accepted_at <= before)
                && filter.after.is_none_or(|after| message.accepted_at >= after)
        };
        let has = self.model.has(&tenant, app);
        let own = self.model.messages_of(app).filter(|_| has).filter(fits);
        let own = own.map(|message| (message.id, message.clone())).collect();
        walk(look, own, |message| message.id, async |page| self.store().messages(&tenant, app, &filter, &page).await)
            .await
    }

    pub(super) async fn message(&self, look: &Look) -> Checked {
        let (app, id) = self.model.message(look.thing);
        let tenant = self.model.tenant(look.who, app);
        let Some(message) = self.model.messages.get(&id) else { return Ok(()) };
        let wanted = self.model.has(&tenant, app).then(|| message.clone());
        same("message", told(self.store().message(&tenant, app, &MessageRef::Id(id)).await), Ok(wanted.clone()))?;
        if let Some(event_id) = &message.event_id {
            let found = told(self.another().message(&tenant, app, &MessageRef::Uid(event_id.clone())).await);
            same("message by event id", found, Ok(wanted))?;
        }
        for (once, made) in self.model.once.values() {
            use sendoff::store::ingest::idempotency::{IdempotencyKey, PriorRequest};
            let again = IdempotencyKey { at: self.now, ..once.clone() };
            let known = self.model.is_repeat(Some(&again), self.now);
            let found = told(self.store().prior_request(&again).await);
            same("before", found, Ok(known.then(|| PriorRequest::SameBody(made.clone()))))?;
            let another = IdempotencyKey { body: [99; 32], ..again };
            same(
                "before",
                told(self.store().prior_request(&another).await),
                Ok(known.then_some(PriorRequest::OtherBody)),
            )?;
        }
        self.deliveries_as(&tenant, app, id).await
    }

    pub(super) async fn attempts(&self, look: &Look) -> Checked {
        let (tenant, app) = self.looking(look);
        let around = self.around(look);
        let filter = AttemptFilter {
            message: (bit(look, 0) && bit(look, 1)).then(|| self.model.message(look.thing).1),
            endpoint: bit(look, 2).then(|| self.model.end_of(app, look.thing)).flatten(),
            delivered: bit(look, 3).then_some(bit(look, 1)),
            status_class: (bit(look, 4) && bit(look, 5)).then_some([0, 200, 400, 500][usize::from(look.thing % 4)]),
            topics: TopicFilter {
                event_types: if bit(look, 6) { vec![TYPES[0].to_owned()] } else { Vec::new() },
                channel: (bit(look, 7) && bit(look, 0)).then(|| CHANNELS[1].to_owned()),
                tag: None,
            },
            before: (bit(look, 5) && bit(look, 6)).then(|| around.plus(Duration::from_secs(60))),
            after: (bit(look, 7) && bit(look, 3)).then_some(around),
        };
        let about = |one: &Attempt| match self.model.messages.get(&one.message_id) {
            Some(message) => crate::model::work::topics_take(&filter.topics, message),
            None => filter.topics == TopicFilter::default(),
        };
        let fits = |one: &&Attempt| {
            one.app_id == app
                && filter.message.is_none_or(|message| message == one.message_id)
                && filter.endpoint.is_none_or(|endpoint| endpoint == one.endpoint_id)
                && filter.delivered.is_none_or(|delivered| delivered == one.outcome.delivered())
                && filter.status_class.is_none_or(|class| match one.outcome.status {
                    None => class == 0,
                    Some(status) => class > 0 && (class..class + 100).contains(&i32::from(status)),
                })
                && filter.before.is_none_or(|before| one.at <= before)
                && filter.after.is_none_or(|after| one.at >= after)
                && about(one)
        };
        let has = self.model.has(&tenant, app);
        let own = self.model.attempts.values().filter(|_| has).filter(fits);
        let own = own.map(|one| (one.id, one.clone())).collect();
        walk(look, own, |one| one.id, async |page| self.store().attempts(&tenant, app, &filter, &page).await).await
    }

    pub(super) async fn attempt(&self, look: &Look) -> Checked {
        let all: Vec<&Attempt> = self.model.attempts.values().collect();
        let Some(one) = one_of(look.thing, &all) else { return Ok(()) };
        let tenant = self.model.tenant(look.who, one.app_id);
        let has = self.model.has(&tenant, one.app_id);
        let found = told(self.store().attempt(&tenant, one.app_id, one.message_id, one.id).await);
        same("attempt", found, Ok(has.then(|| one.clone())))?;
        let (app, endpoint) = (one.app_id, one.endpoint_id);
        let failed = |one: &&Attempt| !one.outcome.delivered();
        let failures = all.iter().rev().copied().filter(|one| has && one.endpoint_id == endpoint).filter(failed);
        let failures: Vec<_> = failures.map(|one| one.id).collect();
        let last = said(self.store().last_failure(&tenant, app, endpoint).await)?.map(|last| last.id);
        same("last_failure", last, failures.first().copied())?;
        let limit = usize::from(look.limit);
        let found = said(self.store().newest_attempts_to(&tenant, app, endpoint, true, limit as i64).await)?;
        let found: Vec<_> = found.into_iter().map(|line| line.id).collect();
        same("newest_attempts_to", found, failures.into_iter().take(limit).collect())?;
        let org = |one: &&Attempt| self.model.apps.get(&one.app_id).is_some_and(|app| app.app.org == tenant.org);
        let newest = all.iter().rev().copied().filter(org).filter(|one| !bit(look, 0) || failed(one)).take(limit);
        let newest: Vec<_> = newest.map(|one| one.id).collect();
        let found = said(self.store().newest_attempts(&tenant, bit(look, 0), None, limit as i64).await)?;
        same("newest_attempts", found.into_iter().map(|line| line.id).collect(), newest)
    }

    pub(super) async fn endpoint_messages(&self, look: &Look) -> Checked {
        let (app, end) = self.model.end(look.thing);
        let tenant = self.model.tenant(look.who, app);
        let filter = sent_filter(&self.model, look.filter, self.model.message(look.app).1);
        let has = self.model.has(&tenant, app);
        let own = self.model.deliveries.iter().filter(|((_, endpoint), _)| has && *endpoint == end);
        let of = |((id, _), delivery): (&(MessageId, EndpointId), &crate::model::state::Delivery)| {
            let message = self.model.messages.get(id)?.clone();
            let (standing, failing) = (delivery.standing(), delivery.failing());
            let next_at = (standing == DeliveryStatus::Pending).then_some(delivery.due);
            self.model
                .sent_filter_takes(&filter, &message, end, delivery)
                .then_some((*id, EndpointMessage { message, standing, failing, next_at }))
        };
        let own = own.filter_map(of).collect();
        let id = |one: &EndpointMessage| one.message.id;
        walk(look, own, id, async |page| self.store().endpoint_messages(&tenant, app, end, &filter, &page).await).await
    }

    pub(super) async fn standings(&self, look: &Look) -> Checked {
        let (app, end) = self.model.end(look.thing);
        let tenant = self.model.tenant(look.who, app);
        let (since, until) =
            if bit(look, 0) { (self.around(look), Time::MAX) } else { (Time::ZERO, self.around(look)) };
        let among = MessageId::floor(since)..MessageId::floor(until);
        let mut wanted = DeliveryStatusCounts::default();
        for ((message, endpoint), delivery) in &self.model.deliveries {
            if *endpoint == end && among.contains(message) && self.model.has(&tenant, app) {
                *match delivery.standing() {
                    DeliveryStatus::Delivered => &mut wanted.delivered,
                    DeliveryStatus::Pending => &mut wanted.pending,
                    DeliveryStatus::Dead => &mut wanted.dead,
                    DeliveryStatus::Canceled => &mut wanted.canceled,
                } += 1;
            }
        }
        same("standings", told(self.store().delivery_status_counts(&tenant, app, end, since, until).await), Ok(wanted))
    }

    async fn slot(&self, endpoint: EndpointId) -> Result<u8, String> {
        said(self.store().slot_of_endpoint(endpoint).await).map(|slot| slot as u8)
    }

    /// What the engine reads: whose it is does not matter.
    pub(super) async fn lanes(&self, look: &Look) -> Checked {
        let mut first: BTreeMap<EndpointId, PendingLane> = BTreeMap::new();
        for ((_, endpoint), delivery) in self.model.pending() {
            let slot = self.slot(*endpoint).await?;
            let new = PendingLane { endpoint: *endpoint, slot, fresh_due: None, retry_due: None };
            let lane = first.entry(*endpoint).or_insert(new);
            let due = if delivery.state == DeliveryState::Fresh { &mut lane.fresh_due } else { &mut lane.retry_due };
            *due = Some(due.map_or(delivery.due, |least| least.min(delivery.due)));
        }
        let wanted: Vec<PendingLane> = first.values().copied().collect();
        let slots: Vec<(u8, EndpointId)> = (0..=255).map(|slot| (slot, EndpointId(uuid::Uuid::nil()))).collect();
        let mut found = said(self.store().pending_lanes(&slots, 10_000).await)?;
        found.sort_unstable_by_key(|lane| lane.endpoint);
        same("pending_lanes", found, wanted)?;
        let count = self.model.pending().count() as i64;
        same("pending_count", told(self.store().pending_count(5).await), Ok(count.min(5)))?;
        let mut all: Vec<PendingDelivery> = Vec::new();
        for ((message_id, endpoint_id), one) in self.model.pending() {
            let (message_id, endpoint_id) = (*message_id, *endpoint_id);
            let (state, due_at, progress) = (one.state, one.due, one.progress);
            all.push(PendingDelivery { message_id, endpoint_id, state, due_at, progress });
        }
        all.sort_by_key(|one| (one.endpoint_id, one.due_at, one.message_id));
        let lane = |most: i64| {
            first.values().map(move |lane| LaneRequest {
                endpoint: lane.endpoint,
                slot: lane.slot,
                fresh: most,
                retries: most,
                fresh_from: sendoff::domain::Time::ZERO,
                retries_from: sendoff::domain::Time::ZERO,
                ordered: false,
            })
        };
        let wants: Vec<LaneRequest> = lane(1_000).collect();
        same("waiting", told(self.store().pending_deliveries(&wants).await), Ok(all.clone()))?;
        // A few of each kind: those that have been due for longest, whichever of several that are due at once.
        let limit = usize::from(look.limit);
        let wants: Vec<LaneRequest> = lane(limit as i64).collect();
        let few = said(self.store().pending_deliveries(&wants).await)?;
        let dues = |of: &[PendingDelivery]| {
            let mut dues: BTreeMap<(EndpointId, i16), Vec<Time>> = BTreeMap::new();
            of.iter().for_each(|one| dues.entry((one.endpoint_id, one.state.code())).or_default().push(one.due_at));
            dues.values_mut().for_each(|times| times.truncate(limit));
            dues
        };
        same("waiting, a few", dues(&few), dues(&all))?;
        let (few, all): (Vec<_>, Vec<_>) = (few, all);
        if few.iter().all(|one| all.contains(one)) { Ok(()) } else { Err(format!("waiting, a few: {few:?}")) }
    }

    /// What an endpoint signs with: its secret, and those before it that sign along.
    fn signing(&self, id: EndpointId) -> Result<Signing, String> {
        let end = &self.model.ends[&id];
        let mut secrets: Vec<(Secret, Option<Time>)> = Vec::new();
        for (text, until) in end.secrets.values().rev() {
            secrets.push((Secret::parse("secret", text).map_err(|wrong| wrong.to_string())?, *until));
        }
        let current = secrets.iter().find(|(_, until)| until.is_none()).ok_or("no secret")?;
        let graced = secrets.iter().filter_map(|(secret, until)| Some((secret, (*until)?)));
        Ok(Signing::new(&current.0, graced, &end.endpoint.spec.extra_signatures))
    }

    /// What sending needs beside the deliveries.
    pub(super) async fn sending(&self, look: &Look) -> Checked {
        let all: Vec<EndpointId> = self.model.ends.keys().copied().skip(usize::from(look.limit % 2)).collect();
        let live = said(self.store().live_endpoints(&all).await)?;
        let found: HashMap<EndpointId, _> = live.iter().map(|live| (live.endpoint.id, live)).collect();
        let there: BTreeSet<EndpointId> = all.iter().copied().filter(|id| !self.model.ends[id].deleted).collect();
        same("live_endpoints", found.keys().copied().collect(), there)?;
        for (id, live) in found {
            let app = &self.model.apps[&live.endpoint.app_id].app;
            let (wanted, org) = ((&self.model.ends[&id].endpoint, app.throttle_rate), &app.org);
            same(
                "live_endpoints",
                ((&live.endpoint, live.app_rate.map(|rate| rate.per_second)), &live.org),
                (wanted, org),
            )?;
            let signing = live.signing.as_ref().map_err(|reason| (*reason).to_owned())?;
            let signed = signing.signature("msg_1", self.now, b"{}");
            same("live_endpoints, a signature", signed, self.signing(id)?.signature("msg_1", self.now, b"{}"))?;
        }
        let ids: Vec<MessageId> = self.model.messages.keys().copied().collect();
        let mut found = said(self.store().load_messages(&ids).await)?;
        found.sort_by_key(|message| message.id);
        same("load_messages", found, self.model.messages.values().cloned().collect())
    }
}
