//! Slots: who sends for which endpoints, for how long, and under which epoch.

use std::collections::BTreeSet;
use std::time::Duration;

use sendoff::domain::Time;
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::store::Store;
use sendoff::store::queue::slots::{EngineProcess, Heartbeat, Leases, ProcessView, Rank, SLOTS, slot_of};
use uuid::Uuid;

use crate::home::*;
use crate::support::on_both;

fn process(n: u128) -> EngineProcess {
    EngineProcess { id: Uuid::from_u128(n), name: format!("host-{n}"), started_at: NOW }
}

/// The database's clock, which PostgreSQL's leases go by.
async fn clock(home: &crate::home::Home) -> Time {
    let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)";
    if home.is_sqlite() { NOW } else { Time::from_micros(home.number(sql).await) }
}

async fn beat(store: &Store, process: &EngineProcess, now: Time) -> Leases {
    store.heartbeat(process, now).await.unwrap().leases
}

/// A heartbeat of each, after which it hands back what is more than its share; gives back how many slots each has left.
async fn round(store: &Store, processes: &[EngineProcess]) -> Vec<usize> {
    let mut owned = Vec::new();
    for process in processes {
        let Heartbeat { leases, rank } = store.heartbeat(process, NOW).await.unwrap();
        let surplus: Vec<u8> = leases.keys().copied().skip(rank.share()).collect();
        store.release_slots(process.id, &surplus).await.unwrap();
        owned.push(leases.len() - surplus.len());
    }
    owned
}

/// Rounds until nobody's slots change; no more than three, and all slots are owned then, evenly.
async fn settled(store: &Store, processes: &[EngineProcess]) {
    for _ in 0..2 {
        round(store, processes).await;
    }
    let owned = round(store, processes).await;
    let count = processes.len();
    assert_eq!(owned.iter().sum::<usize>(), SLOTS, "{count} processes: {owned:?}");
    assert!(
        owned.iter().all(|one| [SLOTS / count, SLOTS.div_ceil(count)].contains(one)),
        "{count} processes: {owned:?}"
    );
    assert_eq!(round(store, processes).await, owned, "nothing changes any more");
}

fn epochs(leases: &Leases) -> (usize, i64, i64) {
    (leases.len(), leases.values().copied().min().unwrap_or(0), leases.values().copied().max().unwrap_or(0))
}

on_both! {
    one_process_owns_all_and_keeps_them
    slots_that_are_handed_back_get_a_new_epoch_with_their_next_owner
    a_process_after_an_outage_takes_no_expired_slots
    a_leaving_process_keeps_its_slots_and_delays_no_other
    a_process_that_died_is_forgotten
    the_endpoints_of_a_throttled_application_share_a_slot
}

async fn one_process_owns_all_and_keeps_them(home: Home) {
    let store = &home.store;
    assert_eq!(store.shared(), !home.is_sqlite());
    let mine = beat(store, &process(1), NOW).await;
    assert_eq!(epochs(&mine), (SLOTS, 1, 1));
    assert_eq!(beat(store, &process(1), later(5)).await, mine, "no new owner, no new epoch");
    assert_eq!(
        store.heartbeat(&process(1), later(5)).await.unwrap(),
        Heartbeat { leases: mine.clone(), rank: Rank::ALONE }
    );
    home.execute("UPDATE slot SET expires_at = 1").await;
    home.execute("UPDATE process SET expires_at = 1").await;
    assert_eq!(beat(store, &process(1), later(900)).await, mine, "it ran out and nobody took it");
    let all = store.processes(later(900)).await.unwrap();
    let wanted = ProcessView { name: "host-1".into(), started_at: NOW, alive: true, slots: SLOTS as i64 };
    assert_eq!(all, std::slice::from_ref(&wanted));
    home.execute("UPDATE slot SET expires_at = 1").await;
    home.execute("UPDATE process SET expires_at = 1").await;
    let silent = ProcessView { alive: false, slots: 0, ..wanted };
    assert_eq!(store.processes(later(900)).await.unwrap(), [silent]);
}

async fn slots_that_are_handed_back_get_a_new_epoch_with_their_next_owner(home: Home) {
    let store = &home.store;
    beat(store, &process(1), NOW).await;
    store.release_slots(process(1).id, &[]).await.unwrap();
    store.release_slots(process(2).id, &[7]).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM slot WHERE owner IS NULL").await, 0, "only its own");
    store.release_slots(process(1).id, &[0, 7, 255]).await.unwrap();
    assert_eq!(home.number("SELECT sum(slot) FROM slot WHERE owner IS NULL").await, 262);
    let again = beat(store, &process(1), NOW).await;
    assert_eq!((again.len(), again[&0], again[&7], again[&255], again[&8]), (SLOTS, 2, 2, 2, 1));
    store.deregister(process(1).id).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM slot WHERE owner IS NULL").await, SLOTS as i64);
    assert!(store.processes(later(900)).await.unwrap().is_empty());
}

async fn a_process_after_an_outage_takes_no_expired_slots(home: Home) {
    let store = &home.store;
    let first = beat(store, &process(1), NOW).await;
    store.release_slots(process(1).id, &[7]).await.unwrap();
    home.execute("UPDATE slot SET expires_at = 1 WHERE owner IS NOT NULL").await;
    home.execute("UPDATE process SET expires_at = 1").await;
    if !home.is_sqlite() {
        // On SQLite there is never another process.
        let taken = store.heartbeat_after_outage(&process(2), later(900)).await.unwrap().leases;
        assert_eq!(taken, Leases::from([(7, 2)]), "only what was handed back");
    }
    let mine = store.heartbeat_after_outage(&process(1), later(900)).await.unwrap().leases;
    assert!(first.iter().filter(|(slot, _)| **slot != 7).all(|(slot, epoch)| mine.get(slot) == Some(epoch)));
    home.execute("UPDATE slot SET expires_at = 1").await;
    assert_eq!(beat(store, &process(3), later(900)).await.len(), if home.is_sqlite() { SLOTS } else { 85 });
}

async fn a_leaving_process_keeps_its_slots_and_delays_no_other(home: Home) {
    let store = &home.store;
    let mine = beat(store, &process(1), NOW).await;
    store.release_slots(process(1).id, &[7]).await.unwrap();
    home.execute("UPDATE slot SET expires_at = 1 WHERE owner IS NOT NULL").await;
    let left = store.final_heartbeat(&process(1), later(900)).await.unwrap().leases;
    assert!(left.len() == SLOTS - 1 && left.iter().all(|(slot, epoch)| mine.get(slot) == Some(epoch)));
    assert_eq!(home.number("SELECT count(*) FROM slot WHERE expires_at = 1").await, 0, "renewed");
    if !home.is_sqlite() {
        let next = store.heartbeat(&process(2), later(900)).await.unwrap();
        assert_eq!(next.leases, Leases::from([(7, 2)]), "all that is free");
        assert_eq!(next.rank, Rank::ALONE, "all of them will be its own");
    }
}

async fn a_process_that_died_is_forgotten(home: Home) {
    let store = &home.store;
    beat(store, &process(1), NOW).await;
    let at = clock(&home).await;
    store.delete_dead_processes(at.minus(Duration::from_secs(60))).await.unwrap();
    assert_eq!(store.processes(later(900)).await.unwrap().len(), 1);
    store.delete_dead_processes(at.plus(Duration::from_secs(60))).await.unwrap();
    assert!(store.processes(later(900)).await.unwrap().is_empty());
}

async fn the_endpoints_of_a_throttled_application_share_a_slot(home: Home) {
    let store = &home.store;
    let spec = ApplicationSpec { throttle_rate: Some(10), ..app_spec("throttled") };
    let throttled = store.create_application(&tenant(), spec, NOW).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(endpoint(store, throttled.id, endpoint_spec()).await.id);
    }
    let lives = store.live_endpoints(&ids).await.unwrap();
    assert_eq!(lives.len(), 5);
    assert!(lives.iter().all(|live| slot_of(live) == throttled.id.0.as_bytes()[15]
        && live.app_rate.is_some_and(|rate| rate.per_second == 10)));
    assert!(
        lives.iter().all(|live| live.app_rate.is_some_and(|rate| rate.slots == 1)),
        "all of the rate is for this slot"
    );
    for _ in 0..62 {
        ids.push(endpoint(store, throttled.id, endpoint_spec()).await.id);
    }
    let lives = store.live_endpoints(&ids).await.unwrap();
    let slots: BTreeSet<u8> = lives.iter().map(|live| slot_of(live)).collect();
    assert_eq!((lives.len(), slots.len()), (67, 2), "64 of them share a slot");
    assert!(
        lives.iter().all(|live| live.app_rate.is_some_and(|rate| rate.slots == 2)),
        "each slot has half of the rate"
    );
    let (_, free) = customer(store, "free").await;
    let live = store.live_endpoints(&[free.id]).await.unwrap().remove(0);
    assert_eq!(slot_of(&live), free.app_id.0.as_bytes()[15]);
}

#[tokio::test]
async fn the_next_process_on_a_file_takes_over_at_once() {
    let home = Home::sqlite().await;
    beat(&home.store, &process(1), NOW).await;
    // It crashed: its lease has not run out, but the file's lock is free, or the next one would not be here.
    let Heartbeat { leases: next, rank } = home.store.heartbeat(&process(2), later(1)).await.unwrap();
    assert_eq!(epochs(&next), (SLOTS, 2, 2));
    assert_eq!(rank, Rank::ALONE, "nothing is handed back to the dead");
}

#[tokio::test]
async fn several_processes_share_and_the_database_says_when_a_lease_is_over() {
    let home = Home::postgres().await;
    let (one, two, three) = (process(1), process(2), process(3));
    let there = home.another().await;
    let first = beat(&home.store, &one, NOW).await;
    assert!(beat(&there, &two, NOW).await.is_empty(), "everything has an owner");
    // Whatever a process believes the time to be.
    assert!(beat(&there, &two, later(1_000_000_000)).await.is_empty());
    let rank = there.heartbeat(&two, NOW).await.unwrap().rank;
    assert_eq!((rank, rank.share()), (Rank { index: 1, of: 2 }, 128));
    let surplus: Vec<u8> = first.keys().copied().skip(128).collect();
    home.store.release_slots(one.id, &surplus).await.unwrap();
    assert_eq!(epochs(&beat(&there, &two, NOW).await), (128, 2, 2));
    assert_eq!(epochs(&beat(&home.store, &one, NOW).await), (128, 1, 1));

    home.execute("UPDATE slot SET expires_at = 1 WHERE owner = '00000000-0000-0000-0000-000000000001'").await;
    home.execute("UPDATE process SET expires_at = 1 WHERE name = 'host-1'").await;
    assert_eq!(epochs(&beat(&there, &two, NOW).await), (SLOTS, 2, 2));
    assert!(beat(&home.store, &one, NOW).await.is_empty(), "too late: it has to wait its turn");

    // Newcomers that come in the same moment take different ones.
    there.deregister(two.id).await.unwrap();
    home.store.deregister(one.id).await.unwrap();
    let (a, b, c) =
        tokio::join!(async { beat(&home.store, &one, NOW).await }, async { beat(&there, &two, NOW).await }, async {
            beat(&there, &three, NOW).await
        },);
    let mut all: Vec<u8> = a.keys().chain(b.keys()).chain(c.keys()).copied().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "a slot has one owner");
}

#[tokio::test]
async fn however_many_processes_come_and_go_each_has_its_share() {
    let home = Home::postgres().await;
    let store = &home.store;
    let mut processes: Vec<EngineProcess> = Vec::new();
    for count in 1..=12 {
        processes.push(process(count));
        settled(store, &processes).await;
    }
    processes.extend((13..=50).map(process));
    settled(store, &processes).await;

    // One leaves, the first and the last one; one dies.
    for gone in [48, 20, 0] {
        store.deregister(processes.remove(gone).id).await.unwrap();
        settled(store, &processes).await;
    }
    let dead = processes.remove(7);
    home.execute(&format!("UPDATE slot SET expires_at = 1 WHERE owner = '{}'", dead.id)).await;
    home.execute(&format!("UPDATE process SET expires_at = 1 WHERE id = '{}'", dead.id)).await;
    settled(store, &processes).await;
}
