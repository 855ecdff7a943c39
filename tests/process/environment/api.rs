//! A server on a fresh store, asked over REST.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Binary, Database, Kind, Server, SqliteFile};

pub struct Api {
    pub server: Server,
    pub client: reqwest::Client,
    pub token: String,
    pub file: Option<SqliteFile>,
}

impl Api {
    /// On a fresh store, with these settings beside the suite's own.
    pub fn on(kind: Kind, settings: &[(&str, &str)]) -> Api {
        let Database { url, file } = Database::on(kind);
        Api { file, ..Api::at(&url, settings) }
    }

    /// On the store at `url`.
    pub fn at(url: &str, settings: &[(&str, &str)]) -> Api {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let binary = Binary::on(url).set("SENDOFF_LOG", "warn").set("SENDOFF_RETRY_SCHEDULE", "100ms,100ms");
        let server = settings.iter().fold(binary, |binary, (name, value)| binary.set(name, value)).serve();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
        let token = server.token();
        Api { server, client, token, file: None }
    }

    /// What is answered: the status, and the body as JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v1{path}", self.server.url());
        let request = self.client.request(method, url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default())
    }

    /// The same where it has to be done.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, body).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// The application `a`, with one endpoint.
    pub async fn customer(&self, url: String) {
        self.post("/app", json!({"name": "A", "uid": "a"})).await;
        self.post("/app/a/endpoint", json!({"url": url, "uid": "e"})).await;
    }

    pub async fn send(&self) -> (u16, Value) {
        self.ask(Method::POST, "/app/a/msg", json!({"eventType": "t", "payload": {}})).await
    }
}
