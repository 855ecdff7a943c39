//! The command line and the settings, with the real binary: each setting's good and bad values, which of its places counts, the key
//! files, and every command.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};
use support::{Binary, Finished, Postgres, SOON, SqliteFile, eventually_blocking, free_port, sqlite_file};

/// A binary whose keys lie beside the database.
fn bare(file: &SqliteFile) -> Binary {
    Binary::on(&file.url()).unset("SENDOFF_JWT_SECRET").unset("SENDOFF_MASTER_KEY")
}

/// The one line that a command which did not work has said.
fn complaint(finished: &Finished, code: i32) -> String {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert_eq!(finished.stdout, "", "nothing on standard output");
    assert_eq!(finished.stderr.lines().count(), 1, "one line: {finished:?}");
    let line = finished.stderr.trim_end();
    line.strip_prefix("sendoff: ").unwrap_or_else(|| panic!("begins with the program's name: {line}")).to_owned()
}

/// Good and bad values of each setting, as text in the environment.
const VALUES: &[(&str, &[&str], &[&str])] = &[
    (
        "SENDOFF_DATABASE_URL",
        &["sqlite:a.db", "sqlite:///tmp/a.db", "postgres://a:b@localhost/c"],
        &["mysql://a/b", "a.db", "sqlite:", "sqlite::memory:"],
    ),
    (
        "SENDOFF_LISTEN",
        &["127.0.0.1:0", "[::1]:8071", "localhost:8071"],
        &["8071", "127.0.0.1", "host:1", "1.2.3.4:99999"],
    ),
    (
        "SENDOFF_PUBLIC_URL",
        &["https://hooks.example.com", "http://[::1]:8071/"],
        &["hooks.example.com", "ftp://x", "https://x/y", "https://a:b@x"],
    ),
    ("SENDOFF_JWT_SECRET", &["0123456789abcdef"], &["0123456789abcde"]),
    (
        "SENDOFF_MASTER_KEY",
        &["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="],
        &["MDEyMw==", "not base64 !", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"],
    ),
    ("SENDOFF_ROLE", &["all"], &["both", "ALL", "worker", "api"]),
    (
        "SENDOFF_EGRESS_ALLOW",
        &["127.0.0.1/32", "10.0.0.0/8, fd00::/8,::1"],
        &["10.0.0.0/33", "localhost", "10.0.0.0/8;::1"],
    ),
    ("SENDOFF_HTTPS_ONLY", &["true", "false"], &["yes", "1", "True"]),
    (
        "SENDOFF_RETRY_SCHEDULE",
        &["1s", "5s,5m,2h,1d", "500ms, 1s"],
        &["5", "5s,x", "8d", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"],
    ),
    ("SENDOFF_REQUEST_TIMEOUT", &["1s", "30s", "1500ms"], &["0s", "31s", "999ms", "15", "fast"]),
    ("SENDOFF_MAX_PAYLOAD", &["1KiB", "16MiB", "2048"], &["1023", "17MiB", "256kB", "lots"]),
    ("SENDOFF_RETENTION", &["90d", "24h"], &["0d", "59s", "4000d", "1y"]),
    ("SENDOFF_MAX_IN_FLIGHT", &["1", "65536"], &["0", "65537", "-1", "many"]),
    ("SENDOFF_ENDPOINT_MAX_IN_FLIGHT", &["1", "1024"], &["0", "1025", "x"]),
    ("SENDOFF_DRAIN", &["30s", "1m"], &["0s", "2h", "30"]),
    ("SENDOFF_ENDPOINT_DISABLE_AFTER", &["5d", "1m"], &["0s", "400d", "never"]),
    ("SENDOFF_JWT_ALGORITHM", &["HS256"], &["RS256", "none"]),
    ("SENDOFF_LOG", &["debug", "warn,sendoff=trace"], &["inof", "sendoff", "sendoff=loud"]),
    ("SENDOFF_LOG_FORMAT", &["text", "json"], &["xml", "JSON"]),
    ("SENDOFF_FRAME_ORIGINS", &[], &["https://app.example.com"]),
    ("SENDOFF_SMTP_URL", &[], &["smtp://user:hidden@mail.example.com"]),
    ("SENDOFF_MAIL_FROM", &[], &["a@example.com"]),
];

fn kebab(variable: &str) -> String {
    format!("--{}", variable.trim_start_matches("SENDOFF_").to_lowercase().replace('_', "-"))
}

#[test]
fn a_wrong_setting_ends_it_with_one_line_that_says_which_what_and_how() {
    let file = sqlite_file();
    for (variable, good, bad) in VALUES {
        for value in *good {
            let finished = Binary::on(&file.url()).set(variable, value).run(&["token"]);
            assert!(finished.status.success(), "{variable}={value}: {finished:?}");
            assert_eq!(finished.stderr, "", "{variable}={value}");
        }
        for value in *bad {
            for (place, finished) in [
                ("environment", Binary::on(&file.url()).set(variable, value).run(&["token"])),
                ("flag", Binary::on(&file.url()).run(&["token", &format!("{}={value}", kebab(variable))])),
            ] {
                let line = complaint(&finished, 2);
                assert!(line.starts_with(variable), "{place}, {variable}={value}: {line}");
                assert!(
                    line.contains("expected ") || line.contains("not supported yet"),
                    "{place}, {variable}={value} says how it should look: {line}"
                );
                let secret = ["SENDOFF_JWT_SECRET", "SENDOFF_MASTER_KEY", "SENDOFF_SMTP_URL"].contains(variable);
                assert!(!secret || !line.contains(value), "a secret is not quoted: {line}");
                assert_eq!(place == "flag", line.contains(&format!("(given as {})", kebab(variable))), "{line}");
            }
        }
    }
}

#[test]
fn with_postgresql_the_keys_have_to_be_given() {
    for (missing, how) in
        [("SENDOFF_JWT_SECRET", "openssl rand -hex 32"), ("SENDOFF_MASTER_KEY", "openssl rand -base64 32")]
    {
        let binary = Binary::on("postgres://nobody@127.0.0.1:1/none").unset(missing);
        let line = complaint(&binary.run(&["serve"]), 2);
        assert!(line.starts_with(missing) && line.contains("missing") && line.contains(how), "{line}");
    }
    let away = Binary::on("postgres://nobody:hidden@127.0.0.1:1/none").run(&["migrate"]);
    let line = complaint(&away, 1);
    assert!(!line.contains("hidden"), "the password is not quoted: {line}");
}

#[test]
fn a_flag_goes_before_the_environment_the_environment_before_the_file_the_file_before_the_default() {
    let file = sqlite_file();
    // A wrong value says where the one that counts was given.
    let place = |flag: Option<&str>, environment: Option<&str>, in_file: Option<&str>| {
        let mut binary = Binary::on(&file.url());
        let path = binary.folder().join("sendoff.toml");
        fs::write(&path, in_file.map(|value| format!("log_format = {value:?}\n")).unwrap_or_default()).unwrap();
        if let Some(value) = environment {
            binary = binary.set("SENDOFF_LOG_FORMAT", value);
        }
        let mut arguments = vec!["token", "--config", "sendoff.toml"];
        arguments.extend(flag.iter().flat_map(|value| ["--log-format", value]));
        let finished = binary.run(&arguments);
        match finished.status.success() {
            true => "none wrong".to_owned(),
            false => complaint(&finished, 2).split('"').nth(1).unwrap_or_default().to_owned(),
        }
    };
    assert_eq!(place(Some("flag"), Some("environment"), Some("file")), "flag");
    assert_eq!(place(None, Some("environment"), Some("file")), "environment");
    assert_eq!(place(None, None, Some("file")), "file");
    assert_eq!(place(None, None, None), "none wrong");
    assert_eq!(place(Some("json"), Some("wrong"), Some("wrong")), "none wrong", "what does not count is not read");
    assert_eq!(place(None, Some(""), Some("file")), "file", "empty is not given");
}

#[test]
fn the_file_is_toml_with_settings_and_nothing_else() {
    let file = sqlite_file();
    let run = |text: &str| {
        let binary = Binary::on(&file.url());
        fs::write(binary.folder().join("s.toml"), text).unwrap();
        binary.run(&["token", "--config", "s.toml"])
    };
    let good = "# a comment\nmax_in_flight = 100\nhttps_only = true\negress_allow = [\"10.0.0.0/8\", \"::1\"]\nretention = \"30d\"\n";
    assert!(run(good).status.success());
    for (text, said) in [
        ("max_paylod = \"1MiB\"", "\"max_paylod\" is no setting"),
        ("SENDOFF_LISTEN = \"127.0.0.1:1\"", "did you mean listen?"),
        ("max-payload = \"1MiB\"", "did you mean max_payload?"),
        ("config = \"other.toml\"", "no setting"),
        ("[http]\nlisten = \"127.0.0.1:1\"", "\"http\" is no setting"),
        ("listen = \"127.0.0.1:1\"\nlisten", "line 2 is not TOML"),
        ("retention = 1.5", "retention is a TOML float"),
        ("max_in_flight = 0", "SENDOFF_MAX_IN_FLIGHT: \"0\" is too small"),
        ("smtp_url = \"smtp://x\"", "SENDOFF_SMTP_URL is not supported yet"),
    ] {
        let line = complaint(&run(text), 2);
        assert!(line.contains(said), "{text:?}: {line}");
        assert!(line.contains("s.toml"), "names the file: {line}");
    }
    let line = complaint(&Binary::on(&file.url()).run(&["token", "--config", "none.toml"]), 2);
    assert!(line.contains("none.toml") && line.contains("can't be read"), "{line}");
}

#[test]
fn the_example_of_a_file_has_every_setting_with_its_default() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sendoff.toml")).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = sqlite_file();
    let binary = Binary::on(&file.url());
    fs::write(binary.folder().join("s.toml"), &uncommented).unwrap();
    let finished = binary.run(&["token", "--config", "s.toml"]);
    assert!(finished.status.success(), "{finished:?}");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for setting in
        sendoff::config::settings::SETTINGS.iter().filter(|setting| !setting.later && setting.name != "config")
    {
        assert!(uncommented.contains(&format!("\n{} = ", setting.name)), "examples/sendoff.toml: {}", setting.name);
        let row =
            readme.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", setting.variable())));
        let row = row.unwrap_or_else(|| panic!("the README's table has no {}", setting.variable()));
        if let Some(default) = setting.default.filter(|default| !default.is_empty()) {
            assert!(row.contains(&format!("`{default}`")), "the README's default of {}: {row}", setting.variable());
            let line = uncommented.lines().find(|line| line.starts_with(&format!("{} = ", setting.name))).unwrap();
            assert!(line.replace('"', "").ends_with(&format!(" = {default}")), "examples/sendoff.toml: {line}");
        }
    }
}

#[test]
fn what_is_typed_wrong_is_one_line_too() {
    let file = sqlite_file();
    let binary = Binary::on(&file.url());
    for (arguments, said) in [
        (&["serve", "--lisen", "127.0.0.1:1"][..], "--lisen"),
        (&["srve"], "srve"),
        (&["serve", "extra"], "extra"),
        (&["serve", "--listen"], "--listen"),
        (&["send", "app"], "<TYPE>"),
        (&["token", "--org", "nonsense"], "org_"),
        (&["token", "--expires", "soon"], "expected 1s to 36500d"),
        (&["send", "app", "a.b", "{"], "not JSON"),
        (&["verify", "--secret", "whsec_x", "--id", "m", "--timestamp", "1", "--signature", "s"], "--secret"),
    ] {
        let line = complaint(&binary.run(arguments), 2);
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
    for arguments in [&["--version"][..], &["--help"], &["serve", "--help"], &["help", "send"]] {
        let finished = binary.run(arguments);
        assert!(finished.status.success() && finished.stderr.is_empty() && !finished.stdout.is_empty(), "{finished:?}");
    }
    let version = binary.run(&["--version"]).stdout;
    assert_eq!(version.trim(), format!("sendoff {}", env!("CARGO_PKG_VERSION")));
    let nothing = binary.run(&[]);
    assert!(nothing.status.code() == Some(2) && nothing.stderr.contains("Usage: sendoff"), "{nothing:?}");
}

fn key_files(file: &SqliteFile) -> [PathBuf; 2] {
    ["jwt-secret", "master-key"].map(|name| PathBuf::from(format!("{}.{name}", file.path().display())))
}

#[test]
fn keys_are_made_once_beside_the_database_for_the_owner_alone() {
    let file = sqlite_file();
    let keys = || key_files(&file).map(|path| fs::read_to_string(path).unwrap());
    let started = bare(&file).run(&["migrate"]);
    assert!(started.status.success(), "{started:?}");
    let first = keys();
    for path in key_files(&file) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert!(first[0].trim().len() >= 32 && first[0] != first[1]);
    for command in ["migrate", "token"] {
        let again = bare(&file).run(&[command]);
        assert!(again.status.success() && again.stderr.is_empty(), "{again:?}");
    }
    assert_eq!(keys(), first, "kept over starts");
    let left: Vec<_> =
        fs::read_dir(file.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("key.")), "no draft is left: {left:?}");

    fs::set_permissions(&key_files(&file)[1], fs::Permissions::from_mode(0o644)).unwrap();
    let open = bare(&file).run(&["migrate"]);
    assert!(open.status.success() && open.stderr.contains("chmod 600"), "{open:?}");
    assert!(!open.stderr.contains(first[1].trim()), "the key is not shown");
}

#[test]
fn a_database_without_its_master_key_gets_no_new_one() {
    let file = sqlite_file();
    assert!(bare(&file).run(&["migrate"]).status.success());
    let [_, master] = key_files(&file);
    let away = master.with_extension("away");
    fs::rename(&master, &away).unwrap();
    let line = complaint(&bare(&file).run(&["migrate"]), 1);
    assert!(line.contains("master-key is missing") && line.contains("put it back"), "{line}");
    assert!(!master.exists(), "no new one in its place");
    fs::rename(&away, &master).unwrap();
    assert!(bare(&file).run(&["migrate"]).status.success());
    let line = complaint(&bare(&file).set("SENDOFF_MASTER_KEY", support::server::MASTER_KEY).run(&["migrate"]), 1);
    assert!(line.contains("another master key"), "{line}");
    fs::write(&master, "nonsense\n").unwrap();
    let line = complaint(&bare(&file).run(&["migrate"]), 1);
    assert!(line.contains("master-key") && !line.contains("nonsense"), "{line}");
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

#[tokio::test]
async fn migrate_can_be_repeated_and_refuses_a_newer_schema() {
    let file = sqlite_file();
    for url in [file.url(), Postgres::shared().fresh_database()] {
        for _ in 0..2 {
            let finished = Binary::on(&url).run(&["migrate"]);
            assert!(finished.status.success() && finished.stdout.lines().count() == 1, "{finished:?}");
        }
        newer(&url).await;
        for command in ["migrate", "serve", "login-link"] {
            let line = complaint(&Binary::on(&url).set("SENDOFF_LISTEN", "127.0.0.1:0").run(&[command]), 1);
            assert!(line.contains("newer than this binary"), "{command}: {line}");
        }
    }
}

#[test]
fn what_is_in_the_way_of_a_start_is_said_in_one_line() {
    let file = sqlite_file();
    let line = complaint(&Binary::on("sqlite:none/such/sendoff.db").run(&["migrate"]), 1);
    assert!(line.contains("there is no folder none/such"), "{line}");
    let line = complaint(&Binary::on(&file.url()).run(&["login-link"]), 1);
    assert!(line.contains("there is no database") && !file.path().exists(), "{line}");
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
fn a_mistyped_variable_is_a_warning() {
    let file = sqlite_file();
    let binary = Binary::on(&file.url()).set("SENDOFF_RETRY_SCHEDUEL", "1s").set("SENDOFF_SERVICE_HOST", "10.0.0.1");
    let finished = binary.run(&["migrate"]);
    assert!(finished.status.success() && finished.stderr.lines().count() == 1, "{finished:?}");
    assert!(finished.stderr.contains("SENDOFF_RETRY_SCHEDUEL is no setting"), "{finished:?}");
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
    let server = bare(&file).serve();
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
    assert!(good.status.success() && good.stdout.contains("is right"), "{good:?}");
    let line = complaint(&verify(SIGNATURE, b"{\"test\": 2432232314}", &[]), 1);
    assert!(line.contains("the signature is right, but its time"), "{line}");
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
