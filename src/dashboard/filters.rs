//! The filters above a list: a form of one line, chips that take a filter away again, and links that keep them. All of their state is
//! the URL.
//!
//! * [`Asked`] – what the URL asks for, as it was typed; it makes every link of a list.
//! * [`Filters`] – what that means: ids, times, texts; and, for each field that means nothing, why.
//! * [`Form`] – what the template shows of both.

use std::time::Duration;

use super::error::PageError;
use super::moment::moment;
use super::show::{Line, Query};
use super::viewer::{Inside, Viewer, Who};
use crate::domain::event_type::EventType;
use crate::domain::{AppId, EndpointId, MessageId, Time, ids};
use crate::store::query::delivery_list::DeliveryStatus;
use crate::store::query::search_terms::Sought;
use crate::store::{AppRef, EndpointRef, Order, PageRequest, Store, Tenant};

/// How many names a field proposes.
const PROPOSED: usize = 100;
/// How far back payloads are searched where nothing else is said.
const TEXT_SPAN: Duration = Duration::from_secs(24 * 3_600);

/// The filters of the list of deliveries, by their names in the URL.
pub const OF_DELIVERIES: [&str; 8] = ["q", "status", "app", "endpoint", "type", "class", "since", "until"];
/// Those of the list of messages.
pub const OF_MESSAGES: [&str; 5] = ["q", "app", "type", "since", "until"];
/// The classes of answers.
const CLASSES: [(&str, u16); 5] = [("2xx", 200), ("3xx", 300), ("4xx", 400), ("5xx", 500), ("none", 0)];

/// What the URL of a list asks for.
pub struct Asked {
    path: String,
    given: Vec<(&'static str, String)>,
}

impl Asked {
    /// Of the list at `path`, which has the filters `names`.
    pub fn of(path: String, names: &[&'static str], query: &Query) -> Asked {
        let mut given = Vec::new();
        for name in names {
            for value in query.all(name) {
                // Several event types may stand in one field.
                let values: Vec<&str> = match *name {
                    "type" => value.split(|c: char| c == ',' || c.is_whitespace()).collect(),
                    _ => vec![value.trim()],
                };
                given.extend(
                    values.into_iter().filter(|value| !value.is_empty()).map(|value| (*name, value.to_owned())),
                );
            }
        }
        Asked { path, given }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is any filter.
    pub fn any(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether this is the only filter.
    pub fn only(&self, name: &str) -> bool {
        matches!(&self.given[..], [(key, _)] if *key == name)
    }

    /// The list without any filter.
    pub fn bare(&self) -> &str {
        &self.path
    }

    /// The list's first page.
    pub fn first(&self) -> String {
        self.href(None, &[])
    }

    /// The list from a cursor on.
    pub fn after(&self, cursor: &str) -> String {
        self.href(None, &[("after", cursor)])
    }

    /// Another page's URL with the same filters, and more.
    pub fn elsewhere(&self, path: &str, more: &[(&str, &str)]) -> String {
        let kept = Asked { path: path.to_owned(), given: self.given.clone() };
        kept.href(None, more)
    }

    fn href(&self, without: Option<usize>, more: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (n, (name, value)) in self.given.iter().enumerate() {
            if Some(n) != without {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(more);
        match query.finish() {
            query if query.is_empty() => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }
}

/// What is asked for, understood.
#[derive(Default)]
pub struct Filters {
    pub status: Option<DeliveryStatus>,
    pub app: Option<AppId>,
    pub endpoint: Option<EndpointId>,
    pub event_types: Vec<String>,
    pub class: Option<u16>,
    pub since: Option<Time>,
    pub until: Option<Time>,
    pub messages: Option<Vec<MessageId>>,
    pub text: Option<String>,
    /// What was decided for the reader.
    pub note: Option<&'static str>,
    wrong: Vec<(&'static str, String)>,
}

impl Filters {
    /// Understands what is asked for, within one application where one is given.
    ///
    /// # Errors
    /// The store is away. What is typed wrong is no error: see [`Filters::wrong`].
    pub async fn of(
        store: &Store,
        tenant: &Tenant,
        inside: Option<AppId>,
        asked: &Asked,
        now: Time,
    ) -> Result<Filters, PageError> {
        let mut filters = Filters { app: inside, ..Filters::default() };
        filters.plain(asked, now);
        if let Some(text) = asked.get("app") {
            match AppRef::parse(text) {
                Ok(named) => filters.app = store.application(tenant, &named).await?.map(|app| app.id),
                Err(_) => filters.app = None,
            }
            if filters.app.is_none() {
                filters.refuse("app", "No application has this id or uid.");
            }
        }
        let tenant = Tenant { only: filters.app.or(tenant.only), ..tenant.clone() };
        if let Some(text) = asked.get("endpoint") {
            let found = match EndpointRef::parse(text) {
                Ok(named) => store.endpoints_named(&tenant, &named).await?,
                Err(_) => Vec::new(),
            };
            match found[..] {
                [one] => filters.endpoint = Some(one),
                [] => filters.refuse("endpoint", "No endpoint has this id or uid."),
                _ => filters
                    .refuse("endpoint", "Several applications have an endpoint of this uid: name one of them too."),
            }
        }
        if let Some(text) = asked.get("q") {
            filters.seek(store.sought(&tenant, filters.app, text).await?, now);
        }
        Ok(filters)
    }

    /// Why a field means nothing.
    pub fn wrong(&self, name: &str) -> Option<&str> {
        self.wrong.iter().find(|(key, _)| *key == name).map(|(_, why)| why.as_str())
    }

    /// Whether all fields mean something.
    pub fn good(&self) -> bool {
        self.wrong.is_empty()
    }

    fn refuse(&mut self, name: &'static str, why: impl Into<String>) {
        self.wrong.push((name, why.into()));
    }

    /// What can be understood without the store.
    fn plain(&mut self, asked: &Asked, now: Time) {
        if let Some(word) = asked.get("status") {
            self.status = DeliveryStatus::from_word(word);
            if self.status.is_none() {
                self.refuse("status", "No delivery stands like this.");
            }
        }
        if let Some(word) = asked.get("class") {
            self.class = CLASSES.into_iter().find(|(name, _)| *name == word).map(|(_, class)| class);
            if self.class.is_none() {
                self.refuse("class", "There is no such class of answers.");
            }
        }
        for (name, text) in &asked.given {
            if *name != "type" {
                continue;
            }
            match ids::name("type", text, 256) {
                Ok(()) => self.event_types.push(text.clone()),
                Err(wrong) => self.refuse("type", format!("An event type {}.", wrong.reason)),
            }
        }
        for (name, place) in [("since", &mut self.since), ("until", &mut self.until)] {
            if let Some(text) = asked.get(name) {
                *place = moment(text, now);
                if place.is_none() {
                    self.wrong
                        .push((name, "A time such as 2026-11-22 09:30 (UTC), or 2h for two hours ago.".to_owned()));
                }
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            self.refuse("until", "This is not after the time since when.");
        }
    }

    fn seek(&mut self, sought: Sought, now: Time) {
        match sought {
            Sought::Messages(ids) => self.messages = Some(ids),
            Sought::Application(app) => self.app = Some(app),
            Sought::Endpoint(endpoint) if self.endpoint.is_none_or(|one| one == endpoint) => {
                self.endpoint = Some(endpoint);
            }
            Sought::Endpoint(_) => self.messages = Some(Vec::new()),
            Sought::Text(text) => {
                if self.since.is_none() {
                    self.since = Some(self.until.unwrap_or(now).minus(TEXT_SPAN));
                    self.note = Some(match self.until {
                        None => "Payloads of the last 24 hours were searched. Say since when, to look further back.",
                        Some(_) => {
                            "Payloads of the 24 hours before that time were searched. Say since when, to look further back."
                        }
                    });
                }
                self.text = Some(text);
            }
        }
    }
}

/// A choice of a field, or what it proposes.
pub struct Choice {
    pub value: Line,
    pub name: Line,
    pub chosen: bool,
}

/// A field of the form.
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub value: Line,
    pub wrong: Option<Line>,
    /// One of these is to be chosen; else they are proposed.
    pub closed: bool,
    pub choices: Vec<Choice>,
}

/// A filter that is on.
pub struct Chip {
    pub label: &'static str,
    pub value: Line,
    /// The list without it.
    pub without: String,
}

/// The form above a list, and the chips.
pub struct Form {
    pub action: String,
    pub fields: Vec<Field>,
    pub chips: Vec<Chip>,
}

impl Form {
    /// For a list with the filters `names`; within one application, which then is no filter.
    ///
    /// # Errors
    /// The store is away.
    pub async fn of(
        store: &Store,
        viewer: &Viewer,
        inside: Option<&Inside>,
        asked: &Asked,
        filters: &Filters,
        names: &[&'static str],
    ) -> Result<Form, PageError> {
        let mut fields = Vec::new();
        for name in names.iter().copied().filter(|name| *name != "app" || inside.is_none()) {
            let (label, hint) = words(name);
            let value = match name {
                "type" => asked
                    .given
                    .iter()
                    .filter(|(key, _)| *key == name)
                    .map(|(_, v)| v.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
                _ => asked.get(name).unwrap_or_default().to_owned(),
            };
            let choices = match name {
                "status" => closed(DeliveryStatus::ALL.into_iter().map(DeliveryStatus::word), &value),
                "class" => closed(CLASSES.into_iter().map(|(word, _)| word), &value),
                "app" => applications(store, &viewer.tenant()).await?,
                "endpoint" => endpoints(store, inside).await?,
                "type" => event_types(store, viewer).await?,
                _ => Vec::new(),
            };
            let closed = matches!(name, "status" | "class");
            let wrong = filters.wrong(name).map(Line::new);
            fields.push(Field { name, label, hint, value: Line::new(&value), wrong, closed, choices });
        }
        let chip = |(n, (name, value)): (usize, &(&'static str, String))| Chip {
            label: words(name).0,
            value: Line::cut(value, 60),
            without: asked.href(Some(n), &[]),
        };
        let chips = asked.given.iter().enumerate().map(chip).collect();
        Ok(Form { action: asked.path.clone(), fields, chips })
    }
}

/// What a field is called, and what is to be typed there.
fn words(name: &str) -> (&'static str, &'static str) {
    match name {
        "q" => ("Search", "id, uid, event id or text"),
        "status" => ("Status", "any"),
        "app" => ("Application", "id or uid"),
        "endpoint" => ("Endpoint", "id or uid"),
        "type" => ("Event type", "any"),
        "class" => ("Answer", "any"),
        "since" => ("Since", "2h, or UTC"),
        _ => ("Until", "now"),
    }
}

fn closed<'w>(words: impl Iterator<Item = &'w str>, value: &str) -> Vec<Choice> {
    words
        .map(|word| Choice {
            value: Line::new(word),
            name: Line::new(if word == "none" { "no answer" } else { word }),
            chosen: word == value,
        })
        .collect()
}

fn proposed(value: String, name: &str) -> Choice {
    Choice { value: Line::new(&value), name: Line::cut(name, 60), chosen: false }
}

async fn applications(store: &Store, tenant: &Tenant) -> Result<Vec<Choice>, PageError> {
    let apps = store.applications(tenant, &PageRequest::first(PROPOSED, Order::Descending)).await?;
    let choice = |app: crate::domain::application::Application| {
        proposed(app.uid.map_or_else(|| app.id.to_string(), |uid| uid.to_string()), &app.name)
    };
    Ok(apps.data.into_iter().map(choice).collect())
}

async fn endpoints(store: &Store, inside: Option<&Inside>) -> Result<Vec<Choice>, PageError> {
    let Some(inside) = inside else { return Ok(Vec::new()) };
    let page = PageRequest::first(PROPOSED, Order::Descending);
    let endpoints = store.endpoints(&inside.tenant(), inside.app.id, &page).await?;
    let choice = |one: crate::domain::endpoint::Endpoint| {
        proposed(one.spec.uid.map_or_else(|| one.id.to_string(), |uid| uid.to_string()), &one.spec.url)
    };
    Ok(endpoints.data.into_iter().map(choice).collect())
}

/// A customer is shown what is behind no flags but theirs.
async fn event_types(store: &Store, viewer: &Viewer) -> Result<Vec<Choice>, PageError> {
    let tenant = Tenant::org(viewer.org.clone());
    let all = store.event_types(&tenant, false, &PageRequest::first(PROPOSED, Order::Ascending)).await?;
    let shown = |one: &EventType| match &viewer.who {
        Who::Operator(_) => true,
        Who::Customer(visit) => one.spec.feature_flags.iter().all(|flag| visit.options.feature_flags.contains(flag)),
    };
    Ok(all.data.into_iter().filter(shown).map(|one| proposed(one.spec.name, "")).collect())
}
