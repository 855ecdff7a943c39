//! The filter form above a list, with chips of the active filters.

use std::collections::HashMap;

use crate::dashboard::components::filters::{CLASSES, FilterParams, Filters, MISSING};
use crate::dashboard::components::format::{Line, counted};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::http::current_user::{AppContext, CurrentUser, Principal};
use crate::dashboard::http::error::PageError;
use crate::domain::catalog::application::Application;
use crate::domain::catalog::event_type::EventType;
use crate::store::query::delivery_list::DeliveryStatusFilter;
use crate::store::{Order, PageRequest, Store, Tenant};

/// Maximum number of suggestions per field.
const PROPOSED: usize = 100;

/// An option of a select, or a suggestion of a text field.
pub struct FilterOption {
    pub value: Line,
    pub name: Line,
    pub chosen: bool,
}

/// A field of the filter form.
pub struct FilterField {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub value: Line,
    pub wrong: Option<Line>,
    /// A select; otherwise the options are suggestions.
    pub closed: bool,
    /// The values of a filter without a visible field, which come from a link.
    pub hidden: Vec<Line>,
    pub choices: Vec<FilterOption>,
}

/// An active filter.
pub struct FilterChip {
    pub label: &'static str,
    pub value: PageText,
    /// The list without this filter.
    pub without: String,
}

/// A time range that is one click away.
pub struct RangePreset {
    pub name: &'static str,
    pub href: String,
    pub current: bool,
}

/// The presets: value in the URL, label.
const PRESETS: [(&str, &str); 4] = [("15m", "15 min"), ("1h", "1 h"), ("24h", "24 h"), ("7d", "7 d")];

/// The presets, then any time.
fn presets(params: &FilterParams) -> Vec<RangePreset> {
    let (since, until) = (params.get("since"), params.get("until"));
    let preset = |(value, name)| RangePreset {
        name,
        href: params.since(Some(value)),
        current: since == Some(value) && until.is_none(),
    };
    let any = RangePreset { name: "Any time", href: params.since(None), current: since.is_none() && until.is_none() };
    PRESETS.into_iter().map(preset).chain([any]).collect()
}

pub struct FilterForm {
    pub action: String,
    pub fields: Vec<FilterField>,
    pub chips: Vec<FilterChip>,
    pub presets: Vec<RangePreset>,
    /// The time range is not one of the presets.
    pub custom: bool,
    pub button: &'static str,
}

impl FilterForm {
    /// Builds the form for a list with the filters `names`. Within one application, `app` is not a filter.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        user: &CurrentUser,
        context: Option<&AppContext>,
        params: &FilterParams,
        filters: &Filters,
        names: &[&'static str],
    ) -> Result<FilterForm, PageError> {
        let mut fields = Vec::new();
        for name in names.iter().copied().filter(|name| *name != "app" || context.is_none()) {
            let (label, hint) = words(name);
            let value = match name {
                "type" => params
                    .given
                    .iter()
                    .filter(|(key, _)| *key == name)
                    .map(|(_, v)| v.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
                _ => params.get(name).unwrap_or_default().to_owned(),
            };
            let choices = match name {
                "status" => {
                    let missing = params.missing.then_some(MISSING);
                    closed(DeliveryStatusFilter::ALL.into_iter().map(DeliveryStatusFilter::word).chain(missing), &value)
                }
                "class" => closed(CLASSES.into_iter().map(|(word, _)| word), &value),
                "app" => applications(store, &user.tenant()).await?,
                "endpoint" => endpoints(store, context).await?,
                "type" => event_types(store, user).await?,
                _ => Vec::new(),
            };
            let hidden = match name {
                "resend" | "row" => {
                    params.given().filter(|(key, _)| *key == name).map(|(_, value)| Line::new(value)).collect()
                }
                _ => Vec::new(),
            };
            let closed = matches!(name, "status" | "class");
            let wrong = filters.wrong(name).map(Line::new);
            fields.push(FilterField { name, label, hint, value: Line::new(&value), wrong, closed, hidden, choices });
        }
        let chip = |(n, (name, value)): (usize, &(&'static str, String))| FilterChip {
            label: words(name).0,
            value: match *name {
                "status" | "class" => PageText::own(named(value)),
                _ => PageText::foreign(value, 60),
            },
            without: params.href(Some(n), &[]),
        };
        let listed = params.given.iter().enumerate().filter(|(_, (name, _))| *name != "row");
        let mut chips: Vec<FilterChip> = listed.map(chip).collect();
        let rows = params.given().filter(|(name, _)| *name == "row").count() as i64;
        if rows > 0 {
            let value = PageText::own(&counted(rows, "delivery", "deliveries"));
            chips.push(FilterChip { label: "Selected", value, without: params.without_rows() });
        }
        let presets = presets(params);
        let custom = presets.iter().all(|preset| !preset.current);
        Ok(FilterForm { action: params.path.clone(), fields, chips, presets, custom, button: "Filter" })
    }

    /// Replaces the button's label.
    pub fn with_button(self, button: &'static str) -> FilterForm {
        FilterForm { button, ..self }
    }
}

impl FilterField {
    /// Whether the filter has no visible field. Its value comes from a link, and the form keeps it.
    pub fn hidden(&self) -> bool {
        matches!(self.name, "resend" | "row")
    }
}

/// A field's label and placeholder.
fn words(name: &str) -> (&'static str, &'static str) {
    match name {
        "q" => ("Search", "id, text or amount > 100"),
        "status" => ("Status", "any"),
        "app" => ("Application", "name or id"),
        "endpoint" => ("Endpoint", "id or uid"),
        "type" => ("Event type", "any"),
        "class" => ("Response", "any"),
        "since" => ("Since", "2h, or UTC"),
        "resend" => ("Resend", ""),
        "row" => ("Selected", ""),
        _ => ("Until", "now"),
    }
}

/// The name of a status or a class of responses.
fn named(word: &str) -> &str {
    match word {
        "none" => "no response",
        MISSING => "never sent",
        word => word,
    }
}

fn closed<'w>(words: impl Iterator<Item = &'w str>, value: &str) -> Vec<FilterOption> {
    words
        .map(|word| FilterOption { value: Line::new(word), name: Line::new(named(word)), chosen: word == value })
        .collect()
}

fn proposed(value: String, name: &str) -> FilterOption {
    FilterOption { value: Line::new(&value), name: Line::cut(name, 60), chosen: false }
}

async fn applications(store: &Store, tenant: &Tenant) -> Result<Vec<FilterOption>, PageError> {
    let apps = store.applications(tenant, &PageRequest::first(PROPOSED, Order::Descending)).await?.data;
    let mut names: HashMap<String, usize> = HashMap::new();
    for app in &apps {
        *names.entry(app.name.to_lowercase()).or_default() += 1;
    }
    // An ambiguous name does not help; suggest the id instead.
    let choice = |app: Application| {
        let id = app.uid.map_or_else(|| app.id.to_string(), |uid| uid.to_string());
        match names.get(&app.name.to_lowercase()) {
            Some(1) => proposed(app.name, &id),
            _ => proposed(id, &app.name),
        }
    };
    Ok(apps.into_iter().map(choice).collect())
}

async fn endpoints(store: &Store, context: Option<&AppContext>) -> Result<Vec<FilterOption>, PageError> {
    let Some(context) = context else { return Ok(Vec::new()) };
    let page = PageRequest::first(PROPOSED, Order::Descending);
    let endpoints = store.endpoints(&context.tenant(), context.app.id, &page).await?;
    let choice = |one: crate::domain::catalog::endpoint::Endpoint| {
        proposed(one.spec.uid.map_or_else(|| one.id.to_string(), |uid| uid.to_string()), &one.spec.url)
    };
    Ok(endpoints.data.into_iter().map(choice).collect())
}

/// Customers see only event types whose feature flags they all have.
async fn event_types(store: &Store, user: &CurrentUser) -> Result<Vec<FilterOption>, PageError> {
    let tenant = Tenant::org(user.org.clone());
    let all = store.event_types(&tenant, false, &PageRequest::first(PROPOSED, Order::Ascending)).await?;
    let shown = |one: &EventType| match &user.principal {
        Principal::Operator(_) => true,
        Principal::Customer(session) => {
            one.spec.feature_flags.iter().all(|flag| session.options.feature_flags.contains(flag))
        }
    };
    Ok(all.data.into_iter().filter(shown).map(|one| proposed(one.spec.name, "")).collect())
}
