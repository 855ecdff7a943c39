//! `sendoff relay`: rows of an outbox table in another database arrive, in the order of their keys and once, from
//! PostgreSQL, MariaDB and SQLite.

#[path = "../support/mariadb.rs"]
mod mariadb;
#[allow(dead_code, reason = "its main function")]
#[path = "../../examples/outbox_sqlx.rs"]
mod outbox_sqlx;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Binary, Postgres, Receiver, SOON, Server, SqliteFile, complaint, eventually_blocking, free_port, sqlite_file,
};
use mariadb::MariaDb;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

/// The team's database, with the table that `sendoff outbox init` prints, and its two roles.
struct Shop {
    writer: String,
    relay: String,
    owner: String,
    _mariadb: Option<MariaDb>,
    _file: Option<SqliteFile>,
}

impl Shop {
    fn new(dialect: Dialect) -> Shop {
        let word = match dialect {
            Dialect::Postgres => "postgres",
            Dialect::MySql => "mysql",
            Dialect::Sqlite => "sqlite",
        };
        let (app, relay) = (unique("app"), unique("relay"));
        let printed = Binary::on("sqlite:none.db").run(&[
            "outbox",
            "init",
            "--dialect",
            word,
            "--writer",
            &app,
            "--relay",
            &relay,
        ]);
        assert!(printed.status.success(), "{printed:?}");
        let shop = match dialect {
            Dialect::Postgres => {
                let server = Postgres::shared();
                let owner = server.fresh_database();
                for role in [&app, &relay] {
                    server.execute(&format!("CREATE ROLE {role} LOGIN"));
                }
                let with = |role: &str| owner.replacen("sendoff@", &format!("{role}@"), 1);
                Shop { writer: with(&app), relay: with(&relay), owner, _mariadb: None, _file: None }
            }
            Dialect::MySql => {
                let server = MariaDb::start();
                execute(&server.url("root", "mysql"), "CREATE DATABASE shop");
                for role in [&app, &relay] {
                    execute(&server.url("root", "shop"), &format!("CREATE USER '{role}'@'%'"));
                }
                Shop {
                    writer: server.url(&app, "shop"),
                    relay: server.url(&relay, "shop"),
                    owner: server.url("root", "shop"),
                    _mariadb: Some(server),
                    _file: None,
                }
            }
            Dialect::Sqlite => {
                let file = sqlite_file();
                std::fs::File::create(file.path()).expect("a file");
                let url = file.url();
                Shop { writer: url.clone(), relay: url.clone(), owner: url, _mariadb: None, _file: Some(file) }
            }
        };
        for statement in printed.stdout.split(";\n").filter(|statement| !statement.trim().is_empty()) {
            if dialect != Dialect::Sqlite || statement.contains("CREATE") {
                execute(&shop.owner, statement.trim_end_matches(';'));
            }
        }
        shop
    }

    fn insert(&self, rows: &[(&str, Option<&str>, &str)]) {
        let rows: Vec<String> = rows
            .iter()
            .map(|(application, key, payload)| {
                let key = key.map_or("NULL".to_owned(), |key| format!("'{key}'"));
                format!("('{application}', 'invoice.paid', {key}, '{payload}')")
            })
            .collect();
        let columns = "application, event_type, ordering_key, payload";
        execute(&self.writer, &format!("INSERT INTO sendoff_outbox ({columns}) VALUES {}", rows.join(", ")));
    }

    fn count(&self) -> i64 {
        in_runtime(async {
            let mut connection = AnyConnection::connect(&self.owner).await?;
            let row = connection.fetch_one("SELECT COUNT(*) FROM sendoff_outbox").await?;
            connection.close().await?;
            row.try_get(0)
        })
    }

    fn empties(&self) {
        eventually_blocking("an empty outbox", SOON, || (self.count() == 0).then_some(()));
    }

    /// The relay on a machine of its own, which knows the two addresses and a token.
    fn relay(&self, server: &str, token: &str, more: &[&str]) -> Server {
        let all =
            [&["relay", "--from", &self.relay, "--server", server, "--token", token, "--poll", "50ms"], more].concat();
        Binary::on("sqlite:none.db").begin(&all)
    }
}

/// A name that no other test of this process uses.
fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn in_runtime<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> T {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work).expect("the shop's database")
}

fn execute(url: &str, sql: &str) {
    in_runtime(async {
        let mut connection = AnyConnection::connect(url).await?;
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await
    });
}

fn call(server: &Server, method: &str, path: &str, body: &str) -> String {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).expect("a connection");
    let (length, token) = (body.len(), server.token());
    write!(
        stream,
        "{method} /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
}

/// Sendoff with an application `acme` and its endpoint at the receiver.
fn sendoff(receiver: &Receiver) -> (Server, SqliteFile) {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    call(&server, "POST", "/app", r#"{"name": "Acme", "uid": "acme"}"#);
    let url = receiver.url("/");
    call(&server, "POST", "/app/acme/endpoint", &format!(r#"{{"url": "{url}"}}"#));
    (server, file)
}

/// The payloads of the application's messages, the oldest first.
fn accepted(server: &Server) -> Vec<Value> {
    let list: Value = serde_json::from_str(&call(server, "GET", "/app/acme/msg?limit=250", "")).expect("JSON");
    let mut payloads: Vec<Value> =
        list["data"].as_array().expect("a list").iter().map(|message| message["payload"].clone()).collect();
    payloads.reverse();
    payloads
}

fn rows_arrive_once_with_their_bytes_and_in_the_order_of_their_keys(dialect: Dialect) {
    let shop = Shop::new(dialect);
    let receiver = Receiver::ok();
    let (server, _file) = sendoff(&receiver);
    let payloads: Vec<(Option<&str>, String)> =
        (0..120).map(|n| ([Some("a"), Some("b"), None][n % 3], format!("{{ \"n\":{n},  \"price\": 1.50 }}"))).collect();
    let rows: Vec<_> = payloads.iter().map(|(key, payload)| ("acme", *key, payload.as_str())).collect();
    shop.insert(&rows);
    let _relay = shop.relay(&server.url(), &server.token(), &[]);
    shop.empties();
    eventually_blocking("120 deliveries", SOON, || (receiver.count() >= 120).then_some(()));
    let bodies: HashSet<String> = receiver.received().iter().map(|got| got.text()).collect();
    assert_eq!(
        bodies,
        payloads.iter().map(|(_, payload)| payload.clone()).collect(),
        "the bytes as they were inserted"
    );
    let mut last: HashMap<u64, i64> = HashMap::new();
    for payload in accepted(&server) {
        let n = payload["n"].as_i64().expect("a number");
        if n % 3 < 2 {
            let before = last.insert((n % 3) as u64, n).unwrap_or(-1);
            assert!(before < n, "key {}: {n} after {before}", n % 3);
        }
    }
    // A row that repeats an event is taken out and sent to nobody.
    for _ in 0..2 {
        let columns = "application, event_type, event_id, payload";
        let values = "('acme', 'invoice.paid', 'evt-1', '{\"n\":1000}')";
        execute(&shop.writer, &format!("INSERT INTO sendoff_outbox ({columns}) VALUES {values}"));
        shop.empties();
    }
    shop.insert(&[("acme", None, "{\"n\":1001}")]);
    shop.empties();
    eventually_blocking("the last delivery", SOON, || (receiver.count() >= 122).then_some(()));
    assert_eq!((receiver.count(), accepted(&server).len()), (122, 122));
}

fn a_rejected_row_stays_and_holds_back_its_key_alone(dialect: Dialect) {
    let shop = Shop::new(dialect);
    let receiver = Receiver::ok();
    let (server, _file) = sendoff(&receiver);
    shop.insert(&[
        ("globex", Some("g"), "{\"n\":1}"),
        ("acme", Some("g"), "{\"n\":2}"),
        ("acme", None, "no JSON"),
        ("acme", Some("h"), "{\"n\":3}"),
        ("acme", None, "{\"n\":4}"),
    ]);
    let admin = format!("127.0.0.1:{}", free_port());
    let relay = shop.relay(&server.url(), &server.token(), &["--admin-listen", &admin]);
    eventually_blocking("two deliveries", SOON, || (receiver.count() >= 2).then_some(()));
    eventually_blocking("both reasons", SOON, || {
        let output = relay.output();
        (output.contains("404") && output.contains("payload is not valid JSON")).then_some(())
    });
    // A row is deleted after Sendoff has it, so its delivery may arrive first.
    eventually_blocking("the accepted rows to be deleted", SOON, || (shop.count() <= 3).then_some(()));
    assert_eq!(shop.count(), 3, "{}", relay.output());
    let bodies: HashSet<String> = receiver.received().iter().map(|got| got.text()).collect();
    assert_eq!(bodies, HashSet::from(["{\"n\":3}".to_owned(), "{\"n\":4}".to_owned()]));
    eventually_blocking("the metrics", SOON, || {
        let mut stream = TcpStream::connect(&admin).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let says = |line: &str| text.lines().any(|one| one == line);
        (says("sendoff_outbox_waiting 3") && says("sendoff_outbox_stuck 2") && says("sendoff_outbox_relayed_total 2"))
            .then_some(())
    });
    // Once the cause is gone, the row and the rest of its key go out.
    call(&server, "POST", "/app", r#"{"name": "Globex", "uid": "globex"}"#);
    eventually_blocking("the key's next row", SOON, || (receiver.count() >= 3).then_some(()));
    assert_eq!(receiver.received()[2].text(), "{\"n\":2}");
    eventually_blocking("the key's row to be deleted", SOON, || (shop.count() <= 1).then_some(()));
    assert_eq!(shop.count(), 1, "the row that is no JSON stays");
}

fn killed_relays_and_a_server_that_is_away_lose_nothing(dialect: Dialect) {
    let shop = Shop::new(dialect);
    let receiver = Receiver::ok();
    let (server, _file) = sendoff(&receiver);
    let (url, token) = (server.url(), server.token());
    let listen = url.replace("http://", "");
    let mut server = Some(server);
    let mut relays = vec![shop.relay(&url, &token, &[])];
    eventually_blocking("a first relay", SOON, || relays[0].output().contains("Relaying").then_some(()));
    relays.push(shop.relay(&url, &token, &[]));
    eventually_blocking("a second one that waits", SOON, || relays[1].output().contains("another relay").then_some(()));
    let mut expected = HashSet::new();
    for round in 0..4 {
        let payloads: Vec<String> = (0..150).map(|n| format!("{{\"n\":{}}}", round * 1_000 + n)).collect();
        let rows: Vec<_> = payloads.iter().map(|payload| ("acme", Some("k"), payload.as_str())).collect();
        shop.insert(&rows);
        expected.extend(payloads.iter().cloned());
        eventually_blocking("some of them", SOON, || (receiver.count() > round * 150 + 20).then_some(()));
        if round == 1 {
            let binary = server.take().expect("a server").kill();
            server = Some(binary.start_at(&listen));
        } else {
            relays.remove(0).kill();
            relays.push(shop.relay(&url, &token, &[]));
        }
    }
    shop.empties();
    eventually_blocking("every row", SOON, || (receiver.count() >= 600).then_some(()));
    let bodies: Vec<String> = receiver.received().iter().map(|got| got.text()).collect();
    assert_eq!(bodies.iter().cloned().collect::<HashSet<_>>(), expected);
    let ids: HashSet<String> =
        receiver.received().iter().map(|got| got.header("webhook-id").expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), 600, "each row is one message, though relays were killed before they deleted it");
}

/// Makes of each function that takes a [`Dialect`] a test on each.
macro_rules! on_all {
    ($($name:ident)*) => {
        mod postgres { $(#[test] fn $name() { super::$name(super::Dialect::Postgres); })* }
        mod mariadb_server { $(#[test] fn $name() { super::$name(super::Dialect::MySql); })* }
        mod sqlite { $(#[test] fn $name() { super::$name(super::Dialect::Sqlite); })* }
    };
}

on_all! {
    rows_arrive_once_with_their_bytes_and_in_the_order_of_their_keys
    a_rejected_row_stays_and_holds_back_its_key_alone
    killed_relays_and_a_server_that_is_away_lose_nothing
}

#[test]
fn bytes_that_are_no_text_are_rejected_and_stop_no_other_row() {
    let shop = Shop::new(Dialect::Sqlite);
    let receiver = Receiver::ok();
    let (server, _file) = sendoff(&receiver);
    let values = "('acme', 'a.b', x'ff'), (x'fe', 'a.b', '{}')";
    execute(&shop.owner, &format!("INSERT INTO sendoff_outbox (application, event_type, payload) VALUES {values}"));
    let long = "x".repeat(100_000);
    shop.insert(&[("acme", Some(&long), "{\"n\":1}"), ("acme", None, "{\"n\":2}")]);
    let relay = shop.relay(&server.url(), &server.token(), &[]);
    eventually_blocking("two deliveries", SOON, || (receiver.count() >= 2).then_some(()));
    eventually_blocking("both reasons", SOON, || {
        let output = relay.output();
        (output.contains("payload is not UTF-8") && output.contains("application is not UTF-8")).then_some(())
    });
    eventually_blocking("two rows", SOON, || (shop.count() == 2).then_some(()));
}

/// Runs an example with the settings of a database's role.
fn run_example(mut command: std::process::Command, database: &url::Url, outbox: &str) {
    let sqlalchemy = database.as_str().replacen("postgres:", "postgresql+psycopg:", 1);
    let settings = [
        ("DATABASE_URL", sqlalchemy.as_str()),
        ("PGHOST", database.host_str().expect("a host")),
        ("PGUSER", database.username()),
        ("PGDATABASE", database.path().trim_start_matches('/')),
        ("OUTBOX", outbox),
    ];
    let port = database.port().expect("a port").to_string();
    command.arg("acme").envs(settings).envs([("PGPORT", port.as_str()), ("PGSSLMODE", "disable")]);
    let finished = command.output().expect("the example runs");
    assert!(finished.status.success(), "{command:?}: {}", String::from_utf8_lossy(&finished.stderr));
}

#[test]
fn transactions_of_several_libraries_reach_either_outbox() {
    const TABLE: &str = "public.sendoff_outbox";
    let database = Postgres::shared().fresh_database();
    let receiver = Receiver::ok();
    let server = Binary::on(&database).serve();
    call(&server, "POST", "/app", r#"{"name": "Acme", "uid": "acme"}"#);
    let url = receiver.url("/");
    call(&server, "POST", "/app/acme/endpoint", &format!(r#"{{"url": "{url}"}}"#));
    // The documented privileges, and a place for the shop's own tables.
    let role = unique("shop");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let grants = std::fs::read_to_string(examples.join("outbox.sql")).expect("an example");
    let grants =
        grants.lines().filter(|line| line.starts_with("GRANT ")).map(|line| line.replace("product_writer", &role));
    let printed = Binary::on("sqlite:none.db").run(&[
        "outbox",
        "init",
        "--dialect",
        "postgres",
        "--table",
        TABLE,
        "--writer",
        &role,
        "--relay",
        &role,
    ]);
    let all = format!(
        "CREATE ROLE {role} LOGIN;\nGRANT CREATE ON SCHEMA public TO {role};\n{}\n{}",
        grants.collect::<Vec<_>>().join("\n"),
        printed.stdout
    );
    for statement in all.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        execute(&database, statement.trim_end().trim_end_matches(';'));
    }
    let writer: url::Url = database.replacen("sendoff@", &format!("{role}@"), 1).parse().expect("a URL");
    let relay = [
        "relay",
        "--from",
        writer.as_str(),
        "--table",
        TABLE,
        "--server",
        &server.url(),
        "--token",
        &server.token(),
        "--poll",
        "50ms",
    ];
    let _relay = Binary::on("sqlite:none.db").begin(&relay);
    // Its packages are found beside the file.
    let node = crate::support::npm().join("node_postgres_shop.mjs");
    std::fs::copy(examples.join("outbox/node_postgres_shop.mjs"), &node).expect("a copy");
    let folder = tempfile::tempdir().expect("a folder");
    let go = folder.path().join("database_sql_shop");
    crate::support::build::go(&examples.join("outbox/database_sql_shop.go"), &go);
    for outbox in ["sendoff.outbox", TABLE] {
        for python in ["sqlalchemy_shop.py", "django_shop.py"] {
            let mut command = std::process::Command::new(crate::support::python());
            command.arg(examples.join("outbox").join(python));
            run_example(command, &writer, outbox);
        }
        for (program, script) in [("node", &node), ("ruby", &examples.join("outbox/pg_shop.rb"))] {
            let mut command = std::process::Command::new(program);
            command.arg(script);
            run_example(command, &writer, outbox);
        }
        run_example(std::process::Command::new(&go), &writer, outbox);
    }
    in_runtime(outbox_sqlx::place_order(writer.as_str(), "acme"));
    eventually_blocking("11 deliveries", SOON, || (receiver.count() >= 11).then_some(()));
    for payload in accepted(&server) {
        assert!(payload["total"] == 48.5 && !payload["orderId"].is_null(), "{payload}");
    }
}

/// The command blocks of docs/relay.md, with this test's addresses.
#[test]
fn the_page_works_from_top_to_bottom() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/relay.md")).expect("a page");
    let block = |start: &str| {
        let mut blocks = page.split("```").map(|block| block.split_once('\n').map_or("", |(_, text)| text.trim()));
        blocks.find(|block| block.starts_with(start)).unwrap_or_else(|| panic!("no block {start}")).to_owned()
    };
    let (writer, relay) = (unique("app"), unique("relay"));
    let database = Postgres::shared().fresh_database();
    for role in [&writer, &relay] {
        Postgres::shared().execute(&format!("CREATE ROLE {role} LOGIN"));
    }
    let init = block("sendoff outbox init").replace("--writer app", &format!("--writer {writer}"));
    let init = init.replace("--relay sendoff_relay", &format!("--relay {relay}"));
    let arguments: Vec<&str> = init.split_whitespace().skip(1).collect();
    let printed = Binary::on("sqlite:none.db").run(&arguments);
    assert!(printed.status.success(), "{printed:?}");
    for statement in printed.stdout.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        execute(&database, statement);
    }
    let receiver = Receiver::ok();
    let (server, _file) = sendoff(&receiver);
    let binary = Binary::on("sqlite:none.db");
    let url = binary.folder().join("outbox-url");
    std::fs::write(&url, database.replacen("sendoff@", &format!("{relay}@"), 1)).expect("a file");
    let key = server.binary().run(&["key", "create", "relay", "--scope", "send"]).stdout;
    let key_file = binary.folder().join("api-key");
    std::fs::write(&key_file, key.trim()).expect("a file");
    let command = block("sendoff relay")
        .replace("/etc/sendoff/outbox-url", &url.display().to_string())
        .replace("/etc/sendoff/api-key", &key_file.display().to_string())
        .replace("https://hooks.example.com", &server.url());
    let _relay = binary.begin(&command.split_whitespace().skip(1).collect::<Vec<_>>());
    execute(&database.replacen("sendoff@", &format!("{writer}@"), 1), block("INSERT INTO").trim_end_matches(';'));
    eventually_blocking("the delivery", SOON, || (receiver.count() >= 1).then_some(()));
    assert_eq!(receiver.received()[0].text(), r#"{"invoice": "in_17"}"#);
}

#[test]
fn a_wrong_place_is_one_line_without_the_password() {
    let file = sqlite_file();
    std::fs::File::create(file.path()).expect("a file");
    let binary = Binary::on("sqlite:none.db");
    let token = ["--token", "t"];
    for (from, code, said) in [
        ("redis://u:hunter2@h/1", 2, "expected postgres://"),
        (file.url().as_str(), 1, "no such table"),
        ("sqlite:/no/such/folder/shop.db", 1, "unable to open"),
    ] {
        let line = complaint(&binary.run(&[&["relay", "--from", from], &token[..]].concat()), code);
        assert!(line.contains(said) && !line.contains("hunter2"), "{from}: {line}");
    }
    let line = complaint(&binary.run(&["relay", "--from", "sqlite:a.db", "--table", "a;drop"]), 2);
    assert!(line.contains("letters, digits and _"), "{line}");
    let postgres = Postgres::shared().fresh_database();
    let line = complaint(&binary.run(&[&["relay", "--from", &postgres], &token[..]].concat()), 1);
    assert!(line.contains("sendoff_outbox"), "{line}");
}
