//! `listen`, `trigger` and `tail` against a running server.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use sqlx::Connection;

use crate::support::{Answer, Binary, Receiver, SOON, Server, complaint, eventually_blocking, sqlite_file};

/// A server with an application `acme` and an event type with an example; and what holds its database.
fn server() -> (Server, crate::support::SqliteFile) {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    call(&server, "POST", "/app", r#"{"name": "Acme", "uid": "acme"}"#);
    let schema = r#"{"type": "object", "examples": [{"invoice": {"id": "in_1", "amount": 5}}]}"#;
    let event_type = format!(r#"{{"name": "invoice.paid", "description": "", "schemas": {{"1": {schema}}}}}"#);
    call(&server, "POST", "/event-type", &event_type);
    (server, file)
}

/// A call of the server's API: the whole answer.
fn call(server: &Server, method: &str, path: &str, body: &str) -> String {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let (length, token) = (body.len(), server.token());
    write!(
        stream,
        "{method} /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    answer
}

/// The command on a machine of its own, that knows a server's address and a token.
struct Elsewhere {
    url: String,
    token: String,
}

impl Elsewhere {
    fn than(server: &Server) -> Elsewhere {
        Elsewhere { url: server.url(), token: server.token() }
    }

    fn with<T>(&self, arguments: &[&str], act: impl FnOnce(Binary, &[&str]) -> T) -> T {
        let binary = Binary::on("sqlite:none/such.db");
        let settings = binary.folder().join("settings").display().to_string();
        let whom = ["--server", &self.url, "--token", &self.token];
        act(binary.set("XDG_CONFIG_HOME", &settings), &[arguments, &whom].concat())
    }

    fn begin(&self, arguments: &[&str]) -> Server {
        self.with(arguments, |binary, all| binary.begin(all))
    }

    fn run(&self, arguments: &[&str]) -> String {
        let finished = self.with(arguments, |binary, all| binary.run(all));
        assert!(finished.status.success(), "{arguments:?}: {finished:?}");
        finished.stdout.trim().to_owned()
    }
}

fn begin(server: &Server, arguments: &[&str]) -> Server {
    Elsewhere::than(server).begin(arguments)
}

fn run(server: &Server, arguments: &[&str]) -> String {
    Elsewhere::than(server).run(arguments)
}

fn says(command: &Server, what: &str) {
    eventually_blocking(what, SOON, || command.output().contains(what).then_some(()));
}

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[test]
fn events_are_forwarded_as_they_are_delivered() {
    let (server, _file) = server();
    let before = run(&server, &["trigger", "acme", "invoice.paid", "--set", "invoice.id=early"]);
    let local = Receiver::start(|got| match got.text().contains("refused") {
        true => Answer::status(400).body("no such invoice"),
        false => Answer::ok(),
    });
    let url = local.url("/hooks");
    let listener = begin(
        &server,
        &[
            "listen",
            "acme",
            "--forward-to",
            &url,
            "--secret",
            SECRET,
            "--events",
            "invoice.paid,invoice.sent",
            "--headers",
            "X-Env: dev",
        ],
    );
    says(&listener, "Forwarding the events of acme");
    let id = run(&server, &["trigger", "acme", "invoice.paid", "--set", "invoice.amount=7.5", "--set", "note=hello"]);
    says(&listener, &id);
    let sent = local.received();
    assert_eq!(sent.len(), 1, "what was accepted before is not forwarded: {before}");
    let payload: Value = serde_json::from_str(&sent[0].text()).unwrap();
    assert_eq!(payload, serde_json::json!({"invoice": {"id": "in_1", "amount": 7.5}, "note": "hello"}));
    let header = |name: &str| sent[0].header(name).unwrap_or_default().to_owned();
    assert_eq!((header("webhook-id"), header("x-env")), (id, "dev".to_owned()));
    assert_eq!(
        (header("content-type"), header("user-agent").starts_with("Sendoff/")),
        ("application/json".to_owned(), true)
    );
    let headers: HashMap<String, String> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| (name.to_owned(), header(name))).into();
    let mut map = http::HeaderMap::new();
    for (name, value) in &headers {
        map.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(sent[0].text().as_bytes(), &map).expect("a right signature");
    says(&listener, "200 OK in ");
    // The bytes are those that were sent, and what is not wanted stays.
    let send = |event_type: &str, payload: &str| {
        let finished = server.binary().run(&["send", "acme", event_type, payload]);
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout.trim().to_owned()
    };
    send("other", "{}");
    let id = send("invoice.sent", r#"{"refused":  1.50}"#);
    says(&listener, &format!("{id}  400 Bad Request in "));
    says(&listener, "no such invoice");
    assert_eq!(local.received()[1].text(), r#"{"refused":  1.50}"#);
    assert_eq!(local.count(), 2);
    // Another one begins where it is told to, and prints what it gets.
    let again = begin(
        &server,
        &["listen", "acme", "--forward-to", &url, "--secret", SECRET, "--replay-last", "3", "--print-json"],
    );
    says(&again, &id);
    eventually_blocking("the last three", SOON, || (local.count() == 5).then_some(()));
    let printed = || {
        let output = again.output();
        output.lines().find(|line| line.starts_with('{') && line.contains("refused")).map(str::to_owned)
    };
    let json = eventually_blocking("what is printed of the last", SOON, printed);
    let event: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&event["id"], &event["eventType"], &event["payload"]["refused"]),
        (&id.into(), &"invoice.sent".into(), &1.5.into())
    );
    let since = begin(&server, &["listen", "acme", "--forward-to", &url, "--secret", SECRET, "--since", "1h"]);
    says(&since, &before);
}

/// A developer of the customer's has the application's own token, and nothing else.
#[test]
fn a_listener_reports_to_the_server_with_an_application_s_token() {
    let (server, file) = server();
    let app: Value =
        serde_json::from_str(call(&server, "GET", "/app/acme", "").split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let minted = server.binary().run(&["token", "--app", app["id"].as_str().unwrap()]);
    let own = Elsewhere { url: server.url(), token: minted.stdout.trim().to_owned() };
    let local = Receiver::start(|got| match got.text().contains("refused") {
        true => Answer::status(400).body("no such invoice"),
        false => Answer::ok(),
    });
    let url = local.url("/hooks?key=hush");
    let listener = own.begin(&["listen", "acme", "--forward-to", &url, "--name", "mine"]);
    says(&listener, "Forwarding the events of acme");
    let private = own.begin(&["listen", "acme", "--forward-to", &url, "--private"]);
    says(&private, "Forwarding the events of acme");
    for invoice in ["invoice.id=in_2", "invoice.id=refused"] {
        let id = run(&server, &["trigger", "acme", "invoice.paid", "--set", invoice]);
        for one in [&listener, &private] {
            says(one, &id);
        }
    }
    let kept = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect(&file.url()).await.unwrap();
            const SQL: &str = "SELECT a.listener || ' ' || e.url || ' ' || a.status || ' ' || a.response_body
                 FROM local_attempt a JOIN development_endpoint e ON e.name = a.listener ORDER BY a.id";
            let rows: Vec<String> = sqlx::query_scalar(SQL).fetch_all(&mut connection).await.unwrap();
            (rows.len() == 2).then_some(rows)
        })
    };
    let rows = eventually_blocking("both responses are recorded", SOON, kept);
    let shown = local.url("/hooks");
    assert_eq!(rows, [format!("mine {shown} 200 "), format!("mine {shown} 400 no such invoice")]);
    assert!(!listener.output().contains("recorded"), "{}", listener.output());
}

#[test]
fn a_listener_goes_on_when_the_server_answers_again() {
    let (server, file) = server();
    let local = Receiver::ok();
    let listener = begin(&server, &["listen", "acme", "--forward-to", &local.url("/")]);
    says(&listener, "Forwarding the events of acme");
    let (elsewhere, address) = (Elsewhere::than(&server), server.url().replace("http://", ""));
    server.terminate();
    server.wait(SOON);
    says(&listener, "(retrying)");
    let _server = Binary::on(&file.url()).begin(&["serve", "--listen", &address]);
    says(&listener, "is available again");
    let id = elsewhere.run(&["trigger", "acme", "invoice.paid"]);
    says(&listener, &id);
    assert_eq!(local.count(), 1);
}

#[test]
fn the_secret_is_made_once() {
    let binary = Binary::on("sqlite:none/such.db");
    let settings = binary.folder().join("settings").display().to_string();
    let binary = binary.set("XDG_CONFIG_HOME", &settings);
    let [first, second] = [(); 2].map(|()| binary.run(&["listen", "acme", "--print-secret"]).stdout);
    assert!(first.starts_with("whsec_") && first == second, "{first} {second}");
    let line = complaint(&binary.unset("XDG_CONFIG_HOME").run(&["listen", "acme", "--print-secret"]), 2);
    assert!(line.contains("--secret"), "{line}");
}

#[test]
fn requests_rejected_by_the_server_end_the_command() {
    let (server, _file) = server();
    for (arguments, said) in [
        (&["listen", "nobody", "--forward-to", "http://127.0.0.1:9/"][..], "application not found"),
        (&["trigger", "acme", "no.such"], "not in the catalog"),
        (&["trigger", "nobody", "invoice.paid"], "application not found"),
        (&["trigger", "acme", "invoice.paid", "--example", "3"], "schema has"),
        (&["tail", "nobody"], "application not found"),
        (&["tail", "acme", "--endpoint", "none"], "endpoint not found"),
    ] {
        let finished = Elsewhere::than(&server).with(arguments, |binary, all| binary.run(all));
        let line = complaint(&finished, 1);
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
    assert!(run(&server, &["trigger", "acme", "sendoff.ping"]).starts_with("msg_"));
}

#[test]
fn an_example_is_edited_before_it_is_sent() {
    let (server, _file) = server();
    let elsewhere = Elsewhere::than(&server);
    let trigger = |editor: &str| {
        let arguments = ["trigger", "acme", "invoice.paid", "--set", "invoice.amount=7", "--edit"];
        let act = |binary: Binary, all: &[&str]| binary.set("VISUAL", editor).set("EDITOR", "false").run(all);
        elsewhere.with(&arguments, act)
    };
    let sent = trigger("sed -i -e s/in_1/in_9/ -e 's/7/7.50/'");
    assert!(sent.status.success(), "{sent:?}");
    let message = call(&server, "GET", &format!("/app/acme/msg/{}", sent.stdout.trim()), "");
    assert!(message.contains("in_9") && message.contains("7.50"), "the bytes of the file: {message}");
    for (editor, said) in [("false", "the editor false failed"), ("truncate -s 0", "nothing was sent")] {
        let line = complaint(&trigger(editor), 1);
        assert!(line.contains(said), "{editor}: {line}");
    }
}

#[test]
fn attempts_are_followed() {
    let (server, _file) = server();
    let receiver = Receiver::start(|got| Answer::status(if got.text().contains("bad") { 503 } else { 204 }));
    let endpoint = format!(r#"{{"url": "{}", "uid": "main"}}"#, receiver.url("/"));
    call(&server, "POST", "/app/acme/endpoint", &endpoint);
    let before = run(&server, &["trigger", "acme", "invoice.paid"]);
    eventually_blocking("its attempt", SOON, || {
        call(&server, "GET", "/app/acme/attempt/endpoint/main", "").contains(&before).then_some(())
    });
    let all = begin(&server, &["tail", "acme"]);
    let failed =
        begin(&server, &["tail", "acme", "--endpoint", "main", "--status", "fail", "--events", "invoice.paid"]);
    says(&all, "Following the attempts of acme");
    says(&failed, "Following the attempts of acme");
    let good = run(&server, &["trigger", "acme", "invoice.paid"]);
    let bad = run(&server, &["trigger", "acme", "invoice.paid", "--set", "bad=true"]);
    says(&all, &format!("{good}  attempt 1: 204 after "));
    says(&all, &format!("{bad}  attempt 1: 503 after "));
    says(&failed, &format!("{bad}  attempt 1: 503 after "));
    assert!(
        !failed.output().contains(&good) && !all.output().contains(&before),
        "{} {}",
        failed.output(),
        all.output()
    );
}
