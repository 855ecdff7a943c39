//! Several processes on one PostgreSQL: an idle one costs little, one of them does the maintenance, and another takes it over.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::engine::Engine;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::{Postgres, SOON, eventually, eventually_blocking, sqlite_file};
use crate::world::{Kind, World, egress, open, options};

/// The statements that this thread sends to a database.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut summary = Summary(String::new());
            event.record(&mut summary);
            self.0.lock().unwrap().push(summary.0);
        }
    }
}

impl Statements {
    /// What was sent up to and with the statement that is the `count`th heartbeat; from here on, it is counted anew.
    async fn of_heartbeats(&self, count: usize) -> Vec<String> {
        self.0.lock().unwrap().clear();
        eventually("heartbeats", SOON, async || {
            let sent = self.0.lock().unwrap().clone();
            (sent.iter().filter(|one| one.contains("INSERT INTO process")).count() >= count).then_some(sent)
        })
        .await
    }
}

struct Summary(String);

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            self.0 = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "summary" {
            self.0 = format!("{value:?}");
        }
    }
}

async fn sql(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        SqliteConnection::connect(url).await.unwrap().execute(sql).await.unwrap();
    } else {
        let mut connection = PgConnection::connect(url).await.unwrap();
        connection.execute("SET search_path = sendoff").await.unwrap();
        connection.execute(sql).await.unwrap();
    }
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("SET search_path = sendoff").await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
}

/// On one thread, so that every statement is seen.
#[tokio::test]
async fn an_idle_process_of_fifty_sends_few_statements_and_keeps_few_connections() {
    // With a single subscriber, whether a line of code logs is decided by the thread that comes there first, which may be another test's. With two
    // it is decided by the subscribers.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let statements = Statements::default();
    let _seen = tracing::subscriber::set_default(tracing_subscriber::registry().with(statements.clone()));
    let mut world = World::quiet(Kind::Postgres).await;
    // 49 that are alive and have all slots.
    let others = "INSERT INTO process (id, name, started_at, expires_at)
         SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'other', 0, 1::bigint << 62 FROM generate_series(1, 49) AS n;
         UPDATE slot SET owner = ('00000000-0000-0000-0000-' || lpad((slot % 49 + 1)::text, 12, '0'))::uuid, expires_at = 1::bigint << 62";
    sql(&world.url, others).await;
    world.start(options());
    statements.of_heartbeats(2).await;
    // Three heartbeats are at least 6 s apart: 20 a second.
    let sent = statements.of_heartbeats(3).await;
    let polls = sent.iter().filter(|one| one.contains("coalesce(look_at")).count();
    assert!(sent.len() <= 120, "{} statements: {sent:#?}", sent.len());
    assert!((1..=20).contains(&polls), "{polls} outbox polls of one that has a turn every 1.25 s");

    // A burst opens what it needs; afterwards that is closed again.
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sendoff'";
    let burst = (0..40).map(|_| world.store.processes(sendoff::domain::Time::ZERO));
    futures_util::future::join_all(burst).await;
    assert!(number(&world.url, connections).await > 4);
    eventually("idle connections are closed", SOON * 3, async || {
        (number(&world.url, connections).await <= 4).then_some(())
    })
    .await;
    world.stop().await;
}

/// An engine on a thread of its own with metrics of its own, as another process would have.
struct Process {
    metrics: PrometheusHandle,
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn start(url: &str, master: MasterKey) -> Process {
        let (url, (end, ended)) = (url.to_owned(), channel());
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let thread = std::thread::spawn(move || metrics::with_local_recorder(&recorder, || run(&url, master, &ended)));
        Process { metrics, end, thread: Some(thread) }
    }

    /// When `task` has succeeded last; 0: never.
    fn succeeded(&self, task: &str) -> f64 {
        self.metric(&format!("sendoff_maintenance_last_success_timestamp_seconds{{task=\"{task}\"}} "))
    }

    fn failures(&self, task: &str) -> f64 {
        self.metric(&format!("sendoff_maintenance_failures_total{{task=\"{task}\"}} "))
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Of all tasks, those that have succeeded.
    fn done(&self) -> Vec<String> {
        let text = self.metrics.render();
        let lines = text.lines().filter_map(|line| {
            line.strip_prefix("sendoff_maintenance_last_success_timestamp_seconds{task=\"")?.split_once("\"} ")
        });
        lines.filter(|(_, at)| *at != "0").map(|(task, _)| task.to_owned()).collect()
    }

    /// It is gone without a word to the others.
    fn kill(mut self) {
        self.end.send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Runs an engine until `ended`, and drops it in the middle of whatever it does.
fn run(url: &str, master: MasterKey, ended: &Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(url, master).await;
        let _engine = Engine::start(store, egress(), options());
        while ended.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    runtime.shutdown_background();
}

/// How many tasks there are: docs/operations.md lists them.
const TASKS: usize = 19;

fn all_done(what: &str, process: &Process) {
    eventually_blocking(what, SOON * 2, || (process.done().len() == TASKS).then_some(()));
}

#[test]
fn one_process_does_the_maintenance_and_another_takes_it_over() {
    let (url, master) = (Postgres::shared().fresh_database(), MasterKey::generate());
    let first = Process::start(&url, master.clone());
    all_done("the first one has done everything", &first);
    let second = Process::start(&url, master);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let owners = "SELECT count(*) FROM (SELECT owner FROM slot WHERE owner IS NOT NULL GROUP BY owner HAVING count(*) = 128) AS o";
    eventually_blocking("they share the slots", SOON, || (runtime.block_on(number(&url, owners)) == 2).then_some(()));
    let before = first.succeeded("retention");
    eventually_blocking("the first one goes on", SOON, || (first.succeeded("retention") > before).then_some(()));
    assert_eq!(second.done(), Vec::<String>::new(), "the second one has nothing to do with it");
    first.kill();
    all_done("the second one has taken over", &second);
    second.kill();
}

fn one_task_that_fails_stops_no_other(url: &str) {
    let master = MasterKey::generate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { drop(open(url, master.clone()).await) });
    runtime.block_on(sql(url, "ALTER TABLE audit RENAME TO audit_elsewhere"));
    let process = Process::start(url, master);
    eventually_blocking("all others succeed", SOON, || (process.done().len() == TASKS - 1).then_some(()));
    eventually_blocking("it is tried again", SOON, || (process.failures("audit") >= 2.0).then_some(()));
    assert_eq!(process.succeeded("audit"), 0.0);
    runtime.block_on(sql(url, "ALTER TABLE audit_elsewhere RENAME TO audit"));
    all_done("it succeeds in the end", &process);
    process.kill();
}

#[test]
fn one_task_that_fails_stops_no_other_on_sqlite() {
    one_task_that_fails_stops_no_other(&sqlite_file().url());
}

#[test]
fn one_task_that_fails_stops_no_other_on_postgres() {
    one_task_that_fails_stops_no_other(&Postgres::shared().fresh_database());
}
