//! The filter form above a list, with chips of the active filters.

use std::collections::HashMap;

use crate::dashboard::components::filters::{Asked, CLASSES, Filters, MISSING};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::viewer::{Inside, Viewer, Who};
use crate::domain::catalog::application::Application;
use crate::domain::catalog::event_type::EventType;
use crate::store::query::delivery_list::DeliveryStatus;
use crate::store::{Order, PageRequest, Store, Tenant};

/// How many suggestions a field has.
const PROPOSED: usize = 100;

/// An option of a select, or a suggestion of a text field.
pub struct Choice {
    pub value: Line,
    pub name: Line,
    pub chosen: bool,
}

/// A field of the filter form.
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub value: Line,
    pub wrong: Option<Line>,
    /// A select; otherwise the options are suggestions.
    pub closed: bool,
    pub choices: Vec<Choice>,
}

/// An active filter.
pub struct Chip {
    pub label: &'static str,
    pub value: Line,
    /// The list without this filter.
    pub without: String,
}

pub struct Form {
    pub action: String,
    pub fields: Vec<Field>,
    pub chips: Vec<Chip>,
    pub button: &'static str,
}

impl Form {
    /// Builds the form for a list with the filters `names`. Within one application, `app` is not a filter.
    ///
    /// # Errors
    /// The store is unavailable.
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
                "status" => {
                    let missing = asked.missing.then_some(MISSING);
                    closed(DeliveryStatus::ALL.into_iter().map(DeliveryStatus::word).chain(missing), &value)
                }
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
        Ok(Form { action: asked.path.clone(), fields, chips, button: "Filter" })
    }

    /// Replaces the button's label.
    pub fn with_button(self, button: &'static str) -> Form {
        Form { button, ..self }
    }
}

impl Field {
    /// A filter without a visible field: it comes from a link and is kept.
    pub fn hidden(&self) -> bool {
        self.name == "resend"
    }
}

/// A field's label and placeholder.
fn words(name: &str) -> (&'static str, &'static str) {
    match name {
        "q" => ("Search", "id, uid, event id or text"),
        "status" => ("Status", "any"),
        "app" => ("Application", "name or id"),
        "endpoint" => ("Endpoint", "id or uid"),
        "type" => ("Event type", "any"),
        "class" => ("Response", "any"),
        "since" => ("Since", "2h, or UTC"),
        "resend" => ("Resend", ""),
        _ => ("Until", "now"),
    }
}

fn closed<'w>(words: impl Iterator<Item = &'w str>, value: &str) -> Vec<Choice> {
    words
        .map(|word| Choice {
            value: Line::new(word),
            name: Line::new(match word {
                "none" => "no response",
                MISSING => "never sent",
                word => word,
            }),
            chosen: word == value,
        })
        .collect()
}

fn proposed(value: String, name: &str) -> Choice {
    Choice { value: Line::new(&value), name: Line::cut(name, 60), chosen: false }
}

async fn applications(store: &Store, tenant: &Tenant) -> Result<Vec<Choice>, PageError> {
    let apps = store.applications(tenant, &PageRequest::first(PROPOSED, Order::Descending)).await?.data;
    let mut names: HashMap<String, usize> = HashMap::new();
    for app in &apps {
        *names.entry(app.name.to_lowercase()).or_default() += 1;
    }
    // An ambiguous name is no help; suggest the id instead.
    let choice = |app: Application| {
        let id = app.uid.map_or_else(|| app.id.to_string(), |uid| uid.to_string());
        match names.get(&app.name.to_lowercase()) {
            Some(1) => proposed(app.name, &id),
            _ => proposed(id, &app.name),
        }
    };
    Ok(apps.into_iter().map(choice).collect())
}

async fn endpoints(store: &Store, inside: Option<&Inside>) -> Result<Vec<Choice>, PageError> {
    let Some(inside) = inside else { return Ok(Vec::new()) };
    let page = PageRequest::first(PROPOSED, Order::Descending);
    let endpoints = store.endpoints(&inside.tenant(), inside.app.id, &page).await?;
    let choice = |one: crate::domain::catalog::endpoint::Endpoint| {
        proposed(one.spec.uid.map_or_else(|| one.id.to_string(), |uid| uid.to_string()), &one.spec.url)
    };
    Ok(endpoints.data.into_iter().map(choice).collect())
}

/// Customers see only event types whose feature flags they all have.
async fn event_types(store: &Store, viewer: &Viewer) -> Result<Vec<Choice>, PageError> {
    let tenant = Tenant::org(viewer.org.clone());
    let all = store.event_types(&tenant, false, &PageRequest::first(PROPOSED, Order::Ascending)).await?;
    let shown = |one: &EventType| match &viewer.who {
        Who::Operator(_) => true,
        Who::Customer(visit) => one.spec.feature_flags.iter().all(|flag| visit.options.feature_flags.contains(flag)),
    };
    Ok(all.data.into_iter().filter(shown).map(|one| proposed(one.spec.name, "")).collect())
}
