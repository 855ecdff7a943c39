//! The measured servers: a new process for each run, or one that is already running.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::client::Destination;
use super::common::meter::Meter;
use super::common::receiver::Receiver;
use super::common::rest::Rest;
use super::load::{self, Load, Measurement};
use super::support::{Durability, Postgres, free_port, sqlite_file};
use super::{Plan, TargetArgs, ceiling};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Ceiling,
    Sqlite,
    Postgres,
    /// The server given by `--url`.
    External,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Target::Ceiling => "ceiling",
            Target::Sqlite => "SQLite",
            Target::Postgres => "PostgreSQL",
            Target::External => "given",
        }
    }
}

/// Kills its child on drop.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures one run.
pub async fn measure(target: Target, plan: Plan, load: Load, given: &TargetArgs) -> Measurement {
    let receiver = Receiver::start(Instant::now()).await;
    match target {
        Target::Ceiling => ceiling(plan, load, &receiver).await,
        Target::Sqlite => {
            let file = sqlite_file();
            sendoff(given, &file.url(), plan, load, &receiver, |pid| Meter::Sqlite { pid }).await
        }
        Target::Postgres => {
            // With durable commits.
            let server = Postgres::start(Durability::On);
            let (url, postmaster) = (server.fresh_database(), server.postmaster());
            let meter = |pid| Meter::Postgres { pid, url: url.clone(), postmaster };
            sendoff(given, &url, plan, load, &receiver, meter).await
        }
        Target::External => {
            let server = given.server.as_ref().expect("a server is given");
            let destination = create_applications(&server.authority, &server.token, plan, load, &receiver).await;
            load::measure(plan, load, destination, &receiver, &Meter::Process(server.pid)).await
        }
    }
}

async fn ceiling(plan: Plan, load: Load, receiver: &Receiver) -> Measurement {
    let port = free_port();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let applications = load.applications(plan);
    let endpoints = applications * load.fan_out();
    command
        .arg(ceiling::FLAG)
        .env("CEILING_PORT", port.to_string())
        .env("CEILING_TARGET", receiver.url(0))
        .env("CEILING_FAN_OUT", load.fan_out().to_string())
        .env("CEILING_ENDPOINTS", endpoints.to_string());
    let running = ChildGuard(command.spawn().expect("the ceiling"));
    let authority = format!("127.0.0.1:{port}");
    wait_for(&authority).await;
    let applications = (0..applications).map(|n| format!("app{n}")).collect();
    let destination = Destination { authority, token: "none".into(), applications };
    load::measure(plan, load, destination, receiver, &Meter::Process(Some(running.0.id()))).await
}

async fn sendoff(
    given: &TargetArgs,
    url: &str,
    plan: Plan,
    load: Load,
    receiver: &Receiver,
    meter: impl Fn(u32) -> Meter,
) -> Measurement {
    let authority = format!("127.0.0.1:{}", free_port());
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&given.binary);
        command
            .args(arguments)
            .env("SENDOFF_DATABASE_URL", url)
            .env("SENDOFF_LISTEN", &authority)
            .env("SENDOFF_EGRESS_ALLOW", "127.0.0.1/32")
            .env("SENDOFF_JWT_SECRET", "a secret of the benchmark, and of nothing else")
            .env("SENDOFF_MASTER_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
            .env("SENDOFF_LOG", "warn");
        command
    };
    let running = ChildGuard(command(&["serve"]).stdout(Stdio::null()).spawn().expect("sendoff serve"));
    wait_for(&authority).await;
    let token = String::from_utf8(command(&["token"]).output().expect("sendoff token").stdout).expect("text");
    let destination = create_applications(&authority, token.trim(), plan, load, receiver).await;
    load::measure(plan, load, destination, receiver, &meter(running.0.id())).await
}

/// Creates applications with endpoints over REST.
async fn create_applications(authority: &str, token: &str, plan: Plan, load: Load, receiver: &Receiver) -> Destination {
    let urls: Vec<String> = (0..load.fan_out()).map(|endpoint| receiver.url(endpoint)).collect();
    Rest::new(authority, token).create_applications(load.applications(plan), &urls).await
}

async fn wait_for(authority: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(authority).await.is_err() {
        assert!(Instant::now() < until, "nothing listens on {authority}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
