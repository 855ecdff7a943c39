//! A **mail** tells an application's contact what has become of its endpoints.
//!
//! * A [`Letter`] is what it tells, a [`Notice`] for each endpoint; the text is made of it when it is sent.
//! * [`again`] says when a mail that was not taken is tried again: pure, like the schedule of deliveries.
//!
//! What others chose (names, URLs) is made [one harmless line](line) before it is kept: it can be neither a header nor
//! a paragraph of ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::domain::deliveries::attempt::Failure;
use crate::domain::{EndpointId, Time};

/// How many endpoints one mail lists; of those beyond it says how many they are.
pub const LISTED: usize = 100;
/// The least time between two mails about one application.
pub const APART: Duration = Duration::from_secs(3_600);
/// How long a mail is tried.
pub const TRIED: Duration = Duration::from_secs(3 * 86_400);
/// The waits between tries; the last one again and again.
const WAITS: [u64; 6] = [10, 60, 300, 1_800, 7_200, 21_600];
/// How many characters of somebody else's text are kept.
const LINE: usize = 200;

/// What a mail tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub notices: Vec<Notice>,
    /// How many more there are.
    pub more: usize,
}

/// What is told of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub endpoint: EndpointId,
    /// Host and path of its URL, see [`address`].
    pub address: String,
    pub what: What,
    /// Since when it has done nothing but fail.
    pub since: Option<Time>,
    /// Its last failure, a sentence without its end: see [`in_words`].
    pub last: String,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is failing, and will be disabled at this time if nothing arrives before.
    Failing { disable_at: Time },
    /// It was disabled, because it had failed for too long.
    Disabled,
    /// It was disabled, because it answered 410.
    Gone,
}

impl Letter {
    /// Adds what another one tells.
    pub fn add(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match self.notices.len() < LISTED {
                true => self.notices.push(notice),
                false => self.more += 1,
            }
        }
    }

    /// How many endpoints' news it holds.
    pub fn len(&self) -> usize {
        self.notices.len() + self.more
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// When a mail of `created`, which was tried for the `attempts`-th time, is tried again; `None`: it is given up.
pub fn again(created: Time, attempts: i32, now: Time) -> Option<Time> {
    let place = usize::try_from(attempts - 1).unwrap_or(0).min(WAITS.len() - 1);
    (now.since(created) < TRIED).then(|| now.plus(Duration::from_secs(WAITS[place])))
}

/// Somebody else's text as one line of ours: without characters that begin another line, or that hide or turn around
/// what follows them.
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

/// Where an endpoint is, for a mail: host and path. A name, a password or a query may be a secret.
pub fn address(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "an endpoint whose URL is none".to_owned() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.path() == "/" { "" } else { url.path() };
    line(&format!("{}{port}{path}", url.host_str().unwrap_or_default()))
}

/// A failure as a customer understands it: a sentence without its end. Nothing in it comes from the receiver but the
/// status.
pub fn in_words(failure: Option<Failure>, status: Option<u16>) -> String {
    let what = match (failure, status) {
        (Some(Failure::Status) | None, Some(status)) => return of_status(status),
        (Some(Failure::Timeout), _) => "it did not answer in time",
        (Some(Failure::Refused), _) => "the connection was refused: nothing listens there",
        (Some(Failure::Unreachable), _) => "it could not be reached over the network",
        (Some(Failure::Dns), _) => "its host name was not found",
        (Some(Failure::Tls), _) => {
            "no secure connection was possible: its certificate may be out of date, or for another host"
        }
        (Some(Failure::Blocked), _) => "its address is one to which nothing is sent",
        (Some(Failure::Closed), _) => "it closed the connection before it had answered",
        (Some(Failure::Protocol), _) => "its answer was not HTTP",
        (Some(Failure::Request), _) => "its URL or its headers cannot be sent as they are",
        (Some(Failure::Status) | None, None) => "it did not take the event",
    };
    what.to_owned()
}

fn of_status(status: u16) -> String {
    let why = match status {
        300..=399 => ", and redirects are not followed",
        401 | 403 => ": it refused the event, perhaps because it verifies with another secret",
        404 | 405 => ": it takes no events at this path",
        410 => ": it wants no more events",
        413 => ": the event was larger than it takes",
        429 => ": it was sent more than it takes",
        500..=599 => ": the receiver itself failed",
        _ => "",
    };
    format!("it answered {status}{why}")
}

#[cfg(test)]
mod tests {
    use crate::domain::notifications::mail::*;

    #[test]
    fn a_mail_is_tried_for_three_days() {
        let (mut now, mut tries) = (Time::ZERO, 0);
        let mut waits = Vec::new();
        while let Some(next) = again(Time::ZERO, tries + 1, now) {
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
            ("nonsense", "an endpoint whose URL is none"),
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
            assert!(in_words(Some(failure), None).starts_with("it") || in_words(Some(failure), None).contains(' '));
        }
        for status in [302, 401, 404, 410, 413, 418, 429, 503] {
            assert!(in_words(Some(Failure::Status), Some(status)).starts_with(&format!("it answered {status}")));
        }
    }

    #[test]
    fn a_letter_lists_so_many_and_counts_the_rest() {
        let notice = Notice {
            endpoint: EndpointId::new(Time::ZERO),
            address: "example.com".into(),
            what: What::Failing { disable_at: Time::from_micros(1_795_338_000_000_001) },
            since: Some(Time::ZERO),
            last: in_words(Some(Failure::Dns), None),
        };
        let mut letter = Letter::default();
        letter.add(vec![notice.clone(); LISTED - 1]);
        letter.add(vec![notice; 3]);
        assert_eq!((letter.notices.len(), letter.more, letter.len()), (LISTED, 2, LISTED + 2));
        let text = serde_json::to_string(&letter).unwrap();
        assert_eq!(serde_json::from_str::<Letter>(&text).unwrap(), letter);
    }
}
