//! Requests for dashboard pages by a signed-in operator.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, redirect};

use crate::support::Server;

/// Every kind of page of an organization. `{app}`, `{endpoint}` and `{message}` stand for ids with much history.
pub const PAGES: &[&str] = &[
    "/",
    "/?range=24h",
    "/?range=7d",
    "/?range=30d",
    "/deliveries",
    "/deliveries?status=dead",
    "/deliveries?status=retrying",
    "/deliveries?status=failed&class=5xx",
    "/deliveries?app={app}&status=failed",
    "/messages",
    "/messages?app={app}",
    "/applications",
    "/endpoints",
    "/applications/{app}",
    "/applications/{app}/endpoints/{endpoint}",
    "/applications/{app}/messages/{message}",
    "/resend?status=dead&since=24h",
    "/tail",
    "/operational",
    "/outbox",
];

/// A signed-in operator.
pub struct Operator {
    client: Client,
    cookie: String,
    url: String,
}

/// Sorted response times of a page, and the size of its last response.
#[derive(Clone, Debug, Default)]
pub struct PageTimes {
    pub times: Vec<Duration>,
    pub bytes: usize,
}

impl PageTimes {
    /// In milliseconds; 0 without requests.
    pub fn median_ms(&self) -> f64 {
        self.at_ms(self.times.len() / 2)
    }

    /// The n-th time in milliseconds, at most the last.
    pub fn at_ms(&self, n: usize) -> f64 {
        let at = n.min(self.times.len().saturating_sub(1));
        self.times.get(at).map_or(0.0, |one| one.as_secs_f64() * 1_000.0)
    }
}

impl Operator {
    /// Signs in to organization `org`.
    pub async fn of(server: &Server, org: &str) -> Operator {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a client");
        let cookie = sign_in(&client, server, org).await;
        Operator { client, cookie, url: server.url() }
    }

    /// Requests a page `requests` times after one warm-up. Times end at the last byte.
    pub async fn measure(&self, path: &str, requests: usize) -> PageTimes {
        let mut took = PageTimes::default();
        for round in 0..=requests {
            let began = Instant::now();
            let request = self.client.get(format!("{}{path}", self.url)).header("cookie", &self.cookie);
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            took.bytes = answer.bytes().await.expect("the page").len();
            assert_eq!(status, StatusCode::OK, "{path}");
            if round > 0 {
                took.times.push(began.elapsed());
            }
        }
        took.times.sort();
        took
    }
}

/// Signs in with a one-time link and returns the cookie.
async fn sign_in(client: &Client, server: &Server, org: &str) -> String {
    let printed = server.binary().run(&["login-link", "--org", org]).stdout;
    let path = printed.trim().find("/login").map(|at| printed.trim()[at..].to_owned()).expect("a link");
    let page = client.get(format!("{}{path}", server.url())).send().await.expect("the page of the link");
    let page = page.text().await.expect("text");
    let field = |name: &str| {
        let marker = format!("name=\"{name}\" value=\"");
        let from = page.find(&marker).unwrap_or_else(|| panic!("no field {name} in {page}")) + marker.len();
        page[from..].split('"').next().unwrap_or_default().to_owned()
    };
    let form = [("token", field("token")), ("csrf", field("csrf"))];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let post = client.post(format!("{}/login", server.url()));
    let post = post.header("content-type", "application/x-www-form-urlencoded").header("origin", server.url());
    let answer = post.header("sec-fetch-site", "same-origin").body(body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "signing in");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().unwrap_or_default().to_owned()
}
