//! `sendoff listen`: forwards an application's events to a local program, signed like real deliveries. It fetches them
//! from a polling endpoint, so nothing must be reachable from outside and the server sends no request. The program's
//! responses are [reported](super::local_reports) to the server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;

use super::local_reports::{LocalReports, default_name};
use super::{ApiArgs, ApiClient, ApiOperation, names, signing_secret, time_of_day};
use crate::cli::{CliError, print_result, print_stderr};
use crate::config::{Config, parsers};
use crate::domain::catalog::development::{LocalResponse, check_listener};
use crate::domain::deliveries::attempt::RESPONSE_BODY_LIMIT;
use crate::domain::signing::secret::Secret;
use crate::domain::signing::signature::{Signing, header_allowed};
use crate::domain::time::Clock;
use crate::domain::{MessageId, Time};
use crate::egress::AGENT_NAME;

/// Uid of the polling endpoint that all listeners share; each keeps its own position.
const POLLER_UID: &str = "sendoff-listen";
/// Seconds that a request waits for the next event; less than the HTTP client's timeout.
const POLL_WAIT: &str = "25";
/// Maximum characters printed of an unsuccessful response.
const MAX_SHOWN: usize = 200;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    api: ApiArgs,
    /// Forward events to this URL, such as http://localhost:3000/hooks
    #[arg(long, value_name = "URL", required_unless_present = "print_secret")]
    forward_to: Option<Url>,
    /// Forward only these event types, separated by commas
    #[arg(long, value_name = "TYPES")]
    events: Vec<String>,
    /// Forward only events on these channels, separated by commas
    #[arg(long, value_name = "CHANNELS")]
    channel: Vec<String>,
    /// Add a header, as "Name: value"; may be given more than once
    #[arg(long, value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Start with the last N events, at most 250
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=250), conflicts_with = "since")]
    replay_last: Option<u16>,
    /// Start with events since this time (2026-11-30T12:00:00Z) or from this long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Print each event as a line of JSON on standard output, and everything else on standard error
    #[arg(long)]
    print_json: bool,
    /// Name of the development endpoint that shows the responses [user, machine and port]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Do not show the responses on the dashboard and in the portal
    #[arg(long, conflicts_with = "name")]
    private: bool,
    /// Print the signing secret and exit
    #[arg(long)]
    print_secret: bool,
    /// Sign with this secret instead of the stored one
    #[arg(long, value_name = "SECRET", value_parser = parse_secret)]
    secret: Option<Secret>,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Time(Time),
    Ago(Duration),
}

fn parse_since(text: &str) -> Result<Since, String> {
    match (parsers::span(text), Time::parse(text)) {
        (Ok(span), _) => Ok(Since::Ago(span)),
        (_, Ok(time)) => Ok(Since::Time(time)),
        _ => Err("expected a time such as 2026-11-30T12:00:00Z, or a duration such as 2h".to_owned()),
    }
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    Secret::parse("secret", text).map_err(|wrong| wrong.reason)
}

fn parse_name(text: &str) -> Result<String, String> {
    check_listener(text).map(|()| text.to_owned()).map_err(|wrong| wrong.reason)
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "expected \"Name: value\"".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
    let value = value.trim();
    header_allowed("headers", name.as_str(), value).map_err(|wrong| wrong.reason)?;
    Ok((name, value.parse().map_err(|_| wrong())?))
}

/// The polling endpoint, reduced to the field used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PollerEndpoint {
    updated_at: String,
}

#[derive(Deserialize)]
struct EventPage {
    data: Vec<PolledEvent>,
    iterator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolledEvent {
    id: String,
    event_type: String,
    payload: Box<RawValue>,
    raw_payload: Option<String>,
    headers: Option<HashMap<String, String>>,
    channels: Option<Vec<String>>,
    timestamp: String,
}

/// A listed message, reduced to the field used here.
#[derive(Deserialize)]
struct MessageTimestamp {
    timestamp: String,
}

#[derive(Deserialize)]
struct MessageTimestamps {
    data: Vec<MessageTimestamp>,
}

pub(in crate::cli) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let secret = match &options.secret {
        Some(secret) => secret.clone(),
        None => signing_secret::load_or_create()?,
    };
    if options.print_secret {
        print_result(&secret.shown());
        return Ok(());
    }
    let Some(to) = options.forward_to.clone() else {
        return Err(CliError::Usage("--forward-to is missing".to_owned()));
    };
    let api = ApiClient::new(&config, &options.api)?;
    let name = options.name.unwrap_or_else(|| default_name(&to));
    let forwarder = Forwarder {
        to,
        events: names(&options.events),
        channels: names(&options.channel),
        headers: options.headers,
        signing: Signing::new(&secret, [], &[]),
        print_json: options.print_json,
        client: api.client.clone(),
    };
    let start = start_position(&api, &forwarder, options.since, options.replay_last).await?;
    forwarder.print_status(&format!("Forwarding the events of {} to {}. Press Ctrl-C to stop.", api.app, forwarder.to));
    let mut reports = LocalReports::new(&api, Some(name.as_str()).filter(|_| !options.private), &forwarder.to);
    let path = api.app_path(&["poller", POLLER_UID]);
    let mut from = ("after", start);
    loop {
        reports.renew().await;
        let query = [(from.0, &*from.1), ("wait", POLL_WAIT)];
        let page: EventPage = api.request_with_retry(&ApiOperation::get(&path, &query)).await?;
        for event in page.data.iter().filter(|event| forwarder.matches(event)) {
            let response = forwarder.forward(event).await;
            reports.report(&event.id, &response).await;
        }
        from = ("iterator", page.iterator);
    }
}

/// Returns the time from which to fetch events, by the server's clock, which may differ from this machine's.
async fn start_position(
    api: &ApiClient,
    forwarder: &Forwarder,
    since: Option<Since>,
    last: Option<u16>,
) -> Result<String, CliError> {
    let body = json!({"type": "pollingEndpoint", "metadata": {"for": "sendoff listen"}}).to_string();
    let path = api.app_path(&["destination", POLLER_UID]);
    let made: PollerEndpoint = api.request_with_retry(&ApiOperation::with_body(Method::PUT, &path, &body)).await?;
    if let Some(last) = last {
        let (limit, events, channels) = (last.to_string(), forwarder.events.join(","), forwarder.channels.join(","));
        let mut query = vec![("limit", &*limit), ("with_content", "false")];
        query.extend((!events.is_empty()).then_some(("event_types", &*events)));
        // The list accepts a single channel. With several it returns more than needed, never less.
        query.extend((forwarder.channels.len() == 1).then_some(("channel", &*channels)));
        let list: MessageTimestamps =
            api.request_with_retry(&ApiOperation::get(&api.app_path(&["msg"]), &query)).await?;
        return Ok(list.data.last().map_or(made.updated_at, |oldest| oldest.timestamp.clone()));
    }
    let now = Time::parse(&made.updated_at).unwrap_or_else(|_| Clock.now());
    Ok(match since {
        None => made.updated_at,
        Some(Since::Ago(span)) => now.minus(span).to_string(),
        Some(Since::Time(time)) => time.min(now).to_string(),
    })
}

struct Forwarder {
    to: Url,
    events: Vec<String>,
    channels: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    signing: Signing,
    print_json: bool,
    client: reqwest::Client,
}

impl Forwarder {
    fn matches(&self, event: &PolledEvent) -> bool {
        let on = event.channels.as_deref().unwrap_or_default();
        (self.events.is_empty() || self.events.contains(&event.event_type))
            && (self.channels.is_empty() || self.channels.iter().any(|one| on.contains(one)))
    }

    /// Prints a status line, to standard error if events go to standard output.
    fn print_status(&self, line: &str) {
        if self.print_json { print_stderr(line) } else { print_result(line) }
    }

    /// The headers of a delivery, as the engine sets them.
    fn headers(&self, event: &PolledEvent, body: &[u8]) -> HeaderMap {
        let mut headers: HeaderMap = self.headers.iter().cloned().collect();
        let kind = event.headers.as_ref().and_then(|headers| headers.get("content-type"));
        let kind = kind.and_then(|kind| kind.parse().ok());
        headers.insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
        let agent = HeaderValue::try_from(format!("{AGENT_NAME}{}", env!("CARGO_PKG_VERSION")));
        headers.extend(agent.ok().map(|agent| (header::USER_AGENT, agent)));
        if let Ok(id) = event.id.parse::<MessageId>() {
            self.signing.sign(&mut headers, id, Clock.wall(), body);
        }
        headers
    }

    /// Posts the event once and prints the result. There are no retries: a developer sends another event.
    async fn forward(&self, event: &PolledEvent) -> LocalResponse {
        let text = event.raw_payload.as_deref().unwrap_or(event.payload.get());
        let body = Bytes::copy_from_slice(text.as_bytes());
        let headers = self.headers(event, &body);
        let begun = Instant::now();
        let answer = self.client.post(self.to.clone()).headers(headers).body(body).send().await;
        let (response, result) = match answer {
            Ok(answer) => {
                let (status, duration) = (answer.status(), begun.elapsed());
                let body = read_beginning(answer).await;
                let text = if status.is_success() { "" } else { body.as_str() };
                let text: String =
                    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_SHOWN).collect();
                let said = if text.is_empty() { text } else { format!(": {text}") };
                let result = format!("{status} in {} ms{said}", duration.as_millis());
                let status = Some(status.as_u16());
                (LocalResponse { status, duration, body, error: String::new() }, result)
            }
            Err(error) => {
                let (duration, error) = (begun.elapsed(), super::root_cause(&error));
                let result = format!("not delivered: {error}");
                (LocalResponse { status: None, duration, body: String::new(), error }, result)
            }
        };
        self.print_status(&format!("{}  {}  {}  {result}", time_of_day(&event.timestamp), event.event_type, event.id));
        if self.print_json {
            let line = json!({"id": event.id, "eventType": event.event_type, "channels": event.channels,
                "timestamp": event.timestamp, "rawPayload": event.raw_payload});
            // The payload is appended byte for byte.
            let line = line.to_string();
            print_result(&format!(
                "{},\"payload\":{}}}",
                line.strip_suffix('}').unwrap_or(&line),
                one_line(event.payload.get())
            ));
        }
        response
    }
}

/// The beginning of a response's body, at most [`RESPONSE_BODY_LIMIT`] bytes.
async fn read_beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < RESPONSE_BODY_LIMIT
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(RESPONSE_BODY_LIMIT);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // Each invalid byte became three bytes.
    text.truncate(text.floor_char_boundary(RESPONSE_BODY_LIMIT));
    text
}

/// Removes line breaks from JSON: outside strings they are whitespace, and inside they are escaped.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let (name, value) = parse_header("X-Env:  dev: 1 ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-env", "dev: 1"));
        for wrong in ["x", "a b: c", "webhook-id: x", "content-length: 1", ""] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(parse_since("2h"), Ok(Since::Ago(span)) if span == Duration::from_secs(7_200)));
        assert!(matches!(parse_since("2026-11-30T12:00:00Z"), Ok(Since::Time(_))));
        assert!(parse_since("yesterday").is_err());
        assert_eq!(one_line("{\"a\":\r\n 1}"), "{\"a\":   1}");
    }
}
