//! The store fails: it is stopped, its disk is full, its disk does not take what is written.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ledger::note;
use crate::strace::Injected;
use crate::support::{Durability, Postgres, SOON, eventually};
use crate::world::{Kind, REST, World};

/// So soon after the store is back, events are accepted and delivered again.
const BACK: Duration = Duration::from_secs(3);

impl World {
    /// While the store is away: waits until somebody was refused.
    pub async fn refusal(&self) {
        let before = self.ledger.refused();
        eventually("an event is refused", REST, async || (self.ledger.refused() > before).then_some(())).await;
    }

    /// After the store is back: measures until an event is accepted, and until one that was accepted since has arrived.
    pub async fn recovery(&mut self, what: &str) -> Duration {
        let back = Instant::now();
        let acknowledged = self.ledger.acknowledged();
        eventually("events are accepted again", SOON, async || {
            (self.ledger.acknowledged() > acknowledged + 5).then_some(())
        })
        .await;
        let accepted = back.elapsed();
        eventually("events arrive again", SOON, async || {
            self.ledger.first_since(back).contains_key("/a").then_some(())
        })
        .await;
        let arrived = back.elapsed();
        self.all_up();
        assert!(arrived < BACK, "{what}: back after {accepted:?} (accepted) and {arrived:?} (arrived)");
        arrived
    }
}

async fn stopped_and_started(runs: usize) {
    let postgres = Postgres::start(Durability::On);
    let mut world = World::at(Kind::Postgres, &postgres.fresh_database(), None);
    ["all", "worker"].into_iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    let load = world.load();
    let mut longest = Duration::ZERO;
    for _ in 0..runs {
        world.progress(40).await;
        postgres.crash();
        world.refusal().await;
        postgres.restart();
        world.strike().await;
        longest = longest.max(world.recovery("PostgreSQL is back").await);
    }
    load.end().await;
    let toll = world.judge("PostgreSQL stopped (`-m immediate`) and started", runs).await;
    note(&format!("  back within {longest:?} at the longest"));
    assert_eq!(toll.duplicates, 0, "what was answered while it was away is held, and recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_is_stopped_and_started_under_load() {
    stopped_and_started(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_postgres_is_stopped_and_started_twenty_times() {
    stopped_and_started(20).await;
}

/// Longer than leases last: both processes have stopped sending by then, and neither takes what the other still has results of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_longer_than_the_leases_takes_nothing_from_anybody() {
    let postgres = Postgres::start(Durability::On);
    let mut world = World::at(Kind::Postgres, &postgres.fresh_database(), None);
    ["all", "worker"].into_iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    let load = world.load();
    world.progress(60).await;
    postgres.crash();
    let away = Instant::now();
    eventually("the leases have run out", REST, async || (away.elapsed() > Duration::from_secs(13)).then_some(()))
        .await;
    postgres.restart();
    world.strike().await;
    let back = world.recovery("PostgreSQL is back").await;
    load.end().await;
    let toll = world.judge("PostgreSQL away for 13 s, longer than the leases", 1).await;
    note(&format!("  back within {back:?}"));
    assert_eq!(toll.duplicates, 0, "what was answered while it was away is held, and recorded");
}

/// A small disk of its own. Only root may mount one.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn of(megabytes: usize) -> Disk {
        let folder = TempDir::with_prefix("sendoff-disk-").expect("a temporary folder");
        let disk = Disk { folder };
        let size = format!("size={megabytes}m,mode=0777");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.folder.path()).status();
        let mounted = done.is_ok_and(|status| status.success());
        assert!(
            mounted,
            "a full disk is tried out on a small tmpfs, which only root may mount (in a container: with CAP_SYS_ADMIN)"
        );
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes until nothing more goes in. What is freed a moment later by others is taken as well.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.path("filler")).expect("a file");
        let block = [0u8; 64 * 1024];
        while file.write(&block).is_ok_and(|written| written > 0) {}
        while file.write(&block[..512]).is_ok_and(|written| written > 0) {}
    }

    fn free(&self) {
        std::fs::remove_file(self.path("filler")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Full for a while, several times over.
async fn full(world: &mut World, disk: &Disk, runs: usize) {
    let load = world.load();
    let mut longest = Duration::ZERO;
    for _ in 0..runs {
        world.progress(40).await;
        // What is freed by others is filled again, until somebody is refused.
        let before = world.ledger.refused();
        eventually("an event is refused", REST, async || {
            disk.fill();
            (world.ledger.refused() > before).then_some(())
        })
        .await;
        world.refusal().await;
        world.all_up();
        disk.free();
        world.strike().await;
        longest = longest.max(world.recovery("there is room again").await);
    }
    load.end().await;
    note(&format!("  back within {longest:?} at the longest"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_and_loses_nothing_on_sqlite() {
    let disk = Disk::of(24);
    let url = format!("sqlite:{}", disk.path("sendoff.db").display());
    let mut world = World::at(Kind::Sqlite, &url, None);
    world.start("all");
    world.furnish().await;
    full(&mut world, &disk, 3).await;
    let toll = world.judge("disk full, and freed", 3).await;
    assert_eq!(toll.duplicates, 0, "what was answered while it was full is held, and recorded");
}

/// The database lies in a tablespace on the small disk. (A server whose WAL has no room stops itself: that is the fault above.)
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_and_loses_nothing_on_postgres() {
    let disk = Disk::of(48);
    let postgres = Postgres::start(Durability::On);
    std::fs::create_dir(disk.path("space")).expect("a folder");
    std::fs::set_permissions(disk.path("space"), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let owner = Command::new("chown").arg("--reference").arg(postgres.folder()).arg(disk.path("space")).status();
    assert!(owner.is_ok_and(|status| status.success()), "the folder is given to the server's user");
    postgres.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path("space").display()));
    let url = postgres.fresh_database();
    let name = url.rsplit('/').next().expect("a name");
    postgres.execute(&format!("ALTER DATABASE {name} SET TABLESPACE small"));
    let mut world = World::at(Kind::Postgres, &url, None);
    ["all", "worker"].into_iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    full(&mut world, &disk, 3).await;
    let toll = world.judge("disk full, and freed", 3).await;
    assert_eq!(toll.duplicates, 0, "what was answered while it was full is held, and recorded");
    drop(world);
    drop(postgres);
}

async fn failing_on_sqlite(fault: &str, calls: &str, error: &str) {
    let mut world = World::on(Kind::Sqlite);
    let process = world.start("all");
    world.furnish().await;
    let load = world.load();
    for _ in 0..3 {
        world.progress(40).await;
        let pid = world.server(process).pid();
        let mut injected = Injected::into(&[pid], calls, error, None);
        world.refusal().await;
        world.refusal().await;
        assert!(injected.lasts(), "strace was attached all the time");
        world.all_up();
        drop(injected);
        world.strike().await;
        world.recovery("the disk writes again").await;
    }
    load.end().await;
    let toll = world.judge(fault, 3).await;
    assert_eq!(toll.duplicates, 0, "what was answered meanwhile is held, and recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_fsync_that_fails_refuses_and_loses_nothing_on_sqlite() {
    failing_on_sqlite("`fsync` fails (EIO)", "fsync,fdatasync", "EIO").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_that_fails_refuses_and_loses_nothing_on_sqlite() {
    failing_on_sqlite("`pwrite` fails (EIO)", "pwrite64", "EIO").await;
}

/// PostgreSQL does not go on after an fsync of its WAL has failed: it ends all connections and recovers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_fsync_that_fails_refuses_and_loses_nothing_on_postgres() {
    let postgres = Postgres::start(Durability::On);
    let mut world = World::at(Kind::Postgres, &postgres.fresh_database(), None);
    ["all", "worker"].into_iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    let load = world.load();
    for _ in 0..3 {
        world.progress(40).await;
        let backends = "SELECT CAST(pid AS bigint) FROM pg_stat_activity WHERE application_name = 'sendoff'";
        let pids: Vec<u32> = world.books.numbers(backends).await.into_iter().map(|pid| pid as u32).collect();
        let injected = Injected::into(&pids, "fsync,fdatasync", "EIO", Some(1));
        world.refusal().await;
        drop(injected);
        eventually("PostgreSQL is back", SOON, async || world.books.waiting().await).await;
        world.strike().await;
        world.recovery("PostgreSQL has recovered").await;
    }
    load.end().await;
    let toll = world.judge("`fdatasync` of the WAL fails (EIO)", 3).await;
    assert_eq!(toll.duplicates, 0, "what was answered meanwhile is held, and recorded");
}
