//! Whether anybody holds up anybody else: `cargo bench --bench isolation`.
//!
//! A thousand endpoints, each an application of its own, get events at a steady rate. First all is quiet; then half of them **hang** until the
//! timeout, or one gets nine tenths of the traffic (it is **busy**), or one has a **backlog** of a million. How long the events of the others
//! take from their POST to their receiver is compared: 99 of 100 may take one and a half times as long as in the quiet before, and no more. A disk that stalls once can be most of
//! what is slow in one round, so that the rounds are looked at together.
//!
//! `-- --seconds 20 --rate 400 --takes 100 --rounds 3 --store sqlite --case hang`; it ends with 1 if a ratio is above.

#[path = "../../tests/support/mod.rs"]
mod support;

mod receiver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use receiver::{OTHERS, Receiver, WATCHED};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use support::backlog::backlog;
use support::{Binary, Durability, Postgres, Server, SqliteFile, sqlite_file};

const ENDPOINTS: usize = 1_000;
/// What the others may take at most, as a share of what they take in quiet.
const MOST: f64 = 1.5;
const BACKLOG: usize = 1_000_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Nothing: what comes of it is the machine's own noise.
    Nothing,
    Hang,
    Busy,
    Backlog,
}

impl Case {
    const ALL: [(Case, &str); 4] =
        [(Case::Nothing, "nothing"), (Case::Hang, "hang"), (Case::Busy, "busy"), (Case::Backlog, "backlog")];

    fn words(self) -> &'static str {
        match self {
            Case::Nothing => "nothing (a control)",
            Case::Hang => "500 of 1,000 endpoints hang until the timeout",
            Case::Busy => "one endpoint gets 90 % of all traffic",
            Case::Backlog => "one endpoint has a million pending",
        }
    }
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Of each of the two halves of a run.
    seconds: f64,
    rounds: usize,
    /// Events per second, in all.
    rate: f64,
    /// How many milliseconds receivers take to answer.
    takes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).map(String::as_str);
    let number = |name: &str, default: f64| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    // `cargo test` runs benches as well; there is nothing to test here.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let plan = Plan {
        seconds: number("--seconds", 20.0),
        rounds: number("--rounds", 3.0) as usize,
        rate: number("--rate", 400.0),
        takes: number("--takes", 100.0),
    };
    let stores: Vec<&str> =
        ["sqlite", "postgres"].into_iter().filter(|name| text("--store").is_none_or(|one| one == *name)).collect();
    let cases =
        Case::ALL.into_iter().filter(|(_, name)| text("--case").is_none_or(|one| one == *name)).map(|(case, _)| case);
    // The receivers' table of descriptors does not grow meanwhile, which takes some ten milliseconds each time.
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 4_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let held = runtime.block_on(run(plan, &stores, &cases.collect::<Vec<_>>()));
    std::process::exit(if held { 0 } else { 1 });
}

async fn run(plan: Plan, stores: &[&str], cases: &[Case]) -> bool {
    println!("{plan:?}");
    let mut table = vec![
        "| what goes wrong | store | p50 quiet | p50 then | p99 quiet | p99 then | ratio of p99 (and of each round) |"
            .to_owned(),
        "|---|---|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let mut held = true;
    for case in cases {
        for store in stores {
            let mut rounds = Vec::new();
            for _ in 0..plan.rounds {
                let one = measure(plan, *case, store).await;
                let shown = [&one.quiet, &one.then].map(|times| [0.5, 0.9, 0.95, 0.99].map(|share| at(times, share)));
                println!("{store}: {}: p50, p90, p95, p99 in ms, in quiet and then: {shown:?}", case.words());
                rounds.push(one);
            }
            let each: Vec<String> = rounds.iter().map(|one| format!("{:.2}", one.ratio())).collect();
            let all = Measured::together(rounds);
            held &= all.ratio() <= MOST;
            let [quiet, then] = [&all.quiet, &all.then].map(|times| [0.5, 0.99].map(|share| at(times, share)));
            table.push(format!(
                "| {} | {store} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | **{:.2}** ({}) |",
                case.words(),
                quiet[0],
                then[0],
                quiet[1],
                then[1],
                all.ratio(),
                each.join(", ")
            ));
        }
    }
    println!("\n{}", table.join("\n"));
    held
}

/// How long each event for a watched endpoint took, in microseconds, the shortest first.
#[derive(Default)]
struct Measured {
    quiet: Vec<u64>,
    then: Vec<u64>,
}

impl Measured {
    fn together(rounds: Vec<Measured>) -> Measured {
        let mut all = Measured::default();
        for one in rounds {
            all.quiet.extend(one.quiet);
            all.then.extend(one.then);
        }
        all.quiet.sort_unstable();
        all.then.sort_unstable();
        all
    }

    fn ratio(&self) -> f64 {
        at(&self.then, 0.99) / at(&self.quiet, 0.99)
    }
}

/// What so large a share takes at most, in milliseconds.
fn at(times: &[u64], share: f64) -> f64 {
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)] as f64 / 1_000.0
}

/// A sender on a fresh store.
struct Stage {
    server: Server,
    token: String,
    client: reqwest::Client,
    url: String,
    _kept: (Option<SqliteFile>, Option<Postgres>),
}

impl Stage {
    fn on(store: &str) -> Stage {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kept = match store {
            "sqlite" => (Some(sqlite_file()), None),
            _ => (None, Some(Postgres::start(Durability::On))),
        };
        let url = match &kept {
            (Some(file), _) => file.url(),
            (_, Some(postgres)) => postgres.fresh_database(),
            _ => unreachable!("one of the two"),
        };
        let server = Binary::on(&url).set("SENDOFF_LOG", "warn").serve();
        let token = Binary::on(&url).token();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Stage { server, token, client, url, _kept: kept }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: String) -> reqwest::Response {
        let request =
            self.client.request(method, format!("{}/api/v1{path}", self.server.url())).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    }

    async fn post(&self, path: &str, body: Value) {
        self.ask(reqwest::Method::POST, path, body.to_string()).await;
    }

    /// The applications, each with an endpoint: the first half is watched.
    async fn furnish(&self, receiver: &Receiver) {
        stream::iter(0..ENDPOINTS)
            .for_each_concurrent(8, async |n| {
                self.post("/app/", json!({"name": format!("Bench {n}"), "uid": uid(n)})).await;
                let place = if n < ENDPOINTS / 2 { WATCHED } else { OTHERS };
                let url = format!("http://127.0.0.1:{}{place}/{n}", receiver.port);
                self.post(&format!("/app/{}/endpoint/", uid(n)), json!({"url": url, "uid": "ep"})).await;
            })
            .await;
    }

    /// A million deliveries that wait for an endpoint that is disabled.
    async fn pile_up(&self, receiver: &Receiver) {
        self.post("/app/", json!({"name": "Backlog", "uid": "backlog"})).await;
        let url = format!("http://127.0.0.1:{}/backlog", receiver.port);
        self.post("/app/backlog/endpoint/", json!({"url": url, "uid": "ep", "disabled": true})).await;
        let statements = backlog(self.url.starts_with("sqlite:"), "backlog", BACKLOG);
        if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.expect("SQLite");
            for sql in statements {
                connection.execute(AssertSqlSafe(sql)).await.expect("a statement");
            }
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.expect("PostgreSQL");
            connection.execute("SET search_path = sendoff").await.expect("the schema");
            for sql in statements {
                connection.execute(AssertSqlSafe(sql)).await.expect("a statement");
            }
        }
    }

    /// What was set up is on the disk and vacuumed before anything is measured: PostgreSQL would do both some time later, most likely in the second half.
    async fn vacuum_often(&self) {
        if self.url.starts_with("sqlite:") {
            return;
        }
        let mut connection = sqlx::PgConnection::connect(&self.url).await.expect("PostgreSQL");
        for sql in
            ["ALTER SYSTEM SET autovacuum_naptime = '5s'", "SELECT pg_reload_conf()", "VACUUM ANALYZE", "CHECKPOINT"]
        {
            connection.execute(sql).await.expect("a setting");
        }
    }

    /// Posts at the plan's rate; `which` says to which application the n-th event goes.
    async fn traffic(
        self: &Arc<Self>,
        receiver: &Arc<Receiver>,
        plan: Plan,
        which: impl Fn(usize) -> usize,
    ) -> Vec<u64> {
        receiver.times();
        let began = Instant::now();
        let mut sent = tokio::task::JoinSet::new();
        let mut n = 0;
        while began.elapsed().as_secs_f64() < plan.seconds {
            let due = Duration::from_secs_f64(n as f64 / plan.rate);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let (stage, receiver, app) = (Arc::clone(self), Arc::clone(receiver), which(n));
            sent.spawn(async move {
                let payload = receiver.stamped();
                let body = format!(r#"{{"eventType":"bench","payload":{payload}}}"#);
                stage.ask(reqwest::Method::POST, &format!("/app/{}/msg/", uid(app)), body).await;
            });
            while sent.try_join_next().is_some() {}
            n += 1;
        }
        sent.join_all().await;
        // What is on its way to those who answer is there by then, or counts as late in the next measure: long enough.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut times = receiver.times();
        let watched = (0..n).filter(|n| which(*n) < ENDPOINTS / 2).count();
        assert!(times.len() * 100 >= watched * 99, "{} of {watched} arrived", times.len());
        // What has not arrived is later than all that has.
        times.resize(times.len().max(watched), u64::MAX);
        times
    }
}

fn uid(n: usize) -> String {
    format!("a{n}")
}

async fn measure(plan: Plan, case: Case, store: &str) -> Measured {
    let receiver = Arc::new(Receiver::start(Duration::from_secs_f64(plan.takes / 1_000.0)).await);
    let stage = Arc::new(Stage::on(store));
    stage.furnish(&receiver).await;
    if case == Case::Backlog {
        stage.pile_up(&receiver).await;
    }
    stage.vacuum_often().await;
    // Strides that reach all of them.
    let evenly = |n: usize| n * 7 % ENDPOINTS;
    // Nobody looks yet: caches fill, connections are made.
    stage.traffic(&receiver, Plan { seconds: 5.0, ..plan }, evenly).await;
    let quiet = stage.traffic(&receiver, plan, evenly).await;
    let others = receiver.others();
    let then = match case {
        Case::Nothing => stage.traffic(&receiver, plan, evenly).await,
        Case::Hang => {
            receiver.hang(true);
            stage.traffic(&receiver, plan, evenly).await
        }
        Case::Busy => {
            stage.traffic(&receiver, plan, |n| if n % 10 == 0 { evenly(n / 10) } else { ENDPOINTS - 1 }).await
        }
        Case::Backlog => {
            let body = json!({"disabled": false}).to_string();
            stage.ask(reqwest::Method::PATCH, "/app/backlog/endpoint/ep/", body).await;
            stage.traffic(&receiver, plan, evenly).await
        }
    };
    let went = receiver.others() - others;
    assert!(went > 0, "something did go wrong");
    println!("  {went} requests went to the others meanwhile");
    Measured { quiet, then }
}
