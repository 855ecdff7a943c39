//! Background work: what a customer has sent again arrives, at the endpoint's pace and beside what is new; a kill -9 loses nothing of
//! it and does nothing twice.

use std::collections::HashSet;
use std::time::Duration;

use sendoff::domain::TimeRange;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::{DeliveryState, DeliveryStatus};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::time::Clock;
use sendoff::domain::{BackgroundId, Time};
use sendoff::store::jobs::background::{Background, BackgroundSpec, StartResult, TaskSelection};
use sendoff::store::query::endpoint_messages::{DeliveryStatusCounts, EndpointMessageFilter};
use sqlx::{AssertSqlSafe, Connection};

use crate::support::server::MASTER_KEY;
use crate::support::{Answer, Binary, Database, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both};

on_both! {
    dead_deliveries_are_resent_and_missed_messages_are_sent
    new_messages_do_not_wait_behind_resent_ones
    a_kill_loses_nothing_and_does_nothing_twice
}

/// An endpoint that is tried once and no more.
fn once(url: String) -> EndpointSpec {
    let never = Some(RetrySchedule::new("retrySchedule", vec![]).unwrap());
    EndpointSpec { url, retry_schedule: never, ..EndpointSpec::default() }
}

async fn begin(world: &World, endpoint: &Endpoint, work: TaskKind) -> BackgroundId {
    let standings = if work == TaskKind::Recover { vec![DeliveryStatus::Dead] } else { Vec::new() };
    let filter = EndpointMessageFilter {
        standings,
        accepted: TimeRange { since: world.app.created_at, until: Clock.now() },
        ..EndpointMessageFilter::default()
    };
    let scope = TaskScope::Endpoint(world.app.id, endpoint.id);
    let spec = BackgroundSpec {
        kind: work,
        scope,
        selection: TaskSelection::Messages(filter),
        by: "a test".into(),
        total: None,
    };
    match world.store.start_background(&world.tenant, spec, Clock.now()).await {
        Ok(StartResult::Started(work)) => work.id,
        other => panic!("{other:?}"),
    }
}

async fn look(world: &World, id: BackgroundId) -> Background {
    world.store.background(&world.tenant, id).await.unwrap().unwrap()
}

async fn until_finished(world: &World, id: BackgroundId) -> Background {
    eventually("the work is finished", SOON, async || {
        let work = look(world, id).await;
        assert_ne!(work.stage, TaskStage::Failed, "{work:?}");
        (work.stage == TaskStage::Finished).then_some(work)
    })
    .await
}

async fn until_standing(world: &World, endpoint: &Endpoint, wanted: impl Fn(&DeliveryStatusCounts) -> bool) {
    eventually("how the deliveries stand", 3 * SOON, async || {
        let all = world
            .store
            .delivery_status_counts(&world.tenant, world.app.id, endpoint.id, Time::ZERO, Time::MAX)
            .await
            .unwrap();
        wanted(&all).then_some(())
    })
    .await
}

async fn dead_deliveries_are_resent_and_missed_messages_are_sent(kind: Kind) {
    let world = World::busy(kind).await;
    let missed = world.send("{\"n\": 0}").await;
    let receiver = Receiver::start(|_| Answer::status(500));
    let (endpoint, _) = world.endpoint_with(once(receiver.url("/"))).await;
    let dead = world.send("{\"n\": 1}").await;
    world.until(dead.id, DeliveryState::Dead).await;
    receiver.answer_with(|_| Answer::ok());

    let work = until_finished(&world, begin(&world, &endpoint, TaskKind::Recover).await).await;
    assert_eq!((work.looked, work.sent), (1, 1));
    world.until(dead.id, DeliveryState::Delivered).await;
    let attempts = world.attempts(dead.id).await;
    assert_eq!(attempts.iter().map(|a| (a.number, a.trigger.code())).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    assert!(world.deliveries(missed.id).await.is_empty());
    let work = until_finished(&world, begin(&world, &endpoint, TaskKind::ReplayMissing).await).await;
    assert_eq!((work.looked, work.sent), (2, 1));
    world.until(missed.id, DeliveryState::Delivered).await;
    let received: Vec<String> = receiver.received().iter().map(|one| one.text()).collect();
    assert_eq!(received, ["{\"n\": 1}", "{\"n\": 1}", "{\"n\": 0}"]);
}

async fn new_messages_do_not_wait_behind_resent_ones(kind: Kind) {
    const COUNT: usize = 200;
    let world = World::busy(kind).await;
    for _ in 0..COUNT {
        world.send("{}").await;
    }
    let receiver = Receiver::ok();
    let spec = EndpointSpec { throttle_rate: Some(50), ..once(receiver.url("/")) };
    let (endpoint, _) = world.endpoint_with(spec).await;
    let work = until_finished(&world, begin(&world, &endpoint, TaskKind::ReplayMissing).await).await;
    assert_eq!(work.sent, COUNT as i64);
    let new = world.send("{\"new\": true}").await;
    world.until(new.id, DeliveryState::Delivered).await;
    let all = receiver.wait_for(COUNT + 1, SOON).await;
    let place = all.iter().position(|one| one.text().contains("new")).unwrap();
    assert!(place < COUNT / 2, "it came as number {place} of {}", all.len());
    // What is sent again keeps to the rate: a burst of 5, and then 50 a second.
    let took = all[COUNT].instant - all[0].instant;
    assert!(took >= Duration::from_millis((COUNT as u64 - 5) * 20 * 9 / 10), "{took:?}");
}

async fn a_kill_loses_nothing_and_does_nothing_twice(kind: Kind) {
    const COUNT: i64 = 3_000;
    let Database { url, file } = Database::on(kind);
    let world = World::at_with(&url, file, MasterKey::parse(MASTER_KEY).unwrap()).await;
    let receiver = Receiver::start(|_| Answer::status(500));
    let (endpoint, _) = world.endpoint_with(once(receiver.url("/"))).await;
    let sends = (0..COUNT).map(|_| world.send("{}"));
    futures_util::future::join_all(sends).await;
    let server = Binary::on(&url).serve();
    until_standing(&world, &endpoint, |all| all.dead == COUNT).await;

    receiver.answer_with(|_| Answer::ok());
    let id = begin(&world, &endpoint, TaskKind::Recover).await;
    eventually("a step", SOON, async || (look(&world, id).await.sent > 0).then_some(())).await;
    let binary = server.kill();
    let work = look(&world, id).await;
    assert!(work.stage == TaskStage::Running && (1..COUNT).contains(&work.sent), "killed in the middle: {work:?}");
    assert_eq!(
        number(&url, "SELECT count(*) FROM delivery WHERE generation = 1").await,
        work.sent,
        "what it says is so"
    );

    let _server = binary.serve();
    let work = until_finished(&world, id).await;
    assert_eq!((work.looked, work.sent), (COUNT, COUNT));
    until_standing(&world, &endpoint, |all| all.delivered == COUNT).await;
    assert_eq!(number(&url, "SELECT count(*) FROM delivery WHERE generation <> 1").await, 0, "each once, and no more");
    let received = receiver.received();
    let ids: HashSet<&str> = received.iter().map(|one| one.header("webhook-id").unwrap()).collect();
    assert_eq!(ids.len(), COUNT as usize);
}

/// The one number that `sql` gives.
pub async fn number(url: &str, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        return sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    }
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query("SET search_path = sendoff").execute(&mut connection).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}
