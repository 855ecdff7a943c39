//! Mails to an application's contact about failing and disabled endpoints.
//!
//! * A [`MailContent`] is the stored content, with one [`MailNotice`] per endpoint. The text is rendered when the mail
//!   is sent.
//! * [`next_attempt`] is the retry schedule of mails.
//!
//! Names and URLs that customers chose are [reduced to one plain line](line) before they are stored, so they cannot
//! inject a header or a paragraph.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::domain::deliveries::attempt::Failure;
use crate::domain::{EndpointId, Time};

/// Maximum endpoints listed in one mail; the others are only counted.
pub const LISTED: usize = 100;
/// The shortest time between two mails about one application.
pub const APART: Duration = Duration::from_secs(3_600);
/// The time after which an unsent mail is given up.
pub const TRIED: Duration = Duration::from_secs(3 * 86_400);
/// The waits between attempts in seconds; the last one repeats.
const WAITS: [u64; 6] = [10, 60, 300, 1_800, 7_200, 21_600];
/// Maximum characters of an external text.
const LINE: usize = 200;

/// The content of a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailContent {
    pub notices: Vec<MailNotice>,
    /// Number of endpoints beyond those listed.
    pub more: usize,
}

/// The news about one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailNotice {
    pub endpoint: EndpointId,
    /// Host and path of the URL, see [`address`].
    pub address: String,
    pub what: NoticeKind,
    /// The start of the failure streak.
    pub since: Option<Time>,
    /// The last failure, without a period at the end: see [`describe_failure`].
    pub last: String,
}

/// The change in an endpoint's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Failing; will be disabled at `disable_at` unless a delivery succeeds before.
    Failing { disable_at: Time },
    /// Disabled because it failed for too long.
    Disabled,
    /// Disabled because it responded with 410.
    Gone,
}

impl MailContent {
    /// Adds notices; those beyond [`LISTED`] are only counted.
    pub fn add(&mut self, notices: Vec<MailNotice>) {
        for notice in notices {
            match self.notices.len() < LISTED {
                true => self.notices.push(notice),
                false => self.more += 1,
            }
        }
    }

    /// Number of notices, listed or counted.
    pub fn len(&self) -> usize {
        self.notices.len() + self.more
    }

    /// Whether there are no notices.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The next attempt for a mail created at `created` after `attempts` attempts; `None`: give up.
pub fn next_attempt(created: Time, attempts: i32, now: Time) -> Option<Time> {
    let place = usize::try_from(attempts - 1).unwrap_or(0).min(WAITS.len() - 1);
    (now.since(created) < TRIED).then(|| now.plus(Duration::from_secs(WAITS[place])))
}

/// An external text as one plain line: control, invisible and bidirectional characters become spaces.
pub fn line(text: &str) -> String {
    const INVISIBLE: [std::ops::RangeInclusive<char>; 4] =
        ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{2069}', '\u{feff}'..='\u{feff}'];
    let shown = |c: char| if c.is_control() || INVISIBLE.iter().any(|range| range.contains(&c)) { ' ' } else { c };
    let mut line: String = text.chars().map(shown).take(LINE).collect();
    if text.chars().nth(LINE).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

/// The host and path of a URL, for a mail. User name, password and query may be secrets.
pub fn address(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "an endpoint with an invalid URL".to_owned() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.path() == "/" { "" } else { url.path() };
    line(&format!("{}{port}{path}", url.host_str().unwrap_or_default()))
}

/// A failure in plain language, without a period at the end. Only the status code comes from the receiver.
pub fn describe_failure(failure: Option<Failure>, status: Option<u16>) -> String {
    let what = match (failure, status) {
        (Some(Failure::Status) | None, Some(status)) => return describe_status(status),
        (Some(Failure::Timeout), _) => "it did not respond in time",
        (Some(Failure::Refused), _) => "it refused the connection",
        (Some(Failure::Unreachable), _) => "it could not be reached over the network",
        (Some(Failure::Dns), _) => "its host name was not found",
        (Some(Failure::Tls), _) => {
            "no secure connection was possible: its certificate may have expired or belong to another host"
        }
        (Some(Failure::Blocked), _) => "its address is not allowed",
        (Some(Failure::Closed), _) => "it closed the connection without a response",
        (Some(Failure::Protocol), _) => "its response was not HTTP",
        (Some(Failure::Request), _) => "its URL or headers are not valid",
        (Some(Failure::Status) | None, None) => "it did not accept the event",
    };
    what.to_owned()
}

fn describe_status(status: u16) -> String {
    let why = match status {
        300..=399 => ": redirects are not followed",
        401 | 403 => ": it rejected the event, perhaps because it verifies with a different secret",
        404 | 405 => ": it does not accept events at this path",
        410 => ": it asked us to stop",
        413 => ": the event is larger than it accepts",
        429 => ": it receives more requests than it accepts",
        500..=599 => ": the receiver itself failed",
        _ => "",
    };
    format!("it responded with {status}{why}")
}

#[cfg(test)]
mod tests {
    use crate::domain::notifications::mail::*;

    #[test]
    fn a_mail_is_tried_for_three_days() {
        let (mut now, mut tries) = (Time::ZERO, 0);
        let mut waits = Vec::new();
        while let Some(next) = next_attempt(Time::ZERO, tries + 1, now) {
            waits.push(next.since(now).as_secs());
            (now, tries) = (next, tries + 1);
        }
        assert_eq!(waits[..8], [10, 60, 300, 1_800, 7_200, 21_600, 21_600, 21_600]);
        assert!(now.since(Time::ZERO) >= TRIED && tries < 25, "{tries}");
    }

    #[test]
    fn an_address_holds_no_secret_and_no_second_line() {
        for (url, shown) in [
            ("https://me:pass@example.com/hook?token=s3cret#x", "example.com/hook"),
            ("http://example.com:8080/", "example.com:8080"),
            ("https://example.com/a\nb", "example.com/ab"),
            ("nonsense", "an endpoint with an invalid URL"),
        ] {
            assert_eq!(address(url), shown);
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(line(" Acme\r\nBcc: all@example.com\u{202e} "), "Acme  Bcc: all@example.com");
        assert_eq!(line(&"x".repeat(300)).chars().count(), LINE + 1);
        assert_eq!(line("Größe 株式会社"), "Größe 株式会社");
    }

    #[test]
    fn every_failure_has_its_words() {
        for failure in Failure::ALL {
            assert!(
                describe_failure(Some(failure), None).starts_with("it")
                    || describe_failure(Some(failure), None).contains(' ')
            );
        }
        for status in [302, 401, 404, 410, 413, 418, 429, 503] {
            assert!(
                describe_failure(Some(Failure::Status), Some(status))
                    .starts_with(&format!("it responded with {status}"))
            );
        }
    }

    #[test]
    fn a_letter_lists_so_many_and_counts_the_rest() {
        let notice = MailNotice {
            endpoint: EndpointId::new(Time::ZERO),
            address: "example.com".into(),
            what: NoticeKind::Failing { disable_at: Time::from_micros(1_795_338_000_000_001) },
            since: Some(Time::ZERO),
            last: describe_failure(Some(Failure::Dns), None),
        };
        let mut letter = MailContent::default();
        letter.add(vec![notice.clone(); LISTED - 1]);
        letter.add(vec![notice; 3]);
        assert_eq!((letter.notices.len(), letter.more, letter.len()), (LISTED, 2, LISTED + 2));
        let text = serde_json::to_string(&letter).unwrap();
        assert_eq!(serde_json::from_str::<MailContent>(&text).unwrap(), letter);
    }
}
