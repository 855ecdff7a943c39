//! A client of the REST API, for what is set up before a measurement.

use reqwest::StatusCode;
use serde_json::Value;

use super::client::Door;

/// A server and a token for it.
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

    /// Posts a body and gives the answer's.
    ///
    /// # Panics
    /// It is refused.
    pub async fn post(&self, path: &str, body: String) -> Value {
        let (status, text) = self.try_post(path, body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The same, whatever is answered.
    pub async fn try_post(&self, path: &str, body: String) -> (StatusCode, String) {
        let request = self.client.post(format!("http://{}/api/v1{path}", self.authority)).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    }

    /// The body behind a path.
    ///
    /// # Panics
    /// It is refused.
    pub async fn get(&self, path: &str) -> String {
        let request = self.client.get(format!("http://{}/api/v1{path}", self.authority)).bearer_auth(&self.token);
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status}");
        answer.text().await.expect("text")
    }

    /// Makes so many applications, each with endpoints at these URLs: where messages can be posted to.
    pub async fn furnish(&self, applications: usize, urls: &[String]) -> Door {
        let mut ids = Vec::new();
        for number in 0..applications {
            let made = self.post("/app/", format!(r#"{{"name":"Bench {number}"}}"#)).await;
            let id = made["id"].as_str().expect("an id").to_owned();
            for url in urls {
                self.post(&format!("/app/{id}/endpoint/"), format!(r#"{{"url":"{url}"}}"#)).await;
            }
            ids.push(id);
        }
        Door { authority: self.authority.clone(), token: self.token.clone(), applications: ids }
    }
}

/// A JSON object that begins as the receiver wants it to know the message: [`super::receiver::NUMBER`].
pub fn numbered(message: usize) -> String {
    format!("{{\"n\":{message}}}")
}
