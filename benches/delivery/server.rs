//! The three things that are measured, each as a process of its own, started afresh for each run.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::load::{self, Door, Measured};
use super::receiver::Receiver;
use super::support::{Durability, Postgres, free_port, sqlite_file};
use super::{Plan, ceiling};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Ceiling,
    Sqlite,
    Postgres,
}

impl Target {
    pub const ALL: [Target; 3] = [Target::Ceiling, Target::Sqlite, Target::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Target::Ceiling => "ceiling",
            Target::Sqlite => "SQLite",
            Target::Postgres => "PostgreSQL",
        }
    }
}

/// A child that is killed when the run is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One run.
pub async fn measure(target: Target, plan: Plan) -> Measured {
    let began = Instant::now();
    let receiver = Receiver::start(began).await;
    let hook = format!("http://127.0.0.1:{}/hook", receiver.port);
    let port = free_port();
    match target {
        Target::Ceiling => {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.arg(ceiling::FLAG).env("CEILING_PORT", port.to_string()).env("CEILING_TARGET", hook);
            let running = Running(command.spawn().expect("the ceiling"));
            wait_for(port).await;
            let applications = (0..plan.applications).map(|n| format!("app{n}")).collect();
            let door = Door { port, token: "none".into(), applications };
            let pid = running.0.id();
            load::post(plan, door, &receiver, began, || (cpu_us(pid), 0.0)).await
        }
        Target::Sqlite => {
            let file = sqlite_file();
            sendoff(&file.url(), port, &hook, plan, &receiver, began, || 0.0).await
        }
        Target::Postgres => {
            // With everything that makes a commit durable.
            let server = Postgres::start(Durability::On);
            let url = server.fresh_database();
            sendoff(&url, port, &hook, plan, &receiver, began, postgres_cpu_us).await
        }
    }
}

async fn sendoff(
    url: &str,
    port: u16,
    hook: &str,
    plan: Plan,
    receiver: &Receiver,
    began: Instant,
    database: impl Fn() -> f64,
) -> Measured {
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendoff"));
        command
            .args(arguments)
            .env("SENDOFF_DATABASE_URL", url)
            .env("SENDOFF_LISTEN", format!("127.0.0.1:{port}"))
            .env("SENDOFF_EGRESS_ALLOW", "127.0.0.1/32")
            .env("SENDOFF_JWT_SECRET", "a secret of the benchmark, and of nothing else")
            .env("SENDOFF_MASTER_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
            .env("SENDOFF_LOG", "warn");
        command
    };
    let running = Running(command(&["serve"]).stdout(Stdio::null()).spawn().expect("sendoff serve"));
    wait_for(port).await;
    let token = String::from_utf8(command(&["token"]).output().expect("sendoff token").stdout).expect("text");
    let token = token.trim().to_owned();
    let applications = applications(port, &token, hook, plan.applications).await;
    let pid = running.0.id();
    let door = Door { port, token, applications };
    let database_before = database();
    load::post(plan, door, receiver, began, || (cpu_us(pid), database() - database_before)).await
}

/// Makes the applications, each with an endpoint, over REST as anybody would.
async fn applications(port: u16, token: &str, hook: &str, count: usize) -> Vec<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = async |path: String, body: String| {
        let request = client.post(format!("http://127.0.0.1:{port}/api/v1{path}")).bearer_auth(token);
        let answer = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let mut ids = Vec::new();
    for number in 0..count {
        let made = post("/app/".into(), format!(r#"{{"name":"Bench {number}"}}"#)).await;
        let id = made["id"].as_str().expect("an id").to_owned();
        post(format!("/app/{id}/endpoint/"), format!(r#"{{"url":"{hook}"}}"#)).await;
        ids.push(id);
    }
    ids
}

async fn wait_for(port: u16) {
    let until = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < until, "nothing listens on {port}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// User and system time of a process so far, in microseconds. The kernel counts in hundredths of a second.
fn cpu_us(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 10_000.0
}

/// The same of every process called `postgres`.
fn postgres_cpu_us() -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_postgres =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
    pids.filter(is_postgres).map(cpu_us).sum()
}
