//! Many processes on one PostgreSQL: they share the work, each endpoint has one owner, and who dies, joins or is stopped costs nothing.

use std::time::{Duration, Instant};

use crate::ledger::{WIDE, note};
use crate::load::Load;
use crate::support::eventually;
use crate::world::{Kind, REST, World};

/// Another process serves the endpoints of one that died within this.
const TAKEN_OVER: Duration = Duration::from_secs(15);
/// Between two events to all of the wide application's endpoints.
const WIDE_PACE: Duration = Duration::from_millis(60);

impl World {
    /// How many slots each process has that is alive, the fewest first; 256 in all once nobody is between two owners.
    async fn shares(&self) -> Vec<i64> {
        const SQL: &str = "SELECT count(*) FROM slot JOIN process ON process.id = slot.owner
             WHERE slot.expires_at > EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 GROUP BY owner ORDER BY 1";
        self.books.numbers(SQL).await
    }

    /// Waits until so many processes have an even share; gives back how long that took.
    async fn shared_by(&self, processes: usize) -> Duration {
        let began = Instant::now();
        let even = |shares: &[i64]| {
            shares.len() == processes && shares.iter().sum::<i64>() == 256 && shares[processes - 1] - shares[0] <= 3
        };
        eventually(&format!("{processes} processes share the slots"), REST, async || {
            even(&self.shares().await).then_some(())
        })
        .await;
        began.elapsed()
    }

    /// Waits until every endpoint of the wide application has got something that was accepted after `since`.
    async fn served_since(&self, since: Instant, within: Duration) {
        eventually("every endpoint is served again", within, async || {
            let first = self.ledger.first_since(since);
            WIDE.iter().all(|path| first.contains_key(*path)).then_some(())
        })
        .await;
    }

    /// Waits until one more event is acknowledged.
    async fn acknowledgement(&self) {
        let before = self.ledger.acknowledged();
        eventually("an event is acknowledged", REST, async || (self.ledger.acknowledged() > before).then_some(()))
            .await;
    }
}

async fn fleet(apis: usize, workers: usize) -> World {
    let mut world = World::on(Kind::Postgres);
    (0..apis).for_each(|_| _ = world.start("api"));
    (0..workers).for_each(|_| _ = world.start("worker"));
    world.call("/app/", serde_json::json!({"name": "Chaos", "uid": "chaos"})).await;
    world.furnish_for("chaos", "wide", None).await;
    world.spread().await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_workers_share_and_stand_in_for_each_other() {
    let mut world = fleet(2, 3).await;
    world.shared_by(3).await;
    let load = Load::tick(&world.sender, "wide", WIDE_PACE);
    world.progress(50).await;
    // Joining, under load.
    let fourth = world.start("worker");
    let joined = world.shared_by(4).await;
    world.progress(50).await;
    assert!(joined < TAKEN_OVER, "a worker that joins has its share: {joined:?}");
    for process in world.up().into_iter().filter(|process| world.role(*process) == "worker").collect::<Vec<_>>() {
        let metrics = world.server(process).get("/metrics");
        assert!(metrics.contains("sendoff_attempts_total{outcome=\"delivered\"}"), "it sends:\n{metrics}");
    }
    let toll = world.ledger.judge(&world.books.entries().await);
    assert_eq!(toll.duplicates, 0, "whoever hands over has finished before");
    // Leaving without a word, and nobody helps.
    let died = Instant::now();
    world.kill_and_wait(fourth).await;
    // What was accepted before and acknowledged after it died may have been its own: it does not count.
    world.acknowledgement().await;
    world.served_since(Instant::now(), TAKEN_OVER).await;
    let served = died.elapsed();
    assert!(served < TAKEN_OVER, "all endpoints were served again after {served:?}");
    world.shared_by(3).await;
    load.end().await;
    world.judge("a worker joins 3, another is killed and not replaced", 1).await;
    note(&format!("  the newcomer had its share after {joined:?}; all endpoints were served again after {served:?}"));
}

/// `point`: stopped there in the middle of a transaction, with its locks.
async fn stopped_beyond_its_lease(fault: &str, point: Option<&str>) {
    let mut world = fleet(1, 1).await;
    let worker = match point {
        Some(point) => world.start_armed("worker", &format!("{point}:STOP")),
        None => world.start("worker"),
    };
    let load = Load::tick(&world.sender, "wide", WIDE_PACE);
    if point.is_none() {
        world.shared_by(2).await;
        world.progress(50).await;
        world.server(worker).signal("STOP");
    }
    let pid = world.server(worker).pid();
    eventually("the process is stopped", REST, async || stopped(pid).then_some(())).await;
    let since = Instant::now();
    // What it has begun it finishes when it goes on, late: all that is pending now may be that.
    let pending = world.books.pending().await;
    world.ledger.suspend(pending);
    world.acknowledgement().await;
    world.served_since(Instant::now(), TAKEN_OVER).await;
    let served = since.elapsed();
    assert!(served < TAKEN_OVER, "all endpoints were served again after {served:?}");
    load.end().await;
    eventually("the others have done it all", REST, async || (world.books.waiting().await == Some(0)).then_some(()))
        .await;
    let mut before = world.books.entries().await;
    world.server(worker).signal("CONT");
    // It has said all it had to say once it has its share again.
    world.shared_by(2).await;
    let mut after = world.books.entries().await;
    before.sort_by(|one, other| one.pair.cmp(&other.pair));
    after.sort_by(|one, other| one.pair.cmp(&other.pair));
    assert_eq!(before, after, "what others did meanwhile stands");
    world.judge(fault, 1).await;
    note(&format!("  all endpoints were served again after {served:?}"));
}

/// Whether a process is stopped, by the system's own account.
fn stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_paused_beyond_its_lease_changes_nothing_afterwards() {
    stopped_beyond_its_lease("a worker stopped beyond its lease, and continued", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_stopped_while_it_records_keeps_nobody_waiting() {
    let fault = "the same, stopped within the transaction of a record";
    stopped_beyond_its_lease(fault, Some("record.before:5")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_a_worker_stopped_while_it_renews_keeps_nobody_waiting() {
    let fault = "the same, stopped within the transaction of a heartbeat";
    stopped_beyond_its_lease(fault, Some("lease.before:4")).await;
}

/// The most that arrived in any second.
fn most_in_a_second(times: &[Instant]) -> usize {
    let within =
        |start: &Instant| times.iter().filter(|at| **at >= *start && at.duration_since(*start).as_secs() < 1).count();
    times.iter().map(within).max().unwrap_or(0)
}

/// An endpoint's rate, and an application's that its endpoints share: with two APIs that accept, workers that send, and one that joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_hold_across_processes() {
    let mut world = fleet(2, 3).await;
    world.furnish_for("chaos", "paced", Some(50)).await;
    world.call("/app/", serde_json::json!({"name": "Shared", "uid": "shared", "throttleRate": 50})).await;
    world.furnish_for("shared", "shared", None).await;
    world.shared_by(3).await;
    let mut sends = Vec::new();
    for n in 0..450 {
        let (sender, (key, _)) = (world.sender.clone(), world.sender.next());
        let (app, event_type) = if n % 3 == 0 { ("shared", "shared") } else { ("chaos", "paced") };
        sends.push(tokio::spawn(async move { sender.send(app, &key, event_type).await }));
    }
    for send in sends {
        send.await.expect("it is sent");
    }
    world.start("worker");
    world.shared_by(4).await;
    let toll = world.judge("no fault: 4 workers and a rate of 50/s", 1).await;
    assert_eq!(toll.duplicates, 0);
    for (what, prefix) in [("an endpoint", "/paced"), ("an application of three endpoints", "/shared")] {
        let times = world.ledger.arrivals(prefix);
        let (most, took) = (most_in_a_second(&times), times[times.len() - 1] - times[0]);
        note(&format!("  {what} at 50/s: {} requests in {took:.1?}, at most {most} in a second", times.len()));
        assert!(most <= 55, "{what}: {most} in a second");
        // A change of owner costs a little; a limit that is never reached would be none.
        assert!(took < Duration::from_secs(times.len() as u64 / 50 + 6), "{what}: {took:?}");
    }
}

/// What the API accepted is announced to the worker; where the announcement is lost, its scan finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_accepted_by_others_arrive_at_once_or_with_the_next_scan() {
    let mut world = fleet(1, 1).await;
    world.shared_by(1).await;
    let told = one_by_one(&world, 60).await;
    let cut = {
        let books = world.books.clone();
        tokio::spawn(async move {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
            let mut connection = books.postgres().await.expect("the store answers");
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            loop {
                beat.tick().await;
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("the store answers");
            }
        })
    };
    let cut_off = one_by_one(&world, 40).await;
    cut.abort();
    // The listener's own server process hangs: what is announced is lost, and nobody hears so.
    let mut pids = Vec::new();
    eventually("it listens again", REST, async || {
        pids = world.books.numbers(LISTENING).await;
        (!pids.is_empty()).then_some(())
    })
    .await;
    pids.iter().for_each(|pid| signal(*pid, "STOP"));
    let untold = one_by_one(&world, 40).await;
    pids.iter().for_each(|pid| signal(*pid, "CONT"));
    world.judge("NOTIFY lost: the listening connection cut, then hanging", 1).await;
    let shown = |all: &[Duration]| format!("{:.1?} (at most {:.1?})", all[all.len() / 2], all[all.len() - 1]);
    note(&format!(
        "  from 202 to receipt by another process: {}; connection cut over and over: {}; hanging: {}",
        shown(&told),
        shown(&cut_off),
        shown(&untold)
    ));
    assert!(told[told.len() / 2] < Duration::from_millis(100), "announced: {}", shown(&told));
    // A scan takes no more than a tenth of the time: where the machine is busy, the next one is a little later.
    let scanned = Duration::from_millis(250 + 750);
    assert!(cut_off[39] < scanned && untold[39] < scanned, "found with a scan: {} {}", shown(&cut_off), shown(&untold));
}

/// Not one that was cut at this moment.
const LISTENING: &str = "SELECT CAST(pid AS bigint) FROM pg_stat_activity
     WHERE query LIKE 'LISTEN%' AND backend_start < now() - interval '500 ms'";

fn signal(pid: i64, name: &str) {
    let done = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "kill -{name} {pid}, a server process of ours: only its user or root may"
    );
}

/// Sends events, each once the one before has arrived; gives back how long they took, the shortest first.
async fn one_by_one(world: &World, count: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..count {
        let (key, _) = world.sender.next();
        let arrived = world.ledger.arrivals("/w/0").len();
        world.sender.send("chaos", &key, "wide").await;
        let accepted = Instant::now();
        eventually("it arrives", REST, async || (world.ledger.arrivals("/w/0").len() > arrived).then_some(())).await;
        took.push(world.ledger.arrivals("/w/0")[arrived].saturating_duration_since(accepted));
    }
    took.sort();
    took
}
