//! What is to be sent again, as a URL or a form says it, under the names of the list of deliveries: `status`, `app`, `endpoint`, `type`,
//! `class`, `since`, `until`; and `range`, which says the last two in a word.
//!
//! * [`Typed`] – the words as they came: what the form shows again.
//! * [`Choice`] – what they mean. A word that means nothing is [`Wrong`], with the reason.

use std::time::Duration;

use super::show::Line;
use crate::domain::application::Application;
use crate::domain::background::{Kind, Scope};
use crate::domain::delivery::Standing;
use crate::domain::endpoint::Endpoint;
use crate::domain::{AppId, EndpointId, Time, ids, limits};
use crate::store::jobs::background::{BackgroundSpec, Total};
use crate::store::query::endpoint_messages::SentFilter;
use crate::store::{AppRef, EndpointRef, Store, StoreError, Tenant};

/// A field that cannot be taken as it is, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub field: &'static str,
    pub why: String,
}

fn wrong<T>(field: &'static str, why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { field, why: why.into() })
}

/// Which deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The last attempt failed: being retried, or dead.
    Failed,
    Dead,
    /// Wanted by an endpoint's filters, and never given to it.
    Missing,
}

impl Status {
    pub const ALL: [Status; 3] = [Status::Failed, Status::Dead, Status::Missing];

    /// The word in the URL.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Failed => "failed",
            Status::Dead => "dead",
            Status::Missing => "missing",
        }
    }

    /// What the form calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Failed => "failed (being retried, or dead)",
            Status::Dead => "dead",
            Status::Missing => "missing (wanted, never given)",
        }
    }

    /// Of work that was asked for.
    pub fn of(spec: &BackgroundSpec) -> Option<Status> {
        match spec.kind {
            Kind::ReplayMissing => Some(Status::Missing),
            Kind::Recover => Some(Status::Dead),
            Kind::BulkReplay if spec.filter.failing == Some(true) => Some(Status::Failed),
            Kind::BulkReplay | Kind::Reconcile => None,
        }
    }
}

/// The ranges that have a name; what else there is goes from a time to a time.
pub const RANGES: [(&str, &str, Option<Duration>); 4] = [
    ("1h", "the last hour", Some(Duration::from_secs(3_600))),
    ("24h", "the last 24 hours", Some(Duration::from_secs(86_400))),
    ("7d", "the last 7 days", Some(Duration::from_secs(7 * 86_400))),
    ("all", "all that is kept", None),
];
/// The range that goes from a time to a time.
pub const CUSTOM: &str = "custom";
/// Classes of answers, as they are written.
pub const CLASSES: [(&str, &str, i32); 5] =
    [("none", "no answer", 0), ("2xx", "2xx", 200), ("3xx", "3xx", 300), ("4xx", "4xx", 400), ("5xx", "5xx", 500)];

/// The words as they came; empty: nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    pub status: String,
    pub app: String,
    pub endpoint: String,
    pub event_type: String,
    pub class: String,
    pub range: String,
    pub since: String,
    pub until: String,
}

impl Typed {
    /// By a look-up of what was said under a name.
    pub fn of<'s>(said: impl Fn(&str) -> Option<&'s str>) -> Typed {
        let word = |name: &str| said(name).unwrap_or_default().trim().to_owned();
        let mut typed = Typed {
            status: word("status"),
            app: word("app"),
            endpoint: word("endpoint"),
            event_type: word("type"),
            class: word("class"),
            range: word("range"),
            since: word("since"),
            until: word("until"),
        };
        if typed.range.is_empty() {
            let from_to = !typed.since.is_empty() || !typed.until.is_empty();
            let range = if from_to {
                CUSTOM
            } else if typed.status.is_empty() {
                "24h"
            } else {
                "all"
            };
            typed.range = range.to_owned();
        }
        typed
    }

    /// What a field of the form shows for a time: as `<input type="datetime-local">` takes it.
    pub fn local(text: &str) -> String {
        match time(text) {
            Some(time) => time.to_string().get(..19).unwrap_or_default().to_owned(),
            None => text.to_owned(),
        }
    }
}

/// What is to be sent again.
#[derive(Clone, Debug)]
pub struct Choice {
    pub status: Status,
    pub app: Option<Application>,
    pub endpoint: Option<Endpoint>,
    pub event_type: Option<String>,
    /// The class's word and number.
    pub class: Option<(&'static str, i32)>,
    pub since: Time,
    pub until: Time,
}

impl Choice {
    /// What the words mean. `now` ends every range: what is to come is sent anyhow.
    ///
    /// # Errors
    /// The store is away. What is wrong with the words is in the inner result, all of it at once.
    pub async fn read(
        store: &Store,
        tenant: &Tenant,
        typed: &Typed,
        now: Time,
    ) -> Result<Result<Choice, Vec<Wrong>>, StoreError> {
        let mut wrongs = Vec::new();
        let place = scope(store, tenant, typed).await?;
        let (app, endpoint) = place.unwrap_or_else(|one| {
            wrongs.push(one);
            (None, None)
        });
        let status = Status::ALL.into_iter().find(|status| status.word() == typed.status);
        if status.is_none() {
            wrongs.push(Wrong { field: "status", why: "Choose failed, dead or missing.".to_owned() });
        }
        let mut note = |one| wrongs.push(one);
        let (since, until) = span(typed, now).unwrap_or_else(|one| {
            note(one);
            (now, now)
        });
        let event_type = Some(typed.event_type.clone()).filter(|name| !name.is_empty());
        if let Some(name) = &event_type
            && let Err(error) = ids::name("type", name, limits::NAME)
        {
            note(Wrong { field: "type", why: format!("This is no event type: it {}.", error.reason) });
        }
        let class = class(&typed.class).unwrap_or_else(|one| {
            note(one);
            None
        });
        if status == Some(Status::Missing) {
            if app.is_none() && typed.app.is_empty() {
                note(Wrong {
                    field: "app",
                    why: "Choose an application: what is missing is found by its endpoints' filters.".into(),
                });
            }
            if class.is_some() {
                note(Wrong { field: "class", why: "What is missing was never sent, so nothing answered.".into() });
            }
        }
        Ok(match status {
            Some(status) if wrongs.is_empty() => Ok(Choice { status, app, endpoint, event_type, class, since, until }),
            _ => Err(wrongs),
        })
    }

    /// Whose endpoints it goes to.
    pub fn scope(&self) -> Scope {
        match (&self.app, &self.endpoint) {
            (_, Some(endpoint)) => Scope::Endpoint(endpoint.app_id, endpoint.id),
            (Some(app), None) => Scope::Application(app.id),
            (None, None) => Scope::Organization,
        }
    }

    /// What background work is asked for, and by whom.
    pub fn spec(&self, by: &str, total: Option<Total>) -> BackgroundSpec {
        let usual = SentFilter { since: self.since, until: self.until, ..SentFilter::default() };
        let filter = SentFilter {
            event_types: self.event_type.iter().cloned().collect(),
            standings: if self.status == Status::Dead { vec![Standing::Dead] } else { Vec::new() },
            failing: (self.status == Status::Failed).then_some(true),
            status_class: self.class.map(|(_, class)| class),
            ..usual
        };
        let kind = match self.status {
            Status::Failed => Kind::BulkReplay,
            Status::Dead => Kind::Recover,
            Status::Missing => Kind::ReplayMissing,
        };
        BackgroundSpec { kind, scope: self.scope(), filter, by: by.to_owned(), total }
    }

    /// The fields that say exactly this once more: times and not spans.
    pub fn fields(&self) -> Vec<(&'static str, Line)> {
        let line = |text: &str| Line::new(text);
        let mut fields = vec![
            ("status", line(self.status.word())),
            ("range", line(CUSTOM)),
            ("since", line(&self.since.to_string())),
            ("until", line(&self.until.to_string())),
        ];
        fields.extend(self.app.iter().map(|app| ("app", line(&app.id.to_string()))));
        fields.extend(self.endpoint.iter().map(|endpoint| ("endpoint", line(&endpoint.id.to_string()))));
        fields.extend(self.event_type.iter().map(|name| ("type", line(name))));
        fields.extend(self.class.iter().map(|(word, _)| ("class", line(word))));
        fields
    }
}

/// The application and the endpoint; both may be left open.
async fn scope(
    store: &Store,
    tenant: &Tenant,
    typed: &Typed,
) -> Result<Result<(Option<Application>, Option<Endpoint>), Wrong>, StoreError> {
    const NO_APP: &str = "There is no such application.";
    const NO_ENDPOINT: &str = "There is no such endpoint; by a uid it is found only with its application.";
    let named = match (tenant.only, typed.app.as_str()) {
        (Some(only), _) => Some(AppRef::Id(only)),
        (None, "") => owner(store, tenant, &typed.endpoint).await?.map(AppRef::Id),
        (None, text) => match AppRef::parse(text) {
            Ok(named) => Some(named),
            Err(_) => return Ok(wrong("app", NO_APP)),
        },
    };
    let Some(named) = named else {
        let alone = typed.endpoint.is_empty();
        return Ok(if alone { Ok((None, None)) } else { wrong("endpoint", NO_ENDPOINT) });
    };
    let Some(app) = store.application(tenant, &named).await? else { return Ok(wrong("app", NO_APP)) };
    if typed.endpoint.is_empty() {
        return Ok(Ok((Some(app), None)));
    }
    let endpoint = match EndpointRef::parse(&typed.endpoint) {
        Ok(named) => store.endpoint(tenant, app.id, &named).await?,
        Err(_) => None,
    };
    Ok(match endpoint {
        None => wrong("endpoint", NO_ENDPOINT),
        Some(endpoint) if endpoint.spec.disabled => {
            wrong("endpoint", "This endpoint is disabled: enable it first, or what is sent again would wait there.")
        }
        Some(endpoint) => Ok((Some(app), Some(endpoint))),
    })
}

/// The application of an endpoint's id, where that alone is named.
///
/// # Errors
/// The store is away.
pub(super) async fn owner(store: &Store, tenant: &Tenant, endpoint: &str) -> Result<Option<AppId>, StoreError> {
    match endpoint.parse::<EndpointId>() {
        Ok(id) => store.application_of(tenant, id).await,
        Err(_) => Ok(None),
    }
}

fn class(text: &str) -> Result<Option<(&'static str, i32)>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    let meant = |(word, _, number): &(&str, &str, i32)| *word == text || number.to_string() == text;
    match CLASSES.into_iter().find(meant) {
        Some((word, _, number)) => Ok(Some((word, number))),
        None => wrong("class", "Choose one of none, 2xx, 3xx, 4xx, 5xx."),
    }
}

/// From when until when.
fn span(typed: &Typed, now: Time) -> Result<(Time, Time), Wrong> {
    if typed.range != CUSTOM {
        return match RANGES.into_iter().find(|(word, ..)| *word == typed.range) {
            Some((_, _, span)) => Ok((span.map_or(Time::ZERO, |span| now.minus(span)), now)),
            None => wrong("range", "Choose one of the ranges."),
        };
    }
    let read = |field, text: &str, open| match (text, time(text)) {
        ("", _) => Ok(open),
        (_, Some(time)) => Ok(time),
        (_, None) => wrong(field, "Write a time such as 2026-11-22T14:30, in UTC."),
    };
    let since = read("since", &typed.since, Time::ZERO)?;
    let until = read("until", &typed.until, now)?.min(now);
    if since >= until {
        return wrong("since", "This must be before the end, and in the past.");
    }
    Ok((since, until))
}

/// Of RFC 3339, or as `<input type="datetime-local">` writes it, which is UTC here.
fn time(text: &str) -> Option<Time> {
    let with = |end: &str| Time::parse(&format!("{text}{end}")).ok();
    Time::parse(text).ok().or_else(|| with("Z")).or_else(|| with(":00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[(&str, &'static str)]) -> Typed {
        Typed::of(|name| words.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn a_span_ends_now_and_a_list_that_names_none_means_all() {
        let now = Time::parse("2026-11-22T14:30:00Z").unwrap();
        let of = |words: &[(&str, &'static str)]| span(&typed(words), now);
        assert_eq!(of(&[]), Ok((Time::parse("2026-11-21T14:30:00Z").unwrap(), now)), "the form begins with a day");
        assert_eq!(of(&[("status", "dead")]), Ok((Time::ZERO, now)));
        assert_eq!(of(&[("range", "1h")]), Ok((Time::parse("2026-11-22T13:30:00Z").unwrap(), now)));
        let since = Time::parse("2026-11-20T08:00:00Z").unwrap();
        for text in ["2026-11-20T08:00", "2026-11-20T08:00:00", "2026-11-20T09:00:00+01:00"] {
            assert_eq!(of(&[("since", text)]), Ok((since, now)), "{text}");
        }
        assert_eq!(of(&[("since", "2026-11-20T08:00"), ("until", "2027-01-01T00:00")]), Ok((since, now)));
        for (words, field) in [
            (&[("range", "2h")][..], "range"),
            (&[("since", "yesterday")], "since"),
            (&[("until", "x")], "until"),
            (&[("since", "2026-11-22T14:30")], "since"),
            (&[("since", "2026-11-20T08:00"), ("until", "2026-11-20T07:00")], "since"),
        ] {
            assert_eq!(of(words).unwrap_err().field, field, "{words:?}");
        }
        assert_eq!(Typed::local("2026-11-20T09:00:00+01:00"), "2026-11-20T08:00:00");
        assert_eq!(Typed::local("what"), "what");
    }

    #[test]
    fn classes_are_read_as_they_are_written() {
        assert_eq!(class(""), Ok(None));
        assert_eq!(class("5xx"), Ok(Some(("5xx", 500))));
        assert_eq!(class("400"), Ok(Some(("4xx", 400))));
        assert_eq!(class("none"), Ok(Some(("none", 0))));
        assert!(class("6xx").is_err());
    }
}
