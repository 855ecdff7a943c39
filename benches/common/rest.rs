//! A REST API client for setting up a measurement.

use reqwest::StatusCode;
use serde_json::Value;

use super::client::Destination;

/// A server and a token.
#[derive(Clone, Debug)]
pub struct Rest {
    /// Host and port.
    pub authority: String,
    pub token: String,
    client: reqwest::Client,
}

impl Rest {
    pub fn new(authority: &str, token: &str) -> Rest {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Rest { authority: authority.to_owned(), token: token.to_owned(), client }
    }

    /// Posts a body and returns the response's.
    ///
    /// # Panics
    /// The request is rejected.
    pub async fn post(&self, path: &str, body: String) -> Value {
        let (status, text) = self.try_post(path, body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Posts a body and returns the status and text of any response.
    pub async fn try_post(&self, path: &str, body: String) -> (StatusCode, String) {
        let request = self.client.post(format!("http://{}/api/v1{path}", self.authority)).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    }

    /// Returns the body at a path.
    ///
    /// # Panics
    /// The request is rejected.
    pub async fn get(&self, path: &str) -> String {
        let request = self.client.get(format!("http://{}/api/v1{path}", self.authority)).bearer_auth(&self.token);
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status}");
        answer.text().await.expect("text")
    }

    /// Creates `applications` applications with endpoints at `urls`, to post messages to.
    pub async fn create_applications(&self, applications: usize, urls: &[String]) -> Destination {
        let mut ids = Vec::new();
        for number in 0..applications {
            let made = self.post("/app/", format!(r#"{{"name":"Bench {number}"}}"#)).await;
            let id = made["id"].as_str().expect("an id").to_owned();
            for url in urls {
                self.post(&format!("/app/{id}/endpoint/"), format!(r#"{{"url":"{url}"}}"#)).await;
            }
            ids.push(id);
        }
        Destination { authority: self.authority.clone(), token: self.token.clone(), applications: ids }
    }
}

/// A payload that tells the receiver its message number: [`super::receiver::NUMBER`].
pub fn numbered(message: usize) -> String {
    format!("{{\"n\":{message}}}")
}
