//! Isolation of endpoints: `cargo bench --bench isolation`.
//!
//! A thousand endpoints, each in its own application, receive events at a steady rate. After a quiet phase, half of
//! them **hang** until the timeout, or one gets 90 % of the traffic (**busy**), or one has a **backlog** of a million
//! deliveries, or 5,000 hostile **clients** hold connections (compared with the same clients at another listener, because
//! they share the machine), or one customer's token **scans** a million messages with
//! filters that match nothing, 16 reads at a time. The bench compares end-to-end times of the unaffected endpoints in both
//! phases: p99 may grow by half. For `scans` it compares how long the POST of a message takes: p99 may double.
//! One stall of the disk can dominate a round, so rounds are also combined.
//!
//! `-- --seconds 20 --rate 400 --takes 100 --rounds 3 --store sqlite --case hang`. Exits with 1 if a ratio is too high.

#[path = "../../tests/support/mod.rs"]
mod support;

mod clients;
mod receiver;
mod scans;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clients::{Clients, Sink};
use futures_util::{StreamExt, stream};
use receiver::{OTHERS, Receiver, WATCHED};
use scans::Scans;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use support::backlog::backlog;
use support::{Binary, Durability, Postgres, Server, SqliteFile, sqlite_file};

const ENDPOINTS: usize = 1_000;
const BACKLOG: usize = 1_000_000;

/// The disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// A control: the machine's own noise.
    Nothing,
    Hang,
    Busy,
    Backlog,
    Clients,
    Scans,
}

impl Case {
    const ALL: [(Case, &str); 6] = [
        (Case::Nothing, "nothing"),
        (Case::Hang, "hang"),
        (Case::Busy, "busy"),
        (Case::Backlog, "backlog"),
        (Case::Clients, "clients"),
        (Case::Scans, "scans"),
    ];

    fn description(self) -> &'static str {
        match self {
            Case::Nothing => "nothing (a control)",
            Case::Hang => "500 of 1,000 endpoints hang until the timeout",
            Case::Busy => "one endpoint gets 90 % of all traffic",
            Case::Backlog => "one endpoint has a million pending",
            Case::Clients => "5,000 hostile clients hold connections",
            Case::Scans => "one token scans a million messages, 16 reads at a time (times of POST)",
        }
    }

    /// Maximum ratio of p99 to the quiet phase.
    fn max_ratio(self) -> f64 {
        if self == Case::Scans { 2.0 } else { 1.5 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Per phase.
    seconds: f64,
    rounds: usize,
    /// Events per second, in total.
    rate: f64,
    /// Response time of receivers, in milliseconds.
    takes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).map(String::as_str);
    let number = |name: &str, default: f64| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    // `cargo test` runs benches too; there is nothing to test.
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
    // Grows the receivers' descriptor table now, because growing it later would cost some 10 ms each time.
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 12_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let held = runtime.block_on(run(plan, &stores, &cases.collect::<Vec<_>>()));
    std::process::exit(if held { 0 } else { 1 });
}

async fn run(plan: Plan, stores: &[&str], cases: &[Case]) -> bool {
    println!("{plan:?}");
    let mut table = vec![
        "| disturbance | store | p50 quiet | p50 then | p99 quiet | p99 then | ratio of p99 (and of each round) |"
            .to_owned(),
        "|---|---|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let mut held = true;
    for case in cases {
        for store in stores {
            let mut rounds = Vec::new();
            for _ in 0..plan.rounds {
                let one = measure(plan, *case, store).await;
                let shown = [&one.quiet, &one.then]
                    .map(|times| [0.5, 0.9, 0.95, 0.99].map(|share| percentile_ms(times, share)));
                println!("{store}: {}: p50, p90, p95, p99 in ms, in quiet and then: {shown:?}", case.description());
                if !one.alone.is_empty() {
                    let shown = [0.5, 0.9, 0.95, 0.99].map(|share| percentile_ms(&one.alone, share));
                    println!("  with the same clients at another listener: {shown:?}");
                }
                rounds.push(one);
            }
            let each: Vec<String> = rounds.iter().map(|one| format!("{:.2}", one.ratio())).collect();
            let all = Measurement::together(rounds);
            held &= all.ratio() <= case.max_ratio();
            let [quiet, then] =
                [&all.quiet, &all.then].map(|times| [0.5, 0.99].map(|share| percentile_ms(times, share)));
            table.push(format!(
                "| {} | {store} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | **{:.2}** ({}) |",
                case.description(),
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

/// Sorted times, in microseconds: of watched endpoints from end to end, or of POST.
#[derive(Default)]
struct Measurement {
    quiet: Vec<u64>,
    /// With the disturbance at another listener on the same machine; empty for other cases than `Clients`.
    alone: Vec<u64>,
    then: Vec<u64>,
}

impl Measurement {
    fn together(rounds: Vec<Measurement>) -> Measurement {
        let mut all = Measurement::default();
        for one in rounds {
            all.quiet.extend(one.quiet);
            all.alone.extend(one.alone);
            all.then.extend(one.then);
        }
        all.quiet.sort_unstable();
        all.alone.sort_unstable();
        all.then.sort_unstable();
        all
    }

    /// Of the p99 to that of the quiet phase; for hostile clients, to that with the clients at another listener.
    fn ratio(&self) -> f64 {
        let base = if self.alone.is_empty() { &self.quiet } else { &self.alone };
        percentile_ms(&self.then, 0.99) / percentile_ms(base, 0.99)
    }
}

/// The percentile `share`, in milliseconds.
fn percentile_ms(times: &[u64], share: f64) -> f64 {
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)] as f64 / 1_000.0
}

/// Sendoff on a new store.
struct BenchStore {
    server: Server,
    token: String,
    client: reqwest::Client,
    url: String,
    _kept: (Option<SqliteFile>, Option<Postgres>),
}

impl BenchStore {
    fn on(store: &str) -> BenchStore {
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
        BenchStore { server, token, client, url, _kept: kept }
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

    /// Creates the applications, each with an endpoint. The first half is watched.
    async fn create_applications(&self, receiver: &Receiver) {
        stream::iter(0..ENDPOINTS)
            .for_each_concurrent(8, async |n| {
                self.post("/app/", json!({"name": format!("Bench {n}"), "uid": uid(n)})).await;
                let place = if n < ENDPOINTS / 2 { WATCHED } else { OTHERS };
                let url = format!("http://127.0.0.1:{}{place}/{n}", receiver.port);
                self.post(&format!("/app/{}/endpoint/", uid(n)), json!({"url": url, "uid": "ep"})).await;
            })
            .await;
    }

    /// Creates a million deliveries for a disabled endpoint.
    async fn create_backlog(&self, receiver: &Receiver) {
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

    /// Vacuums and checkpoints the setup now. PostgreSQL would do so later, probably in the second phase.
    async fn vacuum(&self) {
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

    /// Posts at the plan's rate; `which` selects the application of the n-th event. Gives the end-to-end times of watched
    /// endpoints and the times of POST.
    async fn traffic(self: &Arc<Self>, receiver: &Arc<Receiver>, plan: Plan, which: impl Fn(usize) -> usize) -> Times {
        receiver.times();
        let began = Instant::now();
        let (mut sent, mut posted, mut n) = (tokio::task::JoinSet::new(), Vec::new(), 0);
        while began.elapsed().as_secs_f64() < plan.seconds {
            let due = Duration::from_secs_f64(n as f64 / plan.rate);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let (bench, receiver, app) = (Arc::clone(self), Arc::clone(receiver), which(n));
            sent.spawn(async move {
                let payload = receiver.stamped();
                let (body, began) = (format!(r#"{{"eventType":"bench","payload":{payload}}}"#), Instant::now());
                bench.ask(reqwest::Method::POST, &format!("/app/{}/msg/", uid(app)), body).await;
                began.elapsed().as_micros() as u64
            });
            while let Some(took) = sent.try_join_next() {
                posted.push(took.expect("a POST"));
            }
            n += 1;
        }
        posted.extend(sent.join_all().await);
        posted.sort_unstable();
        // Enough for responsive receivers; anything later counts as late.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut times = receiver.times();
        let watched = (0..n).filter(|n| which(*n) < ENDPOINTS / 2).count();
        assert!(times.len() * 100 >= watched * 99, "{} of {watched} arrived", times.len());
        // A missing event counts as slower than all others.
        times.resize(times.len().max(watched), u64::MAX);
        Times { delivered: times, posted }
    }
}

/// Sorted times of one phase, in microseconds.
struct Times {
    /// Of watched endpoints, from end to end.
    delivered: Vec<u64>,
    posted: Vec<u64>,
}

fn uid(n: usize) -> String {
    format!("a{n}")
}

async fn measure(plan: Plan, case: Case, store: &str) -> Measurement {
    let receiver = Arc::new(Receiver::start(Duration::from_secs_f64(plan.takes / 1_000.0)).await);
    let bench = Arc::new(BenchStore::on(store));
    bench.create_applications(&receiver).await;
    if matches!(case, Case::Backlog | Case::Scans) {
        bench.create_backlog(&receiver).await;
    }
    bench.vacuum().await;
    // A stride that reaches all applications.
    let evenly = |n: usize| n * 7 % ENDPOINTS;
    // Warm-up: fills caches and opens connections.
    bench.traffic(&receiver, Plan { seconds: 5.0, ..plan }, evenly).await;
    let quiet = bench.traffic(&receiver, plan, evenly).await;
    let others = receiver.others();
    let mut alone = None;
    let then = match case {
        Case::Nothing => bench.traffic(&receiver, plan, evenly).await,
        Case::Hang => {
            receiver.hang(true);
            bench.traffic(&receiver, plan, evenly).await
        }
        Case::Busy => {
            bench.traffic(&receiver, plan, |n| if n % 10 == 0 { evenly(n / 10) } else { ENDPOINTS - 1 }).await
        }
        Case::Backlog => {
            let body = json!({"disabled": false}).to_string();
            bench.ask(reqwest::Method::PATCH, "/app/backlog/endpoint/ep/", body).await;
            bench.traffic(&receiver, plan, evenly).await
        }
        Case::Clients => {
            let clients = Clients::start(Sink::start().address);
            alone = Some(bench.traffic(&receiver, plan, evenly).await.delivered);
            println!("  {} connections were tried at another listener", clients.stop());
            let clients = Clients::start(bench.server.url().trim_start_matches("http://").to_owned());
            let times = bench.traffic(&receiver, plan, evenly).await;
            let metrics = bench.server.get("/metrics");
            let lines = metrics.lines().filter(|line| line.starts_with("sendoff_http_connections"));
            println!("  {}", lines.collect::<Vec<_>>().join("; "));
            println!("  {} connections were tried", clients.stop());
            times
        }
        Case::Scans => {
            let access = bench.ask(reqwest::Method::POST, "/auth/app-portal-access/backlog/", "{}".to_owned()).await;
            let access: Value = access.json().await.expect("JSON");
            let scans = Scans::start(&bench.server.url(), access["token"].as_str().expect("a token"), "backlog");
            let times = bench.traffic(&receiver, plan, evenly).await;
            let statuses = scans.stop();
            println!("  answers to the scans by status: {statuses:?}");
            assert!(statuses.contains_key(&200), "no scan was answered");
            times
        }
    };
    let disturbed = receiver.others() - others;
    assert!(disturbed > 0, "the disturbance reached no other receiver");
    println!("  {disturbed} requests went to other receivers meanwhile");
    match case {
        Case::Scans => Measurement { quiet: quiet.posted, alone: Vec::new(), then: then.posted },
        _ => Measurement { alone: alone.unwrap_or_default(), quiet: quiet.delivered, then: then.delivered },
    }
}
