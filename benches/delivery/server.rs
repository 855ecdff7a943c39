//! The servers that are measured, each as a process of its own, started afresh for each run, or one that runs already.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::client::Door;
use super::common::meter::Meter;
use super::common::receiver::Receiver;
use super::common::rest::Rest;
use super::load::{self, Load, Measured};
use super::support::{Durability, Postgres, free_port, sqlite_file};
use super::{Given, Plan, ceiling};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Ceiling,
    Sqlite,
    Postgres,
    /// The server of `--url`.
    Given,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Target::Ceiling => "ceiling",
            Target::Sqlite => "SQLite",
            Target::Postgres => "PostgreSQL",
            Target::Given => "given",
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
pub async fn measure(target: Target, plan: Plan, load: Load, given: &Given) -> Measured {
    let receiver = Receiver::start(Instant::now()).await;
    match target {
        Target::Ceiling => ceiling(plan, load, &receiver).await,
        Target::Sqlite => {
            let file = sqlite_file();
            sendoff(given, &file.url(), plan, load, &receiver, |pid| Meter::Sqlite { pid }).await
        }
        Target::Postgres => {
            // With everything that makes a commit durable.
            let server = Postgres::start(Durability::On);
            let (url, postmaster) = (server.fresh_database(), server.postmaster());
            let meter = |pid| Meter::Postgres { pid, url: url.clone(), postmaster };
            sendoff(given, &url, plan, load, &receiver, meter).await
        }
        Target::Given => {
            let server = given.server.as_ref().expect("a server is given");
            let door = furnish(&server.authority, &server.token, plan, load, &receiver).await;
            load::measure(plan, load, door, &receiver, &Meter::Process(server.pid)).await
        }
    }
}

async fn ceiling(plan: Plan, load: Load, receiver: &Receiver) -> Measured {
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
    let running = Running(command.spawn().expect("the ceiling"));
    let authority = format!("127.0.0.1:{port}");
    wait_for(&authority).await;
    let applications = (0..applications).map(|n| format!("app{n}")).collect();
    let door = Door { authority, token: "none".into(), applications };
    load::measure(plan, load, door, receiver, &Meter::Process(Some(running.0.id()))).await
}

async fn sendoff(
    given: &Given,
    url: &str,
    plan: Plan,
    load: Load,
    receiver: &Receiver,
    meter: impl Fn(u32) -> Meter,
) -> Measured {
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
    let running = Running(command(&["serve"]).stdout(Stdio::null()).spawn().expect("sendoff serve"));
    wait_for(&authority).await;
    let token = String::from_utf8(command(&["token"]).output().expect("sendoff token").stdout).expect("text");
    let door = furnish(&authority, token.trim(), plan, load, receiver).await;
    load::measure(plan, load, door, receiver, &meter(running.0.id())).await
}

/// Makes the applications with their endpoints, over REST.
async fn furnish(authority: &str, token: &str, plan: Plan, load: Load, receiver: &Receiver) -> Door {
    let urls: Vec<String> = (0..load.fan_out()).map(|endpoint| receiver.url(endpoint)).collect();
    Rest::new(authority, token).furnish(load.applications(plan), &urls).await
}

async fn wait_for(authority: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(authority).await.is_err() {
        assert!(Instant::now() < until, "nothing listens on {authority}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
