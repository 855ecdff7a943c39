//! Acts that go on behind: background work, leases, the sweep.

use std::time::Duration;

use sendoff::domain::TimeRange;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::DeliveryStatus;
use sendoff::domain::{BackgroundId, MessageId, Time};
use sendoff::store::Tenant;
use sendoff::store::jobs::background::{BackgroundSpec, StartResult, TaskSelection};
use sendoff::store::jobs::job_lease::StepResult;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::query::topic_filter::TopicFilter;
use sendoff::store::queue::slots::EngineProcess;
use uuid::Uuid;

use super::things::TYPES;
use super::{Checked, World, begun, said, same, told};
use crate::home::NOW;
use crate::model::acts::{Act, Pick, Who};
use crate::model::state::{Model, Work, one_of};
use crate::model::work::May;

pub fn process(number: u8) -> EngineProcess {
    EngineProcess { id: Uuid::from_u128(u128::from(number) + 1), name: format!("host-{number}"), started_at: NOW }
}

/// A filter with what its bits say, around a message.
pub fn sent_filter(model: &Model, bits: u8, message: MessageId) -> EndpointMessageFilter {
    let bit = |n: u8| bits >> n & 1 == 1;
    let around = model.messages.get(&message).map_or(Time::ZERO, |message| message.accepted_at);
    let all = [DeliveryStatus::Dead, DeliveryStatus::Delivered, DeliveryStatus::Pending, DeliveryStatus::Canceled];
    EndpointMessageFilter {
        accepted: TimeRange {
            since: if bit(0) { around } else { Time::ZERO },
            until: if bit(0) && bit(1) { around.plus(Duration::from_secs(3_600)) } else { Time::MAX },
        },
        topics: TopicFilter {
            event_types: if bit(2) { vec![TYPES[0].to_owned(), TYPES[2].to_owned()] } else { Vec::new() },
            channel: (bit(5) && bit(4)).then(|| "red".to_owned()),
            tag: (bit(6) && bit(5)).then(|| "vip".to_owned()),
        },
        standings: if bit(3) { all[..1 + usize::from(bits >> 6)].to_vec() } else { Vec::new() },
        failing: (bit(4) && bit(1)).then_some(true),
        status_class: (bit(7) && bit(1)).then_some([0, 200, 500][usize::from(bits) % 3]),
    }
}

impl World {
    pub(super) async fn act_behind(&mut self, act: &Act) -> Checked {
        match act {
            Act::Begin { who, kind, scope, endpoint, filter, message } => {
                let kind = [TaskKind::Recover, TaskKind::ReplayMissing, TaskKind::BulkReplay][usize::from(*kind)];
                let (app, end) = self.model.end(*endpoint);
                let scope = [TaskScope::Endpoint(app, end), TaskScope::Application(app), TaskScope::Organization]
                    [usize::from(*scope)];
                let filter = sent_filter(&self.model, *filter, self.model.message(*message).1);
                let selection = TaskSelection::Messages(filter);
                let spec = BackgroundSpec { kind, scope, selection, by: "somebody".to_owned(), total: None };
                self.begin(&self.model.tenant(*who, app), spec).await
            }
            Act::TakeTurn => self.lease_background().await,
            Act::Step { turn } => self.step(*turn).await,
            Act::EndTurn { turn } => {
                let Some((turn, lease)) = self.taken(*turn) else { return Ok(()) };
                self.model.release_background(lease, self.now);
                same("end_turn", told(self.store().release_background(turn, self.now).await), Ok(()))
            }
            Act::CancelWork { who, work } => self.cancel_work(*who, *work).await,
            Act::TurnsLapse => {
                self.model.turns_lapse();
                self.sql("UPDATE background SET leased_until = 0 WHERE leased_until > 0").await
            }
            Act::Heartbeat { .. } | Act::HandBack { .. } | Act::Depart { .. } | Act::Lapse { .. } => {
                self.act_on_slots(act).await
            }
            other => self.sweep(other).await,
        }
    }

    /// What it would do is counted first; the counting comes to what the step will.
    async fn begin(&mut self, tenant: &Tenant, spec: BackgroundSpec) -> Checked {
        let (mut counted, mut place) = (0, None);
        loop {
            let tally = said(self.store().estimate(tenant, &spec, place).await)?;
            counted += tally.found;
            match tally.next {
                Some(next) => place = Some(next),
                None => break,
            }
        }
        same("tally", counted, self.model.tally(tenant, &spec, self.now))?;
        let found = said(self.store().start_background(tenant, spec.clone(), self.now).await)?;
        match (found, self.model.may_begin(tenant, &spec)) {
            (StartResult::Started(work), May::Begin) => {
                let wanted = begun(work.id, spec, self.now);
                same("start_background", &*work, &wanted)?;
                let org = tenant.org.clone();
                self.model.works.insert(work.id, Work { org, work: wanted, leased_until: Time::ZERO, lease: 0 });
                Ok(())
            }
            (StartResult::TooMany(found), May::TooMany(wanted)) => same("start_background", found, wanted),
            (StartResult::NotFound, May::NotThere) => Ok(()),
            (found, wanted) => Err(format!("start_background\n  the store: {found:?}\n  the model: {wanted:?}")),
        }
    }

    async fn lease_background(&mut self) -> Checked {
        let found = said(self.store().lease_background(self.now).await)?;
        let wanted = self.model.lease_background(self.now);
        same("take_turn", found.map(|turn| turn.id), wanted.map(|(id, _)| id))?;
        self.turns.extend(found.zip(wanted));
        Ok(())
    }

    fn taken(&mut self, pick: Pick) -> Option<(sendoff::store::jobs::job_lease::TaskLease, (BackgroundId, u64))> {
        let place = usize::from(pick).checked_rem(self.turns.len())?;
        Some(self.turns.remove(place))
    }

    async fn step(&mut self, turn: Pick) -> Checked {
        if self.turns.is_empty() {
            self.lease_background().await?;
        }
        let Some((turn, lease)) = self.taken(turn) else { return Ok(()) };
        let found = said(self.store().step_background(turn, self.now).await)?;
        let wanted = self.model.step(lease, self.now).map_or(StepResult::Lost, StepResult::Ended);
        same("step_background", found, wanted)
    }

    async fn cancel_work(&mut self, who: Who, work: Pick) -> Checked {
        let all: Vec<BackgroundId> = self.model.works.keys().copied().collect();
        let Some(id) = one_of(work, &all) else { return Ok(()) };
        let tenant = self.tenant_of(who, &self.model.works[&id]);
        let found = told(self.store().cancel_background(&tenant, id, self.now).await);
        same("cancel_background", found, Ok(self.model.cancel_work(&tenant, id, self.now)))
    }

    /// On whose behalf something is done to background work.
    pub fn tenant_of(&self, who: Who, work: &Work) -> Tenant {
        let own = |app: &&crate::model::state::App| app.app.org == work.org;
        let app = work.work.spec.scope.app().or_else(|| self.model.apps.values().find(own).map(|app| app.app.id));
        self.model.tenant(who, app.unwrap_or(sendoff::domain::AppId(Uuid::nil())))
    }

    async fn act_on_slots(&mut self, act: &Act) -> Checked {
        let now = self.now;
        let epochs: Vec<i64> = self.model.slots.iter().map(|slot| slot.epoch).collect();
        match act {
            Act::Heartbeat { process: number, sparing, leaving } => {
                let found = match (leaving, sparing) {
                    (true, _) => self.store().final_heartbeat(&process(*number), now).await,
                    (false, true) => self.store().heartbeat_after_outage(&process(*number), now).await,
                    (false, false) => self.store().heartbeat(&process(*number), now).await,
                };
                same("heartbeat", told(found), Ok(self.model.beat(*number, *sparing, *leaving, now)))?;
            }
            Act::HandBack { process: number, slots } => {
                self.model.release_slots(*number, slots);
                same("release_slots", told(self.store().release_slots(process(*number).id, slots).await), Ok(()))?;
            }
            Act::Depart { process: number } => {
                self.model.deregister(*number);
                same("deregister", told(self.store().deregister(process(*number).id).await), Ok(()))?;
            }
            Act::Lapse { process: number } => {
                self.model.lapse(*number);
                let id = process(*number).id.simple().to_string();
                let id = self.home.either(&format!("x'{id}'"), &format!("'{id}'")).to_owned();
                self.sql(&format!("UPDATE slot SET expires_at = 1 WHERE owner = {id}")).await?;
                self.sql(&format!("UPDATE process SET expires_at = 1 WHERE id = {id}")).await?;
            }
            _ => {}
        }
        // The model's own promise: no epoch goes back, and it grows whenever the owner changes.
        let back = self.model.slots.iter().zip(&epochs).any(|(slot, before)| slot.epoch < *before);
        if back { Err("an epoch went back".to_owned()) } else { Ok(()) }
    }

    async fn sweep(&mut self, act: &Act) -> Checked {
        let now = self.now;
        match act {
            Act::Bury { limit } => {
                let mut buried = 0;
                loop {
                    match said(self.store().cancel_pending_of_deleted(i64::from(*limit), now).await)? {
                        0 => break,
                        some if some > u64::from(*limit) => return Err(format!("{some} buried of {limit}")),
                        some => buried += some,
                    }
                }
                same("cancel_pending_of_deleted", buried, self.model.cancel_pending_of_deleted(now))
            }
            Act::ExpireContents => {
                let found = told(self.store().expire_contents(now).await);
                same("expire_contents", found, Ok(self.model.expire_contents(now)))
            }
            Act::EndWithoutContent { messages } => {
                let messages: Vec<MessageId> = messages.iter().map(|pick| self.model.message(*pick).1).collect();
                let found = told(self.store().end_without_content(&messages, now).await);
                same("end_without_content", found, Ok(self.model.end_without_content(&messages, now)))
            }
            Act::Expire { back } => {
                let cutoff = now.minus(Duration::from_secs(86_400 * u64::from(*back)));
                let expired = told(self.store().expire(cutoff, now).await.map(|expired| expired.messages));
                same("expire", expired, Ok(self.model.expire(cutoff)))
            }
            Act::JudgeFailing { hours } => {
                let after = Duration::from_secs(3_600 * u64::from(*hours));
                let found = told(self.store().check_failing_endpoints(after, now).await);
                same("judge_failing", found, Ok(self.model.check_failing_endpoints(after, now)))
            }
            Act::WidenCounts => {
                same("compact_rollups", told(self.store().compact_rollups(now).await).map(drop), Ok(()))
            }
            Act::Forget => {
                let old = Time::from_micros(2);
                said(self.store().delete_dead_processes(old).await)?;
                self.model.processes.retain(|_, until| *until >= old);
                said(self.store().delete_old_background(now.minus(Duration::from_secs(86_400))).await)?;
                same(
                    "delete_expired_idempotency_keys",
                    told(self.store().delete_expired_idempotency_keys(now, 100).await),
                    Ok(self.model.forget(now)),
                )
            }
            _ => Ok(()),
        }
    }
}
