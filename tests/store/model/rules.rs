//! What acts make of the model: messages and their deliveries, from the door to the retention.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sendoff::domain::catalog::endpoint::DisabledReason;
use sendoff::domain::deliveries::attempt::EXPUNGED;
use sendoff::domain::deliveries::attempt::Trigger;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Progress, Transition};
use sendoff::domain::deliveries::failure_streak::{StreakAction, action_due};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use sendoff::store::Tenant;
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::ingest::idempotency::{IDEMPOTENCY_TTL, IdempotencyKey};
use sendoff::store::recording::failing_endpoints::FailingReport;
use sendoff::store::recording::record::{FinishedAttempt, RecordOutcome};
use uuid::Uuid;

use super::state::{Counted, Delivery, Model};

/// How long attempts take, in milliseconds: on both sides of bounds of the histogram.
pub const DURATIONS: [u64; 4] = [1, 5, 6, 20_000];

/// What becomes of an item, and where it goes.
pub type Draft = Result<(Message, Vec<EndpointId>), Rejection>;

impl Model {
    /// Whether a call under this key came before.
    pub fn is_repeat(&self, once: Option<&IdempotencyKey>, now: Time) -> bool {
        once.is_some_and(|once| {
            self.once.get(&once.hash).is_some_and(|(known, _)| known.at > now.minus(IDEMPOTENCY_TTL))
        })
    }

    pub fn enter_once(&mut self, once: Option<IdempotencyKey>, made: String) {
        if let Some(once) = once {
            self.once.insert(once.hash, (once, made));
        }
    }

    /// What was refused after its key had been entered leaves none, not even one that was there and is too old to count.
    pub fn leave_once(&mut self, once: Option<&IdempotencyKey>) {
        if let Some(once) = once {
            self.once.remove(&once.hash);
        }
    }

    /// What becomes of `item`, whose id nobody knows yet.
    pub fn draft(&self, item: &AcceptItem, once: Option<&IdempotencyKey>, max_payload: usize) -> Draft {
        item.check(max_payload).map_err(Rejection::Invalid)?;
        let app = match self.named(item.tenant.as_ref(), &item.app)[..] {
            [app] => app,
            [] => return Err(Rejection::UnknownApplication(item.app.to_string())),
            _ => return Err(Rejection::AmbiguousApplication(item.app.to_string())),
        };
        let there =
            |only: EndpointId| self.ends_of(app).any(|end| end.endpoint.id == only && !end.endpoint.spec.disabled);
        if item.only_endpoint.is_some_and(|only| !there(only)) {
            return Err(Rejection::Unreachable);
        }
        if self.is_repeat(once, item.at) {
            return Err(Rejection::Repeated);
        }
        let spec = &item.spec;
        if let Some(id) = &spec.event_id
            && self.event_ids.contains_key(&(app, id.to_string()))
        {
            return Err(Rejection::Duplicate(id.to_string()));
        }
        let first_due = spec.deliver_at.map_or(item.at, |at| at.max(item.at));
        let message = Message {
            id: MessageId(Uuid::nil()),
            app_id: app,
            event_type: spec.event_type.clone(),
            event_id: spec.event_id.clone(),
            channels: spec.channels.clone(),
            tags: spec.tags.clone(),
            payload: Some(spec.payload.clone()),
            raw_type: spec.raw_type.clone(),
            occurred_at: spec.occurred_at.unwrap_or(item.at),
            accepted_at: item.at,
            deliver_at: spec.deliver_at,
            content_until: spec.keep_content.map(|span| first_due.plus(span)),
        };
        let wants = |end: &&super::state::End| match item.only_endpoint {
            Some(only) => end.endpoint.id == only,
            None => end.endpoint.spec.wants(&message.event_type, &message.channels),
        };
        let ends = self.ends_of(app).filter(wants).map(|end| end.endpoint.id).collect();
        Ok((message, ends))
    }

    /// Takes in a message, which has its id by now.
    pub fn take_in(&mut self, message: Message, ends: Vec<EndpointId>) {
        if let Some(id) = &message.event_id {
            self.event_ids.insert((message.app_id, id.to_string()), message.id);
        }
        for end in ends {
            let delivery = Delivery {
                app: message.app_id,
                state: DeliveryState::Fresh,
                due: message.first_due(),
                progress: Progress::default(),
                reason: None,
            };
            self.deliveries.insert((message.id, end), delivery);
        }
        self.messages.insert(message.id, message);
    }

    /// Records a batch. Of several attempts of one delivery, each is a step, in their order.
    pub fn record(&mut self, finished: &[FinishedAttempt]) -> Vec<RecordOutcome> {
        let current = |model: &Model, one: &FinishedAttempt| model.slots[usize::from(one.slot)].epoch == one.epoch;
        let mut order: Vec<&FinishedAttempt> = finished.iter().filter(|one| current(self, one)).collect();
        order.sort_by_key(|one| (one.attempt.message_id, one.attempt.endpoint_id, one.before.attempts));
        let mut applied: BTreeSet<AttemptId> = BTreeSet::new();
        for one in order {
            if self.advance(one) {
                applied.insert(one.attempt.id);
            }
        }
        let became = |one: &FinishedAttempt| match () {
            () if applied.contains(&one.attempt.id) => RecordOutcome::Applied,
            () if current(self, one) => RecordOutcome::Superseded,
            () => RecordOutcome::Fenced,
        };
        let recorded: Vec<RecordOutcome> = finished.iter().map(became).collect();
        for (one, _) in finished.iter().zip(&recorded).filter(|(_, what)| **what == RecordOutcome::Superseded) {
            // What others did stands, but the attempt was made: the next one gets the next number.
            if let Some(delivery) = self.deliveries.get_mut(&(one.attempt.message_id, one.attempt.endpoint_id)) {
                delivery.progress.attempts = delivery.progress.attempts.max(one.before.attempts + 1);
            }
        }
        self.append(finished);
        // Of several in one batch, the last one says when.
        for (one, reason) in finished.iter().rev().filter_map(|one| Some((one, one.disable?))) {
            if applied.contains(&one.attempt.id) {
                self.disable(one.attempt.endpoint_id, reason, one.attempt.at);
            }
        }
        recorded
    }

    /// Moves a delivery on, if it is where the attempt began and nobody else changed it.
    fn advance(&mut self, one: &FinishedAttempt) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&(one.attempt.message_id, one.attempt.endpoint_id)) else {
            return false;
        };
        let progress = delivery.progress;
        let there = (progress.generation, progress.attempts) == (one.before.generation, one.before.attempts);
        if !there || !delivery.state.pending() {
            return false;
        }
        let (due, step, reason) = match one.next {
            Transition::Retry { due, step } => (due, step, None),
            Transition::Delivered => (one.attempt.at, one.before.step, None),
            Transition::Dead(reason) => (one.attempt.at, one.before.step, Some(reason)),
        };
        delivery.progress =
            Progress { attempts: one.before.attempts + 1, step, trigger: Trigger::Scheduled, ..progress };
        (delivery.state, delivery.due, delivery.reason) = (one.next.state(), due, reason);
        true
    }

    /// Keeps the attempts, each once, whatever became of their deliveries; counts them, and notes how their endpoints do.
    fn append(&mut self, finished: &[FinishedAttempt]) {
        let mut health: BTreeMap<EndpointId, Option<Time>> = BTreeMap::new();
        for one in finished {
            if self.attempts.contains_key(&one.attempt.id) {
                continue;
            }
            let (attempt, failed) = (&one.attempt, !one.attempt.outcome.delivered());
            self.attempts.insert(attempt.id, attempt.clone());
            self.counted.push(Counted {
                org: one.org.clone(),
                endpoint: attempt.endpoint_id,
                at: attempt.at,
                next: one.next,
                delivered: !failed,
                millis: attempt.outcome.duration.as_millis() as u64,
            });
            let failed_at = failed.then_some(attempt.at);
            let since = health.entry(attempt.endpoint_id).or_insert(failed_at);
            *since = failed_at.and_then(|at| since.map(|first| first.min(at)));
        }
        for (endpoint, since) in health {
            if let Some(end) = self.ends.get_mut(&endpoint)
                && end.failing_since.is_none() != since.is_none()
            {
                (end.failing_since, end.warned, end.warned_at) = (since, 0, None);
            }
        }
    }

    /// Disables an endpoint on behalf of the engine. `false`: it is so already, or deleted.
    pub fn disable(&mut self, endpoint: EndpointId, reason: DisabledReason, at: Time) -> bool {
        let Some(end) = self.ends.get_mut(&endpoint).filter(|end| !end.deleted && !end.endpoint.spec.disabled) else {
            return false;
        };
        end.endpoint.spec.disabled = true;
        end.endpoint.disabled_reason = Some(reason);
        end.endpoint.updated_at = at;
        end.disabled_at = Some(at);
        true
    }

    /// Warns of what does nothing but fail, and disables what has done so for long: up to its newest failure, not to now.
    pub fn check_failing_endpoints(&mut self, disable_after: Duration, now: Time) -> FailingReport {
        let mut judged = FailingReport::default();
        let ids: Vec<EndpointId> = self.ends.keys().copied().collect();
        for id in ids {
            let newest = self.attempts.values().rev().find(|one| one.endpoint_id == id);
            let failed_at = newest.filter(|one| !one.outcome.delivered()).map(|one| one.at);
            let Some(end) = self.ends.get_mut(&id).filter(|end| !end.deleted && !end.endpoint.spec.disabled) else {
                continue;
            };
            let Some((since, failed_at)) = end.failing_since.zip(failed_at) else { continue };
            match action_due(failed_at.since(since), end.warned, disable_after) {
                Some(StreakAction::Warn(number)) => {
                    (end.warned, end.warned_at) = (number, Some(now));
                    judged.warned.push((id, number));
                }
                Some(StreakAction::Disable) => {
                    self.disable(id, DisabledReason::Failing, now);
                    judged.disabled.push(id);
                }
                None => {}
            }
        }
        judged
    }

    pub fn can_resend(&self, tenant: &Tenant, app: AppId, message: MessageId, endpoint: EndpointId) -> bool {
        let content = self.messages.get(&message).is_some_and(|one| one.app_id == app && one.payload.is_some());
        content && self.has_end(tenant, app, endpoint)
    }

    pub fn resend(&mut self, tenant: &Tenant, app: AppId, key: (MessageId, EndpointId), now: Time) -> bool {
        let can = self.can_resend(tenant, app, key.0, key.1);
        if can {
            self.send_again(app, key, DeliveryState::Fresh, now);
        }
        can
    }

    /// Makes a delivery pending (again): the schedule begins anew, and its attempts are numbered on.
    pub fn send_again(&mut self, app: AppId, key: (MessageId, EndpointId), state: DeliveryState, due: Time) {
        let before = self.deliveries.get(&key).map(|delivery| delivery.progress);
        let progress = before.map_or(Progress::default(), |before| Progress {
            attempts: before.attempts,
            generation: before.generation + 1,
            ..Progress::default()
        });
        let progress = Progress { trigger: Trigger::Manual, ..progress };
        self.deliveries.insert(key, Delivery { app, state, due, progress, reason: None });
    }

    pub fn cancel(&mut self, tenant: &Tenant, app: AppId, key: (MessageId, EndpointId), now: Time) -> bool {
        let there = self.has(tenant, app) && self.deliveries.get(&key).is_some_and(|one| one.app == app);
        there && self.finish(key, DeadReason::Canceled, Some(now))
    }

    /// Ends a delivery if it is pending; its time becomes `at`, if that is said.
    fn finish(&mut self, key: (MessageId, EndpointId), reason: DeadReason, at: Option<Time>) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&key).filter(|delivery| delivery.state.pending()) else {
            return false;
        };
        delivery.state = DeliveryState::Dead;
        delivery.reason = Some(reason);
        delivery.progress.generation += 1;
        delivery.due = at.unwrap_or(delivery.due);
        true
    }

    pub fn delete_content(&mut self, tenant: &Tenant, app: AppId, message: MessageId, now: Time) -> bool {
        if !self.has(tenant, app) || self.messages.get(&message).is_none_or(|one| one.app_id != app) {
            return false;
        }
        self.lose_contents(vec![message], now);
        true
    }

    pub fn expire_contents(&mut self, now: Time) -> u64 {
        let over = |one: &&Message| one.content_until.is_some_and(|until| until <= now);
        let gone: Vec<MessageId> = self.messages.values().filter(over).map(|one| one.id).collect();
        let count = gone.len() as u64;
        self.lose_contents(gone, now);
        count
    }

    fn lose_contents(&mut self, messages: Vec<MessageId>, now: Time) {
        for id in &messages {
            if let Some(message) = self.messages.get_mut(id) {
                (message.payload, message.content_until) = (None, None);
            }
        }
        self.end_without_content(&messages, now);
    }

    pub fn end_without_content(&mut self, messages: &[MessageId], now: Time) -> u64 {
        let without = |id: &MessageId| self.messages.get(id).is_some_and(|one| one.payload.is_none());
        let gone: BTreeSet<MessageId> = messages.iter().copied().filter(without).collect();
        let keys: Vec<_> = self.deliveries.keys().copied().filter(|key| gone.contains(&key.0)).collect();
        keys.into_iter().filter(|key| self.finish(*key, DeadReason::ContentDeleted, Some(now))).count() as u64
    }

    pub fn delete_answer(&mut self, tenant: &Tenant, app: AppId, message: MessageId, attempt: AttemptId) -> bool {
        let has = self.has(tenant, app);
        match self.attempts.get_mut(&attempt).filter(|one| has && one.app_id == app && one.message_id == message) {
            Some(attempt) => {
                attempt.outcome.response_headers.clear();
                attempt.outcome.response_body = EXPUNGED.into();
                true
            }
            None => false,
        }
    }

    /// Ends everything that is pending at deleted endpoints.
    pub fn cancel_pending_of_deleted(&mut self, now: Time) -> u64 {
        let deleted = |id: &EndpointId| self.ends.get(id).is_some_and(|end| end.deleted);
        let keys: Vec<_> = self.pending().map(|(key, _)| *key).filter(|key| deleted(&key.1)).collect();
        keys.into_iter().filter(|key| self.finish(*key, DeadReason::EndpointDeleted, Some(now))).count() as u64
    }

    /// What was accepted before `cutoff` goes with all that belongs to it; what is scheduled and waits, so long after its time.
    pub fn expire(&mut self, cutoff: Time) -> u64 {
        let floor = MessageId::floor(cutoff);
        let waits = |id: MessageId| self.pending().any(|((message, _), _)| *message == id);
        let scheduled = |one: &Message| one.deliver_at.is_some_and(|at| at >= cutoff) && waits(one.id);
        let kept: BTreeSet<MessageId> = self.messages.values().filter(|one| scheduled(one)).map(|one| one.id).collect();
        let stays = |id: MessageId| id >= floor || kept.contains(&id);
        let before = self.messages.len();
        self.forgotten = self.forgotten.max(cutoff);
        self.messages.retain(|id, _| stays(*id));
        self.deliveries.retain(|(id, _), _| stays(*id));
        self.attempts.retain(|_, one| stays(one.message_id));
        self.event_ids.retain(|_, id| stays(*id));
        (before - self.messages.len()) as u64
    }

    /// Forgets keys that are past their life, and ended work that is older than a day.
    pub fn forget(&mut self, now: Time) -> u64 {
        let before = self.once.len();
        self.once.retain(|_, (once, _)| once.at > now.minus(IDEMPOTENCY_TTL));
        let day = now.minus(Duration::from_secs(86_400));
        self.works.retain(|_, work| work.runs() || work.work.updated_at >= day);
        (before - self.once.len()) as u64
    }
}
