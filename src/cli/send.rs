//! `sendoff send`: sends one message through the REST API of a running Sendoff, for scripts and experiments.

use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::{CliError, print_result, token};
use crate::app::AppError;
use crate::config::Config;
use crate::domain::OrgId;

/// Timeout of the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Lifetime of the token, which is used once and immediately.
const TOKEN_TTL: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Application id (app_…) or uid
    #[arg(value_name = "APP")]
    app: String,
    /// Event type, such as invoice.paid
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Payload as a JSON object; - reads it from standard input
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    payload: String,
    /// Set your own id for the event, which rejects a repeat
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Organization of the application
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// Use this token instead of one signed with the configured secret
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// The body of a new message. The payload's bytes stay as they are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageRequest<'m> {
    pub(super) event_type: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<&'m str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) channels: &'m [String],
    pub(super) payload: &'m RawValue,
}

impl MessageRequest<'_> {
    /// The body's text.
    pub(super) fn text(&self) -> Result<String, CliError> {
        serde_json::to_string(self).map_err(|error| CliError::Failed(error.to_string()))
    }
}

#[derive(Deserialize)]
pub(super) struct CreatedMessage {
    pub(super) id: String,
}

pub(super) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let payload = match options.payload.as_str() {
        "-" => read_stdin()?,
        text => text.to_owned(),
    };
    let payload: &RawValue = serde_json::from_str(payload.trim())
        .map_err(|error| CliError::Usage(format!("JSON: the payload is not valid JSON: {error}")))?;
    let (event_type, event_id) = (options.event_type.as_str(), options.event_id.as_deref());
    let body = MessageRequest { event_type, event_id, channels: &[], payload }.text()?;
    let token = match &options.token {
        Some(token) => token.clone(),
        None => token::mint(&config, &options.org, None, TOKEN_TTL)?,
    };
    let address = config.http.listen;
    let base = config.http.public_url(address).map_err(|error| AppError::Start(format!("{address}: {error}")))?;
    let answer = http_client()?.post(messages_url(base.clone(), &options.app)).bearer_auth(token);
    let answer = answer.header("content-type", "application/json").body(body).send().await;
    let answer = answer.map_err(|error| {
        CliError::Failed(format!("no answer from {base} ({}): is `sendoff serve` running there?", root_cause(&error)))
    })?;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    match serde_json::from_str::<CreatedMessage>(&text) {
        Ok(message) if status.is_success() => {
            print_result(&message.id);
            Ok(())
        }
        _ => Err(CliError::Failed(format!("{base} answered {status}: {text}"))),
    }
}

/// Built from path segments, so an application name cannot change the path.
pub(super) fn messages_url(mut base: Url, app: &str) -> Url {
    if let Ok(mut path) = base.path_segments_mut() {
        path.clear().extend(["api", "v1", "app", app, "msg"]).push("");
    }
    base
}

/// A client without the engine's address guard: Sendoff usually runs on a private address.
pub(super) fn http_client() -> Result<reqwest::Client, CliError> {
    // Fails if the process already has a default provider, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| CliError::Failed(format!("can't set up the HTTP client: {}", root_cause(&error))))
}

pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut link: &dyn std::error::Error = error;
    while let Some(source) = link.source() {
        link = source;
    }
    link.to_string()
}

fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| CliError::Failed(format!("can't read the payload from standard input: {error}")))?;
    Ok(text)
}
