//! `sendoff tail`: prints an application's attempts as they are recorded.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;

use super::{ApiArgs, ApiClient, ApiOperation, names, time_of_day};
use crate::cli::{CliError, print_result};
use crate::config::Config;
use crate::domain::Time;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time that an attempt may start before the newest recorded one and still appear later: attempts are
/// recorded when they end but sorted by their start.
const MAX_LATENESS: Duration = Duration::from_secs(60);
/// Endpoints followed at once, one request each per poll.
const MAX_ENDPOINTS: usize = 20;
/// Pages read per endpoint and poll.
const MAX_PAGES: usize = 8;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    api: ApiArgs,
    /// Show only attempts to this endpoint, by id (ep_…) or uid
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Show only successful or only failed attempts
    #[arg(long, value_name = "STATUS", value_parser = ["success", "fail"])]
    status: Option<String>,
    /// Show only these event types, separated by commas
    #[arg(long, value_name = "TYPES")]
    events: Vec<String>,
    /// Show only attempts for messages on this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TailAttempt {
    id: String,
    msg_id: String,
    number: i64,
    timestamp: String,
    url: String,
    response_status_code: u16,
    response_duration_ms: u64,
    failure: Option<String>,
    next_attempt: Option<String>,
    msg: Option<TailMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TailMessage {
    event_type: String,
}

#[derive(Deserialize)]
struct ApiPage<T> {
    data: Vec<T>,
    iterator: Option<String>,
    done: bool,
}

#[derive(Deserialize)]
struct TailEndpoint {
    id: String,
}

/// The position in one endpoint's attempts.
#[derive(Default)]
struct EndpointTail {
    endpoint: String,
    /// Start of the newest attempt.
    newest: Option<Time>,
    /// Attempts that started within [`MAX_LATENESS`] of it.
    seen: HashSet<String>,
}

pub(in crate::cli) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let api = ApiClient::new(&config, &options.api)?;
    let mut all: Vec<EndpointTail> =
        endpoints(&api, options.endpoint.as_deref()).await?.into_iter().map(endpoint_tail).collect();
    let filter = query_filter(&options);
    for one in &mut all {
        // Skips existing attempts.
        one.poll(&api, &filter).await?;
    }
    print_result(&format!("Following the attempts of {}. Press Ctrl-C to stop.", api.app));
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let mut attempts = Vec::new();
        for one in &mut all {
            attempts.extend(one.poll(&api, &filter).await?);
        }
        attempts.sort_by(|a, b| a.timestamp.cmp(&b.timestamp));
        attempts.iter().for_each(|attempt| print_result(&format_line(attempt)));
    }
}

fn endpoint_tail(endpoint: String) -> EndpointTail {
    EndpointTail { endpoint, ..EndpointTail::default() }
}

/// The ids of the endpoints to follow.
async fn endpoints(api: &ApiClient, named: Option<&str>) -> Result<Vec<String>, CliError> {
    if let Some(named) = named {
        return Ok(vec![named.to_owned()]);
    }
    let list: ApiPage<TailEndpoint> =
        api.request_with_retry(&ApiOperation::get(&api.app_path(&["endpoint"]), &[("limit", "250")])).await?;
    if list.data.len() > MAX_ENDPOINTS {
        let why = format!("{} has more than {MAX_ENDPOINTS} endpoints: name one with --endpoint", api.app);
        return Err(CliError::Usage(why));
    }
    Ok(list.data.into_iter().map(|endpoint| endpoint.id).collect())
}

/// The query parameters that stay the same.
fn query_filter(options: &Options) -> Vec<(&'static str, String)> {
    let mut query =
        vec![("limit", "250".to_owned()), ("with_content", "false".to_owned()), ("with_msg", "true".to_owned())];
    let status = options.status.as_deref().map(|status| if status == "success" { "0" } else { "2" });
    query.extend(status.map(|status| ("status", status.to_owned())));
    let events = names(&options.events).join(",");
    query.extend((!events.is_empty()).then_some(("event_types", events)));
    query.extend(options.channel.iter().map(|channel| ("channel", channel.clone())));
    query
}

impl EndpointTail {
    /// Returns the attempts recorded since the last call.
    async fn poll(&mut self, api: &ApiClient, filter: &[(&'static str, String)]) -> Result<Vec<TailAttempt>, CliError> {
        let path = api.app_path(&["attempt", "endpoint", &self.endpoint]);
        let after = self.newest.map(|newest| newest.minus(MAX_LATENESS).to_string());
        let (mut found, mut iterator) = (Vec::new(), None::<String>);
        // The first call only needs the newest page, to find the position.
        let pages = if after.is_some() { MAX_PAGES } else { 1 };
        for _ in 0..pages {
            let mut query: Vec<(&str, &str)> = filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
            query.extend(after.iter().map(|after| ("after", after.as_str())));
            query.extend(iterator.iter().map(|iterator| ("iterator", iterator.as_str())));
            let list: ApiPage<TailAttempt> = api.request_with_retry(&ApiOperation::get(&path, &query)).await?;
            found.extend(list.data);
            iterator = list.iterator;
            if list.done || iterator.is_none() {
                break;
            }
        }
        let began = |attempt: &TailAttempt| Time::parse(&attempt.timestamp).unwrap_or_default();
        self.newest = found.iter().map(began).chain(self.newest).max();
        let seen = found.iter().map(|attempt| attempt.id.clone()).collect();
        let before = std::mem::replace(&mut self.seen, seen);
        found.retain(|attempt| !before.contains(&attempt.id));
        Ok(found)
    }
}

fn format_line(attempt: &TailAttempt) -> String {
    let result = match (attempt.response_status_code, attempt.failure.as_deref()) {
        (0, Some(failure)) => failure.to_owned(),
        (status, _) => status.to_string(),
    };
    let next = match &attempt.next_attempt {
        Some(next) => format!(", next try at {}", time_of_day(next)),
        None if attempt.failure.is_some() => ", no further try".to_owned(),
        None => String::new(),
    };
    let event_type = attempt.msg.as_ref().map_or("?", |message| message.event_type.as_str());
    format!(
        "{}  {event_type}  {}  attempt {}: {result} after {} ms{next}  {}",
        time_of_day(&attempt.timestamp),
        attempt.msg_id,
        attempt.number,
        attempt.response_duration_ms,
        attempt.url
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_formatted_as_a_line() {
        let mut attempt = TailAttempt {
            id: "atmpt_1".into(),
            msg_id: "msg_1".into(),
            number: 2,
            timestamp: "2026-11-30T12:00:01.123456Z".into(),
            url: "https://a.example/".into(),
            response_status_code: 503,
            response_duration_ms: 17,
            failure: Some("status".into()),
            next_attempt: Some("2026-11-30T12:05:01Z".into()),
            msg: Some(TailMessage { event_type: "a.b".into() }),
        };
        let wanted = "12:00:01  a.b  msg_1  attempt 2: 503 after 17 ms, next try at 12:05:01  https://a.example/";
        assert_eq!(format_line(&attempt), wanted);
        (attempt.response_status_code, attempt.failure, attempt.next_attempt) = (0, Some("timeout".into()), None);
        assert!(format_line(&attempt).contains("attempt 2: timeout after 17 ms, no further try"));
    }
}
