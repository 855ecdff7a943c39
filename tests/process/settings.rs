//! The settings, with the real binary: each one's good and bad values, which of its places counts, the file, the keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Binary, SqliteFile, complaint, sqlite_file};

/// A binary whose keys lie beside the database.
fn bare(file: &SqliteFile) -> Binary {
    Binary::on(&file.url()).unset("SENDOFF_JWT_SECRET").unset("SENDOFF_MASTER_KEY")
}

const RSA: &str = include_str!("../keys/rsa.public.pem");
const ED25519: &str = include_str!("../keys/ed25519.public.pem");

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
    ("SENDOFF_ADMIN_LISTEN", &["127.0.0.1:0", "localhost:8072"], &["8072", "127.0.0.1", "host:1"]),
    ("SENDOFF_DASHBOARD_LISTEN", &["127.0.0.1:0", "localhost:8074"], &["8074", "127.0.0.1", "host:1"]),
    (
        "SENDOFF_PUBLIC_URL",
        &["https://hooks.example.com", "http://[::1]:8071/"],
        &["hooks.example.com", "ftp://x", "https://x/y", "https://a:b@x"],
    ),
    ("SENDOFF_JWT_SECRET", &["0123456789abcdef"], &["0123456789abcde"]),
    ("SENDOFF_JWT_SECRET_OTHER", &["0123456789abcdef"], &["0123456789abcde"]),
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
    (
        "SENDOFF_EGRESS_PROXY",
        &["http://proxy:3128", "https://a:b%40c@proxy.example.com/", "socks5://[::1]:1080"],
        &["proxy:3128", "ftp://proxy", "http://proxy/path", "http://proxy?x", "socks5h://proxy", "socks5://user@proxy"],
    ),
    (
        "SENDOFF_EGRESS_NO_PROXY",
        &["a.example", ".internal.example, 10.0.0.0/8,::1"],
        &["*", "http://a.example", "a..b", "10.0.0.0/33"],
    ),
    (
        "SENDOFF_EGRESS_DNS",
        &["192.0.2.53", "192.0.2.53:5353, [2001:db8::1]:53,2001:db8::1"],
        &["dns.example", "192.0.2.53:x", "192.0.2.53;192.0.2.54"],
    ),
    ("SENDOFF_HTTPS_ONLY", &["true", "false"], &["yes", "1", "True"]),
    ("SENDOFF_REQUIRE_TOTP", &["true", "false"], &["yes", "1", "True"]),
    (
        "SENDOFF_RETRY_SCHEDULE",
        &["1s", "5s,5m,2h,1d", "500ms, 1s"],
        &["5", "5s,x", "8d", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"],
    ),
    ("SENDOFF_REQUEST_TIMEOUT", &["1s", "30s", "1500ms"], &["0s", "31s", "999ms", "15", "fast"]),
    ("SENDOFF_MAX_PAYLOAD", &["1KiB", "16MiB", "2048"], &["1023", "17MiB", "256kB", "lots"]),
    ("SENDOFF_MAX_ENDPOINTS", &["1", "1000000"], &["0", "1000001", "many"]),
    ("SENDOFF_DATABASE_CONNECTIONS", &["8", "1000"], &["7", "1001", "many"]),
    ("SENDOFF_DELETED_RETENTION", &["7d", "1m"], &["0d", "59s", "4000d", "never"]),
    ("SENDOFF_RETENTION", &["90d", "24h"], &["0d", "59s", "4000d", "1y"]),
    ("SENDOFF_MAX_IN_FLIGHT", &["1", "65536"], &["0", "65537", "-1", "many"]),
    ("SENDOFF_ENDPOINT_MAX_IN_FLIGHT", &["1", "1024"], &["0", "1025", "x"]),
    ("SENDOFF_DRAIN", &["30s", "1m"], &["0s", "2h", "30"]),
    ("SENDOFF_CONSUMER_SILENT_AFTER", &["5m", "2d", "365d"], &["0s", "4m", "366d", "never"]),
    ("SENDOFF_ENDPOINT_DISABLE_AFTER", &["5d", "1m", "1s"], &["0s", "999ms", "400d", "never"]),
    ("SENDOFF_JWT_ALGORITHM", &["HS256", "HS384", "HS512"], &["none", "ES256", "hs256"]),
    (
        "SENDOFF_JWT_PUBLIC_KEY",
        &[RSA, ED25519],
        &["nonsense", include_str!("../keys/rsa.private.pem"), include_str!("../keys/ec.public.pem")],
    ),
    ("SENDOFF_LOG", &["debug", "warn,sendoff=trace"], &["inof", "sendoff", "sendoff=loud"]),
    ("SENDOFF_LOG_FORMAT", &["text", "json"], &["xml", "JSON"]),
    (
        "SENDOFF_FRAME_ORIGINS",
        &["https://app.example.com", "https://a.example.com:8443, http://localhost:3000"],
        &["*", "https://*.example.com", "http://app.example.com", "app.example.com", "https://a.example.com/x"],
    ),
    ("SENDOFF_RATE_LIMIT_KEY", &["0", "1000000"], &["-1", "1000001", "many", "1.5"]),
    ("SENDOFF_RATE_LIMIT_APPLICATION", &["0", "1"], &["-1", "1000001"]),
    ("SENDOFF_RATE_LIMIT_SESSION", &["0", "1"], &["-1", "1000001"]),
    ("SENDOFF_RATE_LIMIT_ADDRESS", &["0", "1"], &["-1", "1000001"]),
    (
        "SENDOFF_CORS_ORIGINS",
        &["*", "none", "https://a.example, http://localhost:3000"],
        &["a.example", "https://a.example/x", "*,https://a.example"],
    ),
    ("SENDOFF_TRUSTED_PROXIES", &["10.0.0.5", "10.0.0.0/8, ::1"], &["10.0.0.0/33", "proxy", "*"]),
    (
        "SENDOFF_SMTP_URL",
        &[],
        &[
            "mail.example.com",
            "http://user:hidden@mail.example.com",
            "smtp://user:hidden@",
            "smtp://user:hidden@mail.example.com:0",
            "smtp://user:hidden@mail.example.com:port",
            "smtp://user@mail.example.com",
            "smtp://user:hidden@mail.example.com?tls=maybe",
            "smtp://user:hidden@mail.example.com?tsl=required",
        ],
    ),
    (
        "SENDOFF_OIDC_ISSUER",
        &[],
        &["login.example.com", "http://login.example.com", "https://a:b@login.example.com", "https://x.example/?a=b"],
    ),
    ("SENDOFF_OIDC_CLIENT_ID", &["sendoff"], &["a b"]),
    ("SENDOFF_OIDC_CLIENT_SECRET", &["hidden"], &[]),
    ("SENDOFF_OIDC_SCOPES", &["openid", "openid groups"], &[]),
    ("SENDOFF_OIDC_GROUPS_CLAIM", &["groups", "https://example.com/groups"], &["a b"]),
    ("SENDOFF_OIDC_ROLES", &["ops=operator", "a=viewer, *=admin"], &["ops", "ops=root", "=admin"]),
    ("SENDOFF_OIDC_DOMAINS", &["example.com", "a.example, b.example"], &["localhost", "a@example.com", "1.2.3.4"]),
    ("SENDOFF_OIDC_LABEL", &["Sign in with Example"], &["a label that is so long that no button could ever hold it"]),
    ("SENDOFF_OIDC_SESSION", &["5m", "7d"], &["4m", "8d", "1"]),
    (
        "SENDOFF_MAIL_FROM",
        &["a@example.com", "Hooks <a@example.com>"],
        &["a", "Hooks", "a@example.com, b@example.com", "a@example.com\r\nBcc: b@example.com"],
    ),
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
                assert!(line.contains("expected "), "{place}, {variable}={value} says how it should look: {line}");
                let secret = [
                    "SENDOFF_JWT_SECRET",
                    "SENDOFF_JWT_SECRET_OTHER",
                    "SENDOFF_JWT_PUBLIC_KEY",
                    "SENDOFF_MASTER_KEY",
                    "SENDOFF_SMTP_URL",
                    "SENDOFF_EGRESS_PROXY",
                ]
                .contains(variable);
                assert!(!secret || !line.contains(value), "a secret is not quoted: {line}");
                assert_eq!(place == "flag", line.contains(&format!("(set by {})", kebab(variable))), "{line}");
            }
        }
    }
}

#[test]
fn a_public_key_takes_the_place_of_the_secret() {
    let file = sqlite_file();
    let with = |algorithm: &str| bare(&file).set("SENDOFF_JWT_ALGORITHM", algorithm);
    for (algorithm, key, other) in [("RS256", RSA, ED25519), ("RS512", RSA, ED25519), ("EdDSA", ED25519, RSA)] {
        let line = complaint(&with(algorithm).run(&["migrate"]), 2);
        assert!(line.starts_with("SENDOFF_JWT_PUBLIC_KEY is missing") && line.contains(algorithm), "{line}");
        let line = complaint(&with(algorithm).set("SENDOFF_JWT_PUBLIC_KEY", other).run(&["migrate"]), 2);
        assert!(line.starts_with("SENDOFF_JWT_PUBLIC_KEY does not match"), "{line}");
        let binary = with(algorithm).set("SENDOFF_JWT_PUBLIC_KEY", &key.replace('\n', "\\n"));
        let finished = binary.run(&["migrate"]);
        assert!(finished.status.success() && finished.stderr.is_empty(), "{finished:?}");
        assert!(!key_files(&file)[0].exists(), "a secret that nothing is signed with is not made");
        let line = complaint(&binary.run(&["token"]), 1);
        assert!(line.contains(algorithm) && line.contains("sendoff key create"), "{line}");
    }
    // With PostgreSQL no secret is asked for either: what is missing next is the server.
    let away = Binary::on("postgres://nobody@127.0.0.1:1/none").unset("SENDOFF_JWT_SECRET");
    let away = away.set("SENDOFF_JWT_ALGORITHM", "EdDSA").set("SENDOFF_JWT_PUBLIC_KEY", ED25519);
    assert!(complaint(&away.run(&["migrate"]), 1).contains("PostgreSQL"));
}

#[test]
fn a_mail_server_needs_a_sender() {
    let file = sqlite_file();
    let secret = "smtp://user:hidden@mail.example.com:587?tls=required";
    let line = complaint(&Binary::on(&file.url()).set("SENDOFF_SMTP_URL", secret).run(&["serve"]), 2);
    assert!(line.starts_with("SENDOFF_MAIL_FROM is missing") && line.contains("hooks@example.com"), "{line}");
    assert!(!line.contains("hidden"), "the password is not quoted: {line}");
    for url in
        [secret, "smtps://mail.example.com", "smtp://127.0.0.1:25", "smtp://u:p@mail.example.com?tls=opportunistic"]
    {
        let binary = Binary::on(&file.url()).set("SENDOFF_SMTP_URL", url).set("SENDOFF_MAIL_FROM", "a@example.com");
        let finished = binary.run(&["migrate"]);
        assert!(finished.status.success() && finished.stderr.is_empty(), "{url}: {finished:?}");
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
        ("max_paylod = \"1MiB\"", "\"max_paylod\" is not a setting"),
        ("SENDOFF_LISTEN = \"127.0.0.1:1\"", "did you mean listen?"),
        ("max-payload = \"1MiB\"", "did you mean max_payload?"),
        ("config = \"other.toml\"", "not a setting"),
        ("[http]\nlisten = \"127.0.0.1:1\"", "\"http\" is not a setting"),
        ("listen = \"127.0.0.1:1\"\nlisten", "line 2 is not TOML"),
        ("retention = 1.5", "retention is a TOML float"),
        ("max_in_flight = 0", "SENDOFF_MAX_IN_FLIGHT: \"0\" is too small"),
        ("smtp_url = \"http://x\"", "SENDOFF_SMTP_URL is not an smtp or smtps URL"),
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
    for setting in sendoff::config::settings::SETTINGS.iter().filter(|setting| setting.name != "config") {
        let start = format!("{} = ", setting.name);
        let line = uncommented.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("examples/sendoff.toml has no {}", setting.name));
        if let Some(default) = setting.default.filter(|default| !default.is_empty()) {
            assert!(line.replace('"', "").ends_with(&format!(" = {default}")), "examples/sendoff.toml: {line}");
        }
    }
}

#[test]
fn the_configuration_page_lists_every_setting_with_its_default_and_no_other() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `SENDOFF_"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect("a name in code and a second cell");
            (name, rest.split(" | ").next().expect("a default"))
        })
        .collect();
    let settings = || sendoff::config::settings::SETTINGS.iter().filter(|setting| setting.name != "config");
    for setting in settings() {
        let variable = setting.variable();
        let defaults: Vec<&str> = rows
            .iter()
            .filter(|(name, _)| variable == format!("SENDOFF_{name}"))
            .map(|(_, default)| *default)
            .collect();
        let [default] = defaults[..] else { panic!("{variable} has {} rows", defaults.len()) };
        match setting.default {
            Some("") => assert_eq!(default, "none", "{variable}"),
            Some(text) => assert_eq!(default, format!("`{text}`"), "{variable}"),
            None => assert!(["none", "from ", "created "].iter().any(|start| default.starts_with(start)), "{variable}"),
        }
    }
    assert_eq!(rows.len(), settings().count());
    // Prose and cells name settings too.
    for name in page.split("SENDOFF_").skip(1) {
        let name: String = name.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        let is_setting = settings().any(|setting| setting.variable() == format!("SENDOFF_{name}"));
        assert!(is_setting || name.is_empty(), "docs/configuration.md names SENDOFF_{name}, which is not a setting");
    }
}

#[test]
fn a_mistyped_variable_is_a_warning() {
    let file = sqlite_file();
    let binary = Binary::on(&file.url()).set("SENDOFF_RETRY_SCHEDUEL", "1s").set("SENDOFF_SERVICE_HOST", "10.0.0.1");
    let finished = binary.run(&["migrate"]);
    assert!(finished.status.success() && finished.stderr.lines().count() == 1, "{finished:?}");
    assert!(finished.stderr.contains("SENDOFF_RETRY_SCHEDUEL is not a setting"), "{finished:?}");
}

fn key_files(file: &SqliteFile) -> [PathBuf; 2] {
    ["jwt-secret", "master-key"].map(|name| PathBuf::from(format!("{}.{name}", file.path().display())))
}

/// The descriptor table is grown in advance: see src/app/open_files.rs.
#[test]
fn descriptors_for_requests_in_flight_exist_from_the_start() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).set("SENDOFF_MAX_IN_FLIGHT", "200").serve();
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("the size of its table");
    let size: u64 = size.trim().parse().unwrap();
    assert!(size >= 2 * 200 + 512, "{size}: a request and a kept connection each, and what else is open");
}

#[test]
fn keys_are_created_once_for_the_owner_only() {
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
    let line =
        complaint(&bare(&file).set("SENDOFF_MASTER_KEY", crate::support::server::MASTER_KEY).run(&["migrate"]), 1);
    assert!(line.contains("another master key"), "{line}");
    fs::write(&master, "nonsense\n").unwrap();
    let line = complaint(&bare(&file).run(&["migrate"]), 1);
    assert!(line.contains("master-key") && !line.contains("nonsense"), "{line}");
}
