//! Acts on messages and deliveries: through the door and the outbox, out to receivers and back, by hand.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use sendoff::domain::catalog::endpoint::DisabledReason;
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome};
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::domain::{AppId, AttemptId, MessageId, Uid};
use sendoff::store::ingest::accept::{AcceptItem, AcceptResult, Rejection};
use sendoff::store::ingest::fan_out_scheduler::FanOutScheduler;
use sendoff::store::ingest::outbox::{RelayReport, RelayRequest};
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{AppRef, Order, PageRequest};

use super::things::{CHANNELS, TYPES, names};
use super::{Checked, Flight, World, agree, said, same, told};
use crate::home::MAX_PAYLOAD;
use crate::model::acts::{Act, Came, End, Item, Pick, Who};
use crate::model::rules::{DURATIONS, Draft};
use crate::model::state::{OutboxRow, one_of};

/// What a message says, which is never the same twice.
fn payload(item: &Item, number: u64) -> String {
    if item.broken { "no object".to_owned() } else { format!("{{\"number\": {number}, \"Sum\": \"1.50\"}}") }
}

impl World {
    /// `None`: the act is another's.
    pub(super) async fn act_on_traffic(&mut self, act: &Act) -> Option<Checked> {
        Some(match act {
            Act::Accept { items, once } => {
                let seen = self.accept(items, *once).await;
                self.see_all(seen).await
            }
            Act::SendExample { who, endpoint } => {
                let seen = self.send_example(*who, *endpoint).await;
                self.see_all(seen).await
            }
            Act::Outbox { items } => self.insert(items).await,
            Act::Relay { limit } => {
                let seen = self.relay(usize::from(*limit)).await;
                self.see_all(seen).await
            }
            Act::RetryOutbox => {
                let rows = self.model.outbox.iter_mut().filter(|row| row.stuck_since.is_some());
                rows.for_each(|row| row.look_at = sendoff::domain::Time::ZERO);
                same("outbox_retry_all", told(self.store().outbox_retry_all().await), Ok(()))
            }
            Act::Send { deliveries, slot } => self.send(deliveries, *slot),
            Act::Record { ends } => {
                let seen = self.record(ends).await;
                self.see_all(seen).await
            }
            Act::Resend { who, message, endpoint, once } => self.resend(*who, *message, *endpoint, *once).await,
            Act::Cancel { who, delivery } => self.cancel(*who, *delivery).await,
            Act::DeleteContent { who, message } => self.delete_content(*who, *message).await,
            Act::DeleteAnswer { who, attempt } => self.delete_answer(*who, *attempt).await,
            _ => return None,
        })
    }

    /// How the deliveries of these stand.
    async fn see_all(&self, seen: Result<Vec<(AppId, MessageId)>, String>) -> Checked {
        for (app, message) in seen? {
            self.see_deliveries(app, message).await?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> AcceptItem {
        self.rows += 1;
        let app = self.model.app(item.app);
        let uid = self.model.apps.get(&app).and_then(|app| app.app.uid.clone()).filter(|_| item.by_uid);
        let later = |seconds: i32| match u64::try_from(seconds) {
            Ok(ahead) => self.now.plus(Duration::from_secs(ahead)),
            Err(_) => self.now.minus(Duration::from_secs(u64::from(seconds.unsigned_abs()))),
        };
        let spec = MessageSpec {
            event_type: TYPES[usize::from(item.event_type)].to_owned(),
            event_id: item.event_id.map(|id| Uid::parse("eventId", &format!("e{id}"), "msg_").expect("an event id")),
            channels: names(&CHANNELS, item.channels),
            tags: if item.tag { vec!["vip".to_owned()] } else { Vec::new() },
            payload: Bytes::from(payload(item, self.rows)),
            raw_type: None,
            occurred_at: item.tag.then(|| self.now.minus(Duration::from_secs(5))),
            deliver_at: item.deliver_in.map(later),
            keep_content: item.keep.map(|seconds| Duration::from_secs(u64::from(seconds))),
            schema_warning: None,
        };
        AcceptItem {
            tenant: Some(self.model.tenant(item.who, app)),
            app: uid.map_or(AppRef::Id(app), AppRef::Uid),
            only_endpoint: item.only.and_then(|pick| self.model.end_of(app, pick)),
            spec,
            at: self.now,
            idempotency_key: None,
            audit: None,
        }
    }

    /// What waits together is accepted together.
    async fn accept(&mut self, items: &[Item], key: Option<u8>) -> Result<Vec<(AppId, MessageId)>, String> {
        let once = self.once(key);
        let count = if once.is_some() { 1 } else { items.len() };
        let items: Vec<AcceptItem> = items[..count].iter().map(|item| self.item(item)).collect();
        let store = self.acting(once.as_ref());
        let verdicts = join_all(items.iter().map(|item| store.accept(item.clone()))).await;
        self.fan_out().await?;
        let mut seen = Vec::new();
        for (item, verdict) in items.iter().zip(verdicts) {
            let draft = self.model.draft(item, once.as_ref(), MAX_PAYLOAD);
            if matches!(draft, Err(Rejection::Duplicate(_))) {
                self.model.leave_once(once.as_ref());
            }
            if let Some(message) = self.settle("accept", said(verdict)?, draft)? {
                self.model.enter_once(once.clone(), message.1.to_string());
                seen.push(message);
            }
        }
        Ok(seen)
    }

    /// Moves what was packed, by the other handle: the model has no packs.
    async fn fan_out(&self) -> Checked {
        while said(self.another().fan_out(&mut FanOutScheduler::default(), self.now).await)?.is_some() {}
        Ok(())
    }

    /// Compares what became of an item, and takes in what was accepted.
    fn settle(&mut self, what: &str, found: AcceptResult, draft: Draft) -> Result<Option<(AppId, MessageId)>, String> {
        let (wanted, ends) = match draft {
            Ok((message, ends)) => (Ok(message), ends),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        // Nobody but the store knows the id; it must be the greatest so far.
        let id = found.as_ref().ok().map(|message| message.id);
        if let (Some(id), Some((last, _))) = (id, self.model.messages.last_key_value())
            && id <= *last
        {
            return Err(format!("{what}: {id} came after {last}"));
        }
        let wanted = wanted.map(|message| Message { id: id.unwrap_or(message.id), ..message });
        let found: Result<Message, Rejection> = found.map(|message| (*message).clone());
        same(what, &found, &wanted)?;
        Ok(wanted.ok().map(|message| {
            let seen = (message.app_id, message.id);
            self.model.take_in(message, ends);
            seen
        }))
    }

    async fn send_example(&mut self, who: Who, endpoint: Pick) -> Result<Vec<(AppId, MessageId)>, String> {
        let (app, id) = self.model.end(endpoint);
        let Some(end) = self.model.ends.get(&id).map(|end| end.endpoint.clone()) else { return Ok(Vec::new()) };
        let Some(event_type) = self.model.event_types.values().next().cloned() else { return Ok(Vec::new()) };
        let tenant = self.model.tenant(who, app);
        let verdict = self.store().send_example(&tenant, &end, &event_type.spec, None, self.now).await;
        let example = event_type.spec.example(None).map_err(|wrong| format!("{wrong:?}"))?;
        let spec = MessageSpec {
            event_type: event_type.spec.name,
            payload: Bytes::from(example.to_string()),
            ..MessageSpec::default()
        };
        let item = AcceptItem {
            tenant: Some(tenant),
            app: AppRef::Id(app),
            only_endpoint: Some(id),
            spec,
            at: self.now,
            idempotency_key: None,
            audit: None,
        };
        let draft = self.model.draft(&item, None, MAX_PAYLOAD);
        Ok(self.settle("send_example", said(verdict)?, draft)?.into_iter().collect())
    }

    /// Rows of the team's own.
    async fn insert(&mut self, items: &[Item]) -> Checked {
        for item in items {
            let wanted = self.item(item);
            let application = if item.who == Who::Stranger { "nobody".to_owned() } else { wanted.app.to_string() };
            let row = OutboxRow {
                number: self.rows,
                application,
                event_type: wanted.spec.event_type,
                payload: payload(item, self.rows),
                event_id: wanted.spec.event_id.map(|id| id.to_string()),
                channels: Some(wanted.spec.channels.join(", ")).filter(|list| !list.is_empty()),
                look_at: sendoff::domain::Time::ZERO,
                stuck_since: None,
            };
            let text = |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |value| format!("'{value}'"));
            self.sql(&format!(
                "INSERT INTO outbox (application, event_type, payload, event_id, channels)
                 VALUES ('{}', '{}', '{}', {}, {})",
                row.application,
                row.event_type,
                row.payload,
                text(&row.event_id),
                text(&row.channels)
            ))
            .await?;
            self.model.outbox.push(row);
        }
        Ok(())
    }

    /// What a row asks for.
    fn row_item(&self, row: &OutboxRow) -> AcceptItem {
        let channels = row.channels.as_deref().map_or(Vec::new(), |list| list.split(", ").map(str::to_owned).collect());
        let spec = MessageSpec {
            event_type: row.event_type.clone(),
            event_id: row.event_id.as_deref().map(|id| Uid::parse("event_id", id, "msg_").expect("an event id")),
            channels,
            payload: Bytes::from(row.payload.clone()),
            ..MessageSpec::default()
        };
        let app = AppRef::parse(&row.application).expect("a name");
        AcceptItem { tenant: None, app, only_endpoint: None, spec, at: self.now, idempotency_key: None, audit: None }
    }

    async fn relay(&mut self, limit: usize) -> Result<Vec<(AppId, MessageId)>, String> {
        let now = self.now;
        let found = said(self.store().relay(RelayRequest { limit: limit as i64, now }).await)?;
        self.fan_out().await?;
        let (mut wanted, mut refused, mut accepted) = (RelayReport::default(), Vec::new(), Vec::new());
        for row in self.model.next_rows(limit, now) {
            let item = self.row_item(&row);
            match self.model.draft(&item, None, MAX_PAYLOAD) {
                Ok((message, ends)) => {
                    wanted.accepted += 1;
                    // So that a second row of the same event id is a repeat.
                    if let Some(id) = &message.event_id {
                        self.model.event_ids.insert((message.app_id, id.to_string()), message.id);
                    }
                    accepted.push((message, ends));
                }
                Err(Rejection::Duplicate(_)) => wanted.duplicates += 1,
                Err(refusal) => {
                    self.model.stick(row.number, now);
                    let reason = (row.application, refusal.to_string());
                    if matches!(refusal, Rejection::Invalid(_)) {
                        wanted.stuck.push(reason)
                    } else {
                        refused.push(reason)
                    }
                    continue;
                }
            }
            self.model.outbox.retain(|other| other.number != row.number);
        }
        wanted.stuck.extend(refused);
        same("relay", found, wanted)?;
        let mut seen = Vec::new();
        let mut apps: Vec<AppId> = accepted.iter().map(|(message, _)| message.app_id).collect();
        apps.dedup();
        for (message, ends) in self.with_ids(accepted).await? {
            seen.push((message.app_id, message.id));
            self.model.take_in(message, ends);
        }
        Ok(seen)
    }

    /// The ids of messages that the relay has brought in: those of the newest of their applications.
    async fn with_ids<E>(&self, accepted: Vec<(Message, E)>) -> Result<Vec<(Message, E)>, String> {
        let mut known = Vec::with_capacity(accepted.len());
        let mut left: std::collections::BTreeMap<AppId, usize> = std::collections::BTreeMap::new();
        accepted.iter().for_each(|(message, _)| *left.entry(message.app_id).or_default() += 1);
        for (message, ends) in accepted {
            let app = message.app_id;
            let tenant = self.model.tenant(Who::Owner, app);
            let page = PageRequest::first(left[&app], Order::Descending);
            let newest = said(self.store().messages(&tenant, app, &MessageFilter::default(), &page).await)?;
            left.entry(app).and_modify(|left| *left -= 1);
            let found = newest.data.last().cloned().ok_or("the relay's message is not in the list")?;
            same("relay's message", &found, &Message { id: found.id, ..message })?;
            known.push((found, ends));
        }
        Ok(known)
    }

    /// Deliveries go on their way; what the lanes read of them is what the model has.
    fn send(&mut self, deliveries: &[Pick], slot: u8) -> Checked {
        for pick in deliveries {
            let pending: Vec<_> = self.model.pending().map(|(key, one)| (*key, one.app, one.progress)).collect();
            let Some(((message, endpoint), app, before)) = one_of(*pick, &pending) else { break };
            if self.flights.iter().any(|flight| (flight.message, flight.endpoint) == (message, endpoint)) {
                continue;
            }
            let Some(org) = self.model.apps.get(&app).map(|app| app.app.org.clone()) else { continue };
            let (epoch, id, at) = (self.model.slots[usize::from(slot)].epoch, AttemptId::new(self.now), self.now);
            self.flights.push(Flight { org, app, message, endpoint, before, slot, epoch, id, at });
        }
        Ok(())
    }

    async fn record(&mut self, ends: &[End]) -> Result<Vec<(AppId, MessageId)>, String> {
        let mut batch = std::mem::take(&mut self.again);
        for end in ends {
            if self.flights.is_empty() {
                self.send(&[end.flight], 0)?;
            }
            let Some(place) = usize::from(end.flight).checked_rem(self.flights.len()) else { break };
            let flight = self.flights.remove(place);
            let finished = self.finished(flight, end);
            if end.again {
                self.again.push(finished.clone());
            }
            batch.push(finished);
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let found = told(self.store().record(batch.clone()).await);
        same("record", found, Ok(self.model.record(&batch)))?;
        Ok(batch.iter().map(|one| (one.attempt.app_id, one.attempt.message_id)).collect())
    }

    fn finished(&self, flight: Flight, end: &End) -> FinishedAttempt {
        let due = self.now.plus(Duration::from_secs(30 + 100 * u64::from(end.took)));
        let retry = Transition::Retry { due, step: flight.before.step + 1 };
        let (status, failure, next) = match end.came {
            Came::Delivered => (Some(200), None, Transition::Delivered),
            Came::Failed => (Some(503), Some(Failure::Status), retry),
            Came::Silent => (None, Some(Failure::Timeout), retry),
            Came::Exhausted => (Some(500), Some(Failure::Status), Transition::Dead(DeadReason::Exhausted)),
            Came::Gone => (Some(410), Some(Failure::Status), Transition::Dead(DeadReason::Gone)),
        };
        let outcome = Outcome {
            failure,
            detail: if failure.is_some() { "it did not work".to_owned() } else { String::new() },
            status,
            duration: Duration::from_millis(DURATIONS[usize::from(end.took)]),
            response_headers: status.map(|_| ("server".to_owned(), "nginx".to_owned())).into_iter().collect(),
            response_body: Bytes::from(status.map_or(String::new(), |status| format!("that is {status}"))),
            retry_after: None,
        };
        let attempt = Attempt {
            id: flight.id,
            app_id: flight.app,
            message_id: flight.message,
            endpoint_id: flight.endpoint,
            number: flight.before.attempts + 1,
            trigger: flight.before.trigger,
            at: flight.at,
            url: "https://example.com/hook".to_owned(),
            request_headers: vec![("webhook-id".to_owned(), flight.message.to_string())],
            outcome,
            next_at: next.due(),
        };
        FinishedAttempt {
            org: flight.org,
            attempt,
            before: flight.before,
            next,
            slot: flight.slot,
            epoch: if end.late { flight.epoch - 1 } else { flight.epoch },
            disable: (end.came == Came::Gone).then_some(DisabledReason::Gone),
            rests_until: None,
        }
    }

    async fn resend(&mut self, who: Who, message: Pick, endpoint: Pick, key: Option<u8>) -> Checked {
        let (app, id) = self.model.message(message);
        let Some(end) = self.model.end_of(app, endpoint) else { return Ok(()) };
        let (tenant, once, now) = (self.model.tenant(who, app), self.once(key), self.now);
        let store = self.acting(once.as_ref());
        // A token that is another application's does not come to the key.
        let repeat = tenant.sees(app) && self.model.is_repeat(once.as_ref(), now);
        let may = if repeat { Err("repeated") } else { Ok(()) };
        let Some(found) = agree("resend", store.resend(&tenant, app, (id, end), now).await, may)? else {
            return Ok(());
        };
        let wanted = self.model.resend(&tenant, app, (id, end), now);
        if wanted {
            self.model.enter_once(once, String::new());
        }
        same("resend", found, wanted)?;
        self.see_deliveries(app, id).await
    }

    async fn cancel(&mut self, who: Who, delivery: Pick) -> Checked {
        let all: Vec<_> = self.model.deliveries.iter().map(|(key, one)| (*key, one.app)).collect();
        let Some((key, app)) = one_of(delivery, &all) else { return Ok(()) };
        let tenant = self.model.tenant(who, app);
        let found = told(self.store().cancel(&tenant, app, key, self.now).await);
        same("cancel", found, Ok(self.model.cancel(&tenant, app, key, self.now)))?;
        self.see_deliveries(app, key.0).await
    }

    async fn delete_content(&mut self, who: Who, message: Pick) -> Checked {
        let (app, id) = self.model.message(message);
        let tenant = self.model.tenant(who, app);
        let found = told(self.store().delete_content(&tenant, app, id, self.now).await);
        same("delete_content", found, Ok(self.model.delete_content(&tenant, app, id, self.now)))?;
        self.see_deliveries(app, id).await
    }

    async fn delete_answer(&mut self, who: Who, attempt: Pick) -> Checked {
        let all: Vec<_> = self.model.attempts.values().map(|one| (one.id, one.app_id, one.message_id)).collect();
        let Some((id, app, message)) = one_of(attempt, &all) else { return Ok(()) };
        let tenant = self.model.tenant(who, app);
        let found = told(self.store().delete_attempt_content(&tenant, app, message, id, self.now).await);
        same("delete_attempt_content", found, Ok(self.model.delete_answer(&tenant, app, message, id)))
    }
}
