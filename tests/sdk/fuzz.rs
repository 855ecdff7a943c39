//! schemathesis against the real binary: from the OpenAPI document it makes up thousands of calls of every operation, good and bad ones,
//! and holds each answer against that document (tests/python/fuzz.py, fuzz.toml).

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Binary, Postgres, eventually_blocking, python, sqlite_file};

/// It takes about 40 s on a quiet machine of two cores.
const PATIENCE: Duration = Duration::from_secs(400);

/// schemathesis at work. What it said is shown if the test fails, and it does not outlive the test.
struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// Makes `cases` random calls of each operation, besides those that the document suggests.
fn fuzz(binary: Binary, cases: &str) {
    let token = binary.token();
    let server = binary.serve();
    let folder = tempfile::tempdir().expect("a folder for what it writes");
    let log = folder.path().join("log");
    let output = File::create(&log).expect("a log");
    let child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/fuzz.py"))
        .arg(cases)
        .current_dir(folder.path())
        .envs([("SENDOFF_URL", server.url()), ("SENDOFF_TOKEN", token)])
        .envs([("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python")), ("PYTHONDONTWRITEBYTECODE", "1")])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("python runs");
    let mut run = Run { child, log };
    let status = eventually_blocking("schemathesis' end", PATIENCE, || run.child.try_wait().expect("a child of ours"));
    let said = run.said();
    assert!(status.success() && said.contains("No issues found"), "{status}");
    let all = sendoff::api::openapi::document().paths.paths.len();
    let tested =
        said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).and_then(|count| count.parse().ok());
    assert!(tested.is_some_and(|tested: usize| tested >= all && tested > 40), "{tested:?} of {all}");
    assert_eq!(server.get_status("/readyz"), Some(200), "it still stands");
    let complaints: Vec<String> =
        server.output().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_operation_on_sqlite() {
    let file = sqlite_file();
    fuzz(Binary::on(&file.url()), "10");
}

#[test]
fn every_operation_on_postgres() {
    // Without an engine: what is made up is sent nowhere.
    let binary = Binary::on(&Postgres::shared().fresh_database()).set("SENDOFF_ROLE", "api");
    fuzz(binary, "5");
}
