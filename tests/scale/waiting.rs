//! A process that starts with much to send: at many endpoints, and in many bytes.

use crate::house::{House, Kind, master, on_both, peak_mib};
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
    let house = House::on(kind).await;
    let made = customers(house.is_sqlite(), &master(), APPLICATIONS, ENDPOINTS, &house.receiver.url("/many"));
    house.execute(&made).await;
    house.execute(&pending(house.is_sqlite(), 1, 100)).await;
    let server = house.binary().serve();
    house.all_delivered_once(APPLICATIONS * ENDPOINTS).await;
    let peak = peak_mib(server.pid());
    assert!(peak < MOST_MEMORY, "{peak} MiB of memory");
}

async fn large_payloads_are_not_all_in_memory(kind: Kind) {
    const MESSAGES: usize = 1_000;
    const PAYLOAD: usize = 256 * 1_024 - 100;
    let house = House::on(kind).await;
    house.execute(&customers(house.is_sqlite(), &master(), 1, 1, &house.receiver.url("/large"))).await;
    house.execute(&pending(house.is_sqlite(), MESSAGES, PAYLOAD)).await;
    let server = house.binary().serve();
    house.all_delivered_once(MESSAGES).await;
    let bytes: usize = house.receiver.received().iter().map(|one| one.body.len()).sum();
    assert!(bytes >= MESSAGES * PAYLOAD, "{bytes} bytes arrived");
    let peak = peak_mib(server.pid());
    assert!(peak < MOST_MEMORY, "{peak} MiB of memory");
}
