//! Operational webhooks from outside: the real binary, and a team that listens with the official Python client and its verification.

use std::process::Command;

use crate::support::{Binary, python, sqlite_file};

#[test]
fn a_team_listens_with_the_official_client() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).set("SENDOFF_RETRY_SCHEDULE", "50ms,50ms,50ms,50ms,50ms").serve();
    let mut team = Command::new(python());
    team.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/operational.py"));
    team.env("SENDOFF_URL", server.url()).env("SENDOFF_TOKEN", server.token()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = team.output().expect("python runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
    assert_eq!(said(&output.stdout).trim(), "all is well");
}
