//! `sendoff send`: one message through the REST API of a running Sendoff, for trying things out and for scripts.

use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::{CliError, print_result, token};
use crate::app::AppError;
use crate::config::Config;
use crate::domain::OrgId;

/// For the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The token is used once, at once.
const TOKEN_TTL: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The application: its id (app_…) or your uid of it
    #[arg(value_name = "APP")]
    app: String,
    /// The event type, such as invoice.paid
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The payload, a JSON object; - reads it from standard input
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    payload: String,
    /// Your own id of the event: a repeat is refused and does no harm
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// The organization of the application
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// A token to use in place of one made with the configured secret
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageRequest<'m> {
    event_type: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'m str>,
    payload: &'m RawValue,
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
    // The bytes go as they were written: read, not rebuilt.
    let payload: &RawValue = serde_json::from_str(payload.trim())
        .map_err(|error| CliError::Usage(format!("JSON: the payload is not JSON: {error}")))?;
    let body = MessageRequest { event_type: &options.event_type, event_id: options.event_id.as_deref(), payload };
    let body = serde_json::to_vec(&body).map_err(|error| CliError::Failed(error.to_string()))?;
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

/// The path is built by segments, so that no application's name can lead elsewhere.
fn messages_url(mut base: Url, app: &str) -> Url {
    if let Ok(mut path) = base.path_segments_mut() {
        path.clear().extend(["api", "v1", "app", app, "msg"]).push("");
    }
    base
}

/// A client for ourselves: unlike the engine's it may go to private addresses, which is where we mostly are.
pub(super) fn http_client() -> Result<reqwest::Client, CliError> {
    // Fails if there is a default already: then that is the one.
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
