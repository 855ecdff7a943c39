//! A process that starts with much to send: at many endpoints, and in many bytes.

use super::world::{Kind, World, master, on_both, peak_mib};
use crate::support::backlog::{customers, pending};

on_both! {
    one_pending_at_each_of_many_endpoints_is_delivered_once
    large_payloads_are_not_all_in_memory
}

/// Of a process, in MiB.
const MOST_MEMORY: u64 = 300;

async fn one_pending_at_each_of_many_endpoints_is_delivered_once(kind: Kind) {
    const APPLICATIONS: usize = 2_500;
    const ENDPOINTS: usize = 2;
    let world = World::on(kind).await;
    let made = customers(world.is_sqlite(), &master(), APPLICATIONS, ENDPOINTS, &world.receiver.url("/many"));
    world.execute(&made).await;
    world.execute(&pending(world.is_sqlite(), 1, 100)).await;
    let server = world.binary().serve();
    world.all_delivered_once(APPLICATIONS * ENDPOINTS).await;
    let peak = peak_mib(server.pid());
    assert!(peak < MOST_MEMORY, "{peak} MiB of memory");
}

async fn large_payloads_are_not_all_in_memory(kind: Kind) {
    const MESSAGES: usize = 1_000;
    const PAYLOAD: usize = 256 * 1_024 - 100;
    let world = World::on(kind).await;
    world.execute(&customers(world.is_sqlite(), &master(), 1, 1, &world.receiver.url("/large"))).await;
    world.execute(&pending(world.is_sqlite(), MESSAGES, PAYLOAD)).await;
    let server = world.binary().serve();
    world.all_delivered_once(MESSAGES).await;
    let bytes: usize = world.receiver.received().iter().map(|one| one.body.len()).sum();
    assert!(bytes >= MESSAGES * PAYLOAD, "{bytes} bytes arrived");
    let peak = peak_mib(server.pid());
    assert!(peak < MOST_MEMORY, "{peak} MiB of memory");
}
