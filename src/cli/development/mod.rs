//! Commands for those who develop against a running Sendoff: `listen`, `trigger`, `tail`. They are callers of its REST API like any other.
//!
//! * [`ApiArgs`] – which application they are about, and which Sendoff they ask as api.
//! * [`ApiClient`] – asks it.

pub(super) mod listen;
pub(super) mod signing_secret;
pub(super) mod tail;
pub(super) mod trigger;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::send::{http_client, root_cause};
use super::{CliError, print_error, token};
use crate::app::AppError;
use crate::config::Config;
use crate::domain::OrgId;

/// For how long a token is made that a command goes on with.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);
/// How long to wait before asking again, after the first failure and the following ones.
const RETRY_DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

#[derive(Debug, clap::Args)]
pub(super) struct ApiArgs {
    /// The application: its id (app_…) or your uid of it
    #[arg(value_name = "APP")]
    app: String,
    /// The organization of the application
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// A token to use in place of one made with the configured secret: the application's own is enough
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The Sendoff to ask, in place of the configured one
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
}

/// A Sendoff that is asked about one application.
pub(super) struct ApiClient {
    client: reqwest::Client,
    base: Url,
    token: String,
    app: String,
}

/// Why there is no answer to go on with.
#[derive(Debug)]
enum ClientError {
    /// It may answer in a moment.
    Unavailable(String),
    /// It does not answer this.
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

    /// An operation of the application. The path is built by segments, so that no name can lead elsewhere.
    fn app_path(&self, path: &[&str]) -> Vec<String> {
        ["app", &self.app].iter().chain(path).map(|part| (*part).to_owned()).collect()
    }

    /// Asks for the operation at a path under `/api/v1`.
    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[String],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
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

    /// The same, again and again until there is an answer.
    async fn request_with_retry<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[String],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let mut failures = 0_usize;
        loop {
            // To hear soon that it answers again, nothing is waited for after a failure.
            let asked: Vec<(&str, &str)> =
                query.iter().copied().filter(|(name, _)| failures == 0 || *name != "wait").collect();
            match self.request(method.clone(), path, &asked, body).await {
                Err(ClientError::Unavailable(why)) => {
                    if failures == 1 {
                        print_error(&format!("{why} (going on when it answers)"));
                    }
                    tokio::time::sleep(RETRY_DELAYS[failures.min(RETRY_DELAYS.len() - 1)]).await;
                    failures += 1;
                }
                answer => {
                    if failures > 1 {
                        print_error(&format!("{} answers again", self.base));
                    }
                    return answer;
                }
            }
        }
    }
}

/// Names that are joined by commas, or given more than once.
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
