//! The selection of a bulk resend, from a URL or a form: the filters of the list of deliveries, parsed by the same
//! code, and `status=missing` for messages that an endpoint subscribes to but was never sent.

use crate::dashboard::components::filters::{FilterParams, Filters};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::domain::deliveries::background::{TaskKind, TaskScope};
use crate::domain::{AppId, Time, TimeRange};
use crate::store::jobs::background::{BackgroundSpec, ExpectedCount, TaskSelection};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::query::topic_filter::TopicFilter;
use crate::store::{EndpointRef, Store, Tenant};

/// The selected deliveries or messages.
#[derive(Clone, Debug)]
pub enum BulkTarget {
    /// The deliveries that the list shows with this filter.
    Listed(Box<DeliveryFilter>),
    /// Messages that endpoints of the scope were never sent.
    Missing(TaskScope, Box<EndpointMessageFilter>),
}

/// The deliveries to resend.
pub struct BulkFilter {
    pub which: BulkTarget,
    accepted: TimeRange,
}

impl BulkFilter {
    /// Interprets the filters. `now` ends every range: later messages are sent anyway. `None`: invalid fields, see
    /// [`Filters::wrong`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn read(
        store: &Store,
        tenant: &Tenant,
        filters: &mut Filters,
        now: Time,
    ) -> Result<Option<BulkFilter>, PageError> {
        let given = filters.accepted();
        let accepted = TimeRange { until: given.until.min(now), ..given };
        if accepted.since >= accepted.until {
            filters.refuse("since", "Must be in the past and before Until.");
        }
        let chosen = filters.status.is_some() || filters.missing || filters.rows.is_some();
        if !chosen && filters.wrong("status").is_none() && filters.wrong("row").is_none() {
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
                let topics = TopicFilter { event_types: filters.event_types.clone(), ..TopicFilter::default() };
                BulkTarget::Missing(
                    scope,
                    Box::new(EndpointMessageFilter { accepted, topics, ..EndpointMessageFilter::default() }),
                )
            }
            None => BulkTarget::Listed(Box::new(DeliveryFilter { accepted, ..filters.deliveries() })),
        };
        Ok(Some(BulkFilter { which, accepted }))
    }

    /// The background job.
    pub fn spec(&self, by: &str, total: Option<ExpectedCount>) -> BackgroundSpec {
        let (kind, scope, selection) = match &self.which {
            BulkTarget::Missing(scope, filter) => {
                (TaskKind::ReplayMissing, *scope, TaskSelection::Messages((**filter).clone()))
            }
            BulkTarget::Listed(filter) => {
                let scope = match (filter.app, filter.endpoint) {
                    (Some(app), Some(endpoint)) => TaskScope::Endpoint(app, endpoint),
                    (Some(app), None) => TaskScope::Application(app),
                    (None, _) => TaskScope::Organization,
                };
                (TaskKind::BulkReplay, scope, TaskSelection::Listed((**filter).clone()))
            }
        };
        BackgroundSpec { kind, scope, selection, by: by.to_owned(), total }
    }

    /// The button's label before and after the number of deliveries.
    pub fn button(&self) -> (&'static str, &'static str) {
        match &self.which {
            BulkTarget::Missing(..) => ("Send", ""),
            BulkTarget::Listed(filter) if filter.status == Some(DeliveryStatusFilter::Pending) => ("Send", " now"),
            BulkTarget::Listed(_) => ("Resend", ""),
        }
    }

    /// Form fields that repeat the selection, with relative times resolved.
    pub fn fields(&self, params: &FilterParams) -> Vec<(&'static str, Line)> {
        let TimeRange { since, until } = self.accepted;
        let times = [("since", since), ("until", until)].into_iter().filter(|(_, time)| *time > Time::ZERO);
        let others = params.given().filter(|(name, _)| !matches!(*name, "since" | "until"));
        others
            .map(|(name, value)| (name, Line::new(value)))
            .chain(times.map(|(name, time)| (name, Line::new(&time.to_string()))))
            .collect()
    }
}

/// The scope of a search for missing messages. An application is required, because the filters of its endpoints
/// determine the missing messages.
async fn missing_scope(store: &Store, tenant: &Tenant, filters: &mut Filters) -> Result<Option<TaskScope>, PageError> {
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
    let Some(id) = filters.endpoint else { return Ok(Some(TaskScope::Application(app))) };
    match store.endpoint(tenant, app, &EndpointRef::Id(id)).await? {
        None => filters.refuse("endpoint", "This endpoint belongs to another application."),
        Some(endpoint) if endpoint.spec.disabled => {
            filters.refuse("endpoint", "This endpoint is disabled. Enable it first.");
        }
        Some(_) => return Ok(Some(TaskScope::Endpoint(app, id))),
    }
    Ok(None)
}
