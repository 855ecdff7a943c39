//! A **development endpoint** is a program on a developer's machine. A listener (`sendoff listen`) forwards an
//! application's messages to it and reports its responses; this process sends nothing to it. The reports are shown for
//! a while, and do not affect deliveries, counts or health.
//!
//! * [`DevelopmentEndpoint`]: the program; [`LocalAttempt`]: a message that was forwarded to it.

use std::time::Duration;

use url::Url;

use crate::domain::deliveries::attempt::RESPONSE_BODY_LIMIT;
use crate::domain::{AppId, AttemptId, Invalid, MessageId, Time, ids, limits};

/// The time after the last report at which a development endpoint is deleted.
pub const LIFETIME: Duration = Duration::from_secs(3_600);
/// The longest reported duration of a response.
pub const MAX_DURATION: Duration = Duration::from_secs(3_600);
/// The greatest status code.
pub const MAX_STATUS: u16 = 599;

/// A program that receives forwarded messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevelopmentEndpoint {
    pub app_id: AppId,
    /// The listener's name, unique within the application.
    pub name: String,
    /// The program's URL, for display.
    pub url: String,
    pub created_at: Time,
    /// The time of the last report.
    pub seen_at: Time,
}

impl DevelopmentEndpoint {
    /// The time at which it is deleted, unless its listener reports again.
    pub fn expires_at(&self) -> Time {
        self.seen_at.plus(LIFETIME)
    }
}

/// The program's response to one forwarded message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalResponse {
    /// `None`: there was no response.
    pub status: Option<u16>,
    pub duration: Duration,
    /// The beginning of the body, at most [`RESPONSE_BODY_LIMIT`] bytes.
    pub body: String,
    /// The reason that there was no response, at most [`limits::DEVELOPMENT_ERROR`] characters.
    pub error: String,
}

impl LocalResponse {
    /// Whether the program accepted the message.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        let mut note = |broken: bool, field: &'static str, reason: String| {
            if broken {
                wrong.push(Invalid::new(field, reason));
            }
        };
        let status = self.status.is_none_or(|status| (100..=MAX_STATUS).contains(&status));
        note(!status, "responseStatusCode", format!("must be 100 to {MAX_STATUS}, or 0 without a response"));
        let most = MAX_DURATION.as_millis();
        note(self.duration > MAX_DURATION, "responseDurationMs", format!("must be at most {most}"));
        let most = RESPONSE_BODY_LIMIT;
        note(self.body.len() > most, "response", format!("must be at most {most} bytes: send the beginning"));
        let most = limits::DEVELOPMENT_ERROR;
        note(self.error.chars().count() > most, "error", format!("must be at most {most} characters"));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// A message that was forwarded to a development endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAttempt {
    /// Its time is that of the report.
    pub id: AttemptId,
    pub message_id: MessageId,
    pub event_type: String,
    pub response: LocalResponse,
}

/// Checks the name of a listener, by the rules of uids.
///
/// # Errors
/// The broken rule.
pub fn check_listener(name: &str) -> Result<(), Invalid> {
    ids::name("listener_id", name, limits::NAME)
}

/// The URL of a program for display, without credentials, query and fragment.
///
/// # Errors
/// Not an `http` or `https` URL, or too long.
pub fn display_url(text: &str) -> Result<String, Invalid> {
    let wrong = |reason: &str| Invalid::new("url", reason);
    let mut url = Url::parse(text).map_err(|_| wrong("must be an absolute http or https URL"))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(wrong("must be an absolute http or https URL"));
    }
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| wrong("must be an absolute http or https URL"))?;
    url.set_query(None);
    url.set_fragment(None);
    if url.as_str().len() > limits::URL {
        return Err(wrong(&format!("must be at most {} bytes", limits::URL)));
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_secrets() {
        assert_eq!(
            display_url("http://me:secret@localhost:3000/hooks?key=1#x").unwrap(),
            "http://localhost:3000/hooks"
        );
        let long = format!("http://localhost/{}", "a".repeat(limits::URL));
        for wrong in ["", "localhost:3000", "ftp://localhost/", "file:///etc", "/hooks", long.as_str()] {
            assert!(display_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_limit_of_a_response_is_checked() {
        assert_eq!(LocalResponse::default().check(), Ok(()));
        let wrong = LocalResponse {
            status: Some(600),
            duration: MAX_DURATION + Duration::from_millis(1),
            body: "x".repeat(RESPONSE_BODY_LIMIT + 1),
            error: "ä".repeat(limits::DEVELOPMENT_ERROR + 1),
        };
        let fields: Vec<String> = wrong.check().unwrap_err().into_iter().map(|one| one.field).collect();
        assert_eq!(fields, ["responseStatusCode", "responseDurationMs", "response", "error"]);
        let of = |status| LocalResponse { status, ..LocalResponse::default() }.is_success();
        assert_eq!([Some(204), Some(302), Some(500), None].map(of), [true, false, false, false]);
    }
}
