//! Commands for developers of receivers: `listen`, `trigger` and `tail`.
//!
//! * [`ApiArgs`] selects the application, the server and the token.
//! * [`ApiClient`] calls that server's REST API.
//!
//! # Invariants
//!
//! * These commands use the public REST API only, never the store.

pub(super) mod listen;
mod local_reports;
mod payload_editor;
pub(super) mod signing_secret;
pub(super) mod tail;
pub(super) mod trigger;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::send::{http_client, root_cause};
use super::{CliError, print_stderr, token};
use crate::app::AppError;
use crate::config::Config;
use crate::domain::OrgId;

/// Lifetime of the token of a long-running command.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Delays before retries; the last one repeats.
const RETRY_DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

#[derive(Debug, clap::Args)]
pub(super) struct ApiArgs {
    /// Application id (app_…) or uid
    #[arg(value_name = "APP")]
    app: String,
    /// Organization of the application
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// Use this token, such as the application's own, instead of one signed with the configured secret
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Call this server instead of the configured one
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
}

/// A REST API client for one application.
pub(super) struct ApiClient {
    client: reqwest::Client,
    base: Url,
    token: String,
    app: String,
}

/// A request failed.
#[derive(Debug)]
enum ClientError {
    /// A retry may succeed: no response, 429 or 5xx.
    Unavailable(String),
    /// A retry would fail again.
    Rejected(StatusCode, String),
}

impl From<ClientError> for CliError {
    fn from(why: ClientError) -> CliError {
        match why {
            ClientError::Unavailable(why) | ClientError::Rejected(_, why) => CliError::Failed(why),
        }
    }
}

impl ApiClient {
    fn new(config: &Config, api: &ApiArgs) -> Result<ApiClient, CliError> {
        let token = match &api.token {
            Some(token) => token.clone(),
            None => token::mint(config, &api.org, None, TOKEN_TTL)?,
        };
        let address = config.http.listen;
        let base = match &api.server {
            Some(url) => url.clone(),
            None => config.http.public_url(address).map_err(|error| AppError::Start(format!("{address}: {error}")))?,
        };
        Ok(ApiClient { client: http_client()?, base, token, app: api.app.clone() })
    }

    /// Path segments of one of the application's operations.
    fn app_path(&self, path: &[&str]) -> Vec<String> {
        ["app", &self.app].iter().chain(path).map(|part| (*part).to_owned()).collect()
    }

    /// Calls an operation. Segments are escaped, so no name can change the path.
    async fn request<T: DeserializeOwned>(&self, operation: &ApiOperation<'_>) -> Result<T, ClientError> {
        let ApiOperation { method, path, query, body } = operation;
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(["api", "v1"]).extend(*path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(*query);
        }
        let mut request = self.client.request(method.clone(), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body((*body).to_owned());
        }
        let away = |error: reqwest::Error| {
            let why = root_cause(&error);
            ClientError::Unavailable(format!("no answer from {} ({why}): is `sendoff serve` running there?", self.base))
        };
        let answer = request.send().await.map_err(away)?;
        let (status, text) = (answer.status(), answer.text().await.map_err(away)?);
        let said = || format!("{} answered {status}: {text}", self.base);
        match status {
            StatusCode::TOO_MANY_REQUESTS => Err(ClientError::Unavailable(said())),
            status if status.is_server_error() => Err(ClientError::Unavailable(said())),
            status if status.is_success() => {
                serde_json::from_str(&text).map_err(|_| ClientError::Rejected(status, said()))
            }
            status => Err(ClientError::Rejected(status, said())),
        }
    }

    /// Like `request`, but retries until the server is available.
    async fn request_with_retry<T: DeserializeOwned>(&self, operation: &ApiOperation<'_>) -> Result<T, ClientError> {
        let mut failures = 0_usize;
        loop {
            // After a failure, drops the long-poll parameter to notice the recovery at once.
            let asked: Vec<(&str, &str)> =
                operation.query.iter().copied().filter(|(name, _)| failures == 0 || *name != "wait").collect();
            match self.request(&ApiOperation { query: &asked, ..operation.clone() }).await {
                Err(ClientError::Unavailable(why)) => {
                    if failures == 1 {
                        print_stderr(&format!("{why} (retrying)"));
                    }
                    tokio::time::sleep(RETRY_DELAYS[failures.min(RETRY_DELAYS.len() - 1)]).await;
                    failures += 1;
                }
                answer => {
                    if failures > 1 {
                        print_stderr(&format!("{} is available again", self.base));
                    }
                    return answer;
                }
            }
        }
    }
}

/// An operation of the REST API.
#[derive(Clone)]
struct ApiOperation<'o> {
    method: Method,
    /// The segments below `/api/v1`.
    path: &'o [String],
    query: &'o [(&'o str, &'o str)],
    /// JSON.
    body: Option<&'o str>,
}

impl<'o> ApiOperation<'o> {
    fn get(path: &'o [String], query: &'o [(&'o str, &'o str)]) -> ApiOperation<'o> {
        ApiOperation { method: Method::GET, path, query, body: None }
    }

    fn with_body(method: Method, path: &'o [String], body: &'o str) -> ApiOperation<'o> {
        ApiOperation { method, path, query: &[], body: Some(body) }
    }
}

/// Splits names that are separated by commas or given more than once.
fn names(given: &[String]) -> Vec<String> {
    given
        .iter()
        .flat_map(|one| one.split(','))
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The time of day of an RFC 3339 time, to the second.
fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}
