//! The official `svix` SDKs as a contract suite: the real binary on each store, and in each language a driver that walks through every
//! operation its SDK has, with a receiver of its own that verifies what arrives by `svix` and by `standardwebhooks`. What a
//! driver reached is counted by the server itself and held against the route table.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use support::routes::{Route, routes};
use support::{Binary, Postgres, Server, npm, python, sqlite_file};

/// An operation, by its method and path.
type Operation = (&'static str, &'static str);

/// None of the SDKs has a method for these.
const IN_NONE: [Operation; 7] = [
    ("GET", "/health/ping"),
    ("GET", "/openapi.json"),
    ("GET", "/app/{app}/stats/attempts"),
    ("GET", "/app/{app}/poller/{sink}/stream"),
    ("POST", "/app/{app}/endpoint/{endpoint}/reconcile"),
    // Paths of old SDKs.
    ("GET", "/app/{app}/msg/{msg}/attempt"),
    ("POST", "/auth/dashboard-access/{app}"),
];

/// An SDK, as a program that uses it.
#[derive(Clone, Copy)]
enum Sdk {
    PythonSync,
    PythonAsync,
    JavaScript,
}

impl Sdk {
    fn driver(self) -> Command {
        let python = |kind: &str| {
            let mut command = Command::new(python());
            command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/sdk/walk.py"), kind]);
            // Nothing is left in the source tree.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        match self {
            Sdk::PythonSync => python("sync"),
            Sdk::PythonAsync => python("async"),
            Sdk::JavaScript => {
                let mut command = Command::new("node");
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/javascript/walk.mjs"));
                command.env("SENDOFF_TEST_NPM", npm());
                command
            }
        }
    }

    /// The operations for which it has no method.
    fn has_not(self) -> Vec<Operation> {
        let more: &[Operation] = match self {
            Sdk::PythonSync | Sdk::PythonAsync => &[],
            // In PyPI's 2.9, not in npm's 2.5.
            Sdk::JavaScript => &[
                ("GET", "/app/{app}/endpoint/{endpoint}/attempt-stats"),
                ("DELETE", "/app/{app}/autoconfig/{autoconfig}"),
            ],
        };
        [&IN_NONE, more].concat()
    }
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
    let has_not = sdk.has_not().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(missed, has_not, "{name}: the operations that were not reached, and those for which it has no method");
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
    python_sync: crate::Sdk::PythonSync,
    python_async: crate::Sdk::PythonAsync,
    javascript: crate::Sdk::JavaScript,
}
