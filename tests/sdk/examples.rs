//! What lies in `examples/` works as it is: a shop's transaction through the outbox arrives at the plain Python receiver, which finds
//! the signature right; a receiver finds out what it missed, and gets it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{Answer, Binary, Receiver, SOON, Server, eventually_blocking, free_port, sqlite_file};

/// 32 bytes in base64.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A call of a server's API, with a token: its status, and the whole answer.
fn call((server, token): (&Server, &str), method: &str, path: &str, body: &str) -> (u16, String) {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The id of what a POST has made.
fn made(by: (&Server, &str), path: &str, body: &str) -> String {
    let (status, answer) = call(by, "POST", path, body);
    assert!(matches!(status, 201 | 202), "{answer}");
    answer.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned()
}

#[test]
fn the_outbox_example_reaches_the_receiver_example() {
    let port = free_port();
    let mut receiver = Command::new("python3");
    receiver.arg("-u").arg(example("receiver.py")).arg(port.to_string()).env("SECRET", SECRET).stdout(Stdio::piped());
    let mut receiver = Python(receiver.spawn().expect("python3"));
    let mut lines = BufReader::new(receiver.0.stdout.take().unwrap());
    eventually_blocking("the receiver's port", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());

    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let token = server.token();
    let by = (&server, &*token);
    made(by, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}");
    let endpoint = format!("{{\"url\": \"http://127.0.0.1:{port}/\", \"secret\": \"{SECRET}\"}}");
    made(by, "/app/acme/endpoint/", &endpoint);

    let shop = Command::new("python3").arg(example("outbox.py")).arg(file.path()).arg("acme").output().unwrap();
    assert!(shop.status.success(), "{shop:?}");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("msg_") && line.contains("{\"orderId\": 1, \"total\": 48.5}"), "{line}");
}

#[test]
fn the_reconciliation_example_gets_what_was_missed_and_nothing_else() {
    // The receiver refuses every third message for good, and forgets one that it has answered.
    let receiver = Receiver::start(|got| Answer::status(if got.text().contains("refused") { 400 } else { 204 }));
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let token = server.token();
    let by = (&server, &*token);
    let app = made(by, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}");
    let endpoint = format!("{{\"url\": \"{}\", \"retrySchedule\": []}}", receiver.url("/"));
    let endpoint = made(by, "/app/acme/endpoint/", &endpoint);
    let send = |n: usize| {
        let kind = if n.is_multiple_of(3) { "refused" } else { "fine" };
        let body = format!("{{\"eventType\": \"t\", \"payload\": {{\"{kind}\": {n}}}}}");
        made(by, "/app/acme/msg/", &body)
    };
    // More than two pages.
    let ids: Vec<String> = (0..600).map(send).collect();
    eventually_blocking("an attempt of each", 3 * SOON, || (receiver.count() == ids.len()).then_some(()));
    let settled = || {
        let (_, stats) = call(by, "GET", &format!("/app/acme/endpoint/{endpoint}/stats"), "");
        stats.contains("\"pending\":0").then_some(())
    };
    eventually_blocking("all is recorded", SOON, settled);

    let missed: Vec<&String> =
        ids.iter().enumerate().filter(|(n, _)| n.is_multiple_of(3) || *n == 301).map(|(_, id)| id).collect();
    let seen: Vec<&str> = ids.iter().filter(|id| !missed.contains(id)).map(String::as_str).collect();
    let books = server.binary().folder().join("seen.txt");
    std::fs::write(&books, seen.join("\n")).unwrap();
    receiver.answer_with(|_| Answer::status(204));
    let customers = server.binary().run(&["token", "--app", &app]).stdout;
    let night = |wanted: &str| {
        let mut reconcile = Command::new("python3");
        reconcile.arg(example("reconcile/reconcile.py")).args(["acme", &endpoint, "2026-01-01T00:00:00Z"]).arg(&books);
        let said = reconcile.env("SENDOFF_URL", server.url()).env("SENDOFF_TOKEN", customers.trim()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.trim().ends_with(wanted), "{text}");
    };
    night("600 messages compared, 201 sent again");
    eventually_blocking("what was missed", SOON, || (receiver.count() == 600 + missed.len()).then_some(()));
    let mut again: Vec<String> =
        receiver.received()[600..].iter().map(|one| one.header("webhook-id").unwrap().to_owned()).collect();
    again.sort_unstable();
    assert_eq!(again.iter().collect::<Vec<_>>(), missed, "these, and each once");
    std::fs::write(&books, ids.join("\n")).unwrap();
    night("600 messages compared, 0 sent again");
}

#[test]
fn the_snippets_of_polling_endpoints_fetch() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let token = server.token();
    let by = (&server, &*token);
    made(by, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}");
    made(by, "/app/acme/destination/", "{\"type\": \"pollingEndpoint\", \"uid\": \"warehouse\"}");
    let (_, answer) = call(by, "POST", "/auth/app/acme/poller/warehouse/token/rotate/", "{}");
    let poller = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let id = made(by, "/app/acme/msg/", "{\"eventType\": \"t\", \"payload\": {}}");
    let folder = server.binary().folder();
    for file in ["poll.sh", "poll.py", "poll.mjs"] {
        let code =
            std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("snippets").join(file)).unwrap();
        assert!(code.contains("https://hooks.example.com"), "{file}");
        let code = code.replace("https://hooks.example.com", &server.url());
        // Each has a position of its own.
        std::fs::write(folder.join(file), code.replace("consumer/main", &format!("consumer/{file}"))).unwrap();
    }
    // Shows the ids of the first page, and how many follow it.
    std::fs::write(
        folder.join("run.py"),
        "import poll\npage = poll.fetch(None)\nnext = poll.fetch(page['iterator'], 0)\nprint([one['id'] for one in page['data']], len(next['data']))",
    )
    .unwrap();
    std::fs::write(
        folder.join("run.mjs"),
        "import { fetchPage } from './poll.mjs';\nconst page = await fetchPage();\nconst next = await fetchPage(page.iterator, 0);\n\
         console.log(page.data.map((one) => one.id), next.data.length);",
    )
    .unwrap();
    for (program, file, wanted) in
        [("sh", "poll.sh", "\"done\":true"), ("python3", "run.py", " 0"), ("node", "run.mjs", " 0")]
    {
        let mut command = Command::new(program);
        let output = command.arg(file).current_dir(folder).env("TOKEN", poller).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(&id) && said.contains(wanted), "{file}: {output:?}");
    }
}

/// Those that the pages of a polling endpoint show (`snippets/poll.*`).
#[test]
fn the_snippets_that_fetch_get_what_was_sent() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let token = server.token();
    let by = (&server, &*token);
    made(by, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}");
    made(by, "/app/acme/destination", "{\"type\": \"pollingEndpoint\", \"uid\": \"warehouse\"}");
    let sent: Vec<String> = (0..2)
        .map(|n| made(by, "/app/acme/msg/", &format!("{{\"eventType\": \"t\", \"payload\": {{\"n\": {n}}}}}")))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let snippet = |name: &str, more: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("snippets").join(name);
        let text = std::fs::read_to_string(path).unwrap().replace("https://hooks.example.com", &server.url());
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}{more}")).unwrap();
        path
    };
    let python = "print([one['id'] for one in fetch(None, 0)['data']])";
    let node = "console.log((await fetchPage(undefined, 0)).data.map((one) => one.id));";
    for (program, path) in
        [("python3", snippet("poll.py", python)), ("node", snippet("poll.mjs", node)), ("sh", snippet("poll.sh", ""))]
    {
        let output = Command::new(program).arg(&path).env("TOKEN", &token).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && sent.iter().all(|id| text.contains(id)), "{program}: {output:?}");
    }
}
