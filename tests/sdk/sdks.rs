//! The official `svix` SDKs as a contract suite: the real binary on each store, and in each language a driver that walks through every
//! operation its SDK has, with a receiver of its own that verifies what arrives by `svix` and by `standardwebhooks`. What a
//! driver reached is counted by the server itself and held against the route table.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::routes::{Route, routes};
use crate::support::{Binary, Postgres, Server, build, npm, npm_svix_1, python, python_svix_1, sqlite_file};

/// An operation, by its method and path.
type Operation = (&'static str, &'static str);

/// None of the SDKs has a method for these.
const IN_NONE: [Operation; 7] = [
    ("GET", "/health/ping"),
    ("GET", "/openapi.json"),
    ("GET", "/app/{app}/stats/attempts"),
    ("GET", "/app/{app}/poller/{sink}/stream"),
    ("POST", "/app/{app}/endpoint/{endpoint}/reconcile"),
    ("POST", "/app/{app}/development-endpoint/{listener}"),
    // A path of very old SDKs.
    ("GET", "/app/{app}/msg/{msg}/attempt"),
];
const OLD_PATH: [Operation; 1] = [("POST", "/auth/dashboard-access/{app}")];
const ATTEMPT_STATS: [Operation; 1] = [("GET", "/app/{app}/endpoint/{endpoint}/attempt-stats")];
/// Version 1 has polling, and no destinations.
const DESTINATIONS: [Operation; 5] = [
    ("GET", "/app/{app}/destination"),
    ("GET", "/app/{app}/destination/{sink}"),
    ("PUT", "/app/{app}/destination/{sink}"),
    ("PATCH", "/app/{app}/destination/{sink}"),
    ("DELETE", "/app/{app}/destination/{sink}"),
];

/// Version 1 has autoconfig in another form, which is not answered.
const AUTOCONFIG: [Operation; 7] = [
    ("POST", "/app/{app}/autoconfig"),
    ("GET", "/app/{app}/autoconfig/{autoconfig}"),
    ("POST", "/app/{app}/autoconfig/{autoconfig}/rotate"),
    ("PUT", "/app/{app}/autoconfig/{autoconfig}/endpoint"),
    ("PUT", "/app/{app}/autoconfig/{autoconfig}/destination"),
    ("GET", "/app/{app}/polling-endpoint/{sink}/consumer/{consumer}"),
    ("POST", "/app/{app}/polling-endpoint/{sink}/consumer/{consumer}/commit"),
];
const DELETE_AUTOCONFIG: [Operation; 1] = [("DELETE", "/app/{app}/autoconfig/{autoconfig}")];

/// An SDK, as a program that uses it.
#[derive(Clone, Copy)]
enum Sdk {
    PythonSync,
    PythonAsync,
    JavaScript,
    /// The major before: teams that move over use it.
    PythonSync1,
    PythonAsync1,
    JavaScript1,
    /// Of crates.io, both majors: what a team does first, and not every operation.
    Rust1,
    Rust2,
}

impl Sdk {
    fn driver(self) -> Command {
        let python_of = |python: PathBuf, kind: &str| {
            let mut command = Command::new(python);
            command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/sdk/walk.py"), kind]);
            // Nothing is left in the source tree.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let node_with = |packages: PathBuf| {
            let mut command = Command::new("node");
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/javascript/walk.mjs"));
            command.env("SENDOFF_TEST_NPM", packages);
            command
        };
        match self {
            Sdk::PythonSync => python_of(python(), "sync"),
            Sdk::PythonAsync => python_of(python(), "async"),
            Sdk::JavaScript => node_with(npm()),
            Sdk::PythonSync1 => python_of(python_svix_1(), "sync"),
            Sdk::PythonAsync1 => python_of(python_svix_1(), "async"),
            Sdk::JavaScript1 => node_with(npm_svix_1()),
            Sdk::Rust1 | Sdk::Rust2 => {
                let mut command = Command::new(rust_walk());
                command.arg(if matches!(self, Sdk::Rust1) { "1" } else { "2" });
                command
            }
        }
    }

    /// The operations for which it has no method; `None`: its driver goes part of the way.
    fn has_not(self) -> Option<Vec<Operation>> {
        Some(match self {
            Sdk::Rust1 | Sdk::Rust2 => return None,
            Sdk::PythonSync | Sdk::PythonAsync => [&IN_NONE, &OLD_PATH[..]].concat(),
            // In PyPI's 2.9, not in npm's 2.5.
            Sdk::JavaScript => [&IN_NONE, &OLD_PATH[..], &ATTEMPT_STATS, &DELETE_AUTOCONFIG].concat(),
            Sdk::PythonSync1 | Sdk::PythonAsync1 | Sdk::JavaScript1 => {
                [&IN_NONE, &ATTEMPT_STATS[..], &DESTINATIONS, &AUTOCONFIG, &DELETE_AUTOCONFIG].concat()
            }
        })
    }
}

/// How many operations the driver of an SDK reaches that goes part of the way.
const PART: usize = 36;

/// The program of `tests/rust`: built by the first caller.
fn rust_walk() -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| build::rust("tests/rust", "svix-walk"));
    BUILT.clone()
}

/// What was answered with 2xx so far, by the server's own count.
fn reached(server: &Server) -> BTreeSet<(String, String)> {
    let metrics = server.get("/metrics");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("sendoff_http_requests_total{"));
    let labels = |line: &str| {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        Some((label("method")?, label("route")?, label("status")?))
    };
    lines
        .filter_map(labels)
        .filter(|(.., status)| status.starts_with('2'))
        .map(|(method, route, _)| (method, route))
        .collect()
}

fn walks(sdk: Sdk, name: &str, database_url: &str) {
    let server = Binary::on(database_url).set("SENDOFF_RETRY_SCHEDULE", "100ms,100ms").serve();
    let mut driver = sdk.driver();
    let output = driver.env("SENDOFF_URL", server.url()).env("SENDOFF_TOKEN", server.token()).output();
    let output = output.unwrap_or_else(|error| panic!("{driver:?} does not run ({error}): run `make needs`"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}\n{}", said(&output.stdout), said(&output.stderr));
    assert_eq!(said(&output.stdout).trim(), "all is well");

    let all: BTreeSet<(String, String)> = routes()
        .into_iter()
        .filter(|route| route.answered)
        .map(|Route { method, path, .. }| (method.to_owned(), path))
        .collect();
    let reached: BTreeSet<_> = reached(&server).intersection(&all).cloned().collect();
    let missed: BTreeSet<_> = all.difference(&reached).cloned().collect();
    let owned = |(method, path): Operation| (method.to_owned(), path.to_owned());
    match sdk.has_not() {
        Some(has_not) => {
            let has_not = has_not.into_iter().map(owned).collect();
            assert_eq!(
                missed, has_not,
                "{name}: the operations that were not reached, and those for which it has no method"
            );
        }
        None => assert_eq!(reached.len(), PART, "{name}: {reached:?}"),
    }
    // Past the test harness, which shows what is printed only of a test that fails.
    let _ = writeln!(std::io::stderr(), "sdk {name}: {} of {} operations", reached.len(), all.len());
}

/// Two tests of each SDK: one on each store.
macro_rules! walks_on_both_stores {
    ($($name:ident: $sdk:expr),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                let file = super::sqlite_file();
                super::walks($sdk, concat!(stringify!($name), " on SQLite"), &file.url());
            })*
        }
        mod postgres {
            $(#[test]
            fn $name() {
                super::walks($sdk, concat!(stringify!($name), " on PostgreSQL"), &super::Postgres::shared().fresh_database());
            })*
        }
    };
}

walks_on_both_stores! {
    python_sync: crate::sdks::Sdk::PythonSync,
    python_async: crate::sdks::Sdk::PythonAsync,
    javascript: crate::sdks::Sdk::JavaScript,
    python_sync_1: crate::sdks::Sdk::PythonSync1,
    python_async_1: crate::sdks::Sdk::PythonAsync1,
    javascript_1: crate::sdks::Sdk::JavaScript1,
    rust_1: crate::sdks::Sdk::Rust1,
    rust_2: crate::sdks::Sdk::Rust2,
}
