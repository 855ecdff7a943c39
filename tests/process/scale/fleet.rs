//! Several processes on one PostgreSQL share its slots evenly.

use super::world::{Kind, World};
use crate::support::{SOON, eventually};

const PROCESSES: i64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_idle_process_of_eight_owns_its_share_of_the_slots() {
    let world = World::on(Kind::Postgres).await;
    let _servers: Vec<_> = (0..PROCESSES).map(|_| world.binary().serve()).collect();
    let share = 256 / PROCESSES;
    let owners = format!(
        "SELECT count(*) FROM (SELECT owner FROM slot WHERE owner IS NOT NULL GROUP BY owner HAVING count(*) = {share}) AS owners"
    );
    let even = async || (world.number(&owners).await == PROCESSES).then_some(());
    eventually("every process owns 32 slots", SOON * 3, even).await;
    assert_eq!(world.number("SELECT count(*) FROM process").await, PROCESSES);
}
