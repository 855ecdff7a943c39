//! Endpoints without a delivery of a message: those disabled when it was accepted, and targets for a resend.

use std::collections::HashSet;

use crate::dashboard::components::format::{InputValue, Line};
use crate::dashboard::components::widgets::{Address, RelativeTime};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::EndpointSpec;
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointHealth, EndpointListFilter, ListedEndpoint};
use crate::store::{EndpointRef, Order, PageRequest, Store};

/// Maximum number of an application's endpoints that are read, newest first. With more, the page offers a search.
const MOST: usize = 100;

/// A subscribed endpoint that was disabled when the message was accepted.
pub struct SkippedEndpoint {
    pub address: Address,
    pub href: String,
    pub since: RelativeTime,
}

/// An endpoint that the message can be resent to.
pub struct ResendTarget {
    pub id: EndpointId,
    pub name: Line,
}

/// A search for endpoints to resend to.
pub struct TargetSearch {
    pub wanted: InputValue,
    /// The reason the list below it is incomplete or empty.
    pub note: Option<&'static str>,
}

/// The endpoints without a delivery.
pub struct OtherEndpoints {
    pub unsent: Vec<SkippedEndpoint>,
    /// Empty unless the user may resend.
    pub targets: Vec<ResendTarget>,
    /// Set if there are more endpoints than the page lists.
    pub search: Option<TargetSearch>,
}

impl OtherEndpoints {
    /// Finds the endpoints that are not in `sent`. `wanted` selects targets by a part of their URL, by id or by uid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        context: &AppContext,
        message: &Message,
        sent: &HashSet<EndpointId>,
        wanted: Option<&str>,
        now: Time,
    ) -> Result<OtherEndpoints, PageError> {
        let tenant = context.tenant();
        let disabled = EndpointListFilter {
            app: Some(context.app.id),
            health: Some(EndpointHealth::Disabled),
            ..EndpointListFilter::default()
        };
        let first = PageRequest::first(MOST, Order::Descending);
        let disabled = store.list_endpoints(&tenant, &disabled, &first).await?.data;
        let unsent = disabled
            .iter()
            .filter(|line| !sent.contains(&line.endpoint.id))
            .filter_map(|line| SkippedEndpoint::new(line, context, message, now))
            .collect();
        if !context.can(Capability::CreateAttempts) || message.payload.is_none() {
            return Ok(OtherEndpoints { unsent, targets: Vec::new(), search: None });
        }
        let filter = EndpointListFilter {
            app: Some(context.app.id),
            url: wanted.map(str::to_owned),
            ..EndpointListFilter::default()
        };
        let found = store.list_endpoints(&tenant, &filter, &first).await?;
        let mut targets: Vec<ResendTarget> = Vec::new();
        if let Some(Ok(named)) = wanted.map(EndpointRef::parse)
            && let Some(one) = store.endpoint(&tenant, context.app.id, &named).await?
            && !one.spec.disabled
        {
            targets.push(ResendTarget { id: one.id, name: Line::cut(&one.spec.url, 80) });
        }
        let enabled = found.data.iter().map(|line| &line.endpoint).filter(|one| !one.spec.disabled);
        // A search may also find an endpoint that already has the message, for a resend.
        let others = enabled.filter(|one| wanted.is_some() || !sent.contains(&one.id));
        for one in others {
            if targets.iter().all(|target| target.id != one.id) {
                targets.push(ResendTarget { id: one.id, name: Line::cut(&one.spec.url, 80) });
            }
        }
        let note = match (targets.is_empty(), found.more, wanted) {
            (true, true, Some(_)) => Some("No match among the newest endpoints. Enter an endpoint's id or uid."),
            (true, false, Some(_)) => Some("No enabled endpoint matches."),
            (false, true, Some(_)) => Some("Only the newest matches are listed."),
            (_, true, None) => Some("Only the newest endpoints are listed."),
            _ => None,
        };
        let search = (wanted.is_some() || found.more)
            .then(|| TargetSearch { wanted: InputValue::new(wanted.unwrap_or_default()), note });
        Ok(OtherEndpoints { unsent, targets, search })
    }
}

impl SkippedEndpoint {
    fn new(line: &ListedEndpoint, context: &AppContext, message: &Message, now: Time) -> Option<SkippedEndpoint> {
        let endpoint = &line.endpoint;
        let enabled = EndpointSpec { disabled: false, ..endpoint.spec.clone() };
        let wants = enabled.wants(&message.event_type, &message.channels) && endpoint.created_at <= message.accepted_at;
        let since = line.disabled_at.filter(|at| wants && endpoint.spec.disabled && *at <= message.accepted_at)?;
        Some(SkippedEndpoint {
            address: Address::new(&endpoint.spec.url),
            href: context.paths.endpoint(endpoint.id),
            since: RelativeTime::new(since, now),
        })
    }
}
