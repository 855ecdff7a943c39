//! What lies in `examples/` works as it is: a shop's transaction through the outbox arrives at the plain Python receiver, which finds
//! the signature right; a receiver finds out what it missed, and gets it.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::rest::{call, made};
use crate::support::{Answer, Binary, Receiver, SOON, eventually_blocking, free_port, sqlite_file};

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
