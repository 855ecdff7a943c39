//! Tests that need a process of their own.
//!
//! Ids are UUIDs of version 7 that only grow within a process, and the subscriber of logs is global. A test about messages
//! of different ages would change what the tests beside it see. Such a test starts its binary again, for itself alone. Both
//! processes use one PostgreSQL server.

use std::env;
use std::future::Future;
use std::process::Command;

use super::Postgres;

/// Names the test that this process runs alone.
const ALONE: &str = "SENDOFF_TEST_ALONE";

/// Runs `test` in a process of its own. `module` and `name` are its path.
///
/// # Panics
/// The test failed, or there is no test of this name.
pub fn run<F: Future<Output = ()>>(module: &str, name: &str, test: impl FnOnce() -> F) {
    let module = module.split_once("::").map_or("", |(_, inner)| inner);
    let path = format!("{module}::{name}");
    if env::var(ALONE).is_ok_and(|alone| alone == path) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.expect("a runtime").block_on(test());
    }
    let mut child = Command::new(env::current_exe().expect("the path of this binary"));
    child.args(["--exact", &path, "--include-ignored", "--nocapture"]).env(ALONE, &path);
    child.env("SENDOFF_TEST_DATABASE_URL", Postgres::shared().url());
    let output = child.output().expect("this binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    print!("{stdout}");
    eprint!("{stderr}");
    assert!(
        output.status.success() && stdout.contains("test result: ok. 1 passed"),
        "{path} failed in its own process"
    );
}

/// Whether this process runs one test alone.
pub fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Makes a test of each function, which runs in a process of its own: `alone::name`.
macro_rules! alone {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod alone {
            $($(#[$attribute])* #[test]
            fn $name() {
                crate::support::own_process::run(module_path!(), stringify!($name), super::$name);
            })*
        }
    };
}
pub(crate) use alone;
