//! An attempt as a sentence, with its request and response folded below it. The pages of a message and of an endpoint
//! show it.

use crate::dashboard::components::failure_hints;
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Block, Line};
use crate::dashboard::components::widgets::{Address, Badge, RelativeTime};
use crate::dashboard::http::current_user::CurrentUser;
use crate::domain::Time;
use crate::domain::deliveries::attempt::{Attempt, Failure, RESPONSE_BODY_LIMIT, Trigger};

/// An attempt in a timeline.
pub(in crate::dashboard) struct TimelineStep {
    /// The anchor.
    pub id: String,
    pub badge: Badge,
    /// Path and event type of the message, on pages that show several.
    pub message: Option<(String, Line)>,
    pub number: i32,
    pub manual: bool,
    /// `503 Service Unavailable after 214 ms`.
    pub result: Line,
    pub when: RelativeTime,
    /// The detail of a failure that is not a status.
    pub detail: Option<Line>,
    pub hint: Option<&'static str>,
    pub next: Option<RelativeTime>,
    /// Whether the endpoint's URL has changed since.
    pub elsewhere: bool,
    /// The URL of the attempt.
    pub sent_to: Address,
    pub request_headers: Vec<(Line, Line)>,
    pub response_headers: Vec<(Line, Line)>,
    pub body: Block,
    pub body_note: Option<String>,
    /// Whether request and response are unfolded, as for the latest failure.
    pub open: bool,
}

impl TimelineStep {
    /// `url` is the endpoint's current one. `pending`: the delivery has a next attempt.
    pub fn new(attempt: &Attempt, url: &str, pending: bool, reader: &CurrentUser, now: Time) -> TimelineStep {
        let outcome = &attempt.outcome;
        let badge = match (outcome.delivered(), attempt.next_at) {
            (true, _) => Badge::Delivered,
            (false, Some(_)) => Badge::Failed,
            (false, None) => Badge::Dead,
        };
        let what = match (outcome.status, outcome.failure) {
            (Some(status), _) => format::status(status),
            (None, Some(failure)) => in_words(failure).to_owned(),
            (None, None) => "Delivered".to_owned(),
        };
        // For a status, the failure's detail would only repeat it.
        let detail = outcome.failure.is_some_and(|failure| failure != Failure::Status) && !outcome.detail.is_empty();
        let lines = |headers: &[(String, String)]| {
            headers.iter().map(|(name, value)| (Line::new(name), Line::new(value))).collect::<Vec<_>>()
        };
        // The user agent names the product, which the team's customers do not know.
        let hidden = |name: &str| reader.rights().is_none() && name.eq_ignore_ascii_case("user-agent");
        let shown: Vec<(String, String)> =
            attempt.request_headers.iter().filter(|(name, _)| !hidden(name)).cloned().collect();
        TimelineStep {
            id: attempt.id.to_string(),
            badge,
            message: None,
            number: attempt.number,
            manual: attempt.trigger == Trigger::Manual,
            result: Line::new(&format!("{what} after {}", format::took(outcome.duration))),
            when: RelativeTime::new(attempt.at, now),
            detail: detail.then(|| Line::cut(&outcome.detail, 500)),
            hint: failure_hints::hint(outcome, reader.rights().is_some()),
            next: attempt.next_at.filter(|_| pending).map(|at| RelativeTime::new(at, now)),
            elsewhere: attempt.url != url,
            sent_to: Address::new(&attempt.url),
            request_headers: lines(&shown),
            response_headers: lines(&outcome.response_headers),
            body: Block::new(&outcome.response_body),
            body_note: body_note(&outcome.response_body),
            open: !outcome.delivered(),
        }
    }

    /// Removes the parts that only the latest attempt shows: advice, the next attempt, the unfolded response.
    pub fn shorten(&mut self) {
        (self.hint, self.next, self.open) = (None, None, false);
    }

    /// Whether the receiver sent anything.
    pub fn answered(&self) -> bool {
        !self.response_headers.is_empty() || !self.body.is_empty()
    }
}

fn body_note(body: &[u8]) -> Option<String> {
    let mut notes = Vec::new();
    if body.len() >= RESPONSE_BODY_LIMIT {
        notes.push(format!("first {} only", format::size(RESPONSE_BODY_LIMIT)));
    } else if !body.is_empty() {
        notes.push(format::size(body.len()));
    }
    if std::str::from_utf8(body).is_err_and(|error| error.error_len().is_some()) {
        notes.push("not UTF-8".to_owned());
    }
    (!notes.is_empty()).then(|| notes.join(", "))
}
