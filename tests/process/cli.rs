//! The commands, with the real binary.

mod development;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{
    Binary, Database, Kind, Postgres, SOON, complaint, eventually_blocking, free_port, on_both, sqlite_file,
};
use sqlx::{ConnectOptions, Connection};

on_both! {
    migrate_can_be_repeated_and_refuses_a_newer_schema
    keys_are_made_listed_and_revoked_beside_a_server
}

#[test]
fn invalid_arguments_print_one_line() {
    let file = sqlite_file();
    let binary = Binary::on(&file.url());
    for (arguments, said) in [
        (&["serve", "--lisen", "127.0.0.1:1"][..], "--lisen"),
        (&["srve"], "srve"),
        (&["serve", "extra"], "extra"),
        (&["serve", "--listen"], "--listen"),
        (&["send", "app"], "<TYPE>"),
        (&["token", "--org", "nonsense"], "org_"),
        (&["key", "create"], "<NAME>"),
        (&["key", "create", "k", "--scope", "fly"], "expected read, send or write"),
        (&["key", "create", "k", "--expires", "soon"], "expected 1s to 36500d"),
        (&["key", "revoke", "sk_x"], "key_"),
        (&["token", "--expires", "soon"], "expected 1s to 36500d"),
        (&["send", "app", "a.b", "{"], "not valid JSON"),
        (&["listen", "app"], "--forward-to"),
        (&["listen", "app", "--forward-to", "nonsense"], "--forward-to"),
        (&["listen", "app", "--forward-to", "http://h/", "--headers", "webhook-id: x"], "is set by the sender"),
        (&["listen", "app", "--forward-to", "http://h/", "--since", "then"], "expected a time"),
        (&["listen", "app", "--forward-to", "http://h/", "--since", "1h", "--replay-last", "3"], "--replay-last"),
        (&["trigger", "app", "a.b", "--set", "x"], "path=value"),
        (&["tail", "app", "--status", "dead"], "success"),
        (&["verify", "--secret", "whsec_x", "--id", "m", "--timestamp", "1", "--signature", "s"], "--secret"),
    ] {
        let line = complaint(&binary.run(arguments), 2);
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
    for arguments in [&["--version"][..], &["--help"], &["serve", "--help"], &["help", "send"]] {
        let finished = binary.run(arguments);
        assert!(finished.status.success() && finished.stderr.is_empty() && !finished.stdout.is_empty(), "{finished:?}");
    }
    for arguments in ["--version", "version"] {
        let version = binary.run(&[arguments]).stdout;
        assert_eq!(version.trim(), format!("sendoff {}", env!("CARGO_PKG_VERSION")));
    }
    let switches = [&["migrate", "--https-only"][..], &["token", "--https-only"], &["token", "--https-only", "false"]];
    for arguments in switches {
        let finished = Binary::on(&file.url()).run(arguments);
        assert!(finished.status.success(), "{arguments:?}: {finished:?}");
    }
    let nothing = binary.run(&[]);
    assert!(nothing.status.code() == Some(2) && nothing.stderr.contains("Usage: sendoff"), "{nothing:?}");
}

async fn newer(url: &str) {
    const SQL: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, $1, 0)";
    if url.starts_with("sqlite:") {
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let mut db = options.connect().await.unwrap();
        sqlx::query(SQL).bind(&b"x"[..]).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    } else {
        let mut db = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::query("SET search_path TO sendoff").execute(&mut db).await.unwrap();
        sqlx::query(SQL).bind(&b"x"[..]).execute(&mut db).await.unwrap();
    }
}

async fn migrate_can_be_repeated_and_refuses_a_newer_schema(kind: Kind) {
    let database = Database::on(kind);
    let url = &database.url;
    for _ in 0..2 {
        let finished = Binary::on(url).run(&["migrate"]);
        assert!(finished.status.success() && finished.stdout.lines().count() == 1, "{finished:?}");
    }
    newer(url).await;
    for command in ["migrate", "serve", "login-link"] {
        let line = complaint(&Binary::on(url).set("SENDOFF_LISTEN", "127.0.0.1:0").run(&[command]), 1);
        assert!(line.contains("newer than this binary"), "{command}: {line}");
    }
}

#[test]
fn failed_starts_print_one_line() {
    let file = sqlite_file();
    let line = complaint(&Binary::on("sqlite:none/such/sendoff.db").run(&["migrate"]), 1);
    assert!(line.contains("there is no folder none/such"), "{line}");
    let line = complaint(&Binary::on(&file.url()).run(&["login-link"]), 1);
    assert!(line.contains("there is no database") && !file.path().exists(), "{line}");
    // Nor is a key made for a database that is not there.
    for command in [&["token"][..], &["send", "app", "a.b", "{}"]] {
        let line = complaint(&Binary::on(&file.url()).unset("SENDOFF_JWT_SECRET").run(command), 1);
        assert!(line.contains("there is no database"), "{command:?}: {line}");
    }
    let folder = file.path().parent().expect("a folder").to_owned();
    let files = || std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files(), 0);
    let nowhere = complaint(&Binary::on("sqlite:/proc/sendoff.db").run(&["migrate"]), 1);
    assert!(nowhere.contains("this user can't write to it") && !nowhere.contains("code: 14"), "{nowhere}");
    let other = folder.join("notes.txt");
    std::fs::write(&other, "no database at all").expect("a file");
    for command in ["serve", "migrate"] {
        let binary = Binary::on(&format!("sqlite:{}", other.display())).unset("SENDOFF_JWT_SECRET");
        let binary = binary.unset("SENDOFF_MASTER_KEY").set("SENDOFF_LISTEN", "127.0.0.1:0");
        let line = complaint(&binary.run(&[command]), 1);
        assert!(line.contains("is not an SQLite database") && files() == 1, "{command}: {line}");
    }
    std::fs::remove_file(&other).expect("ours");
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&Binary::on(&file.url()).set("SENDOFF_LISTEN", &address).run(&["serve"]), 1);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    let server = Binary::on(&file.url()).serve();
    let line = complaint(&Binary::on(&file.url()).set("SENDOFF_LISTEN", "127.0.0.1:0").run(&["serve"]), 1);
    assert!(line.contains("another Sendoff process serves"), "{line}");
    drop(server);
}

#[test]
fn log_lines_can_be_json() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).set("SENDOFF_LOG_FORMAT", "json").set("SENDOFF_DRAIN", "5s").serve();
    server.terminate();
    let (status, output) = server.wait(SOON);
    assert!(status.success(), "{output}");
    let lines: Vec<serde_json::Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("serves"))), "{output}");
    let warned =
        lines.iter().any(|line| line["level"] == "WARN" && line["message"].to_string().contains("SENDOFF_DRAIN"));
    assert!(warned, "a drain shorter than the longest timeout is a warning: {output}");
}

/// The body and status of a GET with a token.
fn get(url: &str, path: &str, token: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_token_is_one_line_that_the_api_accepts() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).unset("SENDOFF_JWT_SECRET").unset("SENDOFF_MASTER_KEY").serve();
    let binary = server.binary();
    let token = |arguments: &[&str]| {
        let finished = binary.run(&[&["token"], arguments].concat());
        assert!(finished.status.success() && finished.stderr.is_empty(), "{finished:?}");
        assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
        finished.stdout.trim().to_owned()
    };
    let (status, body) = get(&server.url(), "/api/v1/app/", &token(&[]));
    assert_eq!(status, 200, "{body}");
    assert_eq!(get(&server.url(), "/api/v1/app/", &token(&["--org", "org_other"])).0, 200);
    assert_eq!(get(&server.url(), "/api/v1/app/", "nonsense").0, 401);
    let short = token(&["--expires", "1s"]);
    eventually_blocking("the end of a token", SOON, || {
        (get(&server.url(), "/api/v1/app/", &short).0 == 401).then_some(())
    });
    let app = token(&["--app", "app_00000000000000000000000000"]);
    assert!(
        [401, 403, 404].contains(&get(&server.url(), "/api/v1/app/", &app).0),
        "an application's token lists no other"
    );
}

/// `key create` and `key revoke` while a server runs on the same store.
async fn keys_are_made_listed_and_revoked_beside_a_server(kind: Kind) {
    let database = Database::on(kind);
    let server = Binary::on(&database.url).serve();
    let binary = server.binary();
    let create = |arguments: &[&str]| {
        let finished = binary.run(&[&["key", "create"], arguments].concat());
        assert!(finished.status.success() && finished.stdout.lines().count() == 1, "{finished:?}");
        let id = finished.stderr.split_whitespace().find(|word| word.starts_with("key_")).expect("its id");
        (finished.stdout.trim().to_owned(), id.trim_end_matches(',').to_owned())
    };
    let (all, id) = create(&["billing"]);
    let (read, _) = create(&["reports", "--scope", "read", "--scope", "send", "--expires", "90d"]);
    assert!(all.starts_with("sk_") && all != read);
    for key in [&all, &read] {
        assert_eq!(get(&server.url(), "/api/v1/app/", key).0, 200);
    }
    make_app(&server.url(), &all, "acme");
    let sent = binary.run(&["send", "acme", "a.b", "{}", "--token", &read]);
    assert!(sent.status.success(), "{sent:?}");

    let list = binary.run(&["key", "list"]).stdout;
    let lines: Vec<&str> = list.lines().skip(1).collect();
    assert!(lines.len() == 2 && lines[0].starts_with(&id) && lines[0].contains("billing"), "{list}");
    assert!(lines[0].contains(&format!("sk_…{}", &all[all.len() - 4..])) && !list.contains(&all[3..20]), "{list}");
    assert!(lines[1].contains("read, send") && lines[1].contains("active until"), "{list}");
    eventually_blocking("when the keys were used", SOON, || {
        (!binary.run(&["key", "list"]).stdout.contains("never")).then_some(())
    });
    assert_eq!(binary.run(&["key", "list", "--org", "org_other"]).stdout.lines().count(), 1);

    let line = complaint(&binary.run(&["key", "revoke", &id, "--org", "org_other"]), 1);
    assert!(line.contains("--org"), "{line}");
    let revoked = binary.run(&["key", "revoke", &id]);
    assert!(revoked.status.success() && revoked.stdout.contains("3 s"), "{revoked:?}");
    eventually_blocking("the end of a key", SOON, || (get(&server.url(), "/api/v1/app/", &all).0 == 401).then_some(()));
    assert_eq!(get(&server.url(), "/api/v1/app/", &read).0, 200);
    assert!(binary.run(&["key", "list"]).stdout.contains("revoked 2"));
}

#[test]
fn send_goes_through_the_api_and_prints_the_message() {
    let file = sqlite_file();
    let nobody = Binary::on(&file.url()).set("SENDOFF_LISTEN", &format!("127.0.0.1:{}", free_port()));
    let line = complaint(&nobody.run(&["send", "acme", "a.b", "{}"]), 1);
    assert!(line.contains("no answer") && line.contains("sendoff serve"), "{line}");

    let server = Binary::on(&file.url()).serve();
    let binary = server.binary();
    let line = complaint(&binary.run(&["send", "acme", "a.b", "{}"]), 1);
    assert!(line.contains("404"), "an unknown application: {line}");
    make_app(&server.url(), &server.token(), "acme");
    let sent = binary.run(&["send", "acme", "invoice.paid", "{\"n\": 1.0}", "--event-id", "e-1"]);
    assert!(sent.status.success() && sent.stdout.starts_with("msg_") && sent.stdout.lines().count() == 1, "{sent:?}");
    let (_, body) = get(&server.url(), &format!("/api/v1/app/acme/msg/{}/", sent.stdout.trim()), &server.token());
    assert!(body.contains("{\"n\": 1.0}"), "the payload is as it was typed: {body}");
    let piped = binary.run_with_input(&["send", "acme", "invoice.paid", "-"], b"{\"n\": 2}\n");
    assert!(piped.status.success() && piped.stdout.starts_with("msg_"), "{piped:?}");
    let line = complaint(&binary.run(&["send", "acme", "invoice.paid", "{}", "--event-id", "e-1"]), 1);
    assert!(line.contains("409"), "{line}");
    let line = complaint(&binary.run(&["send", "acme", "invoice.paid", "{}", "--token", "nonsense"]), 1);
    assert!(line.contains("401"), "{line}");
}

fn make_app(url: &str, token: &str, uid: &str) {
    let address = url.strip_prefix("http://").unwrap();
    let body = format!("{{\"name\":\"{uid}\",\"uid\":\"{uid}\"}}");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /api/v1/app/ HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first).unwrap();
    assert!(first.contains(" 201 "), "{first}");
}

#[test]
fn verify_says_who_is_right() {
    // The published vector of Standard Webhooks.
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let file = sqlite_file();
    // Needs no settings, and so does not mind wrong ones.
    let binary = Binary::on(&file.url()).set("SENDOFF_LISTEN", "nonsense");
    let verify = |signature: &str, body: &[u8], more: &[&str]| {
        let arguments = [
            &[
                "verify",
                "--secret",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "--id",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "--timestamp",
                "1614265330",
                "--signature",
                signature,
            ],
            more,
        ];
        binary.run_with_input(&arguments.concat(), body)
    };
    let good = verify(SIGNATURE, b"{\"test\": 2432232314}", &["--tolerance", "36500d"]);
    assert!(good.status.success() && good.stdout.contains("is valid"), "{good:?}");
    let line = complaint(&verify(SIGNATURE, b"{\"test\": 2432232314}", &[]), 1);
    assert!(line.contains("the signature is valid, but its timestamp"), "{line}");
    let line = complaint(&verify(SIGNATURE, b"{\"test\": 2432232314}\n", &["--tolerance", "36500d"]), 1);
    assert!(line.contains("no signature") && line.contains("newline"), "{line}");
}

#[test]
fn serve_prints_a_link_and_ends_well_with_connections_open() {
    let file = sqlite_file();
    let mut server = Binary::on(&file.url()).serve();
    let output =
        eventually_blocking("the greeting", SOON, || Some(server.output()).filter(|text| text.contains("Dashboard:")));
    assert!(output.contains(&format!("Dashboard: {}/login", server.url())), "{output}");
    let link = server.binary().run(&["login-link"]);
    assert!(
        link.status.success() && link.stdout.lines().count() == 1 && link.stdout.starts_with("http://"),
        "{link:?}"
    );
    // Kept open by a client that has nothing more to ask.
    let mut idle = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).unwrap();
    write!(idle, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    assert!(server.exited().is_none());
    server.terminate();
    let (status, output) = server.wait(Duration::from_secs(8));
    assert!(status.success() && output.contains("stopped"), "{output}");
    // Everything it held is free again.
    let mut again = Binary::on(&file.url()).serve();
    assert!(again.exited().is_none());
}

#[test]
fn a_hangup_drains_and_signals_without_a_meaning_end_nothing() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    ["USR1", "USR2", "ALRM", "HUP"].into_iter().for_each(|name| server.signal(name));
    let (status, output) = server.wait(SOON);
    assert!(status.success() && output.contains("stopped"), "{status}: {output}");
    // What `nohup` has turned off stays off.
    let binary = Binary::on(&file.url());
    let script = binary.folder().join("nohup");
    let text = format!("#!/bin/sh\ntrap '' HUP\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_sendoff"));
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = binary.program(&script).serve();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 1, 1, "{status}");
}

#[test]
fn roles_split_the_work_on_postgresql() {
    let url = Postgres::shared().fresh_database();
    let worker = Binary::on(&url).set("SENDOFF_ROLE", "worker").serve();
    assert_eq!((worker.get_status("/readyz"), worker.get_status("/metrics")), (Some(200), Some(200)));
    assert_eq!((worker.get_status("/api/v1/app/"), worker.get_status("/login")), (Some(404), Some(404)));
    assert!(!worker.output().contains("Dashboard:"), "{}", worker.output());
    let api = Binary::on(&url).set("SENDOFF_ROLE", "api").serve();
    assert_eq!(api.get_status("/api/v1/app/"), Some(401));
    for server in [worker, api] {
        server.terminate();
        let (status, output) = server.wait(SOON);
        assert!(status.success(), "{output}");
    }
}

/// What a GET is answered with; `None`: nobody answers.
fn status(address: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.get(9..12)?.parse().ok()
}

#[test]
fn probes_can_have_their_own_port() {
    let (file, port) = (sqlite_file(), free_port());
    let admin = format!("127.0.0.1:{port}");
    let mut server = Binary::on(&file.url()).set("SENDOFF_ADMIN_LISTEN", &admin).launch();
    eventually_blocking("the probes' port", SOON, || status(&admin, "/readyz").filter(|status| *status == 200));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!((status(&admin, path), server.get_status(path)), (Some(200), Some(404)), "{path}");
    }
    for path in ["/", "/login", "/docs", "/api/v1/health", "/portal", "/static/0/app.css"] {
        assert_eq!(status(&admin, path), Some(404), "{path}");
        assert_ne!(server.get_status(path), Some(404), "{path}");
    }
    let output =
        eventually_blocking("the greeting", SOON, || Some(server.output()).filter(|text| text.contains("Dashboard:")));
    assert!(output.contains(&format!("Probes and metrics: {admin}")), "{output}");
    assert!(server.exited().is_none());
    server.terminate();
    let (ended, output) = server.wait(SOON);
    assert!(ended.success(), "{output}");
    // Taken by somebody else: the setting is named.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(
        &Binary::on(&file.url())
            .set("SENDOFF_LISTEN", "127.0.0.1:0")
            .set("SENDOFF_ADMIN_LISTEN", &address)
            .run(&["serve"]),
        1,
    );
    assert!(line.contains("SENDOFF_ADMIN_LISTEN"), "{line}");
}

#[tokio::test]
async fn files_are_private_and_no_link_is_printed_once_there_is_an_account() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let path = file.path();
    for end in ["", "-wal", "-shm", ".lock"] {
        let file = std::path::PathBuf::from(format!("{}{end}", path.display()));
        let mode =
            std::fs::metadata(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let greeting = |server: &crate::support::Server| {
        eventually_blocking("the greeting", SOON, || Some(server.output()).filter(|text| text.contains("login-link")))
    };
    assert!(greeting(&server).contains("/login?token="), "nobody could sign in otherwise");
    server.terminate();
    assert!(server.wait(SOON).0.success());
    let mut books = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let account =
        "INSERT INTO operator (id, name, password, role, created_at) VALUES (randomblob(16), 'anna', 'x', 'admin', 1)";
    sqlx::query(account).execute(&mut books).await.unwrap();
    books.close().await.unwrap();
    let server = Binary::on(&file.url()).serve();
    let output = greeting(&server);
    assert!(output.contains(&format!("Dashboard: {}/\n", server.url())) && !output.contains("token="), "{output}");
}
