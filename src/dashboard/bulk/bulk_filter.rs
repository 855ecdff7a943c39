//! What is to be sent again, as a URL or a form says it: the filters of the list of deliveries, under their names there, and understood by the
//! same code. `status=missing` besides: messages that an endpoint wants and was never sent.

use crate::dashboard::components::filters::{Asked, Filters};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::domain::deliveries::background::{Kind, Scope};
use crate::domain::{AppId, Time};
use crate::store::jobs::background::{BackgroundSpec, Total};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatus};
use crate::store::query::endpoint_messages::SentFilter;
use crate::store::{EndpointRef, Store, Tenant};

/// Which deliveries.
#[derive(Clone, Debug)]
pub enum Which {
    /// Those that the list of deliveries shows under this filter.
    Listed(Box<DeliveryFilter>),
    /// Those that endpoints of the scope were never sent.
    Missing(Scope, Box<SentFilter>),
}

/// The deliveries to resend.
pub struct Choice {
    pub which: Which,
    since: Time,
    until: Time,
}

impl Choice {
    /// The meaning of the filters. `now` ends every range, because later messages are sent anyway. `None`: a field is wrong, and the filters say which.
    ///
    /// # Errors
    /// The store is away.
    pub async fn read(
        store: &Store,
        tenant: &Tenant,
        filters: &mut Filters,
        now: Time,
    ) -> Result<Option<Choice>, PageError> {
        let (since, until) = (filters.since.unwrap_or(Time::ZERO), filters.until.unwrap_or(now).min(now));
        if since >= until {
            filters.refuse("since", "Must be in the past and before Until.");
        }
        if filters.status.is_none() && !filters.missing && filters.wrong("status").is_none() {
            filters.refuse("status", "Choose a status.");
        }
        let missing = match filters.missing {
            true => missing_scope(store, tenant, filters).await?,
            false => None,
        };
        if !filters.good() {
            return Ok(None);
        }
        let which = match missing {
            Some(scope) => {
                let event_types = filters.event_types.clone();
                Which::Missing(scope, Box::new(SentFilter { since, until, event_types, ..SentFilter::default() }))
            }
            None => Which::Listed(Box::new(DeliveryFilter { since, until, ..filters.deliveries() })),
        };
        Ok(Some(Choice { which, since, until }))
    }

    /// The background work asked for, and by whom.
    pub fn spec(&self, by: &str, total: Option<Total>) -> BackgroundSpec {
        let (kind, scope, filter, listed) = match &self.which {
            Which::Missing(scope, filter) => (Kind::ReplayMissing, *scope, (**filter).clone(), None),
            Which::Listed(filter) => {
                let scope = match (filter.app, filter.endpoint) {
                    (Some(app), Some(endpoint)) => Scope::Endpoint(app, endpoint),
                    (Some(app), None) => Scope::Application(app),
                    (None, _) => Scope::Organization,
                };
                (Kind::BulkReplay, scope, SentFilter::default(), Some((**filter).clone()))
            }
        };
        BackgroundSpec { kind, scope, filter, listed, by: by.to_owned(), total }
    }

    /// The button's text before and after the number of deliveries.
    pub fn button(&self) -> (&'static str, &'static str) {
        match &self.which {
            Which::Missing(..) => ("Send", ""),
            Which::Listed(filter) if filter.status == Some(DeliveryStatus::Pending) => ("Send", " now"),
            Which::Listed(_) => ("Resend", ""),
        }
    }

    /// The fields that say exactly this once more: times and not spans.
    pub fn fields(&self, asked: &Asked) -> Vec<(&'static str, Line)> {
        let times = [("since", self.since), ("until", self.until)].into_iter().filter(|(_, time)| *time > Time::ZERO);
        let others = asked.given().filter(|(name, _)| !matches!(*name, "since" | "until"));
        others
            .map(|(name, value)| (name, Line::new(value)))
            .chain(times.map(|(name, time)| (name, Line::new(&time.to_string()))))
            .collect()
    }
}

/// The application whose endpoints are searched for messages that they never got. Their filters decide, so an application has to be named.
async fn missing_scope(store: &Store, tenant: &Tenant, filters: &mut Filters) -> Result<Option<Scope>, PageError> {
    for (name, given, why) in [
        ("class", filters.class.is_some(), "Does not apply to messages that were never sent."),
        ("q", filters.searches(), "Search does not cover messages that were never sent."),
    ] {
        if given {
            filters.refuse(name, why);
        }
    }
    let app: Option<AppId> = match (filters.app, filters.endpoint) {
        (None, Some(endpoint)) => store.application_of(tenant, endpoint).await?,
        (app, _) => app,
    };
    let Some(app) = app else {
        if filters.wrong("app").is_none() {
            filters.refuse("app", "Choose an application to find messages that were never sent.");
        }
        return Ok(None);
    };
    let Some(id) = filters.endpoint else { return Ok(Some(Scope::Application(app))) };
    match store.endpoint(tenant, app, &EndpointRef::Id(id)).await? {
        None => filters.refuse("endpoint", "This endpoint belongs to another application."),
        Some(endpoint) if endpoint.spec.disabled => {
            filters.refuse("endpoint", "This endpoint is disabled. Enable it first.");
        }
        Some(_) => return Ok(Some(Scope::Endpoint(app, id))),
    }
    Ok(None)
}
