//! PgBouncer between Sendoff and PostgreSQL.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use super::api::Api;
use crate::support::postgres::as_ordinary_user;
use crate::support::{Binary, Postgres, Receiver, SOON, complaint, eventually_blocking, free_port};

/// Runs as an ordinary user, which it wants, until its standard input ends. `$1` the program, `$2` the settings.
const SCRIPT: &str = r#"
folder=$(mktemp -d "${TMPDIR:-/tmp}/sendoff-pgbouncer-XXXXXX") || exit 1
echo '"sendoff" ""' >"$folder/users"
printf '%s\nauth_file = %s/users\n' "$2" "$folder" >"$folder/settings"
"$1" "$folder/settings" >"$folder/log" 2>&1 </dev/null & pid=$!
read -r _
kill "$pid"; wait "$pid"; cat "$folder/log"; rm -rf "$folder"
"#;

/// A PgBouncer in front of the suite's server.
struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    fn start(mode: &str) -> Pooler {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let program = program
            .expect("the suite needs PgBouncer: `apt-get install pgbouncer` (`make test` does that when it is root)");
        let (server, port) = (Postgres::shared().address(), free_port());
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\npool_mode = {mode}\ndefault_pool_size = 60\nmax_client_conn = 200",
            server.ip(),
            server.port()
        );
        let mut command = as_ordinary_user();
        command.args(["sh", "-c", SCRIPT, "sendoff-pgbouncer", program, &settings]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut pooler = Pooler { child, port };
        eventually_blocking("PgBouncer listens", SOON, || {
            let ended = pooler.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "PgBouncer has ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        pooler
    }

    /// The URL of a new database through it.
    fn fresh_database(&self) -> String {
        let (url, server) = (Postgres::shared().fresh_database(), Postgres::shared().address());
        url.replace(&server.to_string(), &format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        let _ = self.child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut said));
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- PgBouncer ---\n{said}");
        }
    }
}

#[test]
fn a_pooler_that_shares_sessions_is_refused() {
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(mode);
        let url = pooler.fresh_database();
        for command in ["serve", "migrate"] {
            let told = complaint(&Binary::on(&url).set("SENDOFF_LISTEN", "127.0.0.1:0").run(&[command]), 1);
            assert!(told.contains("is a pooler") && told.contains("pool_mode = session"), "{mode}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_with_sessions_does() {
    let pooler = Pooler::start("session");
    let api = Api::at(&pooler.fresh_database(), &[]);
    let receiver = Receiver::ok();
    api.customer(receiver.url("/")).await;
    for number in 1..=3 {
        assert_eq!(api.send().await.0, 202);
        receiver.wait_for(number, SOON).await;
    }
}
