//! README and docs: every block of commands is run by a test or has a reason against it; files, links, settings and metrics
//! that they name exist.
//!
//! The blocks run as they are written, with other ports and URLs. `curl` fails on any HTTP error.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{Postgres, SOON, eventually_blocking, free_port, npm, python};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// Page, start of the block, and the test that runs it.
static RUN: [(&str, &str, &str); 28] = [
    ("README.md", "cargo run --release -- demo", "it_delivers_within_five_seconds_and_leaves_nothing_behind"),
    ("README.md", "cargo install", "the_readme_delivers_to_a_receiver"),
    ("README.md", "export SECRET=", "the_readme_delivers_to_a_receiver"),
    ("README.md", "export TOKEN=", "the_readme_delivers_to_a_receiver"),
    ("README.md", "import os", "the_readme_delivers_to_a_receiver"),
    ("README.md", "BEGIN;", "the_sql_works_on_postgres"),
    ("docs/api.md", "TOKEN=", "the_api_pages_work_from_top_to_bottom"),
    ("docs/api.md", "import os", "the_api_pages_work_from_top_to_bottom"),
    ("docs/api.md", "import { Svix }", "the_api_pages_work_from_top_to_bottom"),
    ("docs/api.md", "MSG=", "the_api_pages_work_from_top_to_bottom"),
    ("docs/api.md", "XOR=", "the_api_pages_work_from_top_to_bottom"),
    ("docs/api.md", "ask $API/app/acme/development-endpoint", "the_api_pages_work_from_top_to_bottom"),
    ("docs/polling.md", "ask $API/app/acme/destination", "the_api_pages_work_from_top_to_bottom"),
    ("docs/polling.md", "ask $API/app/acme/autoconfig", "the_api_pages_work_from_top_to_bottom"),
    ("docs/polling.md", "import os", "the_api_pages_work_from_top_to_bottom"),
    ("docs/portal.md", "curl -X POST", "operators_commands_work"),
    ("docs/operations.md", "sendoff key create", "operators_commands_work"),
    ("docs/operations.md", "sqlite3 sendoff.db", "operators_commands_work"),
    ("docs/operations.md", "CREATE ROLE", "the_sql_works_on_postgres"),
    ("docs/operations.md", "GRANT USAGE", "the_sql_works_on_postgres"),
    ("docs/operations.md", "pg_dump", "the_sql_works_on_postgres"),
    ("docs/operations.md", "BEGIN;", "the_sql_works_on_postgres"),
    ("docs/relay.md", "sendoff outbox init", "the_page_works_from_top_to_bottom"),
    ("docs/relay.md", "sendoff relay", "the_page_works_from_top_to_bottom"),
    ("docs/relay.md", "INSERT INTO", "the_page_works_from_top_to_bottom"),
    ("docs/development.md", "$ sendoff listen", "events_are_forwarded_as_they_are_delivered"),
    ("docs/development.md", "$ sendoff trigger", "events_are_forwarded_as_they_are_delivered"),
    ("docs/development.md", "$ sendoff tail", "attempts_are_followed"),
];

/// Page, start of the block, and why no test runs it.
static NOT_RUN: [(&str, &str, &str); 3] = [
    ("CONTRIBUTING.md", "make demo", "runs this test suite, among others"),
    ("docs/performance.md", "cargo bench", "takes minutes to hours"),
    ("docs/pull.md", "ulimit -n", "takes minutes, in a release build"),
];

/// Languages of command blocks.
const COMMANDS: [&str; 7] = ["sh", "bash", "console", "sql", "python", "js", "javascript"];

struct Block {
    page: String,
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the project: path and text.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    let mut paths: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry of docs").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"].map(|page| root().join(page)));
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).expect("in the project").display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("a page"))).collect()
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let mut open: Option<Block> = None;
        for line in text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    open = Some(Block { page: page.clone(), language: language.to_owned(), text: String::new() });
                }
                (Some(_), Some(_)) => found.extend(open.take()),
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block has no end");
    }
    found
}

/// The text of the one block of `page` that starts like this.
fn block(page: &str, start: &str) -> String {
    let mut fitting: Vec<Block> = blocks();
    fitting.retain(|block| block.page == page && block.text.trim_start().starts_with(start));
    assert_eq!(fitting.len(), 1, "blocks of {page} that start with {start:?}");
    fitting.remove(0).text
}

#[test]
fn every_command_block_is_run_or_has_a_reason_against_it() {
    let listed = || RUN.iter().chain(&NOT_RUN);
    for block in blocks() {
        assert!(!block.language.is_empty(), "{}: a block states no language:\n{}", block.page, block.text);
        if COMMANDS.contains(&block.language.as_str()) {
            let text = block.text.trim_start();
            let entries = listed().filter(|(page, start, _)| *page == block.page && text.starts_with(start)).count();
            assert_eq!(entries, 1, "{}: RUN and NOT_RUN name this block once:\n{}", block.page, block.text);
        }
    }
    for (page, start, _) in listed() {
        block(page, start);
    }
    let (here, all) = (include_str!("documentation.rs"), crate::support::sources::texts("tests"));
    for (page, start, test) in RUN {
        assert!(all.contains(&format!("fn {test}(")), "{page}: there is no test {test}");
        let elsewhere = !here.contains(&format!("fn {test}("));
        assert!(elsewhere || here.contains(&format!("block(\"{page}\", \"{start}\")")), "{page}: {start} is not run");
    }
}

#[test]
fn files_links_settings_and_metrics_that_pages_name_exist() {
    let sources = crate::support::sources::texts("src");
    let mut missing = BTreeSet::new();
    let pages = pages();
    for (page, text) in &pages {
        let code = text.split('`').skip(1).step_by(2);
        let folders = ["src/", "tests/", "benches/", "examples/", "snippets/", "docs/"];
        for path in code.filter(|code| folders.iter().any(|folder| code.starts_with(folder)) && !code.contains(' ')) {
            if !root().join(path).exists() {
                missing.insert(format!("{page}: {path}"));
            }
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(page),
                _ => root().join(page).parent().expect("a folder").join(path),
            };
            let has = |text: &str| text.lines().any(|line| line.starts_with('#') && anchor_of(line) == anchor);
            let is_good =
                target.exists() && (anchor.is_empty() || fs::read_to_string(&target).is_ok_and(|it| has(&it)));
            if !link.contains("://") && !is_good {
                missing.insert(format!("{page}: {link}"));
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_metric = word.starts_with("sendoff_") && !word.starts_with("sendoff_test_");
            if is_metric && word != "sendoff_" && !sources.contains(&format!("\"{word}")) {
                missing.insert(format!("{page}: {word}"));
            }
            let setting = word.strip_prefix("SENDOFF_").filter(|name| !name.is_empty() && !name.starts_with("TEST_"));
            let known = |name: &str| {
                sendoff::config::settings::SETTINGS.iter().any(|setting| match name.ends_with('_') {
                    true => setting.variable().starts_with(word),
                    false => setting.variable() == word,
                })
            };
            if setting.is_some_and(|name| !known(name)) {
                missing.insert(format!("{page}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A heading's anchor: lower case, with dashes for spaces and without punctuation.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A background shell with its children and their standard output.
struct Session {
    shell: Child,
    printed: Arc<Mutex<String>>,
}

impl Session {
    fn start(mut command: Command) -> Session {
        let mut shell = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a shell");
        let printed = Arc::new(Mutex::new(String::new()));
        let (lines, into) = (BufReader::new(shell.stdout.take().expect("piped")).lines(), printed.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *into.lock().unwrap() += &format!("{line}\n");
            }
        });
        Session { shell, printed }
    }

    fn prints(&self, what: &str) {
        let printed = || self.printed.lock().unwrap().clone();
        eventually_blocking(what, SOON, || printed().contains(what).then_some(()));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        let _ = self.shell.wait();
    }
}

/// A folder with a running Sendoff, as a reader has it who follows the pages.
struct World {
    folder: TempDir,
    address: String,
    serve: Option<Session>,
}

impl World {
    /// `start` ends with `sendoff serve`.
    fn start(settings: &[(&str, &str)], start: &str) -> World {
        let folder = TempDir::with_prefix("sendoff-pages-").expect("a temporary folder");
        for name in ["bin", "backup", ".config"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        symlink(env!("CARGO_BIN_EXE_sendoff"), folder.path().join("bin/sendoff")).expect("a link");
        symlink(root().join("examples"), folder.path().join("examples")).expect("a link");
        symlink(npm().join("node_modules"), folder.path().join("node_modules")).expect("a link");
        fs::write(folder.path().join(".curlrc"), "fail-with-body\n").expect("a file");
        let address = format!("127.0.0.1:{}", free_port());
        let mut world = World { folder, address, serve: None };
        world.serve(settings, start);
        world
    }

    fn serve(&mut self, settings: &[(&str, &str)], start: &str) {
        self.serve = None;
        let mut command = self.bash(start);
        command.envs(settings.iter().copied());
        self.serve = Some(Session::start(command));
        let ready =
            || self.bash("curl -s http://127.0.0.1:8071/readyz").output().is_ok_and(|answer| answer.status.success());
        eventually_blocking("sendoff serve", SOON, || ready().then_some(()));
    }

    /// With nothing of the caller's environment but the PATH.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = format!("{}/bin:{}", self.folder.path().display(), std::env::var("PATH").expect("a PATH"));
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_clear().env("PATH", path).env("HOME", self.folder.path());
        command.env("SENDOFF_LISTEN", &self.address).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }

    fn bash(&self, script: &str) -> Command {
        let mut command = self.command("bash");
        command.args(["-euo", "pipefail", "-c", &self.placed(script)]);
        command
    }

    /// The text, with this Sendoff's address.
    fn placed(&self, text: &str) -> String {
        let url = format!("http://{}", self.address);
        text.replace("127.0.0.1:8071", &self.address).replace("https://hooks.example.com", &url)
    }

    fn token(&self) -> String {
        run(self.command("sendoff").arg("token")).trim().to_owned()
    }
}

/// Runs it and returns its standard output. Panics unless it succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

const SERVE: &str = "export SENDOFF_EGRESS_ALLOW=127.0.0.1/32\nexec sendoff serve";

#[test]
fn the_readme_delivers_to_a_receiver() {
    let start = block("README.md", "cargo install");
    let start: Vec<&str> = start.lines().filter(|line| !line.starts_with("cargo install")).collect();
    let world = World::start(&[], &start.join("\n").replace("sendoff serve", "exec sendoff serve"));
    let port = free_port();
    let receiver = block("README.md", "export SECRET=").replace("receiver.py &", &format!("receiver.py {port} &"));
    let listens = format!("until (: <>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.05; done");
    let tour = block("README.md", "export TOKEN=").replace("127.0.0.1:9000", &format!("127.0.0.1:{port}"));
    let session = Session::start(world.bash(&format!("{receiver}\n{listens}\n{tour}\nwait")));
    session.prints(" {\"invoiceId\": \"inv-1\"}\n");
    session.prints("\"status\":0,");
    let code = world.placed(&block("README.md", "import os"));
    run(world.command(python()).env("TOKEN", world.token()).args(["-c", &code]));
    session.prints("inv-2");
    let url = format!("http://127.0.0.1:{port}/");
    let mut tour = world.command("bash");
    tour.args(["examples/quick-tour.sh", &url]).env("SENDOFF_PUBLIC_URL", format!("http://{}", world.address));
    assert!(run(&mut tour).contains("sent: msg_"));
}

#[test]
fn the_api_pages_work_from_top_to_bottom() {
    let world = World::start(&[], SERVE);
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let placed = |text: &str| world.placed(text).replace("https://example.com/webhooks", &nobody);
    let script = [
        block("docs/api.md", "TOKEN="),
        block("docs/api.md", "MSG="),
        block("docs/api.md", "XOR="),
        block("docs/api.md", "ask $API/app/acme/development-endpoint"),
        block("docs/polling.md", "ask $API/app/acme/destination").replace("wait=30", "wait=1"),
        block("docs/polling.md", "ask $API/app/acme/autoconfig"),
    ];
    let printed = run(&mut world.bash(&placed(&script.concat())));
    let token = world.token();
    let code = placed(&block("docs/api.md", "import os"));
    run(world.command(python()).env("TOKEN", &token).args(["-c", &code]));
    // Node.js 18 has no global `crypto`.
    let code = format!(
        "import {{ webcrypto }} from 'node:crypto';\nglobalThis.crypto ??= webcrypto;\n{}",
        placed(&block("docs/api.md", "import { Svix }"))
    );
    fs::write(world.folder.path().join("session.mjs"), code).expect("a file");
    run(world.command("node").env("TOKEN", &token).arg("session.mjs"));
    let given = printed.split('"').find(|text| text.starts_with("auto_"));
    let code = block("docs/polling.md", "import os");
    let mut poll = world.command(python());
    poll.args(["-c", &code]).env("AUTOCONFIG_TOKEN", given.expect("a token of a subscription"));
    run(&mut poll);
    run(world.command("sendoff").args(["send", "acme", "invoice.paid", "{\"invoiceId\": \"inv-3\"}"]));
    assert!(run(&mut poll).contains("inv-3"), "the message that came after the subscription");
}

#[test]
fn operators_commands_work() {
    let world = World::start(&[], SERVE);
    let first = "$(sendoff key list | grep -o 'key_[a-z0-9]*' | head -n 1)";
    let printed = run(&mut world.bash(&block("docs/operations.md", "sendoff key create").replace("key_…", first)));
    assert!(printed.contains("sk_") && printed.contains("billing"), "{printed}");
    if Command::new("sqlite3").arg("--version").output().is_err() {
        let program = "#!/usr/bin/env python3\nimport sqlite3, sys\n\
                       for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):\n    print(*row)\n";
        let path = world.folder.path().join("bin/sqlite3");
        fs::write(&path, program).expect("a file");
        run(Command::new("chmod").arg("+x").arg(path));
    }
    let folder = world.folder.path().join("backup");
    let backup = block("docs/operations.md", "sqlite3 sendoff.db").replace("/backup", &folder.display().to_string());
    assert_eq!(run(&mut world.bash(&backup)).trim(), "ok", "the copy's integrity");
    let link = run(world.bash(&block("docs/portal.md", "curl -X POST")).env("TOKEN", world.token()));
    assert!(link.contains("/portal/enter/"), "{link}");
}

#[test]
fn the_sql_works_on_postgres() {
    let url = Postgres::shared().fresh_database();
    let database = url.rsplit('/').next().expect("a name").to_owned();
    // Roles belong to the whole server, which other tests share.
    let (owner, writer) = (format!("{database}_owner"), format!("{database}_writer"));
    let named = |sql: String| {
        let sql = sql.replace("ROLE sendoff", &format!("ROLE {owner}")).replace("TO sendoff;", &format!("TO {owner};"));
        let sql = sql.replace("product_writer", &writer).replace('…', "secret");
        sql.replace("DATABASE product", &format!("DATABASE {database}"))
    };
    let role = |name: &str| {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        format!("{scheme}://{name}:secret@{}", rest.split_once('@').map_or(rest, |(_, rest)| rest))
    };
    let psql = |url: &str, sql: &str| {
        let mut child = Command::new("psql");
        child.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", url]).stdin(Stdio::piped());
        let mut child = child.spawn().expect("psql");
        child.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("it reads");
        assert!(child.wait().expect("psql").success(), "{sql}");
    };
    psql(&url, &named(block("docs/operations.md", "CREATE ROLE")));
    let (jwt, key) = ("0123456789abcdef0123456789abcdef", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let store = role(&owner);
    let settings = [("SENDOFF_DATABASE_URL", &*store), ("SENDOFF_JWT_SECRET", jwt), ("SENDOFF_MASTER_KEY", key)];
    let mut world = World::start(&settings, SERVE);
    let token = run(world.command("sendoff").arg("token").envs(settings)).trim().to_owned();
    let api = |world: &World, path: &str, more: &str| {
        let ask = format!("curl -sS -H 'authorization: Bearer {token}' http://127.0.0.1:8071/api/v1{path} {more}");
        let output = world.bash(&ask).output().expect("curl");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let acme = "-H 'content-type: application/json' -d '{\"name\": \"Acme\", \"uid\": \"acme\"}'";
    let (made, answer) = api(&world, "/app", acme);
    assert!(made, "{answer}");
    psql(&url, &format!("CREATE ROLE {writer} LOGIN PASSWORD 'secret'"));
    psql(&store, &named(block("docs/operations.md", "GRANT USAGE")));
    psql(
        &url,
        &format!("CREATE TABLE public.invoices (id text, paid boolean); GRANT ALL ON public.invoices TO {writer}"),
    );
    psql(&role(&writer), &block("README.md", "BEGIN;"));
    let is_message = |world: &World| api(world, "/app/acme/msg/inv-3-paid", "").0;
    eventually_blocking("the outbox row is a message", SOON, || is_message(&world).then_some(()));

    run(&mut world.bash(&block("docs/operations.md", "pg_dump").replace(" product  ", &format!(" '{url}'  "))));
    for file in ["product.dump", "sendoff.dump"] {
        assert!(world.folder.path().join(file).metadata().is_ok_and(|file| file.len() > 1_000), "{file}");
    }

    world.serve = None;
    psql(&store, &block("docs/operations.md", "BEGIN;"));
    let other = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=";
    let settings = [("SENDOFF_DATABASE_URL", &*store), ("SENDOFF_JWT_SECRET", jwt), ("SENDOFF_MASTER_KEY", other)];
    world.serve(&settings, SERVE);
    assert!(is_message(&world), "messages are unharmed");
}
