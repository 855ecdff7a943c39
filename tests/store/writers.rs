//! The team's own writers, many at once: every committed row is one message, no rolled-back one is, and nobody waits long.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use sendoff::domain::AppId;
use sendoff::store::Store;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::{Order, PageRequest};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::watch;

use crate::home::*;

const WRITERS: usize = 8;
const ROWS: usize = 60;

/// Relays until told to stop, and then until nothing is left.
async fn relay_until(store: Store, mut stop: watch::Receiver<bool>) -> usize {
    let mut accepted = 0;
    loop {
        let last = *stop.borrow_and_update();
        let step = store.relay(RelayRequest { limit: 16, now: NOW }).await.expect("the store");
        assert_eq!((step.duplicates, &step.stuck), (0, &vec![]));
        accepted += step.accepted;
        if last && step.rows() == 0 {
            return accepted;
        }
        tokio::task::yield_now().await;
    }
}

/// The payloads of all messages, which the writers have numbered.
async fn payloads(store: &Store, app: AppId) -> Vec<String> {
    let mut request = PageRequest { limit: 250, order: Order::Ascending, after: None, back: false };
    let mut found = Vec::new();
    loop {
        let page = store.messages(&tenant(), app, &MessageFilter::default(), &request).await.expect("the store");
        request.after = page.data.last().map(|message| message.id);
        found.extend(
            page.data
                .iter()
                .map(|message| String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned()),
        );
        if !page.more {
            return found;
        }
    }
}

fn committed(writer: usize, row: usize) -> bool {
    !(writer + row).is_multiple_of(4)
}

fn expected() -> BTreeSet<String> {
    let rows = (0..WRITERS).flat_map(|w| (0..ROWS).filter(move |r| committed(w, *r)).map(move |r| (w, r)));
    rows.map(|(w, r)| format!("{{\"row\": \"{w}-{r}\"}}")).collect()
}

async fn check(store: &Store, app: AppId, accepted: usize) {
    let found = payloads(store, app).await;
    let distinct: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(distinct, expected(), "every committed row, no other");
    assert_eq!((found.len(), accepted), (distinct.len(), distinct.len()), "and each once");
}

/// Each transaction stays open for a while of its own, so that they commit in another order than their rows' numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_transactions_commit_out_of_order_while_two_processes_relay() {
    let home = Home::postgres().await;
    let app = application(&home.store, "acme").await;
    let (stop, stopped) = watch::channel(false);
    let relays =
        [home.store.clone(), home.another().await].map(|store| tokio::spawn(relay_until(store, stopped.clone())));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let sendoff::store::Location::Postgres(url) = home.location.clone() else { panic!("PostgreSQL") };
        writers.push(tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for row in 0..ROWS {
                let insert = format!(
                    "BEGIN; INSERT INTO sendoff.outbox (application, event_type, payload)
                     VALUES ('acme', 'a', '{{\"row\": \"{writer}-{row}\"}}')"
                );
                connection.execute(AssertSqlSafe(insert)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(((writer * 7 + row * 13) % 23) as u64)).await;
                connection.execute(if committed(writer, row) { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    stop.send_replace(true);
    let mut accepted = 0;
    for relay in relays {
        accepted += relay.await.unwrap();
    }
    check(&home.store, app.id, accepted).await;
}

/// One writer: what any program with SQLite does. Prints how long its slowest transaction waited for the lock, in milliseconds.
const WRITER: &str = r#"
import sqlite3, sys, time
path, writer, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
db = sqlite3.connect(path, timeout=5, isolation_level=None)
longest = 0
for row in range(rows):
    begun = time.monotonic()
    db.execute("BEGIN IMMEDIATE")
    longest = max(longest, time.monotonic() - begun)
    db.execute("INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', ?)",
               ('{"row": "%d-%d"}' % (writer, row),))
    db.execute("ROLLBACK" if (writer + row) % 4 == 0 else "COMMIT")
print(int(longest * 1000))
"#;

/// The store is kept busy meanwhile, with as many messages as it can take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_other_processes_get_their_turn() {
    let home = Home::sqlite().await;
    let app = application(&home.store, "acme").await;
    let busy = application(&home.store, "busy").await;
    let (stop, stopped) = watch::channel(false);
    let relay = tokio::spawn(relay_until(home.store.clone(), stopped.clone()));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (store, stopped, one) = (home.store.clone(), stopped.clone(), item(busy.id));
            tokio::spawn(async move {
                let mut count = 0;
                while !*stopped.borrow() {
                    store.accept(one.clone()).await.unwrap().unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let path = home.store.file().unwrap().to_owned();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let child = Command::new("python3")
            .args(["-c", WRITER])
            .arg(&path)
            .args([writer.to_string(), ROWS.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3");
        writers.push(tokio::task::spawn_blocking(move || child.wait_with_output().expect("its output")));
    }
    let mut longest = 0;
    for writer in writers {
        let output = writer.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        longest = longest.max(String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("milliseconds"));
    }
    stop.send_replace(true);
    let mut kept_busy = 0u64;
    for caller in callers {
        kept_busy += caller.await.unwrap();
    }
    let accepted = relay.await.unwrap();
    println!("the longest wait of a writer: {longest} ms, while {kept_busy} messages were accepted");
    assert!(longest < 5_000 && kept_busy > 0);
    check(&home.store, app.id, accepted).await;
}
