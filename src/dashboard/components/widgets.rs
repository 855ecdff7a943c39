//! Small elements that look the same everywhere: state badges, relative times, shortened ids, addresses.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::format::{Line, roughly};
use crate::domain::Time;
use crate::domain::deliveries::delivery::DeliveryState;
use crate::store::catalog::endpoint_list::EndpointHealth;

/// A state: a word, a shape, a color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Template)]
#[template(path = "parts/badge.html")]
pub enum Badge {
    Delivered,
    Retrying,
    Failed,
    Dead,
    Pending,
    Disabled,
    Stuck,
    /// The states of background jobs are these three and `Failed`.
    Running,
    Finished,
    Canceled,
    /// An endpoint that receives deliveries.
    Enabled,
    /// An endpoint whose recent attempts have all failed.
    Failing,
    /// A consumer that has stopped polling.
    Silent,
}

impl HtmlSafe for Badge {}

impl Badge {
    /// The badge of a delivery.
    pub fn of(state: DeliveryState) -> Badge {
        match state {
            DeliveryState::Fresh => Badge::Pending,
            DeliveryState::Retry => Badge::Retrying,
            DeliveryState::Delivered => Badge::Delivered,
            DeliveryState::Dead => Badge::Dead,
        }
    }

    /// The badge of an endpoint.
    pub fn of_health(health: EndpointHealth) -> Badge {
        match health {
            EndpointHealth::Enabled => Badge::Enabled,
            EndpointHealth::Failing => Badge::Failing,
            EndpointHealth::Disabled => Badge::Disabled,
        }
    }

    /// The label, which is also the CSS class.
    pub fn word(&self) -> &'static str {
        match self {
            Badge::Delivered => "delivered",
            Badge::Retrying => "retrying",
            Badge::Failed => "failed",
            Badge::Dead => "dead",
            Badge::Pending => "pending",
            Badge::Disabled => "disabled",
            Badge::Stuck => "stuck",
            Badge::Running => "running",
            Badge::Finished => "finished",
            Badge::Canceled => "canceled",
            Badge::Enabled => "enabled",
            Badge::Failing => "failing",
            Badge::Silent => "silent",
        }
    }
}

/// A time relative to now: "3 min ago", "in 4 min".
#[derive(Clone, Copy, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<time datetime="{{ self.iso() }}" title="{{ self.exact() }}">{{ self.relative() }}</time>"#
)]
pub struct RelativeTime {
    at: Time,
    now: Time,
}

impl HtmlSafe for RelativeTime {}

impl RelativeTime {
    pub fn new(at: Time, now: Time) -> RelativeTime {
        RelativeTime { at, now }
    }

    /// The machine-readable form.
    pub fn iso(&self) -> String {
        self.at.to_string()
    }

    /// `2026-11-22 14:32:10.123 UTC`.
    pub fn exact(&self) -> String {
        let text = self.at.to_string();
        format!("{} {} UTC", &text.get(..10).unwrap_or_default(), &text.get(11..23).unwrap_or_default())
    }

    /// The absolute time.
    pub fn clock(&self) -> ClockTime {
        ClockTime(*self)
    }

    pub fn relative(&self) -> String {
        if self.at > self.now {
            format!("in {}", roughly(self.at.since(self.now).max(std::time::Duration::from_secs(1))))
        } else {
            match self.now.since(self.at) {
                span if span.as_secs() == 0 => "just now".to_owned(),
                span => format!("{} ago", roughly(span)),
            }
        }
    }

    /// Whether the time is in the future.
    pub fn ahead(&self) -> bool {
        self.at > self.now
    }
}

/// An absolute time, `14:32:10 UTC`, with the day unless it is today. The script converts it to local time.
#[derive(Clone, Copy, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<time datetime="{{ self.0.iso() }}" title="{{ self.0.exact() }}" data-as="clock">{{ self.text() }}</time>"#
)]
pub struct ClockTime(RelativeTime);

impl HtmlSafe for ClockTime {}

impl ClockTime {
    fn text(&self) -> String {
        let (text, today) = (self.0.at.to_string(), self.0.now.to_string());
        let time = text.get(11..19).unwrap_or_default();
        if text.get(..10) == today.get(..10) {
            format!("{time} UTC")
        } else {
            format!("{} {time} UTC", text.get(5..10).unwrap_or_default())
        }
    }
}

/// An id, shortened visually but complete for screen readers and the clipboard.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<span class="id" title="{{ whole }}"><span class="cut">{{ self.head() }}</span><span class="gone">{{ self.middle() }}</span><span>{{ self.tail() }}</span></span>"#
)]
pub struct Id {
    whole: String,
}

impl HtmlSafe for Id {}

impl Id {
    pub fn new(id: impl std::fmt::Display) -> Id {
        Id { whole: id.to_string() }
    }

    /// The whole id.
    pub fn text(&self) -> &str {
        &self.whole
    }

    fn cuts(&self) -> (usize, usize) {
        // Ids are ASCII: a prefix and 26 digits. The head shows the kind and time, the tail distinguishes neighbors.
        let prefix = self.whole.find('_').map_or(0, |place| place + 1);
        ((prefix + 4).min(self.whole.len()), self.whole.len().saturating_sub(6).max(prefix + 4))
    }

    fn head(&self) -> &str {
        self.whole.get(..self.cuts().0).unwrap_or(&self.whole)
    }

    fn middle(&self) -> &str {
        let (head, tail) = self.cuts();
        self.whole.get(head..tail).unwrap_or_default()
    }

    fn tail(&self) -> &str {
        self.whole.get(self.cuts().1..).unwrap_or_default()
    }
}

/// A receiver's URL with its host highlighted.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<bdi class="url" title="{{ whole }}"><span class="start"><span class="dim{% if secure %} usual{% endif %}">{{ before }}</span>{{ host }}<span class="dim">{{ after }}</span></span><span class="dim end">{{ end }}</span></bdi>"#
)]
pub struct Address {
    /// `https://`, which tables omit.
    secure: bool,
    whole: Line,
    before: Line,
    host: Line,
    after: Line,
    /// The last characters of the path, which a narrow column keeps.
    end: Line,
}

/// Characters at the end of a URL that a narrow column keeps.
const END: usize = 14;

impl HtmlSafe for Address {}

impl Address {
    pub fn new(url: &str) -> Address {
        let (before, rest) = url.find("://").map_or(("", url), |place| url.split_at(place + 3));
        let (host, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let end = after.char_indices().rev().nth(END - 1).map_or(0, |(place, _)| place);
        let (after, end) = after.split_at(end);
        Address {
            secure: before == "https://",
            whole: Line::new(url),
            before: Line::new(before),
            host: Line::new(host),
            after: Line::new(after),
            end: Line::new(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::widgets::*;

    #[test]
    fn relative_time_has_an_exact_title() {
        let now = Time::parse("2026-11-22T14:30:00Z").unwrap();
        let when = |text: &str| RelativeTime::new(Time::parse(text).unwrap(), now);
        assert_eq!(
            when("2026-11-22T14:27:00.5Z").to_string(),
            "<time datetime=\"2026-11-22T14:27:00.500000Z\" title=\"2026-11-22 14:27:00.500 UTC\">2 min ago</time>"
        );
        assert_eq!(when("2026-11-22T14:34:10Z").relative(), "in 4 min");
        assert_eq!(when("2026-11-22T14:34:10Z").clock().text(), "14:34:10 UTC");
        assert_eq!(when("2026-11-23T01:00:00Z").clock().text(), "11-23 01:00:00 UTC");
        assert_eq!(when("2026-11-22T14:30:00Z").relative(), "just now");
    }

    #[test]
    fn shortened_ids_keep_their_text() {
        let html = Id::new("msg_01jd8x5q3fe8ktq8b4m5rj2w3a").to_string();
        let mut text = String::new();
        let mut inside = false;
        for c in html.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        assert_eq!(text, "msg_01jd8x5q3fe8ktq8b4m5rj2w3a");
        assert!(html.contains("msg_01jd</span>"), "{html}");
        for odd in ["", "x", "msg_", "msg_1", "ääääääääääääää"] {
            let _ = Id::new(odd).to_string();
        }
    }

    #[test]
    fn address_parts_add_up() {
        for url in [
            "https://a.example/hook?x=1",
            "https://a.example/ü/a-very-long-path/with-ä-its/end",
            "a.example",
            "",
            "x://",
            "https://<b>/\u{202e}",
        ] {
            let Address { whole, before, host, after, end, .. } = Address::new(url);
            assert_eq!(format!("{before}{host}{after}{end}"), whole.to_string());
        }
        assert_eq!(Address::new("https://a.example/hook").host, Line::new("a.example"));
    }
}
