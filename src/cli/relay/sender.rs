//! Posts outbox rows to Sendoff.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use super::source::SourceRow;
use crate::cli::CliError;
use crate::cli::send::{http_client, messages_url, root_cause};
use crate::domain::deliveries::message::parse_channels;

/// Requests in flight.
const CONCURRENCY: usize = 16;
/// Bytes of an error response that are kept for the log.
const MAX_ERROR_TEXT: usize = 500;
/// The longest wait that a response may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The result of sending a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendResult {
    /// Sendoff stored it.
    Accepted,
    /// Sendoff had stored it before.
    Duplicate,
    /// Sendoff rejects it; a retry needs a changed row or a changed setting.
    Rejected(String),
    /// Sendoff is unavailable or asks to wait.
    Unavailable { why: String, retry_after: Option<Duration> },
    /// An earlier row of its ordering key was not accepted.
    NotSent,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RelayedMessage<'m> {
    event_type: &'m str,
    event_id: &'m str,
    payload: &'m RawValue,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<&'m str>,
}

pub(super) struct Sender {
    client: reqwest::Client,
    server: Url,
    token: String,
}

impl Sender {
    pub(super) fn new(server: Url, token: String) -> Result<Sender, CliError> {
        Ok(Sender { client: http_client()?, server, token })
    }

    pub(super) fn server(&self) -> &Url {
        &self.server
    }

    /// Sends sequences concurrently, and the rows of each in order, up to the first row that is not accepted.
    pub(super) async fn send_all(&self, sequences: Vec<Vec<SourceRow>>) -> Vec<(i64, SendResult)> {
        let sent = stream::iter(sequences).map(|rows| self.send_sequence(rows)).buffer_unordered(CONCURRENCY);
        sent.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    async fn send_sequence(&self, rows: Vec<SourceRow>) -> Vec<(i64, SendResult)> {
        let (mut results, mut open) = (Vec::with_capacity(rows.len()), true);
        for row in rows {
            let result = if open { self.send(&row).await } else { SendResult::NotSent };
            open &= matches!(result, SendResult::Accepted | SendResult::Duplicate);
            results.push((row.id, result));
        }
        results
    }

    async fn send(&self, row: &SourceRow) -> SendResult {
        let (url, body) = match self.request(row) {
            Ok(request) => request,
            Err(why) => return SendResult::Rejected(why),
        };
        let request = self.client.post(url).bearer_auth(&self.token).header("content-type", "application/json");
        let mut response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                let why = format!("no answer from {} ({})", self.server, root_cause(&error));
                return SendResult::Unavailable { why, retry_after: None };
            }
        };
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = asked.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        if status.is_success() {
            return SendResult::Accepted;
        }
        let why = format!("{status}: {}", error_text(&mut response).await);
        match status {
            StatusCode::CONFLICT => SendResult::Duplicate,
            // A revoked key is not the row's fault: every other row would be rejected too.
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => SendResult::Unavailable { why, retry_after },
            status if status.is_client_error() => SendResult::Rejected(why),
            _ => SendResult::Unavailable { why, retry_after },
        }
    }

    /// The URL and body for a row. The payload keeps its bytes.
    fn request(&self, row: &SourceRow) -> Result<(Url, Vec<u8>), String> {
        if let Some(column) = row.not_utf8 {
            return Err(format!("{column} is not UTF-8"));
        }
        let required = |name: &str, value: &Option<String>| value.clone().ok_or_else(|| format!("{name} is missing"));
        let application = required("application", &row.application)?;
        if application == "." || application == ".." {
            return Err("application: a path segment of dots is not an id".to_owned());
        }
        let event_type = required("event_type", &row.event_type)?;
        let event_id = required("event_id", &row.event_id)?;
        let payload = required("payload", &row.payload)?;
        let payload: &RawValue =
            serde_json::from_str(payload.trim()).map_err(|error| format!("payload is not valid JSON: {error}"))?;
        let body = RelayedMessage {
            event_type: &event_type,
            event_id: &event_id,
            payload,
            channels: parse_channels(row.channels.as_deref()),
            occurred_at: row.occurred_at.as_deref(),
        };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        Ok((messages_url(self.server.clone(), &application), body))
    }
}

/// The start of a response's body. The rest is not read.
async fn error_text(response: &mut reqwest::Response) -> String {
    let mut kept = Vec::new();
    while kept.len() < MAX_ERROR_TEXT {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        kept.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_TEXT - kept.len())]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
