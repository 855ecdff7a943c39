//! Selects for an application and one of its endpoints. If there are too many for a select, the user types an id or
//! uid.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::applications::app_lookup;
use crate::dashboard::applications::app_lookup::AppLookup;
use crate::dashboard::components::format::Line;
use crate::domain::{AppId, EndpointId};
use crate::store::{AppRef, Order, PageRequest, Store, StoreError, Tenant};

/// The maximum number of options.
const LISTED: usize = 250;

struct PickerOption {
    id: String,
    name: Line,
    chosen: bool,
}

/// Both fields.
#[derive(Template)]
#[template(path = "parts/picker.html")]
pub struct Picker {
    /// The user has only one application.
    fixed: bool,
    /// `None`: too many.
    apps: Option<Vec<PickerOption>>,
    /// `None`: too many, or no application selected.
    endpoints: Option<Vec<PickerOption>>,
    app: Line,
    endpoint: Line,
    /// The errors of both fields.
    wrong_app: Option<Line>,
    wrong_endpoint: Option<Line>,
}

impl HtmlSafe for Picker {}

impl Picker {
    /// Builds the fields from typed values.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        tenant: &Tenant,
        (app, endpoint): (&str, &str),
        wrong: impl Fn(&str) -> Option<Line>,
    ) -> Result<Picker, StoreError> {
        let page = store.applications(tenant, &PageRequest::first(LISTED, Order::Ascending)).await?;
        let chosen = match tenant.only {
            Some(only) => store.app_id(tenant, &AppRef::Id(only)).await?,
            None if app.is_empty() => owner(store, tenant, endpoint).await?,
            None => match app_lookup::find(store, tenant, app).await? {
                AppLookup::Found(id) => Some(id),
                AppLookup::NotFound(_) => None,
            },
        };
        let apps = (!page.more).then(|| {
            let pick = |app: &crate::domain::catalog::application::Application| PickerOption {
                id: app.id.to_string(),
                name: Line::cut(&app.name, 60),
                chosen: chosen == Some(app.id),
            };
            let mut picks: Vec<PickerOption> = page.data.iter().map(pick).collect();
            picks.sort_by_key(|pick| pick.name.to_string().to_lowercase());
            picks
        });
        Ok(Picker {
            fixed: tenant.only.is_some(),
            apps,
            endpoints: match chosen {
                Some(app) => endpoints(store, tenant, app, endpoint).await?,
                None => None,
            },
            app: Line::new(app),
            endpoint: Line::new(endpoint),
            wrong_app: wrong("app"),
            wrong_endpoint: wrong("endpoint"),
        })
    }
}

/// The application of an endpoint id.
///
/// # Errors
/// The store is unavailable.
pub(in crate::dashboard) async fn owner(
    store: &Store,
    tenant: &Tenant,
    endpoint: &str,
) -> Result<Option<AppId>, StoreError> {
    match endpoint.parse::<EndpointId>() {
        Ok(id) => store.application_of(tenant, id).await,
        Err(_) => Ok(None),
    }
}

async fn endpoints(
    store: &Store,
    tenant: &Tenant,
    app: AppId,
    chosen: &str,
) -> Result<Option<Vec<PickerOption>>, StoreError> {
    let page = store.endpoints(tenant, app, &PageRequest::first(LISTED, Order::Ascending)).await?;
    let pick = |endpoint: crate::domain::catalog::endpoint::Endpoint| {
        let (id, spec) = (endpoint.id.to_string(), endpoint.spec);
        let is_named = spec.uid.as_ref().is_some_and(|uid| uid.as_str() == chosen);
        PickerOption { chosen: id == chosen || is_named, id, name: Line::cut(&spec.url, 80) }
    };
    Ok((!page.more).then(|| page.data.into_iter().map(pick).collect()))
}
