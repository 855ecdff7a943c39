//! Go programs of the examples and snippets, built with the compiler and the libraries of Debian: no modules are fetched.

use std::path::Path;
use std::process::Command;

/// Builds the one file `source` into `program`.
///
/// # Panics
/// There is no compiler, or the program does not build.
pub fn build(source: &Path, program: &Path) {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/go-build");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(program).arg(source);
    build.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOCACHE", target), ("GOFLAGS", "")]);
    let output = build.output().unwrap_or_else(|error| panic!("{build:?}: {error}: run `make needs`"));
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
}
