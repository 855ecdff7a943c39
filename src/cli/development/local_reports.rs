//! Reports of `listen`: the server shows the local program as a development endpoint, with its responses. Reports never
//! delay or end the forwarding: a failed one is printed and dropped.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{ApiClient, ApiOperation, ClientError};
use crate::cli::print_stderr;
use crate::domain::catalog::development::{LocalResponse, MAX_DURATION, display_url};
use crate::domain::limits;

/// The interval of reports without a response, which keep the development endpoint.
const RENEWAL: Duration = Duration::from_secs(300);
/// Maximum characters of a default name.
const NAME_LENGTH: usize = 64;

/// Reports to one development endpoint.
pub(super) struct LocalReports<'a> {
    api: &'a ApiClient,
    /// `None`: the server does not accept reports, or the user does not want any.
    path: Option<Vec<String>>,
    url: String,
    last: Option<Instant>,
    /// The last report failed, and the failure was printed.
    failing: bool,
}

/// The response to a report; none of its fields is used.
#[derive(Deserialize)]
struct RenewedEndpoint {}

impl<'a> LocalReports<'a> {
    /// Reports for the program at `to`; `None`: no reports.
    pub(super) fn new(api: &'a ApiClient, name: Option<&str>, to: &Url) -> LocalReports<'a> {
        let url = display_url(to.as_str()).ok();
        let path = name.filter(|_| url.is_some()).map(|name| api.app_path(&["development-endpoint", name]));
        LocalReports { api, path, url: url.unwrap_or_default(), last: None, failing: false }
    }

    /// Keeps the development endpoint while nothing is forwarded.
    pub(super) async fn renew(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= RENEWAL) {
            self.send(json!({"url": self.url})).await;
        }
    }

    /// Reports the response to the message `id`.
    pub(super) async fn report(&mut self, id: &str, response: &LocalResponse) {
        let error: String = response.error.chars().take(limits::DEVELOPMENT_ERROR).collect();
        let attempt = json!({
            "msgId": id, "responseStatusCode": response.status.unwrap_or(0),
            "responseDurationMs": response.duration.min(MAX_DURATION).as_millis() as u64,
            "response": response.body, "error": error,
        });
        self.send(json!({"url": self.url, "attempt": attempt})).await;
    }

    async fn send(&mut self, body: serde_json::Value) {
        let Some(path) = &self.path else { return };
        self.last = Some(Instant::now());
        let text = body.to_string();
        match self.api.request::<RenewedEndpoint>(&ApiOperation::with_body(Method::POST, path, &text)).await {
            Ok(_) => self.failing = false,
            Err(ClientError::Rejected(status, why)) if status.is_client_error() && body["attempt"].is_null() => {
                print_stderr(&format!("the responses are not recorded: {why}"));
                self.path = None;
            }
            Err(ClientError::Unavailable(why) | ClientError::Rejected(_, why)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    print_stderr(&format!("a response was not recorded: {why}"));
                }
            }
        }
    }
}

/// The default name of a listener: the user, the machine and the program's port.
pub(super) fn default_name(to: &Url) -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name_of(&user, &machine, to.port_or_known_default().unwrap_or_default())
}

fn name_of(user: &str, machine: &str, port: u16) -> String {
    let parts = [user, machine, &port.to_string()].map(|part| {
        part.chars().map(|one| if one.is_ascii_alphanumeric() || "-_.".contains(one) { one } else { '-' }).collect()
    });
    let parts: Vec<String> = parts.into_iter().filter(|part: &String| !part.is_empty()).collect();
    let name = parts.join("-");
    // The port comes last; it distinguishes the listeners of one machine.
    name[name.len().saturating_sub(NAME_LENGTH)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::development::check_listener;

    #[test]
    fn a_name_tells_listeners_apart() {
        assert_eq!(name_of("ada", "desk.local", 3_000), "ada-desk.local-3000");
        assert_eq!(name_of("", "büro desk", 80), "b-ro-desk-80");
        let long = name_of(&"a".repeat(300), "desk", 3_000);
        assert!(long.ends_with("desk-3000") && long.len() == NAME_LENGTH && check_listener(&long).is_ok());
    }
}
