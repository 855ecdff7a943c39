//! Two at once: what two processes do at the same moment comes to what one after the other would.
//!
//! * [`Deed`] – something that is done to one delivery, its message or endpoint. Each with each other is done at once, again and again; the
//!   answers and the state afterwards must be those of one of the two orders, which the model is asked for.
//!
//! [`takers`] is of things that only one of two may get.

mod takers;

use std::time::Duration;

use sendoff::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome};
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::{AppId, AttemptId, BackgroundId, EndpointId, MessageId, OrgId, Time, Uid};
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::jobs::background::TaskSelection;
use sendoff::store::jobs::background::{BackgroundSpec, StartResult};
use sendoff::store::jobs::job_lease::{StepResult, TaskLease};
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{AppRef, Store, Tenant};

use super::acts::{Act, Ends, Look, Who};
use super::run::{Checked, World, begun, fresh_time, said};
use super::state::{Model, Work};
use super::things::Change;
use crate::support::on_both_alone;

on_both_alone! {
    two_deeds_at_once_come_to_one_of_their_orders
}

/// How often each is done.
const ROUNDS: usize = 2;

/// What is done to the one delivery of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Deliver,
    Fail,
    Refuse,
    Cancel,
    Resend,
    DeleteContent,
    DeleteEndpoint,
    Disable,
    Step,
}

const DEEDS: [Deed; 9] = [
    Deed::Deliver,
    Deed::Fail,
    Deed::Refuse,
    Deed::Cancel,
    Deed::Resend,
    Deed::DeleteContent,
    Deed::DeleteEndpoint,
    Deed::Disable,
    Deed::Step,
];

/// In which order two deeds may have been done.
#[derive(Clone, Copy)]
enum Order {
    Forth,
    Back,
    /// The second is a step on PostgreSQL, which saw the delivery before the first, and found it moved on after.
    Passed,
}

/// A message with one delivery, in whose hands it is, and background work that has a turn.
struct Scene {
    tenant: Tenant,
    app: AppId,
    endpoint: Endpoint,
    message: MessageId,
    attempts: [AttemptId; 2],
    turn: TaskLease,
    work: (BackgroundId, u64),
    now: Time,
}

fn item(tenant: &Tenant, app: AppId, event_id: Option<&str>, now: Time) -> AcceptItem {
    let event_id = event_id.map(|id| Uid::parse("eventId", id, "msg_").expect("an event id"));
    let spec =
        MessageSpec { event_type: "invoice.paid".into(), event_id, payload: "{}".into(), ..MessageSpec::default() };
    AcceptItem {
        tenant: Some(tenant.clone()),
        app: AppRef::Id(app),
        only_endpoint: None,
        spec,
        at: now,
        idempotency_key: None,
        audit: None,
    }
}

/// The handles of two processes; an SQLite file has one.
fn two(world: &World) -> (Store, Store) {
    let first = world.store().clone();
    let second = if first.shared() { world.another().clone() } else { first.clone() };
    (first, second)
}

/// An empty world with an application and one endpoint.
async fn furnish(world: &mut World) -> Result<(Tenant, AppId, EndpointId, Time), String> {
    let now = fresh_time();
    world.clear(now).await?;
    let ends = Ends { uid: None, disabled: false, types: None, channels: None, rate: None, url: 0 };
    let app = Act::CreateApp { other: false, uid: None, rate: None, once: None };
    world.act(&app, now).await?;
    world.act(&Act::CreateEndpoint { who: Who::Owner, app: 0, ends, once: None }, now).await?;
    let (app, endpoint) = world.model.end(0);
    Ok((Tenant::org(OrgId::default_org()), app, endpoint, now))
}

async fn scene(world: &mut World) -> Result<Scene, String> {
    let (tenant, app, endpoint, now) = furnish(world).await?;
    let item = item(&tenant, app, None, now);
    let (message, ends) = world.model.draft(&item, None, 1_000).map_err(|refusal| refusal.to_string())?;
    let accepted = said(world.store().accept(item).await)?.map_err(|refusal| refusal.to_string())?;
    world.model.take_in(sendoff::domain::deliveries::message::Message { id: accepted.id, ..message }, ends);
    let selection = TaskSelection::Messages(EndpointMessageFilter::default());
    let scope = TaskScope::Endpoint(app, endpoint);
    let spec = BackgroundSpec { kind: TaskKind::BulkReplay, scope, selection, by: String::new(), total: None };
    let StartResult::Started(work) = said(world.store().start_background(&tenant, spec.clone(), now).await)? else {
        return Err("no work".to_owned());
    };
    let work = begun(work.id, spec, now);
    world.model.works.insert(work.id, Work { org: tenant.org.clone(), work, leased_until: Time::ZERO, lease: 0 });
    let turn = said(world.store().lease_background(now).await)?.ok_or("no turn")?;
    let work = world.model.lease_background(now).ok_or("no turn")?;
    let endpoint = world.model.ends[&endpoint].endpoint.clone();
    let attempts = [AttemptId::new(now), AttemptId::new(now)];
    Ok(Scene { tenant, app, endpoint, message: accepted.id, attempts, turn, work, now })
}

impl Scene {
    /// What came of the delivery's first attempt, as the one of two who sent it sees it.
    fn finished(&self, by: usize, deed: Deed) -> FinishedAttempt {
        let due = self.now.plus(Duration::from_secs(60));
        let (status, failure, next) = match deed {
            Deed::Deliver => (200, None, Transition::Delivered),
            Deed::Fail => (503, Some(Failure::Status), Transition::Retry { due, step: 1 }),
            _ => (410, Some(Failure::Status), Transition::Dead(DeadReason::Gone)),
        };
        let outcome = Outcome::failed(Failure::Status, "", Duration::from_millis(5));
        let outcome = Outcome { failure, status: Some(status), ..outcome };
        let attempt = Attempt {
            id: self.attempts[by],
            app_id: self.app,
            message_id: self.message,
            endpoint_id: self.endpoint.id,
            number: 1,
            trigger: sendoff::domain::deliveries::attempt::Trigger::Scheduled,
            at: self.now,
            url: self.endpoint.spec.url.clone(),
            request_headers: Vec::new(),
            outcome,
            next_at: next.due(),
        };
        let disable = (deed == Deed::Refuse).then_some(DisabledReason::Gone);
        let before = sendoff::domain::deliveries::delivery::Progress::default();
        FinishedAttempt {
            org: self.tenant.org.clone(),
            attempt,
            before,
            next,
            slot: 0,
            epoch: 0,
            disable,
            rests_until: None,
        }
    }

    fn disabled(&self) -> EndpointSpec {
        EndpointSpec { disabled: true, ..self.endpoint.spec.clone() }
    }

    /// Does it to the store, and says what came of it.
    async fn to(&self, store: &Store, by: usize, deed: Deed) -> Result<String, String> {
        let (tenant, app, message, endpoint, now) = (&self.tenant, self.app, self.message, self.endpoint.id, self.now);
        Ok(match deed {
            Deed::Deliver | Deed::Fail | Deed::Refuse => {
                format!("{:?}", said(store.record(vec![self.finished(by, deed)]).await)?)
            }
            Deed::Cancel => said(store.cancel(tenant, app, (message, endpoint), now).await)?.to_string(),
            Deed::Resend => said(store.resend(tenant, app, (message, endpoint), now).await)?.to_string(),
            Deed::DeleteContent => said(store.delete_content(tenant, app, message, now).await)?.to_string(),
            Deed::DeleteEndpoint => said(store.delete_endpoint(tenant, app, endpoint, now).await)?.to_string(),
            Deed::Disable => match said(store.update_endpoint(tenant, &self.endpoint, self.disabled(), now).await)? {
                OptimisticUpdate::Updated(_) => "done".to_owned(),
                OptimisticUpdate::Stale => "stale".to_owned(),
                OptimisticUpdate::NotFound => "gone".to_owned(),
            },
            Deed::Step => format!("{:?}", said(store.step_background(self.turn, now).await)?),
        })
    }

    /// The step, which has looked and passed over what others moved on meanwhile: then it stays as they left it.
    fn pass(&self, model: &mut Model) -> String {
        let mut stepped = model.clone();
        let answer = self.to_model(&mut stepped, 1, Deed::Step);
        model.works = stepped.works;
        model.works.entry(self.work.0).and_modify(|work| work.work.sent = 0);
        answer
    }

    /// Does it to the model.
    fn to_model(&self, model: &mut Model, by: usize, deed: Deed) -> String {
        let (tenant, app, message, endpoint, now) = (&self.tenant, self.app, self.message, self.endpoint.id, self.now);
        match deed {
            Deed::Deliver | Deed::Fail | Deed::Refuse => format!("{:?}", model.record(&[self.finished(by, deed)])),
            Deed::Cancel => model.cancel(tenant, app, (message, endpoint), now).to_string(),
            Deed::Resend => model.resend(tenant, app, (message, endpoint), now).to_string(),
            Deed::DeleteContent => model.delete_content(tenant, app, message, now).to_string(),
            Deed::DeleteEndpoint => model.delete_end(tenant, app, endpoint).to_string(),
            Deed::Disable => match model.update_end(tenant, &self.endpoint, self.disabled(), now) {
                Ok(Change::Done(_)) => "done".to_owned(),
                Ok(Change::Stale) => "stale".to_owned(),
                Ok(Change::Gone) => "gone".to_owned(),
                Err(word) => word.to_owned(),
            },
            Deed::Step => {
                let stage = model.step(self.work, now);
                format!("{:?}", stage.map_or(StepResult::Lost, StepResult::Ended))
            }
        }
    }

    /// Both at once; then what the sweep and the engine would do about what may be left.
    async fn both(&self, world: &mut World, first: Deed, second: Deed) -> Checked {
        let (one, other) = two(world);
        let (a, b) = futures_util::join!(self.to(&one, 0, first), self.to(&other, 1, second));
        let answers = (a?, b?);
        said(one.end_without_content(&[self.message], self.now).await)?;
        while said(one.cancel_pending_of_deleted(10, self.now).await)? > 0 {}
        let mut differences = String::new();
        for order in [Order::Forth, Order::Back, Order::Passed] {
            let mut model = world.model.clone();
            let wanted = match order {
                Order::Forth => {
                    let a = self.to_model(&mut model, 0, first);
                    (a, self.to_model(&mut model, 1, second))
                }
                Order::Back => {
                    let b = self.to_model(&mut model, 1, second);
                    (self.to_model(&mut model, 0, first), b)
                }
                Order::Passed if second == Deed::Step && model.postgres => {
                    let a = self.to_model(&mut model, 0, first);
                    (a, self.pass(&mut model))
                }
                Order::Passed => break,
            };
            model.end_without_content(&[self.message], self.now);
            model.cancel_pending_of_deleted(self.now);
            let before = std::mem::replace(&mut world.model, model);
            let seen = if wanted == answers { self.look(world).await } else { Err(format!("{wanted:?}")) };
            world.model = before;
            match seen {
                Ok(()) => return Ok(()),
                Err(difference) => differences.push_str(&format!("\n- {difference}")),
            }
        }
        let name = world.name;
        Err(format!("{name}: {first:?} and {second:?} at once: {answers:?} is neither of the orders:{differences}"))
    }

    async fn look(&self, world: &World) -> Checked {
        for view in ["a message", "attempts", "an endpoint", "lanes", "counts", "background work"] {
            let place = super::views::VIEWS.iter().position(|name| *name == view).expect("a view");
            let look =
                Look { view: place as u8, who: Who::Owner, app: 0, thing: 0, limit: 3, newest: false, filter: 0 };
            world.view(&look).await?;
        }
        Ok(())
    }
}

/// Runs `test`, and panics with the difference that it found.
async fn hold(mut world: World, test: impl AsyncFnOnce(&mut World) -> Checked) {
    if let Err(difference) = test(&mut world).await {
        panic!("{}: {difference}", world.name);
    }
}

async fn two_deeds_at_once_come_to_one_of_their_orders(world: World) {
    hold(world, async |world| {
        for (n, first) in DEEDS.into_iter().enumerate() {
            for second in &DEEDS[n..] {
                for _ in 0..ROUNDS {
                    // The turn is one process's.
                    if first != Deed::Step {
                        let scene = scene(world).await?;
                        scene.both(world, first, *second).await?;
                    }
                }
            }
        }
        Ok(())
    })
    .await;
}
