//! Auto-disable and its mails from outside: the real binary, a receiver that fails, a team that listens, and a mail
//! server that refuses, hangs up or says nothing first.

use std::time::{Duration, Instant};

use crate::support::{
    Answer, Binary, Database, Kind, MailServer, Manner, Receiver, SOON, Server, eventually, eventually_blocking,
    on_both, sqlite_file,
};
use serde_json::{Value, json};

on_both! { a_failing_endpoint_is_disabled_reported_and_mailed_once }

/// A team that speaks REST.
struct Team {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Team {
    fn of(server: &Server) -> Team {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Team { client, url: server.url(), token: server.token() }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}/api/v1/{path}", self.url)).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "POST {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v1/{path}", self.url)).bearer_auth(&self.token);
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// An application whose contact is `ops@example.com`.
    async fn application(&self) {
        let body = json!({"name": "Größe & Co", "uid": "acme", "contactEmail": "ops@example.com"});
        self.post("app", body).await;
    }

    async fn message(&self) {
        self.post("app/acme/msg", json!({"eventType": "invoice.paid", "payload": {"a": 1}})).await;
    }
}

/// Endpoints that fail for 3 s are disabled; what fails is tried twice a second.
fn binary(database: &str, smtp: &str) -> Binary {
    Binary::on(database)
        .set("SENDOFF_SMTP_URL", smtp)
        .set("SENDOFF_MAIL_FROM", "Acme's hooks <hooks@example.com>")
        .set("SENDOFF_PUBLIC_URL", "https://hooks.example.com")
        .set("SENDOFF_ENDPOINT_DISABLE_AFTER", "3s")
        .set("SENDOFF_RETRY_SCHEDULE", &["500ms"; 20].join(","))
}

fn metric(server: &Server, line: &str) -> bool {
    server.get("/metrics").lines().any(|one| one == line)
}

/// The types of the events that came to a receiver, each message once.
fn told(ears: &Receiver) -> Vec<(String, Value)> {
    let mut seen = std::collections::HashSet::new();
    let new =
        |request: &crate::support::Received| seen.insert(request.header("webhook-id").unwrap_or_default().to_owned());
    let mut received = ears.received();
    received.retain(new);
    let body = |request: &crate::support::Received| serde_json::from_slice(&request.body).unwrap();
    let events = received.iter().map(body);
    events.map(|event: Value| (event["type"].as_str().unwrap().to_owned(), event["data"].clone())).collect()
}

async fn a_failing_endpoint_is_disabled_reported_and_mailed_once(kind: Kind) {
    let database = Database::on(kind);
    let mail = MailServer::start(|session| match session {
        0 => Manner::Refuse("MAIL", "451 4.3.0 come later"),
        _ => Manner::Take,
    });
    let smtp = format!("smtp://hooks:s3cret-password@127.0.0.1:{}", mail.port());
    let server = binary(&database.url, &smtp).serve();
    let team = Team::of(&server);
    let (bad, ears) = (Receiver::start(|_| Answer::status(503)), Receiver::ok());
    team.post("operational-webhook/endpoint", json!({"url": ears.url("/")})).await;
    team.application().await;
    let failing = team.post("app/acme/endpoint", json!({"url": bad.url("/hook?token=s3cret")})).await;
    // Fails once, a second time, and is sent nothing more: nothing happens to it because time passes.
    let brief = json!({"url": bad.url("/brief"), "retrySchedule": [1]});
    let brief = team.post("app/acme/endpoint", brief).await["id"].as_str().unwrap().to_owned();
    team.message().await;
    let failing = failing["id"].as_str().unwrap();

    let disabled = eventually("the team is told", 2 * SOON, async || {
        told(&ears).into_iter().find(|(kind, _)| kind == "endpoint.disabled").map(|(_, data)| data)
    })
    .await;
    assert_eq!((&disabled["endpointId"], &disabled["trigger"]), (&json!(failing), &json!("automatic")));
    eventually("the dead delivery is told", SOON, async || {
        let exhausted = told(&ears).into_iter().find(|(kind, _)| kind == "message.attempt.exhausted");
        exhausted.filter(|(_, data)| data["endpointId"] == json!(brief)).map(drop)
    })
    .await;
    mail.wait_for_sessions(1);
    let asked = format!("app/acme/endpoint/{failing}");
    assert_eq!(team.get(&asked).await["disabledReason"], "failing");
    eventually_blocking("the refusal is counted", SOON, || {
        metric(&server, "sendoff_mails_total{outcome=\"retried\"} 1").then_some(())
    });
    eventually_blocking("the death is counted", SOON, || {
        metric(&server, "sendoff_deliveries_dead_total{reason=\"exhausted\"} 1").then_some(())
    });
    eventually_blocking("the refusal is logged", SOON, || server.output().contains("451").then_some(()));
    assert!(!server.output().contains("s3cret"), "{}", server.output());
    assert!(mail.taken().is_empty());

    let server = server.kill().serve();
    let taken = mail.wait_for(1);
    eventually_blocking("it is counted", SOON, || {
        metric(&server, "sendoff_mails_total{outcome=\"sent\"} 1").then_some(())
    });
    eventually_blocking("the dead delivery is in the metric", SOON, || {
        metric(&server, "sendoff_dead_deliveries 1").then_some(())
    });
    assert_eq!((taken.len(), mail.sessions()), (1, 2));
    let one = &taken[0];
    assert_eq!((one.from.as_str(), one.to.as_slice()), ("hooks@example.com", &["ops@example.com".to_owned()][..]));
    assert_eq!(one.login.as_deref(), Some("hooks:s3cret-password"));
    let id = one.header("Message-ID").unwrap();
    assert!(id.starts_with("<mail_") && id.ends_with("@example.com>"), "{id}");
    assert_eq!(one.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(one.header("To").as_deref(), Some("ops@example.com"));
    let body = one.body();
    let address = bad.url("/hook").replace("http://", "");
    for said in [
        "webhooks for Größe & Co",
        address.as_str(),
        "It was disabled: every delivery had failed since ",
        "Last failure: it responded with 503: the receiver itself failed.",
        &format!("https://hooks.example.com/portal/endpoints/{failing}"),
    ] {
        assert!(body.contains(said), "{said:?} in:\n{body}");
    }
    assert!(!one.text.contains("s3cret") && !body.contains("brief"), "{body}");
    let team = Team::of(&server);
    assert_eq!(team.get(&format!("app/acme/endpoint/{brief}")).await["disabled"], false);
    let kinds: Vec<String> = told(&ears).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "endpoint.disabled").count(), 1, "{kinds:?}");
}

/// A server that has a mail and does not say so gets it again, the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_and_a_mail_that_comes_twice_has_one_id() {
    let mail = MailServer::with_tls(|session| if session == 0 { Manner::TakeAndHangUp } else { Manner::Take });
    let smtp = format!("smtp://hooks:s3cret@localhost:{}?tls=required", mail.port());
    let file = sqlite_file();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/root.pem");
    let server = binary(&file.url(), &smtp).set("SSL_CERT_FILE", root).serve();
    let team = Team::of(&server);
    team.application().await;
    let gone = Receiver::start(|_| Answer::status(410));
    team.post("app/acme/endpoint", json!({"url": gone.url("/hook")})).await;
    team.message().await;
    let taken = mail.wait_for(2);
    assert!(taken.iter().all(|one| one.encrypted && one.login.as_deref() == Some("hooks:s3cret")), "{taken:?}");
    assert_eq!(taken[0].text, taken[1].text, "the same in every byte");
    assert!(taken[0].body().contains("it responded with 410 Gone"), "{}", taken[0].body());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_required_tls_no_password_is_sent() {
    let mail = MailServer::start(|_| Manner::Take);
    let smtp = format!("smtp://hooks:s3cret@localhost:{}?tls=required", mail.port());
    let file = sqlite_file();
    let server = binary(&file.url(), &smtp).serve();
    let team = Team::of(&server);
    team.application().await;
    let gone = Receiver::start(|_| Answer::status(410));
    team.post("app/acme/endpoint", json!({"url": gone.url("/hook")})).await;
    team.message().await;
    mail.wait_for_sessions(1);
    eventually_blocking("it is counted", SOON, || {
        metric(&server, "sendoff_mails_total{outcome=\"retried\"} 1").then_some(())
    });
    assert!(mail.taken().is_empty());
}

/// The engine does not wait for a mail server, neither at work nor when it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_says_nothing_holds_up_nothing() {
    let mail = MailServer::start(|_| Manner::SayNothing);
    let file = sqlite_file();
    let server = binary(&file.url(), &format!("smtp://127.0.0.1:{}", mail.port())).serve();
    let team = Team::of(&server);
    team.application().await;
    let (gone, well) = (Receiver::start(|_| Answer::status(410)), Receiver::ok());
    team.post("app/acme/endpoint", json!({"url": gone.url("/hook")})).await;
    team.message().await;
    eventually_blocking("the mail server was asked", SOON, || (mail.sessions() > 0).then_some(()));
    team.post("app/acme/endpoint", json!({"url": well.url("/hook")})).await;
    team.message().await;
    well.wait_for(1, Duration::from_secs(8)).await;
    let stopping = Instant::now();
    server.terminate();
    let (status, output) = server.wait(SOON);
    assert!(status.success() && stopping.elapsed() < Duration::from_secs(9), "{:?}\n{output}", stopping.elapsed());
}
