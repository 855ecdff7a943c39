//! Somebody sets the machine's clock while it runs: by an hour, by a year, forward and back. Only the wall clock: the uptime goes on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::ledger::note;
use crate::support::{SOON, eventually};
use crate::world::{Kind, World};

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
/// Between the two attempts at what fails first.
const WAIT: Duration = Duration::from_secs(6);
/// The earliest that a second attempt may come: with all of the jitter, and a time that is drawn forward by a tenth.
const EARLIEST: Duration = Duration::from_millis(6_000 * 8 / 10 * 9 / 10);
/// And the latest, on a machine that has other things to do as well.
const LATEST: Duration = Duration::from_secs(15);

/// The wall clocks of some processes: `clock.c` stands between.
struct SetClock {
    ahead: File,
    _folder: TempDir,
}

impl SetClock {
    /// The clocks of what the world starts from now on.
    fn of(world: &mut World) -> SetClock {
        let folder = TempDir::with_prefix("sendoff-clock-").expect("a temporary folder");
        let library = folder.path().join("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/clock.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.is_ok_and(|status| status.success()), "a C compiler (`cc`) builds {source}");
        let path = folder.path().join("ahead");
        let ahead = File::create(&path).expect("a file");
        world.set("LD_PRELOAD", library.display().to_string());
        world.set("SENDOFF_TEST_CLOCK", path.display().to_string());
        let clock = SetClock { ahead, _folder: folder };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the true time.
    fn set(&self, seconds: i64) {
        self.ahead.write_at(&seconds.to_ne_bytes(), 0).expect("it is written");
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

async fn set_while_it_runs(kind: Kind) {
    let mut world = World::on(kind);
    let clock = SetClock::of(&mut world);
    world.set("SENDOFF_RETRY_SCHEDULE", "6s");
    // Short, so that a year would be the end of everything.
    world.set("SENDOFF_RETENTION", "1d");
    world.set("SENDOFF_ENDPOINT_DISABLE_AFTER", "1d");
    world.start("all");
    world.use_key();
    world.furnish().await;
    let (mut earliest, mut latest, mut fresh) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
    let offsets = [HOUR, 0, YEAR, 0, -HOUR, -YEAR, 0];
    for offset in offsets {
        let mut waiting = Vec::new();
        for event_type in ["flaky", "flaky", "flaky", "flaky", "dying"] {
            let (key, _) = world.sender.next();
            world.sender.send("chaos", &key, event_type).await;
            if event_type == "flaky" {
                waiting.push(key);
            }
        }
        let attempts = |key: &str| world.ledger.receipts("/flaky", key);
        eventually("the first attempts are made", SOON, async || {
            waiting.iter().all(|key| attempts(key).len() == 1).then_some(())
        })
        .await;
        clock.set(offset);
        let set = Instant::now();
        // Longer than the time between two looks at the wall clock, which notice it.
        eventually("it is noticed", SOON, async || (set.elapsed() > Duration::from_millis(1_500)).then_some(())).await;
        for _ in 0..5 {
            let (key, _) = world.sender.next();
            let sent = Instant::now();
            world.sender.send("chaos", &key, "t").await;
            let receipt =
                eventually("a fresh event arrives", SOON, async || world.ledger.receipts("/a", &key).first().cloned())
                    .await;
            fresh = fresh.max(receipt.at - sent);
            let off = receipt.stamp - (now() + offset);
            assert!(off.abs() < 60, "receivers are told the machine's time: {off} s off after {offset:+} s");
        }
        for key in &waiting {
            let taken = eventually("the second attempt is made", SOON, async || attempts(key).get(1).cloned()).await;
            let wait = taken.at - attempts(key)[0].at;
            (earliest, latest) = (earliest.min(wait), latest.max(wait));
            assert!(wait > EARLIEST, "after {offset:+} s a retry came early: after {wait:?}");
            assert!(wait < LATEST, "after {offset:+} s a retry came late: after {wait:?}");
        }
    }
    let toll = world.judge("the wall clock is set by ±1 h and ±1 year", offsets.len()).await;
    note(&format!(
        "  retries, due after {WAIT:?} ±20 %, came after {earliest:.1?} to {latest:.1?}; fresh events took {fresh:.0?} at most"
    ));
    assert_eq!((toll.accepted, toll.duplicates), (offsets.len() * 10, 0), "nothing was deleted, nothing sent twice");
    assert_eq!(world.books.number("SELECT count(*) FROM endpoint WHERE disabled").await, 0, "nobody failed for a day");
    assert_eq!(world.books.number("SELECT count(*) FROM message").await, toll.accepted as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_is_set_fires_nothing_early_and_holds_nothing_up_on_sqlite() {
    set_while_it_runs(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_is_set_fires_nothing_early_and_holds_nothing_up_on_postgres() {
    set_while_it_runs(Kind::Postgres).await;
}
