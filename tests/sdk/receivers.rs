//! The receivers of `examples/receivers/`, all at once, as endpoints of the real binary: they get duplicates, get messages out of
//! order, are away for a while, are killed in the middle, and lose what they have confirmed. Each message is handled once.

use std::fs;
use std::fs::File;
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::rest::{call, made};
use crate::support::{Binary, Postgres, SOON, Server, build, eventually_blocking, free_port, npm, python, sqlite_file};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const INVOICES: usize = 40;
const VERSIONS: usize = 3;
/// Attempts for longer than any receiver is away.
const SCHEDULE: &str = "100ms,200ms,300ms,400ms,500ms,500ms,1s,1s,1s,1s,2s,2s,2s,2s,5s,5s,5s,5s,10s,10s";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Standard,
    /// `X-Signature: sha256=…`
    Body,
    /// `X-Webhook-Signature: t=…,v1=…`
    TimeAndBody,
}

/// An example: its file, and its signature.
const EXAMPLES: [(&str, Signature); 6] = [
    ("fastapi_receiver.py", Signature::Standard),
    ("express_receiver.mjs", Signature::Standard),
    ("net_http_receiver.go", Signature::Standard),
    ("axum", Signature::Standard),
    ("plain_sha256.py", Signature::Body),
    ("plain_timestamp.mjs", Signature::TimeAndBody),
];

/// A receiver with its endpoint. It is killed when dropped.
struct Running {
    file: &'static str,
    signature: Signature,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            eprintln!("--- output of {} ---\n{said}--- end of output ---", self.file);
        }
    }
}

impl Running {
    fn new(by: (&Server, &str), folder: &Path, (file, signature): (&'static str, Signature)) -> Running {
        let folder = folder.join(file);
        fs::create_dir(&folder).expect("a folder");
        let port = free_port();
        let extra = match signature {
            Signature::Standard => "",
            Signature::Body => r#"{"style": "github", "header": "X-Signature"}"#,
            Signature::TimeAndBody => r#"{"style": "stripe", "header": "X-Webhook-Signature"}"#,
        };
        let body = format!(
            r#"{{"url": "http://127.0.0.1:{port}/hooks", "secret": "{SECRET}", "extraSignatures": [{extra}], "uid": "{file}"}}"#
        );
        made(by, "/app/acme/endpoint", &body);
        Running { file, signature, folder, port, child: None }
    }

    /// Its program. Those of Node are copied to their packages.
    fn program(&self) -> Vec<PathBuf> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/receivers");
        let (source, port) = (examples.join(self.file), PathBuf::from(self.port.to_string()));
        match self.file.rsplit_once('.') {
            Some((name @ "fastapi_receiver", _)) => {
                let app = PathBuf::from(format!("{name}:app"));
                vec![python(), "-m".into(), "uvicorn".into(), app, "--app-dir".into(), examples, "--port".into(), port]
            }
            Some((_, "py")) => vec!["python3".into(), source, port],
            Some((_, "mjs")) => {
                let copy = npm().join(self.file);
                fs::copy(source, &copy).expect("a copy");
                vec!["node".into(), copy]
            }
            Some((_, "go")) => {
                let built = self.folder.join("receiver");
                if !built.exists() {
                    build::go(&source, &built);
                }
                vec![built]
            }
            _ => {
                static BUILT: LazyLock<PathBuf> =
                    LazyLock::new(|| build::rust("examples/receivers/axum", "axum-receiver"));
                vec![BUILT.clone()]
            }
        }
    }

    fn start(&mut self, reconciles: Option<(&Server, &str)>) {
        let output = File::options().create(true).append(true).open(self.folder.join("output")).expect("a file");
        // Ends with this test, also if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(self.program()).current_dir(&self.folder);
        command.envs([("SECRET", SECRET), ("PORT", &self.port.to_string()), ("DATABASE", "inbox.db")]);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("SENDOFF_URL");
        if let Some((server, token)) = reconciles {
            command.envs([("SENDOFF_URL", &*server.url()), ("SENDOFF_TOKEN", token), ("APPLICATION", "acme")]);
            command.envs([("ENDPOINT", self.file), ("RECONCILE_SECONDS", "0.2")]);
        }
        command.stdout(output.try_clone().expect("a file")).stderr(output);
        self.child = Some(command.spawn().expect("setpriv runs"));
    }

    fn listens(&self) {
        let what = format!("the port of {}", self.file);
        eventually_blocking(&what, SOON, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn failed_since(&self, by: (&Server, &str), time: Timestamp) -> bool {
        let path = format!("/app/acme/attempt/endpoint/{}?status=2&limit=1&after={time}", self.file);
        let (status, list) = call(by, "GET", &path, "");
        assert_eq!(status, 200, "{list}");
        list.contains("\"id\":\"atmpt_")
    }

    fn database(&self) -> PathBuf {
        self.folder.join("inbox.db")
    }

    /// A number of its database; `None` before there is one.
    fn number(&self, sql: &'static str) -> Option<i64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.database()).create_if_missing(false);
            let mut connection: SqliteConnection = options.connect().await.ok()?;
            let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok();
            connection.close().await.ok()?;
            number
        })
    }

    fn stored(&self) -> i64 {
        self.number("SELECT COUNT(*) FROM inbox").unwrap_or(0)
    }

    /// Waits until nothing waits, and checks that each message was handled once.
    fn handled(&self) {
        // One message more: the one that cannot be handled.
        let all = (INVOICES * VERSIONS + 1) as i64;
        let done = "SELECT COUNT(*) FROM inbox WHERE status <> 'waiting'";
        eventually_blocking(&format!("{all} messages at {}", self.file), 3 * SOON, || {
            self.number(done).filter(|&count| count >= all)
        });
        let whole = "SELECT COUNT(*) FROM invoice WHERE version = 3 AND state = 'state 3' AND changes = 3";
        let found = [
            self.stored(),
            self.number("SELECT COUNT(*) FROM inbox WHERE status = 'failed' AND error <> ''").unwrap_or(0),
            self.number(whole).unwrap_or(0),
            self.number("SELECT COUNT(*) FROM invoice").unwrap_or(0),
        ];
        let invoices = INVOICES as i64;
        assert_eq!(found, [all, 1, invoices, invoices], "{}: stored, failed, handled once, invoices", self.file);
    }

    /// Copies its database, with the journal of a commit that was not finished.
    fn back_up(&self) {
        self.copy("inbox.db", "backup.db");
    }

    fn restore(&self) {
        self.copy("backup.db", "inbox.db");
    }

    fn copy(&self, from: &str, to: &str) {
        for ending in ["", "-journal"] {
            let (from, to) = (self.folder.join(format!("{from}{ending}")), self.folder.join(format!("{to}{ending}")));
            match from.exists() {
                true => drop(fs::copy(from, to).expect("a copy")),
                false => drop(fs::remove_file(to)),
            }
        }
    }

    /// What was signed for this message is accepted once more, and nothing else.
    fn refuses_what_is_not_genuine(&self, id: &str, body: &str) {
        let genuine = self.signed(1, id, body);
        assert_eq!(self.status(&genuine, body), "204", "{}: a repeated request", self.file);
        let altered = body.replace("state 3", "state 4");
        assert_eq!(self.status(&genuine, &altered), "401", "{}: an altered body", self.file);
        assert_eq!(self.status(&[], &altered), "401", "{}: no signature", self.file);
        for (age, old) in [(280, false), (320, true)] {
            let expected = if old && self.signature != Signature::Body { "401" } else { "204" };
            assert_eq!(self.status(&self.signed(age, id, body), body), expected, "{}: {age} s old", self.file);
        }
    }

    /// The status for a request of anyone.
    fn status(&self, headers: &[(&str, String)], body: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", body]);
        for (name, value) in headers {
            command.arg("-H").arg(format!("{name}: {value}"));
        }
        let output = command.arg(format!("http://127.0.0.1:{}/hooks", self.port)).output().expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The headers of a request that was signed `age` seconds ago.
    fn signed(&self, age: u64, id: &str, body: &str) -> Vec<(&'static str, String)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let timestamp = now - age;
        let mac = |key: &[u8], text: String| {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(text);
            mac.finalize().into_bytes().to_vec()
        };
        match self.signature {
            Signature::Standard => {
                let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("a secret");
                let signature = STANDARD.encode(mac(&key, format!("{id}.{timestamp}.{body}")));
                vec![
                    ("webhook-id", id.to_owned()),
                    ("webhook-timestamp", timestamp.to_string()),
                    ("webhook-signature", format!("v1,{signature}")),
                ]
            }
            Signature::Body => {
                let signature = hex::encode(mac(SECRET.as_bytes(), body.to_owned()));
                vec![("x-signature", format!("sha256={signature}"))]
            }
            Signature::TimeAndBody => {
                let signature = hex::encode(mac(SECRET.as_bytes(), format!("{timestamp}.{body}")));
                vec![("x-webhook-signature", format!("t={timestamp},v1={signature}"))]
            }
        }
    }
}

fn payload(invoice: usize, version: usize) -> String {
    let id = format!("evt-{invoice}-{version}");
    format!(r#"{{"id": "{id}", "invoice": "in_{invoice}", "version": {version}, "state": "state {version}"}}"#)
}

/// Sends the versions of these invoices, the newest first; the ids of the messages.
fn send(by: (&Server, &str), invoices: Range<usize>) -> Vec<String> {
    let versions = (1..=VERSIONS).rev().flat_map(|version| invoices.clone().map(move |invoice| (invoice, version)));
    let sent = versions.map(|(invoice, version)| {
        let body = format!(r#"{{"eventType": "invoice.changed", "payload": {}}}"#, payload(invoice, version));
        made(by, "/app/acme/msg", &body)
    });
    sent.collect()
}

/// Kills each receiver while these arrive, and sends some more that find none of them.
fn kill_while_messages_arrive(by: (&Server, &str), receivers: &mut [Running], invoices: Range<usize>) {
    let away = invoices.end - 3;
    std::thread::scope(|scope| {
        scope.spawn(|| send(by, invoices.start..away));
        for receiver in receivers.iter_mut() {
            let some = (invoices.start * VERSIONS + 10) as i64;
            eventually_blocking(&format!("some messages at {}", receiver.file), 3 * SOON, || {
                (receiver.stored() > some).then_some(())
            });
            receiver.kill();
        }
    });
    let killed = Timestamp::now();
    send(by, away..invoices.end);
    for receiver in receivers {
        eventually_blocking(&format!("a failed attempt at {}", receiver.file), SOON, || {
            receiver.failed_since(by, killed).then_some(())
        });
    }
}

fn nothing_is_lost_and_nothing_handled_twice(database_url: &str) {
    let server = Binary::on(database_url).set("SENDOFF_RETRY_SCHEDULE", SCHEDULE).serve();
    let token = server.token();
    let by = (&server, &*token);
    let app = made(by, "/app", r#"{"name": "Acme", "uid": "acme"}"#);
    let customers = server.binary().run(&["token", "--app", &app]).stdout.trim().to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    let mut receivers = EXAMPLES.map(|example| Running::new(by, folder.path(), example));
    receivers.iter_mut().for_each(|receiver| receiver.start(None));
    receivers.iter().for_each(Running::listens);
    let poison = r#"{"id": "evt-poison", "invoice": null, "version": 1, "state": "x"}"#;
    made(by, "/app/acme/msg", &format!(r#"{{"eventType": "invoice.changed", "payload": {poison}}}"#));

    kill_while_messages_arrive(by, &mut receivers, 0..INVOICES / 2);
    receivers.iter().for_each(Running::back_up);
    receivers.iter_mut().for_each(|receiver| receiver.start(None));
    kill_while_messages_arrive(by, &mut receivers, INVOICES / 2..INVOICES - 1);
    receivers.iter_mut().for_each(|receiver| receiver.start(None));
    receivers.iter().for_each(Running::listens);
    let ids = send(by, INVOICES - 1..INVOICES);
    receivers.iter().for_each(Running::handled);

    // The last invoice once more.
    for receiver in &receivers {
        for id in &ids {
            let (status, said) =
                call(by, "POST", &format!("/app/acme/msg/{id}/endpoint/{}/resend", receiver.file), "{}");
            assert_eq!(status, 202, "{said}");
        }
        eventually_blocking(&format!("the repeated messages at {}", receiver.file), SOON, || {
            let (_, stats) = call(by, "GET", &format!("/app/acme/endpoint/{}/stats", receiver.file), "");
            stats.contains("\"pending\":0").then_some(())
        });
        receiver.refuses_what_is_not_genuine(&ids[0], &payload(INVOICES - 1, VERSIONS));
        receiver.handled();
    }

    // A restored backup has lost messages that were confirmed: the comparison brings them back.
    let compares = receivers.iter_mut().filter(|receiver| receiver.signature == Signature::Standard);
    for receiver in compares {
        receiver.kill();
        receiver.restore();
        assert!(receiver.stored() < (INVOICES / 2 * VERSIONS + 2) as i64, "{} has lost some", receiver.file);
        receiver.start(Some((&server, &customers)));
    }
    receivers.iter().for_each(Running::handled);
}

#[test]
fn nothing_is_lost_and_nothing_handled_twice_with_sqlite() {
    nothing_is_lost_and_nothing_handled_twice(&sqlite_file().url());
}

#[test]
fn nothing_is_lost_and_nothing_handled_twice_with_postgres() {
    nothing_is_lost_and_nothing_handled_twice(&Postgres::shared().fresh_database());
}
