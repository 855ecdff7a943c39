//! Builds the examples, snippets and clients that are programs of their own, in Go and Rust.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the one Go file `source` into `program`, with the compiler and the libraries of Debian: no modules are fetched.
///
/// # Panics
/// There is no compiler, or the program does not build.
pub fn go(source: &Path, program: &Path) {
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/target/go-build");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(program).arg(source);
    build.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOCACHE", cache), ("GOFLAGS", "")]);
    run(build);
}

/// Builds the package in this folder, which has dependencies of its own; the path of its program `name`. The packages share a
/// target folder, and with it the dependencies that they have in common.
///
/// # Panics
/// The package does not build.
pub fn rust(folder: &str, name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/rust-programs");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--quiet", "--manifest-path"]).arg(root.join(folder).join("Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    // Those of a build with clippy (.ci/run) are not for other packages.
    build.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTFLAGS");
    run(build);
    target.join("debug").join(name)
}

fn run(mut build: Command) {
    let output = build.output().unwrap_or_else(|error| panic!("{build:?}: {error}: run `make needs`"));
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
}
