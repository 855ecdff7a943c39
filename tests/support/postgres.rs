//! A PostgreSQL for the suite: a cluster in a temporary folder, on a free loopback port, gone when the tests are.
//!
//! Cast: the *cluster* is the data folder and its server; the *guard* is a shell that made it, runs `stop` and `start` when
//! told, and removes it when its standard input ends — which is also what happens when the test binary is killed.
//!
//! With `SENDOFF_TEST_DATABASE_URL` (or `DATABASE_URL`) set, that server is used instead: the user must be allowed to create
//! databases. What is made there is called `sendoff_test_…` and stays.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use url::Url;

use super::free_port;

/// What a commit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No fsync: for tests that never lose the server. Fast.
    Off,
    /// As in production: for tests that crash the server and look what is left, and for measuring.
    On,
}

/// A PostgreSQL server to make databases on.
pub struct Postgres {
    url: Url,
    guard: Option<Mutex<Guard>>,
}

struct Guard {
    child: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
}

impl Postgres {
    /// The one server of this test binary, without fsync. It is made by the first caller.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let given = ["SENDOFF_TEST_DATABASE_URL", "DATABASE_URL"].into_iter().find_map(|name| env::var(name).ok());
            match given.filter(|url| url.starts_with("postgres")) {
                Some(url) => {
                    Postgres { url: url.parse().expect("a URL of PostgreSQL in the environment"), guard: None }
                }
                None => Postgres::start(Durability::Off),
            }
        })
    }

    /// A server of the caller's own, for tests that stop it; it goes when it is dropped.
    pub fn start(durability: Durability) -> Postgres {
        Postgres::start_with(durability, "")
    }

    /// The same with more settings, such as `-c max_connections=1000`.
    pub fn start_with(durability: Durability, settings: &str) -> Postgres {
        Postgres::make(durability, settings, None)
    }

    /// One that speaks TLS too, with the certificate and key of these files.
    pub fn start_with_tls(durability: Durability, certificate: &str, key: &str) -> Postgres {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Postgres::make(durability, "", Some([read(certificate), read(key)]))
    }

    fn make(durability: Durability, settings: &str, tls: Option<[String; 2]>) -> Postgres {
        let binaries = find_binaries();
        // Another process may take the port between our look and the server's bind: a second and third try.
        let mut report = String::new();
        for _ in 0..3 {
            let port = free_port();
            match Guard::start(&binaries, port, durability, settings, tls.as_ref()) {
                Ok(guard) => {
                    let url = format!("postgres://sendoff@127.0.0.1:{port}/postgres").parse().expect("a URL");
                    return Postgres { url, guard: Some(Mutex::new(guard)) };
                }
                Err(said) => report = said,
            }
        }
        panic!("PostgreSQL from {} did not start:\n{report}", binaries.display());
    }

    /// The URL of a new, empty database. Callable from async code too: it works in a thread of its own.
    pub fn fresh_database(&self) -> String {
        self.new_database("")
    }

    fn new_database(&self, options: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sendoff_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name}{options}"));
        let mut url = self.url.clone();
        url.set_path(&name);
        url.to_string()
    }

    /// The URL of the server's first database.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL of a new database with the content of `template`, to which nothing may be connected.
    pub fn copy_of(&self, template: &str) -> String {
        self.new_database(&format!(" TEMPLATE {template}"))
    }

    /// Runs `sql` in the server's first database, as the owner of everything.
    pub fn execute(&self, sql: &str) {
        let (url, sql) = (self.url.to_string(), sql.to_owned());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                connection.execute(AssertSqlSafe(sql)).await?;
                connection.close().await
            })
        };
        let done: Result<(), sqlx::Error> = std::thread::spawn(work).join().expect("the thread of a statement");
        done.unwrap_or_else(|e| panic!("PostgreSQL at {}: {e}", self.url));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.url.socket_addrs(|| None).expect("an address")[0]
    }

    /// Where its data lies; it belongs to the server's user.
    pub fn folder(&self) -> PathBuf {
        self.guard.as_ref().expect("only a server of our own lies here: use Postgres::start");
        let show = |url: &str| -> Result<String, sqlx::Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await
            })
        };
        let url = self.url.to_string();
        let shown = std::thread::spawn(move || show(&url)).join().expect("the thread of a statement");
        shown.expect("the server answers").into()
    }

    /// What it has logged, if it is one of our own.
    pub fn log(&self) -> PathBuf {
        self.folder().with_file_name("log")
    }

    /// The process id of the server's first process.
    pub fn postmaster(&self) -> u32 {
        let path = self.folder().join("postmaster.pid");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id in the first line")
    }

    /// Crashes the server: connections break, and nothing answers until [`Postgres::restart`].
    pub fn crash(&self) {
        self.order("stop");
    }

    /// Brings a crashed server back, on the same port and data.
    pub fn restart(&self) {
        self.order("start");
    }

    fn order(&self, order: &str) {
        let guard = self.guard.as_ref().expect("only a server of our own is stopped and started: use Postgres::start");
        let mut guard = guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let orders = guard.orders.as_mut().expect("open until dropped");
        writeln!(orders, "{order}").expect("the guard listens");
        let report = guard.report();
        assert_eq!(report, "done", "the guard of PostgreSQL, told to {order}");
    }
}

/// First word of the guard's reports: `ready`, `done` or `failed`. `$1` the folder of the binaries, `$2` the port, `$3` settings.
const GUARD: &str = r#"
trap '' INT TERM HUP
cd / && folder=$(mktemp -d "${TMPDIR:-/tmp}/sendoff-postgres-XXXXXX") || { echo "failed: no temporary folder"; exit 1; }
tls=
if [ -n "$TLS_KEY" ]; then
  tls="-c ssl=on -c ssl_cert_file=$folder/certificate -c ssl_key_file=$folder/key"
  (umask 077; printf '%s\n' "$TLS_CERTIFICATE" >"$folder/certificate"; printf '%s\n' "$TLS_KEY" >"$folder/key")
fi
start() { "$1/pg_ctl" start -s -w -t 60 -D "$folder/data" -l "$folder/log" -o "-p $2 -k $folder $3 $tls" >>"$folder/log" 2>&1 </dev/null; }
stop() { "$1/pg_ctl" stop -s -w -m immediate -D "$folder/data" >>"$folder/log" 2>&1 </dev/null; }
if "$1/initdb" -D "$folder/data" -U sendoff -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1 </dev/null && start "$@"
then echo ready
else echo "failed:"; cat "$folder/log"; stop "$@"; rm -rf "$folder"; exit 1
fi
while read -r order; do
  if "$order" "$@"; then echo done; else echo "failed: $order: $(tail -n 5 "$folder/log" | tr '\n' ' ')"; fi
done
stop "$@"
rm -rf "$folder"
"#;

const SETTINGS: &str =
    "-c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=128MB -c max_wal_size=2GB";
const WITHOUT_FSYNC: &str = " -c fsync=off -c synchronous_commit=off -c full_page_writes=off";

impl Guard {
    fn start(
        binaries: &Path,
        port: u16,
        durability: Durability,
        more: &str,
        tls: Option<&[String; 2]>,
    ) -> Result<Guard, String> {
        // Of a setting that is given twice, the last counts.
        let mut settings = format!("{SETTINGS} {more}");
        if durability == Durability::Off {
            settings.push_str(WITHOUT_FSYNC);
        }
        let mut command = as_ordinary_user();
        command.args(["sh", "-c", GUARD, "sendoff-postgres-guard"]).arg(binaries).arg(port.to_string()).arg(settings);
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let Some([certificate, key]) = tls {
            command.env("TLS_CERTIFICATE", certificate).env("TLS_KEY", key);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let reports = BufReader::new(child.stdout.take().expect("piped"));
        let mut guard = Guard { orders: child.stdin.take(), child, reports };
        match guard.report().as_str() {
            "ready" => Ok(guard),
            report => {
                let mut rest = String::new();
                let _ = guard.reports.read_to_string(&mut rest);
                Err(format!("{report}\n{rest}"))
            }
        }
    }

    fn report(&mut self) -> String {
        let mut line = String::new();
        self.reports.read_line(&mut line).map_or_else(|e| e.to_string(), |_| line.trim().to_owned())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// The folder of `initdb` and `pg_ctl`: on the PATH, else Debian's, newest first.
fn find_binaries() -> PathBuf {
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    let has_both = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    on_path.into_iter().chain(debian).find(has_both).unwrap_or_else(|| {
        panic!(
            "the suite needs PostgreSQL 14 or newer: `apt-get install postgresql` (`make test` does that when it is root), \
             or set SENDOFF_TEST_DATABASE_URL to a server where databases may be created"
        )
    })
}

/// PostgreSQL refuses to run as root: then the command that follows runs as `postgres`, or `nobody`.
pub fn as_ordinary_user() -> Command {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if said("id", &["-u"]).as_deref() != Some("0") {
        return Command::new("env");
    }
    let user = ["postgres", "nobody"].into_iter().find(|user| said("id", &["-u", user]).is_some()).unwrap_or("nobody");
    let group = said("id", &["-g", user]).unwrap_or_else(|| "65534".to_owned());
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).args(["--clear-groups", "--"]);
    command
}
