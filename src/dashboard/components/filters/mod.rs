//! Filters of a list: a one-line form, chips that remove a filter, and links that keep them. The URL holds all of their
//! state.
//!
//! * [`FilterParams`] – the raw parameters of a URL or a form; builds every link of a list.
//! * [`Filters`] – the parsed parameters, and the error of each invalid field.
//! * [`FilterForm`] – the template's view of both.
//!
//! # Invariants
//!
//! * A list, its count and its bulk resend use the same parsed filter.
//! * An invalid field is an error beside that field, never a filter that is silently left out.

mod filter_form;

use std::time::Duration;

use crate::dashboard::applications::app_lookup;
use crate::dashboard::applications::app_lookup::AppLookup;
use crate::dashboard::components::filtered_list::ListCursor;
pub use crate::dashboard::components::filters::filter_form::FilterForm;
use crate::dashboard::components::format::UrlQuery;
use crate::dashboard::components::time_input::parse_time;
use crate::dashboard::http::current_user::{AppContext, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::domain::url_query::{encode, with_query};
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, Time, TimeRange, ids};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryKey, DeliveryStatusFilter};
use crate::store::query::search_terms::SearchTarget;
use crate::store::{EndpointRef, Store, Tenant};

/// The default time range of payload searches.
const TEXT_SPAN: Duration = Duration::from_secs(24 * 3_600);

/// The filters of the list of deliveries, by URL parameter.
pub const OF_DELIVERIES: [&str; 10] =
    ["q", "status", "app", "endpoint", "type", "class", "since", "until", "resend", "row"];
/// Maximum rows that are selected at once: those of a page.
const ROWS: usize = 50;
/// The filters of the list of messages, by URL parameter.
pub const OF_MESSAGES: [&str; 5] = ["q", "app", "type", "since", "until"];
/// A pseudo status: messages that were never sent.
const MISSING: &str = "missing";
/// The response classes.
pub const CLASSES: [(&str, u16); 5] = [("2xx", 200), ("3xx", 300), ("4xx", 400), ("5xx", 500), ("none", 0)];

/// The raw filter parameters of a list.
pub struct FilterParams {
    path: String,
    given: Vec<(&'static str, String)>,
    /// The status may be [`MISSING`].
    missing: bool,
}

impl FilterParams {
    /// Reads the parameters `names` of the list at `path`.
    pub fn of(path: String, names: &[&'static str], query: &UrlQuery) -> FilterParams {
        FilterParams::from(path, names, |name| query.all(name).collect())
    }

    /// Reads the parameters by a lookup of their values.
    pub fn from<'v>(
        path: String,
        names: &[&'static str],
        values: impl Fn(&'static str) -> Vec<&'v str>,
    ) -> FilterParams {
        let mut given = Vec::new();
        for name in names {
            for value in values(name) {
                // One field may hold several event types.
                let values: Vec<&str> = match *name {
                    "type" => value.split(|c: char| c == ',' || c.is_whitespace()).collect(),
                    _ => vec![value.trim()],
                };
                given.extend(
                    values.into_iter().filter(|value| !value.is_empty()).map(|value| (*name, value.to_owned())),
                );
            }
        }
        FilterParams { path, given, missing: false }
    }

    /// Allows the status [`MISSING`].
    pub fn with_missing(self) -> FilterParams {
        FilterParams { missing: true, ..self }
    }

    /// All filters: name and value.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Whether any filter is set.
    pub fn any(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether this is the only filter.
    pub fn only(&self, name: &str) -> bool {
        matches!(&self.given[..], [(key, _)] if *key == name)
    }

    /// The list without filters.
    pub fn bare(&self) -> &str {
        &self.path
    }

    /// The first page.
    pub fn first(&self) -> String {
        self.href(None, &[])
    }

    /// The page after a cursor.
    pub fn after(&self, cursor: &str) -> String {
        self.href(None, &[("after", cursor)])
    }

    /// Another path with the same filters and additional parameters.
    pub fn elsewhere(&self, path: &str, more: &[(&str, &str)]) -> String {
        let kept = FilterParams { path: path.to_owned(), given: self.given.clone(), missing: self.missing };
        kept.href(None, more)
    }

    /// The filters that are not one of `without`.
    fn others(&self, without: &[&str]) -> Vec<(&str, &str)> {
        let kept = self.given.iter().filter(|(name, _)| !without.contains(name));
        kept.map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// The query string of the filters, without its `?`.
    pub fn query(&self) -> String {
        encode(self.others(&[]))
    }

    /// The list from `since` until now; `None`: without a time range.
    fn since(&self, since: Option<&str>) -> String {
        let mut pairs = self.others(&["since", "until"]);
        pairs.extend(since.map(|since| ("since", since)));
        with_query(&self.path, pairs)
    }

    /// The list without the selected rows.
    fn without_rows(&self) -> String {
        with_query(&self.path, self.others(&["row"]))
    }

    fn href(&self, without: Option<usize>, more: &[(&str, &str)]) -> String {
        let kept = self.given.iter().enumerate().filter(|(n, _)| Some(*n) != without);
        let kept = kept.map(|(_, (name, value))| (&**name, &**value));
        with_query(&self.path, kept.chain(more.iter().copied()))
    }
}

/// Reads the filters of a list, across applications or, with `context`, within one. `page` is the list's path segment,
/// `names` are the URL parameters of its filters.
///
/// # Errors
/// The store is unavailable.
pub async fn read(
    store: &Store,
    user: &CurrentUser,
    context: Option<&AppContext>,
    (page, names): (&str, &[&'static str]),
    query: &UrlQuery,
    now: Time,
) -> Result<(FilterParams, Filters, FilterForm), PageError> {
    let path = context.map_or_else(|| format!("/{page}"), |context| context.paths.page(page));
    let names: Vec<&'static str> = names.iter().copied().filter(|name| context.is_none() || *name != "app").collect();
    let params = FilterParams::of(path, &names, query);
    let filters = Filters::of(store, &user.tenant(), context.map(|context| context.app.id), &params, now).await?;
    let form = FilterForm::of(store, user, context, &params, &filters, &names).await?;
    Ok((params, filters, form))
}

/// Parsed filters.
#[derive(Default)]
pub struct Filters {
    pub status: Option<DeliveryStatusFilter>,
    /// Messages that were never sent: not a status of a delivery.
    pub missing: bool,
    pub app: Option<AppId>,
    pub endpoint: Option<EndpointId>,
    pub event_types: Vec<String>,
    pub class: Option<u16>,
    pub since: Option<Time>,
    pub until: Option<Time>,
    pub messages: Option<Vec<MessageId>>,
    pub text: Option<String>,
    /// The deliveries that this bulk resend queued.
    pub resent: Option<BackgroundId>,
    /// Only these deliveries.
    pub rows: Option<Vec<DeliveryKey>>,
    /// A note about an implied filter.
    pub note: Option<&'static str>,
    wrong: Vec<(&'static str, String)>,
}

impl Filters {
    /// Parses the parameters, within one application if given.
    ///
    /// # Errors
    /// The store is unavailable. Invalid input is not an error: see [`Filters::wrong`].
    pub async fn of(
        store: &Store,
        tenant: &Tenant,
        app: Option<AppId>,
        params: &FilterParams,
        now: Time,
    ) -> Result<Filters, PageError> {
        let mut filters = Filters { app, ..Filters::default() };
        filters.plain(params, now);
        if let Some(text) = params.get("app") {
            match app_lookup::find(store, tenant, text).await? {
                AppLookup::Found(app) => filters.app = Some(app),
                AppLookup::NotFound(why) => filters.refuse("app", why),
            }
        }
        let tenant = Tenant { only: filters.app.or(tenant.only), ..tenant.clone() };
        if let Some(text) = params.get("endpoint") {
            let found = match EndpointRef::parse(text) {
                Ok(named) => store.endpoints_named(&tenant, &named).await?,
                Err(_) => Vec::new(),
            };
            match found[..] {
                [one] => filters.endpoint = Some(one),
                [] => filters.refuse("endpoint", "No endpoint has this id or uid."),
                _ => filters.refuse(
                    "endpoint",
                    "Several applications have an endpoint with this uid. Choose an application too.",
                ),
            }
        }
        if let Some(text) = params.get("q") {
            filters.seek(store.resolve_search_term(&tenant, filters.app, text).await?, now);
        }
        if let Some(rows) = &filters.rows {
            let ids = || rows.iter().map(|(message, _)| *message);
            // A search has already selected messages; both conditions must match.
            filters.messages.get_or_insert_with(|| ids().collect());
        }
        if let Some(text) = params.get("resend") {
            filters.resent = match text.parse::<BackgroundId>() {
                Ok(id) => store.background(&tenant, id).await?.map(|work| work.id),
                Err(_) => None,
            };
            if filters.resent.is_none() {
                filters.refuse("resend", "This resend does not exist, or is too old.");
            }
        }
        Ok(filters)
    }

    /// The times at which the messages were accepted.
    pub fn accepted(&self) -> TimeRange {
        let all = TimeRange::default();
        TimeRange { since: self.since.unwrap_or(all.since), until: self.until.unwrap_or(all.until) }
    }

    /// The filter of deliveries.
    pub fn deliveries(&self) -> DeliveryFilter {
        DeliveryFilter {
            status: self.status,
            app: self.app,
            endpoint: self.endpoint,
            event_types: self.event_types.clone(),
            class: self.class,
            accepted: self.accepted(),
            messages: self.messages.clone(),
            text: self.text.clone(),
            resent: self.resent,
            rows: self.rows.clone(),
        }
    }

    /// Whether there is a search.
    pub fn searches(&self) -> bool {
        self.messages.is_some() || self.text.is_some()
    }

    /// The error of a field.
    pub fn wrong(&self, name: &str) -> Option<&str> {
        self.wrong.iter().find(|(key, _)| *key == name).map(|(_, why)| why.as_str())
    }

    /// Whether all fields are valid.
    pub fn good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Adds an error to a field.
    pub fn refuse(&mut self, name: &'static str, why: impl Into<String>) {
        self.wrong.push((name, why.into()));
    }

    /// Parses the filters that need no store.
    fn plain(&mut self, params: &FilterParams, now: Time) {
        if let Some(word) = params.get("status") {
            self.status = DeliveryStatusFilter::from_word(word);
            self.missing = params.missing && word == MISSING;
            if self.status.is_none() && !self.missing {
                self.refuse("status", "Unknown status.");
            }
        }
        if let Some(word) = params.get("class") {
            self.class = CLASSES.into_iter().find(|(name, _)| *name == word).map(|(_, class)| class);
            if self.class.is_none() {
                self.refuse("class", "Unknown response class.");
            }
        }
        let rows: Vec<Option<DeliveryKey>> =
            params.given().filter(|(name, _)| *name == "row").map(|(_, text)| DeliveryKey::parse(text)).collect();
        if rows.len() > ROWS || rows.contains(&None) {
            self.refuse("row", format!("Select up to {ROWS} rows of the list."));
        } else if !rows.is_empty() {
            self.rows = Some(rows.into_iter().flatten().collect());
        }
        for (name, text) in &params.given {
            if *name != "type" {
                continue;
            }
            match ids::name("type", text, 256) {
                Ok(()) => self.event_types.push(text.clone()),
                Err(wrong) => self.refuse("type", format!("An event type {}.", wrong.reason)),
            }
        }
        for (name, place) in [("since", &mut self.since), ("until", &mut self.until)] {
            if let Some(text) = params.get(name) {
                *place = parse_time(text, now);
                if place.is_none() {
                    self.wrong.push((
                        name,
                        "Enter a time such as 2026-11-22 09:30 (UTC), or 2h for two hours ago.".to_owned(),
                    ));
                }
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            self.refuse("until", "Must be after Since.");
        }
    }

    fn seek(&mut self, sought: SearchTarget, now: Time) {
        match sought {
            SearchTarget::Messages(ids) => self.messages = Some(ids),
            SearchTarget::Application(app) => self.app = Some(app),
            SearchTarget::Endpoint(endpoint) if self.endpoint.is_none_or(|one| one == endpoint) => {
                self.endpoint = Some(endpoint);
            }
            SearchTarget::Endpoint(_) => self.messages = Some(Vec::new()),
            SearchTarget::Text(text) => {
                if self.since.is_none() {
                    self.since = Some(self.until.unwrap_or(now).minus(TEXT_SPAN));
                    self.note = Some(match self.until {
                        None => "Only payloads of the last 24 hours were searched. Set Since to search further back.",
                        Some(_) => {
                            "Only payloads of the 24 hours before Until were searched. Set Since to search further back."
                        }
                    });
                }
                self.text = Some(text);
            }
        }
    }
}
