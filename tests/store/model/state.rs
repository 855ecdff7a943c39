//! The model: what a store has to be, as plain maps. It follows what the methods' documentation says, not how they do it.
//!
//! Here is what there is and who sees it; what acts make of it is in [`super::rules`].

use std::collections::BTreeMap;

use sendoff::domain::access::api_key::ApiKey;
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::Endpoint;
use sendoff::domain::catalog::event_type::EventType;
use sendoff::domain::deliveries::attempt::Attempt;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus, Progress, Transition};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{AppId, AttemptId, BackgroundId, EndpointId, KeyId, MessageId, OrgId, Time};
use sendoff::store::access::sign_in_links::TokenHash;
use sendoff::store::ingest::idempotency::IdempotencyKey;
use sendoff::store::jobs::background::Background;
use sendoff::store::{AppRef, Tenant};

use super::acts::{Pick, Who};

#[derive(Clone, Debug)]
pub struct App {
    pub app: Application,
    pub deleted: bool,
}

#[derive(Clone, Debug)]
pub struct End {
    pub endpoint: Endpoint,
    pub deleted: bool,
    pub disabled_at: Option<Time>,
    pub failing_since: Option<Time>,
    /// How many warnings were given of that, and when the last one was.
    pub warned: i16,
    pub warned_at: Option<Time>,
    /// When each secret was made, its text, and until when it signs along; `None`: it is the current one.
    pub secrets: BTreeMap<Time, (String, Option<Time>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub app: AppId,
    pub state: DeliveryState,
    pub due: Time,
    pub progress: Progress,
    pub reason: Option<DeadReason>,
}

impl Delivery {
    pub fn standing(&self) -> DeliveryStatus {
        DeliveryStatus::of(self.state, self.reason)
    }

    /// What was made pending again begins the schedule anew: it does not fail until it fails again.
    pub fn failing(&self) -> bool {
        match self.state {
            DeliveryState::Retry => self.progress.step > 0,
            DeliveryState::Dead => self.standing() == DeliveryStatus::Dead,
            DeliveryState::Fresh | DeliveryState::Delivered => false,
        }
    }
}

/// What was counted when an attempt was recorded; it outlives the attempt.
#[derive(Clone, Debug)]
pub struct Counted {
    pub org: OrgId,
    pub endpoint: EndpointId,
    pub at: Time,
    pub next: Transition,
    pub delivered: bool,
    pub millis: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// They are looked at in this order.
    pub number: u64,
    pub application: String,
    pub event_type: String,
    pub payload: String,
    pub event_id: Option<String>,
    pub channels: Option<String>,
    pub look_at: Time,
    pub stuck_since: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slot {
    pub owner: Option<u8>,
    pub epoch: i64,
    pub until: Time,
}

#[derive(Clone, Debug)]
pub struct Work {
    pub org: OrgId,
    pub work: Background,
    pub leased_until: Time,
    /// Grows with each lease: who holds an older one has lost it.
    pub lease: u64,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub key: ApiKey,
    pub hash: TokenHash,
}

#[derive(Clone, Debug)]
pub struct Model {
    /// Leases go by the database's clock, which stands still while a sequence runs; and several processes share the slots.
    pub postgres: bool,
    pub apps: BTreeMap<AppId, App>,
    pub ends: BTreeMap<EndpointId, End>,
    pub event_types: BTreeMap<(OrgId, String), EventType>,
    pub messages: BTreeMap<MessageId, Message>,
    pub event_ids: BTreeMap<(AppId, String), MessageId>,
    pub deliveries: BTreeMap<(MessageId, EndpointId), Delivery>,
    pub attempts: BTreeMap<AttemptId, Attempt>,
    pub counted: Vec<Counted>,
    /// What was counted before may be forgotten.
    pub forgotten: Time,
    pub once: BTreeMap<[u8; 32], (IdempotencyKey, String)>,
    pub outbox: Vec<OutboxRow>,
    pub slots: Vec<Slot>,
    /// Until when each is heard of.
    pub processes: BTreeMap<u8, Time>,
    pub works: BTreeMap<BackgroundId, Work>,
    pub keys: BTreeMap<KeyId, Key>,
}

/// One of `list`.
pub fn one_of<T: Clone>(pick: Pick, list: &[T]) -> Option<T> {
    list.get(usize::from(pick).checked_rem(list.len())?).cloned()
}

pub fn orgs() -> [OrgId; 2] {
    [OrgId::default_org(), "org_other".parse().expect("an organization")]
}

impl Model {
    pub fn new(postgres: bool) -> Model {
        Model {
            postgres,
            apps: BTreeMap::new(),
            ends: BTreeMap::new(),
            event_types: BTreeMap::new(),
            messages: BTreeMap::new(),
            event_ids: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            attempts: BTreeMap::new(),
            counted: Vec::new(),
            forgotten: Time::ZERO,
            once: BTreeMap::new(),
            outbox: Vec::new(),
            slots: vec![Slot::default(); 256],
            processes: BTreeMap::new(),
            works: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// One of the applications: one that is there, if there is any, and now and then a deleted one.
    pub fn app(&self, pick: Pick) -> AppId {
        let there: Vec<AppId> = self.apps.iter().filter(|(_, app)| !app.deleted).map(|(id, _)| *id).collect();
        let all: Vec<AppId> = self.apps.keys().copied().collect();
        let seldom = pick >= 248;
        let chosen = if seldom { None } else { one_of(pick, &there) };
        chosen.or_else(|| one_of(pick, &all)).unwrap_or(AppId(uuid::Uuid::nil()))
    }

    /// One of the endpoints and its application, chosen alike.
    pub fn end(&self, pick: Pick) -> (AppId, EndpointId) {
        let name = |(id, end): (&EndpointId, &End)| (end.endpoint.app_id, *id);
        let there: Vec<_> = self.ends.iter().filter(|(_, end)| !end.deleted).map(name).collect();
        let all: Vec<_> = self.ends.iter().map(name).collect();
        let chosen = if pick >= 248 { None } else { one_of(pick, &there) };
        let nobody = (AppId(uuid::Uuid::nil()), EndpointId(uuid::Uuid::nil()));
        chosen.or_else(|| one_of(pick, &all)).unwrap_or(nobody)
    }

    /// One of the messages and its application.
    pub fn message(&self, pick: Pick) -> (AppId, MessageId) {
        let all: Vec<_> = self.messages.values().map(|message| (message.app_id, message.id)).collect();
        one_of(pick, &all).unwrap_or((AppId(uuid::Uuid::nil()), MessageId(uuid::Uuid::nil())))
    }

    /// One of the endpoints of an application.
    pub fn end_of(&self, app: AppId, pick: Pick) -> Option<EndpointId> {
        let all: Vec<_> = self.ends.iter().filter(|(_, end)| end.endpoint.app_id == app).map(|(id, _)| *id).collect();
        one_of(pick, &all)
    }

    pub fn pending(&self) -> impl Iterator<Item = (&(MessageId, EndpointId), &Delivery)> {
        self.deliveries.iter().filter(|(_, delivery)| delivery.state.pending())
    }

    /// On whose behalf something is done to an application.
    pub fn tenant(&self, who: Who, app: AppId) -> Tenant {
        let org = self.apps.get(&app).map_or_else(OrgId::default_org, |app| app.app.org.clone());
        let stranger = orgs().into_iter().find(|other| *other != org).expect("there are two");
        let neighbour = self.apps.values().find(|other| other.app.id != app && other.app.org == org);
        match who {
            Who::Owner => Tenant::org(org),
            Who::Customer => Tenant { org, only: Some(app) },
            Who::Stranger => Tenant::org(stranger),
            Who::Neighbour => {
                Tenant { org, only: Some(neighbour.map_or(AppId(uuid::Uuid::max()), |other| other.app.id)) }
            }
        }
    }

    /// Whether the tenant has the application.
    pub fn has(&self, tenant: &Tenant, app: AppId) -> bool {
        tenant.sees(app) && self.apps.get(&app).is_some_and(|found| found.app.org == tenant.org && !found.deleted)
    }

    /// Whether the tenant's application has the endpoint.
    pub fn has_end(&self, tenant: &Tenant, app: AppId, endpoint: EndpointId) -> bool {
        let found = self.ends.get(&endpoint).is_some_and(|end| end.endpoint.app_id == app && !end.deleted);
        found && self.has(tenant, app)
    }

    /// The applications that somebody means.
    pub fn named(&self, tenant: Option<&Tenant>, named: &AppRef) -> Vec<AppId> {
        let means = |app: &&App| {
            let it = match named {
                AppRef::Id(id) => app.app.id == *id,
                AppRef::Uid(uid) => app.app.uid.as_ref() == Some(uid),
            };
            it && !app.deleted && tenant.is_none_or(|tenant| self.has(tenant, app.app.id))
        };
        self.apps.values().filter(means).map(|app| app.app.id).collect()
    }

    /// The endpoints of an application that are there.
    pub fn ends_of(&self, app: AppId) -> impl Iterator<Item = &End> {
        self.ends.values().filter(move |end| end.endpoint.app_id == app && !end.deleted)
    }

    /// The application's messages, the oldest first.
    pub fn messages_of(&self, app: AppId) -> impl Iterator<Item = &Message> {
        self.messages.values().filter(move |message| message.app_id == app)
    }

    /// A delivery's last attempt: the newest of its number, which who lost the slot and who got it may both have made.
    pub fn last_attempt(&self, key: (MessageId, EndpointId)) -> Option<&Attempt> {
        let number = self.deliveries.get(&key)?.progress.attempts;
        let last = |one: &&Attempt| (one.message_id, one.endpoint_id) == key && one.number == number;
        self.attempts.values().rfind(last)
    }

    /// The end of a lease that is taken or renewed now.
    pub fn lease(&self, now: Time) -> Time {
        if self.postgres { Time::MAX } else { now.plus(std::time::Duration::from_secs(10)) }
    }
}
